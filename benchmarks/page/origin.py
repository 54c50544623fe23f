"""Where each artifact comes from: its sha256 and the steps that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .content import Artifact
from .markup import Markup, join, tag
from .number_text import keep_value, show_bytes

__all__ = ["show_artifacts"]


def show_artifacts(artifacts: Sequence[Artifact]) -> Markup:
    """Show each artifact folded, its steps from the oldest."""
    return join(_show_artifact(artifact) for artifact in artifacts)


def _show_artifact(artifact: Artifact) -> Markup:
    chain = " → ".join(str(record["step"]) for record in artifact.history) or "not made by vtopt"
    head = tag("summary", tag("b", artifact.name), " ", tag("span", chain, class_="chain"))
    facts = {"file": tag("code", artifact.file), "size": show_bytes(artifact.bytes)}
    listed = _show_list(facts | {"sha256": tag("code", artifact.sha256)})
    versions: Mapping[str, Any] = {}
    steps = []
    for record in artifact.history:
        steps.append(_show_step(record, versions))
        versions = record.get("versions", {})
    return tag("details", head, listed, tag("ol", *steps) if steps else None, class_="artifact")


def _show_step(record: Mapping[str, Any], before: Mapping[str, Any]) -> Markup:
    versions = record.get("versions", {})
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    parent = join((tag("code", record["parent"]), ", ", show_bytes(record.get("parent_bytes", 0))))
    facts = {
        "from": parent,
        "its sha256": tag("code", record["parent_sha256"]),
        "settings": _show_values(record.get("settings", {})),
        "figures": _show_values(record.get("figures", {})),
        "versions": "as in the step before" if versions and versions == before else told,
        "noticed": "; ".join(record.get("notices", ())),
    }
    return tag("li", tag("h3", record["step"]), _show_list(facts))


def _show_list(facts: Mapping[str, object]) -> Markup:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", fact)) for name, fact in facts.items() if fact))


def _show_values(values: Mapping[str, Any]) -> Markup:
    return join(
        (
            tag("span", tag("i", name), " ", tag("data", _write(value), value=keep_value(value)), class_="value")
            for name, value in values.items()
            if value is not None
        ),
        " ",
    )


def _write(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_write(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_write, value))
    return json.dumps(value, default=str)
