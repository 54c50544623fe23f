"""Numbers as people read them; the page keeps each one unrounded beside."""

from __future__ import annotations

import math

from .markup import Markup, tag

__all__ = [
    "keep_value",
    "show_bytes",
    "show_db",
    "show_mib",
    "show_ms",
    "show_times",
    "write_db",
    "write_mib",
    "write_ms",
]


NO_BREAK = "\N{NO-BREAK SPACE}"


def keep_value(value: object) -> str | None:
    """Return a figure as the JSON reports have it, unrounded: 2.5, 1e-07, inf; None for what is no figure."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return repr(value)


def write_ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"


def write_mib(value: float) -> str:
    return f"{value:.2f} MiB" if value < 10 else f"{value:,.1f} MiB"


def write_db(value: float) -> str:
    """Return a PSNR; one without end is that of equal pictures, of minus infinity that of NaN or infinite values."""
    return f"{value:.1f} dB" if math.isfinite(value) else "equal" if value > 0 else "broken"


def show_ms(value: float) -> Markup:
    return _keep(value, write_ms(value))


def show_mib(value: float) -> Markup:
    return _keep(value, write_mib(value))


def show_db(value: float) -> Markup:
    return _keep(value, write_db(value))


def show_bytes(count: int) -> Markup:
    return _keep(count, write_mib(count / 2**20) if count >= 2**20 / 10 else f"{count:,} bytes")


def show_times(value: float, sign: str = "×") -> Markup:
    """Return a ratio: 1.27×."""
    return _keep(value, (f"{value:.2f}" if value < 10 else f"{value:.1f}") + sign)


def _keep(value: float, text: str) -> Markup:
    return tag("data", text.replace(" ", NO_BREAK), value=keep_value(value))
