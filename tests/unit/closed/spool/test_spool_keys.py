"""Volatile keys: drawn fresh, gone when erased, unreachable from outside."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator

import pytest

from bunker.closed.spool import keys as spool_keys
from bunker.closed.spool.keys import KEY_BYTES, KeyStore, create_store
from bunker.errors import BoxError

NONCE = bytes(12)


@pytest.fixture
def store() -> Iterator[int]:
    fd, _ = create_store(4)
    yield fd
    os.close(fd)


def address_of(keys: KeyStore) -> int:
    return keys._address


@pytest.mark.parametrize("keys", [0, 1, mmap.PAGESIZE // KEY_BYTES, mmap.PAGESIZE // KEY_BYTES + 1])
def test_store_has_room_for_the_keys_in_whole_pages(keys: int) -> None:
    fd, _ = create_store(keys)
    attached = KeyStore.attach(fd, writable=True)
    assert attached.slots >= max(keys, 1) and os.fstat(fd).st_size % mmap.PAGESIZE == 0
    assert attached.slots - keys <= mmap.PAGESIZE // KEY_BYTES
    os.close(fd)


def test_each_key_is_another(store: int) -> None:
    keys = KeyStore.attach(store, writable=True)
    sealed = set()
    for slot in (0, 1, 0, 1):
        keys.create(slot)
        sealed.add(keys.cipher(slot).encrypt(NONCE, bytes(32), b""))
    assert len(sealed) == 4 and keys.created == 4


def test_neighbours_of_a_key_stay_as_they_are(store: int) -> None:
    keys = KeyStore.attach(store, writable=True)
    for slot in range(3):
        keys.create(slot)
    before = [keys.cipher(slot).encrypt(NONCE, b"x", b"") for slot in range(3)]
    keys.erase(1)
    assert [keys.is_erased(slot) for slot in range(4)] == [False, True, False, True]
    keys.create(1)
    after = [keys.cipher(slot).encrypt(NONCE, b"x", b"") for slot in range(3)]
    assert (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]


def test_other_side_sees_keys_come_and_go_and_cannot_write(store: int) -> None:
    keys, other = KeyStore.attach(store, writable=True), KeyStore.attach(store, writable=False)
    keys.create(2)
    assert not other.is_erased(2)
    assert keys.cipher(2).encrypt(NONCE, b"x", b"") == other.cipher(2).encrypt(NONCE, b"x", b"")
    with pytest.raises(TypeError):
        other.erase(2)
    with pytest.raises(TypeError):
        other.create(2)
    assert not keys.is_erased(2)
    keys.erase(2)
    assert other.is_erased(2) and keys.destroyed == 1


def test_a_readers_mapping_cannot_be_made_writable(store: int) -> None:
    """Where the kernel has mseal; an older one leaves it to the worker's good behaviour, as the threat model says."""
    keys = KeyStore.attach(store, writable=False)
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    refused = mprotect(keys._address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) != 0
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    assert refused is (release >= (6, 10))


@pytest.mark.parametrize("slot", [-1, mmap.PAGESIZE // KEY_BYTES, 1 << 40])
def test_slot_that_is_not_there_is_refused(store: int, slot: int) -> None:
    keys = KeyStore.attach(store, writable=True)
    for use in (keys.create, keys.cipher, keys.erase, keys.is_erased):
        with pytest.raises(BoxError):
            use(slot)
    assert keys.created == keys.destroyed == 0


def test_keys_cannot_be_read_from_outside_the_process(store: int) -> None:
    """Not by read(2), not through the file of the process's memory, not by another's process_vm_readv."""
    kind = create_store(1)[1]
    if kind != "memfd_secret":
        pytest.skip("this kernel has no memfd_secret: the store is a locked memfd, and says so")
    keys = KeyStore.attach(store, writable=True)
    keys.create(0)
    with pytest.raises(OSError):
        os.pread(store, KEY_BYTES, 0)
    place = address_of(keys)
    beside = ctypes.create_string_buffer(b"readable", 8)
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    assert os.pread(memory, 8, ctypes.addressof(beside)) == b"readable"
    with pytest.raises(OSError):
        os.pread(memory, KEY_BYTES, place)
    os.close(memory)


def test_store_that_cannot_be_locked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain memfd may be swapped out unless it is locked: it is no place for a key."""
    fd = os.memfd_create("keys", os.MFD_CLOEXEC)
    os.ftruncate(fd, mmap.PAGESIZE)
    assert KeyStore.attach(fd, writable=True).slots

    def refused(*_: object) -> int:
        return -1

    monkeypatch.setattr(spool_keys._libc, "mlock", refused)
    with pytest.raises(BoxError, match="locked"):
        KeyStore.attach(fd, writable=True)
    os.close(fd)


def test_kernel_without_secret_memory_gives_a_memfd_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSecret:
        def __getattr__(self, name: str) -> object:
            return getattr(LIBC, name)

        def syscall(self, *_: object) -> int:
            ctypes.set_errno(38)
            return -1

    LIBC = spool_keys._libc  # noqa: N806 - what is replaced
    monkeypatch.setattr(spool_keys, "_libc", NoSecret())
    fd, kind = create_store(1)
    assert kind == "memfd" and os.fstat(fd).st_size == mmap.PAGESIZE
    os.close(fd)


def test_no_randomness_is_no_key(store: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyStore.attach(store, writable=True)

    def few(*_: object) -> int:
        return KEY_BYTES - 1

    monkeypatch.setattr(spool_keys._libc, "getrandom", few)
    with pytest.raises(BoxError, match="randomness"):
        keys.create(0)
    assert keys.created == 0 and keys.is_erased(0)


def test_a_key_store_prints_no_key(store: int) -> None:
    keys = KeyStore.attach(store, writable=True)
    keys.create(0)
    key = bytes(keys._slot(0))
    assert key.hex() not in repr(keys) and repr(key) not in repr(vars(keys))
