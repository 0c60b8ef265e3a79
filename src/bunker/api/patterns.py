"""Many regular expressions at once over bytes: which of them occur.

    from bunker.api.patterns import Patterns

    SIGNS = Patterns(["<form[^>]{0,200}action=[\"']http://[0-9]", "verify your account"])

    if SIGNS.found_in(tx.resp_body or b""): ...

The paper found that one expression cost an online tracer all of its speed. Hundreds cost a closed box little, if they
are compiled into one automaton. Three engines, the first that is installed is taken:

| engine | package | hundreds of expressions |
|---|---|---|
| vectorscan | `hyperscan` (extra `patterns`) | gigabits a second a core |
| re2 | `google-re2` (extra `patterns`) | hundreds of megabits |
| re | Python's own | one after the other: a few megabits |

Rules of this file:
1. Expressions are bytes against bytes, case does not count, `.` takes line ends, `^` and `$` are ends of the data.
2. What an automaton cannot have (back-references, look-around) is refused by every engine, so that an experiment means
   the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from bunker.errors import ConfigurationError

ENGINES = ("vectorscan", "re2", "re")
_TOKEN = re.compile(
    r"""
    \\. |                                   # an escape
    \[\^?\]?(?:\\.|[^\]\\])*\] |            # a class
    \(\?(?:P[=<]|<[=!]|[=!>(])? |            # what a group begins with
    [*+?}]\+ |                              # a possessive repeat
    .
    """,
    re.DOTALL | re.VERBOSE,
)
_NO_AUTOMATON = re.compile(r"\\[1-9]|\(\?(?:P=|<[=!]|[=!>(])|[*+?}]\+")


class _Engine(Protocol):
    def __init__(self, expressions: Sequence[str]) -> None: ...

    def found_in(self, data: bytes) -> frozenset[int]: ...


class Patterns:
    """A set of expressions, compiled once.

    Args:
        expressions: Regular expressions in the syntax that Python, RE2 and Hyperscan share.
        engine: One of `ENGINES`; None: the fastest that is installed.
    Attributes:
        engine: The one that was taken.
    Raises:
        ConfigurationError: an expression is none or no automaton can have it; the engine is not installed.
    """

    def __init__(self, expressions: Sequence[str], *, engine: str | None = None) -> None:
        for number, expression in enumerate(expressions):
            _check(number, expression)
        for name in ENGINES if engine is None else (engine,):
            try:
                self._engine = _of(name)(expressions)
            except ImportError:
                continue
            self.engine = name
            return
        raise ConfigurationError(
            f"patterns, engine {engine}", "is not installed", "Install the extra: pip install 'bunker[patterns]'"
        )

    def found_in(self, data: bytes) -> frozenset[int]:
        """The numbers of the expressions that occur."""
        return self._engine.found_in(data)


def _check(number: int, expression: str) -> None:
    thing = f"patterns, expression {number}"
    try:
        re.compile(expression.encode("latin-1"))
    except (re.error, OverflowError, RecursionError, UnicodeEncodeError):
        raise ConfigurationError(
            thing, "is no regular expression over bytes", "See Python's re for its syntax"
        ) from None
    if any(_NO_AUTOMATON.fullmatch(token) for token in _TOKEN.findall(expression)):
        raise ConfigurationError(
            thing, "has a back-reference, look-around or possessive part", "Write it without: no automaton has these"
        )


def _of(name: str) -> type[_Engine]:
    known: dict[str, type[_Engine]] = {"vectorscan": _Vectorscan, "re2": _Re2, "re": _Re}
    if name not in known:
        raise ConfigurationError(f"patterns, engine {name!r}", "is unknown", f"Known: {', '.join(ENGINES)}")
    return known[name]


class _Vectorscan:
    """One automaton, vector instructions."""

    def __init__(self, expressions: Sequence[str]) -> None:
        import hyperscan  # noqa: PLC0415 - an extra

        flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_DOTALL | hyperscan.HS_FLAG_SINGLEMATCH
        self._database = hyperscan.Database()
        try:
            if expressions:
                self._database.compile(
                    expressions=[_ending(expression, r"\z") for expression in expressions],
                    ids=list(range(len(expressions))),
                    elements=len(expressions),
                    flags=[flags | hyperscan.HS_FLAG_ALLOWEMPTY] * len(expressions),
                )
        except hyperscan.error:
            raise ConfigurationError(
                "patterns", "vectorscan cannot compile one of the expressions", "Shorten its bounded repeats"
            ) from None
        self._empty = not expressions

    def found_in(self, data: bytes) -> frozenset[int]:
        found: set[int] = set()
        if not self._empty:
            self._database.scan(data, match_event_handler=lambda number, *_rest: found.add(number))
        return frozenset(found)


class _Re2:
    """One automaton, portable."""

    def __init__(self, expressions: Sequence[str]) -> None:
        import re2  # noqa: PLC0415 - an extra

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.case_sensitive, options.dot_nl, options.log_errors = False, True, False
        options.max_mem = 1 << 28
        self._set = re2.Set.SearchSet(options)
        try:
            for expression in expressions:
                self._set.Add(_ending(expression, r"\z"))
        except re2.error:
            raise ConfigurationError(
                "patterns", "re2 cannot compile one of the expressions", "Shorten its bounded repeats"
            ) from None
        self._empty = not expressions
        if expressions:
            self._set.Compile()

    def found_in(self, data: bytes) -> frozenset[int]:
        return frozenset() if self._empty else frozenset(self._set.Match(data) or ())


class _Re:
    """One expression after the other."""

    def __init__(self, expressions: Sequence[str]) -> None:
        flags = re.IGNORECASE | re.DOTALL
        self._compiled = [re.compile(_ending(expression, r"\Z"), flags) for expression in expressions]

    def found_in(self, data: bytes) -> frozenset[int]:
        return frozenset(number for number, one in enumerate(self._compiled) if one.search(data))


def _ending(expression: str, end: str) -> bytes:
    """`$` said so that only the end of the data is meant: alone it also takes the place before a last line end."""
    return "".join(end if piece == "$" else piece for piece in _TOKEN.findall(expression)).encode("latin-1")
