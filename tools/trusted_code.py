"""Counts the lines that must be trusted, for docs/trusted-code.md: `python tools/trusted_code.py`; `--check` compares.

A line counts if there is code on it: no comments, documentation, blank lines, and no tests inside of Rust files.
`--check` allows each number to have moved by a tenth, so that the page need not change with every commit; a source
file that belongs to no part is an error.
"""

from __future__ import annotations

import io
import re
import sys
import token
import tokenize
from pathlib import Path

from pages import ROOT, made

PAGE = ROOT / "docs" / "trusted-code.md"
_PROCESS = "src/bunker/closed/process/"
_OPEN = "src/bunker/open/"
# Part to the paths it is made of: a folder (ends with /) or a file; the longest path that fits decides.
PARTS: dict[str, tuple[str, ...]] = {
    "jail": ("crates/jail/", _PROCESS + "jail.py", _PROCESS + "launcher.py", "crates/py/src/jail.rs"),
    "supervisor and set-up": (_PROCESS, "src/bunker/closed/egress/target.py", "src/bunker/closed/__init__.py"),
    "capturer": ("src/bunker/closed/capture/", _PROCESS + "capturer.py", _PROCESS + "link.py"),
    "spool": ("src/bunker/closed/spool/",),
    "reader of capture files": (
        "crates/wire/src/capfile.rs",
        "crates/wire/src/packer.rs",
        "crates/wire/src/zstd.rs",
        "crates/wire/src/bpf.rs",
        "crates/py/src/capture.rs",
    ),
    "worker: packets to messages": ("crates/wire/", "crates/proto/", "crates/py/"),
    "worker: analyzers": (
        "src/bunker/closed/analyze/",
        "src/bunker/analyzers/",
        "src/bunker/api/",
        _PROCESS + "worker.py",
    ),
    "gate": ("crates/clear/", "crates/py/src/clear.rs", "crates/py/src/trace.rs", "src/bunker/closed/clear/"),
    "releaser": ("src/bunker/closed/egress/", _PROCESS + "releaser.py", _PROCESS + "frames.py"),
    "policy language": ("src/bunker/policy/",),
    "experiment and bundle": ("src/bunker/experiment/",),
    "formats and values": (
        "src/bunker/model/",
        "src/bunker/native/",
        "src/bunker/limits.py",
        "src/bunker/errors.py",
        "src/bunker/__init__.py",
    ),
    "verification": tuple(
        f"{_OPEN}{name}.py"
        for name in ("verify", "verifier", "verdict", "diagnosis", "arrow", "files", "manifest", "attestation")
    ),
    "open box": (_OPEN,),
    "machine: process 1 of the image": ("src/bunker/closed/machine/",),
    "image: builder and launcher": ("src/bunker/image/",),
    "commands": ("src/bunker/cli/",),
    "diagnostic mode and bench": (
        _PROCESS + "inline.py",
        _PROCESS + "capture_bench.py",
        "src/bunker/closed/machine/bench.py",
        "src/bunker/cli/bench/",
        "src/bunker/cli/dissect.py",
    ),
}
CLAIMS: dict[str, tuple[str, ...]] = {
    "A field that the policy does not name does not leave, even if capturer and workers are hijacked": (
        "gate",
        "releaser",
        "policy language",
        "experiment and bundle",
        "formats and values",
        "jail",
        "supervisor and set-up",
    ),
    "A hijacked worker or capturer reaches no network, no file, no other process": ("jail", "supervisor and set-up"),
    "What is on the disk is noise once the run is over": ("spool", "capturer", "supervisor and set-up", "jail"),
    "The sealed image starts nothing but the box, answers nobody, and its disks are noise once it is off": (
        "machine: process 1 of the image",
        "image: builder and launcher",
        "spool",
        "capturer",
        "supervisor and set-up",
        "jail",
    ),
    "`bunker verify --key` says whole only of what the holder of the key signed": (
        "verification",
        "formats and values",
    ),
}


def _python_lines(text: str) -> int:
    """Lines with code; a string that is a statement is documentation."""
    lines: set[int] = set()
    fresh = True
    quiet = {token.COMMENT, token.NL, token.NEWLINE, token.INDENT, token.DEDENT, token.ENDMARKER, token.ENCODING}
    for kind, _, (first, _), (last, _), _ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind in quiet:
            fresh = True if kind in (token.NEWLINE, token.INDENT, token.DEDENT) else fresh
            continue
        if not (kind == token.STRING and fresh):
            lines.update(range(first, last + 1))
        fresh = False
    return len(lines)


def _rust_lines(text: str) -> int:
    text = re.split(r"^#\[cfg\(test\)\]\n(?:#!?\[.*\n)*mod \w+ \{", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = (line.strip() for line in text.splitlines())
    return sum(1 for line in lines if line and not line.startswith("//"))


def part_of(path: str) -> str | None:
    """The part that a file belongs to, None if to none."""
    fits = [
        (len(place), part)
        for part, places in PARTS.items()
        for place in places
        if path == place or (place.endswith("/") and path.startswith(place))
    ]
    return max(fits)[1] if fits else None


def counts() -> dict[str, int]:
    """Lines of each part.

    Raises:
        LookupError: a source file belongs to no part.
    """
    found = dict.fromkeys(PARTS, 0)
    for path in sorted([*(ROOT / "src").glob("**/*.py"), *(ROOT / "crates").glob("*/src/**/*.rs")]):
        name = path.relative_to(ROOT).as_posix()
        part = part_of(name)
        if part is None:
            raise LookupError(f"{name} belongs to no part: place it in tools/trusted_code.py")
        if Path(name).name == "tests.rs":
            continue
        text = path.read_text(encoding="utf-8")
        found[part] += _python_lines(text) if path.suffix == ".py" else _rust_lines(text)
    return found


def page(found: dict[str, int]) -> str:
    """The two tables."""
    lines = ["| part | lines of code | where |", "|---|---:|---|"]
    for part, lines_of in found.items():
        lines.append(f"| {part} | {lines_of:,} | {', '.join(f'`{place}`' for place in PARTS[part])} |")
    lines += ["", "| claim | must be trusted | lines of code |", "|---|---|---:|"]
    for claim, parts in CLAIMS.items():
        lines.append(f"| {claim} | {', '.join(parts)} | {sum(found[part] for part in parts):,} |")
    return "\n".join(lines)


def stale(found: dict[str, int]) -> list[str]:
    """Parts whose number on the page is off by more than a tenth (and 20 lines)."""
    told = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    numbers = {part: int(text.replace(",", "")) for part, text in told.items()}
    return [part for part, lines in found.items() if abs(numbers.get(part, 0) - lines) > max(lines // 10, 20)]


def main() -> int:
    """Write the page, or check it."""
    found = counts()
    if sys.argv[1:] != ["--check"]:
        return made(__file__, PAGE, page(found))
    parts = stale(found)
    if parts:
        sys.stderr.write(
            f"docs/trusted-code.md is not current ({', '.join(parts)}); run python tools/trusted_code.py\n"
        )
    return 1 if parts else 0


if __name__ == "__main__":
    sys.exit(main())
