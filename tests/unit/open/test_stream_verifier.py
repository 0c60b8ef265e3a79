"""Each rule of the verifier has a stream that breaks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from enveloping import (
    BALANCED,
    SECOND_NS,
    Clearing,
    birth_of,
    cut,
    other,
    pulse_at,
    record,
    some_events,
    usual,
)
from forging import Liar, Statement, flipped, lying, refit, with_head

from bunker import limits
from bunker.closed.egress.envelopes import Envelopes
from bunker.model import diagnostics
from bunker.model.envelope import (
    HEADER_BYTES,
    SEALED_MAGIC,
    EnvelopeReader,
    EnvelopeRefused,
    Kind,
    Refusal,
    records_head,
)
from bunker.model.heartbeat import EndReason
from bunker.native.clear import ClearedBatch
from bunker.open.verdict import REASONS, WORD_OF, Word
from bunker.open.verifier import StreamVerifier

Case = Callable[[], bytes]


def refusal_of(stream: bytes, *, pinned: tuple[str, ...] = ()) -> tuple[Refusal, int] | None:
    """What the reader or the verifier refuses first, and which envelope."""
    verifier, reader = StreamVerifier(pinned=pinned), EnvelopeReader()
    try:
        for envelope in reader.feed(stream):
            verifier.feed(envelope)
    except EnvelopeRefused as refused:
        return refused.kind, refused.number
    return None


def lie_about(kind: Kind, **fields: object) -> bytes:
    """The usual story in which statements of a kind have other fields (`last` of an end is meant, too)."""

    def lie(said: Kind, statement: Statement) -> None:
        if said is kind:
            statement.update({name: value for name, value in fields.items() if name in statement})
            beat = statement.get("last", {})
            beat.update({name: value for name, value in fields.items() if name in beat})

    return b"".join(lying(lie).out)


def told_with(*extra: tuple[Kind, tuple[bytes, ...]], before: int = 9) -> bytes:
    """The usual story by another key with envelopes put in before that number."""
    liar = Liar()
    story = cut(usual().whole)
    liar.tell(story[:before])
    for kind, body in extra:
        liar.put(kind, *body)
    return b"".join(liar.out)


_RAW = usual().envelopes
_ARROW = bytes(cut(_RAW[3])[0].body)[8:]


def with_counters(**counters: int) -> bytes:
    """A run whose end says so."""
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing), cleared=ClearedBatch)
    said = BALANCED | counters
    return maker.start() + maker.end(pulse_at(1, **said), reason=EndReason.DONE)


def with_beats(*pulses: dict[str, int]) -> bytes:
    """A run with these heartbeats; `second` is the monotonic clock's."""
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing), cleared=ClearedBatch)
    beats = (maker.heartbeat(pulse_at(said.pop("second"), **said)) for said in map(dict, pulses))
    return maker.start() + b"".join(beats)


FIELD = {"name": "n", "type": "Count", "arrow": "UInt64", "nullable": True}


def headless(body: bytes) -> bytes:
    """A start, then records with this body."""
    liar = Liar()
    liar.tell(cut(_RAW[0]))
    liar.put(Kind.RECORDS, body)
    return b"".join(liar.out)


def undeclared(record_number: int, rows: int, *, first: int = 8) -> bytes:
    """Records of this number, as envelope `first`."""
    liar = Liar()
    liar.tell(cut(usual().whole)[:first])
    liar.put(Kind.RECORDS, records_head(record_number, rows), _ARROW)
    return b"".join(liar.out)


def reformatted() -> bytes:
    """A start with a space in it."""
    liar = Liar()
    liar.tell(cut(_RAW[0]))
    body = bytes(cut(liar.out[0])[0].body).replace(b'"tier":', b'"tier": ')
    again = Liar()
    again._key = liar._key
    again.put(Kind.START, body)
    return b"".join(again.out)


def with_more() -> bytes:
    """A start with a note in it."""

    def lie(kind: Kind, statement: Statement) -> None:
        statement["note"] = "x"

    liar = Liar(lie)
    liar.tell(cut(_RAW[0]))
    return b"".join(liar.out)


CASES: dict[str, tuple[Refusal, int, Case]] = {
    "no envelope at all": (Refusal.MAGIC, 0, lambda: b"HTTP/1.1 200 OK\r\n\r\n"),
    "no envelope behind the first": (Refusal.MAGIC, 1, lambda: _RAW[0] + b"\x00" * 200),
    "an envelope that is sealed to somebody": (Refusal.SEALED, 0, lambda: SEALED_MAGIC + bytes(200)),
    "another version": (Refusal.VERSION, 1, lambda: _RAW[0] + with_head(_RAW[1], version=2)),
    "version zero": (Refusal.VERSION, 0, lambda: with_head(_RAW[0], version=0)),
    "a header's byte": (Refusal.HEADER_CHECK, 2, lambda: b"".join(_RAW[:2]) + flipped(_RAW[2], 33)),
    "reserved is used": (Refusal.HEADER, 1, lambda: _RAW[0] + with_head(_RAW[1], reserved=1)),
    "a kind that does not exist": (Refusal.HEADER, 1, lambda: _RAW[0] + with_head(_RAW[1], kind=7)),
    "kind zero": (Refusal.HEADER, 1, lambda: _RAW[0] + with_head(_RAW[1], kind=0)),
    "longer than a statement": (
        Refusal.LENGTH,
        1,
        lambda: _RAW[0] + with_head(_RAW[1], length=limits.ENVELOPE_STATEMENT_BYTES.default + 1),
    ),
    "longer than records": (
        Refusal.LENGTH,
        2,
        lambda: b"".join(_RAW[:2]) + with_head(_RAW[2], length=limits.ENVELOPE_RECORDS_BYTES.default + 1),
    ),
    "a body's byte": (Refusal.CHECK, 2, lambda: b"".join(_RAW[:2]) + flipped(_RAW[2], HEADER_BYTES)),
    "a signature's byte": (Refusal.CHECK, 1, lambda: _RAW[0] + flipped(_RAW[1], len(_RAW[1]) - 5)),
    "another run": (Refusal.RUN, 1, lambda: _RAW[0] + other().envelopes[1]),
    "the same once more": (Refusal.NUMBER_AGAIN, 1, lambda: _RAW[0] + _RAW[1] + _RAW[1]),
    "one left out": (Refusal.NUMBER_SKIPPED, 2, lambda: _RAW[0] + _RAW[2]),
    "made over other bytes": (
        Refusal.CHAIN,
        3,
        lambda: b"".join((*_RAW[:2], refit(flipped(_RAW[2], HEADER_BYTES + 40)), _RAW[3])),
    ),
    "no start": (Refusal.NOT_START, 0, lambda: with_head(_RAW[1], number=0, previous=bytes(32))),
    "a second start": (Refusal.NOT_START, 2, lambda: told_with((Kind.START, (b"{}",)), before=2)),
    "records behind the end": (
        Refusal.AFTER_LAST,
        9,
        lambda: told_with((Kind.RECORDS, (records_head(0, 3), _ARROW))),
    ),
    "events behind the end": (
        Refusal.AFTER_LAST,
        9,
        lambda: told_with((Kind.DIAGNOSTICS, (diagnostics.encode(some_events()),))),
    ),
    "a signature of another": (Refusal.SIGNATURE, 1, lambda: _RAW[0] + refit(flipped(_RAW[1], len(_RAW[1]) - 20))),
    "a statement's byte": (Refusal.SIGNATURE, 1, lambda: _RAW[0] + refit(flipped(_RAW[1], HEADER_BYTES + 30))),
    "a start's byte": (Refusal.SIGNATURE, 0, lambda: refit(_RAW[0].replace(b"abab", b"abac", 1))),
    "a start's run is another than its header's": (Refusal.BODY, 0, lambda: lie_about(Kind.START, run="22" * 16)),
    "formats of the future": (
        Refusal.BODY,
        0,
        lambda: lie_about(Kind.START, formats={"envelope": 2, "records": 1}),
    ),
    "a record twice": (
        Refusal.BODY,
        0,
        lambda: lie_about(Kind.START, schemas=[{"record": "a", "fields": [FIELD]}, {"record": "a", "fields": [FIELD]}]),
    ),
    "a record with a path for a name": (
        Refusal.BODY,
        0,
        lambda: lie_about(Kind.START, schemas=[{"record": "../a", "fields": [FIELD]}]),
    ),
    "a field twice": (
        Refusal.BODY,
        0,
        lambda: lie_about(Kind.START, schemas=[{"record": "a", "fields": [FIELD, FIELD]}]),
    ),
    "a record without fields": (
        Refusal.BODY,
        0,
        lambda: lie_about(Kind.START, schemas=[{"record": "a", "fields": []}]),
    ),
    "a type that records cannot have": (
        Refusal.BODY,
        0,
        lambda: lie_about(Kind.START, schemas=[{"record": "a", "fields": [FIELD | {"arrow": "Map"}]}]),
    ),
    "a record that is not declared": (Refusal.BODY, 8, lambda: undeclared(2, 3)),
    "more rows than a batch may have": (
        Refusal.BODY,
        1,
        lambda: undeclared(0, limits.RECORD_ROWS.default + 1, first=1),
    ),
    "records without a head": (Refusal.BODY, 1, lambda: headless(b"\x00" * 7)),
    "records with reserved bits": (Refusal.BODY, 1, lambda: headless(b"\x00\x00\x01\x00\x00\x00\x00\x00" + _ARROW)),
    "events that are no events": (Refusal.BODY, 8, lambda: told_with((Kind.DIAGNOSTICS, (b"[]",)), before=8)),
    "an event with a text": (
        Refusal.BODY,
        8,
        lambda: told_with(
            (Kind.DIAGNOSTICS, (b'[{"at_ns":1,"kind":"gap","reason":"user@canary.example"}]',)), before=8
        ),
    ),
    "rows that are not there": (Refusal.COUNTS, 1, lambda: lie_about(Kind.HEARTBEAT, rows={"sighting": 0, "visit": 1})),
    "rows of a record that is not declared": (
        Refusal.COUNTS,
        1,
        lambda: lie_about(Kind.HEARTBEAT, rows={"sighting": 0, "visit": 0, "more": 0}),
    ),
    "envelopes that are not there": (Refusal.COUNTS, 8, lambda: lie_about(Kind.END, envelopes={"start": 1})),
    "another bundle": (Refusal.CONSTANTS, 1, lambda: lie_about(Kind.HEARTBEAT, bundle="00" * 32)),
    "another image": (Refusal.CONSTANTS, 1, lambda: lie_about(Kind.HEARTBEAT, image="00" * 32)),
    "another tier": (Refusal.CONSTANTS, 1, lambda: lie_about(Kind.HEARTBEAT, tier="appliance")),
    "another start": (Refusal.CONSTANTS, 1, lambda: lie_about(Kind.HEARTBEAT, started_ns=1)),
    "another enforcement": (Refusal.CONSTANTS, 8, lambda: lie_about(Kind.END, enforcement="00" * 32)),
    "another chain": (Refusal.CONSTANTS, 1, lambda: lie_about(Kind.HEARTBEAT, chain="00" * 32)),
    "a clock that goes back": (Refusal.BACKWARDS, 2, lambda: with_beats({"second": 5}, {"second": 4})),
    "keys that are created back": (
        Refusal.BACKWARDS,
        2,
        lambda: with_beats({"second": 5, "keys_created": 2}, {"second": 6, "keys_created": 1}),
    ),
    "keys that come to life again": (
        Refusal.BACKWARDS,
        2,
        lambda: with_beats({"second": 5, "keys_destroyed": 2}, {"second": 6, "keys_destroyed": 1}),
    ),
    "a packet too many": (Refusal.BALANCE, 1, lambda: with_counters(packets_received=101)),
    "a packet too few": (Refusal.BALANCE, 1, lambda: with_counters(packets_destroyed=11)),
    "raw traffic that lives on": (Refusal.BALANCE, 1, lambda: with_counters(live_raw_bytes=1)),
    "a key that lives on": (Refusal.BALANCE, 1, lambda: with_counters(keys_destroyed=3)),
    "a statement that is not canonical": (Refusal.BODY, 0, reformatted),
    "a field that no start has": (Refusal.BODY, 0, with_more),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_rule_is_refused_by_its_name(name: str) -> None:
    kind, number, make = CASES[name]
    assert refusal_of(make()) == (kind, number)


def test_every_refusal_has_a_case_a_word_and_a_reason() -> None:
    tried = {kind for kind, _, _ in CASES.values()} | {Refusal.KEY}  # the pin has tests of its own, below
    assert tried == set(Refusal) == set(WORD_OF) == set(REASONS)
    assert Word.WHOLE not in WORD_OF.values()
    assert Word.ABORTED not in WORD_OF.values()


def test_the_story_itself_is_accepted_from_any_key() -> None:
    assert refusal_of(usual().whole) is None
    assert refusal_of(b"".join(lying().out)) is None


def test_a_pinned_key_takes_no_other() -> None:
    assert refusal_of(usual().whole, pinned=(usual().fingerprint,)) is None
    assert refusal_of(usual().whole, pinned=(other().fingerprint, usual().fingerprint.upper())) is None
    assert refusal_of(other().whole, pinned=(usual().fingerprint,)) == (Refusal.KEY, 0)


def test_a_refused_envelope_leaves_no_trace() -> None:
    verifier = StreamVerifier()
    for envelope in cut(usual().whole):
        for stranger in (cut(other().envelopes[1])[0], cut(with_head(envelope.raw, previous=b"\x01" * 32))[0]):
            before = (verifier.accepted, verifier.attested, verifier.last, dict(verifier.attested_rows))
            if verifier.accepted:
                with pytest.raises(EnvelopeRefused):
                    verifier.feed(stranger)
            assert (verifier.accepted, verifier.attested, verifier.last, verifier.attested_rows) == before
        verifier.feed(envelope)
    assert verifier.verdict().word is Word.WHOLE


def test_what_no_signature_covers_is_not_attested() -> None:
    verifier = StreamVerifier()
    rows = []
    for envelope in cut(usual().whole):
        verifier.feed(envelope)
        rows.append((verifier.accepted - verifier.attested, verifier.attested_rows.get("visit")))
    assert rows == [(0, 0), (0, 0), (1, 0), (2, 0), (0, 5), (1, 5), (0, 5), (1, 5), (0, 9)]


def test_what_was_accepted_is_known_again_and_nothing_else() -> None:
    verifier = StreamVerifier()
    mine, strange = cut(usual().whole), cut(other().whole)
    for envelope in mine[:6]:
        verifier.feed(envelope)
    assert [verifier.repeated(envelope) for envelope in mine] == [True] * 6 + [False] * 3
    assert not any(map(verifier.repeated, strange))


def test_clock_steps_silence_and_counters_that_fall_are_noted() -> None:
    def lie(kind: Kind, statement: Statement) -> None:
        if statement.get("monotonic_ns") == 110 * SECOND_NS:
            statement["now_ns"] += 60 * SECOND_NS
        if statement.get("monotonic_ns") == 120 * SECOND_NS:
            statement["monotonic_ns"] += 500 * SECOND_NS
            statement["counters"]["packets_received"] = 1
        if "last" in statement:
            statement["last"]["monotonic_ns"] += 600 * SECOND_NS

    verifier = StreamVerifier()
    for raw in lying(lie).out:
        verifier.feed(cut(raw)[0])
    verdict = verifier.verdict()
    assert verdict.word is Word.WHOLE
    notes = " / ".join(verdict.warnings)
    assert "envelope 4: the box's clock stepped by +60.0 s" in notes
    assert "envelope 6: the first sign of life after 510 s" in notes
    assert "envelope 6: counters went back: packets_received" in notes


def test_levels_may_fall_without_a_note() -> None:
    beats = with_beats({"second": 1, "live_raw_bytes": 9, "flows_open": 4}, {"second": 2})
    verifier = StreamVerifier()
    for envelope in cut(beats):
        verifier.feed(envelope)
    assert not any("went back" in note for note in verifier.verdict().warnings)


def test_an_abort_need_not_balance() -> None:
    verifier = StreamVerifier()
    stream = record(abort=True)
    for envelope in cut(stream.whole):
        verifier.feed(envelope)
    verdict = verifier.verdict()
    assert verdict.word is Word.ABORTED
    assert (verdict.reason, verdict.exit_code) == ("operator", 1)


def test_an_empty_stream_is_truncated() -> None:
    verdict = StreamVerifier().verdict()
    assert verdict.word is Word.TRUNCATED
    assert verdict.findings[0].text == "not one whole envelope"
