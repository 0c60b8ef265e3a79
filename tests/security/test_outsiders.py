"""From outside, under the very uid of a process of the box: memory, descriptors and environment cannot be had.

The same attempts succeed on an ordinary process of that uid, or they would prove nothing.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attacks
import pytest
from boxes import BUNKER, study

_libc = ctypes.CDLL(None, use_errno=True)
REFUSED = {errno.EPERM, errno.EACCES}
_SEIZE, _DETACH = 0x4206, 17
_NOBODY = 65_534


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _ptrace(pid: int) -> int:
    number = attacks.call("ptrace", _SEIZE, pid, 0, 0)[1]
    if number == 0:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, 0x40000000 | os.WUNTRACED)
        attacks.call("ptrace", _DETACH, pid, 0, signal.SIGCONT)
    return number


def _process_vm(name: str) -> Callable[[int], int]:
    def attempt(pid: int) -> int:
        # The same address in every fork of this process; in a box nothing has to stand there: the right is asked first.
        held = ctypes.create_string_buffer(8)
        own, other = _Vector(ctypes.addressof(held), 1), _Vector(_TARGET_ADDRESS, 1)
        return attacks.call(name, pid, ctypes.addressof(own), 1, ctypes.addressof(other), 1, 0)[1]

    return attempt


_TARGET = ctypes.create_string_buffer(8)
_TARGET_ADDRESS = ctypes.addressof(_TARGET)


def _open(path: str, flags: int = os.O_RDONLY) -> Callable[[int], int]:
    def attempt(pid: int) -> int:
        try:
            os.close(os.open(f"/proc/{pid}/{path}", flags))
        except OSError as error:
            return error.errno or -1
        return 0

    return attempt


def _listed(pid: int) -> int:
    try:
        list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError as error:
        return error.errno or -1
    return 0


def _getfd(pid: int) -> int:
    number, failed = attacks.call("pidfd_open", pid, 0)
    if failed:
        return failed
    return attacks.call("pidfd_getfd", number, 0, 0)[1]


ATTEMPTS: dict[str, Callable[[int], int]] = {
    "ptrace": _ptrace,
    "process_vm_readv": _process_vm("process_vm_readv"),
    "process_vm_writev": _process_vm("process_vm_writev"),
    "pidfd_getfd": _getfd,
    "proc_mem": _open("mem"),
    "proc_mem_writable": _open("mem", os.O_RDWR),
    "proc_maps": _open("maps"),
    "proc_environ": _open("environ"),
    "proc_fd": _listed,
}


def as_user(uid: int, pid: int) -> dict[str, int]:
    """Every attempt on `pid` by a child of that uid, without any capability."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # A change of ids makes a process undumpable, and with that a poor attacker; this one is an ordinary one.
        _libc.prctl(4, 1, 0, 0, 0)
        found = {name: act(pid) for name, act in ATTEMPTS.items()}
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    found: dict[str, int] = json.loads(text)
    return found


@contextmanager
def victim(uid: int) -> Iterator[int]:
    """An ordinary process of that uid, which has descriptor 0."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        _libc.prctl(4, 1, 0, 0, 0)
        _libc.prctl(0x59616D61, -1, 0, 0, 0)  # Yama, where it is: anybody may trace it
        time.sleep(60)
        os._exit(0)
    try:
        deadline = time.monotonic() + 10
        while uid_of(child) != uid and time.monotonic() < deadline:
            time.sleep(0.01)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def uid_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Uid:")).split()[1])


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat = (path / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(path.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the box keeps its spool."""
    return tmp_path_factory.mktemp("outsiders") / "s" / "spool"


@pytest.fixture(scope="module")
def box(spool: Path) -> Iterator[list[int]]:
    """A box that waits for traffic: its processes."""
    folder = spool.parent.parent
    one = study(folder / "s", lanes=2)
    out = folder / "out"
    run = subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-o", str(out), "--read", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        statements = out / "heartbeats.jsonl"
        while not (statements.exists() and len(statements.read_bytes().splitlines()) > 2):
            assert run.poll() is None and time.monotonic() < deadline, "the box did not start"
            time.sleep(0.05)
        yield [pid for pid in descendants(run.pid) if uid_of(pid) >= 2_000_000_000]
    finally:
        assert run.stdin is not None
        run.stdin.close()
        run.wait(60)


def test_the_box_has_its_processes_each_with_a_uid_of_its_own(box: list[int]) -> None:
    assert len(box) == 5, "supervisor, capturer, two workers, releaser"
    assert len({uid_of(pid) for pid in box}) == 5


def test_an_outsider_of_the_same_uid_gets_nothing_of_any_process(box: list[int]) -> None:
    for pid in box:
        found = as_user(uid_of(pid), pid)
        assert set(found) == set(ATTEMPTS)
        assert {name: number for name, number in found.items() if number not in REFUSED} == {}


def test_another_user_gets_nothing_of_any_process(box: list[int]) -> None:
    for pid in box:
        found = as_user(_NOBODY, pid)
        assert {name: number for name, number in found.items() if number not in REFUSED} == {}


def test_the_spool_has_no_name_and_its_place_is_shut_to_others(box: list[int], spool: Path) -> None:
    files = [link for pid in box for link in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()) if str(spool) in link]
    assert files and all(link.endswith(" (deleted)") for link in files), "its files are open, and have no name"
    assert list(spool.iterdir()) == []
    assert spool.stat().st_mode & 0o777 == 0o700


def test_no_process_of_the_box_can_leave_a_core(box: list[int]) -> None:
    for pid in box:
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        words = next(line for line in limits if line.startswith("Max core file size")).split()
        assert words[4:6] == ["0", "0"]


def test_root_reads_the_memory_of_a_worker_but_not_its_keys(box: list[int]) -> None:
    """What docs/threat-model.md says of root: nothing holds but that the key store is out of reach of /proc/PID/mem."""
    stores = 0
    for pid in box:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            regions = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
            for span, access, *_, name in (words for words in regions if len(words) == 6):
                start = int(span.partition("-")[0], 16)
                if "secretmem" in name:
                    stores += 1
                    with pytest.raises(OSError):
                        os.pread(memory.fileno(), 16, start)
                elif name == "[stack]" and access.startswith("r"):
                    assert len(os.pread(memory.fileno(), 16, start)) == 16, "control: root can read the rest"
    assert stores >= 3 or not _has_secret_memory(), "capturer and two workers hold keys"


def _has_secret_memory() -> bool:
    number, failed = attacks.call("memfd_secret", 0)
    if not failed:
        os.close(number)
    return not failed


def test_the_same_attempts_succeed_on_an_ordinary_process() -> None:
    uid = 1_999_999_999
    with victim(uid) as pid:
        found = as_user(uid, pid)
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")
    assert not yama.exists() or yama.read_text().strip() in ("0", "1"), "this machine forbids tracing to all"
    assert found == dict.fromkeys(ATTEMPTS, 0)
