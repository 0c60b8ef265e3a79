"""The door to the jail of the compiled core (`crates/jail`).

Rules of this file:
1. It converts and holds no rule: what must be enforced is decided in `bunker.closed.process.jail`.
2. The order is isolate, (fork,) launch, (imports,) lock_down; each step only ever narrows what the process may do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from bunker import _core


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing a jail may enforce: a word of a closed vocabulary, whether it holds, how or why not."""

    name: str
    enforced: bool
    detail: str


class LaunchSpec(TypedDict):
    """One launch, as the core reads it; the fields are described in `crates/jail/src/spec.rs`."""

    role: str
    new_box: bool
    uid_base: int
    uid: int
    shown: list[str]
    links: list[tuple[str, str]]
    scratches: list[tuple[int, int]]
    files: list[tuple[str, bytes]]
    readable: list[str]
    keep: list[int]
    writable: list[int] | None
    unread: list[int]
    scratch: bool
    execute: bool
    memory_bytes: int | None
    file_bytes: int | None
    processes: int
    user_namespace: bool
    launcher_gone: int | None


def isolate(spec: LaunchSpec) -> tuple[Entry, ...]:
    """Namespaces, and for a new box its root; the pid namespace holds from the next fork on.

    Raises:
        BoxError: the process cannot be made undumpable.
    """
    return _entries(_core.jail_isolate(spec))


def launch(spec: LaunchSpec) -> tuple[Entry, ...]:
    """Descriptors, limits, ids, capabilities, Landlock, the first system-call filter.

    Raises:
        BoxError: a step that must not be missing failed.
    """
    return _entries(_core.jail_launch(spec))


def lock_down(role: str) -> tuple[Entry, ...]:
    """The strict system-call list of this process's role, for all its threads; afterwards no code can be loaded.

    Call it after the imports and before the first byte of traffic.

    Raises:
        BoxError: this process was not launched into the jail, or as another role.
    """
    return _entries(_core.jail_lock_down(role))


def probe() -> tuple[Entry, ...]:
    """What this machine could enforce, without changing this process."""
    return _entries(_core.jail_probe())


def adopt_orphans(adopt: bool, /) -> bool:
    """Whether orphans among the descendants become this process's children from now on; returns what held before."""
    return _core.jail_adopt_orphans(adopt)


def _entries(found: list[tuple[str, bool, str]]) -> tuple[Entry, ...]:
    return tuple(Entry(name=name, enforced=enforced, detail=detail) for name, enforced, detail in found)
