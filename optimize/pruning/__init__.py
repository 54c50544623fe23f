"""What pruning is made of: tracing, channel groups, importance, the plan of widths, the table."""
