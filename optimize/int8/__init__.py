"""Int8 that keeps the picture: what is quantised, with which ranges, and what stays float."""

from .settings import Int8Settings

__all__ = ["Int8Settings"]
