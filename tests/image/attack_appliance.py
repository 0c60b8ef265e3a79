"""The appliance's disk under UEFI firmware (`make test-image`, with BUNKER_IMAGE naming a sealed image)."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from boxes import FLOW_OUT, HTTP_OUT, POLICY, ROOT, study
from canary import make_canaries, search, search_tree
from canary_capture import canary_packets
from click.testing import CliRunner
from machines import came_out_whole, readable_blocks, started, written_blocks

from bunker.cli.image import write
from bunker.image.build import CONFIG, DISK_KERNEL
from bunker.image.kernel import Kind
from bunker.image.launch import Image
from bunker.image.qemu import GUEST, LINK_MAC, PORT, PREFIX, TARGET
from bunker.open.attestation import Expected, faults
from bunker.open.verdict import Word

CANARIES = make_canaries("the appliance")
FIRMWARE = Path("/usr/share/OVMF")
_ESP_AT, _ESP_BYTES = 1 << 20, 64 << 20
_DOS_HEADER_UNUSED = 0x20
"""A byte that neither firmware nor kernel reads, so that the changed kernel runs."""


@pytest.fixture(scope="module")
def sealed(image: Image) -> Image:
    if image.manifest.identity.kind is not Kind.SEALED:
        pytest.skip("an appliance is made of a sealed image: BUNKER_IMAGE=~/.cache/bunker/images/vm-sealed")
    return image


def make_disk(sealed: Image, experiment: Path, disk: Path) -> None:
    words = [str(experiment), str(disk), "--image", str(sealed.directory), "--mac", LINK_MAC]
    words += ["--address", f"{GUEST}/{PREFIX}", "--to", f"{TARGET}:{PORT}"]
    done = CliRunner().invoke(write, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def from_disk(disk: Path, work: Path) -> Callable[[list[str]], list[str]]:
    """The same machine, started by firmware from one disk."""
    variables = work / "vars.fd"

    def change(words: list[str]) -> list[str]:
        shutil.copyfile(FIRMWARE / "OVMF_VARS_4M.fd", variables)
        kept: list[str] = []
        skip = False
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if skip:
                skip = False
                continue
            if word == "-kernel" or (word in {"-drive", "-device"} and "bunker-" in following):
                skip = True
                continue
            kept.append(word)
        kept += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}/OVMF_CODE_4M.fd"]
        kept += ["-drive", f"if=pflash,format=raw,file={variables}"]
        kept += ["-drive", f"if=none,id=disk,format=raw,file={disk},cache=none", "-device", "virtio-blk-pci,drive=disk"]
        return kept

    return change


def test_it_starts_from_its_disk_and_traces(sealed: Image, work: Path) -> None:
    one = study(work / "study", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='duration = "60s"')
    disk = work / "disk"
    make_disk(sealed, one.file, disk)
    packets = canary_packets(CANARIES, copies=20)
    with started(sealed, one.file, work / "a", live=True, words=from_disk(disk, work), tpm=True) as running:
        running.wait_for_beat(2)
        # OVMF looks for a network to start from and speaks IPv6 on every card; a real firmware's network stack is to be
        # switched off (docs/image.md). That the kernel says nothing from its start on is shown without firmware, in
        # attack_machine.py.
        running.heard()
        running.send(packets)
        running.wait_until_off()
        heard = running.heard()
    start = came_out_whole(running, sealed, len(packets))
    image = sealed.manifest
    assert faults(start, Expected(kernels=image.kernels, loaders=image.loaders)) == []
    others = faults(start, Expected(kernels=image.kernels, loaders={"0" * 64}))
    assert others == ["1 programs that the image does not name were started before the kernel"]
    assert heard == []
    assert search_tree(running.out, CANARIES, shortest=6) == []
    spool = work / "spool"
    spool.write_bytes(disk.read_bytes()[_start_of(disk, "bunker-spool") :])
    assert search(b"".join(written_blocks(spool)), CANARIES, shortest=6) == []
    written, readable = readable_blocks(spool)
    assert written > 50
    # The backup of the partition table stands at the end of the disk.
    assert readable <= 5


def test_a_changed_kernel_is_shown_by_the_tpm_and_the_menus_words_are_ignored(sealed: Image, work: Path) -> None:
    """Somebody changes the disk: one bit of the kernel's file, and a command line in the boot menu."""
    one = study(work / "changed-study", capture='duration = "3600s"')
    disk, esp = work / "changed", work / "changed-esp"
    make_disk(sealed, one.file, disk)
    kernel = bytearray((sealed.directory / DISK_KERNEL).read_bytes())
    kernel[_DOS_HEADER_UNUSED] ^= 1
    (work / "changed.efi").write_bytes(kernel)
    entry = b"title Bunker\nefi /EFI/bunker/restricted.efi\n"
    (work / "changed.conf").write_bytes(entry + b"options init=/usr/bin/python3.11 rd.break resume=/dev/vda\n")
    with disk.open("r+b") as whole:
        whole.seek(_ESP_AT)
        esp.write_bytes(whole.read(_ESP_BYTES))
        for name, place in (("efi", "EFI/bunker/restricted.efi"), ("conf", "loader/entries/restricted.conf")):
            copy = ["mcopy", "-o", "-i", str(esp), str(work / f"changed.{name}"), f"::{place}"]
            subprocess.run(copy, check=True, env={"MTOOLS_SKIP_CHECK": "1", "PATH": "/usr/bin:/bin"})
        whole.seek(_ESP_AT)
        whole.write(esp.read_bytes())
    with started(sealed, one.file, work / "z", live=True, words=from_disk(disk, work), tpm=True) as running:
        running.wait_for_beat(1)
        running.ask_to_end()
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE
    start = running.verdict.start
    assert start is not None
    assert start.image == sealed.manifest.digest  # its own word; the words of the menu changed nothing
    found = faults(start, Expected(kernels=sealed.manifest.kernels, loaders=sealed.manifest.loaders))
    assert "another kernel than the image's was started" in found


def _start_of(disk: Path, label: str) -> int:
    listed = subprocess.run(["/usr/sbin/sgdisk", "-p", str(disk)], check=True, capture_output=True, text=True).stdout
    return next(int(line.split()[1]) * 512 for line in listed.splitlines() if line.rstrip().endswith(label))


def the_published_configuration_is_the_built_one(image: Image) -> None:
    """Of any image with a kernel of its own."""
    identity = image.manifest.identity
    page = ROOT / "docs" / "kernel" / f"{identity.variant.value}-{identity.kind.value}.config"
    tool = runpy.run_path(str(ROOT / "tools" / "kernel_config.py"))
    assert page.read_text().partition("\n")[2] == tool["published"]((image.directory / CONFIG).read_text())


def test_the_published_configuration_is_the_one_that_was_built(sealed: Image) -> None:
    the_published_configuration_is_the_built_one(sealed)


def test_two_disks_of_one_experiment_are_the_same_bytes(sealed: Image, work: Path) -> None:
    one = study(work / "same")
    for name in ("one", "two"):
        make_disk(sealed, one.file, work / name)
    assert (work / "one").read_bytes() == (work / "two").read_bytes()


def test_a_quick_or_diagnostic_image_makes_no_appliance(image: Image, work: Path) -> None:
    if image.manifest.identity.kind is Kind.SEALED:
        pytest.skip("needs the quick image")
    words = [str(study(work / "none").file), str(work / "no"), "--image", str(image.directory), "--mac", LINK_MAC]
    done = CliRunner().invoke(write, [*words, "--address", f"{GUEST}/24", "--to", f"{TARGET}:1"])
    assert "Build a sealed one" in str(done.exception)


def test_the_menu_has_no_editor_and_the_disk_is_the_image(sealed: Image, work: Path) -> None:
    one = study(work / "menu")
    disk = work / "menu-disk"
    make_disk(sealed, one.file, disk)
    esp = work / "esp"
    esp.write_bytes(disk.read_bytes()[1 << 20 :][: 64 << 20])
    conf = subprocess.run(["mtype", "-i", str(esp), "::loader/loader.conf"], check=True, capture_output=True).stdout
    assert b"editor no" in conf
    kernel = subprocess.run(["mtype", "-i", str(esp), "::EFI/bunker/restricted.efi"], check=True, capture_output=True)
    assert kernel.stdout == (sealed.directory / DISK_KERNEL).read_bytes()
    at = _start_of(disk, "bunker-root")
    root = (sealed.directory / "root.img").read_bytes()
    assert disk.read_bytes()[at : at + len(root)] == root
