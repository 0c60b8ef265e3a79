"""Debian packages as a source of files: fetched and authenticated by apt, taken apart without being installed.

Rules of this file:
1. No package is installed and no script of one is run: an image holds files that were named, nothing that happened.
2. The merged /usr of Debian 12 is kept: /bin, /sbin, /lib and /lib64 are links in the image.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bunker.errors import ConfigurationError
from bunker.image.cache import cache_directory
from bunker.image.programs import run

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A fetched package."""

    name: str
    version: str
    file: Path

    @property
    def sha256(self) -> str:
        """Of the package file."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a package: its path in the image, and what it is."""

    path: str
    content: bytes | None
    target: str | None
    mode: int


def fetch(names: Iterable[str]) -> dict[str, Package]:
    """The packages in the version that apt would install now, out of the cache if they are there.

    Raises:
        ConfigurationError: apt knows one of them not, or has no lists. BoxError: the download failed.
    """
    folder = cache_directory() / "packages"
    folder.mkdir(exist_ok=True)
    wanted = _candidates(sorted(names))
    files = {name: folder / f"{name}_{version.replace(':', '%3a')}.deb" for name, version in wanted.items()}
    missing = [name for name, file in files.items() if not file.exists()]
    for name in missing:
        new = folder / f".new-{name}"
        new.mkdir(exist_ok=True)
        run(["apt-get", "download", "-q", f"{name}={wanted[name]}"], step=f"package {name}", cwd=new)
        next(new.glob("*.deb")).rename(files[name])
        new.rmdir()
    return {name: Package(name=name, version=wanted[name], file=files[name]) for name in wanted}


def _candidates(names: list[str]) -> dict[str, str]:
    """The version of each that apt would install."""
    found: dict[str, str] = {}
    name = ""
    for line in run(["apt-cache", "policy", *names], step="packages").decode().splitlines():
        key, _, value = line.strip().partition(":")
        if not line.startswith(" "):
            name = key
        elif key == "Candidate" and value.strip() != "(none)":
            found[name] = value.strip()
    for name in names:
        if name not in found:
            raise ConfigurationError(f"package {name}", "apt does not know it", "Run apt-get update on Debian 12")
    return {name: found[name] for name in names}


def members(package: Package) -> Iterator[Member]:
    """All files and links of a package, at their paths in the image; folders and devices are left out."""
    content = run(["dpkg-deb", "--fsys-tarfile", package.file], step=f"package {package.name}")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for entry in tar:
            path = merged(entry.name)
            if entry.issym():
                target = entry.linkname
                yield Member(
                    path=path, content=None, target=f"/{merged(target)}" if target[:1] == "/" else target, mode=0o777
                )
            elif entry.isfile() or entry.islnk():
                file = tar.extractfile(entry)
                assert file is not None
                # Nothing in the image is set-uid, whatever the package says.
                yield Member(path=path, content=file.read(), target=None, mode=0o755 if entry.mode & 0o111 else 0o644)


def merged(path: str) -> str:
    """A package's path in a file system with a merged /usr, without the leading slash."""
    clean = path.removeprefix(".").lstrip("/")
    first, _, _ = clean.partition("/")
    return f"usr/{clean}" if first in _MERGED else clean


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns; `*` crosses folders."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
