"""One network in the int8 forms that are compared: as other tools make them, and as vtopt does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...optimize.errors import BudgetError
from ...optimize.progress import track
from ..engines.engine import open_engine
from ..host import take_reason
from .network_forms import ONNX_RUNTIMES, PLAIN, Variant
from .plain_warp import export_plainly

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ...optimize.networks import Network
    from .int8_tools import Samples

__all__ = ["FLOAT", "Int8Task", "choose_samples", "make_int8_forms", "open_compared_pairs"]

FLOAT = "vtopt fp32"
"""Exported and rewritten by vtopt for each runtime: what is quantised, and whose pictures all others are held to."""

WEIGHTS = "weights.safetensors"
"""What the network's weights are called, beside what is made of them."""

COMPARED_SEED = 1000
"""Drawn pairs to compare on start here: apart from those of the search for a budget, which start at 0."""


@dataclass(frozen=True)
class Int8Task:
    """What is measured of one network, and how."""

    network: Network
    size: tuple[int, int]
    pairs: Path | None = None
    pair_count: int = 20
    calibration_count: int = 16
    min_psnr: float = 45.0
    time_budget: float | None = None
    """Seconds that a search for `min_psnr` may take; None takes what it needs."""
    threads: int = 2
    runs: int = 10
    warmup: int = 2


@dataclass(frozen=True)
class _Maker:
    form: str
    runtimes: Sequence[str]
    make: Callable[[Path], object]
    suffix: str = ".onnx"


def open_compared_pairs(task: Int8Task) -> Sequence[Pair]:
    """Open the pairs that all forms are compared on; none of them is calibrated on where there are enough."""
    from ...optimize.data.pairs import open_pairs

    return open_pairs(task.pairs, task.size, task.pair_count, seed=COMPARED_SEED if task.pairs is None else 0)


def choose_samples(task: Int8Task) -> tuple[Sequence[Pair], tuple[str, ...]]:
    """Return the pairs that all forms are calibrated on, and what is to be said of them."""
    from ...optimize.int8.pairs import choose_calibration_pairs

    return choose_calibration_pairs(task.pairs, task.size, task.calibration_count, task.pair_count)


def make_int8_forms(task: Int8Task, folder: Path, notices: list[str]) -> list[Variant]:
    """Write every form of a network to `folder`; the first is the plain one, then `FLOAT` for each runtime.

    Other tools quantise the plain model, vtopt the one that is rewritten for the runtime. A form that cannot be made
    is left out, and `notices` says why; it also has what the steps had to say, each thing once.

    Raises VtoptError when one of the float forms cannot be made.
    """
    name = task.network.name
    plain = export_plainly(task.network, folder / "plain.onnx", task.size)
    rewritten = _rewrite(task, folder)
    variants = [Variant(PLAIN, runtime, plain) for runtime in ONNX_RUNTIMES]
    variants += [Variant(FLOAT, runtime, path) for runtime, path in rewritten.items()]
    makers = [*_list_tools(task, plain, _feed_samples(task, plain, notices)), *_list_own(task, rewritten)]
    said: dict[str, None] = {}
    for maker in track(makers, f"{name}: forms", total=len(makers)):
        path = folder / f"{_slug(maker.form)}-{'-'.join(maker.runtimes)}{maker.suffix}"
        where = f"{name}: {maker.form} for {' and '.join(maker.runtimes)}"
        try:
            maker.make(path)
        except BudgetError as error:
            notices.append(f"{where} misses its budget: {_take_message(error, path)}")
        except Exception as error:  # other tools raise anything, and one of them must not end the others
            notices.append(f"{where} is left out: {_take_message(error, path)}")
            continue
        said |= dict.fromkeys(_list_said(path))
        variants += [Variant(maker.form, runtime, path) for runtime in maker.runtimes]
    notices += [f"{name}: {each}" for each in said]
    return variants


def _slug(form: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in form)


def _take_message(error: Exception, path: Path) -> str:
    return take_reason(error).replace(f"{path}: ", "").replace(str(path), path.name)


def _list_said(path: Path) -> tuple[str, ...]:
    """Return what the last step said of its output."""
    from ...optimize.provenance import read_history

    history = read_history(path) if path.suffix == ".onnx" else []
    return tuple(history[-1].notices) if history else ()


def _rewrite(task: Int8Task, folder: Path) -> dict[str, Path]:
    """Return what export, simplify and rewrite make of the network for each runtime."""
    from ...optimize.artifacts import Size
    from ...optimize.export import export_onnx
    from ...optimize.rewrite import rewrite_onnx
    from ...optimize.simplify import simplify_onnx
    from ...optimize.weights import describe_network, save_weights

    name = task.network.name
    weights = folder / WEIGHTS
    save_weights(task.network.module.state_dict(), weights, describe_network(name, task.network))
    exported = export_onnx(weights, folder / "export.onnx", network=name, size=Size(*task.size), pair_count=1)
    simple = simplify_onnx(exported, folder / "simple.onnx", pair_count=1)
    return {
        runtime: rewrite_onnx(simple, folder / f"rewritten-{runtime}.onnx", runtime=runtime, pair_count=1)
        for runtime in ONNX_RUNTIMES
    }


def _feed_samples(task: Int8Task, plain: Path, notices: list[str]) -> Samples:
    """Return what the plain model is fed in calibration: the pairs that vtopt's own int8 is calibrated on."""
    from ...optimize.int8.pairs import feed_calibration

    pairs, said = choose_samples(task)
    notices += said
    return list(feed_calibration(open_engine(plain, threads=task.threads), pairs, notices))


def _list_tools(task: Int8Task, plain: Path, samples: Samples) -> list[_Maker]:
    from . import int8_tools as tools

    return [
        _Maker("onnxruntime per tensor", ONNX_RUNTIMES, partial(tools.quantize_per_tensor, plain, samples)),
        _Maker("onnxruntime defaults", ONNX_RUNTIMES, partial(tools.quantize_by_onnxruntime, plain, samples)),
        _Maker("NNCF defaults", ("onnxruntime",), partial(tools.quantize_by_nncf, plain, samples)),
        _Maker("NNCF defaults", ("openvino",), partial(tools.quantize_ir_by_nncf, plain, samples), ".xml"),
        _Maker(
            "neural-compressor defaults",
            ONNX_RUNTIMES,
            partial(tools.quantize_by_neural_compressor, replace(task.network, size=task.size), plain, samples),
        ),
    ]


def _list_own(task: Int8Task, rewritten: dict[str, Path]) -> Iterator[_Maker]:
    """Yield vtopt's forms for each runtime, from the model that is rewritten for it, or from the weights beside it."""
    from ...optimize.artifacts import Size
    from ...optimize.int8.engines import ENGINES, TORCH_ENGINES, TRAINED
    from ...optimize.quantize import quantize_onnx

    others = ENGINES.keys() - {"onnxruntime", TRAINED}
    held_out = {"pairs": task.pairs, **({"pair_count": task.pair_count} if task.pairs else {})}
    static: dict[str, Any] = {"int8": True, "calibration_count": task.calibration_count, **held_out}
    budget = {"min_psnr": task.min_psnr, "time_budget": task.time_budget}
    chosen: list[tuple[str, dict[str, Any]]] = [
        ("vtopt int8", static),
        ("vtopt int8 --fp16", {**static, "fp16": True}),
        (f"vtopt int8 --min-psnr {task.min_psnr:g}", {**static, **budget}),
        ("vtopt int8 --weight-only", {"int8": True, "weight_only": True, "pairs": task.pairs}),
        *((f"vtopt int8 --engine {name}", {**static, "engine": name}) for name in sorted(others - TORCH_ENGINES)),
    ]
    for form, settings in chosen:
        for runtime, source in rewritten.items():
            yield _Maker(form, (runtime,), partial(quantize_onnx, source, **settings))
    weights = next(iter(rewritten.values())).with_name(WEIGHTS)
    for name in sorted(TORCH_ENGINES):
        settings = {**static, "engine": name, "network": task.network.name, "size": Size(*task.size)}
        yield _Maker(f"vtopt int8 --engine {name}", ONNX_RUNTIMES, partial(quantize_onnx, weights, **settings))
