"""Every engine finds the same expressions in the same bytes, and refuses the same ones."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunker.api.patterns import ENGINES, Patterns
from bunker.errors import ConfigurationError

EXPRESSIONS = (
    r"verify your account",
    r"<form[^>]{0,200}action=[\"']?http://\d{1,3}\.\d{1,3}",
    r"pass(?:word|wd)?\s*[:=]",
    r"^<!doctype",
    r"</html>$",
    r"a.c",
    r"[\x80-\xff]{3}",
    r"xn--[a-z0-9-]+",
    r"[$]\d+",
    r"\$x",
)
CASES = {
    b"": set(),
    b"Please VERIFY YOUR ACCOUNT": {0, 5},
    b"<FORM method=post action='http://192.0.2.1/x'>": {1},
    b"Password : x": {2},
    b"<!DOCTYPE html>a\nc</html>": {3, 4, 5},
    b"</html>\n": set(),
    b"\xff\xfe\xfd": {6},
    b"http://XN--PYPAL-4VE.com costs $100": {7, 8},
    b"$x": {9},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("data", CASES)
def test_every_engine_finds_what_is_there(engine: str, data: bytes) -> None:
    assert Patterns(EXPRESSIONS, engine=engine).found_in(data) == CASES[data]


_ALL = [Patterns(EXPRESSIONS, engine=engine) for engine in ENGINES]
_WORDS = [
    b"verify your account",
    b"<form action=http://10.2",
    b"pass =",
    b"<!doctype",
    b"</html>",
    b"a\nc",
    b"$1",
    b"\n",
    b"\xe9\xe9\xe9",
]


@given(st.lists(st.one_of(st.sampled_from(_WORDS), st.binary(max_size=6)), max_size=8))
def test_engines_agree_on_any_bytes(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    first, *others = (one.found_in(data) for one in _ALL)
    assert all(other == first for other in others)


@pytest.mark.parametrize("engine", [None, *ENGINES])
@pytest.mark.parametrize(
    "expression", [r"(a)\1", r"(?=a)b", r"(?<!a)b", r"a++", "(", "[", r"(?P<n>a)(?(n)b)", "\u0416"]
)
def test_what_no_automaton_can_have_is_refused_by_its_number(engine: str | None, expression: str) -> None:
    with pytest.raises(ConfigurationError, match="expression 1"):
        Patterns(["fine", expression], engine=engine)


def test_the_fastest_engine_is_taken_and_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Patterns(["a"]).engine == "vectorscan"
    monkeypatch.setitem(__import__("sys").modules, "hyperscan", None)
    assert Patterns(["a"]).engine == "re2"
    monkeypatch.setitem(__import__("sys").modules, "re2", None)
    assert Patterns(["a"]).engine == "re"
    with pytest.raises(ConfigurationError, match="not installed"):
        Patterns(["a"], engine="re2")


@pytest.mark.parametrize("engine", ENGINES)
def test_no_expression_finds_nothing(engine: str) -> None:
    assert Patterns([], engine=engine).found_in(b"abc") == frozenset()


@pytest.mark.parametrize("expression", [r"[(?=]", r"\+\+", r"[]\1]", r"(?P<name>a)", r"(?:a)", r"a\\1", r"[$]"])
def test_what_only_looks_like_it_is_taken(expression: str) -> None:
    assert Patterns([expression], engine="re").found_in(b"") == frozenset()


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("vectorscan, re2, re")):
        Patterns(["a"], engine="pcre")
