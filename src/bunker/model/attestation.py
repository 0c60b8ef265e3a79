"""What a TPM says about the machine that a run came from: words that both sides know.

Place in the flow: TPM ▶ process 1 (`closed.machine.tpm`) ▶ `Attestation` in the start statement ▶ open.attestation.

Rules of this file:
1. The key is a primary key of the endorsement hierarchy, made from the one template below: the same TPM gives the same
   key at each start, nobody stores it, and it signs nothing but what the TPM itself says (restricted).
2. What is quoted is bound to the run: the nonce is the hash of the start statement without its attestation, which holds
   the run's public key, bundle, policy and image.

Source: TPM 2.0 Library, part 2 (structures), revision 1.59. Format: `docs/formats/envelope.md`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated, Final

import msgspec

PCRS: Final = (0, 1, 2, 3, 4, 5, 6, 7)
"""Registers that are quoted, of the SHA-256 bank: firmware (0, 1), cards (2, 3), what was started (4), partitions (5),
Secure Boot's policy (7). Source: TCG PC Client Platform Firmware Profile, section 3.3.4."""
STARTED: Final = 4
"""The register of everything that the firmware started: boot manager, kernel."""

_ECC, _SHA256, _ECDSA, _P256, _NULL = 0x0023, 0x000B, 0x0018, 0x0003, 0x0010
_ATTRIBUTES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 16 | 1 << 18
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign."""
ENDORSEMENT: Final = 0x4000000B
SELECTION: Final = struct.pack(">IHB3B", 1, _SHA256, 3, sum(1 << number for number in PCRS), 0, 0)
"""TPML_PCR_SELECTION of PCRS."""

Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})+\Z", max_length=2048)]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]
Register = Annotated[str, msgspec.Meta(pattern=r"^[0-7]\Z")]


class Attestation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quote and what is needed to check it."""

    key: Hex128
    """The key's point on P-256: x, y."""
    quoted: Hex
    """TPMS_ATTEST, as the TPM signed it."""
    signature: Hex128
    """ECDSA with SHA-256: r, s."""
    registers: Annotated[dict[Register, Hex64], msgspec.Meta(min_length=len(PCRS), max_length=len(PCRS))]
    """Values of PCRS."""
    started: Annotated[list[Hex64], msgspec.Meta(max_length=32)]
    """What the firmware's log says went into register STARTED, in order; the register proves it."""


def public_area(x: bytes = b"", y: bytes = b"") -> bytes:
    """TPMT_PUBLIC of the key; without a point, the template that makes it."""
    head = struct.pack(">HHIH", _ECC, _SHA256, _ATTRIBUTES, 0)
    parameters = struct.pack(">HHHHH", _NULL, _ECDSA, _SHA256, _P256, _NULL)
    return head + parameters + struct.pack(">H", len(x)) + x + struct.pack(">H", len(y)) + y


def key_name(key: str) -> bytes:
    """The TPM's name of a key: its algorithm and the hash of its public area."""
    point = bytes.fromhex(key)
    return struct.pack(">H", _SHA256) + hashlib.sha256(public_area(point[:32], point[32:])).digest()


def qualified_name(key: str) -> bytes:
    """The name of a key with its place: a primary key below the endorsement hierarchy, and nothing else has it."""
    above = struct.pack(">I", ENDORSEMENT)
    return struct.pack(">H", _SHA256) + hashlib.sha256(above + key_name(key)).digest()


def key_fingerprint(key: str) -> str:
    """What the operator writes down when the machine is enrolled: the hash in the key's name, in groups of four."""
    digest = key_name(key)[2:].hex()
    return " ".join(digest[at : at + 4] for at in range(0, 64, 4))


def replayed(digests: list[str]) -> str:
    """The value of a register into which these were measured, in order."""
    value = bytes(32)
    for digest in digests:
        value = hashlib.sha256(value + bytes.fromhex(digest)).digest()
    return value.hex()
