"""Below the floor nothing starts: which walls may be missing, and which may not."""

from __future__ import annotations

from itertools import combinations

import pytest

from bunker.closed.process.jail import Enforcement
from bunker.native.jail import Entry

NEEDED = ("no_new_privs", "seccomp", "not_dumpable")
EITHER = ("landlock_files", "mount_namespace")
OTHERS = ("user_namespace", "network_namespace", "memory_limit", "swap")


def enforcement(*held: str) -> Enforcement:
    names = (*NEEDED, *EITHER, *OTHERS)
    return Enforcement(entries=tuple(Entry(name=name, enforced=name in held, detail="test") for name in names))


@pytest.mark.parametrize("either", EITHER)
def test_three_walls_and_one_of_two_are_enough(either: str) -> None:
    assert enforcement(*NEEDED, either).floor_missing() == ()


@pytest.mark.parametrize("missing", [names for n in (1, 2, 3) for names in combinations(NEEDED, n)])
def test_none_of_the_three_may_be_missing(missing: tuple[str, ...]) -> None:
    held = (*(name for name in NEEDED if name not in missing), *EITHER, *OTHERS)
    assert enforcement(*held).floor_missing() == missing


def test_files_need_landlock_or_a_mount_namespace() -> None:
    assert enforcement(*NEEDED, *OTHERS).floor_missing() == ("landlock_files or mount_namespace",)


def test_an_entry_that_is_not_told_does_not_hold() -> None:
    assert set(Enforcement(entries=()).floor_missing()) == {*NEEDED, "landlock_files or mount_namespace"}


def test_the_start_statement_tells_the_weakest_of_all_processes() -> None:
    several = {"worker 0": enforcement(*NEEDED, "swap"), "capturer": enforcement(*NEEDED)}
    table = Enforcement.weakest(several)
    assert table["seccomp"] == "enforced"
    assert table["swap"] == "missing: capturer"
    assert table["landlock_files"] == "missing: capturer, worker 0"
