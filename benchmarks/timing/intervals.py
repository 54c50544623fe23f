"""How sure a median or a ratio is, from processes that each measured it anew.

Runs inside one process are not independent: where its memory lies, which core it got and what else the machine did
stay the same for all of them. So a process is one observation, its rounds together, and the interval is Student's t
of their logarithms (after Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time", 2013). With one process
alone its rounds are cut into blocks, in their order, and a block is an observation: slow drifts then stay within
blocks, but what differs from process to process is not seen.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

__all__ = [
    "LEVEL",
    "RUN_SPREAD",
    "TIME_SPREAD",
    "Estimate",
    "chain_ratios",
    "compare_estimates",
    "estimate_fastest",
    "estimate_median",
    "estimate_ratio",
    "find_real",
    "find_smallest",
]

LEVEL = 0.05
"""How often something is called a change that is none."""

RUN_SPREAD = 0.015
"""What the logarithm of a ratio moves by from run to run (standard deviation) beyond what processes of one run show:
what else the machine does all the while slows down one model more than another. Of runs on a shared machine of 2 cores
whose load went from 9 to 2, some minutes to an hour apart."""

TIME_SPREAD = 0.2
"""As `RUN_SPREAD`, of a time by itself: on a shared machine clocks, caches and memory move it so from run to run, and
no other model beside it tells. Chosen wide: such times were seen to differ by up to 30 %."""

_BLOCKS = 5
"""A lone process's rounds become so many observations."""

_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t for 95 %, two-sided, for 1 to 30 degrees of freedom; more take the last, which is wider than theirs."""

Processes = Sequence[Sequence[float]]
"""Process -> a time for each of its rounds, in milliseconds."""


@dataclass(frozen=True)
class Estimate:
    """A value above 0 with the interval around it; one observation alone has an interval without end."""

    value: float
    low: float
    high: float
    error: float
    """The standard error of the value's logarithm."""
    freedom: float
    """Degrees of freedom of that error."""

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def chance(self) -> float:
        """How likely chance alone takes the value at least so far from 1: the p-value of Student's t, two-sided."""
        distance = abs(math.log(self.value))
        if not distance or not math.isfinite(self.error):
            return 1.0
        return _find_tail(distance / self.error, _round_freedom(self.freedom)) if self.error else 0.0


def estimate_median(processes: Processes) -> Estimate:
    """Return the typical time of a round: the geometric mean of the processes' medians, with its 95 % interval."""
    return _estimate([math.log(statistics.median(unit)) for unit in _take_units(processes)])


def estimate_fastest(processes: Processes) -> Estimate:
    """Return the time of a fastest round: the geometric mean over the processes, with its 95 % interval.

    `TIME_SPREAD` is part of the error; as it is given and not drawn, the error has more degrees of freedom by Welch and
    Satterthwaite.
    """
    drawn = _estimate([math.log(min(unit)) for unit in _take_units(processes)])
    if not math.isfinite(drawn.error):
        return drawn
    error = math.hypot(drawn.error, TIME_SPREAD)
    freedom = drawn.freedom * (error / drawn.error) ** 4 if drawn.error else math.inf
    return _make_estimate(math.log(drawn.value), error, min(freedom, len(_STUDENT)))


def estimate_ratio(processes: Processes, reference: Processes) -> Estimate:
    """Return how many times faster than its reference something is: above 1 is faster.

    The two ran in turns in as many processes; a process gives the ratio of both fastest rounds. What else a machine
    does only ever adds time, and to one model more than to another, so that medians give another ratio on a busy day
    (Chen and Revels, "Robust benchmarking in noisy environments", 2016, https://arxiv.org/abs/1608.04295).
    The interval is where 95 % of other such runs find the ratio, not where the true one lies: it is wider, by the
    square root of 2, as the other run has an error of its own. `RUN_SPREAD` is part of the error.
    """
    units = zip(_take_units(reference), _take_units(processes), strict=True)
    logarithms = [math.log(min(before) / min(after)) for before, after in units]
    return _estimate(logarithms, spread=RUN_SPREAD, widen=math.sqrt(2))


def chain_ratios(ratio: Estimate, reference: Estimate) -> Estimate:
    """Return how many times faster something is than another, from `ratio`, to a third, and `reference`, the other's.

    The two never ran in turns, so that the errors of both count; the interval is where other such runs find it, as
    that of `estimate_ratio`.
    """
    return _divide(ratio, reference, widen=math.sqrt(2))


def compare_estimates(old: Estimate, new: Estimate) -> Estimate:
    """Return new over old, with Welch's interval; where it holds 1, the two do not differ beyond the noise."""
    return _divide(new, old)


def _divide(new: Estimate, old: Estimate, widen: float = 1.0) -> Estimate:
    error = math.hypot(old.error, new.error)
    if not math.isfinite(error):
        freedom = 1.0
    elif error:
        parts = sum(each.error**4 / each.freedom for each in (old, new))
        freedom = error**4 / parts
    else:
        freedom = old.freedom + new.freedom
    return _make_estimate(math.log(new.value / old.value), error, freedom, widen)


def find_real(changes: Sequence[Estimate]) -> list[bool]:
    """Tell of each ratio whether it differs from 1 beyond the noise, so that all are right 19 times of 20.

    Judged one by one, every twentieth would be wrong. Holm, "A simple sequentially rejective multiple test
    procedure", 1979.
    """
    real = [False] * len(changes)
    for place, index in enumerate(sorted(range(len(changes)), key=lambda index: changes[index].chance)):
        if changes[index].chance * (len(changes) - place) > LEVEL:
            break
        real[index] = True
    return real


def find_smallest(changes: Sequence[Estimate], missed: float = 0.5) -> list[float]:
    """Return of each ratio the smallest change, as a ratio above 1, that `find_real` finds where no other changed.

    `missed` is how often it may overlook such a change: half of those that are just where it begins to find them.
    Infinite for a ratio whose error is not known.
    """
    return [
        math.exp(
            change.error
            * sum(_find_t(part, _round_freedom(change.freedom)) for part in (LEVEL / len(changes), 2 * missed))
        )
        if math.isfinite(change.error)
        else math.inf
        for change in changes
    ]


def _round_freedom(freedom: float) -> int:
    """Return the row of `_STUDENT` for so many degrees of freedom, so that intervals and chances agree."""
    return min(max(1, int(freedom)), len(_STUDENT))


@cache
def _find_t(chance: float, freedom: int) -> float:
    """Return the t that Student's t reaches, of either sign, with this chance, by halving."""
    low, high = 0.0, 1.0
    while _find_tail(high, freedom) > chance:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _find_tail(middle, freedom) > chance else (low, middle)
    return low


def _find_tail(t: float, freedom: int) -> float:
    """Return how likely Student's t is at least so large, of either sign.

    With t = sqrt(freedom) tan(a) its density is in proportion to cos(a)^(freedom - 1); the integral is by Simpson.
    """
    steps = 2000
    begin = math.atan(t / math.sqrt(freedom))
    width = (math.pi / 2 - begin) / steps
    heights = [max(math.cos(begin + index * width), 0.0) ** (freedom - 1) for index in range(steps + 1)]
    area = width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return min(area / whole, 1.0)


def _take_units(processes: Processes) -> Processes:
    """Return the observations: the processes, or blocks of one alone's rounds."""
    if len(processes) != 1:
        return processes
    (rounds,) = processes
    blocks = min(_BLOCKS, len(rounds))
    cuts = [index * len(rounds) // blocks for index in range(blocks + 1)]
    return [rounds[begin:end] for begin, end in itertools.pairwise(cuts)]


def _estimate(logarithms: Sequence[float], *, spread: float = 0.0, widen: float = 1.0) -> Estimate:
    count = len(logarithms)
    error = statistics.stdev(logarithms) / math.sqrt(count) if count > 1 else math.inf
    return _make_estimate(statistics.fmean(logarithms), math.hypot(error, spread), max(1, count - 1), widen)


def _make_estimate(middle: float, error: float, freedom: float, widen: float = 1.0) -> Estimate:
    margin = _STUDENT[_round_freedom(freedom) - 1] * error * widen
    if not math.isfinite(margin):
        return Estimate(math.exp(middle), 0.0, math.inf, math.inf, freedom)
    return Estimate(math.exp(middle), math.exp(middle - margin), math.exp(middle + margin), error, freedom)
