"""QEMU's command line for the sealed image: a machine with nothing on it that was not asked for.

Rules of this file:
1. `-nodefaults -no-user-config -nographic`, no monitor, no hot-plug, no shared folder, no balloon, no USB, no serial
   line: what is not on this list does not exist. Tests may add a serial log or a monitor, and then say so.
2. A line is data: it is built here, tested as text, and started elsewhere.
3. A confidential guest is asked for in full or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from bunker.closed.machine.disks import CAPTURE, ROOT, RUN, SPOOL
from bunker.errors import ConfigurationError
from bunker.image.traffic import Cable, Macvtap, Netdev, Passthrough, Tap

LINK_MAC: Final = "02:62:75:6e:6b:01"
CAPTURE_MAC: Final = "02:62:75:6e:6b:02"
GUEST, TARGET, PORT, PREFIX = "10.0.2.15", "10.0.2.100", 9000, 24
"""The private net between machine and QEMU: the machine, and the one address it may send to."""
CAPTURE_OFFLOADS: Final = "csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,mrg_rxbuf=on"
"""Of the capture interface: none, so that a packet is recorded as it stood on the wire."""
SOFT: Final = "max,-erms"
"""Emulated: clearing memory byte by byte, as a processor with that feature is asked to, takes eight times as long."""


class Confidential(StrEnum):
    """Kinds of confidential guests."""

    SEV_SNP = "sev-snp"
    TDX = "tdx"


class Acceleration(StrEnum):
    """How the guest's instructions are executed."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The machine to start.

    Args:
        kernel, initramfs, root: Files of the image; no initramfs for a sealed kernel.
        run_disk, spool: Files made for this run; None: a machine that only tries to start.
        captures: Capture files, read-only disks.
        capture: Live traffic. None: no capture interface.
        egress: HOST:PORT of the open box, as QEMU reaches it; None: nothing can be reached.
        link_tap: A tap to the open box instead of QEMU's private net.
    """

    kernel: Path
    initramfs: Path | None
    command_line: str | None
    root: Path
    run_disk: Path | None
    spool: Path | None
    captures: tuple[Path, ...] = ()
    capture: Cable | None = None
    capture_fd: int | None = None
    """A macvtap's device, open; QEMU's from its start on."""
    egress: str | None = None
    link_tap: str | None = None
    memory_mb: int = 2048
    processors: int = 2
    acceleration: Acceleration = Acceleration.TCG
    confidential: Confidential | None = None
    firmware: Path | None = None
    """Of a confidential guest."""
    log: Path | None = None
    """A serial log, for tests with the quick image; the sealed kernel has no serial driver."""
    monitor: Path | None = None
    """A control socket, for tests that attack the machine."""
    tpm: Path | None = None
    """Control socket of a software TPM (swtpm), which the machine then has."""
    extra: tuple[str, ...] = ()
    """Further words, for tests that attack the machine."""

    def words(self) -> list[str]:
        """The command line."""
        fast = self.acceleration is Acceleration.KVM
        line = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]
        line += [
            "-name",
            "bunker",
            "-machine",
            self._machine(),
            "-smp",
            str(self.processors),
            "-m",
            f"{self.memory_mb}M",
        ]
        line += ["-cpu", "host" if fast else SOFT, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
        line += ["-rtc", "base=utc", "-monitor", "none", "-serial", f"file:{_path(self.log)}" if self.log else "none"]
        line += self._confidential()
        if self.monitor is not None:
            line += ["-qmp", f"unix:{_path(self.monitor)},server=on,wait=off"]
        line += ["-kernel", str(self.kernel)]
        if self.initramfs is not None:
            line += ["-initrd", str(self.initramfs)]
        if self.command_line is not None:
            line += ["-append", self.command_line + (" console=ttyS0" if self.log else "")]
        line += self._disks() + self._networks()
        line += ["-object", "rng-random,id=noise,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=noise"]
        if self.tpm is not None:
            line += ["-chardev", f"socket,id=tpm,path={_path(self.tpm)}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
            line += ["-device", "tpm-crb,tpmdev=tpm0"]
        return [*line, *self.extra]

    def _machine(self) -> str:
        words = ["q35", f"accel={self.acceleration}", "usb=off", "vmport=off", "smbus=off", "sata=off", "i8042=off"]
        words += ["dump-guest-core=off", "mem-merge=off", "hpet=off"]
        if self.confidential is not None:
            words += ["confidential-guest-support=guard", "kernel-irqchip=split", "memory-backend=memory"]
        return ",".join(words)

    def _confidential(self) -> list[str]:
        if self.confidential is None:
            return []
        if self.firmware is None:
            raise ConfigurationError("--confidential", "needs a firmware built for it", "Give --firmware OVMF.fd")
        memory = f"memory-backend-memfd,id=memory,size={self.memory_mb}M,share=true,prealloc=false"
        # kernel-hashes: kernel, initramfs and command line are part of the measurement.
        guard = {
            Confidential.SEV_SNP: "sev-snp-guest,id=guard,cbitpos=51,reduced-phys-bits=1,policy=0x30000,"
            "kernel-hashes=on",
            Confidential.TDX: "tdx-guest,id=guard",
        }[self.confidential]
        return ["-object", memory, "-object", guard, "-bios", str(self.firmware)]

    def _disks(self) -> list[str]:
        disks: list[tuple[str, Path | None, bool]] = [
            (ROOT, self.root, True),
            (RUN, self.run_disk, True),
            (SPOOL, self.spool, False),
        ]
        disks += [(f"{CAPTURE}{number}", path, True) for number, path in enumerate(self.captures)]
        line: list[str] = []
        for serial, path, read_only in disks:
            if path is None:
                continue
            mode = "on" if read_only else "off"
            # No discard: which blocks hold nothing is nobody's business.
            line += [
                "-drive",
                f"if=none,id={serial},format=raw,file={_path(path)},readonly={mode},cache=none,discard=off",
            ]
            line += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        return line

    def _networks(self) -> list[str]:
        if self.link_tap is not None:
            link = f"tap,id=link,ifname={self.link_tap},script=no,downscript=no"
        else:
            link = "user,id=link,restrict=on,ipv6=off"
            if self.egress is not None:
                link += f",guestfwd=tcp:{TARGET}:{PORT}-tcp:{self.egress}"
        line = ["-netdev", link, "-device", f"virtio-net-pci,netdev=link,mac={LINK_MAC},romfile="]
        if self.capture is None:
            return line
        match self.capture:
            case Passthrough(address=address):
                return [*line, "-device", f"vfio-pci,host={address},rombar=0"]
            case Tap(name=name):
                netdev = f"tap,id=capture,ifname={name},script=no,downscript=no"
            case Macvtap():
                netdev = f"tap,id=capture,fd={self.capture_fd}"
            case Netdev(words=words):
                netdev = f"{words},id=capture"
        return [
            *("-netdev", netdev),
            *("-device", f"virtio-net-pci,netdev=capture,mac={CAPTURE_MAC},romfile=,{CAPTURE_OFFLOADS}"),
            *line,
        ]


def _path(path: Path | None) -> str:
    """A path as a value of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")
