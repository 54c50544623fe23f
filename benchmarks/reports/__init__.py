"""Tables of figures in every format, and the report of a run."""
