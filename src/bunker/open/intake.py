"""The intake of one run: envelopes in, an output directory and a verdict out; no sockets, no threads.

Place in the flow: `receive` ▶ here ▶ StreamVerifier, Store.

Rules of this file:
1. An envelope that does not continue the run is refused, and the run stays where it was: the true box may connect again.
2. After a reconnect the box repeats itself; what is held already is compared and left out.
3. Attested records that break the declared schema end the intake for good: the box itself is broken or lies.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from bunker.model.envelope import Envelope, EnvelopeReader, EnvelopeRefused, Kind
from bunker.model.heartbeat import Abort, End, Heartbeat, Start
from bunker.open import files
from bunker.open.store import Store
from bunker.open.verdict import Finding, Verdict
from bunker.open.verifier import StreamVerifier, finding_of

_BEFORE = ".before"
_OWN = (files.ENVELOPES, files.RECORDS, files.HEARTBEATS, files.DIAGNOSTICS, files.MANIFEST)

OnHeartbeat = Callable[[Heartbeat, Start], None]


class Intake:
    """One run being received.

    Args:
        directory: Where the run goes; new or empty.
        pinned: The fingerprint that the run's key must have.
        on_heartbeat: Called with each heartbeat that holds, the last statement's included.
    """

    def __init__(
        self,
        directory: Path,
        *,
        pinned: str | None = None,
        on_heartbeat: OnHeartbeat | None = None,
        fresh: bool = True,
    ) -> None:
        self.directory = directory
        self.verifier = StreamVerifier(pinned=pinned)
        self._on_heartbeat = on_heartbeat
        self._fresh = fresh
        self._store: Store | None = None
        self._broken: EnvelopeRefused | None = None
        self._refused: EnvelopeRefused | None = None
        self._finished = False

    @property
    def ended(self) -> bool:
        """The last statement was there."""
        return self.verifier.ended is not None

    @property
    def start(self) -> Start | None:
        """The start statement, once it was there."""
        return self.verifier.start

    def take(self, envelope: Envelope, *, again: bool = False) -> bool:
        """Take the next envelope; answers whether it was new.

        Args:
            again: The connection may still be repeating what is held.
        Raises:
            EnvelopeRefused: it does not continue the run.
            ConfigurationError: the directory is not empty (at the first envelope).
            BoxError: the disk does not take it.
        """
        if self._broken is not None:
            raise self._broken
        if again and self.verifier.repeated(envelope):
            return False
        try:
            accepted = self.verifier.feed(envelope)
        except EnvelopeRefused as refused:
            self._refused = refused
            if self._store is not None:
                self._store.refused += 1
            raise
        if isinstance(accepted.statement, Start):
            self._store = Store(self.directory, accepted.statement, fresh=self._fresh)
        assert self._store is not None
        try:
            self._store.keep(envelope, accepted)
        except EnvelopeRefused as refused:
            self._broken = refused
            raise
        self._refused = None
        if envelope.kind.signed:
            self._store.describe(self.verdict(), finished=False)
            self._tell(accepted.statement)
        return True

    def verdict(self) -> Verdict:
        """What holds if nothing more comes."""
        refused = self._broken or self._refused
        findings: tuple[Finding, ...] = () if refused is None else (finding_of(refused),)
        if self._broken is None and self.ended:
            findings = ()  # a run that came whole stays whole, whoever knocks afterwards
        return self.verifier.verdict(*findings)

    def finish(self) -> Verdict:
        """Nothing more will come: complete the files."""
        verdict = self.verdict()
        if self._store is not None and not self._finished:
            self._finished = True
            self._store.describe(verdict, finished=True)
        return verdict

    def _tell(self, statement: object) -> None:
        if self._on_heartbeat is None or self.start is None:
            return
        if isinstance(statement, Heartbeat):
            self._on_heartbeat(statement, self.start)
        elif isinstance(statement, End | Abort):
            self._on_heartbeat(statement.last, self.start)


def stored(directory: Path) -> Iterator[Envelope]:
    """The envelopes of a directory, as far as they can be cut apart.

    Raises:
        EnvelopeRefused: at bytes that are no envelope.
    """
    reader = EnvelopeReader()
    for piece in files.pieces(directory):
        yield from reader.feed(piece)


def stored_run(directory: Path) -> bytes | None:
    """The run whose envelopes a directory holds; None if it holds none that can be read."""
    try:
        first = next(stored(directory), None)
    except EnvelopeRefused:
        return None
    return first.run if first is not None and first.kind is Kind.START else None


def resume(directory: Path, *, pinned: str | None = None, on_heartbeat: OnHeartbeat | None = None) -> Intake:
    """Go on with a run that an earlier receiver left unfinished: its envelopes are verified and stored again.

    What it had kept behind the last envelope that holds is left out; the box repeats it. A receiver that dies in the middle of
    this leaves `.before`, which the next one takes up.

    Raises:
        OSError, BoxError: the disk fails.
    """
    before = directory / _BEFORE
    if before.exists():
        for name in _OWN:
            _remove(directory / name)
    else:
        before.mkdir()
        for name in reversed(_OWN):  # envelopes/ last: with it, .before is complete
            if (directory / name).exists():
                (directory / name).rename(before / name)
    intake = Intake(directory, pinned=pinned, fresh=False)
    try:
        for envelope in stored(before):
            intake.take(envelope)
    except EnvelopeRefused:
        intake._refused = None
    intake._on_heartbeat = on_heartbeat
    shutil.rmtree(before)
    return intake


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
