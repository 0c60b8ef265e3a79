"""`bunker run`: sets the box up, starts it, and is the open box from then on (or leaves that to another machine).

Rules of this file:
1. What the operator got wrong is said before the box exists, and nothing was captured.
2. After the start this process holds no descriptor of traffic or keys; it can ask the box to end, and nothing else.
3. First Ctrl-C or SIGTERM: capture ends, what is captured is analysed. Second, or SIGQUIT (`bunker abort`): everything
   is destroyed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from bunker import limits
from bunker.closed.egress.relay import Relay
from bunker.closed.egress.target import FileTarget, open_egress, parse_target
from bunker.closed.process.inline import run_inline
from bunker.closed.process.jail import Process
from bunker.closed.process.setup import Source, start_box
from bunker.closed.process.supervisor import EXIT_DAMAGED
from bunker.errors import BoxError, BunkerError, ConfigurationError
from bunker.experiment.bundle import Bundle, read_bundle
from bunker.model import diagnostics
from bunker.model.diagnostics import DiagnosticKind
from bunker.open.receive import receive_stream
from bunker.open.verdict import Verdict, told
from bunker.open.watch import Watch
from bunker.policy.load import policy_of

_LOUD = "closed box NONE: diagnostic mode. Anybody on this machine can read the traffic of this run."


@contextmanager
def _signals_to(process: Process, on_destroy: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ctrl-C and SIGTERM go to the box."""
    asked = 0

    def forward(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            process.terminate()
            click.echo("bunker: capture ends, the rest is analysed; again to destroy it", err=True)
        else:
            destroy(0, None)

    def destroy(_number: int, _frame: FrameType | None) -> None:
        process.abort()
        on_destroy()
        click.echo("bunker: destroying everything", err=True)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, destroy)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path), metavar="EXPERIMENT|BUNDLE")
@click.option(
    "--read",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="capture files; - is standard input",
)
@click.argument("more_files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE…]")
@click.option("--interface", "-i", metavar="IF", help="capture live from this interface")
@click.option(
    "--closed-box",
    "box",
    type=click.Choice(["process", "vm", "none"]),
    default="process",
    show_default=True,
    help="vm: the sealed image under QEMU; none: diagnostic mode for lab traffic, without any protection",
)
@click.option("-o", "directory", type=click.Path(path_type=Path), metavar="DIR", help="receive, verify and store here")
@click.option("--to", "target", metavar="ADDR", help="send to HOST:PORT, unix:PATH or a new file instead")
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=limits.RELAY_PATIENCE_S.default,
    show_default=True,
    metavar="SECONDS",
    help="with --to: how long a receiver that is gone is waited for when the run is over",
)
@click.option(
    "--image", type=click.Path(path_type=Path), metavar="DIR", help="vm: the image, if not the last that was built"
)
@click.option("--memory", "memory_mb", type=click.IntRange(768), default=2048, show_default=True, help="vm: MiB")
@click.option("--processors", type=click.IntRange(1, 64), default=2, show_default=True, help="vm: how many")
@click.option("--confidential", type=click.Choice(["sev-snp", "tdx"]), help="vm: memory that the host cannot read")
@click.option("--firmware", type=click.Path(path_type=Path), metavar="FILE", help="vm: of a confidential guest")
@click.option("--tpm", type=click.Path(path_type=Path), metavar="SOCKET", help="vm: of a software TPM (swtpm)")
@click.pass_context
def run(  # noqa: PLR0917 - click passes options by name
    context: click.Context,
    experiment: Path,
    files: tuple[Path, ...],
    more_files: tuple[Path, ...],
    interface: str | None,
    box: str,
    directory: Path | None,
    target: str | None,
    patience: float,
    image: Path | None,
    memory_mb: int,
    processors: int,
    confidential: str | None,
    firmware: Path | None,
    tpm: Path | None,
) -> None:
    """Run an experiment in a closed box. Nothing of it can be changed once it has started."""
    if more_files and not files:
        raise click.UsageError(f"unexpected argument {more_files[0]}: capture files follow --read")
    if (directory is None) is (target is None):
        raise click.UsageError("give -o DIR or --to ADDR")
    source = Source(interface=interface, files=(*files, *more_files))
    bundle = read_bundle(experiment)
    policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    if bundle.experiment.seal_to is not None and directory is not None:
        raise ConfigurationError(
            f"-o {directory}",
            "cannot open what this experiment seals to a remote open box (egress.seal_to)",
            "Send it there with --to ADDR, where bunker receive --private-key FILE opens it; or remove the key",
        )
    if box == "none" and interface is not None:
        raise ConfigurationError(
            "--closed-box none", "refuses live interfaces", "Read a capture file of lab traffic, or use another box"
        )
    if directory is not None and directory.exists() and any(directory.iterdir()):
        raise ConfigurationError(
            f"-o {directory}", "is not empty", "Name a new directory: a run is never mixed with another"
        )
    click.echo(f"bundle {bundle.digest}", err=True)
    if box == "none":
        click.echo(_LOUD, err=True)
        context.exit(_run_inline(bundle, source, directory, target))
    if box == "vm":
        # Imported here: nothing of QEMU is needed by the other boxes.
        from bunker.cli.machine import run_machine  # noqa: PLC0415
        from bunker.image.launch import Wishes  # noqa: PLC0415
        from bunker.image.qemu import Confidential  # noqa: PLC0415

        wishes = Wishes(
            memory_mb=memory_mb,
            processors=processors,
            confidential=Confidential(confidential) if confidential else None,
            firmware=firmware,
            tpm=tpm,
        )
        context.exit(run_machine(bundle, source, directory, target, patience_s=patience, image=image, wishes=wishes))
    if target is not None:
        context.exit(_run_to(bundle, source, target, patience, base=experiment.parent))
    assert directory is not None
    context.exit(_run_box(bundle, source, directory, base=experiment.parent))


def _run_box(bundle: Bundle, source: Source, directory: Path, *, base: Path) -> int:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    process = start_box(bundle, source, egress_fd=writing, base=base)
    with _signals_to(process), Watch() as watch:
        verdict = receive_stream(reading, directory, on_heartbeat=watch.heartbeat)
        os.close(reading)
        status = process.wait()
    return _exit_code(status, source, verdict, directory)


def _run_to(bundle: Bundle, source: Source, target: str, patience: float, *, base: Path) -> int:
    """The open box is elsewhere: a file, which the box writes itself, or a receiver, to which this process carries what
    the box writes into a pipe, as often as the connection has to be made."""
    first = open_egress(target)
    if isinstance(parse_target(target), FileTarget):
        process = start_box(bundle, source, egress_fd=first, base=base)
        with _signals_to(process):
            return _exit_code(process.wait(), source, None, None)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        process = start_box(bundle, source, egress_fd=writing, base=base)
    except BunkerError:
        os.close(reading)
        os.close(first)
        raise
    relay = Relay(
        reading,
        first,
        connect=lambda: open_egress(target),
        clock=time.monotonic,
        tell=lambda line: click.echo(f"bunker: {line}", err=True),
        sleep=time.sleep,
        sealed=bundle.experiment.seal_to is not None,
        patience_s=patience,
    )
    with _signals_to(process, relay.hurry):
        delivered = relay.run()
        status = process.wait()
    if not delivered and status == 0:
        raise BoxError(target, "did not take the end of the run", "What it has is a truncated stream; start it earlier")
    return _exit_code(status, source, None, None)


def _exit_code(status: int | None, source: Source, verdict: Verdict | None, directory: Path | None) -> int:
    if verdict is not None:
        for line in told(verdict):
            click.echo(line)
    if status == EXIT_DAMAGED:
        for line in _damages(source, directory):
            click.echo(line, err=True)
        return 1
    if status != 0:
        raise BoxError(
            "the box", f"ended with status {status}", "The verdict and diagnostics.jsonl say what it could still say"
        )
    return 0 if verdict is None else verdict.exit_code


def _damages(source: Source, directory: Path | None) -> list[str]:
    """What is wrong with capture files, out of the diagnostics."""
    lines: list[str] = []
    if directory is not None:
        for text in (directory / "diagnostics.jsonl").read_bytes().splitlines():
            event = diagnostics.decode(b"[" + text + b"]")[0]
            if (
                event.kind is DiagnosticKind.CAPTURE_FILE_DAMAGED
                and event.number is not None
                and event.reason is not None
            ):
                lines.append(_damage(source.files[event.number], event.offset, event.reason.value))
    return lines or ["bunker: a capture file is damaged; the diagnostics of the run say which, where and why"]


def _run_inline(bundle: Bundle, source: Source, directory: Path | None, target: str | None) -> int:
    verdicts: list[Verdict] = []
    receiver: threading.Thread | None = None
    if target is not None:
        egress = open_egress(target)
    else:
        reading, egress = os.pipe2(os.O_CLOEXEC)
        assert directory is not None
        place = directory
        # The analyzers have the main thread, so that a debugger works there.
        receiver = threading.Thread(target=lambda: verdicts.append(receive_stream(reading, place)))
        receiver.start()
    try:
        damages = run_inline(bundle, source.files, egress)
    finally:
        os.close(egress)
        if receiver is not None:
            receiver.join()
    for verdict in verdicts:
        for line in told(verdict):
            click.echo(line)
    for number, offset, reason in damages:
        click.echo(_damage(source.files[number], offset, reason), err=True)
    if receiver is not None and not verdicts:
        raise BoxError("the open box", "did not store the run", f"Check {directory} and its disk")
    return 1 if damages else max((verdict.exit_code for verdict in verdicts), default=0)


def _damage(file: Path, offset: int | None, reason: str) -> str:
    return (
        f"bunker: capture file {file}: {reason.replace('_', ' ')} at byte {offset}; what stands before it was processed"
    )
