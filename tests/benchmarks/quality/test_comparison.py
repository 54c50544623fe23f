"""All measures at once, and what they come to over pairs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from vtopt.benchmarks.quality import lpips as lpips_module
from vtopt.benchmarks.quality.comparison import compare_by_all
from vtopt.benchmarks.quality.lpips import TRUNKS, Lpips, measure_lpips
from vtopt.benchmarks.quality.ms_ssim import measure_ms_ssim
from vtopt.benchmarks.quality.pictures import compare_pictures, summarize_quality


def _draw(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (3, 48, 40)).astype(np.float32)


def test_each_measure_is_its_own() -> None:
    picture, reference = _draw(), (_draw() * 0.8).astype(np.float32)
    scores = compare_by_all(picture, reference)
    assert replace(scores, ms_ssim=None, ms_ssim_scales=0) == compare_pictures(picture, reference)
    assert (scores.ms_ssim, scores.ms_ssim_scales) == measure_ms_ssim(picture, reference)
    assert scores.lpips is None


def test_lpips_is_measured_where_its_weights_are_given() -> None:
    import torch

    torch.manual_seed(0)
    kind = TRUNKS["alex"]
    linear = tuple(torch.rand(width) for width in kind.widths)
    network = Lpips("alex", lpips_module._build_trunk(kind).eval(), linear)
    value = measure_lpips(network, _draw(), _draw(1))
    assert compare_by_all(_draw(), _draw(1), lpips=network).lpips == value > 0


def test_a_summary_names_the_three_worst_pairs_and_the_worst_of_each_measure() -> None:
    scores = {
        name: replace(compare_by_all(_draw(), _draw()), psnr=psnr, ms_ssim=structure, lpips=look)
        for name, psnr, structure, look in (
            ("a", 40.0, 0.9, 0.3),
            ("b", 20.0, 0.95, 0.1),
            ("c", math.inf, 0.99, 0.0),
            ("d", 30.0, 0.8, 0.2),
        )
    }
    quality = summarize_quality(scores)
    assert list(quality.worst_pairs.items()) == [("b", 20.0), ("d", 30.0), ("a", 40.0)]
    assert (quality.worst, quality.ms_ssim_median, quality.ms_ssim_worst) == ("b", 0.9, 0.8)
    assert (quality.lpips_median, quality.lpips_worst, quality.ms_ssim_scales) == (0.1, 0.3, 2)


def test_what_was_not_measured_is_absent() -> None:
    quality = summarize_quality({"a": compare_pictures(_draw(), _draw(1))})
    assert (quality.ms_ssim_median, quality.lpips_worst, quality.ms_ssim_scales) == (None, None, 0)
