"""Load a model on a runtime, feed it a pair, and run it."""
