"""Run a public network's plain form with seeded weights and print how far its outputs are from the published ones.

A process of its own, `python published_outputs.py NETWORK`: the published outputs were computed on two threads of a
processor with AVX2, and of chaotic random weights only the same rounding makes the same picture. Prints JSON: the
instruction set that torch really uses, and output -> largest difference, as a share of the largest value.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":
    # Both are read when torch is imported.
    os.environ |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"}

import torch
from published import build_seeded, import_seeding, read_manifest, read_outputs
from torch import Tensor
from torch.nn import functional as F

from vtopt.benchmarks.studies.plain_warp import plain_warps
from vtopt.optimize.networks import Network

__all__ = ["measure_differences"]

PREFIXES = {"sdafn_plus_3": "sdafn_plus", "sdafn_plus_4": "sdafn_plus", "sdafn_plus_5": "sdafn_plus", "sdafn": "sdafn"}


def measure_differences(name: str) -> dict[str, float]:
    """Return output -> largest difference to the published one, as a share of its largest value."""
    seeded = import_seeding()
    network = build_seeded(name, seeded)
    with torch.no_grad(), plain_warps():
        made = network.module(*_make_inputs(network, seeded))
    made = dict(zip(network.outputs, (made,) if isinstance(made, Tensor) else made, strict=True))
    expected = {output: torch.from_numpy(array) for output, array in read_outputs(name).items()}
    return {output: float((made[output] - array).abs().max() / array.abs().max()) for output, array in expected.items()}


def _make_inputs(network: Network, seeded: Any) -> list[Tensor]:
    name, shapes = network.name, read_manifest(network.name)["inputs"]

    def draw(entry: str) -> Tensor:
        return seeded.seeded_input(f"{PREFIXES.get(name, name.partition('_')[0])}.{entry}", tuple(shapes[entry]))

    special: dict[str, Callable[[], list[Tensor]]] = {
        "pfafn_gen": lambda: _make_generator_inputs(seeded, draw("person")),
        "hrviton_gen": lambda: [draw("x"), (draw("seg") > 0).float()],
    }
    return special.get(name, lambda: [draw(spec.name) for spec in network.inputs])()


def _make_generator_inputs(seeded: Any, person: Tensor) -> list[Tensor]:
    warp = read_outputs("pfafn_warp")
    flow, clothes = (torch.from_numpy(warp[output]) for output in ("flow", "warped_clothes"))
    edge = (seeded.seeded_input("pfafn.edge", (1, 1, 128, 96)) > -0.5).float()
    return [person, clothes, F.grid_sample(edge, flow.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)]


if __name__ == "__main__":
    torch.set_num_threads(2)
    differences = measure_differences(sys.argv[1])
    print(json.dumps({"instructions": torch.backends.cpu.get_cpu_capability(), "differences": differences}))
