"""Small networks as users write them, each with one habit that pruning must get right: FACTORIES, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

from vtopt.optimize.networks import InputSpec, Network, build_network

SIZE = (32, 24)

SDAFN = {
    "pyramid_widths": (8, 8),
    "pyramid_dim": 16,
    "heads": 2,
    "mfe_filters": (8, 8),
    "self_mfe_kernel": 3,
    "shallow_hidden": 8,
    "shallow_dim": 8,
}
"""Widths of an SDAFN that runs in no time."""

REORDERINGS = (
    *("flip", "roll", "pick", "shuffle", "groups", "softmax"),
    *("write", "pixels", "cumulate", "gather", "dual"),
)


def conv(inside: int, outside: int, kernel: int = 3, **settings: int | bool) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, **settings)


def _make_grid(flow: Tensor) -> Tensor:
    """Return (N, H, W, 2) from a flow (N, 2, H, W) of shares of the picture."""
    height, width = flow.shape[2:]
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return (torch.stack([columns, rows])[None].to(flow) + 0.3 * flow.tanh()).permute(0, 2, 3, 1)


def _warp_with_attention(features: Tensor, offsets: Tensor, attention: Tensor) -> Tensor:
    """The warp of the public DAFlow code: all is copied once per head."""
    (batch, channels, _, _), (_, heads, height, width) = features.shape, attention.shape
    grids = _make_grid(offsets.reshape(-1, 2, height, width))
    copies = torch.repeat_interleave(features, heads, 0)
    sampled = F.grid_sample(copies, grids, padding_mode="border", align_corners=False)
    weights = torch.repeat_interleave(attention, channels, 1)
    weighted = sampled.reshape(batch, -1, height, width) * weights
    return sum(torch.split(weighted, channels, 1))


def _warp_in_five_dimensions(features: Tensor, offsets: Tensor, attention: Tensor) -> Tensor:
    batch, channels, height, width = features.shape
    heads = attention.shape[1]
    grids = _make_grid(offsets.view(batch * heads, 2, height, width))
    copies = features.unsqueeze(1).repeat_interleave(heads, 1).view(batch * heads, channels, height, width)
    sampled = F.grid_sample(copies, grids, align_corners=False).view(batch, heads, channels, height, width)
    return (sampled * attention.unsqueeze(2)).sum(1)


class AttentionWarp(nn.Module):
    def forward(self, features: Tensor, offsets: Tensor, attention: Tensor) -> Tensor:
        return _warp_in_five_dimensions(features, offsets, attention)


class WarpedByHeads(nn.Module):
    def __init__(self, warp) -> None:
        super().__init__()
        self.warp = warp
        self.features = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16))
        self.hidden = conv(32, 12)
        self.head = conv(12, 9)
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        garment = self.features(clothes)
        estimate = self.head(self.hidden(torch.cat([garment, self.features(person)], 1)).relu())
        return self.decoder(self.warp(garment, estimate[:, :6], estimate[:, 6:].softmax(1)))


class FlowWarp(nn.Module):
    """PF-AFN's way: a flow head, grid_sample inline, the flow doubled and refined."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, 16), nn.LeakyReLU(0.1), conv(16, 16))
        self.coarse = nn.Sequential(conv(16, 8), nn.LeakyReLU(0.1), conv(8, 2))
        self.fine = nn.Sequential(conv(32, 8), nn.LeakyReLU(0.1), conv(8, 2))
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        garment, reference = self.features(clothes), self.features(person)
        flow = F.interpolate(self.coarse(F.avg_pool2d(reference, 2)), scale_factor=2.0, mode="bilinear")
        warped = F.grid_sample(garment, _make_grid(flow), padding_mode="border", align_corners=True)
        flow = flow + self.fine(torch.cat([warped, reference], 1))
        return self.decoder(F.grid_sample(garment, _make_grid(flow), align_corners=True))


class Correlation(nn.Module):
    """Sum of products over the channels, at (2 * reach + 1) ** 2 displacements."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return _correlate(one, other, self.reach)


def _correlate(one: Tensor, other: Tensor, reach: int) -> Tensor:
    height, width = one.shape[2:]
    padded = F.pad(other, [reach] * 4)
    side = range(2 * reach + 1)
    moved = [padded[:, :, y : y + height, x : x + width] for y in side for x in side]
    return torch.cat([(one * part).sum(1, keepdim=True) for part in moved], 1)


class Correlated(nn.Module):
    def __init__(self, reach: int, correlation: nn.Module | None) -> None:
        super().__init__()
        self.reach = reach
        self.correlation = correlation
        self.features = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16))
        self.decoder = nn.Sequential(conv((2 * reach + 1) ** 2, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        one, other = self.features(person), self.features(clothes)
        costs = self.correlation(one, other) if self.correlation else _correlate(one, other, self.reach)
        return self.decoder(F.leaky_relu(costs, 0.1))


class Blend(nn.Module):
    def forward(self, mask: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return one * mask + other * (1 - mask)


class Masked(nn.Module):
    def __init__(self, blend: nn.Module | None = None) -> None:
        super().__init__()
        self.blend = blend
        self.one, self.other = conv(3, 16), conv(3, 16)
        self.mask = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 1), nn.Sigmoid())
        self.decoder = conv(16, 3)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        one, other, mask = self.one(person).relu(), self.other(clothes).relu(), self.mask(person)
        if self.blend is not None:
            return self.decoder(self.blend(mask, one, other))
        return self.decoder(one * mask + other * (1 - mask))


class SqueezeExcite(nn.Module):
    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.stem = nn.Sequential(conv(3, 16), nn.BatchNorm2d(16), nn.ReLU())
        layer = nn.Linear if linear else (lambda inside, outside: nn.Conv2d(inside, outside, 1))
        self.squeeze, self.excite = layer(16, 8), layer(8, 16)
        self.decoder = conv(16, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        mean = x.mean((2, 3)) if self.linear else F.adaptive_avg_pool2d(x, 1)
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()
        return self.decoder(x * (gate[:, :, None, None] if self.linear else gate))


class SelfAttention(nn.Module):
    """SAGAN's: what comes out is added to what went in, times a learned gamma."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16))
        self.query, self.key, self.value = (nn.Conv2d(16, width, 1) for width in (4, 4, 16))
        self.gamma = nn.Parameter(torch.tensor([0.5]))
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        batch, channels, height, width = x.shape
        query = self.query(x).view(batch, -1, height * width).permute(0, 2, 1)
        attention = torch.bmm(query, self.key(x).view(batch, -1, height * width)).softmax(-1)
        value = self.value(x).view(batch, -1, height * width)
        mixed = torch.bmm(value, attention.permute(0, 2, 1)).view(batch, channels, height, width)
        return self.decoder(self.gamma * mixed + x)


class Spade(nn.Module):
    """HR-VITON's: noise with a learned scale per channel, a normalisation, and a map of scales and shifts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.noise_scale = nn.Parameter(torch.full((channels,), 0.1))
        self.norm = nn.InstanceNorm2d(channels, affine=False)
        self.shared = nn.Sequential(conv(3, 12), nn.ReLU())
        self.gamma, self.beta = conv(12, channels), conv(12, channels)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        noise = (torch.randn(batch, width, height, 1) * self.noise_scale).transpose(1, 3)
        shared = self.shared(seg)
        return self.norm(x + noise) * (1 + self.gamma(shared)) + self.beta(shared)


class Spaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spade = conv(3, 16), Spade(16)
        self.middle = nn.Sequential(conv(16, 16), nn.LeakyReLU(0.2))
        self.decoder = conv(16, 3)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        return self.decoder(self.middle(F.leaky_relu(self.spade(self.stem(person), clothes), 0.2)))


class Spectral(nn.Module):
    def __init__(self, norm) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16), nn.ReLU())
        self.middle = norm(conv(16, 16))
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor) -> Tensor:
        return self.decoder(self.middle(self.stem(person)).relu())


class Joined(nn.Module):
    """Concatenations with a picture first, between and last, nested, and of the same features twice."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.one, self.other = conv(3, 16), nn.Sequential(conv(3, 12), nn.BatchNorm2d(12))
        self.middle = conv({"twice": 32, "nested": 63}.get(order, 31), 8)
        self.decoder = conv(8, 3)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        one, other = self.one(person).relu(), self.other(clothes).relu()
        whole = {
            "first": lambda: torch.cat([person, one, other], 1),
            "between": lambda: torch.cat((one, person, other), dim=1),
            "last": lambda: torch.cat(tensors=[one, other, person], dim=-3),
            "nested": lambda: torch.cat([torch.cat([one, torch.cat([clothes, other], 1)], 1), one, one], 1),
            "twice": lambda: torch.cat([one, one], 1),
        }[self.order]()
        return self.decoder(self.middle(whole).relu())


class JoinedAndScaled(nn.Module):
    """Concatenated features of which some are all but useless, scaled by channels of one layer, as SPADE does."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = conv(3, 16), conv(3, 4)
        self.scale = conv(3, 20)
        self.decoder = conv(20, 3)
        with torch.no_grad():
            self.other.weight.mul_(1e-3)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        joined = torch.cat([self.one(person), self.other(clothes)], 1)
        return self.decoder(joined * self.scale(person))


class Parted(nn.Module):
    """What is split in two and joined in the other order."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem, self.side = nn.Sequential(conv(3, 16), nn.ReLU()), conv(8, 8)
        self.middle, self.decoder = conv(16, 12), conv(12, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        if self.how == "slices":
            one, other = x[:, :8], x[:, 8:]
        else:
            one, other = x.chunk(2, 1) if self.how == "chunk" else torch.split(x, 8, dim=1)
        return self.decoder(self.middle(torch.cat([other, self.side(one).relu()], 1)).relu())


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for before, width in ((3, 8), (8, 16), (16, 16))
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(before, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for before, width in ((16, 16), (32, 8), (16, 8))
        )
        self.last = conv(8, 3)

    def forward(self, person: Tensor) -> Tensor:
        skips = [person]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        x = self.up[0](skips[3])
        x = self.up[1](torch.cat([x, skips[2]], 1))
        return self.last(self.up[2](torch.cat([skips[1], x], 1))).tanh()


class Residual(nn.Module):
    def __init__(self, middle: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.stem, self.middle, self.decoder = conv(3, width), middle, conv(width, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        return self.decoder((self.middle(x) + x).relu())


class ChannelsLast(nn.Module):
    """ConvNeXt's block: layer norm and linear layers over the channels, which are moved to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(3, 16), conv(16, 16, groups=16)
        self.norm = nn.LayerNorm(16)
        self.widen, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        moved = self.norm(self.deep(x).permute(0, 2, 3, 1))
        return self.decoder(x + self.narrow(F.gelu(self.widen(moved))).permute(0, 3, 1, 2))


class Flattened(nn.Module):
    """Features to six numbers of an affine warp of the picture, by linear layers."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem = nn.Sequential(conv(3, 8), nn.ReLU(), nn.AdaptiveAvgPool2d((4, 3)))
        self.hidden, self.theta = nn.Linear(96, 16), nn.Linear(16, 6)
        self.decoder = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        x = x.view(x.size(0), -1) if self.how == "view" else torch.flatten(x, 1)
        theta = self.theta(self.hidden(x).relu()).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(person.shape), align_corners=False)
        return self.decoder(F.grid_sample(person, grid, align_corners=False))


class Shared(nn.Module):
    """One layer, used at two depths."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.decoder = conv(3, 16), conv(16, 16), conv(16, 3)

    def forward(self, person: Tensor) -> Tensor:
        return self.decoder(self.again(self.again(self.stem(person).relu()).relu()))


class TwoHeads(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.stem = nn.Sequential(conv(3, 16), nn.ReLU(inplace=True), conv(16, 16))
        self.picture, self.mask = conv(16, 3), conv(16, 1)

    def forward(self, person: Tensor):
        x = self.stem(person)
        picture, mask = self.picture(x), self.mask(x).sigmoid()
        if self.form == "dict":
            return {"picture": picture, "mask": mask}
        return (picture, mask) if self.form == "tuple" else [picture, [mask, x]]


class Constants(nn.Module):
    """A number per channel that no layer makes: a buffer or a parameter."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.middle, self.decoder = conv(3, 16), conv(16, 12), conv(12, 3)
        numbers = torch.linspace(0.5, 1.5, 16).view(1, 16, 1, 1)
        if kind == "buffer":
            self.register_buffer("scale", numbers)
        else:
            self.scale = nn.Parameter(numbers)

    def forward(self, person: Tensor) -> Tensor:
        return self.decoder(self.middle(self.stem(person) + self.scale).relu())


class MultiHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor) -> Tensor:
        x = F.avg_pool2d(self.stem(person), 4)
        tokens = x.flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).view_as(x)
        return self.decoder(F.interpolate(x + mixed, scale_factor=4.0))


class Tokens(nn.Module):
    """A transformer's two linear layers, over tokens (N, L, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.norm, self.widen, self.narrow = nn.LayerNorm(16), nn.Linear(16, 12), nn.Linear(12, 16)
        self.last = nn.Linear(16, 192)

    def forward(self, person: Tensor) -> Tensor:
        tokens = self.stem(person).flatten(2).transpose(1, 2)
        tokens = tokens + self.narrow(self.widen(self.norm(tokens)).relu())
        return F.pixel_shuffle(self.last(tokens).transpose(1, 2).view(-1, 192, 4, 3), 8)


class DependsOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle = conv(3, 16), nn.Sequential(conv(16, 12), nn.ReLU(), conv(12, 16))
        self.decoder = conv(16, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        for _ in range(1 + int(x.max()) % 2):
            x = self.middle(x).relu()
        return self.decoder(x)


class OwnSize(nn.Module):
    """Made for one size alone: positions are added, and the middle is a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16), nn.ReLU())
        self.register_buffer("rows", torch.linspace(-1, 1, SIZE[0]).view(1, 1, -1, 1))
        self.hidden, self.gate = nn.Linear(16 * SIZE[0], 8), nn.Linear(8, 1)
        self.decoder = nn.Sequential(conv(16, 8), nn.ReLU(), conv(8, 3))

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person) + self.rows
        gate = self.gate(self.hidden(x.mean(3).flatten(1)).relu()).sigmoid()
        return self.decoder(x * gate[:, :, None, None])


class Reordered(nn.Module):
    """As many channels as before, but others: in groups, reversed, picked, rolled, shuffled, weighed by a softmax."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem, self.middle, self.decoder = conv(3, 16), conv(16, 12), conv(12, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        mixed = {
            "flip": lambda: x.flip(1),
            "roll": lambda: x.roll(4, 1),
            "pick": lambda: x[:, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]],
            "shuffle": lambda: F.channel_shuffle(x, 4),
            "groups": lambda: x.view(-1, 4, 4, *SIZE).transpose(1, 2).reshape(-1, 16, *SIZE),
            "softmax": lambda: x.softmax(1),
            "write": lambda: self._write(x),
            "pixels": lambda: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
            "cumulate": lambda: x.cumsum(1),
            "gather": lambda: x.gather(1, torch.arange(15, -1, -1).view(1, -1, 1, 1).expand_as(x)),
            "dual": lambda: x.permute(0, 2, 1, 3).permute(0, 2, 1, 3),
        }[self.how]()
        return self.decoder(self.middle((x + mixed).relu()).relu())

    def _write(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, :8] = x[:, 8:].tanh()
        return y


class NeverRuns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.decoder = conv(3, 16), conv(16, 3)

    def forward(self, person: Tensor) -> Tensor:
        raise RuntimeError("sized for nothing")


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16), nn.ReLU(inplace=True), conv(16, 16), nn.LeakyReLU(0.2, inplace=True))
        self.decoder = conv(16, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        x += 0.5
        x *= person.mean()
        return self.decoder(F.relu_(x)).tanh_()


class Made(nn.Module):
    """Tensors that take their width from the features: zeros, noise, a broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.decoder = conv(3, 16), conv(16, 12), conv(12, 3)

    def forward(self, person: Tensor) -> Tensor:
        x = self.stem(person)
        y = self.middle(torch.maximum(x, torch.zeros_like(x)) + 0 * torch.randn_like(x))
        return self.decoder(torch.where(y > 0, y, torch.full_like(y, 0.1) * y))


def _sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def _norm(norm: nn.Module) -> nn.Module:
    return Residual(nn.Sequential(conv(16, 16), norm, nn.ReLU(), conv(16, 16)))


FACTORIES = {
    "inline_attention_warp": lambda: WarpedByHeads(_warp_with_attention),
    "inline_warp_in_five_dimensions": lambda: WarpedByHeads(_warp_in_five_dimensions),
    "module_attention_warp": lambda: WarpedByHeads(AttentionWarp()),
    "inline_flow_warp": FlowWarp,
    "module_correlation_9": lambda: Correlated(1, Correlation(1)),
    "module_correlation_81": lambda: Correlated(4, Correlation(4)),
    "inline_correlation": lambda: Correlated(1, None),
    "inline_mask": Masked,
    "module_mask": lambda: Masked(Blend()),
    "squeeze_excite_linear": lambda: SqueezeExcite(True),
    "squeeze_excite_conv": lambda: SqueezeExcite(False),
    "self_attention": SelfAttention,
    "spade": Spaded,
    "spectral_norm_hook": lambda: Spectral(spectral_norm),
    "spectral_norm_parametrization": lambda: Spectral(parametrizations.spectral_norm),
    "joined_picture_first": lambda: Joined("first"),
    "joined_picture_between": lambda: Joined("between"),
    "joined_picture_last": lambda: Joined("last"),
    "joined_nested": lambda: Joined("nested"),
    "joined_twice": lambda: Joined("twice"),
    "joined_and_scaled": JoinedAndScaled,
    "parted_by_split": lambda: Parted("split"),
    "parted_by_chunk": lambda: Parted("chunk"),
    "parted_by_slices": lambda: Parted("slices"),
    "unet": Unet,
    "depthwise": lambda: Residual(nn.Sequential(conv(16, 16, groups=16), nn.BatchNorm2d(16), conv(16, 16, 1))),
    "depthwise_chain": lambda: _sequence(conv(3, 16), nn.ReLU(), conv(16, 16, groups=16), nn.ReLU6(), conv(16, 3, 1)),
    "depthwise_multiplied": lambda: _sequence(conv(3, 8), nn.ReLU(), conv(8, 16, groups=8), nn.ReLU(), conv(16, 3)),
    "grouped": lambda: _sequence(conv(3, 16), nn.ReLU(), conv(16, 24, groups=4), nn.ReLU(), conv(24, 3)),
    "grouped_residual": lambda: Residual(nn.Sequential(nn.ReLU(), conv(16, 16, groups=4))),
    "grouped_transposed": lambda: _sequence(
        conv(3, 16), nn.ReLU(), nn.ConvTranspose2d(16, 24, 3, padding=1, groups=4), nn.ReLU(), conv(24, 3)
    ),
    "group_norm": lambda: _norm(nn.GroupNorm(4, 16)),
    "group_norm_plain": lambda: _norm(nn.GroupNorm(4, 16, affine=False)),
    "instance_norm": lambda: _norm(nn.InstanceNorm2d(16, affine=True)),
    "instance_norm_plain": lambda: _norm(nn.InstanceNorm2d(16)),
    "instance_norm_tracked": lambda: _norm(nn.InstanceNorm2d(16, affine=True, track_running_stats=True)),
    "prelu": lambda: _norm(nn.PReLU(16)),
    "prelu_single": lambda: _norm(nn.PReLU()),
    "channels_last": ChannelsLast,
    "flattened_by_view": lambda: Flattened("view"),
    "flattened": lambda: Flattened("flatten"),
    "shared": Shared,
    "two_outputs": lambda: TwoHeads("tuple"),
    "dict_output": lambda: TwoHeads("dict"),
    "nested_outputs": lambda: TwoHeads("list"),
    "in_place": InPlace,
    "buffer_added": lambda: Constants("buffer"),
    "parameter_added": lambda: Constants("parameter"),
    "multi_head_attention": MultiHead,
    "tokens": Tokens,
    "depends_on_data": DependsOnData,
    "own_size": OwnSize,
    "made": Made,
    **{f"reordered_{how}": (lambda how=how: Reordered(how)) for how in REORDERINGS},
    "never_runs": NeverRuns,
    "one_convolution": lambda: _sequence(conv(3, 3)),
    "nothing": lambda: _sequence(conv(3, 3), nn.ReLU()),
}


def build(which: str = "unet") -> Network:
    """Return the network of that name; its pictures are those that its `forward` names."""
    module = FACTORIES[which]()
    names = [name for name in ("person", "clothes") if name in type(module).forward.__annotations__]
    return Network(
        module=module,
        inputs=tuple(InputSpec(name) for name in names or ["person"]),
        size=SIZE,
        multiple_of=8,
        config={"which": which},
    )


def build_sdafn(**settings: Any) -> Network:
    """Return a small SDAFN_plus for pictures of 64x48."""
    return replace(build_network("sdafn_plus_tiny", SDAFN | settings), size=(64, 48))
