"""Which cards a kernel drives, read from its compiled drivers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bunker.errors import BoxError
from bunker.image import cards
from bunker.image.programs import run

ANY = 0xFFFFFFFF
END = bytes(40)
NETWORK = 0x020000


def entry(*ids: int) -> bytes:
    """A struct pci_device_id: vendor, device, subvendor, subdevice, class, mask."""
    return struct.pack("<6IQI4x", *ids, 7, 0)


TABLE = (
    entry(0x8086, 0x10D3, ANY, ANY, 0, 0)
    + entry(0x14E4, 0x1648, 0x103C, 0x1234, 0, 0)
    + entry(0x106B, ANY, ANY, ANY, NETWORK, 0xFFFFFF)
    + END
)
KNOWN = tuple(cards.patterns(TABLE))


@pytest.mark.parametrize(
    ("modalias", "expected"),
    [
        ("pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00", True),
        ("pci:v00008086d000010D4sv00001AF4sd00001100bc02sc00i00", False),
        ("pci:v000014E4d00001648sv0000103Csd00001234bc02sc00i00", True),
        ("pci:v000014E4d00001648sv0000103Csd00001235bc02sc00i00", False),
        # Of a maker whose cards are taken by class: not about one card, so it is not promised.
        ("pci:v0000106Bd00001645sv0000106Bsd00000000bc02sc00i00", False),
    ],
)
def test_a_card_is_matched_as_the_kernel_matches_it(modalias: str, expected: bool) -> None:
    assert cards.is_driven(modalias, KNOWN) is expected


@pytest.mark.parametrize("table", [b"", TABLE[:-1], TABLE[: -len(END)]])
def test_a_table_of_another_form_stops_the_build(table: bytes) -> None:
    with pytest.raises(BoxError, match="another form"):
        cards.patterns(table)


def compiled(tree: Path, symbol: str) -> Path:
    """A tree with one driver's object, whose table does not stand at the beginning of its section."""
    place = tree / "drivers/net/ethernet" / cards.DRIVERS["CONFIG_E1000E"][0]
    place.parent.mkdir(parents=True)
    content = ",".join(map(str, TABLE))
    source = place.with_suffix(".c")
    source.write_text(
        f"const char before[24] = {{1}};\nstatic const unsigned char {symbol}[] __attribute__((used, aligned(8))) = "
        f"{{{content}}};\n"
    )
    run(["gcc", "-c", "-o", place, source], step="test")
    return tree


def test_the_list_is_read_from_the_compiled_driver(tmp_path: Path) -> None:
    tree = compiled(tmp_path, "e1000_pci_tbl")
    assert cards.driven(tree, {"CONFIG_E1000E": "y"}) == tuple(sorted(KNOWN))
    assert cards.driven(tree, {"CONFIG_E1000E": "n"}) == ()


def test_a_driver_without_its_table_stops_the_build(tmp_path: Path) -> None:
    tree = compiled(tmp_path, "another_table")
    with pytest.raises(BoxError, match="has no e1000_pci_tbl"):
        cards.driven(tree, {"CONFIG_E1000E": "y"})


def test_an_image_without_a_list_drives_no_card(tmp_path: Path) -> None:
    assert cards.read(tmp_path) == ()
    (tmp_path / cards.NAME).write_text("".join(f"{pattern}\n" for pattern in KNOWN))
    assert cards.read(tmp_path) == KNOWN
