"""What a process of the box is told at its start: one JSON object as its argument, numbers and words of ours only.

Rules of this file:
1. No secret stands here: keys and traffic come through descriptors, whose numbers these settings name.
2. A process that is told something it does not know refuses to start.
"""

from __future__ import annotations

import sys
from typing import TypeVar

import msgspec

from bunker.errors import BoxError
from bunker.model.heartbeat import Tier

FIRST_WORKER_UID = 3
"""Uids of a box: 0 supervisor, 1 releaser, 2 capturer, then workers, then keepers of external programs."""


class SpoolSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where a lane's spool is: descriptors of its files, in order, and the size of a slot."""

    run: bytes
    lane: int
    file_fds: list[int]
    """The capturer's can be written, the worker's cannot."""
    file_bytes: int
    slot_bytes: int
    keys_fd: int
    """The lane's key store; the slot of a file's key has the file's number."""


class LaneSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One lane, as the capturer sees it."""

    link_fd: int
    spool: SpoolSettings
    ring_fd: int | None = None
    ring_blocks: int = 0


class CapturerSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything for a capturer. Either every lane has a ring, or `file_fds` are capture files."""

    lanes: list[LaneSettings]
    file_fds: list[int]
    file_bytes: list[int] | None
    """How much of each file is read; None: all of it. A disk is longer than the file that stands on it."""
    counters_fd: int
    orders_fd: int
    """A pipe. First byte: begin. Second byte, or its end: stop capturing, finish in order."""
    block_bytes: int
    snaplen: int
    filters: dict[int, bytes] | None
    """Compiled filter by link type, for files; the kernel has the live one. None: every packet passes."""
    seed: bytes
    duration_ns: int | None
    deferred: bool
    """Nothing is given back before capture is over: what finds the spool full is lost."""
    held: bool
    """Capture everything before anything is analysed."""


class LeftOutFlow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A flow that a worker died on, why, and in whose hands (the analyzer's number, or NO_ANALYZER)."""

    uid: int
    fault: str
    analyzer: int


class PassedOver(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A packet without a flow that a worker died on."""

    block: int
    packet: int


class SuspectBatch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """See `analyze.runner.Suspect`."""

    analyzer: int
    sequence: int
    modulus: int
    residue: int


class Restart(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a worker is told that takes the place of a dead one."""

    count: int
    """Restarts of this lane, this one included."""
    cause: int
    """Place in `frames.CAUSES`."""
    turn: int
    """The last turn that counts; 0: none."""
    newly_left_out: int
    left_out: list[LeftOutFlow]
    passed_over: list[PassedOver]
    suspects: list[SuspectBatch]


NO_ANALYZER = 0xFFFF


class WorkerSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything for a worker."""

    bundle_fd: int
    records_fd: int
    link_fd: int
    counters_fd: int
    spool: SpoolSettings
    seed: bytes
    live: bool
    hand_fd: int
    ledger_fd: int
    restart: Restart | None = None
    external_fds: list[int] = msgspec.field(default_factory=list)
    """Dialogues with the keepers of the bundle's programs, in their order."""


class ExternalSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything for the keeper of an external program."""

    link_fd: int
    argv: list[str]
    executable: str
    directory: str
    """Where the program's own files are."""
    own_session: bool = False
    """Nothing else ends what it starts; diagnostic mode alone."""


class ReleaserSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything for the releaser."""

    run: bytes
    started_ns: int
    bundle_fd: int
    records_fds: list[int]
    egress_fd: int
    counters_fd: int
    all_counters_fds: list[int]
    """Of all processes of the box, for reading."""
    verdict_fd: int
    """A pipe on which the supervisor says that a worker is dead, and how the run ended."""
    acks_fd: int
    """A pipe on which the releaser says how far a dead worker's lane is."""
    enforcement: dict[str, str]
    tier: Tier
    image: str | None
    attest_fds: tuple[int, int] | None = None
    """Two pipes to process 1 of a machine with a TPM: the hash goes out on the first, the attestation comes in on the
    second."""


class SupervisorSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything for the supervisor: its children's settings, and the ends of its own pipes."""

    capturer: CapturerSettings
    workers: list[WorkerSettings]
    releaser: ReleaserSettings
    externals: list[ExternalSettings]
    """One for each lane and program."""
    worker_memory: int
    """Bytes of address space."""
    orders_fd: int
    verdict_fd: int
    acks_fd: int
    stall_ns: int
    """A busy worker that does not move for this long is killed."""
    max_age_ns: int | None = None
    """After this time everything is destroyed."""


T = TypeVar("T", bound=msgspec.Struct)


def encoded(settings: msgspec.Struct) -> str:
    """As one argument."""
    return msgspec.json.encode(settings).decode()


def settings_of(kind: type[T], argument: str | None = None) -> T:
    """The settings this process was started with.

    Raises:
        BoxError: they are missing or not of this kind.
    """
    text = argument if argument is not None else (sys.argv[1] if len(sys.argv) == 2 else "")
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise BoxError(
            "start of a process", f"its settings cannot be read ({error})", "Start it by bunker run"
        ) from None
