"""The VM's half of `bunker run`: the same run, in the sealed image under QEMU.

Rules of this file:
1. What the operator sees and gets is what `--closed-box process` shows and stores: the open box does not know the
   difference but by the statements' tier and image.
2. A machine can be asked for one thing, an end in order: any byte on the connection that it opened. That is what the
   first Ctrl-C sends; the second pulls the plug, and what was not released is gone.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType

import click

from bunker.closed.egress.target import open_egress
from bunker.closed.process.setup import Source
from bunker.errors import ConfigurationError
from bunker.experiment.bundle import Bundle
from bunker.image.build import default_place
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image, Machine, Wishes, connected, machine_directory, prepare
from bunker.image.qemu import Line
from bunker.open.receive import receive_stream
from bunker.open.verdict import told
from bunker.open.watch import Watch

_END = b"."
"""What it is does not matter: the machine counts it and does not read it."""
_PIECE = 1 << 20
_QUICK = "image is a QUICK one, for tests: its kernel is the distribution's and its command line is the host's."


def run_machine(
    bundle: Bundle, source: Source, directory: Path | None, target: str | None, *, image: Path | None, wishes: Wishes
) -> int:
    """Run a bundle in the sealed image.

    Returns:
        The exit code.
    Raises:
        ConfigurationError: no image, or the traffic cannot be handed to a machine. BoxError: it did not start.
    """
    found = Image.open(image or default_place(Kind.SEALED, Variant.VM))
    click.echo(f"image {found.manifest.digest} ({found.manifest.identity.kind.value})", err=True)
    if found.manifest.identity.kind is Kind.QUICK:
        click.echo(_QUICK, err=True)
    with machine_directory() as work, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        onward = None if target is None else _onward(target)
        line = _line(found, bundle, source, work, egress=f"127.0.0.1:{port}", wishes=wishes)
        machine = _started(line)
        with _Ending(machine) as ending:
            reading = connected(listener, machine)
            ending.link = reading
            try:
                if onward is not None:
                    return _relay(reading, onward, machine)
                assert directory is not None
                with Watch() as watch:
                    verdict = receive_stream(reading, directory, on_heartbeat=watch.heartbeat)
                machine.wait()
            finally:
                ending.link = -1
                os.close(reading)
        for words in told(verdict):
            click.echo(words)
        return verdict.exit_code


def _relay(reading: int, onward: socket.socket, machine: Machine) -> int:
    """Hand on what the machine sends, unread, until it or the open box ends.

    Returns:
        The exit code: whether everything was handed on.
    """
    with onward:
        try:
            while piece := os.read(reading, _PIECE):
                onward.sendall(piece)
        except OSError:
            machine.power_off()
            return 1
    return 1 if machine.wait() else 0


def _line(image: Image, bundle: Bundle, source: Source, work: Path, *, egress: str, wishes: Wishes) -> Line:
    capture = None if source.interface is None else _capture(source.interface)
    return prepare(image, bundle, work, egress=egress, files=source.files, capture=capture, wishes=wishes)


def _capture(interface: str) -> str:
    """What QEMU is told of an interface: a tap by its name, a PCI address, or a netdev in QEMU's own words."""
    if Path("/sys/class/net", interface, "tun_flags").exists():
        return f"tap:{interface}"
    if Path("/sys/class/net", interface).exists():
        raise ConfigurationError(
            f"interface {interface}",
            "cannot be handed to a machine as it is",
            "Bind its card to vfio-pci and give the PCI address, or mirror it onto a tap (docs/image.md)",
        )
    return interface


def _onward(target: str) -> socket.socket:
    """A connection to the open box, write-only."""
    if target.startswith(("unix:", "file:")) or ":" not in target:
        raise ConfigurationError(f"target {target}", "is no address", "A machine sends to HOST:PORT; or use -o DIR")
    return socket.socket(fileno=open_egress(target))


def _started(line: Line) -> Machine:
    click.echo(f"machine under {line.acceleration.value}, {line.memory_mb} MiB", err=True)
    return Machine(line)


class _Ending:
    """What Ctrl-C and SIGTERM do while a machine runs. Whatever ends the block, the machine is off after it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.link = -1
        """The machine's connection; -1: there is none."""
        self._asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> _Ending:
        self._before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.power_off()
        with closing(self._machine):
            self._machine.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self.link >= 0 and not self._asked:
            self._asked = True
            with suppress(OSError):
                os.write(self.link, _END)
                click.echo("bunker: the machine is asked to end in order; once more: power off", err=True)
                return
        click.echo("bunker: power off; what was not released is gone", err=True)
        self._machine.power_off()
