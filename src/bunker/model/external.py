"""A program in another language as an analyzer: what is started, and what it needs.

Rules of this file:
1. The program's own files are sealed into the bundle; only its interpreter and libraries come from the machine.
2. Paths of its own files are relative to the experiment's folder and never leave it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bunker.errors import ConfigurationError

PROGRAM_ROOT = "/program"
"""Where the sealed files stand inside a box; the program's working directory."""
_RULES_OF_SPAMASSASSIN = ("/usr/share/spamassassin", "/etc/spamassassin", "/var/lib/spamassassin")
KNOWN_LIBRARIES = {
    "perl": ("/usr/share/perl", "/usr/share/perl5", "/etc/perl"),
    "spamassassin": _RULES_OF_SPAMASSASSIN,
}
"""Where an interpreter or engine looks beside /lib and /usr/lib, which every box shows; as far as they exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One external program.

    Args:
        command: Words; the first is an interpreter or program of the machine, or one of the sealed files.
        files: Sealed files that are not among the words of the command.
        libraries: Absolute paths of the machine that the program reads.
        fields: Columns of the messages that it is sent; none: all.
        built_in: Its files are Bunker's own (`bunker.analyzers`), not the experiment's.
    """

    command: tuple[str, ...]
    files: tuple[str, ...]
    libraries: tuple[str, ...]
    fields: tuple[str, ...]
    built_in: bool = False

    @property
    def name(self) -> str:
        """A name for it, from its own file."""
        word = self.command[1] if len(self.command) > 1 and not self.command[1].startswith("-") else self.command[0]
        return re.sub(r"\W", "_", PurePosixPath(word).stem) or "external"


def program_of(
    command: str | Sequence[str],
    *,
    files: Sequence[str],
    libraries: Sequence[str] | None,
    fields: Sequence[str],
    built_in: bool = False,
) -> Program:
    """Check the parts of a program.

    Args:
        libraries: None: those that are known of the interpreter.
        built_in: As in `Program`.
    Raises:
        ConfigurationError: no command, a path that is not below the experiment's folder, a library that is no absolute
            path.
    """
    try:
        words = tuple(shlex.split(command)) if isinstance(command, str) else tuple(command)
    except ValueError:
        words = ()
    if not words or not words[0]:
        raise ConfigurationError("external", "its command is none", 'Write it as external("perl score.pl", ...)')
    for file in files:
        if not is_inside(file):
            raise ConfigurationError(
                f"external {words[0]}, file {file!r}", "is not below the experiment's folder", "Put it there"
            )
    if libraries is None:
        libraries = KNOWN_LIBRARIES.get(PurePosixPath(words[0]).name, ())
    for library in libraries:
        if not PurePosixPath(library).is_absolute() or ".." in PurePosixPath(library).parts:
            raise ConfigurationError(
                f"external {words[0]}, library {library!r}", "is no absolute path", "Name it from /"
            )
    return Program(
        command=words, files=tuple(files), libraries=tuple(libraries), fields=tuple(fields), built_in=built_in
    )


def is_inside(path: str) -> bool:
    """Whether this is a plain relative path that stays below its folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts and "\0" not in path
