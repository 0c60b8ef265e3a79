"""The recipe: from the folder `image/` to an image directory.

    packages ▶ root.img (squashfs + hash tree) ▶ identity, digest ▶ kernel with both built in ▶ manifest.json, sbom.json

Rules of this file:
1. It reads from top to bottom as the image is made; details are elsewhere.
2. The directory appears under its name only when it is complete.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bunker.errors import ConfigurationError
from bunker.image import cards
from bunker.image import kernel as kernels
from bunker.image import manifest as manifests
from bunker.image.cache import cache_directory
from bunker.image.initramfs import build_initramfs
from bunker.image.kernel import Kind, Variant
from bunker.image.manifest import Identity, Manifest, Part
from bunker.image.packages import fetch, members
from bunker.image.pe import authenticode
from bunker.image.root import Root, build_root

EPOCH: Final = 1_767_225_600
"""The one time of everything in an image: 2026-01-01, so that images of different days are the same."""
_CONSOLES: Final = ("tty0", "ttyS0")
ROOT, KERNEL, INITRAMFS, CONFIG = "root.img", "vmlinuz", "initramfs.cpio.gz", "kernel.config"
DISK_KERNEL = "vmlinuz-disk"
_LOADER_PACKAGE: Final = "systemd-boot-efi"
_LOADER: Final = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_ROOT_DISK: Final = "/dev/vda"
"""A virtual machine gets the root as its first disk."""
_ROOT_PARTITION: Final = {Kind.SEALED: "PARTLABEL=bunker-root", Kind.DIAGNOSTIC: "PARTLABEL=bunker-diagnostic"}


def image_folder(given: Path | None) -> Path:
    """The project's `image/`: as given, or beside the package's source.

    Raises:
        ConfigurationError: it is not there.
    """
    folder = given or Path(__file__).resolve().parents[3] / "image"
    if not (folder / "root" / "packages.toml").is_file():
        raise ConfigurationError(f"folder {folder}", "is not the image's description", "Give --from PROJECT/image")
    return folder


def default_place(kind: Kind, variant: Variant) -> Path:
    """Where an image is put, and looked for, if nobody says where."""
    return cache_directory() / "images" / f"{variant.value}-{kind.value}"


def build_image(
    folder: Path,
    target: Path,
    *,
    kind: Kind,
    variant: Variant,
    replace: bool = False,
    more: tuple[str, ...] = (),
    told: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Make an image.

    Args:
        folder: The project's `image/`.
        target: A new directory.
        more: Names of further folders of `image/` that add to the root; another root is another image.
        replace: It may be there, and is then replaced when the new one is complete.
        told: Hears what is being made.
    Raises:
        ConfigurationError: something is missing, or `target` exists. BoxError: a step failed.
    """
    if target.exists() and not replace:
        raise ConfigurationError(f"-o {target}", "exists already", "Name a new directory")
    if kind is Kind.QUICK and variant is not Variant.VM:
        raise ConfigurationError("--quick", "is for virtual machines alone", "Leave out --variant metal")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".image-", dir=target.parent))
    try:
        new = work / "image"
        new.mkdir()
        told("root file system")
        names = ("root", *(("diagnostic",) if kind is Kind.DIAGNOSTIC else ()), *more)
        folders = tuple(folder / name for name in names)
        root = build_root(folders, new / ROOT, work, epoch=EPOCH)
        if kind is Kind.QUICK:
            manifest = _quick(folder, root, new, work / "tree", told)
        else:
            manifest = _own(folder, root, new, kind=kind, variant=variant, told=told)
        manifests.write(new, manifest)
        if target.exists():
            shutil.rmtree(target)
        new.rename(target)
        return manifest
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _own(folder: Path, root: Root, new: Path, *, kind: Kind, variant: Variant, told: Callable[[str], None]) -> Manifest:
    kernel = kernels.own_kernel(folder, variant, kind)
    identity = _identity(root, kind, variant, kernel.source, kernel.inputs)
    consoles = _CONSOLES if kind is Kind.DIAGNOSTIC else ()

    def line_for(device: str) -> str:
        return kernels.command_line(root.verity, image=identity.digest, device=device, consoles=consoles)

    told(f"kernel {kernel.source} (once for each configuration: 20 CPU minutes)")
    line = line_for(_ROOT_PARTITION[kind])
    config = kernels.build(kernel, line, new / DISK_KERNEL, jobs=kernels.jobs())
    if variant is not Variant.METAL:
        line = line_for(_ROOT_DISK)
        config = kernels.build(kernel, line, new / KERNEL, jobs=kernels.jobs())
    (new / CONFIG).write_text(config)
    driven = cards.driven(kernels.tree_of(kernel), kernel.config)
    if driven:
        (new / cards.NAME).write_text("".join(f"{pattern}\n" for pattern in driven))
    loader = fetch([_LOADER_PACKAGE])[_LOADER_PACKAGE]
    (new / manifests.LOADER).write_bytes(
        next(member.content or b"" for member in members(loader) if member.path == _LOADER)
    )
    more = (*kernel.packages, loader)
    parts = [*_parts(root), *(Part(name=p.name, version=p.version, sha256=p.sha256) for p in more)]
    return _manifest(identity, line, new, parts)


def _quick(folder: Path, root: Root, new: Path, tree: Path, told: Callable[[str], None]) -> Manifest:
    told("Debian's kernel, for tests")
    kernel = kernels.quick_kernel(folder)
    identity = _identity(root, Kind.QUICK, Variant.VM, kernel.source, kernel.inputs)
    (new / KERNEL).write_bytes(kernel.image)
    build_initramfs(tree, kernel, root.verity, image=identity.digest, target=new / INITRAMFS)
    line = f"panic=-1 {kernels.STARVED} secretmem.enable=1 lockdown=confidentiality init_on_free=1 ipv6.disable_ipv6=1"
    package = kernel.package
    parts = [*_parts(root), Part(name=package.name, version=package.version, sha256=package.sha256)]
    return _manifest(identity, line, new, parts)


def _identity(root: Root, kind: Kind, variant: Variant, source: str, inputs: str) -> Identity:
    return Identity(
        format=manifests.FORMAT,
        kind=kind,
        variant=variant,
        root_hash=root.verity.root_hash,
        root_salt=root.verity.salt,
        root_blocks=root.verity.data_blocks,
        kernel_source=source,
        kernel_inputs=inputs,
    )


def _parts(root: Root) -> list[Part]:
    debian = [Part(name=p.name, version=p.version, sha256=p.sha256) for p in root.packages]
    return debian + [Part(name=name, version=version, sha256=None) for name, version in sorted(root.python.items())]


def _manifest(identity: Identity, line: str, new: Path, parts: list[Part]) -> Manifest:
    return Manifest(
        identity=identity,
        digest=identity.digest,
        command_line=line,
        files=tuple(manifests.describe(path) for path in sorted(new.iterdir())),
        parts=tuple(parts),
        measured={
            name: authenticode((new / name).read_bytes())
            for name in (KERNEL, DISK_KERNEL, manifests.LOADER)
            if (new / name).exists()
        },
    )
