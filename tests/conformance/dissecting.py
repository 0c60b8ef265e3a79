"""Our side: what `bunker dissect` prints for an input, as rows by kind."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from bunker.cli.dissect import dissect
from bunker.native.wire import message_kinds

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Dissection:
    """Rows by kind, in the order in which they were told; `rows("http")` is empty for a kind that did not occur."""

    exit_code: int
    counters: dict[str, int]
    complaint: str
    by_kind: dict[str, list[Row]] = field(repr=False)

    def rows(self, kind: str) -> list[Row]:
        """Rows of one kind."""
        return self.by_kind.get(kind, [])

    def flows_of(self, kind: str) -> dict[str, list[Row]]:
        """Rows of one kind by flow, in the order of the flows' first rows."""
        found: dict[str, list[Row]] = {}
        for row in self.rows(kind):
            found.setdefault(row["uid"], []).append(row)
        return found


def kinds() -> list[str]:
    """Kinds of messages that the core knows."""
    return [str(kind) for kind in message_kinds()]


@functools.lru_cache(maxsize=8)  # several comparers look at the same input, one after the other
def dissected(path: Path, *, verify: bool) -> Dissection:
    """Run the command on one capture file, with every kind of message, heads, bodies and hashes."""
    words = [str(path), "--json", "--bodies", "--hashes", "--counters", "--messages", ",".join(kinds())]
    words += ["--checksums", "verify" if verify else "ignore"]
    result = CliRunner().invoke(dissect, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    rows: dict[str, list[Row]] = defaultdict(list)
    for line in result.stdout.splitlines():
        row = msgspec.json.decode(line)
        rows[row.pop("message")].append(row)
    counters = rows.pop("counters", [{}])[0]
    return Dissection(exit_code=result.exit_code, counters=counters, complaint=result.stderr, by_kind=dict(rows))
