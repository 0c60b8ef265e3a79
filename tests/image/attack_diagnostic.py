"""The diagnostic image: a shell to look around, and no way to trace (`make test-image`, BUNKER_DIAGNOSTIC=DIR)."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from boxes import study
from machines import BOOT_S, UEFI
from tpms import appliance_start, tpm_for_qemu

from bunker.errors import ConfigurationError
from bunker.experiment.bundle import read_bundle
from bunker.image import build
from bunker.image.disk import Partition, check_kinds, make_esp, write_disk
from bunker.image.kernel import Kind
from bunker.image.launch import Image, Wishes, prepare
from bunker.model.attestation import Attestation
from bunker.model.heartbeat import attested_hash
from bunker.open.attestation import Expected, faults


@pytest.fixture(scope="module")
def diagnostic() -> Image:
    given = os.environ.get("BUNKER_DIAGNOSTIC")
    if not given:
        pytest.skip("no diagnostic image: bunker image build --diagnostic, then BUNKER_DIAGNOSTIC=DIR")
    found = Image.open(Path(given).expanduser())
    assert found.manifest.identity.kind is Kind.DIAGNOSTIC
    return found


def test_it_is_not_started_for_a_run(diagnostic: Image, work: Path) -> None:
    bundle = read_bundle(study(work / "none").file)
    with pytest.raises(ConfigurationError, match="never touches traffic"):
        prepare(diagnostic, bundle, work, egress="127.0.0.1:1", wishes=Wishes())


@contextmanager
def shell(words: list[str], work: Path) -> Iterator[socket.socket]:
    """The serial console of a machine."""
    console = work / f"console-{len(list(work.iterdir()))}"
    line = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-m", "768M"]
    line += ["-machine", "q35,accel=tcg", "-cpu", "max,-erms", *words]
    line += ["-chardev", f"socket,id=c,path={console},server=on,wait=on", "-serial", "chardev:c"]
    machine = subprocess.Popen(line, stdin=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            until = time.monotonic() + 20
            while not console.exists():
                assert time.monotonic() < until
                time.sleep(0.1)
            end.connect(str(console))
            end.settimeout(BOOT_S)
            yield end
    finally:
        machine.kill()
        machine.wait()


def handed_over(diagnostic: Image) -> list[str]:
    """Started by QEMU itself."""
    words = ["-kernel", str(diagnostic.directory / build.KERNEL), "-device", "virtio-blk-pci,drive=root"]
    return [*words, "-drive", f"if=none,id=root,format=raw,readonly=on,file={diagnostic.directory / build.ROOT}"]


def from_its_disk(diagnostic: Image, work: Path, tpm: Path) -> list[str]:
    """Started by UEFI from a disk with the diagnostic image alone, with a TPM."""
    make_esp(work / "esp", diagnostic.directory, None)
    root = diagnostic.directory / build.ROOT
    parts = (
        Partition(label="bunker-esp", kind="EF00", size=(work / "esp").stat().st_size, content=work / "esp"),
        Partition(label="bunker-diagnostic", kind="8300", size=-(-root.stat().st_size // 2**20) * 2**20, content=root),
    )
    write_disk(work / "diagnostic-disk", parts)
    words = ["-bios", str(UEFI), "-drive", f"if=none,id=disk,format=raw,file={work}/diagnostic-disk"]
    words += ["-device", "virtio-blk-pci,drive=disk", "-chardev", f"socket,id=tpm,path={tpm}"]
    return [*words, "-tpmdev", "emulator,id=t,chardev=tpm", "-device", "tpm-crb,tpmdev=t"]


def test_it_has_a_shell_and_cannot_open_a_capture_device(diagnostic: Image, work: Path) -> None:
    with shell(handed_over(diagnostic), work) as line:
        seen = _until(line, b"diagnostic# ")
        assert b"BUNKER DIAGNOSTIC IMAGE" in seen
        program = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
        line.sendall(f"python3.11 -ISB -c '{program}'; echo ended $?\n".encode())
        seen = _until(line, b"ended 1")
        assert b"Address family not supported" in seen
        line.sendall(b"busybox uname -r; echo ended 2\n")
        assert b"DIAGNOSTIC" in _until(line, b"\nended 2")


FORGED = appliance_start({"image_kernel": "enforced"})
"""What somebody at the diagnostic image's shell could write: nothing stops him from naming the sealed image."""

QUOTE = """
import sys
sys.path.append("/usr/lib/bunker")
from bunker.closed.machine.tpm import Tpm, read_log
from bunker.model.heartbeat import canonical
print("quote:" + canonical(Tpm().quote(bytes.fromhex(sys.argv[1]), log=read_log())).decode() + ":end")
"""


def test_what_it_signs_is_not_taken_for_the_sealed_images(diagnostic: Image, work: Path) -> None:
    """By the TPM's word: another kernel was started. The statement alone could say anything."""
    with tpm_for_qemu(work / "tpm"), shell(from_its_disk(diagnostic, work, work / "tpm"), work) as line:
        _until(line, b"diagnostic# ")
        program = base64.b64encode(QUOTE.encode()).decode()
        run = f"import base64; exec(base64.b64decode('{program}'))"
        line.sendall(f'python3.11 -ISB -c "{run}" {attested_hash(FORGED).hex()}; echo ended 3\n'.encode())
        seen = _until(line, b"\nended 3").replace(b"\r\n", b"\n")
    quote = seen[seen.index(b"quote:{") + 6 : seen.index(b":end\n")]
    start = msgspec.structs.replace(FORGED, attestation=msgspec.json.decode(quote, type=Attestation))
    assert "another kernel than the image's was started" in faults(start, Expected(kernels={"0" * 64}))
    # The control: it is a good quote, of what it is.
    own = diagnostic.manifest
    assert faults(start, Expected(kernels=own.kernels, loaders=own.loaders)) == []


def test_its_digest_and_kernel_are_others(diagnostic: Image, image: Image) -> None:
    assert diagnostic.manifest.digest != image.manifest.digest
    assert diagnostic.manifest.kernels.isdisjoint(image.manifest.kernels)
    with pytest.raises(ConfigurationError, match="Build a sealed one"):
        check_kinds(diagnostic.manifest, None)
    config = (diagnostic.directory / build.CONFIG).read_text()
    assert "# CONFIG_PACKET is not set" in config
    assert 'CONFIG_LOCALVERSION="-bunker-DIAGNOSTIC"' in config


def _until(line: socket.socket, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        piece = line.recv(4096)
        assert piece, seen[-500:]
        seen += piece
    return seen
