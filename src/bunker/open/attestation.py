"""Checks what a TPM says in a start statement, offline.

Rules of this file:
1. What is wrong is a list of sentences; nothing: everything that was asked for holds.
2. A signature that holds says: some key that follows the template. Whose TPM it is, the operator knows by the
   fingerprint that he wrote down, or nobody does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from bunker.errors import VerificationError
from bunker.model.attestation import (
    SELECTION,
    STARTED,
    Attestation,
    key_fingerprint,
    qualified_name,
    replayed,
)
from bunker.model.heartbeat import Start, attested_hash, same_fingerprint

_MAGIC, _QUOTE = 0xFF544347, 0x8018
_CLOCK_AND_VERSION = 17 + 8
FIRMWARE_EVENTS = frozenset(
    {
        hashlib.sha256(b"Calling EFI Application from Boot Option").hexdigest(),
        hashlib.sha256(bytes(4)).hexdigest(),
    }
)
"""What firmware measures into register 4 beside what it starts: an action and a separator.

Source: TCG PC Client Platform Firmware Profile 1.05, sections 3.3.4.5 and 10.4.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a run's machine must be.

    Args:
        kernels: Authenticode hashes of the image's kernel files; one of them was started last. None: not asked.
        loaders: Of boot managers that may have started it.
        keys: Fingerprints that the operator wrote down; none: not asked.
        registers: Values that the operator wrote down.
    """

    kernels: Collection[str] | None = None
    loaders: Collection[str] = ()
    keys: Sequence[str] = ()
    registers: Mapping[int, str] | None = None


def faults(start: Start, expected: Expected) -> list[str]:
    """What does not hold of a start statement's attestation; it must have one."""
    found = start.attestation
    if found is None:
        return ["no TPM has signed for it"]
    try:
        _check_signature(found)
        wrong = _quote_faults(found, attested_hash(start))
    except VerificationError as error:
        return [str(error)]
    if expected.keys and not any(same_fingerprint(key, key_fingerprint(found.key)) for key in expected.keys):
        wrong.append("another TPM's key signed")
    for number, value in (expected.registers or {}).items():
        if found.registers.get(str(number)) != value.lower():
            wrong.append(f"register {number} has another value")
    if expected.kernels is not None:
        wrong += _started_faults(found, expected.kernels, expected.loaders)
    return wrong


def _check_signature(found: Attestation) -> None:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + bytes.fromhex(found.key))
    except ValueError:
        raise VerificationError("the TPM's key is none") from None
    r, s = (int(part, 16) for part in (found.signature[:64], found.signature[64:]))
    try:
        key.verify(encode_dss_signature(r, s), bytes.fromhex(found.quoted), ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise VerificationError("the TPM's signature does not hold") from None


def _quote_faults(found: Attestation, nonce: bytes) -> list[str]:
    """What the signed bytes say otherwise than they should.

    Raises:
        VerificationError: they are no quote.
    """
    content = bytes.fromhex(found.quoted)
    name, rest = _sized(content[6:])
    data, rest = _sized(rest)
    tail = rest[_CLOCK_AND_VERSION:]
    digest, behind = _sized(tail[len(SELECTION) :])
    if content[:6] != struct.pack(">IH", _MAGIC, _QUOTE) or behind:
        raise VerificationError("what the TPM signed is no quote")
    wrong: list[str] = []
    if name != qualified_name(found.key):
        wrong.append("the key is not made from the template, so it may sign anything")
    if data != nonce:
        wrong.append("the TPM signed for another run")
    if tail[: len(SELECTION)] != SELECTION:
        wrong.append("the TPM signed other registers")
    values = b"".join(bytes.fromhex(found.registers[number]) for number in sorted(found.registers))
    if digest != hashlib.sha256(values).digest():
        wrong.append("the registers' values are not those that the TPM signed")
    return wrong


def _sized(content: bytes) -> tuple[bytes, bytes]:
    """A TPM2B and what is behind it."""
    size = int.from_bytes(content[:2], "big")
    if len(content) < 2 + size or len(content) < 2:
        raise VerificationError("what the TPM signed is cut short")
    return content[2 : 2 + size], content[2 + size :]


def _started_faults(found: Attestation, kernels: Collection[str], loaders: Collection[str]) -> list[str]:
    """Whether the image's kernel was started last, and nothing before it that is not known.

    The firmware's own words stand anywhere: OVMF says them after it has loaded a kernel that QEMU hands over.
    """
    if replayed(found.started) != found.registers[str(STARTED)]:
        return ["the firmware's log does not explain what was started"]
    wrong: list[str] = []
    programs = [digest for digest in found.started if digest not in FIRMWARE_EVENTS]
    if not programs or programs[-1] not in kernels:
        wrong.append("another kernel than the image's was started")
    strangers = [digest for digest in programs[:-1] if digest not in loaders]
    if strangers:
        wrong.append(f"{len(strangers)} programs that the image does not name were started before the kernel")
    return wrong
