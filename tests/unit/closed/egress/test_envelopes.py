"""The maker of the stream: what it takes, what it refuses, what it says."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from dataclasses import replace

import pytest
from enveloping import (
    BALANCED,
    SCHEMAS,
    Clearing,
    birth_of,
    cut,
    pulse_at,
    sightings,
    some_events,
    usual,
    visits,
    worker_batch,
)

from bunker import limits
from bunker.closed.egress.envelopes import Envelopes
from bunker.errors import BoxError, GateRefusal, VerificationError
from bunker.model import heartbeat
from bunker.model.counters import Counter
from bunker.model.envelope import Kind
from bunker.model.heartbeat import AbortReason, EndReason, Heartbeat, OutputField, OutputSchema, Start, parse
from bunker.native.clear import ClearedBatch


class Lookalike:
    """Everything that a cleared batch has, but not cleared."""

    record = "sighting"
    num_rows = 3

    def ipc(self) -> bytes:
        return worker_batch("sighting", sightings(3))


@pytest.fixture
def clearing() -> Clearing:
    return Clearing()


@pytest.fixture
def maker(clearing: Clearing) -> Envelopes:
    return Envelopes(birth_of(clearing), cleared=ClearedBatch)


def test_only_what_the_gate_made_becomes_records(maker: Envelopes, clearing: Clearing) -> None:
    maker.start()
    with pytest.raises(GateRefusal, match="not_cleared"):
        maker.records(Lookalike())
    with pytest.raises(GateRefusal, match="not_cleared"):
        maker.records(worker_batch("sighting", sightings(3)))  # type: ignore[arg-type]
    (made,) = cut(maker.records(clearing.clear("sighting", sightings(3))))
    assert (made.kind, made.number) == (Kind.RECORDS, 1)


def test_a_cleared_batch_has_no_other_maker(clearing: Clearing) -> None:
    batch = clearing.clear("sighting", sightings(1))
    with pytest.raises(TypeError):
        ClearedBatch()
    with pytest.raises(TypeError):
        type("Mine", (ClearedBatch,), {})
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(batch)
    with pytest.raises(AttributeError):
        batch.record = "visit"  # type: ignore[misc]


def test_a_record_that_the_start_does_not_declare_is_refused(clearing: Clearing) -> None:
    birth = birth_of(clearing)
    maker = Envelopes(replace(birth, schemas=birth.schemas[:1]), cleared=ClearedBatch)
    maker.start()
    assert birth.schemas[0].record == "sighting"
    with pytest.raises(GateRefusal, match="schema"):
        maker.records(clearing.clear("visit", visits(1)))
    maker.records(clearing.clear("sighting", sightings(1)))  # a refusal costs no number
    assert cut(maker.heartbeat(pulse_at(1)))[0].number == 2


def test_a_batch_longer_than_an_envelope_is_refused(
    maker: Envelopes, clearing: Clearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.start()
    batch = clearing.clear("visit", visits(50))
    for size, fits in ((len(batch.ipc()) + 7, False), (len(batch.ipc()) + 8, True)):
        monkeypatch.setattr(limits, "ENVELOPE_RECORDS_BYTES", limits.Limit(default=size, unit="bytes", reason="test"))
        if fits:
            assert cut(maker.records(batch))[0].number == 1
        else:
            with pytest.raises(GateRefusal, match="size"):
                maker.records(batch)


def test_nothing_comes_before_the_start_or_after_the_last(maker: Envelopes) -> None:
    with pytest.raises(BoxError, match="before the start"):
        maker.heartbeat(pulse_at(0))
    maker.start()
    with pytest.raises(BoxError, match="a second start"):
        maker.start()
    assert not maker.ended
    maker.end(pulse_at(1, **BALANCED), reason=EndReason.DONE)
    assert maker.ended
    for late in (
        lambda: maker.heartbeat(pulse_at(2)),
        lambda: maker.diagnostics(some_events()),
        lambda: maker.end(pulse_at(2), reason=EndReason.DONE),
        lambda: maker.abort(pulse_at(2), reason=AbortReason.OPERATOR),
    ):
        with pytest.raises(BoxError, match="after the end"):
            late()


def test_the_key_is_gone_after_the_last_word(maker: Envelopes) -> None:
    maker.start()
    maker.abort(pulse_at(1), reason=AbortReason.CHILD_FAILED)
    assert maker._key is None


def test_every_run_has_a_key_of_its_own(clearing: Clearing) -> None:
    birth = birth_of(clearing)
    prints = {Envelopes(birth, cleared=ClearedBatch).fingerprint for _ in range(8)}
    assert len(prints) == 8


def test_numbers_count_up_and_each_names_the_one_before() -> None:
    envelopes = cut(usual().whole)
    assert [one.number for one in envelopes] == list(range(9))
    assert envelopes[0].previous == bytes(32)
    assert all(two.previous == one.hash for one, two in itertools.pairwise(envelopes))


def test_the_start_says_what_the_run_is(clearing: Clearing) -> None:
    birth = birth_of(clearing)
    maker = Envelopes(birth, cleared=ClearedBatch)
    (envelope,) = cut(maker.start())
    start = parse(envelope.body, Start)
    assert (start.run, start.tier, start.bundle, start.policy) == (birth.run.hex(), "process", "ab" * 32, birth.policy)
    assert start.enforcement == {"seccomp": "enforced", "landlock_files": "missing: capturer"}
    assert [schema.record for schema in start.schemas] == sorted(SCHEMAS)
    assert heartbeat.same_fingerprint(maker.fingerprint, heartbeat.fingerprint(bytes.fromhex(start.public_key)))


def test_a_heartbeat_says_every_counter_and_what_was_released(maker: Envelopes, clearing: Clearing) -> None:
    maker.start()
    maker.records(clearing.clear("visit", visits(5)))
    maker.diagnostics(some_events())
    pulse = pulse_at(7, live_raw_bytes=11, oldest_raw_age_ns=12, keys_created=5, keys_destroyed=3, gaps=2)
    (envelope,) = cut(maker.heartbeat(pulse))
    beat = parse(envelope.body, Heartbeat)
    assert set(beat.counters) == {counter.value for counter in Counter}
    assert beat.counters["gaps"] == 2
    said = (beat.live_raw_bytes, beat.oldest_raw_age_ns, beat.keys_created, beat.keys_destroyed)
    assert said == (11, 12, 5, 3)
    assert beat.rows == {"sighting": 0, "visit": 5}
    assert beat.envelopes == {"start": 1, "records": 1, "heartbeat": 0, "diagnostics": 1, "end": 0, "abort": 0}
    assert beat.chain == envelope.previous.hex()


@pytest.mark.parametrize("reason", EndReason)
def test_an_end_says_why(maker: Envelopes, reason: EndReason) -> None:
    maker.start()
    (envelope,) = cut(maker.end(pulse_at(1, **BALANCED), reason=reason))
    said = json.loads(bytes(envelope.body))
    assert (envelope.kind, said["reason"]) == (Kind.END, reason.value)
    assert heartbeat.imbalance(said["last"]["counters"]) == 0


@pytest.mark.parametrize("reason", AbortReason)
def test_an_abort_says_why(maker: Envelopes, reason: AbortReason) -> None:
    maker.start()
    (envelope,) = cut(maker.abort(pulse_at(1), reason=reason))
    assert (envelope.kind, json.loads(bytes(envelope.body))["reason"]) == (Kind.ABORT, reason.value)


def test_facts_that_break_the_format_are_refused_before_the_start(clearing: Clearing) -> None:
    birth = birth_of(clearing)
    odd = OutputSchema(record="visit", fields=[OutputField(name="ts", type="Time", arrow="Map", nullable=True)])
    for wrong in (
        replace(birth, bundle="no digest"),
        replace(birth, heartbeat_ns=0),
        replace(birth, schemas=(odd,)),
        replace(birth, schemas=(birth.schemas[0], birth.schemas[0])),
        replace(birth, enforcement={"seccomp": "a line\nbreak"}),
    ):
        with pytest.raises(VerificationError):
            Envelopes(wrong, cleared=ClearedBatch)


def test_a_repr_of_an_envelope_holds_no_content() -> None:
    for envelope in cut(usual().whole):
        assert "raw" not in repr(envelope)
        assert len(repr(envelope)) < 300
