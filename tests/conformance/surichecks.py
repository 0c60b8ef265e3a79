"""The checks of suricata-verify: how many records of a type match all given fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class Filter:
    """`count` records of `event_type` have all of `match` (dotted names to values, as Suricata's JSON log has them)."""

    event_type: str
    match: dict[str, Any]
    count: int

    def __str__(self) -> str:
        return f"{self.event_type} {self.match}"


def filters(path: Path, event_type: str) -> Iterator[Filter]:
    """Filters on one event type, without those for old versions only (`lt-version`)."""
    checks = yaml.safe_load(path.read_text(encoding="utf-8")).get("checks") or []
    for check in checks:
        found = check.get("filter")
        if found is None or found.get("match", {}).get("event_type") != event_type:
            continue
        requires = {**(check.get("requires") or {}), **(found.get("requires") or {})}
        if "lt-version" in requires:
            continue
        match = {name: value for name, value in found["match"].items() if name != "event_type"}
        yield Filter(event_type=event_type, match=match, count=found["count"])
