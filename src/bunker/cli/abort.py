"""`bunker abort`: destroys a run at once, keys first.

Rules of this file:
1. It knows no more of a box than the kernel tells anybody: which process runs `bunker run` for this directory. It asks
   that process by a signal; there is no other channel.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import click

from bunker.errors import ConfigurationError

_WAIT_S = 60


@click.command()
@click.argument("run", metavar="DIR|PID")
def abort(run: str) -> None:
    """Destroy a run: its keys at once, then its processes. The last word of its trace is ABORT.

    DIR is the directory that `bunker run -o` was given; PID the number of its process.
    """
    pid = int(run) if run.isdecimal() else _runner_of(Path(run))
    try:
        process = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        raise ConfigurationError(f"process {pid}", "is not there", "The run has ended, or name another") from None
    if not _is_run(_words(pid)):
        raise ConfigurationError(f"process {pid}", "is no bunker run", "Name the process or directory of a run")
    signal.pidfd_send_signal(process, signal.SIGQUIT)
    click.echo("bunker: keys and processes are being destroyed", err=True)
    if not select.select([process], [], [], _WAIT_S)[0]:
        raise ConfigurationError(f"process {pid}", "has not ended yet", "Its open box may be slow; the keys are gone")


def _words(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def _is_run(words: list[str]) -> bool:
    return "run" in words and any("bunker" in word for word in words)


def _runner_of(directory: Path) -> int:
    """The process that runs for this directory.

    Raises:
        ConfigurationError: there is none.
    """
    wanted = directory.resolve()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            words = _words(int(entry.name))
            with suppress(OSError):
                if _is_run(words) and any((entry / "cwd").readlink() / word == wanted for word in _outputs(words)):
                    return int(entry.name)
    raise ConfigurationError(f"{directory}", "no run writes there", "Give the -o directory of a run, or its process")


def _outputs(words: list[str]) -> list[str]:
    """What follows -o."""
    return [os.path.normpath(after) for word, after in pairwise(words) if word == "-o"]
