"""A manifest names an image: its digest covers what decides, its files are what they were."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bunker.errors import ConfigurationError, VerificationError
from bunker.image import manifest as manifests
from bunker.image.kernel import Kind, Variant
from bunker.image.manifest import Identity, Manifest, Part

IDENTITY = Identity(
    format=1,
    kind=Kind.SEALED,
    variant=Variant.VM,
    root_hash="ab" * 32,
    root_salt="cd" * 32,
    root_blocks=7,
    kernel_source="linux-source 6.1",
    kernel_inputs="ef" * 32,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "root.img").write_bytes(b"root")
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    files = tuple(manifests.describe(tmp_path / name) for name in ("root.img", "vmlinuz"))
    parts = (Part(name="libc6", version="2.36", sha256="00" * 32), Part(name="msgspec", version="0.22", sha256=None))
    manifest = Manifest(
        identity=IDENTITY, digest=IDENTITY.digest, command_line="x", files=files, parts=parts, measured={}
    )
    manifests.write(tmp_path, manifest)
    return tmp_path


def test_a_whole_image_has_no_faults(directory: Path) -> None:
    manifest = manifests.read(directory)
    assert manifest.digest == IDENTITY.digest
    assert manifests.faults(directory, manifest) == []
    assert manifests.read(directory / "manifest.json") == manifest


@pytest.mark.parametrize("name", ["root.img", "vmlinuz"])
def test_a_changed_or_missing_file_is_a_fault(name: str, directory: Path) -> None:
    manifest = manifests.read(directory)
    (directory / name).write_bytes(b"other")
    assert manifests.faults(directory, manifest) == [f"{name} is not the file that the manifest names"]
    (directory / name).unlink()
    assert manifests.faults(directory, manifest) == [f"{name} is missing"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", Kind.DIAGNOSTIC),
        ("variant", Variant.METAL),
        ("root_hash", "ac" * 32),
        ("root_salt", "ac" * 32),
        ("root_blocks", 8),
        ("kernel_source", "linux-source 6.2"),
        ("kernel_inputs", "ac" * 32),
    ],
)
def test_whatever_decides_changes_the_digest(field: str, value: object) -> None:
    assert msgspec.structs.replace(IDENTITY, **{field: value}).digest != IDENTITY.digest


def test_a_manifest_whose_digest_is_of_something_else_is_refused(directory: Path) -> None:
    path = directory / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"root_blocks":7', b'"root_blocks":8'))
    with pytest.raises(VerificationError, match="digest"):
        manifests.read(directory)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        manifests.read(tmp_path)
    (tmp_path / "manifest.json").write_text('{"a": 1}')
    with pytest.raises(VerificationError):
        manifests.read(tmp_path)


def test_the_list_of_parts_is_cyclonedx(directory: Path) -> None:
    listed = json.loads((directory / "sbom.json").read_bytes())
    assert listed["bomFormat"] == "CycloneDX"
    assert [(part["name"], part["purl"]) for part in listed["components"]] == [
        ("libc6", "pkg:deb/debian/libc6@2.36"),
        ("msgspec", "pkg:pypi/msgspec@0.22"),
    ]
