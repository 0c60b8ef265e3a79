"""The quick image's initramfs: an interpreter, four files of ours, modules, and the plan that process 1 follows.

Rules of this file:
1. A cpio archive in "newc" form, written here: names sorted, inode numbers counted, every time zero.
2. It holds what `stage.py` imports and nothing else, and no program but the interpreter.
"""

from __future__ import annotations

import gzip
import json
import re
import stat
from pathlib import Path

from bunker.closed.machine.mapper import Verity
from bunker.image.kernel import QuickKernel
from bunker.image.programs import run

_STAGE = b"""#!/usr/bin/python3.11 -ISB
import sys

sys.path.append("/usr/lib/bunker")
from bunker.closed.machine.stage import main

main()
"""
_OURS = (
    "bunker/__init__.py",
    "bunker/errors.py",
    "bunker/closed/__init__.py",
    "bunker/closed/machine/__init__.py",
    "bunker/closed/machine/disks.py",
    "bunker/closed/machine/mapper.py",
    "bunker/closed/machine/stage.py",
    "bunker/closed/machine/system.py",
)
_PYTHON = "usr/bin/python3.11"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_STANDARD = "usr/lib/python3.11"
_DYNAMIC = ("_ctypes", "mmap", "fcntl", "_struct", "math", "_json", "_posixsubprocess", "select", "zlib")


def build_initramfs(tree: Path, kernel: QuickKernel, verity: Verity, *, image: str, target: Path) -> None:
    """Write the initramfs of a root's tree.

    Args:
        tree: The root file system before it was sealed; the interpreter is taken from it.
        image: The image's digest, handed to process 1.
    Raises:
        BoxError: a program failed.
    """
    files: dict[str, tuple[bytes, int]] = {"init": (_STAGE, 0o755)}
    for path in (*_python(tree), *(f"usr/lib/bunker/{name}" for name in _OURS)):
        content = (tree / path).read_bytes()
        files[path] = (content, (tree / path).stat().st_mode & 0o777)
    plan = {
        "image": image,
        "modules": " ".join(name for name, _ in kernel.modules),
        "root_hash": verity.root_hash,
        "salt": verity.salt,
        "data_blocks": verity.data_blocks,
    }
    files["stage.json"] = (json.dumps(plan, sort_keys=True).encode(), 0o644)
    for name, content in kernel.modules:
        files[f"modules/{name}"] = (content, 0o644)
    target.write_bytes(gzip.compress(archive(files), compresslevel=6, mtime=0))


def _python(tree: Path) -> list[str]:
    """The interpreter, the pure part of its standard library that starting needs, and its shared libraries."""
    standard = [
        str(path.relative_to(tree))
        for pattern in (
            "*.py",
            "encodings/*.py",
            "collections/*.py",
            "ctypes/*.py",
            "json/*.py",
            "importlib/**/*.py",
            "re/*.py",
            "urllib/*.py",
        )
        for path in (tree / _STANDARD).glob(pattern)
    ]
    dynamic = [
        str(path.relative_to(tree))
        for path in (tree / _STANDARD / "lib-dynload").glob("*.so")
        if path.name.split(".")[0] in _DYNAMIC
    ]
    wanted, libraries = [_PYTHON, *dynamic], {"ld-linux-x86-64.so.2"}
    while wanted:
        text = run(["readelf", "-d", tree / wanted.pop()], step="libraries").decode()
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", text):
            if name not in libraries:
                libraries.add(name)
                wanted.append(f"{_LIBRARIES}/{name}")
    return sorted({*standard, *dynamic, _PYTHON, *(f"{_LIBRARIES}/{name}" for name in libraries)})


def archive(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A "newc" archive of files, their folders, the merged /usr's links and a console node's parents."""
    folders = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}
    folders |= {"dev", "sys", "proc", "root", "usr/lib64"}
    entries: dict[str, tuple[int, bytes]] = {path: (stat.S_IFDIR | 0o755, b"") for path in folders}
    entries |= {path: (stat.S_IFREG | mode, content) for path, (content, mode) in files.items()}
    for link, place in (("lib", "usr/lib"), ("lib64", "usr/lib64"), ("bin", "usr/bin")):
        entries[link] = (stat.S_IFLNK | 0o777, place.encode())
    loader = "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    entries["usr/lib64/ld-linux-x86-64.so.2"] = (stat.S_IFLNK | 0o777, loader.encode())
    pieces = [_entry(number, path, *entries[path]) for number, path in enumerate(sorted(entries), 1)]
    return b"".join((*pieces, _entry(0, "TRAILER!!!", 0, b"")))


def _entry(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
