"""`bunker bench capture --boxes`: the paper's figure 6 again. What do the machine and the encryption cost a capture?

Four bars: plain, in a machine, encrypted, both. Each is the highest rate of a paced burst of which nothing was lost,
and beside it the share that was lost at each rate.

Method:
1. The same device in all four: ring, blocks of the kernel taken whole, one writer thread with O_DIRECT, a fixed spool.
   Plain leaves the ciphers out: of the blocks (AES-256-GCM), and in a machine of the spool's disk (AES-256-XTS) too.
2. The same load: paced bursts into one end of a veth pair. A host's bar captures at the other end; a machine's hangs on
   a tap to which everything that arrives there is redirected (tc mirred), with virtio-net as `bunker run` gives it.
3. A burst is over when the counters stand still; what is missing then was lost, wherever.
4. Under TCG the machine's bars measure the emulator: the table says so, and only the ratio between its two bars means
   anything. Give the machine two processors and nothing else to do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from bunker.cli.bench.link import RECEIVING, Pair, pair
from bunker.cli.bench.report import Table
from bunker.closed.machine.bench import WORDS
from bunker.closed.machine.disks import ROOT, SPOOL
from bunker.errors import BoxError
from bunker.image import build
from bunker.image.build import build_image, image_folder
from bunker.image.cache import cache_directory
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image, working_acceleration
from bunker.image.programs import find
from bunker.image.qemu import CAPTURE_MAC, CAPTURE_OFFLOADS, SOFT, Acceleration

_TAP = "bbox0"
_ALL = "protocol all u32 match u32 0 0"
_START_S = 900.0
_QUIET_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One of the four."""

    name: str
    machine: bool
    sealed: bool


BARS = (
    Bar(name="plain", machine=False, sealed=False),
    Bar(name="machine", machine=True, sealed=False),
    Bar(name="encryption", machine=False, sealed=True),
    Bar(name="machine and encryption", machine=True, sealed=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, and with what it is caught."""

    size: int
    rates: tuple[int, ...]
    seconds: float
    ring_bytes: int
    block_bytes: int

    @property
    def spool_bytes(self) -> int:
        """Room for the longest burst twice, so that nothing waits for a release."""
        longest = max(self.rates) * self.seconds * (self.size + 100)
        return max(256 << 20, int(2 * longest) >> 20 << 20)


class Counters:
    """Lines of counters in a file that somebody else writes."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self._path, self._process = path, process

    def last(self) -> dict[str, int] | None:
        """The newest; None if there is none yet."""
        if not self._path.exists():
            return None
        lines = [line for line in self._path.read_text(errors="replace").splitlines() if WORDS in line]
        for line in reversed(lines):
            with suppress(ValueError):  # a line that is being written
                found: dict[str, int] = json.loads(line.split(WORDS, 1)[1])
                return found
        return None

    def started(self) -> None:
        """Wait for the first.

        Raises:
            BoxError: it has ended, or nothing comes.
        """
        until = time.monotonic() + _START_S
        while self.last() is None:
            if self._process.poll() is not None or time.monotonic() > until:
                said = self._path.read_text(errors="replace").strip().splitlines()
                raise BoxError("capture bench", "a box did not start", said[-1] if said else "It printed nothing")
            time.sleep(0.2)

    def quiet(self) -> int:
        """Packets, once they stand still."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < _QUIET_S:
            found = self.last()
            packets = 0 if found is None else found["packets"]
            if packets != last:
                last, since = packets, time.monotonic()
            time.sleep(0.2)
        return last


@contextmanager
def _host(bar: Bar, link: Pair, load: Load, work: Path) -> Iterator[Counters]:
    argv = [sys.executable, "-m", "bunker.closed.process.capture_bench", "--interface", RECEIVING, "--tell"]
    argv += ["--block-bytes", str(load.block_bytes), "--ring-bytes", str(load.ring_bytes), "--seconds", "3600"]
    argv += ["--spool", str(work / "spool"), "--spool-bytes", str(load.spool_bytes)]
    with _process(link.receiving(argv if bar.sealed else [*argv, "--plain"]), work) as process:
        yield Counters(work / "printed", process)


@contextmanager
def _machine(bar: Bar, link: Pair, load: Load, work: Path, *, image: Image, fast: Acceleration) -> Iterator[Counters]:
    for words in (
        ["ip", "tuntap", "add", "dev", _TAP, "mode", "tap"],
        ["sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{_TAP}/disable_ipv6"],
        ["ip", "link", "set", _TAP, "up"],
        ["tc", "qdisc", "add", "dev", RECEIVING, "clsact"],
        f"tc filter add dev {RECEIVING} ingress {_ALL} action mirred egress redirect dev {_TAP}".split(),
    ):
        subprocess.run(link.receiving(words), check=True, capture_output=True)
    spool = work / "spool.disk"
    with spool.open("wb") as disk:
        os.truncate(disk.fileno(), load.spool_bytes * 41 // 40 + (96 << 20) >> 20 << 20)
    with _process(
        link.receiving(machine_words(bar, load, spool=spool, log=work / "serial", image=image, fast=fast)), work
    ) as process:
        yield Counters(work / "serial", process)


def machine_words(bar: Bar, load: Load, *, spool: Path, log: Path, image: Image, fast: Acceleration) -> list[str]:
    """QEMU's command line: what `bunker run` uses, less the link, more a console to read."""
    yes = "yes" if bar.sealed else "no"
    append = f"{image.manifest.command_line} console=ttyS0 printk.devkmsg=on bench.sealed={yes} bench.encrypted={yes}"
    append += f" bench.ring={load.ring_bytes} bench.block={load.block_bytes} bench.spool={load.spool_bytes}"
    line = [find("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-m", "2048M"]
    line += ["-machine", f"q35,accel={fast},usb=off", "-cpu", "host" if fast is Acceleration.KVM else SOFT, "-smp", "2"]
    line += ["-kernel", str(image.directory / build.KERNEL), "-initrd", str(image.directory / build.INITRAMFS)]
    line += ["-append", append, "-serial", f"file:{log}"]
    for serial, path, mode in ((ROOT, image.directory / build.ROOT, "on"), (SPOOL, spool, "off")):
        line += ["-drive", f"if=none,id={serial},format=raw,file={path},readonly={mode},cache=none,discard=off"]
        line += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
    line += ["-netdev", f"tap,id=capture,ifname={_TAP},script=no,downscript=no"]
    line += ["-device", f"virtio-net-pci,netdev=capture,mac={CAPTURE_MAC},romfile=,{CAPTURE_OFFLOADS}"]
    return [*line, "-object", "rng-random,id=noise,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=noise"]


@contextmanager
def _process(argv: list[str], work: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (work / "printed").open("wb") as printed:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def bench_image() -> Image:
    """The measuring image, built if it is not there."""
    place = cache_directory() / "images" / "vm-bench"
    build_image(image_folder(None), place, kind=Kind.QUICK, variant=Variant.VM, more=("bench",), replace=True)
    return Image.open(place)


def lost(bar: Bar, load: Load, *, work: Path, image: Image, fast: Acceleration) -> dict[int, float]:
    """The share of packets that was lost at each rate, in one life of one box.

    Raises:
        BoxError: it did not start.
    """
    found: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="boxes-", dir=work) as name, pair() as link:
        place = Path(name)
        box = _machine(bar, link, load, place, image=image, fast=fast) if bar.machine else _host(bar, link, load, place)
        with box as counters:
            counters.started()
            link.send(size=load.size, packets=1000, rate=1000)  # first touch of everything
            before = counters.quiet()
            for rate in load.rates:
                sent = link.send(size=load.size, packets=int(rate * load.seconds), rate=rate)
                now = counters.quiet()
                found[rate] = max(0.0, 1 - (now - before) / sent.packets)
                before = now
    return found


def table_of(load: Load, samples: dict[str, list[dict[int, float]]], *, fast: Acceleration) -> Table:
    """The four bars: the highest rate of which no round lost a packet, and what each rate lost at worst."""
    table = Table(
        title=f"what the box costs: capture to disk, packets of {load.size} bytes",
        columns=("box", "lossless up to/s", "Mbit/s", *(f"lost at {rate:,}/s" for rate in load.rates)),
    )
    for name, rounds in samples.items():
        lossless = [rate for rate in load.rates if all(one[rate] == 0 for one in rounds)]
        best = max(lossless, default=None)
        worst = (f"{max(one[rate] for one in rounds):.2%}" for rate in load.rates)
        table.add(name, best, None if best is None else best * load.size * 8 / 1e6, *worst)
    ring = f"ring {load.ring_bytes >> 20} MiB, blocks of {load.block_bytes >> 20} MiB"
    table.notes.append(
        f"{ring}, bursts of {load.seconds:g} s; encryption: AES-256-GCM of each block, in the machine dm-crypt too"
    )
    if fast is Acceleration.TCG:
        table.notes.append(
            "EMULATED (TCG): the two bars of the machine measure the emulator and say nothing of one under KVM"
        )
    return table


def measure_boxes(load: Load, *, work: Path, rounds: int, bars: Sequence[Bar] = BARS) -> Table:
    """All bars, in turns."""
    if shutil.which("tc") is None and any(bar.machine for bar in bars):
        raise BoxError("capture bench", "tc is missing", "apt-get install iproute2")
    image = bench_image()
    fast = working_acceleration(image)
    samples: dict[str, list[dict[int, float]]] = {bar.name: [] for bar in bars}
    for number in range(rounds):
        turn = number % len(bars)
        for bar in (*bars[turn:], *bars[:turn]):
            click.echo(f"round {number + 1} of {rounds}: {bar.name}", err=True)
            samples[bar.name].append(lost(bar, load, work=work, image=image, fast=fast))
    return table_of(load, samples, fast=fast)
