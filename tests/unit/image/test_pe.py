"""What UEFI measures of a program: all of it but its checksum and its signatures.

That UEFI agrees is shown by `test_vm.py`: OVMF measures the kernel into a TPM, and the manifest explains the register.
"""

from __future__ import annotations

import struct

import pytest

from bunker.errors import BoxError
from bunker.image.pe import authenticode

OPTIONAL = 24
HEADERS = 0x200


def program(*, behind: bytes = b"", checksum: int = 0, certificates: bytes = b"", code: bytes = b"code") -> bytes:
    """A PE32+ file of two sections, which stand in the file in another order than in the table."""
    optional = bytearray(112 + 16 * 8)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 60, HEADERS)
    struct.pack_into("<I", optional, 64, checksum)
    body = code.ljust(0x200, b"\0") + b"data".ljust(0x200, b"\1") + behind
    if certificates:
        struct.pack_into("<II", optional, 112 + 4 * 8, HEADERS + len(body), len(certificates))
    sections = b"".join(
        struct.pack("<8sIIII16x", name, 0x200, 0x1000, 0x200, place)
        for name, place in ((b".data", HEADERS + 0x200), (b".text", HEADERS))
    )
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    head += b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, 2, len(optional), 0) + optional + sections
    return head.ljust(HEADERS, b"\0") + body + certificates


def test_checksum_and_signature_do_not_change_it() -> None:
    assert authenticode(program(checksum=7)) == authenticode(program())
    assert authenticode(program(certificates=bytes(64))) == authenticode(program())


@pytest.mark.parametrize("at", [0x40 + OPTIONAL + 4, HEADERS, HEADERS + 0x3FF, HEADERS + 0x400])
def test_any_other_byte_does(at: int) -> None:
    one = program(behind=b"behind the sections")
    changed = bytearray(one)
    changed[at] ^= 0xFF
    assert authenticode(bytes(changed)) != authenticode(one)


@pytest.mark.parametrize("content", [b"", b"MZ", b"#!/bin/sh\n" * 100, program()[:100], b"NZ" + program()[2:]])
def test_what_is_no_program_is_refused(content: bytes) -> None:
    with pytest.raises(BoxError, match="no PE file"):
        authenticode(content)
