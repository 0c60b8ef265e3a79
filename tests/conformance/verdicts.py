"""What a comparison says, and the registry of comparers.

A comparer knows one kind of expected file of one capability. It is a function from a case to an iterable of mismatches;
none means: agrees. It is registered with `@comparer(capability, suffix)` and is called for every case that has such an
expected file:

    @comparer("http", "expected.http.log", source="zeek")
    def http_log(case: Case) -> Iterator[Mismatch | Unsupported]:
        ours = dissected(case.path, verify=case.verifies_checksums).rows("http")
        ...
        yield Mismatch(fact="host", expected="a", ours="b")

`fact` is a short stable name (`host`, `status_code`, `rows`), the word under which a known difference is listed. A
comparer that finds that we do not decode what the file is about yields `Unsupported("what")`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from corpus import Case


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One fact on which the peer and we differ."""

    fact: str
    expected: Any
    ours: Any
    where: str = ""

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"{self.fact}{place}: expected {_short(self.expected)}, got {_short(self.ours)}"


@dataclass(frozen=True)
class Unsupported:
    """We do not decode this, and say so."""

    what: str


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


Finding = Mismatch | Unsupported
Compare = Callable[[Case], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Comparer:
    """A registered function and the cases it is for."""

    name: str
    capability: str
    suffix: str | None
    source: str | None
    applies: Callable[[Case], bool]
    compare: Compare

    def takes(self, case: Case) -> bool:
        """Whether it has something to say about `case`."""
        if self.source is not None and case.source != self.source:
            return False
        return (self.suffix is None or case.expected(self.suffix) is not None) and self.applies(case)


_REGISTRY: list[Comparer] = []


def comparer(
    capability: str,
    suffix: str | None = None,
    *,
    source: str | None = None,
    applies: Callable[[Case], bool] = lambda case: True,
) -> Callable[[Compare], Compare]:
    """Register a function for all cases of `source` that have an expected file with `suffix` (None: all, need none)."""

    def register(compare: Compare) -> Compare:
        name = f"{compare.__module__.rpartition('.')[2]}.{compare.__name__}"
        _REGISTRY.append(
            Comparer(name=name, capability=capability, suffix=suffix, source=source, applies=applies, compare=compare)
        )
        return compare

    return register


def registered() -> tuple[Comparer, ...]:
    """All comparers: importing the package `comparers` registers them."""
    import comparers  # noqa: F401, PLC0415 - the modules in it register themselves, and they import this one

    return tuple(_REGISTRY)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of one case under one capability."""

    case: str
    capability: str
    word: str
    mismatches: tuple[Mismatch, ...] = ()
    unsupported: str = ""

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts that differ."""
        return frozenset(mismatch.fact for mismatch in self.mismatches)


def judge(case: Case) -> Iterator[Verdict]:
    """One verdict for each capability that compares this case: agrees, differs, or not supported."""
    by_capability: dict[str, list[Comparer]] = {}
    for one in registered():
        if one.takes(case):
            by_capability.setdefault(one.capability, []).append(one)
    for capability, comparers in by_capability.items():
        found: list[Finding] = [finding for one in comparers for finding in one.compare(case)]
        mismatches = tuple(finding for finding in found if isinstance(finding, Mismatch))
        missing = [finding.what for finding in found if isinstance(finding, Unsupported)]
        word = "differs" if mismatches else "not supported" if missing else "agrees"
        yield Verdict(
            case=case.name,
            capability=capability,
            word=word,
            mismatches=mismatches,
            unsupported=", ".join(dict.fromkeys(missing)),
        )
