"""Makes docs/limits.md out of the bounds in the source: `python tools/limits_page.py`; `--check` compares."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from pages import ROOT, made

from bunker import limits

_RUST = ROOT / "crates" / "wire" / "src" / "limits.rs"
_FIELD = re.compile(r"((?:    /// .*\n)+)    pub (\w+): u\d+,")
_CONSTANT = re.compile(r"((?:/// .*\n)+)pub const (\w+): (?:usize|u8|u16|u32|u64) = ([\d_]+(?: << \d+)?);")
_NUMBER = re.compile(r"([\d_]+)(?: << (\d+))?(?: \* SECOND)?$")
# Constants of formats and protocols, and places of words; every other public number of the core bounds something.
_NO_BOUNDS = {"PACKED_HEADER", "FIN", "SYN", "RST", "ACK", "UID"}


def value_of(expression: str) -> int:
    """The number that a Rust expression of these files stands for."""
    expression = "1 * SECOND" if expression == "SECOND" else expression
    match = _NUMBER.match(expression)
    if match is None:
        raise ValueError(f"limits_page cannot read {expression!r}")
    value = int(match[1].replace("_", "")) << int(match[2] or 0)
    return value * 10**9 if expression.endswith("SECOND") else value


def shown(value: int, unit: str) -> str:
    """A number with its unit, for people."""
    if unit == "bytes":
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value >= size and value % size == 0:
                return f"{value // size} {name}"
    if unit == "ns":
        return f"{value / 1e9:g} s"
    return f"{value:,} {unit}".strip()


def _words(comment: str) -> str:
    return " ".join(line.strip().removeprefix("///").strip() for line in comment.strip().splitlines())


def _unit(name: str) -> str:
    low = name.lower()
    return next((unit for unit in ("bytes", "ns", "rows", "packets") if low.endswith(f"_{unit}")), "")


def python_rows() -> Iterator[str]:
    """One row for each bound of `bunker.limits`."""
    for name, limit in limits.table().items():
        yield f"| `{name}` | {shown(limit.default, limit.unit)} | {limit.reason} |"


def wire_rows() -> Iterator[str]:
    """One row for each bound of the wire."""
    text = _RUST.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^            (\w+): ([^,]+),$", text, re.MULTILINE))
    for comment, name in _FIELD.findall(text):
        yield f"| `{name}` | {shown(value_of(defaults[name]), _unit(name))} | {_words(comment)} |"


def constant_rows() -> Iterator[str]:
    """One row for each public number of the pure crates that bounds something and stands in no limits file."""
    for path in sorted((ROOT / "crates").glob("*/src/**/*.rs")):
        if path == _RUST:
            continue
        place = path.relative_to(ROOT).as_posix()
        for comment, name, expression in _CONSTANT.findall(path.read_text(encoding="utf-8")):
            if name not in _NO_BOUNDS:
                yield f"| `{name}` | {shown(value_of(expression), _unit(name))} | {place} | {_words(comment)} |"


def page() -> str:
    """The tables."""
    lines = ["## Python: `src/bunker/limits.py`", "", "| name | default | reason |", "|---|---|---|", *python_rows()]
    lines += [
        "",
        "## Wire: `crates/wire/src/limits.rs`",
        "",
        "| name | default | meaning and precedent |",
        "|---|---|---|",
    ]
    lines += [*wire_rows(), "", "## Elsewhere in the core", ""]
    lines += ["Public numbers of the crates that bound something and stand in neither file.", ""]
    lines += ["| name | default | file | meaning |", "|---|---|---|---|", *constant_rows()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(made(__file__, ROOT / "docs" / "limits.md", page()))
