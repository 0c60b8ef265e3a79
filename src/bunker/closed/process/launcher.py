"""Carries a fresh process through the jail into its role; a script for `jail.enter_box`, a function for `jail.spawn`.

Rules of this file:
1. The order is the protection: namespaces, fork, confinement, imports, report, role. No code of the role
   runs unconfined.
2. A launch that fails says why in words of ours (exception class, module and line), never by a traceback.
3. `run` never returns and never unwinds: a fork that unwound would run its parent's clean-up.
"""

from __future__ import annotations

import base64
import gc
import importlib
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":  # a script of a bare interpreter (-I -S) knows no packages but the standard library
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from bunker.closed.process import jail
from bunker.errors import BoxError
from bunker.native import jail as native

EXIT_FAULT = 70
EXIT_LAUNCH = 71
_SPARED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
"""SIGPIPE and SIGXFSZ stay ignored, as the interpreter has them: they come back as errors of the call."""


def run(
    spec: jail.JailSpec,
    module: str,
    argument: str,
    report_fd: int,
    *,
    around: jail.Surroundings | None = None,
    places: jail.Places | None = None,
) -> NoReturn:
    """Become the role.

    Args:
        around: Of a process that the supervisor starts: its box.
        places: Of a new box: its paths.
    """
    # Objects of the parent's own descriptors must not be collected here: closing would hit our own of the same number.
    gc.freeze()
    code = EXIT_FAULT
    try:
        _prepare(spec, argument, report_fd, around, places)
        main = importlib.import_module(module).main
        _report(report_fd, {"entries": [asdict(entry) for entry in jail.surroundings().enforcement.entries]})
        os.close(report_fd)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the parent as a word, not as a traceback
        _report(report_fd, {"error": _words(error)})
        os._exit(EXIT_LAUNCH)
    try:
        code = main() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_FAULT
    except BaseException:  # noqa: BLE001 - the process ends here in any case
        # Standard error is /dev/null in a box; diagnostic mode and tests may have kept it.
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _prepare(
    spec: jail.JailSpec,
    argument: str,
    report_fd: int,
    around: jail.Surroundings | None,
    places: jail.Places | None,
) -> None:
    readable = around.readable if around else (*places.shown, *spec.files) if places else ()
    told = jail.launch_spec(
        spec,
        new_box=places,
        readable=readable,
        keep=(report_fd,),
        user_namespace=around.enforcement.holds("user_namespace") if around else False,
    )
    os.chdir("/")
    _plain_signals()
    entries = native.isolate(told)
    found = jail.Enforcement(entries=entries)
    if not around:
        told["user_namespace"] = found.holds("user_namespace")
    if found.holds("pid_namespace"):
        told["launcher_gone"] = _first_of_namespace(report_fd)
    entries += native.launch(told)
    if around:
        # The box's own entries hold for whatever runs in it.
        known = {entry.name for entry in entries}
        inherited = (entry for entry in around.enforcement.entries if entry.name in _BOX_WIDE - known)
        entries = (*inherited, *entries)
    found = jail.Enforcement(entries=entries)
    missing = found.floor_missing()
    if missing:
        raise BoxError(
            "jail",
            f"this machine cannot enforce {', '.join(missing)}",
            "Use a kernel with Landlock (5.13 or newer) or allow user namespaces",
        )
    os.environ.clear()
    os.environ.update(jail.Surroundings(enforcement=found, readable=readable).environment())
    scratch = jail.scratch_directory(spec)
    if scratch is not None:
        _empty(scratch)
        os.environ["TMPDIR"] = scratch
    sys.argv = [spec.role, argument]


_BOX_WIDE = {"swap", "user_namespace", "uid_range", "mount_namespace", "cgroup_namespace", "scratch_never_swapped"}


def _first_of_namespace(report_fd: int) -> int:
    """Fork: the child goes on as process 1, this process tells its number and ends.

    Returns:
        In the child, a descriptor that is readable once this process has ended.
    """
    gone = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        _report(report_fd, {"pid": child})
        os._exit(0)
    return gone


def _plain_signals() -> None:
    for number in signal.valid_signals() - _SPARED:
        if not callable(number):
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _empty(directory: str) -> None:
    """What a predecessor left is of a flow that was given up."""
    for entry in Path(directory).iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _report(fd: int, found: dict[str, object]) -> None:
    os.write(fd, json.dumps(found).encode() + b"\n")


def _words(error: BaseException) -> tuple[str, str, str]:
    if isinstance(error, BoxError):
        return error.thing, error.cause, error.remedy
    place = "an unknown place"
    at = error.__traceback__
    while at is not None:
        place = f"{Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno}"
        at = at.tb_next
    name = error.name if isinstance(error, ModuleNotFoundError) else ""
    return (
        "launch into the jail",
        f"{type(error).__name__} {name} at {place}",
        "This is a bug, or a library is not installed",
    )


def main() -> NoReturn:
    """The launcher of a new box: its order in one descriptor, its report to the other."""
    order_fd, report_fd = int(sys.argv[1]), int(sys.argv[2])
    order = json.loads(os.pread(order_fd, os.fstat(order_fd).st_size, 0))
    os.close(order_fd)
    spec = jail.JailSpec(**order["spec"])
    spec = replace(
        spec,
        role=jail.Role(spec.role),
        scratches={int(uid): size for uid, size in spec.scratches.items()},
        files={path: base64.b64decode(content) for path, content in order["files"].items()},
    )
    places = jail.Places(
        shown=tuple(order["places"]["shown"]),
        links=tuple((path, target) for path, target in order["places"]["links"]),
        imports=tuple(order["places"]["imports"]),
        uid_base=order["places"]["uid_base"],
    )
    sys.path.extend(path for path in places.imports if path not in sys.path)
    run(spec, order["module"], order["argument"], report_fd, places=places)


if __name__ == "__main__":
    main()
