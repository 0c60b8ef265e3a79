"""Device-mapper tables by ioctl: the verified root and the encrypted spool, without dmsetup or cryptsetup in the image.

Rules of this file:
1. A key stands in one buffer of ours, for one call, and is overwritten before the function returns; the kernel is asked
   to overwrite its own copy of the request (DM_SECURE_DATA_FLAG).
2. A table is loaded once; nothing here changes a running one but `forget_key`.

Source: include/uapi/linux/dm-ioctl.h, version 4.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

from bunker.closed.machine.system import random_into
from bunker.errors import BoxError

CONTROL = "/dev/mapper/control"
SECTOR = 512
KEY_BYTES = 64
"""Two AES-256 keys: XTS takes one for the data and one for the place."""

_HEAD = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")
_TARGET = struct.Struct("=Q Q i I 16s")
_CREATE, _REMOVE, _SUSPEND, _LOAD, _MESSAGE = 3, 4, 6, 9, 14
_READ_ONLY, _SUSPENDED, _SKIP_LOCK, _NO_FLUSH, _SECURE = 1, 1 << 1, 1 << 10, 1 << 11, 1 << 15
_CLEAR_KEY = b"key wipe"
_HEX = b"0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verity:
    """The root's table: what dm-verity must be told to trust `root_hash` and nothing else."""

    root_hash: str
    salt: str
    data_blocks: int
    """Of 4096 bytes; the hash tree begins with the block after the superblock that follows them."""

    def table(self, device: str) -> str:
        """The target's parameters; a block that does not fit ends the machine."""
        hash_start = self.data_blocks + 1
        return (
            f"1 {device} {device} 4096 4096 {self.data_blocks} {hash_start} sha256 {self.root_hash} {self.salt} "
            "1 panic_on_corruption"
        )

    @property
    def sectors(self) -> int:
        """Size of the mapped device."""
        return self.data_blocks * 4096 // SECTOR


def _request(name: str, *, flags: int = 0, payload: int = 0, targets: int = 0) -> bytearray:
    request = bytearray(_HEAD.size + payload)
    _HEAD.pack_into(request, 0, 4, 0, 0, len(request), _HEAD.size, targets, 0, flags, 0, 0, 0, name.encode(), b"")
    return request


def _ask(command: int, request: bytearray, step: str) -> int:
    """One ioctl.

    Returns:
        The device's number.
    Raises:
        BoxError: the kernel refuses.
    """
    code = 0xC0000000 | _HEAD.size << 16 | 0xFD << 8 | command
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(control, code, request, True)
        finally:
            os.close(control)
    except OSError as error:
        raise BoxError(f"device mapper, {step}", os.strerror(error.errno or 0), "The machine does not start") from None
    return int(_HEAD.unpack_from(request)[10])


def _map(name: str, target: str, sectors: int, parameters: bytearray, *, flags: int) -> str:
    device = _ask(_CREATE, _request(name, flags=flags & _READ_ONLY), f"create {name}")
    length = (_TARGET.size + len(parameters) + 1 + 7) // 8 * 8
    request = _request(name, flags=flags, payload=length, targets=1)
    try:
        _TARGET.pack_into(request, _HEAD.size, 0, sectors, 0, length, target.encode())
        start = _HEAD.size + _TARGET.size
        request[start : start + len(parameters)] = parameters
        _ask(_LOAD, request, f"table of {name}")
    finally:
        request[:] = bytes(len(request))
    _ask(_SUSPEND, _request(name), f"resume {name}")
    return f"/dev/dm-{os.minor(device)}"


def open_verity(name: str, device: str, verity: Verity) -> str:
    """Map a verified read-only device.

    Returns:
        Path of its node.
    Raises:
        BoxError: the kernel refuses.
    """
    return _map(name, "verity", verity.sectors, bytearray(verity.table(device).encode()), flags=_READ_ONLY)


def open_encrypted(name: str, device: str, *, sectors: int) -> str:
    """Map a device under plain dm-crypt (AES-256-XTS) with a new random key that nobody keeps.

    Returns:
        Path of its node.
    Raises:
        BoxError: the kernel refuses.
    """
    key = ctypes.create_string_buffer(KEY_BYTES)
    head, tail = b"aes-xts-plain64 ", f" 0 {device} 0".encode()
    parameters = bytearray(len(head) + 2 * KEY_BYTES + len(tail))
    try:
        random_into(key)
        parameters[: len(head)], parameters[-len(tail) :] = head, tail
        for index in range(KEY_BYTES):
            at = len(head) + 2 * index
            byte = key[index][0]
            parameters[at], parameters[at + 1] = _HEX[byte >> 4], _HEX[byte & 15]
        return _map(name, "crypt", sectors, parameters, flags=_SECURE)
    finally:
        parameters[:] = bytes(len(parameters))
        ctypes.memset(key, 0, KEY_BYTES)


def forget_key(name: str) -> bool:
    """Overwrite an encrypted device's key in the kernel; what is on the disk is noise from now on.

    Never raises: the next step is the end of the machine in any case.

    Returns:
        Whether the kernel did it. If not, the key ends with the power.
    """
    message = struct.pack("=Q", 0) + _CLEAR_KEY + b"\0"
    request = _request(name, payload=len(message))
    request[_HEAD.size :] = message
    with suppress(BoxError):
        # The kernel wipes the key of a suspended device alone; `noflush`, because what waits must not be written.
        _ask(_SUSPEND, _request(name, flags=_SUSPENDED | _NO_FLUSH | _SKIP_LOCK), f"suspend {name}")
        _ask(_MESSAGE, request, f"key of {name}")
        return True
    return False
