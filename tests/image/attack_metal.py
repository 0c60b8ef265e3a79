"""The image for servers (`make test-image`, BUNKER_METAL=DIR): the drivers of real hardware, on QEMU's copies of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attack_appliance import from_disk, make_disk, the_published_configuration_is_the_built_one
from boxes import FLOW_OUT, HTTP_OUT, POLICY, rows, study
from canary import make_canaries, search_tree
from canary_capture import canary_packets
from machines import came_out_whole, started

from bunker.image.build import default_place
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image
from bunker.image.qemu import CAPTURE_MAC, LINK_MAC

CANARIES = make_canaries("the server")
NVME = ["-device", "nvme,drive=disk,serial=bunker"]
AHCI = ["-device", "ich9-ahci,id=ahci", "-device", "ide-hd,drive=disk,bus=ahci.0"]
IOMMU = ["-device", "intel-iommu"]


@pytest.fixture(scope="module")
def metal() -> Image:
    place = Path(os.environ.get("BUNKER_METAL") or default_place(Kind.SEALED, Variant.METAL)).expanduser()
    if not place.is_dir():
        pytest.skip("no image for servers: bunker image build --variant metal")
    found = Image.open(place)
    assert found.manifest.identity.variant is Variant.METAL
    return found


def a_server(disk: Path, work: Path, controller: list[str], early: list[str]) -> Callable[[list[str]], list[str]]:
    """The machine of `started` with a server's disk controller and network cards, and nothing virtual."""
    from_virtual = from_disk(disk, work)

    def change(words: list[str]) -> list[str]:
        words = from_virtual(words)
        at = words.index("virtio-blk-pci,drive=disk")
        words[at - 1 : at + 1] = controller
        at = words.index("virtio-rng-pci,rng=noise")
        del words[at - 1 : at + 1]
        cards = {"netdev=link": LINK_MAC, "netdev=capture": CAPTURE_MAC}
        for netdev, mac in cards.items():
            at = next(n for n, word in enumerate(words) if word.startswith(f"virtio-net-pci,{netdev},"))
            words[at] = f"e1000e,{netdev},mac={mac},romfile="
        at = words.index("-smp")
        return [*words[:at], *early, *words[at:]]

    return change


@pytest.mark.parametrize(("controller", "early"), [(NVME, IOMMU), (AHCI, [])], ids=["nvme-behind-an-iommu", "ahci"])
def test_it_starts_from_a_servers_disk_and_traces_on_its_card(
    controller: list[str], early: list[str], metal: Image, work: Path
) -> None:
    name = controller[1][:4]
    one = study(work / f"study-{name}", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='duration = "60s"')
    disk = work / f"disk-{name}"
    make_disk(metal, one.file, disk)
    packets = canary_packets(CANARIES, copies=20)
    words = a_server(disk, work, controller, early)
    with started(metal, one.file, work / name, live=True, words=words) as running:
        running.wait_for_beat(2)
        running.heard()
        running.send(packets)
        running.wait_until_off()
        heard = running.heard()
    came_out_whole(running, metal, len(packets))
    assert len(rows(running.out, "http")) > 0
    assert heard == []
    assert search_tree(running.out, CANARIES, shortest=6) == []


def test_its_published_configuration_is_the_one_that_was_built(metal: Image) -> None:
    the_published_configuration_is_the_built_one(metal)
