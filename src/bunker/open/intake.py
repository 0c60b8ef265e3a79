"""The intake of one run: envelopes in, an output directory and a verdict out; no sockets, no threads.

Place in the flow: `receive` ▶ here ▶ StreamVerifier, Store.

Rules of this file:
1. An envelope that does not continue the run is refused, and the run stays where it was: the true box may come again.
2. After a reconnect the box repeats itself; what is held already is compared and left out.
3. Attested records that break the declared schema end the intake for good: the box is broken or lies.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bunker.model.envelope import Envelope, EnvelopeReader, EnvelopeRefused, Kind
from bunker.model.heartbeat import Abort, End, Heartbeat, Start
from bunker.open import files
from bunker.open.store import Store
from bunker.open.trace import TRACE
from bunker.open.verdict import Finding, Verdict
from bunker.open.verifier import StreamVerifier, finding_of

_BEFORE, _AFTER = ".before", ".after"
_OWN = (files.ENVELOPES, files.RECORDS, files.HEARTBEATS, files.DIAGNOSTICS, files.MANIFEST, TRACE)

OnHeartbeat = Callable[[Heartbeat, Start], None]


class Intake:
    """One run being received.

    Args:
        directory: Where the run goes; new or empty.
        pinned: Fingerprints; the run's key must have one of them. None given: the first key is trusted.
        on_heartbeat: Called with each heartbeat that holds, the last statement's included.
    """

    def __init__(
        self,
        directory: Path,
        *,
        pinned: Sequence[str] = (),
        on_heartbeat: OnHeartbeat | None = None,
        fresh: bool = True,
    ) -> None:
        self.directory = directory
        self.verifier = StreamVerifier(pinned=pinned)
        self.on_heartbeat = on_heartbeat
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
        """Take the next envelope; answers whether it was new. Tell a refusal to `refuse`, if it is this run's matter.

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
        accepted = self.verifier.feed(envelope)
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

    def refuse(self, refused: EnvelopeRefused) -> None:
        """Note that a connection of this run brought what does not continue it."""
        self._refused = refused
        if self._store is not None:
            self._store.refused += 1

    def forget(self) -> None:
        """The refusal was of what an earlier receiver had left half written: it says nothing about the run."""
        self._refused = None
        if self._store is not None:
            self._store.refused = 0

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
        if self.on_heartbeat is None or self.start is None:
            return
        if isinstance(statement, Heartbeat):
            self.on_heartbeat(statement, self.start)
        elif isinstance(statement, End | Abort):
            self.on_heartbeat(statement.last, self.start)


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


def resume(directory: Path, *, pinned: Sequence[str] = (), on_heartbeat: OnHeartbeat | None = None) -> Intake:
    """Go on with a run that an earlier receiver left unfinished: its envelopes are verified and stored again.

    What it had kept behind the last envelope that holds is left out; the box repeats it. The old envelopes move into
    `.before` in one step and stay there until all is built up again, so a receiver may die in the middle of this.

    Raises:
        EnvelopeRefused: not even its start holds (another key was pinned, say); nothing was touched.
        OSError, BoxError: the disk fails.
    """
    before, after = directory / _BEFORE, directory / _AFTER
    source = before if (before / files.ENVELOPES).exists() else directory
    StreamVerifier(pinned=pinned).feed(next(stored(source)))
    _remove(after)
    before.mkdir(exist_ok=True)
    if not (before / files.ENVELOPES).exists():
        (directory / files.ENVELOPES).rename(before / files.ENVELOPES)
    for name in _OWN:
        _remove(directory / name)
    intake = Intake(directory, pinned=pinned, fresh=False)
    try:
        for envelope in stored(before):
            intake.take(envelope)
    except EnvelopeRefused:
        intake.forget()
    intake.on_heartbeat = on_heartbeat
    before.rename(after)
    _remove(after)
    return intake


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
