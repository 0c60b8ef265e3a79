"""The kernel's configuration: merged, compared, and the published one keeps its promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from bunker.closed.machine.mapper import Verity
from bunker.errors import ConfigurationError
from bunker.image import cards
from bunker.image.build import image_folder
from bunker.image.kernel import Kind, Variant, command_line, differences, fragments, merge

FOLDER = image_folder(None)


def test_a_later_fragment_wins(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("# why\nCONFIG_A=y\nCONFIG_B=y\n")
    (tmp_path / "b").write_text("CONFIG_B=n\n")
    assert merge([tmp_path / "a", tmp_path / "b"]) == {"CONFIG_A": "y", "CONFIG_B": "n"}


def test_a_line_that_is_no_option_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("CONFIG_A\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        merge([tmp_path / "a"])


def test_dropped_and_dragged_in_options_are_differences() -> None:
    config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n"
    assert differences({"CONFIG_A": "y", "CONFIG_B": "n"}, config) == []
    assert differences({"CONFIG_B": "y"}, config) == ["CONFIG_B is n, wanted y"]
    assert differences({"CONFIG_C": "n"}, config) == ["CONFIG_C is y, wanted n"]


@pytest.mark.parametrize("variant", list(Variant))
def test_a_sealed_kernel_has_no_way_in(variant: Variant) -> None:
    wanted = merge(fragments(FOLDER, variant, Kind.SEALED))
    for name in (
        *("MODULES", "VT", "TTY", "INPUT", "HID", "USB_SUPPORT", "SOUND", "DRM", "KEXEC", "HIBERNATION"),
        *("DEVMEM", "KPROBES", "DEBUG_FS", "IO_URING", "BPF_SYSCALL", "COREDUMP", "SWAP", "DMI", "FW_CFG_SYSFS"),
        *("MAGIC_SYSRQ", "BLK_DEV_INITRD", "NET_9P", "FUSE_FS", "VIRTIO_CONSOLE", "MEMORY_HOTPLUG", "HOTPLUG_PCI"),
    ):
        assert wanted[f"CONFIG_{name}"] == "n", name
    for name in (
        *("CMDLINE_OVERRIDE", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY", "INIT_ON_ALLOC_DEFAULT_ON", "SECRETMEM"),
        *("INIT_ON_FREE_DEFAULT_ON", "SECURITY_LANDLOCK", "SECCOMP_FILTER", "DM_VERITY", "DM_CRYPT", "NF_TABLES"),
    ):
        assert wanted[f"CONFIG_{name}"] == "y", name


def test_a_machine_has_the_drivers_of_cards_and_none_of_disk_controllers() -> None:
    machine, server = (merge(fragments(FOLDER, variant, Kind.SEALED)) for variant in (Variant.VM, Variant.METAL))
    for option in cards.DRIVERS:
        assert machine[option] == server[option] == "y"
    for option in ("BLK_DEV_NVME", "ATA", "SCSI"):
        assert (machine[f"CONFIG_{option}"], server[f"CONFIG_{option}"]) == ("n", "y")


def test_a_confidential_machine_has_no_driver_that_trusts_its_host() -> None:
    wanted = merge(fragments(FOLDER, Variant.CONFIDENTIAL, Kind.SEALED))
    assert wanted["CONFIG_ETHERNET"] == "n"
    assert not cards.DRIVERS.keys() & wanted.keys()


@pytest.mark.parametrize("variant", list(Variant))
def test_a_diagnostic_kernel_cannot_capture_and_says_what_it_is(variant: Variant) -> None:
    wanted = merge(fragments(FOLDER, variant, Kind.DIAGNOSTIC))
    assert wanted["CONFIG_PACKET"] == "n"
    assert "DIAGNOSTIC" in wanted["CONFIG_LOCALVERSION"]
    assert wanted["CONFIG_TTY"] == "y"


def test_the_command_line_names_the_root_and_the_image() -> None:
    line = command_line(Verity(root_hash="ab" * 32, salt="cd" * 32, data_blocks=8), image="ef" * 32, device="/dev/vda")
    assert f"verity 1 /dev/vda /dev/vda 4096 4096 8 9 sha256 {'ab' * 32}" in line
    assert f"BUNKER_IMAGE={'ef' * 32} BUNKER_KERNEL=own" in line
    assert "panic_on_corruption" in line
    assert " dm-mod.waitfor=/dev/vda " in line
    assert len(line) < 1024


PAGES = sorted((FOLDER.parent / "docs" / "kernel").glob("*.config"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_published_configuration_has_every_line_of_its_fragments(page: Path) -> None:
    variant, kind = page.stem.split("-")
    wanted = merge(fragments(FOLDER, Variant(variant), Kind(kind)))
    del wanted["CONFIG_CMDLINE"]
    assert differences(wanted, page.read_text()) == []


def test_the_sealed_kernels_configuration_is_published() -> None:
    assert "vm-sealed" in {page.stem for page in PAGES}
