"""Starts processes inside the jail: the box itself from the command line, its processes from the supervisor.

    command line ──enter_box──▶ launcher (fresh interpreter) ──fork──▶ supervisor, process 1 of the box
    supervisor   ──spawn──▶ fork ──fork──▶ capturer | worker | releaser | external program

Each is process 1 of a pid namespace of its own.

Rules of this file:
1. No exec lies between the jail and the role (`crates/jail/src/lib.rs`, rule 1): a process is a fork that imports its
   role's module.
2. Only listed descriptors get in, at the numbers they have outside; the rest of the starting process's state is closed
   or replaced.
3. What was enforced comes back as an `Enforcement`; below the floor nothing starts.
4. A process that does not report within `REPORT_TIMEOUT_S` is killed: there is no half-started process.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import select
import signal
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bunker.errors import BoxError
from bunker.native import jail as native
from bunker.native.jail import Entry

REPORT_TIMEOUT_S = 60.0
UIDS = 64
"""Uids of a box that root starts: 0 is the supervisor."""
_UID_BASE = 2_000_000_000
_UID_RANGES = 1 << 20
_SURROUNDINGS = "BUNKER_SURROUNDINGS"
_SCRATCH = "/scratch"
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


class Role(StrEnum):
    """Which process of the box."""

    SUPERVISOR = "supervisor"
    CAPTURER = "capturer"
    WORKER = "worker"
    RELEASER = "releaser"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class JailSpec:
    """What one process is started with.

    Args:
        descriptors: Name to number; exactly these stay open, at these numbers. A 2 among them keeps standard error
            (diagnostic mode and tests alone: a traceback could carry traffic).
        writable: Names of descriptors that may be written and sent to; None: all. Needed where a descriptor could be
            misused by writing (a packet socket). With a list, duplicating descriptors is denied.
        unread: Names of descriptors that are never read (the egress).
        uid: Number within the box, 0 to 63; every process its own where the box has a range.
        memory_bytes: Limit of address space.
        file_bytes: Largest file it may write; 0 for a process that writes none; None: no limit.
        processes: Processes and threads of its uid.
        scratch_bytes: A volatile directory of this size, named by TMPDIR; in the box's specification it must be among
            `scratches`. 0: none.
        scratches: Of a new box: uid to size of the scratch directories of its processes.
        execute: Of the supervisor: it may start external programs.
        readable: Of a new box: further paths to show (interpreters and libraries of external analyzers).
        files: Of a new box: absolute path to content of files that its root has and this machine has not.
        import_paths: Of a new box: further directories to import from.
    """

    role: Role
    descriptors: Mapping[str, int]
    writable: tuple[str, ...] | None = None
    unread: tuple[str, ...] = ()
    uid: int = 0
    memory_bytes: int | None = None
    file_bytes: int | None = None
    processes: int = 64
    scratch_bytes: int = 0
    scratches: Mapping[int, int] = field(default_factory=dict)
    execute: bool = False
    readable: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    import_paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.uid < UIDS or any(not 0 <= uid < UIDS for uid in self.scratches):
            raise BoxError("jail", f"uid {self.uid} is not within the box's {UIDS}", "This is a bug")
        unknown = {*(self.writable or ()), *self.unread} - set(self.descriptors)
        if unknown:
            raise BoxError("jail", f"descriptors without a number: {sorted(unknown)}", "This is a bug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """What the jail really enforces on one process."""

    entries: tuple[Entry, ...]

    def holds(self, name: str) -> bool:
        """Whether an entry is there and holds."""
        return any(entry.name == name and entry.enforced for entry in self.entries)

    def floor_missing(self) -> tuple[str, ...]:
        """What is missing of the least that a box needs; nothing: it may start.

        The floor: no_new_privs, seccomp, not_dumpable, and Landlock (any version) or a mount namespace.
        """
        missing = [name for name in ("no_new_privs", "seccomp", "not_dumpable") if not self.holds(name)]
        if not (self.holds("landlock_files") or self.holds("mount_namespace")):
            missing.append("landlock_files or mount_namespace")
        return tuple(missing)

    def words(self) -> dict[str, str]:
        """For people: name to "enforced (how)" or "missing (why)"."""
        return {entry.name: f"{'enforced' if entry.enforced else 'missing'} ({entry.detail})" for entry in self.entries}

    @staticmethod
    def weakest(several: Mapping[str, Enforcement]) -> dict[str, str]:
        """For the start statement, one table for a box: an entry is enforced only if it is for every process, else
        it names those without."""
        table: dict[str, str] = {}
        names = {entry.name: None for enforcement in several.values() for entry in enforcement.entries}
        for name in names:
            without = sorted(
                process
                for process, enforcement in several.items()
                for entry in enforcement.entries
                if entry.name == name and not entry.enforced
            )
            table[name] = f"missing: {', '.join(without)}" if without else "enforced"
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a process inside the box knows of its box; in its environment, because its children need it too."""

    enforcement: Enforcement
    readable: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """The closed list of variables of a process inside."""
        return {
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            # Numeric libraries start a thread a core otherwise; lanes are what scales here.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            _SURROUNDINGS: json.dumps(asdict(self)),
        }


def surroundings() -> Surroundings:
    """The surroundings of this process.

    Raises:
        BoxError: it is not inside a box.
    """
    text = os.environ.get(_SURROUNDINGS)
    if text is None:
        raise BoxError("jail", "this process was not started into a box", "Start it through enter_box or spawn")
    found = json.loads(text)
    entries = tuple(Entry(**entry) for entry in found["enforcement"]["entries"])
    return Surroundings(enforcement=Enforcement(entries=entries), readable=tuple(found["readable"]))


class Process:
    """A started process; `fileno` is readable when it has ended."""

    def __init__(self, *, pid: int, role: Role, enforcement: Enforcement) -> None:
        self.pid, self.role, self.enforcement = pid, role, enforcement
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None

    def fileno(self) -> int:
        """For poll."""
        return self._pidfd

    def kill(self) -> None:
        """SIGKILL; of the supervisor's it ends the whole box."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM; as process 1 of a namespace it hears it only if it has a handler."""
        self._signal(signal.SIGTERM)

    def abort(self) -> None:
        """SIGQUIT: the supervisor destroys everything, keys first."""
        self._signal(signal.SIGQUIT)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def poll(self) -> int | None:
        """Exit code, minus the signal's number if one ended it; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended(status)
        return self._status

    def wait(self, timeout_s: float | None = None) -> int | None:
        """As `poll`, after at most `timeout_s` (None: as long as it takes)."""
        if self._status is None:
            select.select([self._pidfd], [], [], timeout_s)
        return self.poll()

    def _ended(self, status: int) -> None:
        self._status = os.waitstatus_to_exitcode(status)
        os.close(self._pidfd)
        self._pidfd = -1


def enter_box(spec: JailSpec, module: str, argument: str = "") -> Process:
    """Make a new box whose first process runs `module`'s `main()`, with `argument` as its `sys.argv[1]`.

    For the command line, which may be root and have threads: the launcher is a fresh interpreter. All privileged things
    (packet sockets, spool files, secret memory) are opened before and passed as descriptors.

    Raises:
        BoxError: the jail is below the floor, a step failed, or the module cannot be imported inside.
    """
    reading, writing = os.pipe()
    order_fd = os.memfd_create("order", os.MFD_CLOEXEC)
    order = {
        "spec": {**asdict(spec), "files": {}},
        "module": module,
        "argument": argument,
        "places": asdict(places(spec)),
    }
    order["files"] = {path: base64.b64encode(content).decode() for path, content in spec.files.items()}
    os.pwrite(order_fd, json.dumps(order).encode(), 0)
    kept = sorted({order_fd, writing, *spec.descriptors.values()})
    actions: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3) if number not in kept
    ]
    # A duplicate onto itself is how a descriptor is passed on.
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in kept]
    interpreter = os.path.realpath(sys.executable)
    launcher = Path(__file__).with_name("launcher.py")
    before = native.adopt_orphans(True)
    try:
        pid = os.posix_spawn(
            interpreter,
            [interpreter, "-I", "-S", "-B", str(launcher), str(order_fd), str(writing)],
            {"LANG": "C.UTF-8"},
            file_actions=actions,
            setsigmask=[],
        )
        os.close(writing)
        os.close(order_fd)
        return _started(spec.role, pid, reading)
    finally:
        native.adopt_orphans(before)


def spawn(spec: JailSpec, module: str, argument: str = "") -> Process:
    """Start a process of this box: `module`'s `main()`, with `argument` as its `sys.argv[1]`.

    For the supervisor, which has one thread and no secrets: its fork shares memory with it, and nothing is executed.

    Raises:
        BoxError: as `enter_box`.
    """
    from bunker.closed.process import launcher  # noqa: PLC0415 - the launcher imports this module

    around = surroundings()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        launcher.run(spec, module, argument, writing, around=around)
    os.close(writing)
    return _started(spec.role, pid, reading)


def _started(role: Role, launcher: int, reading: int) -> Process:
    """Read the launch's report: lines of JSON, until the process closes it to begin its work."""
    text = b""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while poll.poll(REPORT_TIMEOUT_S * 1000):
        piece = os.read(reading, 65_536)
        if not piece:
            break
        text += piece
    os.close(reading)
    # json, not msgspec: the launcher's bare interpreter imports this module before it knows any package.
    said: dict[str, Any] = {}
    for line in text.splitlines():
        said |= json.loads(line)
    pid = int(said.get("pid", launcher))
    if pid != launcher:
        os.waitpid(launcher, 0)
    if "entries" not in said:
        _end(pid)
        thing, cause, remedy = said.get("error", ("jail", f"the {role} ended during its launch", "See the entries"))
        raise BoxError(thing, cause, remedy)
    entries = tuple(Entry(**entry) for entry in said["entries"])
    return Process(pid=pid, role=role, enforcement=Enforcement(entries=entries))


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths of a new box, all real (without symbolic links within).

    Args:
        shown: What exists in the box's root.
        links: Symbolic links of the root: (path, target).
        imports: Directories to import from beside the interpreter's own.
        uid_base: First host uid of the range.
    """

    shown: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    imports: tuple[str, ...]
    uid_base: int


def places(spec: JailSpec) -> Places:
    """The interpreter, its libraries, this package and what the specification adds."""
    own = Path(__file__).resolve().parents[2]
    installed = [
        os.path.realpath(path)
        for path in sys.path
        if path and Path(path).is_dir() and Path(path).resolve().is_relative_to(_prefixes_of(path))
    ]
    imports = [str(own.parent), *installed, *(os.path.realpath(path) for path in spec.import_paths)]
    interpreter = os.path.realpath(sys.executable)
    shown = {str(own), interpreter, *installed, *map(os.path.realpath, (*spec.readable, *spec.import_paths))}
    shown |= {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    shown |= {str(path.resolve()) for path in (Path(sys.base_prefix) / "lib").glob("libpython*.so*")}
    shown |= {path for path in _LIBRARIES if Path(path).is_dir() and not Path(path).is_symlink()}
    links = tuple((path, str(Path(path).readlink())) for path in (*_LIBRARIES, "/bin") if Path(path).is_symlink())
    return Places(
        shown=tuple(sorted(shown)),
        links=links,
        imports=tuple(dict.fromkeys(imports)),
        uid_base=_UID_BASE + UIDS * secrets.randbelow(_UID_RANGES),
    )


def _prefixes_of(path: str) -> Path:
    """The prefix of the interpreter or its environment that a path lies below; the root of nothing if none does."""
    for prefix in (sys.prefix, sys.base_prefix):
        if Path(path).resolve().is_relative_to(Path(prefix).resolve()):
            return Path(prefix).resolve()
    return Path("/nonexistent")


def launch_spec(
    spec: JailSpec, *, new_box: Places | None, readable: tuple[str, ...], keep: tuple[int, ...], user_namespace: bool
) -> native.LaunchSpec:
    """The specification as the core reads it."""
    return native.LaunchSpec(
        role=str(spec.role),
        new_box=new_box is not None,
        uid_base=new_box.uid_base if new_box else 0,
        uid=spec.uid,
        shown=list(new_box.shown) if new_box else [],
        links=list(new_box.links) if new_box else [],
        scratches=sorted(_scratches(spec).items()) if new_box else [],
        files=sorted(spec.files.items()) if new_box else [],
        readable=list(readable),
        keep=sorted({*spec.descriptors.values(), *keep}),
        writable=None if spec.writable is None else [*(spec.descriptors[name] for name in spec.writable), *keep],
        unread=[spec.descriptors[name] for name in spec.unread],
        scratch=bool(spec.scratch_bytes) or bool(spec.scratches),
        execute=spec.execute,
        memory_bytes=spec.memory_bytes,
        file_bytes=spec.file_bytes,
        processes=spec.processes,
        user_namespace=user_namespace,
        launcher_gone=None,
    )


def scratch_directory(spec: JailSpec) -> str | None:
    """Where the process's scratch directory is, if it has one."""
    path = f"{_SCRATCH}/{spec.uid}"
    return path if spec.scratch_bytes and Path(path).is_dir() else None


def _scratches(spec: JailSpec) -> dict[int, int]:
    own = {spec.uid: spec.scratch_bytes} if spec.scratch_bytes else {}
    return {**spec.scratches, **own}
