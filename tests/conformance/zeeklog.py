"""Zeek's tab separated logs, as rows of text; values that are unset are None."""

from __future__ import annotations

import re
from pathlib import Path

_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


def unescaped(text: str) -> bytes:
    """Bytes behind a field: Zeek writes `\\xNN` for what is no printable UTF-8."""
    raw = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)


def read_log(path: Path) -> list[dict[str, str | None]]:
    """Rows by field name. In files that were cut the first line that is no comment has the names."""
    names: list[str] = []
    rows: list[dict[str, str | None]] = []
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
        if line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif not line or line.startswith("#"):
            continue
        elif not names:
            names = line.split("\t")
        else:
            values = line.split("\t")
            rows.append({name: None if value == "-" else value for name, value in zip(names, values, strict=False)})
    return rows
