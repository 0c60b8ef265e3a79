"""The kernel: built from Debian's source with the published configuration, or for tests Debian's own.

    fragments ▶ merged over allnoconfig ▶ each line checked ▶ compiled once ▶ command line put in ▶ bzImage

Rules of this file:
1. What a fragment says is what the kernel is: an option that Kconfig dropped, or dragged in although it is named `=n`,
   stops the build.
2. The compiled tree is kept under a hash of source, compiler and configuration; another root only changes the built-in
   command line, which compiles two files anew.
3. User, host, number and time of the build are constants, and the tree is built in place with relative paths: the same
   inputs make the same bytes anywhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from bunker.closed.machine.mapper import Verity
from bunker.errors import BoxError, ConfigurationError
from bunker.image.cache import cache_directory, kept
from bunker.image.packages import Package, fetch, members
from bunker.image.programs import require, run

SOURCE: Final = "linux-source-6.1"
QUICK: Final = "linux-image-cloud-amd64"
_PLACEHOLDER = "@CMDLINE@"
STARVED: Final = "no_timer_check"
"""An emulated processor that the host lets wait for a tenth of a second loses ticks; the kernel then says that the
timer does not work, and panics. Nothing made since the IO-APIC's first years needs the check."""
_BUILD: Final[dict[str, str]] = {
    "KBUILD_BUILD_USER": "bunker",
    "KBUILD_BUILD_HOST": "image",
    "KBUILD_BUILD_VERSION": "1",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
}
_TOOLS = ("make", "gcc", "ccache", "flex", "bison", "bc", "xz", "zstd", "objdump", "objcopy")
_LINE = re.compile(r"(CONFIG_\w+)=(.*)")


class Variant(StrEnum):
    """The machines an image is for."""

    VM = "vm"
    CONFIDENTIAL = "confidential"
    """A virtual machine whose memory the host cannot read."""
    METAL = "metal"


class Kind(StrEnum):
    """What an image is for. Only SEALED may be called sealed."""

    SEALED = "sealed"
    DIAGNOSTIC = "diagnostic"
    QUICK = "quick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel's inputs, which the image's digest names, before its command line is known."""

    source: str
    """Package and version."""
    inputs: str
    """SHA-256 over everything that decides the kernel but its command line."""
    config: dict[str, str]
    packages: tuple[Package, ...]


def fragments(folder: Path, variant: Variant, kind: Kind) -> list[Path]:
    """The fragments of a kernel, in order."""
    names = {
        Variant.VM: ["00-base", "10-vm", "15-cards"],
        Variant.CONFIDENTIAL: ["00-base", "10-vm"],
        Variant.METAL: ["00-base", "15-cards", "30-metal"],
    }[variant]
    names.append("20-diagnostic" if kind is Kind.DIAGNOSTIC else "20-restricted")
    if variant is Variant.CONFIDENTIAL:
        names.append("40-confidential")
    return [folder / "kernel" / f"{name}.config" for name in names]


def merge(paths: list[Path]) -> dict[str, str]:
    """Options of all fragments; a later one wins.

    Raises:
        ConfigurationError: a fragment cannot be read, or a line is neither an option nor a comment.
    """
    wanted: dict[str, str] = {}
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise ConfigurationError(
                f"{path}", f"cannot be read ({error.strerror})", "Take it from the project"
            ) from None
        for number, line in enumerate(lines, 1):
            found = _LINE.fullmatch(line.strip())
            if found:
                wanted[found[1]] = found[2]
            elif line.strip() and not line.startswith("#"):
                raise ConfigurationError(f"{path}", "is no option", "Write CONFIG_NAME=value", line=number)
    return wanted


def differences(wanted: dict[str, str], config: str) -> list[str]:
    """What a final .config has otherwise than wanted; nothing: it is what was published."""
    found = {match[1]: match[2] for line in config.splitlines() if (match := _LINE.fullmatch(line))}
    return [
        f"{name} is {found.get(name, 'n')}, wanted {value}"
        for name, value in sorted(wanted.items())
        if found.get(name, "n") != value
    ]


def own_kernel(folder: Path, variant: Variant, kind: Kind) -> Kernel:
    """The inputs of the image's own kernel.

    Raises:
        ConfigurationError: a fragment is wrong, a tool or the source package is missing.
    """
    require(_TOOLS)
    wanted = merge(fragments(folder, variant, kind))
    source = fetch([SOURCE])[SOURCE]
    compiler = run(["gcc", "-dumpfullversion"], step="compiler").decode().strip()
    text = "\n".join(f"{name}={value}" for name, value in sorted(wanted.items()))
    inputs = hashlib.sha256(f"{source.name} {source.version}\ngcc {compiler}\n{_BUILD}\n{text}\n".encode()).hexdigest()
    return Kernel(source=f"{source.name} {source.version}", inputs=inputs, config=wanted, packages=(source,))


def build(kernel: Kernel, command_line: str, target: Path, *, jobs: int) -> str:
    """Compile what is not compiled, put the command line in, write the bzImage to `target`.

    Returns:
        The final configuration.
    Raises:
        BoxError: it differs from what was published, or the build failed.
    """
    tree = tree_of(kernel)
    with (tree / ".lock").open("w") as lock:  # one build at a time in a tree, whoever asks
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build_in(tree, kernel, command_line, target, jobs=jobs)


def _build_in(tree: Path, kernel: Kernel, command_line: str, target: Path, *, jobs: int) -> str:
    wanted = kernel.config | {"CONFIG_CMDLINE": f'"{command_line}"'}
    if "CONFIG_CMDLINE" not in kernel.config:
        wanted = kernel.config
    (tree / ".wanted").write_text("".join(f"{name}={value}\n" for name, value in wanted.items()))
    make = ["make", "-s", "CC=ccache gcc", "HOSTCC=ccache gcc"]
    more = _BUILD | {"CCACHE_DIR": str(cache_directory() / "ccache")}
    run([*make, "allnoconfig", "KCONFIG_ALLCONFIG=.wanted"], step="kernel configuration", cwd=tree, more=more)
    config = (tree / ".config").read_text()
    found = differences(wanted, config)
    if found:
        raise BoxError("kernel configuration", "; ".join(found), "Correct image/kernel")
    run([*make, f"-j{jobs}", "bzImage"], step="kernel", cwd=tree, more=more)
    shutil.copyfile(tree / "arch/x86/boot/bzImage", target)
    return config


def tree_of(kernel: Kernel) -> Path:
    """The source tree that belongs to these inputs, compiled or not."""

    def unpack(new: Path) -> None:
        (package,) = kernel.packages
        archive = next(member for member in members(package) if member.path.endswith(f"{SOURCE}.tar.xz"))
        packed = new / "source.tar.xz"
        packed.write_bytes(archive.content or b"")
        with tarfile.open(packed) as tar:
            tar.extractall(new, filter="tar")
        packed.unlink()
        for path in (new / SOURCE).iterdir():
            path.rename(new / path.name)
        (new / SOURCE).rmdir()

    return kept("kernel-tree", kernel.inputs, unpack)


def command_line(verity: Verity, *, image: str, device: str, consoles: tuple[str, ...] = ()) -> str:
    """The built-in command line of a sealed kernel: the root it trusts, the image it is, and what it switches on."""
    # rootwait does not help a mapped root: the table is made once, so its disk is waited for before.
    table = f"root,,,ro,0 {verity.sectors} verity {verity.table(device)}"
    words = [
        f'dm-mod.create=\\"{table}\\" dm-mod.waitfor={device}',
        "root=/dev/dm-0 rootfstype=squashfs ro rootwait init=/sbin/init",
        f"panic=-1 {STARVED} memtest=1 secretmem.enable=1 mitigations=auto",
        *(f"console={console}" for console in consoles),
        f"BUNKER_IMAGE={image} BUNKER_KERNEL=own",
    ]
    return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickKernel:
    """Debian's kernel, and the modules that the quick image loads, in order."""

    image: bytes
    modules: tuple[tuple[str, bytes], ...]
    source: str
    package: Package

    @property
    def inputs(self) -> str:
        """SHA-256 over the kernel and its modules."""
        digest = hashlib.sha256(self.image)
        for name, content in self.modules:
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()


def quick_kernel(folder: Path) -> QuickKernel:
    """Debian's cloud kernel with the modules that `image/quick/modules.txt` names and those they depend on.

    Raises:
        ConfigurationError: a module does not exist.
    """
    listed = [line.split("#")[0].strip() for line in (folder / "quick" / "modules.txt").read_text().splitlines()]
    text = run(["apt-cache", "depends", QUICK], step="kernel package").decode()
    found = re.search(r"Depends: (linux-image-\S+)", text)
    if found is None:
        raise ConfigurationError(f"package {QUICK}", "apt does not know it", "Run apt-get update on Debian 12")
    package = fetch([found[1]])[found[1]]
    files = {member.path: member.content or b"" for member in members(package)}
    image = next(content for path, content in files.items() if path.startswith("boot/vmlinuz-"))
    by_name = {
        Path(path).stem.replace("-", "_"): (path, content) for path, content in files.items() if path.endswith(".ko")
    }
    builtin = next(content for path, content in files.items() if path.endswith("/modules.builtin")).decode()
    known = {Path(line).stem.replace("-", "_") for line in builtin.splitlines()}
    ordered: dict[str, bytes] = {}
    for name in filter(None, listed):
        _add(name.replace("-", "_"), by_name, known, ordered)
    return QuickKernel(
        image=image, modules=tuple(ordered.items()), source=f"{package.name} {package.version}", package=package
    )


def _add(name: str, by_name: dict[str, tuple[str, bytes]], builtin: set[str], ordered: dict[str, bytes]) -> None:
    """A module after those it depends on, as its own `depends=` entry says."""
    if name in builtin or f"{name}.ko" in ordered:
        return
    if name not in by_name:
        raise ConfigurationError(f"module {name}", "this kernel has none of that name", "Correct quick/modules.txt")
    _, content = by_name[name]
    for entry in re.findall(rb"\0(depends|softdep)=([^\0]*)", b"\0" + content):
        if entry[0] == b"depends":
            for other in filter(None, entry[1].decode().split(",")):
                _add(other.replace("-", "_"), by_name, builtin, ordered)
    ordered[f"{name}.ko"] = content


def jobs() -> int:
    """Compilers at once."""
    return len(os.sched_getaffinity(0)) + 1
