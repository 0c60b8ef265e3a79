"""The peers' inputs: found, described, and, where they are no captures, wrapped into one.

The corpus is not part of the tree: it lies beside it (`../shared/corpus`) or where `$BUNKER_CORPUS` says. Its README is
a set of tables, one row for each input; they are read here so that a new input needs no change of code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CAPTURES = frozenset({".pcap", ".pcapng"})


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input with what lies next to it.

    `words` are the capability words of the README (`http-chunked`, `tcp-gap` ...); `exercises` and `note` its text.
    """

    source: str
    path: Path
    words: frozenset[str]
    exercises: str
    note: str

    @property
    def name(self) -> str:
        """`zeek/http-get.pcap`: how the case is called in tables and lists of differences."""
        return f"{self.source}/{self.path.name}"

    @property
    def is_capture(self) -> bool:
        """Whether the input has packets (else a comparer's maker wraps it)."""
        return self.path.suffix in CAPTURES

    @property
    def verifies_checksums(self) -> bool:
        """Whether the peer dropped packets with wrong checksums: Zeek and Suricata do unless told not to."""
        ignored = any(said in self.note for said in ("ignored checksums", "-k none"))
        return self.source in ("zeek", "suricata-verify") and not ignored

    def expected(self, suffix: str) -> Path | None:
        """The expected file `<stem>.<suffix>`, or `<name>.<suffix>`, if there is one."""
        for stem in (self.path.stem, self.path.name):
            found = self.path.with_name(f"{stem}.{suffix}")
            if found.exists():
                return found
        return None


def folder() -> Path | None:
    """Where the corpus is, if it is here."""
    named = os.environ.get("BUNKER_CORPUS")
    places = [Path(named)] if named else [ROOT.parent / "shared" / "corpus", ROOT.parent.parent / "shared" / "corpus"]
    return next((place for place in places if (place / "README.md").is_file()), None)


_WORDS = re.compile(r"\[([^\[\]]+)\]\s*$")


def _rows(text: str) -> Iterator[tuple[str, list[str]]]:
    """(source, cells) of each input's row."""
    source = ""
    for line in text.splitlines():
        if heading := re.match(r"## (\S+)/ ", line):
            source = heading[1]
        elif source and line.startswith("| ") and not line.startswith("| file |"):
            cells = [cell.strip().replace("&#124;", "|") for cell in line.strip().strip("|").split(" | ")]
            yield source, cells


@cache
def cases() -> tuple[Case, ...]:
    """Every input of the corpus, in the README's order; empty without a corpus."""
    found = folder()
    if found is None:
        return ()
    listed = []
    for source, cells in _rows((found / "README.md").read_text(encoding="utf-8")):
        path = found / source / cells[0]
        if not path.is_file():
            raise FileNotFoundError(f"the corpus lists {source}/{cells[0]} and does not have it")
        words = _WORDS.search(cells[2])
        listed.append(
            Case(
                source=source,
                path=path,
                words=frozenset(word.strip() for word in words[1].split(",")) if words else frozenset(),
                exercises=_WORDS.sub("", cells[2]).strip(),
                note=cells[4].strip(" |") if len(cells) > 4 else "",
            )
        )
    return tuple(listed)
