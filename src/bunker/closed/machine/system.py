"""The system calls that process 1 needs and Python does not have: mounts, modules, power, memory.

Rules of this file:
1. Every failure raises `BoxError` with the step's name and the error number; nothing returns a status to be ignored.
2. No external program is started for what is one system call.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress
from pathlib import Path

from bunker.errors import BoxError

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_MOVE, MS_NOATIME = 1, 2, 4, 8, 0x2000, 0x400
SEALED_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC
_POWER_OFF, _RESTART = 0x4321FEDC, 0x01234567
_POPULATE_WRITE = 23
_FINIT_MODULE = 313

_libc = ctypes.CDLL(None, use_errno=True)


def _failed(step: str) -> BoxError:
    number = ctypes.get_errno()
    return BoxError(step, os.strerror(number), "The machine does not start without it")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2).

    Raises:
        BoxError: the kernel refuses.
    """
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        raise _failed(f"mount {target}")


def load_module(path: Path) -> None:
    """finit_module(2), without parameters. One that is there already is no failure.

    Raises:
        BoxError: the kernel refuses.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syscall(_FINIT_MODULE, fd, b"", 0) != 0 and ctypes.get_errno() != 17:
            raise _failed(f"module {path.name}")
    finally:
        os.close(fd)


def end_machine(*, power_off: bool = True) -> None:
    """Power off, or restart at once; returns only if the kernel refuses."""
    _libc.reboot(_POWER_OFF if power_off else _RESTART)


def random_into(buffer: ctypes.Array[ctypes.c_char]) -> None:
    """Fill a buffer from the kernel's random number generator, waiting until it is seeded.

    Raises:
        BoxError: it gave less.
    """
    if _libc.getrandom(buffer, ctypes.c_size_t(len(buffer)), 0) != len(buffer):
        raise _failed("random numbers")


def available_bytes() -> int:
    """Memory that could be had now, by the kernel's estimate."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise BoxError("memory", "the kernel does not say how much is free", "Mount /proc first")


def overwrite_free_memory(*, spare: int) -> int:
    """Take all free memory but `spare` bytes, so that it is overwritten, and give it back.

    The kernel clears a page when it gives it to a process; a page that was never given still holds what an earlier
    start left in it, because a warm reset does not clear memory.

    Returns:
        Bytes overwritten.
    Limits: what the kernel itself has taken since the start is not touched: it was cleared when taken
        (INIT_ON_ALLOC), which holds for `spare` too as soon as anybody gets it.
    """
    done = 0
    taken: list[mmap.mmap] = []
    piece = 64 << 20
    try:
        while available_bytes() > spare + piece:
            memory = mmap.mmap(-1, piece, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            taken.append(memory)
            with suppress(OSError):
                memory.madvise(mmap.MADV_HUGEPAGE)
            memory.madvise(_POPULATE_WRITE)
            done += piece
    finally:
        for memory in taken:
            memory.close()
    return done
