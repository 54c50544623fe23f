"""The options that every training command has."""

from __future__ import annotations

from typing import Annotated

import typer

from .devices import Precision

__all__ = ["Patience", "PrecisionOption", "ValidateEvery", "ValidationCount", "Workers"]

ValidateEvery = Annotated[int, typer.Option(min=0, help="Steps from one validation to the next; 0: none.")]
ValidationCount = Annotated[int, typer.Option(min=1, help="How many pairs to validate on.")]
Patience = Annotated[int, typer.Option(min=0, help="Stop after so many validations no better; 0: never.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="auto: fp32 on a CPU; on a GPU bf16, or fp16 where it has none.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that load or draw pairs.")]
