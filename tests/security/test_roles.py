"""Every role of the box tries what is forbidden, under its own list and with the descriptors of its kind."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attacks
import pytest

from bunker.closed.process.jail import JailSpec, Role, enter_box

HERE = Path(__file__).resolve().parent
ROLES = [Role.CAPTURER, Role.WORKER, Role.RELEASER]
WRITES_FILES = frozenset({"files_write", "files_map_writable", "files_make_writable", "files_truncate", "files_punch"})
ALLOWED: dict[Role, frozenset[str]] = {
    # It fills the spool: what it may do to those files, an attacker in its place may.
    Role.CAPTURER: WRITES_FILES,
    Role.WORKER: frozenset(),
    Role.RELEASER: frozenset(),
}


@contextmanager
def given(role: Role, folder: Path) -> Iterator[dict[str, int]]:
    """Descriptors such as the role has: a pipe for its answers, links, and a nameless file of the kind it gets."""
    reading, answers = os.pipe()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = folder / "nameless"
    path.write_bytes(bytes(1 << 20))
    file_fd = os.open(path, os.O_RDWR if role is Role.CAPTURER else os.O_RDONLY)
    path.unlink()
    fds = {"reading": reading, "answers": answers, "link": one.fileno(), "file": file_fd}
    try:
        yield fds
    finally:
        one.close()
        other.close()
        for name in ("reading", "answers", "file"):
            os.close(fds[name])


def try_in(role: Role, folder: Path, *, hostile: str | None = None) -> tuple[int, dict[str, int]]:
    """Exit code of a jailed process of this role, and what its attempts were answered."""
    with given(role, folder) as fds:
        inside = {name: fd for name, fd in fds.items() if name != "reading"}
        spec = JailSpec(
            role=role,
            descriptors=inside,
            writable=("answers", "link") if role is Role.CAPTURER else None,
            file_bytes=0 if role is Role.WORKER else None,
            import_paths=(str(HERE),),
        )
        order = {"role": str(role), "answers": fds["answers"], "hostile": hostile}
        process = enter_box(spec, "jailed", json.dumps(order))
        status = process.wait(60)
        assert status is not None, "it does not end"
        os.set_blocking(fds["reading"], False)
        try:
            text = os.read(fds["reading"], 1 << 20)
        except BlockingIOError:
            text = b""
    return status, json.loads(text) if text else {}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_forbidden_to_a_role_is_refused(role: Role, tmp_path: Path) -> None:
    status, answers = try_in(role, tmp_path)
    assert status == 0
    assert len(answers) > 100
    open_doors = {
        name for name, number in answers.items() if number not in attacks.ATTEMPTS[name].inside | {errno.EPERM}
    }
    assert open_doors <= ALLOWED[role]


@pytest.mark.parametrize("name", ["ptrace", "process_vm_readv", "pidfd_getfd", "io_uring_setup", "bpf", "mount"])
@pytest.mark.parametrize("role", ROLES)
def test_a_hostile_call_kills_any_role(role: Role, name: str, tmp_path: Path) -> None:
    status, answers = try_in(role, tmp_path, hostile=name)
    assert status != 0
    assert answers == {}, "it did not live to tell"


def test_the_same_attempts_succeed_without_a_box() -> None:
    """Root in namespaces of its own, outside: what the box refuses is possible there, or the answers prove nothing."""
    command = ["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "sh", "-c"]
    # The interpreter itself, the attempts through its standard input: this tree may lie below /tmp, which is covered.
    script = 'mount -t tmpfs none /tmp && mount -t proc none /proc; exec "$0" -I -'
    interpreter = str(Path(sys.executable).resolve())
    source = Path(attacks.__file__).read_bytes()
    done = subprocess.run([*command, script, interpreter], check=False, capture_output=True, timeout=120, input=source)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    wrong = {
        name: number
        for name, number in answers.items()
        if name in attacks.ATTEMPTS and number not in attacks.ATTEMPTS[name].outside
    }
    assert wrong == {}
    assert not [name for name in attacks.HOSTILE if answers[name] == 1031], "outside nothing is killed by a filter"
