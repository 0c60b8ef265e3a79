"""What is in an image, and that it is the same each time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bunker.errors import BoxError, ConfigurationError
from bunker.image import manifest as manifests
from bunker.image.build import build_image, image_folder
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image
from bunker.image.root import check_libraries


@pytest.fixture(scope="module")
def tree(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system, unpacked."""
    place = tmp_path_factory.mktemp("root") / "tree"
    subprocess.run(
        ["unsquashfs", "-q", "-n", "-d", str(place), str(image.directory / "root.img")], check=True, capture_output=True
    )
    return place


def test_two_builds_are_the_same_bytes(image: Image, tmp_path: Path) -> None:
    if image.manifest.identity.kind is not Kind.QUICK:
        pytest.skip("the image under test was given; `make test` compares two quick builds")
    place = tmp_path / "elsewhere" / "with a longer name" / "image"
    again = build_image(image_folder(None), place, kind=Kind.QUICK, variant=Variant.VM)
    assert again == image.manifest
    for name in (*(file.name for file in again.files), "sbom.json", "manifest.json"):
        assert (place / name).read_bytes() == (image.directory / name).read_bytes(), name


def test_there_is_no_program_but_five(tree: Path) -> None:
    programs = {
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o111 and ".so" not in path.name
    }
    assert programs == {"usr/bin/python3.11", "usr/bin/perl", "usr/sbin/nft", "usr/sbin/mke2fs", "usr/sbin/init"}


def test_there_is_no_open_box_no_command_line_and_no_builder(tree: Path) -> None:
    own = {path.name for path in (tree / "usr/lib/bunker/bunker").iterdir()}
    assert own.isdisjoint({"open", "cli", "image"})
    assert {"closed", "experiment", "policy", "model", "native", "analyzers", "api"} <= own


def test_nothing_is_set_uid_and_everything_is_roots(image: Image) -> None:
    listed = subprocess.run(
        ["unsquashfs", "-lln", str(image.directory / "root.img")], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    entries = [line.split() for line in listed if line[:1] in "-dlbcps"]
    assert len(entries) > 500
    assert {entry[1] for entry in entries} == {"0/0"}
    assert not [entry for entry in entries if set(entry[0]) & set("stST")]
    assert not [entry for entry in entries if entry[0][0] in "bcps"]


def test_a_missing_library_stops_the_build(tree: Path) -> None:
    check_libraries(tree)
    library = tree / "usr/lib/x86_64-linux-gnu/libnftables.so.1"
    kept = library.readlink()
    library.unlink()
    try:
        with pytest.raises(BoxError, match=r"libnftables\.so\.1"):
            check_libraries(tree)
    finally:
        library.symlink_to(kept)


def test_the_manifest_names_every_file_and_package(image: Image) -> None:
    assert manifests.faults(image.directory, image.manifest) == []
    on_disk = {path.name for path in image.directory.iterdir()}
    assert on_disk == {file.name for file in image.manifest.files} | {"manifest.json", "sbom.json"}
    names = {part.name for part in image.manifest.parts}
    assert {"libc6", "nftables", "python3.11-minimal", "bunker", "cryptography", "msgspec"} <= names


def test_an_image_in_the_way_is_not_replaced(image: Image) -> None:
    with pytest.raises(ConfigurationError, match="exists already"):
        build_image(image_folder(None), image.directory, kind=Kind.QUICK, variant=Variant.VM)
