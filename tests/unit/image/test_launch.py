"""What cannot be had of a machine is said before it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes import study

from bunker.errors import ConfigurationError
from bunker.experiment.bundle import read_bundle
from bunker.image import cards
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image, Wishes, prepare
from bunker.image.manifest import FORMAT, Identity, Manifest
from bunker.image.qemu import Acceleration
from bunker.image.traffic import Cable, Passthrough, Tap

IDENTITY = Identity(
    format=FORMAT,
    kind=Kind.SEALED,
    variant=Variant.VM,
    root_hash="ab" * 32,
    root_salt="cd" * 32,
    root_blocks=1,
    kernel_source="none",
    kernel_inputs="ef" * 32,
)
TCG = Wishes(acceleration=Acceleration.TCG)
CARD = Passthrough(address="0000:03:00.0", alias="pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00")


def _prepared(capture: Cable, work: Path, known: str) -> list[str]:
    image = work / "image"
    image.mkdir()
    (image / cards.NAME).write_text(known)
    manifest = Manifest(identity=IDENTITY, digest=IDENTITY.digest, command_line="", files=(), parts=(), measured={})
    bundle = read_bundle(study(work / "study").file)
    there = Image(directory=image, manifest=manifest)
    return prepare(there, bundle, work, egress="127.0.0.1:1", capture=capture, wishes=TCG).words()


def test_a_card_with_a_driver_in_the_machine_is_handed_over(tmp_path: Path) -> None:
    words = _prepared(CARD, tmp_path, "pci:v00008086d000010D3sv*sd*bc*sc*i*\n")
    at = words.index("vfio-pci,host=0000:03:00.0,rombar=0")
    assert words[at - 1] == "-device"
    # The card is the capture interface, and no other beside it: one virtual card, the link.
    assert [word.split(",")[1] for word in words if word.startswith("virtio-net-pci,")] == ["netdev=link"]


@pytest.mark.parametrize("known", ["", "pci:v00008086d000010D4sv*sd*bc*sc*i*\n"], ids=["no-cards", "other-cards"])
def test_a_card_without_a_driver_in_the_machine_is_refused(known: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no driver in the image's kernel"):
        _prepared(CARD, tmp_path, known)
    assert not (tmp_path / "run.disk").exists()


def test_a_tap_needs_no_driver_of_a_card(tmp_path: Path) -> None:
    assert "tap,id=capture,ifname=mirror0,script=no,downscript=no" in _prepared(Tap(name="mirror0"), tmp_path, "")
