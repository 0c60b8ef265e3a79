"""`bunker receive`: the open box. Takes what boxes send, verifies it, stores it, serves a status page."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from bunker.cli.verify import checked_keys
from bunker.errors import ConfigurationError
from bunker.open.receive import Receiver, address_of, listen, receive_stream
from bunker.open.status import StatusServer
from bunker.open.unseal import Unsealer, new_private_key, read_private_key
from bunker.open.verdict import told
from bunker.open.watch import Watch


@click.command()
@click.option("--listen", "address", metavar="ADDR", help="HOST:PORT, :PORT or unix:PATH")
@click.option("--from", "source", metavar="FILE", help="a file that a box wrote its stream into; - for standard input")
@click.option("-o", "directory", type=click.Path(path_type=Path), metavar="DIR", help="where the run is stored")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="FINGERPRINT",
    callback=checked_keys,
    help="take runs of this key only (several times for several boxes)",
)
@click.option("--status", metavar="ADDR", help="serve a status page and /metrics here; PORT alone means loopback")
@click.option(
    "--private-key", type=click.Path(path_type=Path), metavar="FILE", help="open sealed streams with this key"
)
@click.option(
    "--new-key", type=click.Path(path_type=Path), metavar="FILE", help="make such a key, print its public half"
)
@click.pass_context
def receive(  # noqa: PLR0917 - click passes options by name
    context: click.Context,
    address: str | None,
    source: str | None,
    directory: Path | None,
    keys: tuple[str, ...],
    status: str | None,
    private_key: Path | None,
    new_key: Path | None,
) -> None:
    """Receive what closed boxes release.

    The first run is stored in DIR, each further one in a folder of its own in it. An unfinished run of an earlier
    receiver in DIR goes on when its box connects again. Ends with Ctrl-C; exit code 0 if every run was whole.
    """
    if new_key is not None:
        click.echo(new_private_key(new_key))
        return
    if directory is None or (address is None) is (source is None):
        raise click.UsageError("give -o DIR, and either --listen ADDR or --from FILE")
    unsealer = None if private_key is None else _unsealers(private_key)
    if source is not None:
        if status is not None or len(keys) > 1:
            raise click.UsageError("--status and several --key go with --listen")
        context.exit(_from(source, directory, keys[0] if keys else None, unsealer))
    assert address is not None
    context.exit(_listen(address, directory, keys, status, unsealer))


def _unsealers(path: Path) -> Callable[[], Unsealer]:
    key = read_private_key(path)
    return lambda: Unsealer(key)


def _from(source: str, directory: Path, key: str | None, unsealer: Callable[[], Unsealer] | None) -> int:
    try:
        fd = sys.stdin.fileno() if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(source, f"cannot be read ({error.strerror})", "Check the path") from None
    try:
        with Watch() as watch:
            verdict = receive_stream(
                fd,
                directory,
                key=key,
                unsealer=None if unsealer is None else unsealer(),
                on_heartbeat=watch.heartbeat,
            )
    finally:
        if source != "-":
            os.close(fd)
    for line in told(verdict):
        click.echo(line)
    return verdict.exit_code


def _listen(
    address: str,
    directory: Path,
    keys: tuple[str, ...],
    status: str | None,
    unsealer: Callable[[], Unsealer] | None,
) -> int:
    stop = threading.Event()
    with Watch() as watch, listen(address) as listener:
        receiver = Receiver(
            directory,
            keys=keys,
            unsealer=unsealer,
            on_heartbeat=watch.heartbeat,
            on_event=lambda line: click.echo(line, err=True),
        )
        server = None if status is None else StatusServer(status, receiver.views)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: stop.set())
        place = address_of(listener)
        click.echo(f"listening on {place}" + ("" if server is None else f", status on {server.url}"), err=True)
        receiver.serve(listener, stop)
        if server is not None:
            server.close()
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)
    views = receiver.views()
    for view in views:
        click.echo(f"\n{view.directory}")
        for line in told(view.verdict):
            click.echo(line)
        if view.failure is not None:
            click.echo(f"failed       {view.failure}")
    return max((1 if view.failure else view.verdict.exit_code for view in views), default=0)
