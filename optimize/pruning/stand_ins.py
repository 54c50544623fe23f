"""What stands in, while a network is traced, for code whose channels Torch-Pruning could not follow."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from .lineage import Lineage

__all__ = ["StandIns", "resize"]


@dataclass
class StandIns:
    """Convolutions 1x1 that keep all they make; the first run of a network makes them, later runs use the same."""

    lineage: Lineage
    layers: nn.ModuleList = field(default_factory=nn.ModuleList)
    used: int = 0

    def start(self) -> None:
        self.used = 0

    def make_fixed(self, value: Tensor, width: int) -> Tensor:
        """Return a tensor computed from `value` with `width` channels that all stay; with its own width, `value`."""
        if self.used == len(self.layers):
            made = nn.utils.skip_init(nn.Conv2d, value.shape[1], width, 1, bias=False, device=value.device)
            nn.init.dirac_(made.get_parameter("weight"))
            self.layers.append(made)
        layer = self.layers[self.used]
        self.used += 1
        result = layer(value)
        self.lineage.note(layer, result)
        return result


def resize(value: Tensor, like: Tensor) -> Tensor:
    """Return `value` with the height and width, and the batch, of `like`: its channels stay what they are."""
    if value.shape[2:] != like.shape[2:]:
        value = nn.functional.interpolate(value, size=like.shape[2:])
    if value.shape[0] != like.shape[0]:
        value = value[:1].expand(like.shape[0], *value.shape[1:])
    return value
