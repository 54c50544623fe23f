"""Where a training runs, by Hugging Face Accelerate: a CPU, a GPU, or many processes that share a batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Precision", "check_shares", "start_accelerator"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def start_accelerator(precision: Precision = "fp32") -> Accelerator:
    """Return the Accelerator of this process: on CUDA where there is one, else on the CPU.

    Precision auto is float32 on the CPU; on a GPU bfloat16 where it can, else float16 with a loss scaler. Processes
    other than the main one print nothing from here on. Raises UsageError for fp16 on a CPU.
    """
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    mixed = _choose_precision(precision, torch)
    shared: Any = AcceleratorState
    if shared._shared_state and shared().mixed_precision != mixed:
        shared._reset_state()  # an earlier training of this process had another precision
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=mixed,
        # A user's own network may have weights that no loss reaches.
        kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True)],
    )
    if not accelerator.is_main_process:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    return accelerator


def _choose_precision(precision: Precision, torch: Any) -> str:
    gpu = torch.cuda.is_available()
    if precision == "auto":
        if not gpu:
            return "no"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if precision == "fp16" and not gpu:
        raise UsageError("--precision fp16 needs a GPU; on a CPU take fp32 or bf16")
    return "no" if precision == "fp32" else precision


def check_shares(batch_sizes: Iterable[int], processes: int) -> None:
    """Raise UsageError when a batch cannot be shared out equally."""
    for size in batch_sizes:
        if size % processes:
            raise UsageError(
                f"a batch of {size} cannot be shared by {processes} processes; "
                f"take a --batch-size of which every stage has a multiple of {processes}"
            )
