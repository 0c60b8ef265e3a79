"""Volatile keys: in memory that is neither swapped nor dumped nor readable from outside, and nowhere else.

Rules of this file:
1. A key is never a `bytes` object: a copy would survive its deletion. It is drawn by the kernel straight into the
   store.
2. A lane's store is one mapping of `memfd_secret` (out of the kernel's own map, too); where the kernel has none, a
   locked, undumpable memfd, and `kind` says so.
3. The descriptor is made at set-up and not mapped there. Its memory dies with the last process that has it.
4. A reader's mapping cannot be made writable: it is sealed (mseal, Linux 6.10), and no descriptor for another stays.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Sized
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bunker.errors import BoxError

KEY_BYTES = 32
_SYS_MEMFD_SECRET = 447
_SYS_MSEAL = 462
_MAP_FAILED = ctypes.c_void_p(-1).value
_O_CLOEXEC = 0x80000
_MADV_DONTDUMP = 16

_libc = ctypes.CDLL(None, use_errno=True)
_libc.getrandom.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
_libc.getrandom.restype = ctypes.c_ssize_t
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p


def ledger_slot(files: Sized) -> int:
    """The slot, behind those of the lane's files, of the key under which the lane's ledger seals who talks."""
    return len(files)


def swap_is_active() -> bool:
    """Whether this machine may write memory to a disk (zram with write-back counts).

    Raises:
        BoxError: the kernel does not say.
    """
    try:
        return len(Path("/proc/swaps").read_text(encoding="ascii").splitlines()) > 1
    except OSError as error:
        raise BoxError("swap", f"/proc/swaps cannot be read ({error.strerror})", "Mount /proc") from None


def create_store(keys: int) -> tuple[int, str]:
    """A store for `keys` keys: its descriptor, and "memfd_secret" or "memfd".

    The descriptor is not mapped here: a mapping is what can be read.

    Raises:
        BoxError: the kernel gives neither.
    """
    length = -(-max(keys, 1) * KEY_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
    fd = _libc.syscall(_SYS_MEMFD_SECRET, _O_CLOEXEC)
    kind = "memfd_secret"
    if fd < 0:
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            raise BoxError("key store", os.strerror(ctypes.get_errno()), "Raise the limit of locked memory")
        fd = os.memfd_create("keys", os.MFD_CLOEXEC)
        kind = "memfd"
    os.ftruncate(fd, length)
    return fd, kind


def _is_secret(fd: int) -> bool:
    """Whether it is a memfd_secret: locked by itself, and not to be locked again. A memfd has seals, it has none."""
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return True
    return False


class KeyStore:
    """The keys of a lane, mapped: by the capturer writable, by the lane's worker for reading.

    The mapping is the C library's own: Python's would keep a duplicate of the descriptor, and with it a second way in.

    Invariants:
        A slot is either zero or a live key.
        created - destroyed is the number of live keys that this mapping has drawn.
        The memory stays mapped as long as this object lives.
    """

    def __init__(self, address: int, length: int, *, writable: bool) -> None:
        self._address = address
        view = memoryview((ctypes.c_char * length).from_address(address)).cast("B")
        self._view = view if writable else view.toreadonly()
        weakref.finalize(self, _libc.munmap, address, length)
        self.created = 0
        self.destroyed = 0

    @classmethod
    def attach(cls, fd: int, *, writable: bool) -> KeyStore:
        """Map the store behind `fd`.

        Raises:
            BoxError: it cannot be mapped or locked.
        """
        length = os.fstat(fd).st_size
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _libc.mmap(None, length, protection, mmap.MAP_SHARED, fd, 0)
        if address == _MAP_FAILED:
            cause = os.strerror(ctypes.get_errno())
            raise BoxError("key store", f"cannot be mapped ({cause})", "Raise the limit of locked memory")
        _libc.madvise(address, length, _MADV_DONTDUMP)  # memfd_secret has it built in and refuses
        store = cls(address, length, writable=writable)
        if not writable:
            # An older kernel does not know it: there a hijacked worker can overwrite the keys of its own lane.
            _libc.syscall(_SYS_MSEAL, ctypes.c_void_p(address), ctypes.c_size_t(length), 0)
        elif _libc.mlock(address, length) != 0 and not _is_secret(fd):
            raise BoxError("key store", "cannot be locked into memory", "Raise the limit of locked memory")
        return store

    @property
    def slots(self) -> int:
        """How many keys fit."""
        return len(self._view) // KEY_BYTES

    def _slot(self, slot: int) -> memoryview:
        if not 0 <= slot < self.slots:
            raise BoxError("key store", f"has no slot {slot}", "This is a bug")
        return self._view[slot * KEY_BYTES : (slot + 1) * KEY_BYTES]

    def create(self, slot: int) -> None:
        """Draw a new key into the slot.

        Raises:
            BoxError: the kernel gave no randomness.
        """
        self._slot(slot)
        place = ctypes.c_char.from_buffer(self._view, slot * KEY_BYTES)
        if _libc.getrandom(ctypes.addressof(place), KEY_BYTES, 0) != KEY_BYTES:
            raise BoxError("key store", "the kernel gave no randomness", "This machine cannot run a box")
        self.created += 1

    def cipher(self, slot: int) -> AESGCM:
        """AES-256-GCM under the slot's key. Whoever holds it deletes it with the file: it has copies of the key's
        schedule.
        """
        return AESGCM(self._slot(slot))

    def erase(self, slot: int) -> None:
        """Overwrite the key: what it sealed is noise from now on."""
        view = self._slot(slot)
        view[:] = bytes(KEY_BYTES)
        self.destroyed += 1

    def is_erased(self, slot: int) -> bool:
        """Whether the slot holds no key."""
        return not any(self._slot(slot))
