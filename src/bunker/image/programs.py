"""Programs of the distribution that building and starting need, each with the package that has it.

Rules of this file:
1. A missing program is said before anything is built, with what installs it.
2. Programs are started without a shell, with a fixed environment: no locale, time zone or colour of the user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bunker.errors import BoxError, ConfigurationError

PACKAGES: Final[dict[str, str]] = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mksquashfs": "squashfs-tools",
    "veritysetup": "cryptsetup-bin",
    "depmod": "kmod",
    "readelf": "binutils",
    "objcopy": "binutils",
    "objdump": "binutils",
    "make": "build-essential",
    "gcc": "build-essential",
    "ccache": "ccache",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "cpio": "cpio",
    "xz": "xz-utils",
    "zstd": "zstd",
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "sgdisk": "gdisk",
}


def find(program: str) -> str:
    """Path of a program.

    Raises:
        ConfigurationError: it is not installed.
    """
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        package = PACKAGES.get(program, program)
        raise ConfigurationError(f"program {program}", "is not installed", f"Install it: apt-get install {package}")
    return found


def require(programs: Sequence[str]) -> None:
    """Raises ConfigurationError if one of these is missing."""
    for program in programs:
        find(program)


def run(
    command: Sequence[str | Path], *, step: str, cwd: Path | None = None, more: Mapping[str, str] | None = None
) -> bytes:
    """Run a program to its end.

    Returns:
        What it wrote to standard output.
    Raises:
        ConfigurationError: it is not installed. BoxError: it failed; the message ends with its last line.
    """
    program, *arguments = map(str, command)
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC"}
    environment |= {"HOME": os.environ.get("HOME", "/"), **(more or {})}
    done = subprocess.run(
        [find(program), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["no message"]
        raise BoxError(step, f"{program} ended with {done.returncode}: {lines[-1]}", "See the lines before it")
    return done.stdout
