"""The VM's half of `bunker run`: the same run, in the sealed image under QEMU.

Rules of this file:
1. What the operator sees and gets is what `--closed-box process` shows and stores: the open box does not know the
   difference but by the statements' tier and image.
2. A machine is asked for nothing: Ctrl-C pulls the plug, and what was not released is gone.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import click

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
    with machine_directory() as work:
        if target is not None:
            line = _line(found, bundle, source, work, egress=_host_port(target), wishes=wishes)
            machine = _started(line)
            with _plug(machine):
                return 1 if machine.wait() else 0
        assert directory is not None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            line = _line(found, bundle, source, work, egress=f"127.0.0.1:{port}", wishes=wishes)
            machine = _started(line)
            with _plug(machine), Watch() as watch:
                reading = connected(listener, machine)
                verdict = receive_stream(reading, directory, on_heartbeat=watch.heartbeat)
                os.close(reading)
                machine.wait()
        for words in told(verdict):
            click.echo(words)
        return verdict.exit_code


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


def _host_port(target: str) -> str:
    if target.startswith(("unix:", "file:")) or ":" not in target:
        raise ConfigurationError(f"target {target}", "is no address", "A machine sends to HOST:PORT; or use -o DIR")
    return target


def _started(line: Line) -> Machine:
    click.echo(f"machine under {line.acceleration.value}, {line.memory_mb} MiB", err=True)
    return Machine(line)


@contextmanager
def _plug(machine: Machine) -> Iterator[None]:
    """Ctrl-C and SIGTERM pull it; so does whatever ends this block."""

    def pull(_number: int, _frame: FrameType | None) -> None:
        click.echo("bunker: power off; what was not released is gone", err=True)
        machine.power_off()

    before = {number: signal.signal(number, pull) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        machine.power_off()
        with closing(machine):
            machine.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
