"""Known differences: `differences/<capability>.toml`, each with a reason that the peer's author would accept.

[[difference]]
case = "zeek/http-get.pcap"        # or several: cases = ["...", "..."]
facts = ["resp_mime_type"]         # exactly those that differ
reason = "libmagic's name; ours is the registered one"
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec


class Difference(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One entry. `case` and `cases` add up."""

    facts: list[str]
    reason: str
    case: str | None = None
    cases: list[str] = []

    def names(self) -> list[str]:
        """The cases it is about."""
        return [*self.cases, *([self.case] if self.case else [])]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    difference: list[Difference] = []


FOLDER = Path(__file__).with_name("differences")


@cache
def differences() -> dict[tuple[str, str], Difference]:
    """(capability, case) to its entry; an entry that is listed twice is an error."""
    found: dict[tuple[str, str], Difference] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        for entry in msgspec.toml.decode(path.read_bytes(), type=_File).difference:
            for case in entry.names():
                if (path.stem, case) in found:
                    raise ValueError(f"{path.name}: {case} is listed twice")
                found[path.stem, case] = entry
    return found
