"""The root file system: named files of Debian packages, this package, its libraries; sealed by a hash tree.

Rules of this file:
1. The tree begins empty. What `image/root/packages.toml` does not name is not there.
2. Every shared library that a file needs is in the tree, or the build stops.
3. Owner root, one time for every file, no set-uid bit, no extended attribute: the same inputs make the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec

from bunker.closed.machine.mapper import Verity
from bunker.errors import BoxError, ConfigurationError
from bunker.image.packages import Package, fetch, matches, members
from bunker.image.programs import run

SITE = "usr/lib/bunker"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_PYTHON = "usr/bin/python3.11"
_MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_SALT = hashlib.sha256(b"bunker image root").hexdigest()
"""A salt that is no secret and the same for every image: it only keeps tables made for others from being reused."""
_UUID = "62756e6b-6572-4000-8000-726f6f740000"


class _Packages(msgspec.Struct, forbid_unknown_fields=True):
    packages: dict[str, list[str]]
    leave_out: dict[str, list[str]] = {}
    python: dict[str, list[str]] = {}
    folders: dict[str, list[str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A sealed root file system."""

    file: Path
    verity: Verity
    packages: tuple[Package, ...]
    python: dict[str, str]
    """Name and version of each Python distribution in it."""


def build_root(folders: tuple[Path, ...], target: Path, work: Path, *, epoch: int) -> Root:
    """Make a root file system into the file `target`.

    Args:
        folders: Descriptions, each a `packages.toml` and a `tree/`; a later one adds to an earlier one.
        work: An empty directory for the tree.
        epoch: The one time of all files, seconds.
    Raises:
        ConfigurationError: the description is wrong, a program or package is missing. BoxError: a step failed.
    """
    tree = work / "tree"
    tree.mkdir()
    for link, place in _MERGED.items():
        (tree / place).mkdir(parents=True, exist_ok=True)
        (tree / link).symlink_to(place)
    packages: dict[str, Package] = {}
    python: dict[str, str] = {}
    for folder in folders:
        described = _read(folder / "packages.toml")
        for name in described.folders.get("names", ()):
            (tree / name).mkdir()
        fetched = fetch(described.packages)
        for name, patterns in described.packages.items():
            _place(fetched[name], patterns, described.leave_out.get("patterns", []), tree)
        packages |= fetched
        if described.python:
            python |= _place_python(described.python, tree)
        _place_tree(folder / "tree", tree)
    check_libraries(tree)
    compile_python(tree)
    return Root(
        file=target,
        verity=seal(tree, target, epoch=epoch),
        packages=tuple(packages[name] for name in sorted(packages)),
        python=python,
    )


def _place_tree(source: Path, tree: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file():
            path = tree / file.relative_to(source)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, path)
            path.chmod(0o755 if os.access(file, os.X_OK) else 0o644)


def _read(path: Path) -> _Packages:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), type=_Packages)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}", f"cannot be used ({error})", "Take it from the project") from None


def _place(package: Package, patterns: list[str], leave_out: list[str], tree: Path) -> None:
    taken = 0
    for member in members(package):
        if not matches(member.path, patterns) or matches(member.path, leave_out):
            continue
        taken += 1
        path = tree / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.target is not None:
            path.unlink(missing_ok=True)
            path.symlink_to(member.target)
        else:
            path.write_bytes(member.content or b"")
            path.chmod(0o644 if path.suffix == ".py" else member.mode)  # a module is not a program
    if not taken:
        raise ConfigurationError(f"package {package.name}", "no file of it fits its patterns", "Correct packages.toml")


def _place_python(described: dict[str, list[str]], tree: Path) -> dict[str, str]:
    """This package and the distributions it runs with, as files of the environment that builds."""
    if sys.version_info[:2] != (3, 11):
        raise ConfigurationError("Python", "is not 3.11, the image's", "Build on Debian 12")
    versions: dict[str, str] = {}
    for name in described["distributions"]:
        found = metadata.distribution(name)
        versions[name] = found.version
        for entry in found.files or ():
            path = str(entry)
            kept = ".dist-info/" not in path or path.endswith("/METADATA")
            kept = kept and not matches(path, described.get("leave_out", ()))
            if kept and not path.startswith("..") and "__pycache__" not in path:
                _copy(Path(str(found.locate_file(entry))), tree / SITE / path)
    own = Path(__file__).resolve().parents[1]
    for file in sorted(own.rglob("*")):
        path = f"bunker/{file.relative_to(own)}"
        wanted = not matches(path, described.get("without", ())) and matches(path, described.get("only", ["*"]))
        if file.is_file() and "__pycache__" not in path and wanted:
            _copy(file, tree / SITE / path)
    versions["bunker"] = metadata.version("bunker")
    return versions


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def check_libraries(tree: Path) -> None:
    """Every shared library that an ELF file of the tree names is in the tree.

    Raises:
        BoxError: one is not; names the file and the library.
    """
    present = {path.name for path in (tree / _LIBRARIES).iterdir()}
    for path in _elf_files(tree):
        text = run(["readelf", "-d", path], step="libraries").decode()
        beside = {other.name for other in path.parent.iterdir()}
        for library in re.findall(r"\(NEEDED\).*\[(.+)\]", text):
            vendored = list((tree / SITE).glob(f"*.libs/{library}"))
            if library not in present and library not in beside and not vendored:
                raise BoxError(f"{path.relative_to(tree)}", f"needs {library}, which is not there", "Name its package")


def _elf_files(tree: Path) -> Iterator[Path]:
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def compile_python(tree: Path) -> None:
    """Compile all Python files with the image's own interpreter, each with its path in the image, never to be checked
    against a time: starting is several times faster, and the bytes are the same each time."""
    interpreter: list[str | Path] = [tree / _LOADER, "--library-path", tree / _LIBRARIES, tree / _PYTHON]
    for place in ("usr/lib/python3.11", SITE):
        run(
            [
                *interpreter,
                *("-I", "-S", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"),
                *("-s", tree, "-p", "/", tree / place),
            ],
            step=f"compile {place}",
            more={"PYTHONHASHSEED": "0"},
        )


def seal(tree: Path, target: Path, *, epoch: int) -> Verity:
    """A squashfs of the tree with its hash tree behind it.

    Returns:
        What dm-verity must be told.
    """
    target.unlink(missing_ok=True)
    run(
        [
            *("mksquashfs", tree, target, "-noappend", "-no-progress", "-quiet", "-comp", "zstd", "-b", "256K"),
            *("-Xcompression-level", "9", "-all-root", "-no-xattrs", "-no-exports", "-reproducible"),
            *("-mkfs-time", str(epoch), "-all-time", str(epoch)),
        ],
        step="root file system",
    )
    size = target.stat().st_size
    blocks = -(-size // 4096)
    os.truncate(target, blocks * 4096)
    text = run(
        [
            *("veritysetup", "format", target, target, "--salt", _SALT, "--uuid", _UUID, "--hash", "sha256"),
            *("--data-block-size", "4096", "--hash-block-size", "4096"),
            *("--data-blocks", str(blocks), "--hash-offset", str(blocks * 4096)),
        ],
        step="hash tree",
    ).decode()
    found = re.search(r"Root hash:\s+([0-9a-f]{64})", text)
    if found is None:
        raise BoxError("hash tree", "veritysetup does not say the root hash", "Install cryptsetup-bin of Debian 12")
    # Whole sectors for the disk: the hash tree ends with a block of 4096 bytes already.
    return Verity(root_hash=found[1], salt=_SALT, data_blocks=blocks)


def listing(tree: Path) -> Iterable[str]:
    """Every path of a tree, for people and tests."""
    return (str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
