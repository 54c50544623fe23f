"""The tables of figures in the README, made of the committed results."""
