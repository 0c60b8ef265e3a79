"""The verdict: one word for a run, what was found, and since when.

Rules of this file:
1. The words and their order are those of `docs/formats/envelope.md`; `WHOLE` is the only one that exits with 0.
2. A finding is made of our words, numbers and times; nothing of a record stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from bunker.model.counters import Counter
from bunker.model.envelope import Refusal
from bunker.model.heartbeat import Start


class Word(StrEnum):
    """What a reader concludes, the gravest first."""

    UNSUPPORTED = "unsupported"
    SPLICED = "spliced"
    ALTERED = "altered"
    REPLAYED = "replayed"
    MISSING = "missing"
    REORDERED = "reordered"
    FORGED = "forged"
    UNBALANCED = "unbalanced"
    TRUNCATED = "truncated"
    ABORTED = "aborted"
    WHOLE = "whole"


_ORDER: dict[Word, int] = {word: place for place, word in enumerate(Word)}

WORD_OF: dict[Refusal, Word] = {
    Refusal.MAGIC: Word.ALTERED,
    Refusal.SEALED: Word.ALTERED,
    Refusal.VERSION: Word.UNSUPPORTED,
    Refusal.HEADER_CHECK: Word.ALTERED,
    Refusal.HEADER: Word.FORGED,
    Refusal.LENGTH: Word.FORGED,
    Refusal.CHECK: Word.ALTERED,
    Refusal.RUN: Word.SPLICED,
    Refusal.NUMBER_AGAIN: Word.REPLAYED,
    Refusal.NUMBER_SKIPPED: Word.MISSING,
    Refusal.CHAIN: Word.ALTERED,
    Refusal.NOT_START: Word.FORGED,
    Refusal.AFTER_LAST: Word.FORGED,
    Refusal.SIGNATURE: Word.FORGED,
    Refusal.KEY: Word.FORGED,
    Refusal.BODY: Word.FORGED,
    Refusal.COUNTS: Word.UNBALANCED,
    Refusal.CONSTANTS: Word.UNBALANCED,
    Refusal.BACKWARDS: Word.UNBALANCED,
    Refusal.BALANCE: Word.UNBALANCED,
}
"""The word for a refusal, as far as one envelope can tell; `verify` looks at the whole stream and may know better."""

REASONS: dict[Refusal, str] = {
    Refusal.MAGIC: "bytes that are no envelope",
    Refusal.SEALED: "it is sealed to an open box: receive it there with --private-key FILE",
    Refusal.VERSION: "another version of the format",
    Refusal.HEADER_CHECK: "its header's check does not fit",
    Refusal.HEADER: "its header breaks a rule",
    Refusal.LENGTH: "it is longer than its kind may be",
    Refusal.CHECK: "its check does not fit",
    Refusal.RUN: "it belongs to another run",
    Refusal.NUMBER_AGAIN: "its number was there before",
    Refusal.NUMBER_SKIPPED: "numbers before it are missing",
    Refusal.CHAIN: "the hash of the envelope before it does not fit",
    Refusal.NOT_START: "a run begins with a start statement, and has one",
    Refusal.AFTER_LAST: "it follows the last statement",
    Refusal.SIGNATURE: "its signature does not hold",
    Refusal.KEY: "it is signed by another key than the one pinned: an older run, another box, or a forgery",
    Refusal.BODY: "its body breaks a rule",
    Refusal.COUNTS: "it counts other rows or envelopes than there are",
    Refusal.CONSTANTS: "it contradicts the start statement",
    Refusal.BACKWARDS: "its clock or its keys go back",
    Refusal.BALANCE: "packets, raw bytes or keys are unaccounted for at the end",
}


WITHHELD: dict[Counter, str] = {
    Counter.RECORDS_DESTROYED: "destroyed before they left",
    Counter.RECORDS_REFUSED: "of batches that the gate refused",
    Counter.RECORDS_SAMPLED_OUT: "not in the policy's sample",
}
"""What is told of rows that did not leave although a rule would have let them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `first` to `last` are the envelopes concerned, if it is about envelopes."""

    word: Word
    text: str
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.first is None:
            return f"{self.word.value}: {self.text}"
        numbers = (
            f"envelope {self.first}" if self.last in (None, self.first) else f"envelopes {self.first} to {self.last}"
        )
        return f"{self.word.value}: {numbers}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What holds of a run.

    Attributes:
        attested: Envelopes that signatures cover, counted from the first without a fault.
        unattested: Envelopes read behind those.
        since_ns: The box's claimed time of the last statement that holds: what is wrong came after it.
        rows: Attested rows by record.
        counters: Of the last statement that holds.
        warnings: What does not change the word: clock steps, silence, a key that is not pinned.
    """

    word: Word
    findings: tuple[Finding, ...] = ()
    start: Start | None = None
    fingerprint: str | None = None
    pinned: bool = False
    attested: int = 0
    unattested: int = 0
    since_ns: int | None = None
    reason: str | None = None
    rows: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 for a whole run alone."""
        return 0 if self.word is Word.WHOLE else 1


def gravest(findings: Iterable[Finding], otherwise: Word) -> Word:
    """The first word in the order that applies."""
    return min((finding.word for finding in findings), key=_ORDER.__getitem__, default=otherwise)


def harmless(text: str) -> str:
    """Text without anything that a terminal obeys: control and formatting characters stand as their escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def at(time_ns: int | None) -> str:
    """A box's claimed time, readable."""
    if time_ns is None:
        return "its start"
    return datetime.fromtimestamp(time_ns // 10**9, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def told(verdict: Verdict) -> list[str]:
    """The verdict as lines for a person."""
    lines = [f"verdict      {verdict.word.value.upper()}"]
    if verdict.fingerprint is not None:
        lines.append(f"key          {verdict.fingerprint}  ({'pinned' if verdict.pinned else 'not pinned'})")
    if verdict.start is not None:
        lines.append(f"run          {verdict.start.run}, started {at(verdict.start.started_ns)}")
        lines.append(f"box          {verdict.start.tier.value}; bundle {verdict.start.bundle}")
    if verdict.reason is not None:
        lines.append(f"ended        {verdict.reason}")
    behind = f"; {verdict.unattested} behind them attested by nobody" if verdict.unattested else ""
    lines.append(f"attested     {verdict.attested} envelopes{behind}")
    lines += [f"rows         {record}: {rows}" for record, rows in sorted(verdict.rows.items())]
    for counter, what in WITHHELD.items():
        if verdict.counters.get(counter.value):
            lines.append(f"withheld     {verdict.counters[counter.value]} rows {what}")
    lines += [f"found        {finding}" for finding in verdict.findings]
    if verdict.word not in (Word.WHOLE, Word.ABORTED):
        lines.append(f"since        {at(verdict.since_ns)}: up to there everything holds")
    lines += [f"note         {warning}" for warning in verdict.warnings]
    return lines
