"""What a training leaves behind: weights in one file, with all that led to them, and no progress file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import new_output
from ..errors import OutputError
from ..provenance import HISTORY, Metadata, add_record, read_metadata
from ..weights import describe_network, save_weights

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks import Network

__all__ = ["refuse_output", "write_outcome"]


def refuse_output(output: Path, progress_file: Path, *, force: bool) -> None:
    """Raise OutputError for weights that cannot be written: now, and not after the training."""
    if output.is_file() and progress_file.exists() and not force:
        raise OutputError(
            f"{output}: exists already, and {progress_file} beside it keeps a training for it that was interrupted, "
            f"perhaps just before that file's deletion; delete {progress_file.name} to keep the output, or pass "
            "--force to go on with the training and replace the output"
        )
    with new_output(output, "weights", force=force):
        pass


def write_outcome(
    network: Network,
    output: Path,
    source: Path,
    step: str,
    progress_file: Path,
    *,
    settings: Mapping[str, Any],
    figures: Mapping[str, Any],
    notices: tuple[str, ...] = (),
    weights: Mapping[str, Tensor] | None = None,
    entries: Metadata | None = None,
) -> None:
    """Write a trained network, with a record of `step`, and delete the progress file; the main process alone does.

    `weights` are those to write where they are not the network's state_dict, `entries` more of the header.
    """
    from accelerate import PartialState

    processes = PartialState()
    if processes.is_main_process:
        said = read_metadata(source)
        header = {HISTORY: said[HISTORY]} if HISTORY in said else {}
        header |= describe_network(network.name, network) | (entries or {})
        header = add_record(header, step, source, settings=settings, figures=figures, notices=notices)
        with new_output(output, "weights", force=True) as draft:
            save_weights(network.module.state_dict() if weights is None else weights, draft, header)
        progress_file.unlink(missing_ok=True)
    processes.wait_for_everyone()
