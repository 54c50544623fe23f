"""Rewrite the warps of an ONNX model to equal ones that run faster, each proved before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .artifacts import Force, OnnxIn, OnnxOut, PairCount, PairsFolder, new_output
from .errors import InputError, UsageError
from .onnx_files import check_onnx, load_onnx, save_onnx
from .progress import track
from .provenance import add_record, read_metadata
from .rewrites import REWRITES, Rewriting, Runtime, load_rewrite
from .verify import Difference, compare_artifacts, compare_on_noise
from .warp import find_warps, name_nodes

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MAX_RELATIVE_DIFFERENCE", "rewrite_onnx"]

MAX_RELATIVE_DIFFERENCE = 1e-4
"""Largest difference to the input, of the largest value: of every rewritten place alone, and of the pictures."""

NOISE_NOTICE = "its inputs or outputs are not known to be pictures: it was compared with its input on noise"

DEFORM_NOTICE = (
    "warps became DeformConv, which the installed onnxruntime has and older ones have not; "
    "rewrite with --runtime openvino for a file that runs on those and on OpenVINO"
)

NO_WAY_BACK_NOTICE = (
    "it has DeformConv, which OpenVINO does not load and which is not turned back; "
    "rewrite the model from before it was rewritten for onnxruntime"
)

Compare = Callable[[Path, Path], Difference]
TryOut = Callable[["ModelProto"], Difference]


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
    compare, notices = _choose_comparison(source, pairs, pair_count)
    chosen = [name for name in REWRITES if only is None or name in only]
    with new_output(output, "onnx", force=force) as temporary:

        def try_out(candidate: ModelProto) -> Difference:
            save_onnx(_copy(candidate), temporary, before)
            check_onnx(temporary, full=True)
            return compare(source, temporary)

        outcome = _rewrite(_name_all(model), chosen, runtime, try_out)
        metadata = add_record(
            before,
            "rewrite",
            source,
            settings={"runtime": runtime, "only": only and ",".join(only), "pairs": pairs, "pair_count": pair_count},
            figures={
                **{f"places_{name}": count for name, count in outcome.places.items()},
                "nodes_before": len(model.graph.node),
                "nodes": len(outcome.model.graph.node),
                **(outcome.difference.to_figures() if outcome.difference else {}),
            },
            notices=(*notices, *outcome.notices, *_sum_up(model, outcome, runtime)),
        )
        save_onnx(outcome.model, temporary, metadata)
    return output


def _choose_comparison(source: Path, pairs: Path | None, pair_count: int) -> tuple[Compare, tuple[str, ...]]:
    """Return how outputs are compared, and what is to be said of it: on pairs, or on noise where none can be fed.

    Raises InputError for a model that does not run, before any work.
    """
    from ..benchmarks.engines.engine import infer_picture, open_engine
    from .data.pairs import open_pairs

    engine = open_engine(source)
    pair = open_pairs(pairs, engine.size, 1)[0]
    try:
        infer_picture(engine, pair)
    except InputError:
        return partial(compare_on_noise, count=pair_count), (NOISE_NOTICE,)
    return partial(compare_artifacts, pairs=pairs, pair_count=pair_count), ()


def check_settings(*, only: Sequence[str] | None = None, **_: Any) -> None:
    """Raise UsageError for a rewrite there is not; the recipe checker asks before any work."""
    names = only if isinstance(only, list | tuple) else ()
    if unknown := [name for name in names if name not in REWRITES]:
        raise UsageError(
            f"rewrite: there is no {', '.join(unknown)}; choose of {', '.join(REWRITES)}, one with each --only"
        )


class _Outcome(NamedTuple):
    """A rewritten model, how many places each rewrite changed, what it left alone, and its pictures' difference."""

    model: ModelProto
    places: dict[str, int]
    notices: tuple[str, ...]
    difference: Difference | None = None


def _rewrite(model: ModelProto, names: Sequence[str], runtime: Runtime, try_out: TryOut) -> _Outcome:
    """Apply the rewrites and compare pictures once; where those differ, go one by one and leave out the culprit."""
    together = _judge(_apply_all(model, names, runtime), try_out)
    if isinstance(together, _Outcome):
        return together
    kept = _Outcome(model, {}, ())
    for name in names:
        alone = _apply_all(kept.model, [name], runtime)
        judged = _judge(alone, try_out) if alone.places[name] else alone
        if isinstance(judged, str):
            judged = _Outcome(kept.model, {name: 0}, (*alone.notices, f"{name}: not applied: {judged}"))
        kept = _Outcome(judged.model, kept.places | judged.places, kept.notices + judged.notices)
    return kept._replace(difference=try_out(kept.model))


def _judge(outcome: _Outcome, try_out: TryOut) -> _Outcome | str:
    """Return the outcome with its difference, or why it is not to be kept."""
    try:
        difference = try_out(outcome.model)
    except InputError as error:
        return str(error)
    if not difference.max_relative <= MAX_RELATIVE_DIFFERENCE:
        return f"pictures would differ by {difference.max_relative:.2g} of their largest value"
    return outcome._replace(difference=difference)


def _apply_all(model: ModelProto, names: Sequence[str], runtime: Runtime) -> _Outcome:
    """Apply the rewrites one after the other, each wherever it proves exact."""
    places, notices = {}, []
    for name in track(names, "rewrite", total=len(names)):
        model, places[name], reasons = _apply(name, model, runtime)
        notices += [f"{name}: {reason}" for reason in reasons]
    return _Outcome(model, places, tuple(notices))


def _apply(name: str, model: ModelProto, runtime: Runtime) -> tuple[ModelProto, int, list[str]]:
    """Return the model after one rewrite, at how many places it is now different, and why not at others."""
    rewrite, skip = load_rewrite(name), dict[str, str]()
    while True:
        rewriting = rewrite(model, runtime, skip)
        faults = _find_leftovers(rewriting) or _find_faults(model, rewriting)
        if not faults:
            break
        skip |= faults
    rewritten = rewriting.model if rewriting.sites else model
    left = [*rewriting.left, *(f"{site}: {fault}" for site, fault in skip.items())]
    return rewritten, len(rewriting.sites), _group_reasons(left)


def _find_leftovers(rewriting: Rewriting) -> dict[str, str]:
    """Return the sites whose old warp is still needed: with the new one beside it, the model got slower."""
    nodes = {node.name for node in rewriting.model.graph.node}
    return {site.name: "something else reads a part of it" for site in rewriting.sites if nodes & set(site.warps)}


def _find_faults(model: ModelProto, rewriting: Rewriting) -> dict[str, str]:
    """Return the sites that do not prove equal to what they were, and why."""
    from .rewrites.proof import measure_sites

    faults = {}
    for site, measured in measure_sites(model, rewriting.model, rewriting.sites).items():
        if isinstance(measured, str):
            faults[site] = measured
        elif not measured <= MAX_RELATIVE_DIFFERENCE:
            faults[site] = f"would differ by {measured:.2g} of the largest value"
    return faults


def _group_reasons(left: Sequence[str]) -> list[str]:
    """Say each reason once, behind the warps it is true of."""
    grouped: dict[str, list[str]] = {}
    for line in left:
        warp, _, reason = line.partition(": ")
        grouped.setdefault(reason, []).append(warp)
    return [f"{', '.join(warps)}: {reason}" for reason, warps in grouped.items()]


def _sum_up(before: ModelProto, outcome: _Outcome, runtime: Runtime) -> tuple[str, ...]:
    """Say what a runtime must have now that it did not need before, or that nothing changed."""
    warps = find_warps(before)
    if not warps:
        return ("no warps were found",)
    had, has = (any(node.op_type == "DeformConv" for node in model.graph.node) for model in (before, outcome.model))
    if had and runtime == "openvino":
        return (NO_WAY_BACK_NOTICE,)
    if not any(outcome.places.values()) and not outcome.notices:
        return (f"nothing was rewritten of {len(warps)} warps",)
    return (DEFORM_NOTICE,) if has and not had else ()


def _name_all(model: ModelProto) -> ModelProto:
    """Return a copy in which every node has a name, so that warps can be told."""
    named = _copy(model)
    name_nodes(named)
    return named


def _copy(model: ModelProto) -> ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
