"""What changed between two results files in what models show: to the first model, to the truth, and as sets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..fid.picture_distance import PictureSetDistance
from ..quality.pictures import Quality
from .changes import UNJUDGED, Change, judge_figure
from .results import Comparison, Results

__all__ = ["SAME_SHARE", "SAME_WITHIN", "compare_quality", "have_same_pairs", "list_picture_notices"]

SAME_WITHIN = {"PSNR dB": 0.1, "worst dB": 0.1, "SSIM": 0.002, "MS-SSIM": 0.002, "LPIPS": 0.002, "flow px": 0.02}
"""Figures that differ by no more are the same: equal models round otherwise on another machine."""
SAME_SHARE = 0.02
"""As for FID and other distances of sets, as a part of the old one."""
EQUAL_DB = 80.0
"""Pictures this close are equal; above it PSNR tells rounding."""

_SCORES = {
    "PSNR dB": "psnr_median",
    "worst dB": "psnr_worst",
    "SSIM": "ssim_median",
    "MS-SSIM": "ms_ssim_median",
    "LPIPS": "lpips_median",
}


class _Figure(NamedTuple):
    what: str
    old: float
    new: float
    verdict: str


def compare_quality(old: Results, new: Results) -> Iterator[Change]:
    """Compare pictures of the same pairs with the truth, and with the first model's where that is the same file.

    None of it has noise. Distances of sets, and LPIPS, are not judged where they were measured in another way.
    """
    if not have_same_pairs(old, new):
        return
    same_first, same_lpips = _have_same_first(old, new), _have_same_lpips(old, new)
    for number, before in enumerate(old.quality):
        now = new.find_quality(before.model, before.runtime)
        if now is None:
            continue
        figures: list[_Figure] = []
        if same_first and number:
            figures += _compare_scores(before.to_first, now.to_first, same_lpips)
            if before.flow and now.flow:
                figures.append(_judge("flow px", before.flow.mean_px, now.flow.mean_px))
        if before.to_truth and now.to_truth:
            scores = _compare_scores(before.to_truth, now.to_truth, same_lpips)
            figures += [each._replace(what=f"truth {each.what}") for each in scores]
        figures += _compare_distances(before, now)
        for what, first, second, verdict in figures:
            yield Change("picture", before.model, before.runtime, None, None, what, first, second, None, verdict)


def list_picture_notices(old: Results, new: Results) -> list[str]:
    """Say why pictures are not compared or not judged, where they are not."""
    if not old.quality and not new.quality:
        return []
    if not have_same_pairs(old, new):
        return ["the pairs differ: pictures are not compared"]
    notices = []
    if not _have_same_first(old, new):
        notices.append("the first models differ: pictures are compared with the truth alone")
    told = [each.what for each in compare_quality(old, new) if each.verdict == UNJUDGED]
    if told:
        notices.append(f"{', '.join(dict.fromkeys(told))}: measured with other weights, sets or resizing, not judged")
    return notices


def have_same_pairs(old: Results, new: Results) -> bool:
    return _tell_pairs(old) == _tell_pairs(new)


def _tell_pairs(results: Results) -> tuple[Any, ...]:
    """Return what tells pairs apart: the hash of what they are made of; in files without one, what was asked for."""
    told = results.conditions.get("pairs_sha256")
    size = results.conditions.get("size")
    return (told, size) if told else (results.settings.pairs, results.settings.pair_count, size)


def _have_same_first(old: Results, new: Results) -> bool:
    first, other = old.models[0], new.models[0]
    return (first.name, first.sha256) == (other.name, other.sha256)


def _have_same_lpips(old: Results, new: Results) -> bool:
    """Tell whether LPIPS is of weights of the same names."""
    named = [[Path(path).name for path in each.settings.lpips or ()] for each in (old, new)]
    return named[0] == named[1]


def _compare_scores(old: Quality, new: Quality, same_lpips: bool) -> Iterator[_Figure]:
    for what, name in _SCORES.items():
        before, after = getattr(old, name), getattr(new, name)
        if before is not None and after is not None:
            judged = _judge(what, before, after)
            yield judged if what != "LPIPS" or same_lpips else judged._replace(verdict=UNJUDGED)


def _judge(what: str, old: float, new: float) -> _Figure:
    first, second = (min(each, EQUAL_DB) for each in (old, new)) if what.endswith("dB") else (old, new)
    higher = what not in ("LPIPS", "flow px")
    return _Figure(what, old, new, judge_figure(first, second, SAME_WITHIN[what], higher_is_better=higher))


def _compare_distances(old: Comparison, new: Comparison) -> Iterator[_Figure]:
    measured = {distance.name: distance for distance in new.distances}
    for before in old.distances:
        if after := measured.get(before.name):
            verdict = UNJUDGED
            if _strip_value(before) == _strip_value(after):
                verdict = judge_figure(before.value, after.value, _find_tolerance(before))
            yield _Figure(before.title, before.value, after.value, verdict)


def _strip_value(distance: PictureSetDistance) -> PictureSetDistance:
    return replace(distance, value=0.0, spread=None, notes=())


def _find_tolerance(distance: PictureSetDistance) -> float:
    """Return what a distance may differ by: of a kernel distance, which may be near 0, also two standard errors."""
    error = distance.spread / math.sqrt(distance.subsets) if distance.spread and distance.subsets else 0.0
    return max(SAME_SHARE * abs(distance.value), 2 * error)
