"""How much pictures differ, one by one."""
