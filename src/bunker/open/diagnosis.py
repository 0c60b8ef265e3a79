"""Diagnosis of a stream that was refused: looks at all of it, and says what happened to it.

Place in the flow: `verify`, after StreamVerifier has refused an envelope.

Rules of this file:
1. It believes nothing: it compares numbers, runs and hashes, and never says that something is good.
2. The words and their order are those of `docs/formats/envelope.md`.
Limits: 200 bytes of memory for an envelope of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bunker.model.envelope import Envelope, EnvelopeReader, EnvelopeRefused
from bunker.open.verdict import Finding, Word
from bunker.open.verifier import finding_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    run: bytes
    number: int
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found, and how many envelopes could be cut apart."""

    findings: tuple[Finding, ...]
    envelopes: int


def diagnose(pieces: Iterable[bytes], refused: EnvelopeRefused) -> Diagnosis:
    """Say what happened to a stream in which the verifier refused an envelope.

    Args:
        pieces: The stream from its beginning.
        refused: What the verifier said: the answer if the stream as a whole shows nothing.
    """
    seen: list[_Seen] = []
    damage: EnvelopeRefused | None = None
    try:
        seen.extend(map(_seen, _envelopes(pieces)))
    except EnvelopeRefused as error:
        damage = error
    findings: list[Finding] = [] if damage is None else [finding_of(damage)]
    if seen:
        findings += _of_other_runs(seen)
        own = [one for one in seen if one.run == seen[0].run]
        findings += _out_of_chain(own)
        findings += _twice(own)
        findings += _absent(own)
        findings += _out_of_order(own)
    return Diagnosis(findings=tuple(findings) or (finding_of(refused),), envelopes=len(seen))


def _envelopes(pieces: Iterable[bytes]) -> Iterator[Envelope]:
    reader = EnvelopeReader()
    for piece in pieces:
        yield from reader.feed(piece)


def _seen(envelope: Envelope) -> _Seen:
    return _Seen(run=envelope.run, number=envelope.number, previous=envelope.previous, hash=envelope.hash)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring numbers as (first, last)."""
    first = last = None
    for number in sorted(numbers):
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def _of_other_runs(seen: list[_Seen]) -> Iterator[Finding]:
    strangers = [one.number for one in seen if one.run != seen[0].run]
    if strangers:
        text = f"{len(strangers)} of another run stand in the stream; the first of them has this number"
        yield Finding(word=Word.SPLICED, text=text, first=strangers[0])


def _out_of_chain(own: list[_Seen]) -> Iterator[Finding]:
    """A number that stands in one version only, whose successor's `previous` is not its hash."""
    by_number: dict[int, set[tuple[bytes, bytes]]] = {}
    for one in own:
        by_number.setdefault(one.number, set()).add((one.previous, one.hash))
    for number in sorted(by_number):
        after = by_number.get(number + 1)
        if after is None or len(after) > 1 or len(by_number[number]) > 1:
            continue
        if next(iter(after))[0] != next(iter(by_number[number]))[1]:
            yield Finding(word=Word.ALTERED, text="the next one was made over other bytes than these", first=number)


def _twice(own: list[_Seen]) -> Iterator[Finding]:
    versions: dict[int, list[bytes]] = {}
    for one in own:
        versions.setdefault(one.number, []).append(one.hash)
    again = [number for number, hashes in versions.items() if len(hashes) > len(set(hashes))]
    for first, last in _ranges(again):
        yield Finding(word=Word.REPLAYED, text="there more than once", first=first, last=last)
    for first, last in _ranges(number for number, hashes in versions.items() if len(set(hashes)) > 1):
        yield Finding(word=Word.FORGED, text="there in two versions", first=first, last=last)


def _absent(own: list[_Seen]) -> Iterator[Finding]:
    there = sorted({one.number for one in own})
    before = -1
    for number in there:
        if number > before + 1:
            yield Finding(word=Word.MISSING, text="not there, though later ones are", first=before + 1, last=number - 1)
        before = number


def _out_of_order(own: list[_Seen]) -> Iterator[Finding]:
    place: dict[int, int] = {}
    for one in own:
        place.setdefault(one.number, len(place))
    first_seen = list(place)
    late = [number for number, before in zip(first_seen[1:], first_seen, strict=False) if number < before]
    for first, last in _ranges(late):
        yield Finding(word=Word.REORDERED, text="behind a later one", first=first, last=last)
