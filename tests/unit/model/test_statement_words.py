"""Words of statements are whole words: what ends in a line break is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bunker.model.heartbeat import Digest, FieldName, RecordName, RunHex, Word

WORDS: list[tuple[Any, str]] = [
    (RecordName, "http_2"),
    (FieldName, "orig_h"),
    (Word, "missing: capturer"),
    (Digest, "ab" * 32),
    (RunHex, "ab" * 16),
]


@pytest.mark.parametrize(("kind", "word"), WORDS)
def test_a_word_is_taken(kind: Any, word: str) -> None:
    assert msgspec.convert(word, kind) == word


@pytest.mark.parametrize(("kind", "word"), WORDS)
@pytest.mark.parametrize("behind", ["\n", "\r\n", "\x00", "\u2028"])
def test_a_word_and_a_line_break_is_refused(kind: Any, word: str, behind: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(word + behind, kind)
