"""What a network makes of a pair, by name: for its losses, for its teacher, for its picture alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import NetworkError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..networks import Network

__all__ = ["make_picture", "make_targets", "take_picture"]


def make_targets(network: Network, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return all that the network's `forward_targets` gives, by `kind/scale`; else its outputs by name.

    The first output, the try-on picture, is `picture/1`.
    """
    module: Any = network.module
    if hasattr(module, "forward_targets"):
        return module.forward_targets(*inputs)
    outputs = _list_outputs(module(*inputs))
    names = ("picture/1", *(f"{name}/1" for name in network.outputs[1:]))
    if len(outputs) < len(names):
        raise NetworkError(
            f"network '{network.name}' has {len(outputs)} outputs and names {', '.join(network.outputs)}"
        )
    return dict(zip(names, outputs, strict=False))


def make_picture(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Return the try-on picture (N, 3, H, W), clipped to [-1, 1], float32."""
    return take_picture(_list_outputs(module(*inputs)))


def take_picture(outputs: Sequence[Tensor]) -> Tensor:
    """Return the first output, clipped to [-1, 1], float32; raises NetworkError where it is no picture."""
    picture = outputs[0]
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise NetworkError(f"the first output has the shape {list(picture.shape)}; the try-on picture is N, 3, H, W")
    return picture.float().clamp(-1, 1)


def _list_outputs(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
