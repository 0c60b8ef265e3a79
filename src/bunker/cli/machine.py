"""The VM's half of `bunker run`: the same run, in the sealed image under QEMU.

Rules of this file:
1. What the operator sees and gets is what `--closed-box process` shows and stores: the open box does not know the
   difference but by the statements' tier and image.
2. A machine can be asked for one thing, an end in order: any byte on the connection that it opened. That is what the
   first Ctrl-C sends; the second, or SIGQUIT, pulls the plug, and what was not released is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType

import click

from bunker.closed.egress.relay import Relay
from bunker.closed.egress.target import FileTarget, open_egress, parse_target
from bunker.closed.process.setup import Source
from bunker.errors import BoxError
from bunker.experiment.bundle import Bundle
from bunker.image.build import default_place
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image, Machine, Wishes, connected, machine_directory, prepare
from bunker.image.qemu import Line
from bunker.image.traffic import cable_of
from bunker.open.receive import receive_stream
from bunker.open.verdict import told
from bunker.open.watch import Watch

_END = b"."
"""What it is does not matter: the machine counts it and does not read it."""
_PIECE = 1 << 20
_QUICK = "image is a QUICK one, for tests: its kernel is the distribution's and its command line is the host's."


def run_machine(
    bundle: Bundle,
    source: Source,
    directory: Path | None,
    target: str | None,
    *,
    patience_s: float,
    image: Path | None,
    wishes: Wishes,
) -> int:
    """Run a bundle in the sealed image.

    Args:
        patience_s: With a target: how long a receiver that is gone is waited for when the run is over.
    Returns:
        The exit code.
    Raises:
        ConfigurationError: no image, or the traffic cannot be handed to a machine. BoxError: it did not start, or the
            target did not take the end of the run.
    """
    found = Image.open(image or default_place(Kind.SEALED, Variant.VM))
    click.echo(f"image {found.manifest.digest} ({found.manifest.identity.kind.value})", err=True)
    if found.manifest.identity.kind is Kind.QUICK:
        click.echo(_QUICK, err=True)
    with machine_directory() as work, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        onward = None if target is None else Onward(target, sealed=bundle.experiment.seal_to is not None)
        line = _line(found, bundle, source, work, egress=f"127.0.0.1:{port}", wishes=wishes)
        machine = _started(line)
        with _Ending(machine) as ending:
            reading = connected(listener, machine)
            ending.link = reading
            try:
                if onward is not None:
                    delivered = onward.carry(os.dup(reading), patience_s=patience_s, hurry=ending.when_destroyed)
                    status = machine.wait()
                    if not delivered and not ending.destroyed:
                        raise BoxError(
                            onward.target,
                            "did not take the end of the run",
                            "What it has is a truncated stream; start it earlier",
                        )
                    return 1 if status or ending.destroyed else 0
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


class Onward:
    """The open box that is elsewhere: what the machine sends is carried there, unread.

    Args:
        target: As `bunker run --to`.
        sealed: The stream is sealed to the open box.
    Raises:
        ConfigurationError: it cannot be opened, or nobody answers.
    """

    def __init__(self, target: str, *, sealed: bool) -> None:
        self.target, self._sealed = target, sealed
        self._first = open_egress(target)

    def carry(self, reading: int, *, patience_s: float, hurry: Callable[[Callable[[], None]], None]) -> bool:
        """Until the machine has ended. Whether everything was handed on.

        Args:
            reading: The machine's connection; closed at the end.
            hurry: Is given what to call when the run is to be over soon.
        """
        if isinstance(parse_target(self.target), FileTarget):
            return self._write(reading)
        relay = Relay(
            reading,
            self._first,
            connect=lambda: open_egress(self.target),
            clock=time.monotonic,
            tell=lambda line: click.echo(f"bunker: {line}", err=True),
            sleep=time.sleep,
            sealed=self._sealed,
            patience_s=patience_s,
        )
        hurry(relay.hurry)
        return relay.run()

    def _write(self, reading: int) -> bool:
        with os.fdopen(self._first, "wb", buffering=0) as file, os.fdopen(reading, "rb", buffering=0) as machine:
            with suppress(ConnectionResetError):  # the plug was pulled
                while piece := machine.read(_PIECE):
                    while piece:
                        piece = piece[file.write(piece) :]
            os.fsync(file.fileno())
        return True


def _line(image: Image, bundle: Bundle, source: Source, work: Path, *, egress: str, wishes: Wishes) -> Line:
    capture = None if source.interface is None else cable_of(source.interface)
    return prepare(image, bundle, work, egress=egress, files=source.files, capture=capture, wishes=wishes)


def _started(line: Line) -> Machine:
    click.echo(f"machine under {line.acceleration.value}, {line.memory_mb} MiB", err=True)
    return Machine(line)


class _Ending:
    """What Ctrl-C, SIGTERM and SIGQUIT do while a machine runs. However the block ends, the machine is off after it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.link = -1
        """The machine's connection; -1: there is none."""
        self.destroyed = False
        """Whether the plug was pulled by the operator."""
        self._asked = False
        self._hurry: Callable[[], None] = lambda: None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> _Ending:
        self._before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        self._before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, self._destroy)
        return self

    def when_destroyed(self, call: Callable[[], None]) -> None:
        """What else is to happen when the operator pulls the plug."""
        self._hurry = call

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
        self._destroy()

    def _destroy(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        click.echo("bunker: power off; what was not released is gone", err=True)
        self.destroyed = True
        self._machine.power_off()
        self._hurry()
