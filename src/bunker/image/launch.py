"""Starts the sealed image under QEMU and connects it with the open box; the VM's half of `bunker run`.

Rules of this file:
1. What the run leaves beside its output is a run disk and a spool file in a directory of its own, and both are removed
   when the machine is off; what stands on the spool was never readable.
2. This process holds no descriptor of traffic but the paths of capture files, which QEMU opens read-only.
3. The image is checked against its manifest before it is started.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bunker.closed.machine.orders import Orders, Way, pack
from bunker.errors import BoxError, ConfigurationError
from bunker.experiment.bundle import Bundle
from bunker.image import build, cards, manifest, qemu
from bunker.image.kernel import Kind
from bunker.image.manifest import Manifest
from bunker.image.programs import find
from bunker.image.qemu import Acceleration, Confidential, Line
from bunker.image.traffic import Cable, Macvtap, Passthrough, open_macvtap

_PROBE_S, _PROBE_MB = 30.0, 512
_SPOOL_OVERHEAD = 96 << 20
"""What the spool's file system takes for itself, generously: 1/40 of the size and this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image directory whose files are what its manifest says."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def open(directory: Path) -> Image:
        """Read and check an image.

        Raises:
            ConfigurationError: there is none, or a file is not what the manifest says.
        """
        found = manifest.read(directory)
        wrong = manifest.faults(directory, found)
        if wrong:
            raise ConfigurationError(f"image {directory}", "; ".join(wrong), "Build it anew")
        return Image(directory=directory, manifest=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator may choose of the machine."""

    memory_mb: int = 2048
    processors: int = 2
    confidential: Confidential | None = None
    firmware: Path | None = None
    acceleration: Acceleration | None = None
    """None: KVM where it works, else TCG."""
    log: Path | None = None
    monitor: Path | None = None
    tpm: Path | None = None
    extra: tuple[str, ...] = ()


def prepare(
    image: Image,
    bundle: Bundle,
    work: Path,
    *,
    egress: str,
    files: tuple[Path, ...] = (),
    capture: Cable | None = None,
    wishes: Wishes,
) -> Line:
    """Make the run disk and the spool in `work`, and the machine's command line.

    Args:
        egress: HOST:PORT that QEMU connects to.
    Raises:
        ConfigurationError: a file cannot be read, or what is wished for is not to be had here.
    """
    if image.manifest.identity.kind is Kind.DIAGNOSTIC:
        raise ConfigurationError("a diagnostic image", "never touches traffic", "Build the sealed one")
    if wishes.confidential is not None:
        refuse_without_hardware(wishes.confidential)
    if isinstance(capture, Passthrough):
        _refuse_without_driver(image, capture)
    orders = Orders(
        bundle=bundle.digest,
        way=Way(mac=qemu.LINK_MAC, address=qemu.GUEST, prefix=qemu.PREFIX, target=qemu.TARGET, port=qemu.PORT),
        captures=tuple(_size(path) for path in files),
    )
    (work / "run.disk").write_bytes(pack(orders, bundle.content))
    spool = work / "spool.disk"
    with spool.open("wb") as disk:
        os.truncate(disk.fileno(), spool_disk_bytes(bundle))
    spool.chmod(0o600)
    quick = image.manifest.identity.kind is Kind.QUICK
    return Line(
        kernel=image.directory / build.KERNEL,
        initramfs=image.directory / build.INITRAMFS if quick else None,
        command_line=image.manifest.command_line if quick else None,
        root=image.directory / build.ROOT,
        run_disk=work / "run.disk",
        spool=spool,
        captures=files,
        capture=capture,
        capture_fd=open_macvtap(capture) if isinstance(capture, Macvtap) else None,
        egress=egress,
        memory_mb=wishes.memory_mb,
        processors=wishes.processors,
        acceleration=wishes.acceleration or working_acceleration(image),
        confidential=wishes.confidential,
        firmware=wishes.firmware,
        log=wishes.log,
        monitor=wishes.monitor,
        tpm=wishes.tpm,
        extra=wishes.extra,
    )


def _refuse_without_driver(image: Image, card: Passthrough) -> None:
    """Before the machine is made: it would find no interface to capture from, and be off without a word."""
    if not cards.is_driven(card.alias, cards.read(image.directory)):
        raise ConfigurationError(
            f"card {card.address}",
            "has no driver in the image's kernel",
            "Take the sealed image, another card, or a macvtap over this one (docs/image.md)",
        )


def spool_disk_bytes(bundle: Bundle) -> int:
    """Size of the disk that an experiment's spool needs."""
    size = bundle.experiment.spool_bytes
    return (size + size // 40 + _SPOOL_OVERHEAD) // 4096 * 4096


def _size(path: Path) -> int:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise ConfigurationError(
            f"capture file {path}", f"cannot be read ({error.strerror})", "Give a file, not a pipe: it becomes a disk"
        ) from None
    if size == 0:
        raise ConfigurationError(f"capture file {path}", "is empty", "Give another")
    return size


def refuse_without_hardware(kind: Confidential) -> None:
    """Confidential guests need a processor and a kernel that make them.

    Raises:
        ConfigurationError: this machine does not say that it has them.
    """
    module, parameter = {Confidential.SEV_SNP: ("kvm_amd", "sev_snp"), Confidential.TDX: ("kvm_intel", "tdx")}[kind]
    path = Path("/sys/module") / module / "parameters" / parameter
    if not path.exists() or path.read_text().strip() not in {"Y", "1"}:
        raise ConfigurationError(
            f"--confidential {kind}", "this machine cannot do that", "Use a host whose KVM offers it, or leave it out"
        )


def working_acceleration(image: Image) -> Acceleration:
    """KVM if the image starts under it within a time limit, else TCG.

    The device node alone says little: nested or filtered KVM accepts a guest and then hangs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Acceleration.TCG
    return Acceleration.KVM if ends_by_itself(image, Acceleration.KVM, timeout_s=_PROBE_S) else Acceleration.TCG


def ends_by_itself(image: Image, acceleration: Acceleration, *, timeout_s: float, root: Path | None = None) -> bool:
    """Whether the image, started with its root and nothing else, switches off: its process 1 then finds no run disk.

    Args:
        root: Another root disk than the image's.
    """
    quick = image.manifest.identity.kind is Kind.QUICK
    line = Line(
        kernel=image.directory / build.KERNEL,
        initramfs=image.directory / build.INITRAMFS if quick else None,
        command_line=image.manifest.command_line if quick else None,
        root=root or image.directory / build.ROOT,
        run_disk=None,
        spool=None,
        memory_mb=_PROBE_MB,
        acceleration=acceleration,
    )
    words = line.words()
    with suppress(subprocess.TimeoutExpired, OSError):
        done = subprocess.run(
            [find(words[0]), *words[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode == 0
    return False


class Machine:
    """A started machine."""

    def __init__(self, line: Line) -> None:
        words = line.words()
        handed = () if line.capture_fd is None else (line.capture_fd,)
        try:
            self._process = subprocess.Popen(
                [find(words[0]), *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=handed,
            )
        finally:
            for descriptor in handed:
                os.close(descriptor)
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    def power_off(self) -> None:
        """Pull the plug: keys and raw traffic are gone with the memory."""
        self._process.kill()

    def running(self) -> bool:
        """Whether it is on."""
        return self._process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int:
        """Until it is off.

        Raises:
            subprocess.TimeoutExpired: it is not.
        """
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """Let QEMU's standard error go."""
        if self._process.stderr is not None:
            self._process.stderr.close()

    def complaint(self) -> str:
        """The last line that QEMU itself wrote; empty if none. Read once, after the end."""
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@contextmanager
def machine_directory(spool: Path | None = None) -> Iterator[Path]:
    """A private directory for a run's disks."""
    with tempfile.TemporaryDirectory(prefix="bunker-vm-", dir=spool) as name:
        yield Path(name)


def connected(listener: socket.socket, machine: Machine) -> int:
    """The machine's way out as a descriptor to read from. QEMU connects when it starts.

    Raises:
        BoxError: the machine is off before that.
    """
    listener.settimeout(1)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            if machine.running():
                continue
            raise BoxError("the machine", f"did not start: {machine.complaint()}", "Correct what QEMU says") from None
        with closing(connection):
            connection.setblocking(True)
            # Both directions stay open: QEMU takes a half-closed one for closed. The machine never reads its end.
            return connection.detach()
