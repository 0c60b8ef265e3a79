"""The hash that UEFI measures and signatures cover: Authenticode's, of a PE file.

Source: Windows Authenticode Portable Executable Signature Format (2008), "Calculating the PE Image Hash".
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from bunker.errors import BoxError

_PE_AT, _CHECKSUM, _SIZE_OF_HEADERS = 0x3C, 64, 60
_DIRECTORIES: Final = {0x10B: 96, 0x20B: 112}
"""Where the data directories begin in the optional header, by its magic (PE32, PE32+)."""
_CERTIFICATES = 4
_SECTION = struct.Struct("<8s I I I I 16x")


def authenticode(content: bytes) -> str:
    """SHA-256 over a PE file without its checksum and certificates, hex.

    Raises:
        BoxError: not a PE file.
    """
    try:
        return _hash(content)
    except (struct.error, KeyError):
        raise BoxError("UEFI program", "is no PE file", "Take the file from its package") from None


def _hash(content: bytes) -> str:
    (at,) = struct.unpack_from("<I", content, _PE_AT)
    if content[:2] != b"MZ" or content[at : at + 4] != b"PE\0\0":
        raise KeyError(at)
    sections, optional_size = struct.unpack_from("<2xH12xH", content, at + 4)
    optional = at + 24
    (magic,) = struct.unpack_from("<H", content, optional)
    (headers,) = struct.unpack_from("<I", content, optional + _SIZE_OF_HEADERS)
    entry = optional + _DIRECTORIES[magic] + 8 * _CERTIFICATES
    (certificates,) = struct.unpack_from("<4xI", content, entry)
    digest = hashlib.sha256(content[: optional + _CHECKSUM])
    digest.update(content[optional + _CHECKSUM + 4 : entry])
    digest.update(content[entry + 8 : headers])
    table = optional + optional_size
    found = [_SECTION.unpack_from(content, table + number * _SECTION.size)[3:5] for number in range(sections)]
    done = headers
    for size, place in sorted(found, key=lambda section: section[1]):
        digest.update(content[place : place + size])
        done += size
    digest.update(content[done : len(content) - certificates])
    return digest.hexdigest()
