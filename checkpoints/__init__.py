"""The demo checkpoint that ships with vtopt, found from any working folder."""

from pathlib import Path

__all__ = ["DEMO_CHECKPOINT"]

DEMO_CHECKPOINT = Path(__file__).parent / "sdafn_plus_tiny.pth"
