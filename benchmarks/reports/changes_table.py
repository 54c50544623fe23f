"""What changed between two results files, as text: with what is assumed, and how small a change would be seen."""

from __future__ import annotations

import json
import math

from ..run.compare import Changes
from ..timing.intervals import LEVEL, RUN_SPREAD
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
    seen, sure = changes.seen or (None, None)
    return {
        "spread between runs": RUN_SPREAD,
        "judged together": len(changes.judged),
        "false alarms": LEVEL,
        "called from": seen,
        "found 19 times of 20 from": sure,
    }


def _tell_noise(changes: Changes) -> str:
    if changes.seen is None:
        return ""
    called, sure = map(_show_change, changes.seen)
    count = len(changes.judged)
    verdicts = (
        f"the verdicts are of all {count} ratios together (Holm): what is called worse or better has 1 outside its "
        "interval, but not all that have are called so"
        if count > 1
        else "its verdict tells whether 1 lies outside"
    )
    return (
        f"\nAssumed: from run to run a ratio of two models moves by {RUN_SPREAD:.1%} (standard deviation) beyond what "
        f"the processes of one run show. In the least sure row a change of speed is called one from {called} on, and "
        f"found 19 times of 20 from {sure} on. An interval, from .. to, is of 95% for its row alone; {verdicts}. Of "
        f"equal models at most {LEVEL:.0%} of such tables call any speed changed.\n"
    )


def _show_change(ratio: float) -> str:
    return f"{ratio - 1:.1%}" if math.isfinite(ratio) else "no size"
