"""Latency and memory in processes of their own, and the intervals they are known to."""
