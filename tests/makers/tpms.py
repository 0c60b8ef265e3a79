"""A TPM in software, with a machine's start measured into it, for tests."""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bunker.closed.machine.tpm import Exchange
from bunker.model.heartbeat import FORMATS, Start, Tier

ACTION = b"Calling EFI Application from Boot Option"
SEPARATOR = bytes(4)


def appliance_start(enforcement: dict[str, str]) -> Start:
    """The start statement of an appliance that says so of its walls."""
    return Start(
        formats=FORMATS,
        run="0" * 32,
        public_key="ab" * 32,
        started_ns=1,
        tier=Tier.APPLIANCE,
        bundle="1" * 64,
        image="2" * 64,
        policy="3" * 64,
        schemas=[],
        enforcement=enforcement,
        heartbeat_ns=10**9,
    )


@contextmanager
def software_tpm(folder: Path) -> Iterator[Exchange]:
    """A started swtpm, new in `folder`, to which commands are sent as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "commands"
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "not-need-init,startup-clear"]
    process = subprocess.Popen([*words, "--server", f"type=unixio,path={place}"], stdin=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            until = time.monotonic() + 20
            while True:
                try:
                    line.connect(str(place))
                    break
                except OSError:
                    assert time.monotonic() < until
                    time.sleep(0.02)
            line.settimeout(60)

            def exchange(command: bytes) -> bytes:
                line.sendall(command)
                return line.recv(4096)

            yield exchange
    finally:
        process.kill()
        process.wait()


@contextmanager
def tpm_for_qemu(control: Path) -> Iterator[None]:
    """A new swtpm for one machine, which ends with the machine; QEMU is given the path of its control socket."""
    state = control.with_suffix(".state")
    state.mkdir()
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control}"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while not control.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


def extend(exchange: Exchange, register: int, digest: bytes) -> None:
    """TPM2_PCR_Extend of the SHA-256 bank with an empty password."""
    content = struct.pack(">IIIHBH", register, 9, 0x40000009, 0, 0, 0) + struct.pack(">IH", 1, 0x000B) + digest
    answer = exchange(struct.pack(">HII", 0x8002, 10 + len(content), 0x182) + content)
    assert answer[6:10] == bytes(4), answer.hex()


def start_machine(exchange: Exchange, programs: Sequence[bytes], *, words_last: bool = False) -> bytes:
    """Measure a start, as firmware does, of these programs (their digests); the event log of it.

    Args:
        words_last: The firmware's own words come behind the programs, as when QEMU hands a kernel over.
    """
    log = _event_log_head()
    words = (hashlib.sha256(ACTION).digest(), hashlib.sha256(SEPARATOR).digest())
    for digest in (*programs, *words) if words_last else (*words, *programs):
        extend(exchange, 4, digest)
        log += entry(4, digest)
    extend(exchange, 0, hashlib.sha256(b"firmware").digest())
    return log + entry(0, hashlib.sha256(b"firmware").digest())


def _event_log_head() -> bytes:
    head = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 0, 2)
    head += struct.pack("<IHHHH", 2, 4, 20, 11, 32) + b"\0"
    return struct.pack("<II20sI", 0, 3, b"", len(head)) + head


def entry(register: int, digest: bytes, *, kind: int = 0x80000003, data: bytes = b"what") -> bytes:
    """One event: its SHA-1 and SHA-256 digests, and data that nobody needs."""
    digests = struct.pack("<IH20sH32s", 2, 4, bytes(20), 11, digest)
    return struct.pack("<II", register, kind) + digests + struct.pack("<I", len(data)) + data
