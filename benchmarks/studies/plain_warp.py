"""The networks as their public code writes them, and exported without vtopt: what every gain is measured against."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.errors import VtoptError
from ..host import need, take_reason

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor

    from ...optimize.networks import Network
    from ...optimize.networks.correlation import Correlation
    from ...optimize.networks.warping import DeformableAttentionWarp

__all__ = ["export_plainly", "plain_warps", "simplify_plainly", "trace_plainly"]


@contextlib.contextmanager
def plain_warps() -> Iterator[None]:
    """Make the networks warp and correlate as their public code does, while open.

    Places are sampled with the padding and the align_corners that the code asks for. In SDAFN, features and
    attention are copied by repeat_interleave, once per head or channel, sampled, multiplied, split by head and
    added up by Python's sum. PF-AFN correlates by a CUDA kernel that no exporter writes; in its place is one product
    and one mean for each shift. The pictures are the same, and where the processor rounds alike, to the last bit those
    of the public code.
    """
    from ...optimize.networks import correlation, warping

    plain = (
        (warping, "sample_clamped", _sample),
        (warping, "place_offsets", _place_offsets),
        (warping.DeformableAttentionWarp, "forward", _warp),
        (correlation.Correlation, "forward", _correlate),
    )
    usual = [(owner, name, getattr(owner, name)) for owner, name, _ in plain]
    _put(plain)
    try:
        yield
    finally:
        _put(usual)


def _put(functions: Iterable[tuple[object, str, Callable[..., Tensor]]]) -> None:
    for owner, name, function in functions:
        setattr(owner, name, function)


def _sample(features: Tensor, grids: Tensor, heads: int, outside: str, align_corners: bool) -> Tensor:
    from torch.nn import functional as F

    points = grids.permute(0, 2, 3, 1)
    if heads > 1:
        points = points.reshape(-1, heads * grids.shape[2], grids.shape[3], 2)
    return F.grid_sample(features, points, mode="bilinear", padding_mode=outside, align_corners=align_corners)


def _place_offsets(offsets: Tensor) -> Tensor:
    import torch

    height, width = offsets.shape[2:]
    columns, rows = (torch.arange(side, dtype=offsets.dtype, device=offsets.device) for side in (width, height))
    x, y = columns + offsets[:, 0], rows.view(-1, 1) + offsets[:, 1]
    return torch.stack([x / ((width - 1) / 2) - 1, y / ((height - 1) / 2) - 1], 1)


def _correlate(self: Correlation, first: Tensor, second: Tensor) -> Tensor:
    from ...optimize.networks.correlation import correlate_slices

    return correlate_slices(first, second, self.radius)


def _warp(self: DeformableAttentionWarp, features: Tensor, grids: Tensor, attention: Tensor) -> Tensor:
    import torch

    batch, channels = features.shape[:2]
    heads, height, width = attention.shape[1:]
    copies = torch.repeat_interleave(features, heads, 0)
    weights = torch.repeat_interleave(attention, channels, 1)
    sampled = _sample(copies, grids, 1, "border", False).reshape(batch, heads * channels, height, width)
    return sum(torch.split(sampled * weights, channels, 1))  # type: ignore[return-value]


def export_plainly(network: Network, path: Path, size: tuple[int, int], batch: int = 1, opset: int = 16) -> Path:
    """Export a network by TorchScript with the warps of the public code, simplify it by onnxsim, and save it."""
    from ...optimize.onnx_files import save_onnx
    from ...optimize.weights import describe_network

    model = simplify_plainly(trace_plainly(network, size, batch, opset))
    save_onnx(model, path, describe_network(network.name, network))
    return path


def trace_plainly(network: Network, size: tuple[int, int], batch: int = 1, opset: int = 16) -> ModelProto:
    """Return what torch.onnx.export makes of a network with the warps of the public code, its batch fixed.

    Raises VtoptError when the network cannot be exported so.
    """
    import onnx

    torch = need("torch")
    examples = tuple(torch.zeros(batch, spec.channels, *size) for spec in network.inputs)
    with tempfile.TemporaryDirectory(prefix="vtopt-plain-") as folder, warnings.catch_warnings(), plain_warps():
        warnings.simplefilter("ignore")
        path = Path(folder) / "plain.onnx"
        try:
            torch.onnx.export(
                network.module,
                examples,
                path,
                dynamo=False,
                opset_version=opset,
                input_names=[spec.name for spec in network.inputs],
                output_names=list(network.outputs),
            )
        except Exception as error:  # an exporter may raise anything
            raise VtoptError(
                f"network '{network.name}': torch.onnx cannot export it as it is ({take_reason(error)}); "
                "measure another --network or --size"
            ) from error
        return onnx.load(path)


def simplify_plainly(model: ModelProto) -> ModelProto:
    """Return what onnxsim makes of a model; raises VtoptError when it fails."""
    onnxsim = need("onnxsim")
    try:
        with _quiet_stderr():
            simplified, valid = onnxsim.simplify(model)
    except Exception as error:  # onnxsim raises whatever its C++ side raised
        raise VtoptError(f"onnxsim fails on the plain export ({take_reason(error)}); try another --size") from error
    if not valid:
        raise VtoptError("onnxsim's own check fails on the plain export; try another --size")
    return simplified


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep from the terminal what compiled code prints: onnxsim warns of every node that it cannot fold."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
