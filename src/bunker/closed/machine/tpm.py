"""The machine's TPM, asked for one thing: what was started here, signed, for this run.

Place in the flow: start statement's hash ▶ here ▶ quote ▶ start statement.

Rules of this file:
1. Four commands, written out: CreatePrimary, PCR_Read, Quote, FlushContext. Nothing is stored in the TPM, no
   authorisation is set, no session is kept.
2. Answers are read with bounds and every field's place is checked; a TPM that answers something else stops the start.
3. The firmware's log is only what explains a register: the register is what is signed.

Source: TPM 2.0 Library, part 3 (commands), revision 1.59; TCG PC Client Platform Firmware Profile 1.05, section 10
(event log).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bunker import limits
from bunker.errors import BoxError
from bunker.model.attestation import ENDORSEMENT, PCRS, SELECTION, STARTED, Attestation, public_area

DEVICE: Final = Path("/dev/tpm0")
LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_CREATE_PRIMARY, _QUOTE, _FLUSH, _PCR_READ = 0x131, 0x158, 0x165, 0x17E
_PASSWORD: Final = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
"""The authorisation area of an empty password."""
_SHA256, _ECDSA, _NULL = 0x000B, 0x0018, 0x0010
_RETRY: Final = struct.pack(">I", 0x922)
_RETRY_S: Final = 0.02
_SHA1_BYTES, _NO_ACTION = 20, 3

Exchange = Callable[[bytes], bytes]
"""Sends a command, returns the answer."""


class _Fields:
    """An answer, taken apart from the front."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> bytes:
        piece = self._content[self._at : self._at + size]
        if len(piece) != size:
            raise _odd("an answer is cut short")
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """A TPM2B: two bytes of length, then so many."""
        return self.take(self.number(2))

    def must_be(self, size: int, value: int) -> None:
        if self.number(size) != value:
            raise _odd("an answer is not of the kind that was asked for")


def _odd(cause: str) -> BoxError:
    return BoxError("TPM", cause, "The machine does not start with a TPM that it cannot use: switch it off or mend it")


class Tpm:
    """A TPM with the attestation key made.

    Args:
        exchange: Sends a command and returns the answer; None: the kernel's device.
    Raises:
        BoxError: the TPM refuses, or answers otherwise than the specification says.
    """

    def __init__(self, exchange: Exchange | None = None) -> None:
        self._exchange = exchange or _device()
        sensitive, no_outside_info, no_creation_pcr = struct.pack(">HHH", 4, 0, 0), bytes(2), bytes(4)
        template = public_area()
        answer = self._ask(
            _CREATE_PRIMARY,
            struct.pack(">I", ENDORSEMENT) + _PASSWORD,
            sensitive + _sized(template) + no_outside_info + no_creation_pcr,
        )
        self._handle = answer.number(4)
        answer.number(4)  # size of the parameters
        area = answer.sized()
        point = area[len(template) - 2 :][:32], area[-32:]  # behind the sizes that are 0 in the template
        if area != public_area(*point):
            raise _odd("it made another key than the template's")
        self.key = b"".join(point).hex()

    def quote(self, nonce: bytes, *, log: bytes) -> Attestation:
        """What was started here, signed together with `nonce`.

        Args:
            log: The firmware's event log; empty if there is none.
        Raises:
            BoxError: as the class; or the log is not one.
        """
        handle = struct.pack(">I", self._handle)
        answer = self._ask(_QUOTE, handle + _PASSWORD, _sized(nonce) + struct.pack(">H", _NULL) + SELECTION)
        answer.number(4)
        quoted = answer.sized()
        answer.must_be(2, _ECDSA)
        answer.must_be(2, _SHA256)
        signature = _coordinate(answer.sized()) + _coordinate(answer.sized())
        return Attestation(
            key=self.key,
            quoted=quoted.hex(),
            signature=signature.hex(),
            registers={str(number): value.hex() for number, value in self._registers().items()},
            started=[digest.hex() for digest in measured(log, STARTED)],
        )

    def forget(self) -> None:
        """The key leaves the TPM's memory; it is made again at the next start."""
        self._ask(_FLUSH, struct.pack(">I", self._handle), b"", tag=_NO_SESSIONS)

    def _registers(self) -> dict[int, bytes]:
        answer = self._ask(_PCR_READ, SELECTION, b"", tag=_NO_SESSIONS)
        answer.number(4)  # update counter
        if answer.take(len(SELECTION)) != SELECTION:
            raise _odd("it has no SHA-256 bank, or not all registers of it")
        answer.must_be(4, len(PCRS))
        return {number: answer.sized() for number in PCRS}

    def _ask(self, command: int, handles: bytes, parameters: bytes, *, tag: int = _SESSIONS) -> _Fields:
        content = handles + parameters
        for _ in range(limits.TPM_RETRIES.default):
            answer = self._exchange(struct.pack(">HII", tag, 10 + len(content), command) + content)
            if answer[6:10] != _RETRY:
                break
            time.sleep(_RETRY_S)
        if len(answer) > limits.TPM_ANSWER_BYTES.default:
            raise _odd("an answer is longer than any of these can be")
        fields = _Fields(answer)
        fields.number(2)
        fields.must_be(4, len(answer))
        code = fields.number(4)
        if code:
            raise _odd(f"command {command:#x} is refused with {code:#x}")
        return fields


def _device() -> Exchange:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def exchange(command: bytes) -> bytes:
        os.write(fd, command)
        return os.read(fd, limits.TPM_ANSWER_BYTES.default)

    return exchange


def _sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def _coordinate(content: bytes) -> bytes:
    """32 bytes; a TPM may leave leading zeros out."""
    if len(content) > 32:
        raise _odd("a coordinate is longer than the curve's")
    return content.rjust(32, b"\0")


def read_log(path: Path = LOG) -> bytes:
    """The firmware's log as the kernel keeps it; empty if the firmware left none.

    Raises:
        BoxError: it is longer than the limit.
    Limits: TPM_LOG_BYTES.
    """
    if not path.exists():
        return b""
    content = b""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 16):
            content += piece
            if len(content) > limits.TPM_LOG_BYTES.default:
                raise BoxError("firmware's log", "is longer than the limit", "Correct the firmware's settings")
    return content


def measured(log: bytes, register: int) -> list[bytes]:
    """SHA-256 digests that the log says were measured into a register, in order.

    Raises:
        BoxError: not a log in the "crypto agile" form, or longer than the limit.
    Limits: ATTESTED_EVENTS.
    """
    if not log:
        return []
    fields = _LogFields(log)
    fields.number(4)
    fields.number(4)
    fields.take(_SHA1_BYTES)
    sizes = _algorithms(fields.take(fields.number(4)))
    found: list[bytes] = []
    while not fields.ended:
        number, kind, count = fields.number(4), fields.number(4), fields.number(4)
        digests: dict[int, bytes] = {}
        for _ in range(count):
            algorithm = fields.number(2)
            if algorithm not in sizes:
                raise _bad_log()
            digests[algorithm] = fields.take(sizes[algorithm])
        fields.take(fields.number(4))
        if number == register and kind != _NO_ACTION:
            if _SHA256 not in digests or len(found) == limits.ATTESTED_EVENTS.default:
                raise _bad_log()
            found.append(digests[_SHA256])
    return found


class _LogFields:
    """The log, taken apart from the front; its numbers are little endian."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> bytes:
        piece = self._content[self._at : self._at + size]
        if len(piece) != size:
            raise _bad_log()
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    @property
    def ended(self) -> bool:
        return self._at == len(self._content)


def _algorithms(head: bytes) -> dict[int, int]:
    """Size of each digest that an entry of the log may have, from its first event."""
    fields = _LogFields(head)
    if fields.take(16) != b"Spec ID Event03\0":
        raise _bad_log()
    fields.take(8)  # platform class, version, size of an address
    return {fields.number(2): fields.number(2) for _ in range(fields.number(4))}


def _bad_log() -> BoxError:
    return BoxError("firmware's log", "cannot be read", "Correct the firmware's settings, or switch the TPM off")


def main() -> None:
    """Print the fingerprint of this machine's key: for enrolment, in the diagnostic image or on any Linux."""
    from bunker.model.attestation import key_fingerprint  # noqa: PLC0415

    tpm = Tpm()
    tpm.forget()
    print(key_fingerprint(tpm.key))  # noqa: T201 - a program of its own


if __name__ == "__main__":
    main()
