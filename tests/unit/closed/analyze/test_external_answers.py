"""Answers of a program: cut the same however they arrive, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunker import limits
from bunker.closed.analyze.external import Answers

MOST = limits.EXTERNAL_OUTPUT_BYTES.default


def cut(text: bytes, sizes: list[int]) -> tuple[list[list[bytes]], list[bytes]]:
    answers, found, at = Answers(), list[list[bytes]](), 0
    for size in [*sizes, len(text)]:
        found += list(answers.feed(text[at : at + size]))
        at += size
    return found, answers.rest()


def test_an_empty_line_ends_an_answer() -> None:
    assert cut(b"a\nb\n\n\r\n\nc\n\nd", []) == ([[b"a", b"b"], [], [], [b"c"]], [b"d"])


@given(st.lists(st.sampled_from([b"a", b"bb", b"\n", b" ", b"\r\n"]), max_size=40), st.lists(st.integers(0, 5)))
def test_pieces_change_nothing(parts: list[bytes], sizes: list[int]) -> None:
    text = b"".join(parts)
    assert cut(text, sizes) == cut(text, [1] * len(text)) == cut(text, [])


@pytest.mark.parametrize("text", [b"x" * (MOST + 1), b"x\n" * (MOST + 1)])
def test_an_answer_without_an_end_is_refused(text: bytes) -> None:
    with pytest.raises(OverflowError):
        list(Answers().feed(text))


def test_answers_up_to_the_bound_pass_one_after_the_other() -> None:
    answers = Answers()
    for _ in range(3):
        assert [len(answer[0]) for answer in answers.feed(b"x" * MOST + b"\n\n")] == [MOST]


def test_what_is_forgotten_is_gone() -> None:
    answers = Answers()
    assert list(answers.feed(b"half")) == []
    answers.forget()
    assert list(answers.feed(b"whole\n\n")) == [[b"whole"]]
