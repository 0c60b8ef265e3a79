"""Set-up: everything that needs privileges or paths, done before the box exists; the box gets descriptors.

Place in the flow: bunker run ▶ here ▶ `enter_box(supervisor)`.

Rules of this file:
1. Nothing is made that cannot be had: rings, files, space, keys' memory and the egress are claimed first, so that
   errors come before the first packet.
2. The key store is made here and never mapped here; this process never sees a packet or a key.
3. After `enter`, this process has closed every descriptor of raw traffic and keys.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bunker import limits
from bunker.closed.capture.fanout import lane_program
from bunker.closed.capture.filter import compile_filter, filters_for_files
from bunker.closed.capture.ring import Fanout, RingSetup, keep_all_program, open_ring
from bunker.closed.process.hand import create_page
from bunker.closed.process.interpreter import Interpreter, interpreters
from bunker.closed.process.jail import UIDS, JailSpec, Process, Role, enter_box
from bunker.closed.process.ledger import create_ledger
from bunker.closed.process.link import pair
from bunker.closed.process.settings import (
    FIRST_WORKER_UID,
    CapturerSettings,
    ExternalSettings,
    LaneSettings,
    ReleaserSettings,
    SpoolSettings,
    SupervisorSettings,
    WorkerSettings,
    encoded,
)
from bunker.closed.spool.files import LaneFiles, claim
from bunker.closed.spool.keys import create_store, ledger_slot
from bunker.errors import ConfigurationError
from bunker.experiment.bundle import Bundle
from bunker.model.counters import CounterPage
from bunker.model.external import PROGRAM_ROOT
from bunker.model.heartbeat import Tier

_STDIN = "-"
_ETHERNET = 1
_STALLS_PER_CALL = 2
_STALL_NS = 1_000_000_000
"""A worker is killed when it stands still for so many times `time_per_call` and this: the watchdog comes first."""
_WORKER_BASE_BYTES = (1 << 30) + limits.LEDGER_BYTES.default
"""Address space of interpreter, libraries, spool slot and engine, beside what `analysis.memory` grants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where packets come from: an interface or capture files, not both."""

    interface: str | None = None
    files: tuple[Path, ...] = ()
    lengths: tuple[int, ...] = ()
    """Bytes of each file, where a file is a disk that is longer than what stands on it; none: up to its end."""

    def __post_init__(self) -> None:
        if (self.interface is None) is not bool(self.files):
            raise ConfigurationError("traffic", "comes from one place", "Give --interface IF, or --read FILE…")


def open_files(files: tuple[Path, ...]) -> list[int]:
    """Capture files, opened for reading; `-` is standard input.

    Raises:
        ConfigurationError: one cannot be opened.
    """
    fds: list[int] = []
    for path in files:
        try:
            fds.append(os.dup(0) if str(path) == _STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            for fd in fds:
                os.close(fd)
            raise ConfigurationError(
                f"capture file {path}", f"cannot be read ({error.strerror})", "Check the path"
            ) from None
    return fds


class Descriptors:
    """Every descriptor of a set-up by name, closed together once the box has them."""

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}

    def add(self, name: str, fd: int) -> int:
        """Remember one."""
        self.by_name[name] = fd
        return fd

    def close(self) -> None:
        """Close all."""
        for fd in self.by_name.values():
            with suppress(OSError):
                os.close(fd)
        self.by_name.clear()


def _rings(bundle: Bundle, interface: str) -> list[RingSetup]:
    experiment = bundle.experiment
    program = keep_all_program(experiment.snaplen)
    if experiment.capture_filter:
        program = compile_filter(experiment.capture_filter, linktype=_ETHERNET, snaplen=experiment.snaplen)
    fanout = None
    if experiment.lanes > 1:
        seed = int.from_bytes(os.urandom(4), "little")
        fanout = Fanout(group=os.getpid() & 0xFFFF, program=lane_program(seed))
    rings: list[RingSetup] = []
    try:
        for _ in range(experiment.lanes):
            rings.append(
                open_ring(
                    interface,
                    block_bytes=experiment.block_bytes,
                    ring_bytes=experiment.ring_bytes,
                    program=program,
                    promiscuous=experiment.promiscuous,
                    fanout=fanout,
                )
            )
    except ConfigurationError:
        for ring in rings:
            os.close(ring.fd)
        raise
    return rings


class _Lanes:
    """Descriptors of all lanes, and the settings that name them."""

    def __init__(
        self,
        run: bytes,
        spool: list[LaneFiles],
        rings: list[RingSetup],
        fds: Descriptors,
        programs: list[Interpreter],
    ) -> None:
        self.externals: list[ExternalSettings] = []
        self.capturer: list[LaneSettings] = []
        self.workers: list[WorkerSettings] = []
        self.records: list[int] = []
        self.pages: list[int] = []
        seed = os.urandom(16)
        for number, files in enumerate(spool):
            for index, (fd, read_fd) in enumerate(zip(files.fds, files.read_fds, strict=True)):
                fds.add(f"spool-{number}-{index}", fd)
                fds.add(f"spool-read-{number}-{index}", read_fd)
            keys_fd, _ = create_store(ledger_slot(files.fds) + 1)
            settings = SpoolSettings(
                run=run,
                lane=number,
                file_fds=files.fds,
                file_bytes=files.file_bytes,
                slot_bytes=files.slot_bytes,
                keys_fd=fds.add(f"keys-{number}", keys_fd),
            )
            capturer_link, worker_link = pair()
            reading, writing = os.pipe2(os.O_CLOEXEC)
            page = fds.add(f"counters-worker-{number}", CounterPage.create())
            self.pages.append(fds.add(f"page-worker-{number}", CounterPage.read_only(page)))
            self.records.append(fds.add(f"records-out-{number}", reading))
            self.capturer.append(
                LaneSettings(
                    link_fd=fds.add(f"link-capturer-{number}", capturer_link),
                    spool=settings,
                    ring_fd=fds.add(f"ring-{number}", rings[number].fd) if rings else None,
                    ring_blocks=rings[number].blocks if rings else 0,
                )
            )
            self.workers.append(
                WorkerSettings(
                    bundle_fd=fds.by_name["bundle"],
                    records_fd=fds.add(f"records-in-{number}", writing),
                    link_fd=fds.add(f"link-worker-{number}", worker_link),
                    counters_fd=page,
                    spool=msgspec.structs.replace(settings, file_fds=files.read_fds),
                    seed=seed,
                    live=bool(rings),
                    external_fds=self._programs(programs, number, fds),
                    hand_fd=fds.add(f"hand-{number}", create_page()),
                    ledger_fd=fds.add(f"ledger-{number}", create_ledger()),
                )
            )

    def _programs(self, programs: list[Interpreter], lane: int, fds: Descriptors) -> list[int]:
        """A dialogue for each program of a lane; the worker's ends."""
        found: list[int] = []
        for number, program in enumerate(programs):
            keeper_end, worker_end = pair()
            self.externals.append(program.settings(fds.add(f"external-keeper-{lane}-{number}", keeper_end)))
            found.append(fds.add(f"external-{lane}-{number}", worker_end))
        return found


def _needs_uids(bundle: Bundle) -> None:
    """Whether there are enough uids for the processes of a run, and at all, if it has external programs.

    Raises:
        ConfigurationError: there are not.
    """
    programs, lanes = len(bundle.programs), bundle.experiment.lanes
    if not programs:
        return
    if os.geteuid() != 0:
        raise ConfigurationError(
            "external analyzers",
            "need a box in which each process has a uid of its own",
            "Start the run as root, or use --closed-box none for lab traffic",
        )
    if FIRST_WORKER_UID + lanes * (1 + programs) > UIDS:
        raise ConfigurationError(
            "external analyzers",
            f"{lanes} lanes with {programs} programs each are more processes than a box has uids ({UIDS})",
            "Use fewer lanes",
        )


def _bundle_fd(bundle: Bundle) -> int:
    """The bundle in memory, which nobody can change any more."""
    fd = os.memfd_create("bundle", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    content = memoryview(bundle.content)
    while content:
        content = content[os.write(fd, content) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def start_box(
    bundle: Bundle,
    source: Source,
    *,
    egress_fd: int,
    base: Path,
    run: bytes | None = None,
    spool_directory: Path | None = None,
    tier: Tier = Tier.PROCESS,
    image: str | None = None,
    walls: Mapping[str, str] | None = None,
    attest_fds: tuple[int, int] | None = None,
) -> Process:
    """Set a run up and start its box.

    Args:
        bundle: What to run; its policy has been checked.
        source: The traffic.
        egress_fd: The way out, write-only; this function closes it in this process.
        base: Folder that a relative spool directory starts from.
        run: The run's number; drawn if None.
        spool_directory: Where the spool is instead of where the experiment says (a machine of its own has one place).
        tier: What stands around the box; `image` is then the digest of the machine it runs in, and `walls` are that
            machine's entries of the start statement's enforcement.
        attest_fds: The releaser's ends of two pipes to whoever has the machine's TPM (`ReleaserSettings`); closed here.
    Raises:
        ConfigurationError: interface, filter, files or space are not to be had.
        BoxError: the jail is below the floor.
    """
    experiment = bundle.experiment
    _needs_uids(bundle)
    programs = interpreters(bundle)
    run = run or os.urandom(16)
    fds = Descriptors()
    with ExitStack() as stack:
        stack.callback(fds.close)
        fds.add("egress", egress_fd)
        for name, fd in zip(("attest-out", "attest-in"), attest_fds or (), strict=False):
            fds.add(name, fd)
        filters = filters_for_files(experiment.capture_filter, snaplen=experiment.snaplen) if source.files else None
        files = [fds.add(f"file-{number}", fd) for number, fd in enumerate(open_files(source.files))]
        rings = _rings(bundle, source.interface) if source.interface is not None else []
        for number, ring in enumerate(rings):
            fds.add(f"ring-{number}", ring.fd)
        spool = claim(
            spool_directory or base / experiment.spool_directory,
            lanes=experiment.lanes,
            size=experiment.spool_bytes,
            block_bytes=experiment.block_bytes,
        )
        fds.add("bundle", _bundle_fd(bundle))
        lanes = _Lanes(run, spool, rings, fds, programs)
        orders_out, orders_in = os.pipe2(os.O_CLOEXEC)
        verdict_out, verdict_in = os.pipe2(os.O_CLOEXEC)
        acks_out, acks_in = os.pipe2(os.O_CLOEXEC)
        capturer_page = fds.add("counters-capturer", CounterPage.create())
        releaser_page = fds.add("counters-releaser", CounterPage.create())
        settings = SupervisorSettings(
            capturer=CapturerSettings(
                lanes=lanes.capturer,
                file_fds=files,
                file_bytes=list(source.lengths) or None,
                counters_fd=capturer_page,
                orders_fd=fds.add("orders-out", orders_out),
                block_bytes=experiment.block_bytes,
                snaplen=experiment.snaplen,
                filters=filters,
                seed=os.urandom(16),
                duration_ns=experiment.duration_ns,
                deferred=experiment.mode == "deferred",
                held=experiment.mode == "deferred" and not experiment.during_capture,
            ),
            workers=lanes.workers,
            releaser=ReleaserSettings(
                run=run,
                started_ns=time.time_ns(),
                bundle_fd=fds.by_name["bundle"],
                records_fds=lanes.records,
                egress_fd=egress_fd,
                counters_fd=releaser_page,
                all_counters_fds=[
                    fds.add("page-capturer", CounterPage.read_only(capturer_page)),
                    *lanes.pages,
                    fds.add("page-releaser", CounterPage.read_only(releaser_page)),
                ],
                verdict_fd=fds.add("verdict-out", verdict_out),
                acks_fd=fds.add("acks-in", acks_in),
                enforcement=dict(walls or {}),
                tier=tier,
                image=image,
                attest_fds=attest_fds,
            ),
            externals=lanes.externals,
            worker_memory=experiment.analysis_memory + _WORKER_BASE_BYTES,
            orders_fd=fds.add("orders-in", orders_in),
            verdict_fd=fds.add("verdict-in", verdict_in),
            acks_fd=fds.add("acks-out", acks_out),
            stall_ns=_STALLS_PER_CALL * experiment.time_per_call_ns + _STALL_NS,
            max_age_ns=experiment.max_age_ns,
        )
        spec = JailSpec(
            role=Role.SUPERVISOR,
            descriptors=fds.by_name,
            execute=bool(programs),
            readable=tuple(sorted({path for program in programs for path in program.readable})),
            files={f"{PROGRAM_ROOT}/{path}": content for path, content in bundle.program_files.items()},
        )
        return enter_box(spec, "bunker.closed.process.supervisor", encoded(settings))
