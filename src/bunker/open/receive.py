"""Receiving: connections, pipes and files, read into intakes.

Place in the flow: ║▶ here ▶ Intake.

Rules of this file:
1. Nothing is ever written to a box: there is no answer, no handshake, no acknowledgement.
2. Who connects is unknown. A connection has a deadline for its first envelope, a bound on what it may make us hold, and
   is dropped at the first thing that does not continue a run; other connections and the run itself are not touched.
3. Runs are told apart by the run in their envelopes; each has its own directory.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bunker import limits
from bunker.errors import BoxError, BunkerError, ConfigurationError
from bunker.model.envelope import Envelope, EnvelopeReader, EnvelopeRefused, Kind, Refusal
from bunker.model.heartbeat import Heartbeat, Start
from bunker.open import files
from bunker.open.intake import Intake, OnHeartbeat, resume, stored_run
from bunker.open.manifest import read_manifest
from bunker.open.unseal import Unsealer
from bunker.open.verdict import Verdict, Word
from bunker.open.verifier import StreamVerifier, finding_of

_ACCEPT_S = 0.5


class _Feeder:
    """Bytes of one connection to envelopes, sealed or not."""

    def __init__(self, unsealer: Unsealer | None) -> None:
        self._unsealer = unsealer
        self._reader = EnvelopeReader()

    def feed(self, piece: bytes) -> Iterator[Envelope]:
        if self._unsealer is None:
            yield from self._reader.feed(piece)
            return
        for plain in self._unsealer.feed(piece):
            yield from self._reader.feed(plain)

    def claimed(self) -> tuple[Kind, bytes] | None:
        return self._reader.claimed()


def receive_stream(
    fd: int,
    directory: Path,
    *,
    key: str | None = None,
    unsealer: Unsealer | None = None,
    on_heartbeat: OnHeartbeat | None = None,
) -> Verdict:
    """Receive one run from a pipe, a connection or a file, to its end.

    Reads until the end of file or the first envelope that does not continue the run. Whatever comes in, the answer is a
    verdict; the directory holds what was good.

    Args:
        fd: Read in blocking mode; stays the caller's.
        directory: New or empty; nothing is made in it if no start statement comes.
        key: The pinned fingerprint.
    Raises:
        ConfigurationError: the directory is not empty.
        BoxError: the disk does not take it.
    """
    intake = Intake(directory, pinned=() if key is None else (key,), on_heartbeat=on_heartbeat)
    feeder = _Feeder(unsealer)
    try:
        while piece := os.read(fd, files.READ_BYTES):
            for envelope in feeder.feed(piece):
                intake.take(envelope)
    except EnvelopeRefused as refused:
        intake.refuse(refused)
    return intake.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What the status page shows of a run: all of it from statements whose signature holds."""

    run: str
    directory: Path
    start: Start
    last: Heartbeat | None
    verdict: Verdict
    heard_s: float
    """Seconds since something of this run arrived."""
    failure: str | None


@dataclass(slots=True)
class _Run:
    intake: Intake
    lock: threading.Lock = field(default_factory=threading.Lock)
    heard: float = field(default_factory=time.monotonic)
    failure: str | None = None


class Receiver:
    """Everything that boxes send to one place.

    Args:
        directory: The first run is stored in it, further ones in a folder of it each, named by the run.
        keys: Pinned fingerprints; a run whose key is none of them is refused. Empty: any key is taken, and said so.
        unsealer: Makes an `Unsealer` for a connection when streams are sealed.
        on_heartbeat: Called for each heartbeat, from the connection's thread.
        on_event: Called with a line for the operator.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keys: Sequence[str] = (),
        unsealer: Callable[[], Unsealer] | None = None,
        on_heartbeat: OnHeartbeat | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self._directory = directory
        self._keys = tuple(keys)
        self._unsealer = unsealer
        self._on_heartbeat = on_heartbeat
        self._on_event = on_event or (lambda _line: None)
        self._lock = threading.Lock()
        self._runs: dict[bytes, _Run] = {}
        self._room = threading.BoundedSemaphore(limits.RECEIVER_CONNECTIONS.default)
        self._connections: set[socket.socket] = set()
        self._left_behind, self._complete = _stored_runs(directory)
        self.refused = 0
        """Connections dropped before they belonged to a run."""

    def serve(self, listener: socket.socket, stop: threading.Event) -> None:
        """Take connections until `stop`, each in a thread of its own; then end them and complete all runs."""
        listener.settimeout(_ACCEPT_S)
        threads: list[threading.Thread] = []
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                threads = [thread for thread in threads if thread.is_alive()]
                continue
            except OSError:
                stop.wait(_ACCEPT_S)  # who knocked is gone again, or descriptors are short: neither ends the others
                continue
            if not self._room.acquire(blocking=False):
                connection.close()
                self._refuse("too many connections")
                continue
            thread = threading.Thread(target=self._attend, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()
        with self._lock:
            for connection in self._connections:
                _shut(connection)
        for thread in threads:
            thread.join()
        self.finish()

    def views(self) -> list[RunView]:
        """All runs that were heard of since the start of this receiver."""
        with self._lock:
            runs = list(self._runs.values())
        views = []
        for run in runs:
            with run.lock:
                start = run.intake.start
                if start is not None:
                    views.append(
                        RunView(
                            run=start.run,
                            directory=run.intake.directory,
                            start=start,
                            last=run.intake.verifier.last,
                            verdict=run.intake.verdict(),
                            heard_s=time.monotonic() - run.heard,
                            failure=run.failure,
                        )
                    )
        return views

    def finish(self) -> list[Verdict]:
        """Complete the files of every run. One whose disk fails says so (`RunView.failure`) and spares the others."""
        with self._lock:
            runs = list(self._runs.values())
        verdicts = []
        for run in runs:
            with run.lock:
                try:
                    verdicts.append(run.intake.finish())
                except BoxError as error:
                    run.failure = str(error)
                    self._on_event(str(error))
                    verdicts.append(run.intake.verdict())
        return verdicts

    def _attend(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        try:
            with connection:
                self._receive(connection)
        except EnvelopeRefused as refused:
            self._refuse(str(finding_of(refused)))
        except BunkerError as error:
            self._on_event(str(error))
        except OSError:
            pass  # the connection broke: its run waits for the next one
        finally:
            with self._lock:
                self._connections.discard(connection)
            self._room.release()

    def _receive(self, connection: socket.socket) -> None:
        feeder = _Feeder(None if self._unsealer is None else self._unsealer())
        deadline = time.monotonic() + limits.RECEIVER_FIRST_S.default
        run: _Run | None = None
        again = True
        while True:
            if run is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.settimeout(left)
            piece = connection.recv(files.READ_BYTES)
            if not piece:
                return
            try:
                for envelope in feeder.feed(piece):
                    if run is None:
                        run = self._run_of(envelope)
                        connection.settimeout(None)
                        _keep_alive(connection)
                    again = not self._take(run, envelope, again=again) and again
            except EnvelopeRefused as refused:
                if run is not None:
                    with run.lock:
                        run.intake.refuse(refused)
                raise
            if run is None:
                self._check_stranger(feeder.claimed())

    def _check_stranger(self, claimed: tuple[Kind, bytes] | None) -> None:
        """Hold the body of a first envelope only if it is a start, or of a run we know."""
        if claimed is None or claimed[0] is Kind.START:
            return
        with self._lock:
            if claimed[1] not in self._runs and claimed[1] not in self._left_behind:
                raise EnvelopeRefused(Refusal.NOT_START, number=0)

    def _take(self, run: _Run, envelope: Envelope, *, again: bool) -> bool:
        with run.lock:
            if run.failure is not None:
                raise BoxError("run", run.failure, "Start the receiver anew when that is mended")
            run.heard = time.monotonic()
            ended = run.intake.ended
            try:
                new = run.intake.take(envelope, again=again)
            except (BoxError, ConfigurationError) as error:
                run.failure = str(error)
                raise
            if run.intake.ended and not ended:
                verdict = run.intake.finish()
                self._on_event(f"run {envelope.run.hex()}: {verdict.word.value}")
            return new

    def _run_of(self, envelope: Envelope) -> _Run:
        """The run that a connection's first envelope belongs to.

        Raises:
            EnvelopeRefused: it belongs to none and begins none.
            BoxError: too many runs, or an earlier part of it cannot be read.
        """
        with self._lock:
            run = self._runs.get(envelope.run)
            if run is not None:
                self._on_event(f"run {envelope.run.hex()}: connected again")
                return run
            if envelope.run in self._complete:
                raise EnvelopeRefused(Refusal.AFTER_LAST, number=envelope.number)
            if len(self._runs) >= limits.RECEIVER_RUNS.default:
                raise BoxError("receiver", "too many runs", "Start another with another directory")
            left = self._left_behind.pop(envelope.run, None)
            if left is not None:
                try:
                    intake = resume(left, pinned=self._keys, on_heartbeat=self._on_heartbeat)
                except OSError as error:
                    raise BoxError(
                        f"run in {left}", f"cannot be resumed ({error.strerror})", "Check the disk"
                    ) from None
                self._on_event(f"run {envelope.run.hex()}: resumed")
            else:
                StreamVerifier(pinned=self._keys).feed(envelope)  # a stranger gets no directory
                intake = Intake(self._free_place(envelope.run), pinned=self._keys, on_heartbeat=self._on_heartbeat)
                self._on_event(f"run {envelope.run.hex()}: started, stored in {intake.directory}")
            run = self._runs[envelope.run] = _Run(intake=intake)
            return run

    def _free_place(self, run: bytes) -> Path:
        taken = self._directory.exists() and any(self._directory.iterdir())
        if taken or any(other.intake.directory == self._directory for other in self._runs.values()):
            return self._directory / run.hex()
        return self._directory

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self._on_event(f"connection dropped: {why}")


def listen(address: str) -> socket.socket:
    """A listening socket at `unix:PATH` or `HOST:PORT` (`:PORT` for all addresses).

    Raises:
        ConfigurationError: it cannot be had.
    """
    scheme, _, path = address.partition(":")
    try:
        if scheme == "unix" and path:
            return _listen_unix(path)
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ConfigurationError(f"address {address}", "is none", "Write HOST:PORT, :PORT or unix:PATH")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=16)
    except OSError as error:
        raise ConfigurationError(
            f"address {address}", f"cannot be listened on ({error.strerror})", "Choose another, or end what uses it"
        ) from None


def _listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Where a listener listens, as `bunker run --to` takes it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _stored_runs(directory: Path) -> tuple[dict[bytes, Path], set[bytes]]:
    """(unfinished runs by where they are, runs that came to their end) of earlier receivers in this directory."""
    left: dict[bytes, Path] = {}
    complete: set[bytes] = set()
    if not directory.is_dir():
        return left, complete
    for folder in (directory, *sorted(child for child in directory.iterdir() if child.is_dir())):
        run = stored_run(folder) or stored_run(folder / ".before")
        if run is None:
            continue
        try:
            word = read_manifest(folder).verdict
        except ConfigurationError:
            word = Word.TRUNCATED.value
        if word in (Word.WHOLE.value, Word.ABORTED.value):
            complete.add(run)
        else:
            left[run] = folder
    return left, complete


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # gone already
