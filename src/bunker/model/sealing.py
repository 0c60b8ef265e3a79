"""The wrapping of an envelope for a remote open box: layout and suite, for both sides.

Rules of this file:
1. HPKE (RFC 9180) as the crypto library has it; nothing is composed here.
2. Each wrapping stands alone: there is no state to lose at a reconnect, and order is the envelopes' own business.

Format: `docs/formats/envelope.md`, "Sealed stream".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from bunker.model.envelope import HEADER_BYTES, SEALED_MAGIC, SIGNATURE_BYTES, EnvelopeRefused, Kind, Refusal

MAGIC: Final = SEALED_MAGIC
VERSION: Final = 1
INFO: Final = b"bunker sealed egress 1"
_HEAD = struct.Struct("<4sHHI")
HEAD_BYTES: Final = _HEAD.size
OVERHEAD_BYTES: Final = 32 + 16
"""Encapsulated key and tag."""
WRAPPING_BYTES: Final = HEAD_BYTES + OVERHEAD_BYTES
"""By how much a wrapping is longer than its envelope."""
_MOST = max(kind.most for kind in Kind) + HEADER_BYTES + SIGNATURE_BYTES + 4 + OVERHEAD_BYTES


def suite() -> Suite:
    """DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def head(length: int) -> bytes:
    """The bytes before a wrapping of this length."""
    return _HEAD.pack(MAGIC, VERSION, 0, length)


def wrapped_length(packed: bytes, *, number: int) -> int:
    """The length that a head tells.

    Raises:
        EnvelopeRefused: MAGIC, VERSION, LENGTH.
    """
    magic, version, reserved, length = _HEAD.unpack(packed)
    if magic != MAGIC or reserved:
        raise EnvelopeRefused(Refusal.MAGIC, number=number)
    if version != VERSION:
        raise EnvelopeRefused(Refusal.VERSION, number=number)
    if not OVERHEAD_BYTES < length <= _MOST:
        raise EnvelopeRefused(Refusal.LENGTH, number=number)
    return int(length)


class Wrappings:
    """Bytes of a connection in, whole wrappings out, heads included; nothing is opened here.

    Invariants: holds at most one wrapping and what one `feed` brought.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.number = 0
        """Of the wrapping that comes next."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The wrappings that are complete now. A length is believed up to the longest envelope.

        Raises:
            EnvelopeRefused: MAGIC (as soon as it cannot be one), VERSION, LENGTH.
        """
        self._held += piece
        while True:
            if not MAGIC.startswith(self._held[: len(MAGIC)]):
                raise EnvelopeRefused(Refusal.MAGIC, number=self.number)
            if len(self._held) < HEAD_BYTES:
                return
            length = HEAD_BYTES + wrapped_length(bytes(self._held[:HEAD_BYTES]), number=self.number)
            if len(self._held) < length:
                return
            whole = bytes(memoryview(self._held)[:length])
            del self._held[:length]
            self.number += 1
            yield whole
