"""The diagnostic image: a shell to look around, and no way to trace (`make test-image`, BUNKER_DIAGNOSTIC=DIR)."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from boxes import study
from machines import BOOT_S

from bunker.errors import ConfigurationError
from bunker.experiment.bundle import read_bundle
from bunker.image import build
from bunker.image.kernel import Kind
from bunker.image.launch import Image, Wishes, prepare


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


def test_it_has_a_shell_and_cannot_open_a_capture_device(diagnostic: Image, work: Path) -> None:
    console = work / "console"
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-m", "512M"]
    words += ["-machine", "q35,accel=tcg", "-cpu", "max,-erms", "-kernel", str(diagnostic.directory / build.KERNEL)]
    words += ["-drive", f"if=none,id=root,format=raw,readonly=on,file={diagnostic.directory / build.ROOT}"]
    words += ["-device", "virtio-blk-pci,drive=root", "-chardev", f"socket,id=c,path={console},server=on,wait=on"]
    machine = subprocess.Popen([*words, "-serial", "chardev:c"], stdin=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            until = time.monotonic() + 20
            while not console.exists():
                assert time.monotonic() < until
                time.sleep(0.1)
            line.connect(str(console))
            line.settimeout(BOOT_S)
            seen = _until(line, b"diagnostic# ")
            assert b"BUNKER DIAGNOSTIC IMAGE" in seen
            program = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
            line.sendall(f"python3.11 -ISB -c '{program}'; echo ended $?\n".encode())
            seen = _until(line, b"ended 1")
            assert b"Address family not supported" in seen
            line.sendall(b"busybox uname -r; echo ended 2\n")
            assert b"DIAGNOSTIC" in _until(line, b"\nended 2")
    finally:
        machine.kill()
        machine.wait()


def _until(line: socket.socket, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        piece = line.recv(4096)
        assert piece, seen[-500:]
        seen += piece
    return seen
