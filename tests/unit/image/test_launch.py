"""What cannot be had of a machine is said before it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes import study

from bunker.errors import ConfigurationError
from bunker.experiment.bundle import read_bundle
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
IMAGE = Image(
    directory=Path("/nowhere"),
    manifest=Manifest(identity=IDENTITY, digest=IDENTITY.digest, command_line="", files=(), parts=(), measured={}),
)
TCG = Wishes(acceleration=Acceleration.TCG)


def _prepared(capture: Cable, work: Path) -> list[str]:
    bundle = read_bundle(study(work / "study").file)
    return prepare(IMAGE, bundle, work, egress="127.0.0.1:1", capture=capture, wishes=TCG).words()


def test_a_card_without_a_driver_in_the_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no driver in the kernel for virtual machines"):
        _prepared(Passthrough(address="0000:03:00.0"), tmp_path)
    assert not (tmp_path / "run.disk").exists()
    assert "tap,id=capture,ifname=mirror0,script=no,downscript=no" in _prepared(Tap(name="mirror0"), tmp_path)
