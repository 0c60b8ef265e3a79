"""Images for the tests in this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunker.image.build import build_image, image_folder
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image under test: BUNKER_IMAGE, else a quick one."""
    given = os.environ.get("BUNKER_IMAGE")
    if given:
        return Image.open(Path(given).expanduser())
    place = tmp_path_factory.mktemp("image") / "quick"
    build_image(image_folder(None), place, kind=Kind.QUICK, variant=Variant.VM)
    return Image.open(place)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets."""
    place = tmp_path_factory.mktemp("vm")
    short = Path("/tmp") / f"bunker-image-{os.getpid()}-{place.name}"
    short.mkdir()
    try:
        yield short
    finally:
        shutil.rmtree(short, ignore_errors=True)
