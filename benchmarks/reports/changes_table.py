"""What changed between two results files, as text: with what is assumed, and how small a change would be seen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from ..run.changes import Changes
from ..run.picture_changes import SAME_SHARE, SAME_WITHIN
from ..timing.intervals import LEVEL, RUN_SPREAD, TIME_SPREAD
from .tables import Format, format_table, to_json_value

__all__ = ["COLUMNS", "format_changes"]

COLUMNS = ("model", "runtime", "threads", "batch", "what", "old", "new", "new / old", "from", "to", "verdict")


def format_changes(changes: Changes, fmt: Format = "md") -> str:
    """Return the changes as text, ending in a line break.

    - md: what was noticed, the table, and what is assumed and seen;
    - json: an object with rows, conditions and notices;
    - csv and latex: the table alone.
    """
    rows = [
        {
            "model": change.model,
            "runtime": change.runtime or None,
            "threads": change.threads,
            "batch": change.batch,
            "what": change.what,
            "old": change.old,
            "new": change.new,
            "new / old": change.ratio and change.ratio.value,
            "from": change.ratio and change.ratio.low,
            "to": change.ratio and change.ratio.high,
            "verdict": change.verdict,
        }
        for change in changes.changes
    ]
    if fmt == "json":
        data = {"rows": rows, "conditions": _list_conditions(changes), "notices": changes.notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    table = format_table(rows, COLUMNS, fmt)
    if fmt != "md":
        return table
    notices = "".join(f"- **{notice}**\n" for notice in changes.notices)
    return f"{notices}{chr(10) if notices else ''}{table}{_tell_noise(changes)}"


def _list_conditions(changes: Changes) -> dict[str, object]:
    """Return what the verdicts rest on; the changes that are seen as ratios above 1."""
    (speed, sure_speed), (time, sure_time) = (changes.find_seen(kind) or (None, None) for kind in ("speed", "time"))
    return {
        "spread between runs": RUN_SPREAD,
        "spread of times": TIME_SPREAD,
        "judged together": len(changes.judged),
        "false alarms": LEVEL,
        "called from": speed,
        "found 19 times of 20 from": sure_speed,
        "times called from": time,
        "times found 19 times of 20 from": sure_time,
        "pictures same within": SAME_WITHIN,
        "distances same within": SAME_SHARE,
    }


def _tell_noise(changes: Changes) -> str:
    told = [*_tell_speed(changes), *_tell_time(changes), *_tell_family(changes), *_tell_pictures(changes)]
    return f"\nAssumed: {' '.join(told)}\n" if told else ""


def _tell_speed(changes: Changes) -> Iterator[str]:
    if seen := changes.find_seen("speed"):
        called, sure = map(_show_change, seen)
        yield (
            f"from run to run a ratio of two models moves by {RUN_SPREAD:.1%} (standard deviation) beyond what the "
            f"processes of one run show. In the least sure row a change of speed is called one from {called} on, and "
            f"found 19 times of 20 from {sure} on; with fewer rows, or more processes, smaller ones are."
        )


def _tell_time(changes: Changes) -> Iterator[str]:
    if seen := changes.find_seen("time"):
        called, sure = map(_show_change, seen)
        yield (
            f"A time by itself moves by {TIME_SPREAD:.0%} from run to run: a longer one is called so from {called} on, "
            f"and found 19 times of 20 from {sure} on."
        )


def _tell_family(changes: Changes) -> Iterator[str]:
    count = len(changes.judged)
    if not count:
        return
    verdicts = (
        f"the verdicts are of all {count} ratios together (Holm): what is called worse or better has 1 outside its "
        "interval, but not all that have are called so"
        if count > 1
        else "its verdict tells whether 1 lies outside"
    )
    yield (
        f"An interval, from .. to, is of 95% for its row alone; {verdicts}. Of equal models at most {LEVEL:.0%} of "
        "such tables call any speed or time changed."
    )


def _tell_pictures(changes: Changes) -> Iterator[str]:
    if any(change.kind == "picture" for change in changes.changes):
        within = ", ".join(f"{what} {tolerance:g}" for what, tolerance in SAME_WITHIN.items())
        yield f"Pictures are the same within: {within}, and distances of sets {SAME_SHARE:.0%}."


def _show_change(ratio: float) -> str:
    return f"{ratio - 1:.1%}" if math.isfinite(ratio) else "no size"
