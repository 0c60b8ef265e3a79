"""The hand page: the core's words and Python's are the same, and the supervisor reads what the worker writes."""

from __future__ import annotations

from bunker.closed.analyze import runner
from bunker.closed.process.hand import HandReader, Phase, Word, create_page, open_hand
from bunker.native.wire import fault_words, hand_words


def test_the_core_writes_the_words_that_are_read() -> None:
    assert hand_words() == (Word.UID, Word.CALLS, Word.PACKET)


def test_the_supervisor_reads_what_the_worker_shows() -> None:
    fd = create_page()
    hand, reader = open_hand(fd), HandReader(fd)
    assert reader.read().phase is Phase.START
    hand.set(Word.PHASE, Phase.CALL)
    hand.set(Word.UID, (3 << 48) + 9)
    assert (reader.read().phase, reader.read().uid) == (Phase.CALL, (3 << 48) + 9)


def test_a_phase_that_is_none_reads_as_the_start() -> None:
    fd = create_page()
    open_hand(fd).set(Word.PHASE, 2**63)
    assert HandReader(fd).read().phase is Phase.START


def test_every_reason_is_one_the_core_knows() -> None:
    reasons = {runner.word_of(error) for error in (MemoryError(), SystemExit(), ValueError(), runner.CallTimedOut())}
    reasons.add(runner.word_of(runner.TooManyRecords()))
    assert reasons <= set(fault_words())
