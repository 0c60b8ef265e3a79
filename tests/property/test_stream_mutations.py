"""Whatever is done to a recorded stream is found, and called by its name (docs/formats/envelope.md)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from enveloping import Stream, aborted, cut, other, record, shortest, stored_as, usual, without_end
from forging import dropped, duplicated, flipped, lying, refit, replaced, restamped, swapped, with_head
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bunker.model.envelope import HEADER_BYTES, EnvelopeReader, EnvelopeRefused
from bunker.open.verdict import Verdict, Word
from bunker.open.verify import verify

Verify = Callable[[Sequence[bytes]], Verdict]
STREAMS = {"usual": usual, "aborted": aborted, "shortest": shortest, "truncated": lambda: without_end(usual())}
GOOD = {"usual": Word.WHOLE, "aborted": Word.ABORTED, "shortest": Word.WHOLE, "truncated": Word.TRUNCATED}

seeded = settings(
    max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def verified(tmp_path: Path) -> Verify:
    """Verifies envelopes as a file, with the key of the usual run pinned if it is told to."""

    def check(envelopes: Sequence[bytes], *, key: str | None = None) -> Verdict:
        verdict = verify(stored_as(tmp_path / "stream.env", envelopes), () if key is None else (key,))
        assert (verdict.exit_code == 0) is (verdict.word is Word.WHOLE)
        assert bool(verdict.findings) is (verdict.word not in (Word.WHOLE, Word.ABORTED))
        return verdict

    return check


@pytest.fixture(params=sorted(STREAMS))
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def stream(name: str) -> Stream:
    return STREAMS[name]()


def test_untouched_streams_keep_their_word(name: str, stream: Stream, verified: Verify) -> None:
    verdict = verified(stream.envelopes, key=stream.fingerprint)  # type: ignore[call-arg]
    assert verdict.word is GOOD[name]
    assert verdict.pinned
    assert verdict.attested == len(stream) - (1 if name == "truncated" else 0)  # its last records are nobody's


def test_dropping_any_one_is_found(stream: Stream, verified: Verify) -> None:
    for which in range(len(stream)):
        verdict = verified(dropped(stream.envelopes, which))
        if which == len(stream) - 1:
            assert verdict.word is Word.TRUNCATED, which
        else:
            assert verdict.word is Word.MISSING, which
            assert (verdict.findings[0].first, verdict.findings[0].last) == (which, which)


def test_duplicating_any_one_anywhere_is_found(stream: Stream, verified: Verify) -> None:
    for which in range(len(stream)):
        for before in range(len(stream) + 1):
            verdict = verified(duplicated(stream.envelopes, which, before))
            assert verdict.word is Word.REPLAYED, (which, before)
            assert verdict.findings[0].first == which


def test_swapping_any_two_is_found(stream: Stream, verified: Verify) -> None:
    for one, two in combinations(range(len(stream)), 2):
        assert verified(swapped(stream.envelopes, one, two)).word is Word.REORDERED, (one, two)


def test_any_order_but_the_right_one_is_found(verified: Verify) -> None:
    stream = usual().envelopes
    for seed in range(50):
        shuffled = random.Random(seed).sample(stream, len(stream))
        assert verified(shuffled).word is (Word.WHOLE if tuple(shuffled) == stream else Word.REORDERED), seed


@seeded
@given(data=st.data())
def test_changing_any_byte_is_found(stream: Stream, verified: Verify, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(stream) - 1))
    raw = stream.envelopes[which]
    at = data.draw(st.one_of(st.integers(0, len(raw) - 1), st.integers(0, HEADER_BYTES - 1)))
    edited = flipped(raw, at, data.draw(st.integers(1, 255)))
    assert verified(replaced(stream.envelopes, which, edited)).word is Word.ALTERED


def test_changing_each_byte_of_a_short_stream_is_found(verified: Verify) -> None:
    stream = shortest().envelopes
    for which, raw in enumerate(stream):
        for at in range(0, len(raw), 1 if at_edge(0, raw) else 3):
            assert verified(replaced(stream, which, flipped(raw, at, 0x80))).word is Word.ALTERED, (which, at)


def at_edge(at: int, raw: bytes) -> bool:
    """Whether a byte is of header, signature or check."""
    return at < HEADER_BYTES or at >= len(raw) - 68


@seeded
@given(data=st.data())
def test_changing_a_body_and_mending_its_checks_is_found(stream: Stream, verified: Verify, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(stream) - 1))
    raw = stream.envelopes[which]
    at = data.draw(st.integers(HEADER_BYTES, len(raw) - 5))
    edited = refit(flipped(raw, at, data.draw(st.integers(1, 255))))
    verdict = verified(replaced(stream.envelopes, which, edited))
    if which < len(stream) - 1:
        # The next one was made over the true bytes.
        assert verdict.word is Word.ALTERED
        assert verdict.findings[0].first == which
    elif cut(raw)[0].kind.signed:
        assert verdict.word is Word.FORGED
    else:
        # Nobody vouches for the last records, so they are not stored as rows; a rule they break is seen even so.
        assert verdict.word in (Word.TRUNCATED, Word.FORGED)
        assert verdict.attested == len(stream) - 1


@seeded
@given(data=st.data())
def test_changing_one_and_mending_the_whole_chain_is_found(
    stream: Stream, verified: Verify, data: st.DataObject
) -> None:
    which = data.draw(st.integers(0, len(stream) - 1))
    raw = stream.envelopes[which]
    at = data.draw(st.integers(HEADER_BYTES, len(raw) - 5))
    edited = replaced(stream.envelopes, which, refit(flipped(raw, at, data.draw(st.integers(1, 255)))))
    signed_after = any(cut(one)[0].kind.signed for one in stream.envelopes[which:])
    verdict = verified(restamped(edited, which + 1))
    if signed_after:
        assert verdict.word is Word.FORGED
    else:
        # As above: an unsigned tail, of which no row is stored.
        assert verdict.word in (Word.TRUNCATED, Word.FORGED)
        assert verdict.attested == len(stream) - 1


@seeded
@given(data=st.data())
def test_changing_any_header_field_and_mending_the_checks_is_found(
    stream: Stream, verified: Verify, data: st.DataObject
) -> None:
    which = data.draw(st.integers(0, len(stream) - 1))
    had = cut(stream.envelopes[which])[0]
    field, value = data.draw(
        st.sampled_from(
            [
                ("magic", b"BNKX"),
                ("version", 2),
                ("kind", had.kind % 6 + 1),
                ("kind", 9),
                ("reserved", 1),
                ("run", b"\x00" * 16),
                ("number", had.number + 1),
                ("number", had.number + 1000),
                ("length", len(had.body) + 1),
                ("length", len(had.body) - 1),
                ("length", 0xFFFF_FFFF),
                ("previous", b"\x01" * 32),
            ]
        )
    )
    verdict = verified(replaced(stream.envelopes, which, with_head(had.raw, **{field: value})))
    unattested_end = which == len(stream) - 1 and not had.kind.signed
    assert verdict.word not in (Word.WHOLE, Word.ABORTED)
    assert verdict.word is not Word.TRUNCATED or unattested_end or field == "length"
    if field == "version":
        assert verdict.word is Word.UNSUPPORTED
    if field == "run":
        assert verdict.word is Word.SPLICED


def test_cutting_the_tail_anywhere_is_found(stream: Stream, verified: Verify) -> None:
    whole = stream.whole
    ends = {0}
    for one in stream.envelopes:
        ends.add(max(ends) + len(one))
    for length in sorted({*range(0, len(whole), 97), *ends, *(end - 1 for end in ends if end)} - {len(whole)}):
        verdict = verified([whole[:length]])
        assert verdict.word is Word.TRUNCATED, length
        assert verdict.attested <= sum(end <= length for end in ends)


def test_cutting_the_head_is_found(stream: Stream, verified: Verify) -> None:
    for first in range(1, len(stream)):
        verdict = verified(stream.envelopes[first:])
        assert verdict.word is Word.MISSING
        assert (verdict.findings[0].first, verdict.findings[0].last) == (0, first - 1)
        assert verdict.attested == 0


def test_splicing_two_runs_anywhere_is_found(stream: Stream, verified: Verify) -> None:
    second = other().envelopes
    for first in range(1, len(stream) + 1):
        for at in range(len(second)):
            assert verified((*stream.envelopes[:first], *second[at:])).word is Word.SPLICED, (first, at)


def test_splicing_two_runs_and_mending_checks_and_chain_is_found(verified: Verify) -> None:
    one, two = usual().envelopes, other().envelopes
    for at in range(1, len(one)):
        assert verified(restamped((*one[:at], *two[at:]), at)).word is Word.FORGED, at


def test_one_envelope_of_another_run_is_found_wherever_it_stands(stream: Stream, verified: Verify) -> None:
    for at in range(1, len(stream) + 1):
        for stranger in other().envelopes:
            assert verified((*stream.envelopes[:at], stranger, *stream.envelopes[at:])).word is Word.SPLICED


def test_two_runs_with_one_name_are_found(verified: Verify) -> None:
    one, two = record(run=b"\x33" * 16).envelopes, record(run=b"\x33" * 16).envelopes
    for at in range(1, len(one) - 1):
        assert verified((*one[:at], *two[at:])).word is Word.ALTERED, at
    assert verified((*one, *two)).word is Word.FORGED


def test_a_whole_stream_by_another_key_is_forged_only_under_a_pin(verified: Verify) -> None:
    forged = lying()
    unpinned = verified(forged.out)
    assert unpinned.word is Word.WHOLE
    assert any("no key was pinned" in note for note in unpinned.warnings)
    verdict = verified(forged.out, key=usual().fingerprint)  # type: ignore[call-arg]
    assert verdict.word is Word.FORGED
    assert verdict.attested == 0


def test_an_older_run_in_place_of_this_one_is_found_under_a_pin(verified: Verify) -> None:
    assert verified(other().envelopes, key=usual().fingerprint).word is Word.FORGED  # type: ignore[call-arg]


def test_signatures_of_another_key_in_the_middle_are_found(verified: Verify) -> None:
    stream = usual().envelopes
    liar = lying()
    for which, raw in enumerate(stream):
        kind = cut(raw)[0].kind
        if kind.signed and which:
            edited = (*stream[:which], *liar.out[which:])
            assert verified(restamped(edited, which)).word is Word.FORGED


@pytest.mark.parametrize("tail", [b"\x00", b"BNK", b"BNKE", b"junk", b"BNKE" + bytes(68)])
def test_bytes_behind_the_end_are_found(tail: bytes, stream: Stream, name: str, verified: Verify) -> None:
    word = verified((*stream.envelopes, tail)).word
    if name == "truncated":
        assert word in (Word.TRUNCATED, Word.ALTERED)
    else:
        assert word in (Word.FORGED, Word.ALTERED)


@seeded
@given(data=st.data())
def test_several_changes_at_once_are_never_whole(verified: Verify, data: st.DataObject) -> None:
    stream: tuple[bytes, ...] = usual().envelopes
    kinds = st.sampled_from(["drop", "duplicate", "swap", "edit", "cut", "insert"])
    for kind in data.draw(st.lists(kinds, min_size=1, max_size=4)):
        if len(stream) < 2:
            break
        index = st.integers(0, len(stream) - 1)
        match kind:
            case "drop":
                stream = dropped(stream, data.draw(index))
            case "duplicate":
                stream = duplicated(stream, data.draw(index), data.draw(index))
            case "swap":
                stream = swapped(stream, data.draw(index), data.draw(index))
            case "edit":
                which = data.draw(index)
                raw = stream[which]
                stream = replaced(stream, which, flipped(raw, data.draw(st.integers(0, len(raw) - 1))))
            case "cut":
                stream = stream[: data.draw(index)]
            case _:
                stream = duplicated((*stream, other().envelopes[4]), len(stream), data.draw(index))
    word = verified(stream).word
    assert (word is Word.WHOLE) is (stream == usual().envelopes)


@seeded
@given(data=st.data())
def test_pieces_of_any_size_give_the_same_envelopes(data: st.DataObject) -> None:
    whole = usual().whole
    reader = EnvelopeReader()
    out: list[bytes] = []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    for start, end in pairwise([0, *cuts, len(whole)]):
        out += [envelope.raw for envelope in reader.feed(whole[start:end])]
    assert tuple(out) == usual().envelopes
    assert reader.waiting == 0


def test_single_bytes_give_the_same_envelopes() -> None:
    reader = EnvelopeReader()
    out = [envelope.raw for byte in usual().whole for envelope in reader.feed(bytes([byte]))]
    assert tuple(out) == usual().envelopes


@seeded
@given(junk=st.binary(max_size=400))
def test_any_bytes_are_envelopes_or_refused(junk: bytes) -> None:
    reader = EnvelopeReader()
    try:
        assert list(reader.feed(junk)) == []
    except EnvelopeRefused:
        with pytest.raises(EnvelopeRefused):
            list(reader.feed(b""))
