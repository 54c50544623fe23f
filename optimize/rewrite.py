"""Rewrite the warps of an ONNX model to equal ones that run faster, each proved before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .artifacts import Force, OnnxIn, OnnxOut, PairCount, PairsFolder, new_output
from .errors import InputError, UsageError
from .onnx_files import check_onnx, load_onnx, save_onnx
from .provenance import add_record, read_metadata
from .rewrites import REWRITES, Runtime
from .rewrites.proof import measure_sites
from .verify import Difference, compare_artifacts
from .warp import name_nodes

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MAX_RELATIVE_DIFFERENCE", "rewrite_onnx"]

MAX_RELATIVE_DIFFERENCE = 1e-4
"""Largest difference to the input, of the largest value: of every rewritten place alone, and of the pictures."""


def rewrite_onnx(
    source: OnnxIn,
    output: OnnxOut,
    *,
    runtime: Annotated[Runtime, typer.Option(help="The runtime to be fast on.")] = "onnxruntime",
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this rewrite, may be given again: {', '.join(REWRITES)}.")
    ] = None,
    pairs: PairsFolder = None,
    pair_count: PairCount = 2,
    force: Force = False,
) -> Path:
    """Rewrite warps to equal ones that run faster.

    pointwise: 1x1 convolutions move behind a warp that then moves fewer channels. heads: a warp of several heads
    copies no features. padding: a clamped grid instead of a padding that has no fast kernel.

    Every place that changes is run against what it was, on drawn numbers and grids far outside, and the whole
    model on pairs; what differs by more than 1e-4 of the largest value stays as it was, with the reason.

    Raises UsageError for an unknown rewrite, InputError for a model that onnxruntime does not run.
    """
    check_settings(only=only)
    model, before = load_onnx(source), read_metadata(source)
    nodes_before = len(model.graph.node)
    chosen = [name for name in REWRITES if only is None or name in only]
    with new_output(output, "onnx", force=force) as temporary:

        def try_out(candidate: ModelProto) -> Difference:
            save_onnx(_copy(candidate), temporary, before)
            check_onnx(temporary, full=True)
            return compare_artifacts(source, temporary, pairs=pairs, pair_count=pair_count)

        difference = try_out(model)  # a model that does not run is told before any work
        outcome = _Outcome(_prepare(model), difference)
        for name in chosen:
            outcome = _apply(name, outcome, runtime, try_out)
        metadata = add_record(
            before,
            "rewrite",
            source,
            settings={"runtime": runtime, "only": only and ",".join(only), "pairs": pairs, "pair_count": pair_count},
            figures={
                **{f"places_{name}": count for name, count in outcome.places.items()},
                "nodes_before": nodes_before,
                "nodes": len(outcome.model.graph.node),
                **outcome.difference.to_figures(),
            },
            notices=outcome.notices,
        )
        save_onnx(outcome.model, temporary, metadata)
    return output


def check_settings(*, only: Sequence[str] | None = None, **_: Any) -> None:
    """Raise UsageError for a rewrite there is not; the recipe checker asks before any work."""
    if unknown := [name for name in only or () if name not in REWRITES]:
        raise UsageError(f"rewrite: there is no {', '.join(unknown)}; choose of {', '.join(REWRITES)}")


@dataclass(frozen=True)
class _Outcome:
    """The model so far, its pictures against the input's, how many places each rewrite changed, and what was not."""

    model: ModelProto
    difference: Difference
    places: dict[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def extend(self, name: str, places: int, reasons: Sequence[str], **changes: Any) -> _Outcome:
        notices = tuple(f"{name}: {reason}" for reason in reasons)
        return replace(self, places={**self.places, name: places}, notices=self.notices + notices, **changes)


def _apply(name: str, before: _Outcome, runtime: Runtime, try_out: Callable[[ModelProto], Difference]) -> _Outcome:
    """Apply one rewrite wherever it proves exact; keep what was before where the whole does not."""
    skip: dict[str, str] = {}
    while True:
        rewriting = REWRITES[name](before.model, runtime, skip)
        differences = measure_sites(before.model, rewriting.model, rewriting.sites)
        wrong = {site: value for site, value in differences.items() if not value <= MAX_RELATIVE_DIFFERENCE}
        if not wrong:
            break
        skip |= {site: f"{site}: would differ by {value:.2g} of the largest value" for site, value in wrong.items()}
    reasons = [*_group_reasons(rewriting.left), *skip.values()]
    if not rewriting.sites:
        return before.extend(name, 0, reasons)
    try:
        difference = try_out(rewriting.model)
    except InputError as error:
        return before.extend(name, 0, [*reasons, f"not applied: {error}"])
    if not difference.max_relative <= MAX_RELATIVE_DIFFERENCE:
        fault = f"not applied: pictures would differ by {difference.max_relative:.2g} of their largest value"
        return before.extend(name, 0, [*reasons, fault])
    return before.extend(name, len(rewriting.sites), reasons, model=rewriting.model, difference=difference)


def _group_reasons(left: Sequence[str]) -> list[str]:
    """Say each reason once, behind the warps it is true of."""
    grouped: dict[str, list[str]] = {}
    for line in left:
        warp, _, reason = line.partition(": ")
        grouped.setdefault(reason, []).append(warp)
    return [f"{', '.join(warps)}: {reason}" for reason, warps in grouped.items()]


def _prepare(model: ModelProto) -> ModelProto:
    """Inline local functions and name every node, so that warps can be found and told."""
    from onnx import inliner

    prepared = inliner.inline_local_functions(model) if model.functions else _copy(model)
    name_nodes(prepared)
    return prepared


def _copy(model: ModelProto) -> ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
