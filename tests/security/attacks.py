"""What a hijacked analyzer would try, one function an attempt. Inside a box every one must be refused.

    errno = ATTEMPTS["fork"].act()      # 0: it succeeded, which inside is a hole

Rules of this file:
1. Standard library alone: its text becomes the source of a user's analyzer (`test_analyzer_attacks.py`), the module of
   a jailed process (`jailed.py`), and a script outside, where the attempts must succeed (or they would prove nothing).
2. An attempt answers with the kernel's error number. `inside` says which one the box must give: EPERM is the
   system-call list speaking, before the kernel has looked at any argument.
3. HOSTILE calls are made with arguments that can do no harm outside; inside they must never return.
4. Nothing here harms on success either: children end at once, nothing is written over.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_FAILED = ctypes.c_void_p(-1).value
_PAGE = mmap.PAGESIZE
_AT_FDCWD = -100
_OWN_PAGES = (struct.pack("<Q", 0x3147_5443_4B4E_4231), struct.pack("<Q", 0x3147_444C_4B4E_4231))
"""How its counters and its ledger begin."""
_LAST_FD = 256
_SILENT = b"\0" * 16

# x86-64. Bunker runs on others too; CI and these tests do not.
NUMBERS = {
    "pwrite64": 18, "pread64": 17, "mprotect": 10, "shmget": 29, "dup2": 33, "sendmsg": 46, "recvmsg": 47,
    "socketpair": 53, "connect": 42, "accept": 43, "sendto": 44, "shutdown": 48, "bind": 49, "listen": 50,
    "setsockopt": 54, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "semget": 64, "msgget": 68,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "creat": 85, "link": 86, "unlink": 87, "symlink": 88,
    "chmod": 90, "chown": 92, "ptrace": 101, "setuid": 105, "setgid": 106, "setsid": 112, "setgroups": 116,
    "capset": 126, "rt_sigqueueinfo": 129, "utime": 132, "mknod": 133, "personality": 135, "setpriority": 141,
    "sched_setscheduler": 144, "prctl": 157, "setrlimit": 160, "chroot": 161, "mount": 165, "umount2": 166,
    "acct": 163, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172,
    "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "setxattr": 188, "tkill": 200,
    "io_setup": 206, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159, "settimeofday": 164, "syslog": 103,
    "set_tid_address": 218, "timer_create": 222, "clock_settime": 227, "tgkill": 234, "mq_open": 240,
    "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "ioprio_set": 251, "inotify_init": 253,
    "openat": 257, "mkdirat": 258, "mknodat": 259, "unlinkat": 263, "linkat": 265, "symlinkat": 266, "fchmodat": 268,
    "unshare": 272, "splice": 275, "tee": 276, "sync_file_range": 277, "vmsplice": 278, "utimensat": 280,
    "signalfd": 282, "timerfd_create": 283, "fallocate": 285, "perf_event_open": 298, "fanotify_init": 300,
    "prlimit64": 302, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "sendmmsg": 307,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "renameat2": 316, "seccomp": 317, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "execveat": 322,
    "userfaultfd": 323, "copy_file_range": 326, "pwritev2": 328, "pkey_mprotect": 329, "pidfd_send_signal": 424,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435, "openat2": 437,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "landlock_create_ruleset": 444,
    "memfd_secret": 447, "process_mrelease": 448, "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453,
    "sendfile": 40,
}  # fmt: skip

CLONE_NEW = {
    "time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
    "pid": 0x20000000, "network": 0x40000000,
}  # fmt: skip
FAMILIES = {
    "unix": 1, "inet": 2, "ax25": 3, "ipx": 4, "appletalk": 5, "x25": 9, "inet6": 10, "key": 15, "netlink": 16,
    "packet": 17, "rds": 21, "llc": 26, "ib": 27, "mpls": 28, "can": 29, "tipc": 30, "bluetooth": 31, "rxrpc": 33,
    "phonet": 35, "ieee802154": 36, "caif": 37, "alg": 38, "nfc": 39, "vsock": 40, "kcm": 41, "qipcrtr": 42, "smc": 43,
    "xdp": 44, "mctp": 45,
}  # fmt: skip
COMMON_FAMILIES = ("unix", "inet", "inet6", "netlink")
"""Every kernel with a network has these: outside they must succeed."""


def call(name: str, *arguments: int | bytes | None) -> tuple[int, int]:
    """A system call by its name: (result, errno or 0)."""
    made = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(NUMBERS[name]), *made)
    return result, ctypes.get_errno() if result < 0 else 0


def _closing(result: int, number: int) -> int:
    if number == 0 and result > 2:
        os.close(result)
    return number


def _answer(name: str, *arguments: int | bytes | None) -> int:
    return call(name, *arguments)[1]


def _opened(name: str, *arguments: int | bytes | None) -> int:
    return _closing(*call(name, *arguments))


def _child(name: str, *arguments: int) -> int:
    """A call that makes a process: the child ends at once, the parent waits for it."""
    parent = os.getpid()
    pid, number = call(name, *arguments)
    if pid == 0:
        os._exit(0)
    if number == 0:
        with suppress(OSError):
            os.waitpid(pid, 0)
    assert os.getpid() == parent
    return number


def _python(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def _socket(family: int) -> int:
    """The best answer of all types of this family."""
    best = -1
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        number = _python(lambda kind=kind: socket.socket(family, kind, 0).close())  # type: ignore[misc]
        if number == 0:
            return 0
        best = number
    return best


def _read(path: str) -> int:
    def act() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.close(fd)

    return _python(act)


def _create(path: str, flags: int) -> int:
    return _opened("openat", _AT_FDCWD, path.encode(), flags, 0o600)


# --- what the process was given -------------------------------------------------------------------------------------


def _given(kind: Callable[[int], bool]) -> Iterator[int]:
    for fd in range(3, _LAST_FD):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        if kind(mode):
            yield fd


def _is_own(fd: int) -> bool:
    """A page that it is there to write: counters, what it has in hand, its ledger. Numbers of ours, no traffic."""
    try:
        return os.pread(fd, 8, 0) in _OWN_PAGES or os.fstat(fd).st_size == _PAGE
    except OSError:
        return False


def _files() -> list[int]:
    """Files without a name that it holds: the spool, keys, the bundle."""
    found = [fd for fd in _given(stat.S_ISREG) if os.fstat(fd).st_nlink == 0 and not _is_own(fd)]
    assert found, "this process was given no file"
    return found


def _best(answers: list[int]) -> int:
    """0 if any of several attempts succeeded, else the last refusal."""
    return 0 if 0 in answers else answers[-1]


def _write_files(fds: list[int]) -> int:
    """Writes what stands there already, at an aligned place, so that O_DIRECT is no excuse."""

    def one(fd: int) -> int:
        page = mmap.mmap(-1, _PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        result = _libc.syscall(ctypes.c_long(NUMBERS["pread64"]), fd, ctypes.c_long(address), _PAGE, ctypes.c_long(0))
        if result <= 0:
            return ctypes.get_errno() or errno.ENODATA
        result = _libc.syscall(ctypes.c_long(NUMBERS["pwrite64"]), fd, ctypes.c_long(address), result, ctypes.c_long(0))
        return ctypes.get_errno() if result < 0 else 0

    return _best([one(fd) for fd in fds])


def _map(fd: int, protection: int, flags: int = mmap.MAP_SHARED) -> tuple[int, int]:
    ctypes.set_errno(0)
    address = _libc.mmap(None, ctypes.c_size_t(_PAGE), protection, flags, fd, ctypes.c_long(0))
    return (0, ctypes.get_errno()) if address == _FAILED else (address, 0)


def _unmap(address: int) -> None:
    _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE))


def _map_writable(fds: list[int]) -> int:
    answers = []
    for fd in fds:
        address, number = _map(fd, mmap.PROT_READ | mmap.PROT_WRITE)
        if number == 0:
            _unmap(address)
        answers.append(number)
    return _best(answers)


def _make_writable(fds: list[int]) -> int:
    """Map for reading, which is allowed, then ask for more."""
    answers = []
    for fd in fds:
        address, number = _map(fd, mmap.PROT_READ)
        if number == 0:
            number = _answer("mprotect", address, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
            _unmap(address)
        answers.append(number)
    return _best(answers)


def _on_each(kind: Callable[[int], bool], act: Callable[[int], int]) -> int:
    fds = list(_given(kind))
    assert fds, "this process was given nothing of that kind"
    return _best([act(fd) for fd in fds])


def _send_descriptor(fd: int) -> int:
    """A message that carries a descriptor."""
    data = (ctypes.c_char * 1)(b"x")

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    class Message(ctypes.Structure):
        _fields_ = (
            ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("vector", ctypes.c_void_p),
            ("vectors", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
            ("flags", ctypes.c_int),
        )  # fmt: skip

    control = struct.pack("@QiiI", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, 0).ljust(24, b"\0")
    held = ctypes.create_string_buffer(control, 24)
    vector = Vector(ctypes.addressof(data), 1)
    message = Message(None, 0, ctypes.addressof(vector), 1, ctypes.addressof(held), 24, 0)
    return _answer("sendmsg", fd, ctypes.addressof(message), 0)


def _executable(protection: int) -> int:
    address, number = _map(-1, protection, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if number == 0:
        _unmap(address)
    return number


def _becomes_executable() -> int:
    address, number = _map(-1, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if number == 0:
        number = _answer("mprotect", address, _PAGE, mmap.PROT_READ | mmap.PROT_EXEC)
        _unmap(address)
    return number


def _limit() -> int:
    """Raise the limit of files that may be written."""
    limits = struct.pack("<QQ", 1 << 30, 1 << 30)
    held = ctypes.create_string_buffer(limits, 16)
    return _answer("prlimit64", 0, 1, ctypes.addressof(held), 0)


# --- the table ------------------------------------------------------------------------------------------------------

PERM = frozenset({errno.EPERM})
NOWHERE = frozenset({errno.ENOENT, errno.EACCES})
"""What is not in the box's root, or what Landlock closes there."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One thing to try.

    Args:
        act: Tries it; answers with an error number, 0 for success.
        inside: The answers that are a refusal.
        outside: The answers of root in namespaces of its own, without a box: shows that the attempt is a real one.
        launching: The answers while the module level of an analyzer runs, under the first list; None: as `inside`.
    """

    act: Callable[[], int]
    inside: frozenset[int] = PERM
    outside: frozenset[int] = frozenset({0})
    launching: frozenset[int] | None = None


def _sockets() -> Iterator[tuple[str, Attempt]]:
    for name, family in FAMILIES.items():
        outside = {0} if name in COMMON_FAMILIES else {0, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT, *_UNSUPPORTED}
        yield (
            f"socket_{name}",
            Attempt(act=lambda family=family: _socket(family), outside=frozenset(outside)),  # type: ignore[misc]
        )


_UNSUPPORTED = (errno.EPROTONOSUPPORT, errno.EPERM, errno.EINVAL)


def _namespaces() -> Iterator[tuple[str, Attempt]]:
    for name, flag in CLONE_NEW.items():
        yield f"unshare_{name}", Attempt(act=lambda flag=flag: _answer("unshare", flag))  # type: ignore[misc]
        if name != "time":  # the flag is a signal's number for clone
            child = Attempt(act=lambda flag=flag: _child("clone", flag | signal.SIGCHLD, 0, 0, 0, 0))  # type: ignore[misc]
            yield f"clone_{name}", child


_PATH = b"/tmp/bunker-attack"
_W = os.O_WRONLY | os.O_CLOEXEC
_TRUE = ctypes.create_string_buffer(b"/bin/true")
_ARGUMENTS = (ctypes.c_char_p * 2)(b"true", None)


def _network() -> Iterator[tuple[str, Attempt]]:
    sock = stat.S_ISSOCK
    name = ctypes.create_string_buffer(struct.pack("<H", socket.AF_UNIX) + b"\0attack".ljust(108, b"\0"), 110)
    address = ctypes.addressof(name)
    pair = (ctypes.c_int * 2)()
    refused = frozenset({errno.EISCONN, errno.EINVAL, errno.ECONNREFUSED, errno.EOPNOTSUPP, errno.EPROTOTYPE, 0})
    yield from _sockets()
    yield "socketpair", Attempt(act=lambda: _answer("socketpair", 1, 1, 0, ctypes.addressof(pair)))
    yield "connect", Attempt(act=lambda: _on_each(sock, lambda fd: _answer("connect", fd, address, 9)), outside=refused)
    yield "bind", Attempt(act=lambda: _on_each(sock, lambda fd: _answer("bind", fd, address, 9)), outside=refused)
    yield "listen", Attempt(act=lambda: _on_each(sock, lambda fd: _answer("listen", fd, 1)), outside=refused)
    yield (
        "setsockopt",
        Attempt(act=lambda: _on_each(sock, lambda fd: _answer("setsockopt", fd, 1, 7, ctypes.addressof(_size), 4))),
    )
    yield "send_descriptor", Attempt(act=lambda: _on_each(sock, _send_descriptor))
    yield "sendmmsg", Attempt(act=lambda: _on_each(sock, lambda fd: _answer("sendmmsg", fd, 0, 0, 0)))
    yield (
        "recvmsg",
        Attempt(
            act=lambda: _on_each(sock, lambda fd: _answer("recvmsg", fd, 0, 0x40)), outside=frozenset({errno.EFAULT})
        ),
    )
    # To an address: on a socket that is connected the kernel itself would answer EISCONN.
    yield (
        "sendto_address",
        Attempt(act=lambda: _on_each(sock, lambda fd: _answer("sendto", fd, b"x", 1, 0, address, 9)), outside=refused),
    )


_size = ctypes.c_int(1 << 16)


def _writing() -> Iterator[tuple[str, Attempt]]:
    for where in ("/tmp/a", "/scratch/a", "/dev/shm/a", "a", "/a", "/var/tmp/a", "/dev/null"):
        flags = _W if where == "/dev/null" else _W | os.O_CREAT
        nowhere = {0, errno.ENOENT} if where == "/scratch/a" else {0}
        yield (
            f"write{where.replace('/', '_')}",
            Attempt(act=lambda where=where, flags=flags: _create(where, flags), outside=frozenset(nowhere)),  # type: ignore[misc]
        )
    yield "write_tmpfile", Attempt(act=lambda: _create("/tmp", _W | os.O_TMPFILE))
    yield "write_truncate", Attempt(act=lambda: _create(os.__file__, os.O_RDONLY | os.O_TRUNC), outside=_ROFS)
    yield "write_library", Attempt(act=lambda: _create(os.__file__, os.O_RDWR), outside=_ROFS)
    yield "creat", Attempt(act=lambda: _opened("creat", _PATH + b"1", 0o600))
    yield (
        "openat2",
        Attempt(
            act=lambda: _answer("openat2", _AT_FDCWD, b"/tmp", ctypes.addressof(_how), 24),
            inside=frozenset({errno.ENOSYS}),
        ),
    )
    for name, arguments in {
        "mkdir": (_PATH + b"2", 0o700), "mknod": (_PATH + b"3", stat.S_IFIFO | 0o600, 0),
        "symlink": (b"x", _PATH + b"4"), "link": (b"/tmp/given", _PATH + b"5"), "chmod": (b"/tmp/given", 0o600),
        "rename": (b"/tmp/given", b"/tmp/given"), "chown": (b"/tmp/given", 0, 0), "utime": (b"/tmp/given", None),
        "truncate": (b"/tmp/given", 0), "setxattr": (b"/tmp/given", b"trusted.a", b"b", 1, 0),
        "unlink": (b"/tmp/unlinked",),
    }.items():  # fmt: skip
        yield name, Attempt(act=lambda n=name, a=arguments: _answer(n, *a))  # type: ignore[misc]
    # Through what it holds.
    refused = frozenset({errno.EBADF, errno.EPERM, errno.EACCES})
    yield "files_write", Attempt(act=lambda: _write_files(_files()), inside=refused)
    yield "files_map_writable", Attempt(act=lambda: _map_writable(_files()), inside=refused)
    yield "files_make_writable", Attempt(act=lambda: _make_writable(_files()), inside=refused)
    yield "files_truncate", Attempt(act=lambda: _best([_answer("ftruncate", fd, 1 << 20) for fd in _files()]))
    yield "files_punch", Attempt(act=lambda: _best([_answer("fallocate", fd, 3, 1 << 19, _PAGE) for fd in _files()]))
    yield (
        "files_pwritev2",
        Attempt(
            act=lambda: _best([_answer("pwritev2", fd, ctypes.addressof(_nothing), 1, 0, 0, 0) for fd in _files()])
        ),
    )
    yield "raise_file_limit", Attempt(act=_limit)


_ROFS = frozenset({0, errno.EROFS})
_how = ctypes.create_string_buffer(struct.pack("<QQQ", os.O_RDONLY | os.O_CLOEXEC, 0, 0), 24)
_nothing = ctypes.create_string_buffer(struct.pack("<QQ", 0, 0), 16)


def _reading() -> Iterator[tuple[str, Attempt]]:
    for path in (
        "/etc/passwd", "/proc/self/mem", "/proc/1/mem", "/proc/1/maps", "/proc/self/environ", "/proc/1/fd",
        "/proc/kallsyms", "/sys/kernel", "/root", "/home", "/tmp", "/dev", "/dev/zero", "/var", "/etc",
    ):  # fmt: skip
        yield f"read{path.replace('/', '_')}", Attempt(act=lambda path=path: _read(path), inside=NOWHERE)  # type: ignore[misc]
    yield "list_root", Attempt(act=lambda: _python(lambda: os.listdir("/")), inside=NOWHERE)


def _starting() -> Iterator[tuple[str, Attempt]]:
    yield "fork", Attempt(act=lambda: _child("fork"))
    yield "clone_process", Attempt(act=lambda: _child("clone", signal.SIGCHLD, 0, 0, 0, 0))
    yield (
        "clone_shared_memory",
        Attempt(
            # CLONE_VM alone with CLONE_THREAD left out; an invalid combination outside (CLONE_SIGHAND without VM).
            act=lambda: _child("clone", 0x800 | signal.SIGCHLD, 0, 0, 0, 0),
            outside=frozenset({errno.EINVAL}),
        ),
    )
    yield (
        "clone3",
        Attempt(
            act=lambda: _answer("clone3", 0, 0), inside=frozenset({errno.ENOSYS}), outside=frozenset({errno.EINVAL})
        ),
    )
    yield "os_fork", Attempt(act=lambda: _python(_os_fork))
    yield "execve", Attempt(act=_in_child(lambda: _answer("execve", _TRUE.value, ctypes.addressof(_ARGUMENTS), 0)))
    yield (
        "execveat",
        Attempt(act=_in_child(lambda: _answer("execveat", _AT_FDCWD, _TRUE.value, ctypes.addressof(_ARGUMENTS), 0, 0))),
    )
    yield (
        "execve_interpreter",
        Attempt(act=_in_child(lambda: _answer("execve", sys.executable.encode(), ctypes.addressof(_ARGUMENTS), 0))),
    )
    yield "posix_spawn", Attempt(act=lambda: _python(_spawn))
    yield "set_user", Attempt(act=lambda: _answer("setuid", 0))
    yield "set_group", Attempt(act=lambda: _answer("setgid", 0))
    yield "set_groups", Attempt(act=lambda: _answer("setgroups", 0, 0))
    yield "set_session", Attempt(act=_in_child(lambda: _answer("setsid"), code=True))
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x2008_0522, 0), 8)
    none = ctypes.create_string_buffer(24)
    yield "capset", Attempt(act=lambda: _answer("capset", ctypes.addressof(header), ctypes.addressof(none)))
    yield "unshare_files", Attempt(act=lambda: _answer("unshare", 0x400))
    yield from _namespaces()
    for name, option, *rest in (
        ("dumpable", 4, 1), ("pdeathsig", 1, 0), ("ptracer", 0x59616D61, -1), ("keepcaps", 8, 0), ("seccomp", 22, 2, 0),
        ("securebits", 28, 0), ("thp", 41, 0), ("subreaper", 36, 1), ("mm", 35, 1, 0), ("timerslack", 29, 1),
        ("mdwe_off", 65, 0), ("ambient", 47, 4, 0),
    ):  # fmt: skip
        known = {0, errno.EINVAL, errno.EFAULT, errno.EPERM}
        outside = frozenset({0}) if name in ("dumpable", "pdeathsig", "subreaper", "timerslack") else frozenset(known)
        arguments = (option, *rest, *[0] * (4 - len(rest)))
        yield (
            f"prctl_{name}",
            Attempt(act=lambda a=arguments: _answer("prctl", *a), outside=outside),  # type: ignore[misc]
        )


def _os_fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def _spawn() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def _in_child(act: Callable[[], int], *, code: bool = False) -> Callable[[], int]:
    """Outside, a successful exec would end the script: fork first if that is possible.

    Args:
        code: The call returns when it succeeds.
    """

    def attempt() -> int:
        try:
            child = os.fork()
        except OSError:
            return act()
        if child == 0:
            os._exit(act())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    del code
    return attempt


def _reaching() -> Iterator[tuple[str, Attempt]]:
    """Signals, shared objects, queues, descriptors of the kernel's."""
    gone = frozenset({0, errno.ESRCH})
    yield "kill_all", Attempt(act=lambda: _answer("kill", -1, 0), outside=gone)
    yield "kill_group", Attempt(act=lambda: _answer("kill", 0, 0))
    yield "kill_parent", Attempt(act=lambda: _answer("kill", max(os.getppid(), 2), 0), outside=gone)
    yield "kill_other", Attempt(act=lambda: _answer("kill", 2, 0), outside=gone)
    yield "tkill", Attempt(act=lambda: _answer("tkill", 1, 0))
    yield "tgkill_other", Attempt(act=lambda: _answer("tgkill", 2, 2, 0), outside=gone)
    yield (
        "rt_sigqueueinfo",
        Attempt(
            act=lambda: _answer("rt_sigqueueinfo", 1, 0, ctypes.addressof(_information)),
            outside=frozenset({0, errno.EPERM}),
        ),
    )
    yield "pidfd_open", Attempt(act=lambda: _opened("pidfd_open", os.getpid(), 0))
    yield "shmget", Attempt(act=lambda: _answer("shmget", 0, _PAGE, 0o1600))
    yield "semget", Attempt(act=lambda: _answer("semget", 0, 1, 0o1600))
    yield "msgget", Attempt(act=lambda: _answer("msgget", 0, 0o1600))
    yield "mq_open", Attempt(act=lambda: _opened("mq_open", b"attack", os.O_CREAT | os.O_RDWR, 0o600, 0))
    yield "memfd_create", Attempt(act=lambda: _opened("memfd_create", b"a", 1))
    yield "memfd_secret", Attempt(act=lambda: _opened("memfd_secret", 0x80000))
    yield "inotify_init", Attempt(act=lambda: _opened("inotify_init"))
    yield "signalfd", Attempt(act=lambda: _opened("signalfd", -1, ctypes.addressof(_size), 8))
    yield "timerfd_create", Attempt(act=lambda: _opened("timerfd_create", 1, 0x80000))
    yield "io_setup", Attempt(act=lambda: _answer("io_setup", 1, ctypes.addressof(_context)))
    yield "personality", Attempt(act=lambda: _answer("personality", 0xFFFF_FFFF))
    yield (
        "sched_setscheduler",
        Attempt(act=lambda: _answer("sched_setscheduler", 0, 0, ctypes.addressof(ctypes.c_int(0)))),
    )
    yield "setpriority", Attempt(act=lambda: _answer("setpriority", 0, 0, 0))
    yield "ioprio_set", Attempt(act=lambda: _answer("ioprio_set", 1, 0, 0))
    yield "pkey_mprotect", Attempt(act=lambda: _answer("pkey_mprotect", 0, 0, 0, -1))
    yield (
        "landlock_create_ruleset",
        Attempt(
            act=lambda: _answer("landlock_create_ruleset", 0, 0, 1),
            outside=frozenset({0, errno.ENOSYS, errno.EOPNOTSUPP}),
        ),
    )
    for name in ("splice", "tee", "vmsplice", "sendfile", "copy_file_range"):
        yield name, Attempt(act=lambda name=name: _moved(name))  # type: ignore[misc]
    launching = frozenset({errno.EACCES, errno.EPERM})
    yield "map_code", Attempt(act=lambda: _executable(7), launching=launching)
    yield "memory_to_code", Attempt(act=_becomes_executable, launching=launching)


_context = ctypes.c_ulong(0)
_information = ctypes.create_string_buffer(struct.pack("<iii", 0, 0, -1).ljust(128, b"\0"), 128)


def _moved(name: str) -> int:
    """Nothing is moved (length 0), so the answer is about the right alone."""
    if name == "tee":
        return _answer(name, *(list(_given(stat.S_ISFIFO)) * 2)[:2], 0, 0)
    if name == "vmsplice":
        return _on_each(stat.S_ISFIFO, lambda fd: _answer(name, fd, ctypes.addressof(_nothing), 0, 0))
    if name == "splice":
        return _on_each(stat.S_ISFIFO, lambda fd: _answer(name, _files()[0], 0, fd, 0, 0, 0))
    if name == "copy_file_range":
        return _answer(name, _files()[0], 0, _files()[0], 0, 0, 0)
    return _on_each(stat.S_ISFIFO, lambda fd: _answer(name, fd, _files()[0], 0, 0))


ATTEMPTS: dict[str, Attempt] = dict(
    pair for table in (_network, _writing, _reading, _starting, _reaching) for pair in table()
)

HOSTILE: dict[str, tuple[int | bytes | None, ...]] = {
    # Outside each of these answers with an error or changes nothing; none may harm the machine that tests.
    "ptrace": (16, 0x7FFF_FFFF, 0, 0),
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "process_vm_writev": (1, 0, 0, 0, 0, 0),
    "process_madvise": (-1, 0, 0, 0, 0),
    "pidfd_getfd": (-1, 0, 0),
    "kcmp": (0x7FFF_FFFF, 0x7FFF_FFFF, 0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "bpf": (-1, 0, 0),
    "io_uring_setup": (0, 0),
    "io_uring_enter": (-1, 0, 0, 0, 0, 0),
    "io_uring_register": (-1, 0, 0, 0),
    "userfaultfd": (0xFFFF,),
    "kexec_load": (0, 17, 0, 0xFFFF),
    "kexec_file_load": (-1, -1, 0, 0, 0xFFFF),
    "init_module": (0, 0, 0),
    "finit_module": (-1, 0, 0xFFFF),
    "delete_module": (0, 0),
    "reboot": (0, 0, 0, 0),
    "swapon": (0, 0),
    "swapoff": (0,),
    "acct": (b"/nonexistent/file",),
    "syslog": (-1, 0, 0),
    "quotactl": (-1, 0, 0, 0),
    "clock_settime": (-1, 0),
    "settimeofday": (1, 1),
    "adjtimex": (0,),
    "clock_adjtime": (-1, 0),
    "sethostname": (0, -1),
    "setdomainname": (0, -1),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
    "keyctl": (-1, 0, 0, 0, 0),
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, -1),
    "pivot_root": (0, 0),
    "chroot": (0,),
    "open_tree": (-1, 0, -1),
    "move_mount": (-1, 0, -1, 0, -1),
    "fsopen": (0, -1),
    "fsconfig": (-1, -1, 0, 0, 0),
    "fsmount": (-1, -1, -1),
    "fspick": (-1, 0, -1),
    "mount_setattr": (-1, 0, -1, 0, 0),
    "setns": (-1, 0),
    "open_by_handle_at": (-1, 0, 0),
    "name_to_handle_at": (-1, 0, 0, 0, -1),
    "fanotify_init": (-1, -1),
    "iopl": (-1,),
    "ioperm": (-1, 0, 0),
    "modify_ldt": (-1, 0, 0),
}


def try_all(names: Iterator[str] | None = None) -> dict[str, int]:
    """Every attempt, one after the other: name to error number."""
    return {name: ATTEMPTS[name].act() for name in names or ATTEMPTS}


def main() -> None:
    """Outside: each attempt in a child of its own, so that none spoils the next; JSON on standard output.

    Run it as root in new mount, network, ipc, uts and pid namespaces, with a /tmp of its own.
    """
    found: dict[str, int] = {}
    for name in [*ATTEMPTS, *HOSTILE]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            given()
            number = ATTEMPTS[name].act() if name in ATTEMPTS else _answer(name, *HOSTILE[name])
            os.write(writing, struct.pack("<i", number))
            os._exit(0)
        os.close(writing)
        said = os.read(reading, 4)
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found[name] = struct.unpack("<i", said)[0] if said else 1000 + abs(status)
    print(json.dumps(found))


def given() -> None:
    """Outside: the descriptors that a worker would have, and the files that some attempts are about."""
    for name in ("given", "unlinked"):
        os.close(os.open(f"/tmp/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
    spool = os.open("/tmp/spool", os.O_CREAT | os.O_RDWR, 0o600)
    os.unlink("/tmp/spool")
    os.truncate(spool, 1 << 20)
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.detach()
    for _ in range(2):
        os.pipe()


if __name__ == "__main__":
    main()
