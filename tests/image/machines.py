"""Machines for the tests in this folder: started like `bunker run` does, watched and attacked from outside.

Which image: the directory that BUNKER_IMAGE names, else a quick one made for the session. Everything runs emulated
(TCG), so that it runs anywhere.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tpms import tpm_for_qemu

from bunker.experiment.bundle import Bundle, read_bundle
from bunker.image.launch import Image, Machine, Wishes, connected, prepare
from bunker.image.qemu import Acceleration, Line
from bunker.image.traffic import Netdev
from bunker.model.heartbeat import Heartbeat, Start
from bunker.open.receive import receive_stream
from bunker.open.verdict import Verdict, Word

BOOT_S = 900.0
"""Emulated on a loaded machine; half a minute on a free one."""
STARVED_RUNS_S, STARVED_STANDS_S = 0.008, 0.09
BLOCK = 4096
UEFI = Path("/usr/share/ovmf/OVMF.fd")
"""Code and variables in one file, for machines whose variables need not be kept."""


class Control:
    """QEMU's monitor: what an attacker with the host has, and no user of ours gets."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(120)
        until = time.monotonic() + 10
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        """One command; its answer, or the error's text."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                return answer["error"]["desc"]

    def say(self, line: str) -> str:
        """One command of the human monitor."""
        return str(self("human-monitor-command", **{"command-line": line}))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@dataclass
class Running:
    """A started machine and what came out of it."""

    machine: Machine
    line: Line
    work: Path
    out: Path
    beats: list[Heartbeat] = field(default_factory=list)
    verdict: Verdict | None = None
    control: Control | None = None
    link: int = -1
    """The open box's end of the machine's connection."""
    wire: socket.socket | None = None
    """The other end of the capture cable, when it is one of ours."""

    @property
    def spool(self) -> Path:
        return self.work / "spool.disk"

    def wait_for_beat(self, number: int = 1, timeout_s: float = BOOT_S) -> None:
        """Until that many heartbeats came."""
        until = time.monotonic() + timeout_s
        while len(self.beats) < number:
            assert self.machine.running(), self._went_off()
            assert time.monotonic() < until, f"no heartbeat: {log_of(self.line)}"
            time.sleep(0.1)

    def _went_off(self) -> str:
        """QEMU's code and last line: a guest that switches off, or panics, ends it with 0 and without a word."""
        code = self.machine.wait()
        return f"the machine went off ({code}, {self.machine.complaint()!r}): {log_of(self.line)}"

    def wait_until_off(self, timeout_s: float = BOOT_S) -> None:
        self.machine.wait(timeout_s)

    def ask_to_end(self) -> None:
        """What the first Ctrl-C of `bunker run` sends."""
        os.write(self.link, b".")

    def send(self, frames: list[bytes]) -> None:
        """Frames onto the capture cable."""
        assert self.wire is not None
        for frame in frames:
            self.wire.sendto(frame, str(self.work / "nic"))

    def heard(self) -> list[bytes]:
        """Frames that the machine sent on the capture cable."""
        assert self.wire is not None
        found: list[bytes] = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.wire.recv(65536, socket.MSG_DONTWAIT))
        return found


@dataclass(frozen=True, kw_only=True)
class PciDevice:
    """A device on the machine's bus."""

    name: str
    """The id that QEMU was given; empty if none was."""
    address: int
    """Bus, slot and function, as the configuration port takes them."""

    def has_driver(self, control: Control) -> bool:
        """Whether a driver has taken it: its interrupts by message are on, or it may use memory by itself and has none.

        Firmware switches the second on as well, never the first; what was plugged in later no firmware has seen.
        """
        command, status = self._read(control, 4) & 0xFFFF, self._read(control, 4) >> 16
        at = self._read(control, 0x34) & 0xFC if status & 0x10 else 0
        by_message = False
        while at:
            head = self._read(control, at)
            kind, enabled = head & 0xFF, {_MSI: 1 << 16, _MSI_X: 1 << 31}
            if kind in enabled:
                by_message = True
                if head & enabled[kind]:
                    return True
            at = head >> 8 & 0xFC
        return not by_message and bool(command & _BUS_MASTER)

    def _read(self, control: Control, register: int) -> int:
        control.say(f"o/w 0xcf8 {0x80000000 | self.address | register:#x}")
        return int(control.say("i/w 0xcfc").split("=")[1], 16)


_MSI, _MSI_X, _BUS_MASTER = 0x05, 0x11, 0x4


def pci_devices(control: Control) -> list[PciDevice]:
    """All of a machine that stands still."""
    found: list[PciDevice] = []
    waiting = [device for bus in control("query-pci") for device in bus["devices"]]
    while waiting:
        device = waiting.pop()
        waiting += device.get("pci_bridge", {}).get("devices", [])
        address = device["bus"] << 16 | device["slot"] << 11 | device["function"] << 8
        found.append(PciDevice(name=device["qdev_id"], address=address))
    return found


def log_of(line: Line) -> str:
    """Process 1's words, of a quick image."""
    if line.log is None or not line.log.exists():
        return "no log"
    return "; ".join(words for words in line.log.read_text(errors="replace").splitlines() if "bunker:" in words)


@contextmanager
def started(
    image: Image,
    experiment: Path | Bundle,
    work: Path,
    *,
    files: tuple[Path, ...] = (),
    live: bool = False,
    monitor: bool = False,
    change: Callable[[Line], Line] = lambda line: line,
    words: Callable[[list[str]], list[str]] = lambda words: words,
    tamper: Callable[[Path], None] = lambda _: None,
    memory_mb: int = 1024,
    tpm: bool = False,
    place: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[Running]:
    """A machine that runs an experiment; off when the block ends.

    Args:
        change, words, tamper: What is done to the command line and to the run's files before it starts.
        place: Where the open box listens.
    """
    bundle = experiment if isinstance(experiment, Bundle) else read_bundle(experiment)
    work.mkdir(parents=True, exist_ok=True)
    quick = image.manifest.identity.kind.value == "quick"
    wishes = Wishes(
        memory_mb=memory_mb,
        acceleration=Acceleration.TCG,
        log=work / "log" if quick else None,
        monitor=work / "monitor" if monitor else None,
        tpm=work / "tpm" if tpm else None,
    )
    wire = None
    capture = None
    if live:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        wire.bind(str(work / "wire"))
        capture = Netdev(words=f"dgram,local.type=unix,local.path={work}/nic,remote.type=unix,remote.path={work}/wire")
    with socket.create_server(place) as listener, tpm_for_qemu(work / "tpm") if tpm else nullcontext():
        egress = "{}:{}".format(*listener.getsockname())
        line = change(prepare(image, bundle, work, egress=egress, files=files, capture=capture, wishes=wishes))
        tamper(work)
        machine = Machine(_Words(line, words))
        running = Running(machine=machine, line=line, work=work, out=work / "out", wire=wire)
        reading = running.link = connected(listener, machine)

        def receive() -> None:
            running.verdict = receive_stream(
                reading, running.out, on_heartbeat=lambda beat, _start: running.beats.append(beat)
            )

        receiver = threading.Thread(target=receive)
        receiver.start()
        try:
            if monitor:
                running.control = Control(work / "monitor")
            yield running
        finally:
            machine.power_off()
            machine.wait()
            machine.close()
            if running.control is not None:
                running.control.close()
            receiver.join(10)
            if receiver.is_alive():  # over a tap nobody says that the machine is gone
                with socket.socket(fileno=os.dup(reading)) as end, suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
                receiver.join(60)
            os.close(reading)
            if wire is not None:
                wire.close()


class _Words:
    """A line whose words are changed at the last moment."""

    def __init__(self, line: Line, change: Callable[[list[str]], list[str]]) -> None:
        self._line, self._change = line, change
        self.capture_fd = line.capture_fd

    def words(self) -> list[str]:
        return self._change(self._line.words())


@contextmanager
def starved(machine: Machine) -> Iterator[None]:
    """The host gives the machine eight milliseconds of every hundred, as one that is overloaded does."""
    fed = threading.Event()

    def starve() -> None:
        while machine.running() and not fed.wait(STARVED_RUNS_S):
            os.kill(machine.pid, signal.SIGSTOP)
            fed.wait(STARVED_STANDS_S)
            os.kill(machine.pid, signal.SIGCONT)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        fed.set()
        thread.join()


def restartable(words: list[str]) -> list[str]:
    """A machine that comes up again after a reset."""
    return [word for word in words if word != "-no-reboot"]


def with_extra(*extra: str) -> Callable[[Line], Line]:
    """Further words on the command line."""
    return lambda line: replace(line, extra=(*line.extra, *extra))


def came_out_whole(running: Running, image: Image, packets: int) -> Start:
    """The verdict on this image's run is WHOLE, and so many packets were received. Its start statement."""
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE
    assert running.verdict.start is not None
    assert running.verdict.start.image == image.manifest.digest
    assert running.verdict.counters["packets_received"] == packets
    return running.verdict.start


def written_blocks(path: Path) -> Iterator[bytes]:
    """Blocks that are not all zero; a hole was never written."""
    with path.open("rb") as file:
        at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            file.seek(at // BLOCK * BLOCK)
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            file.seek(at // BLOCK * BLOCK)
            for _ in range(at // BLOCK * BLOCK, end, BLOCK):
                block = file.read(BLOCK)
                if block.count(0) != len(block):
                    yield block
            at = end


def readable_blocks(path: Path) -> tuple[int, int]:
    """(blocks written, those of them that do not look like noise)."""
    found = [is_readable(block) for block in written_blocks(path)]
    return len(found), sum(found)


def is_readable(block: bytes) -> bool:
    """Whether a block does not look like noise. Sectors of zeros in it were not written: a disk is written in sectors.

    n bytes of noise have 8 - 255/(2 n ln 2) bits a byte (4096: 7.955 ± 0.004, 512: 7.59 ± 0.03); text, tables and
    counters stay below 6 at 512 bytes and 7.5 at 4096.
    """
    sectors = (block[at : at + 512] for at in range(0, len(block), 512))
    written = b"".join(sector for sector in sectors if sector.count(0) != len(sector))
    return entropy(written) < 8 - 255 / (2 * len(written) * math.log(2)) - 0.3


def entropy(block: bytes) -> float:
    """Bits a byte."""
    total = len(block)
    return -sum(n / total * math.log2(n / total) for n in Counter(block).values())
