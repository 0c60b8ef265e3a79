"""What the programs of a bundle need of this machine: interpreters and libraries, found before the box exists.

Rules of this file:
1. A program that is not among the bundle's files is named as on a command line and looked for in PATH, once, here.
2. What a box will show of the machine for a program's sake is listed here, and nothing else is.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bunker.closed.process.settings import ExternalSettings
from bunker.errors import ConfigurationError
from bunker.experiment.bundle import Bundle
from bunker.model.external import KNOWN_LIBRARIES, PROGRAM_ROOT, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """One program, ready to be started: real paths."""

    argv: tuple[str, ...]
    executable: str
    folder: str
    readable: tuple[str, ...]

    def settings(self, link_fd: int) -> ExternalSettings:
        """What its keeper is told."""
        return ExternalSettings(
            link_fd=link_fd, argv=list(self.argv), executable=self.executable, directory=self.folder
        )


def interpreters(bundle: Bundle, *, folder: str = PROGRAM_ROOT) -> list[Interpreter]:
    """One for each program of the bundle, in its order.

    Args:
        folder: Where the bundle's files will stand.
    Raises:
        ConfigurationError: this machine has no such program, or no such library.
    """
    return [_found(name, program, bundle, folder) for name, program in bundle.programs.items()]


def _found(name: str, program: Program, bundle: Bundle, folder: str) -> Interpreter:
    first = program.command[0]
    own = str(Path(first)) in bundle.program_files
    executable = f"{folder}/{Path(first)}" if own else shutil.which(first)
    if executable is None:
        raise ConfigurationError(
            f"external {name}", f"this machine has no program {first!r}", "Install it, or name a file of the experiment"
        )
    known = {path for paths in KNOWN_LIBRARIES.values() for path in paths}
    missing = [path for path in program.libraries if not Path(path).exists()]
    if set(missing) - known:
        raise ConfigurationError(f"external {name}", f"this machine has no {missing[0]}", "Correct libraries=")
    libraries = [path for path in program.libraries if path not in missing]
    real = () if own else (os.path.realpath(executable),)
    return Interpreter(
        argv=program.command,
        executable=executable if own else os.path.realpath(executable),
        folder=folder,
        readable=(*real, *map(os.path.realpath, libraries), *_script_interpreter(name, first, bundle if own else None)),
    )


def _script_interpreter(name: str, first: str, bundle: Bundle | None) -> tuple[str, ...]:
    """What a sealed script's first line names ("#!/usr/bin/perl")."""
    content = bundle.program_files[str(Path(first))] if bundle else b""
    if not content.startswith(b"#!"):
        return ()
    words = content[2:256].split(b"\n", 1)[0].split()
    path = words[0].decode(errors="replace") if words else ""
    if not Path(path).is_absolute() or not Path(path).exists():
        raise ConfigurationError(f"external {name}", "its first line names no program", "Write it as #!/usr/bin/perl")
    return (os.path.realpath(path),)
