"""An image's manifest: what it is made of, what it must be trusted to be, and the digest that names it.

Rules of this file:
1. The digest covers what decides the machine's behaviour before its kernel is linked (the kernel carries the digest):
   kind, variant, root hash, the kernel's inputs. The files' own hashes stand beside it.
2. The manifest is canonical JSON; whoever changes a byte of what the digest covers has another digest.

Format: `docs/formats/image-manifest.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from bunker.closed.machine.mapper import Verity
from bunker.errors import ConfigurationError, VerificationError
from bunker.image.kernel import Kind, Variant
from bunker.model.heartbeat import canonical

NAME: Final = "manifest.json"
LOADER: Final = "loader.efi"
"""The boot manager of an appliance's disk."""
FORMAT: Final = 1

Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the image directory."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9.-]{0,63}\Z")]
    sha256: Hex64
    size: int


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A package or library in the image."""

    name: str
    version: str
    sha256: Hex64 | None
    """Of the package file; None for what came from the Python environment."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the digest covers."""

    format: int
    kind: Kind
    variant: Variant
    root_hash: Hex64
    root_salt: Hex64
    root_blocks: int
    kernel_source: str
    kernel_inputs: Hex64

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical encoding, hex."""
        return hashlib.sha256(canonical(self)).hexdigest()

    @property
    def verity(self) -> Verity:
        """The root's table."""
        return Verity(root_hash=self.root_hash, salt=self.root_salt, data_blocks=self.root_blocks)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about an image."""

    identity: Identity
    digest: Hex64
    command_line: str
    files: tuple[File, ...]
    parts: tuple[Part, ...]
    measured: dict[str, Hex64]
    """Authenticode hash of each file that UEFI starts: what a TPM's register 4 is made of."""

    @property
    def kernels(self) -> frozenset[str]:
        """Measured hashes of the kernel."""
        return frozenset(value for name, value in self.measured.items() if name != LOADER)

    @property
    def loaders(self) -> frozenset[str]:
        """Measured hash of the boot manager; none if the image has none."""
        return frozenset(value for name, value in self.measured.items() if name == LOADER)

    def path(self, directory: Path, name: str) -> Path | None:
        """A file of the image, if the image has it."""
        return directory / name if any(file.name == name for file in self.files) else None


def describe(path: Path) -> File:
    """A file's entry."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(name=path.name, sha256=digest, size=path.stat().st_size)


def write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest and, beside it, the list of parts as CycloneDX."""
    (directory / "sbom.json").write_bytes(_software(manifest))
    (directory / NAME).write_bytes(canonical(manifest) + b"\n")


def read(path: Path) -> Manifest:
    """The manifest of an image directory, or the file itself.

    Raises:
        ConfigurationError: there is none. VerificationError: it is not one, or its digest is not of what it says.
    """
    place = path / NAME if path.is_dir() else path
    try:
        content = place.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{place}", f"cannot be read ({error.strerror})", "Run bunker image build") from None
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VerificationError(f"{place}: no manifest ({error})") from None
    if manifest.identity.format != FORMAT or manifest.identity.digest != manifest.digest:
        raise VerificationError(f"{place}: its digest is not that of what it says")
    return manifest


def faults(directory: Path, manifest: Manifest) -> list[str]:
    """Files that are missing or are not what the manifest says; nothing: the image is whole."""
    found: list[str] = []
    for file in manifest.files:
        path = directory / file.name
        if not path.is_file():
            found.append(f"{file.name} is missing")
        elif describe(path) != file:
            found.append(f"{file.name} is not the file that the manifest names")
    return found


def _software(manifest: Manifest) -> bytes:
    """CycloneDX 1.5: only what is known for certain, names, versions, hashes."""
    return canonical(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": {"type": "operating-system", "name": "bunker-image", "version": manifest.digest}},
            "components": list(_components(manifest.parts)),
        }
    )


def _components(parts: Iterable[Part]) -> Iterable[dict[str, object]]:
    for part in parts:
        kind = "deb/debian" if part.sha256 else "pypi"
        component: dict[str, object] = {
            "type": "library",
            "name": part.name,
            "version": part.version,
            "purl": f"pkg:{kind}/{part.name}@{part.version}",
        }
        if part.sha256:
            component["hashes"] = [{"alg": "SHA-256", "content": part.sha256}]
        yield component
