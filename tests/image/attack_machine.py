"""Attacks on a running machine from outside, by somebody who has the host (`make test-image`; emulated, half an hour).

Each has its control: the same method where it must succeed.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import attacks
import machines
import pytest
from boxes import BUNKER, FLOW_OUT, HTTP_OUT, POLICY, TRAFFIC, Study, bunker, counters, events, rows, study
from canary import make_canaries, search, search_tree
from canary_capture import canary_packets, write_canary_capture
from machines import (
    Control,
    Running,
    came_out_whole,
    is_readable,
    log_of,
    pci_devices,
    restartable,
    started,
    starved,
    with_extra,
    written_blocks,
)
from tap import Macvtap, Tap, ipv4, scan, syn
from test_analyzer_attacks import TRIED_OUT, TRIES, source

from bunker.image import cards
from bunker.image.kernel import STARVED, Kind
from bunker.image.launch import Image
from bunker.image.qemu import CAPTURE_MAC, LINK_MAC, Line
from bunker.open.verdict import Word

CANARIES = make_canaries("attacks on the machine")
NEEDLE = next(raw for canary in CANARIES.values.values() for raw in [canary] if len(raw) >= 16)
KILLS = 20
STARVED_S = 60.0
"""Long enough for the kernel's own start, even on a busy host."""


def live(folder: Path, *, duration: str = "3600s") -> Study:
    """An experiment that captures until somebody pulls the plug."""
    return study(folder, policy=POLICY + HTTP_OUT + FLOW_OUT, capture=f'duration = "{duration}"', mode="deferred")


@pytest.fixture(scope="module")
def packets() -> list[bytes]:
    return canary_packets(CANARIES, copies=20)


@pytest.fixture(scope="module")
def capturing(image: Image, work: Path, packets: list[bytes]) -> Iterator[Running]:
    """A machine that captures canaries and keeps them: deferred, so nothing is analysed or erased."""
    with started(image, live(work / "live").file, work / "vm", live=True, monitor=True) as running:
        running.wait_for_beat(2)
        running.send(packets)
        until = time.monotonic() + 120
        while running.beats[-1].counters["packets_received"] < len(packets) and time.monotonic() < until:
            time.sleep(0.2)
        assert running.beats[-1].counters["packets_received"] == len(packets), log_of(running.line)
        yield running


def memory_of(running: Running) -> bytes:
    """All of the guest's memory, as its host reads it."""
    assert running.control is not None
    place = running.work / "memory"
    answer = running.control("pmemsave", val=0, size=running.line.memory_mb << 20, filename=str(place))
    assert answer == {}, answer
    content = place.read_bytes()
    place.unlink()
    return content


def test_the_host_reads_raw_traffic_in_a_plain_machine_and_the_statements_say_so(capturing: Running) -> None:
    assert search_bytes(memory_of(capturing)) > 0
    assert capturing.beats[-1].tier == "vm"


def search_bytes(memory: bytes) -> int:
    """How often the longest canary stands in a memory image."""
    return memory.count(NEEDLE)


def test_no_frame_leaves_on_the_capture_cable(capturing: Running, packets: list[bytes]) -> None:
    mac = bytes.fromhex(CAPTURE_MAC.replace(":", ""))
    host = bytes.fromhex("020000000099")
    arp = mac + host + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + host + bytes(4) + bytes(6)
    questions = [arp + bytes([10, 0, 2, 15]), b"\xff" * 6 + arp[6:] + bytes([10, 0, 2, 15])]
    ours, theirs = bytes([10, 0, 2, 100]), "10.0.2.15"
    payloads = [(17, bytes(8)), (1, b"\x08\0\xf7\xff" + bytes(4))]
    payloads += [(6, syn(ours, theirs, port)) for port in (22, 80, 9000)]
    questions += [mac + host + b"\x08\x00" + ipv4(kind, ours, theirs, payload) for kind, payload in payloads]
    before = capturing.beats[-1].counters["packets_received"]
    capturing.send(questions)
    until = time.monotonic() + 60
    while capturing.beats[-1].counters["packets_received"] < before + len(questions) and time.monotonic() < until:
        time.sleep(0.2)
    assert capturing.beats[-1].counters["packets_received"] == before + len(questions)
    assert capturing.heard() == []


@pytest.mark.parametrize(
    "device",
    [
        {"driver": "usb-kbd"},
        {"driver": "usb-storage"},
        {"driver": "virtio-net-pci", "bus": "pcie.0"},
        {"driver": "virtio-blk-pci", "bus": "pcie.0"},
        {"driver": "pci-serial", "bus": "pcie.0"},
        {"driver": "virtio-keyboard-pci", "bus": "pcie.0"},
        {"driver": "nvme", "bus": "pcie.0", "serial": "x"},
    ],
    ids=lambda device: device["driver"],
)
def test_nothing_can_be_plugged_in(device: dict[str, str], capturing: Running) -> None:
    assert capturing.control is not None
    answer = capturing.control("device_add", id="new", **device)
    assert isinstance(answer, str), "QEMU took it"
    assert "device" in capturing.control.say("info qtree")


def test_keys_and_signals_from_the_host_change_nothing(capturing: Running) -> None:
    assert capturing.control is not None
    beats = len(capturing.beats)
    for key in ("ret", "esc", "ctrl-alt-delete", "alt-sysrq-b", "ctrl-c", "f1"):
        capturing.control.say(f"sendkey {key}")
    capturing.control("system_powerdown")  # the ACPI button: nobody listens
    capturing.control("inject-nmi")
    capturing.wait_for_beat(beats + 5)
    assert capturing.machine.running()


def with_card(words: list[str]) -> list[str]:
    """The same machine with QEMU's copy of a server's card to capture with: same bus, same driver as one of vfio's."""
    at = next(n for n, word in enumerate(words) if word.startswith("virtio-net-pci,netdev=capture,"))
    return [*words[:at], f"e1000e,netdev=capture,id=card,mac={CAPTURE_MAC},romfile=", *words[at + 1 :]]


def the_model_of(card: str, control: Control) -> str:
    """A device's modalias, as its host's kernel would write it."""
    devices = [device for bus in control("query-pci") for device in bus["devices"]]
    (model,) = (device["id"] for device in devices if device["qdev_id"] == card)
    parts = [model["vendor"], model["device"], model["subsystem-vendor"], model["subsystem"]]
    return "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc02sc00i00".format(*parts)


def test_a_card_captures_in_a_machine(image: Image, work: Path, packets: list[bytes]) -> None:
    """What `bunker run -i 0000:03:00.0` hands over by vfio needs a driver in there; the image knows which it has."""
    if image.manifest.identity.kind is not Kind.SEALED:
        pytest.skip("Debian's kernel for clouds has no drivers of cards")
    one = study(work / "card", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='duration = "60s"')
    with started(image, one.file, work / "e", live=True, monitor=True, words=with_card) as running:
        assert running.control is not None
        assert cards.is_driven(the_model_of("card", running.control), cards.read(image.directory))
        running.wait_for_beat(2)
        running.send(packets)
        running.wait_until_off()
        heard = running.heard()
    came_out_whole(running, image, len(packets))
    assert len(rows(running.out, "http")) > 0
    assert heard == []
    assert search_tree(running.out, CANARIES, shortest=6) == []
    # On the command line of an auditor, who has the output and the image's manifest.
    checked = bunker("verify", str(running.out), "--image", str(image.directory))
    assert checked.returncode == 0, checked.stderr


HOT_PLUGGED = {
    "virtio-net-pci": {"mac": "02:62:75:6e:6b:09"},
    "e1000e": {"mac": "02:62:75:6e:6b:0a"},
    "virtio-blk-pci": {"drive": "disk0"},
    "nvme": {"drive": "disk1", "serial": "x"},
    "virtio-keyboard-pci": {},
    "pci-serial": {},
}
ON_USB = {"usb-kbd": {}, "usb-storage": {"drive": "disk2"}, "usb-net": {}, "usb-serial": {"chardev": "line"}}


def with_slots(words: list[str]) -> list[str]:
    """The same machine with what `bunker run` leaves out: slots, a USB controller, a keyboard controller."""
    slots = [f"pcie-root-port,id=slot{n},chassis={n + 1},slot={n + 1}" for n in range(len(HOT_PLUGGED))]
    more = [word for device in (*slots, "qemu-xhci,id=usb") for word in ("-device", device)]
    changed = [word.replace("i8042=off", "i8042=on").replace("netdev=link,", "netdev=link,id=own,") for word in words]
    return [*changed, *more, "-chardev", "null,id=line"]


def test_what_a_host_plugs_into_slots_gets_no_driver(image: Image, work: Path) -> None:
    """A host that starts the machine with slots. A driver shows by its marks in a device's configuration."""
    sealed = image.manifest.identity.kind is Kind.SEALED

    def words(plain: list[str]) -> list[str]:
        return with_slots(with_card(plain) if sealed else plain)

    with started(image, live(work / "slots").file, work / "p", live=True, monitor=True, words=words) as running:
        control = running.control
        assert control is not None
        running.wait_for_beat(1)
        for number in range(3):
            disk = {"driver": "null-co", "node-name": f"disk{number}", "size": 1 << 20, "read-zeroes": True}
            assert control("blockdev-add", **disk) == {}
        for number, (driver, more) in enumerate(HOT_PLUGGED.items()):
            assert control("device_add", driver=driver, id=driver, bus=f"slot{number}", **more) == {}
        for driver, more in ON_USB.items():
            assert control("device_add", driver=driver, id=driver, bus="usb.0", **more) == {}
        for key in ("a", "ret", "ctrl-alt-delete", "alt-sysrq-b", "ctrl-alt-f2"):
            assert control.say(f"sendkey {key}") == ""
        running.wait_for_beat(len(running.beats) + 10)
        assert control("stop") == {}
        driven = {device.name for device in pci_devices(control) if device.has_driver(control)}
        # The control: the machine's own devices have drivers, and show it.
        assert "own" in driven
        # On the USB bus: the first thing that a driver of the controller does is to give each device a number.
        numbers = re.findall(r"Device 0\.(\d+),", control.say("info usb"))
        assert len(numbers) >= len(ON_USB)
        assert set(numbers) == {"0"}
        if sealed:
            # The same model as one of those that come later: it was there at the start, and its driver has taken it.
            assert "card" in driven
            assert driven.isdisjoint({*HOT_PLUGGED, "usb"})
        else:
            # The control, in other words: Debian's kernel notices what comes and has one of the drivers.
            assert "virtio-net-pci" in driven


def test_a_kill_at_any_moment_leaves_noise(image: Image, work: Path, packets: list[bytes]) -> None:
    """Twenty moments while traffic comes in: the machine stands still, its disk is what a killed one would leave."""
    one = study(work / "kills", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='duration = "3600s"')
    moments = random.Random("kills")
    left = Residue()
    with started(image, one.file, work / "k", live=True, monitor=True) as running:
        assert running.control is not None
        running.wait_for_beat(1)
        for _ in range(KILLS):
            running.send(packets)
            time.sleep(moments.uniform(0, 1))
            running.control("stop")
            left.look(running.spool)
            running.control("cont")
        assert running.beats[-1].counters["packets_received"] > 0
        running.machine.power_off()
        running.machine.wait()
        left.look(running.spool)
    assert left.looks == KILLS + 1
    assert left.written > 100
    assert left.readable == 0
    assert left.hits == 0
    # The control: the method finds both in what is not encrypted.
    plain = Residue()
    write_canary_capture(work / "plain.pcap", CANARIES, copies=300)
    plain.look(work / "plain.pcap")
    assert plain.readable > 100
    assert plain.hits > 0


class Residue:
    """What an examiner finds on a disk that is looked at several times; a block is examined when it is new."""

    def __init__(self) -> None:
        self.looks = self.written = self.readable = self.hits = 0
        self._known: set[bytes] = set()

    def look(self, disk: Path) -> None:
        self.looks += 1
        new = [block for block in written_blocks(disk) if hash_of(block) not in self._known]
        self._known |= {hash_of(block) for block in new}
        self.written += len(new)
        self.readable += sum(map(is_readable, new))
        self.hits += len(search(b"".join(new), CANARIES, shortest=6))


def hash_of(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()


def test_two_starts_write_different_noise(image: Image, work: Path, capturing: Running) -> None:
    with started(image, live(work / "twice").file, work / "t", live=True) as running:
        running.wait_for_beat(1)
        running.machine.power_off()
        running.machine.wait()
        with running.spool.open("rb") as one, capturing.spool.open("rb") as other:
            ours, theirs = one.read(65536), other.read(65536)
    # Both hold a file system of the same size and name, whose first blocks are nearly the same in plaintext.
    equal = sum(ours[at : at + 16] == theirs[at : at + 16] != bytes(16) for at in range(0, 65536, 16))
    assert ours.strip(b"\0")
    assert equal == 0


def test_a_reset_leaves_nothing_of_the_old_run(image: Image, work: Path, packets: list[bytes]) -> None:
    """Memory survives a warm reset; process 1 overwrites it before it touches new traffic."""
    with started(image, live(work / "reset").file, work / "r", live=True, monitor=True, words=restartable) as running:
        assert running.control is not None
        running.wait_for_beat(2)
        running.send(packets)
        time.sleep(5)
        before = search_bytes(memory_of(running))
        running.control("stop")
        running.control("system_reset")
        # The control: the canary is still there when the machine has been reset and has not run yet.
        remaining = search_bytes(memory_of(running))
        running.control("cont")
        settled = _wait_for_restart(running)
        after = search_bytes(settled)
        assert before > 0
        assert remaining > 0
        assert after == 0


def _wait_for_restart(running: Running) -> bytes:
    """Memory once the new spool is being written, which comes after the wipe and before the first packet."""
    assert running.control is not None
    first = running.spool.read_bytes()[:65536]
    until = time.monotonic() + machines.BOOT_S
    while time.monotonic() < until:
        with running.spool.open("rb") as spool:
            if spool.read(65536) != first:
                break
        time.sleep(0.5)
    else:
        raise AssertionError(f"it did not come up again: {log_of(running.line)}")
    running.control("stop")
    return memory_of(running)


def _dead(image: Image, work: Path, name: str, **started_with: object) -> Running:
    """A machine that must not say a word."""
    one = live(work / f"{name}-study")
    with started(image, one.file, work / name, live=True, **started_with) as running:  # type: ignore[arg-type]
        running.wait_until_off()
    return running


@pytest.mark.parametrize("part", ["superblock", "scattered", "hash-tree", "last-data"])
def test_a_flipped_byte_in_the_root_stops_the_start(part: str, image: Image, work: Path) -> None:
    root = work / f"root-{part}.img"
    shutil.copyfile(image.directory / "root.img", root)
    data = image.manifest.identity.root_blocks * 4096
    places: dict[str, Iterable[int]] = {
        "superblock": [40],
        # A byte in every sixteenth block: most of the root is libraries that nobody reads before the box starts.
        "scattered": range(16 * 4096, data, 16 * 4096),
        # The tree's second block: the first is its superblock, which nobody reads.
        "hash-tree": [data + 4096 + 8],
        # The file system's tables stand at its end.
        "last-data": range(data - data // 8, data, 512),
    }
    with root.open("r+b") as file:
        for at in places[part]:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    running = _dead(image, work, f"flip-{part}", change=lambda line: replace(line, root=root))
    assert running.verdict is not None
    assert running.verdict.word is Word.TRUNCATED
    assert running.verdict.start is None


def test_a_changed_bundle_stops_the_start(image: Image, work: Path) -> None:
    def tamper(place: Path) -> None:
        content = bytearray((place / "run.disk").read_bytes())
        content[-600] ^= 1
        (place / "run.disk").write_bytes(content)

    running = _dead(image, work, "bundle", tamper=tamper)
    assert running.verdict is not None
    assert running.verdict.start is None


def test_an_image_with_a_changed_kernel_is_not_started(image: Image, work: Path) -> None:
    copy = work / "changed"
    shutil.copytree(image.directory, copy)
    with (copy / "vmlinuz").open("r+b") as file:
        file.seek(1 << 20)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(Exception, match="vmlinuz is not the file"):
        Image.open(copy)


_INJECTED = (
    *("-smbios", "type=11,value=io.systemd.credential:tmpfiles.extra=f /tmp/x"),
    *("-smbios", "type=11,value=io.systemd.credential:systemd.extra-unit.x.service=[Service]"),
    *("-fw_cfg", "name=opt/io.systemd.credentials/x,string=y"),
    *("-fw_cfg", "name=opt/bunker,string=init=/usr/bin/python3.11"),
)


def test_words_of_host_and_firmware_change_nothing(image: Image, work: Path) -> None:
    """SMBIOS credentials, fw_cfg, and a command line: read by nobody. The quick image's command line is the host's."""
    words = "init=/usr/bin/python3.11 rd.break single resume=/dev/vdc systemd.debug_shell lsm= root=/dev/vdc"
    quick = image.manifest.identity.kind.value == "quick"

    def change(line: Line) -> Line:
        line = with_extra(*_INJECTED)(line)
        return line if quick else replace(line, command_line=words)

    def tamper(place: Path) -> None:
        """A memory image to resume from, as hibernation signs it, on the disk that `resume=` names."""
        with (place / "spool.disk").open("r+b") as disk:
            disk.seek(4086)
            disk.write(b"S1SUSPEND\0")

    one = study(work / "inject", policy=POLICY + HTTP_OUT + FLOW_OUT)
    with started(image, one.file, work / "i", files=(TRAFFIC,), change=change, tamper=tamper) as running:
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    assert running.verdict.start is not None
    assert running.verdict.start.image == image.manifest.digest


def test_a_swap_signature_on_the_spool_is_overwritten(image: Image, work: Path) -> None:
    def tamper(place: Path) -> None:
        with (place / "spool.disk").open("r+b") as disk:
            disk.seek(4086)
            disk.write(b"SWAPSPACE2")

    one = study(work / "swap", policy=POLICY + HTTP_OUT + FLOW_OUT)
    with started(image, one.file, work / "w", files=(TRAFFIC,), tamper=tamper) as running:
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    assert running.verdict.start is not None
    assert running.verdict.start.enforcement["swap"] == "enforced"


def test_the_attacks_of_a_hijacked_analyzer_fail_inside_too(image: Image, work: Path) -> None:
    one = study(
        work / "inside", analyzers=("./mine.py:tries",), policy=POLICY + TRIED_OUT, source=source(TRIES), lanes=1
    )
    with started(image, one.file, work / "a", files=(TRAFFIC,)) as running:
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    answers = {row["name"]: row["answer"] for row in rows(running.out, "tried")}
    assert set(answers) == set(attacks.ATTEMPTS)
    wrong = {name: answer for name, answer in answers.items() if answer not in attacks.ATTEMPTS[name].inside}
    assert wrong == {}
    assert not events(running.out)


def test_a_machine_that_its_host_starves_comes_up(image: Image, work: Path) -> None:
    """Ticks that an overloaded host loses are not taken for a broken timer."""
    assert STARVED in image.manifest.command_line
    with started(image, live(work / "starved").file, work / "v", live=True) as running:
        with starved(running.machine):
            _wait(STARVED_S, lambda: not running.machine.running() or bool(running.beats))
        running.wait_for_beat(1)


def _wait(seconds: float, ended: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ended():
        time.sleep(0.2)


def test_live_traffic_comes_out_cleared(image: Image, work: Path, packets: list[bytes]) -> None:
    one = study(work / "cleared", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='duration = "60s"')
    with started(image, one.file, work / "c", live=True) as running:
        running.wait_for_beat(2)
        running.send(packets)
        running.wait_until_off()
        heard = running.heard()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    assert json.loads((running.out / "manifest.json").read_text())
    assert len(rows(running.out, "http")) > 0
    assert running.verdict.counters["packets_received"] == len(packets)
    assert search_tree(running.out, CANARIES, shortest=6) == []
    assert heard == []
    # Blocks that were written: to search a disk of zeros takes minutes.
    assert search(b"".join(written_blocks(running.spool)), CANARIES, shortest=6) == []


def test_ctrl_c_ends_a_live_run_in_order(image: Image, work: Path, packets: list[bytes]) -> None:
    """By the command, as an operator does it; what was captured is analysed and released."""
    one = study(work / "ended", policy=POLICY + HTTP_OUT + FLOW_OUT)
    place, out = work / "ctrl", work / "ctrl-out"
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind(str(place / "wire"))
        netdev = f"dgram,local.type=unix,local.path={place}/nic,remote.type=unix,remote.path={place}/wire"
        words = ["run", str(one.file), "--closed-box", "vm", "--image", str(image.directory), "-o", str(out)]
        command = subprocess.Popen([*BUNKER, *words, "--memory", "1024", "-i", netdev], stderr=subprocess.PIPE)
        beats = out / "heartbeats.jsonl"
        until = time.monotonic() + machines.BOOT_S
        while not beats.exists() or len(beats.read_bytes().splitlines()) < 3:
            assert command.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        for packet in packets:
            wire.sendto(packet, f"{place}/nic")
        time.sleep(3)
        command.send_signal(signal.SIGINT)
        _, told = command.communicate(timeout=machines.BOOT_S)
    assert command.returncode == 0, told
    assert b"asked to end in order" in told
    last = json.loads(beats.read_bytes().splitlines()[-1])["statement"]
    assert last["reason"] == "interrupted"
    assert counters(out)["packets_received"] == len(packets)
    assert len(rows(out, "http")) > 0
    assert bunker("verify", str(out)).returncode == 0


def test_a_receiver_that_is_killed_and_comes_back_has_the_whole_run(image: Image, work: Path) -> None:
    """By the commands, on two sides: `bunker run --closed-box vm --to`, `bunker receive`, and SIGKILL between."""
    capture = work / "carried.pcap"
    write_canary_capture(capture, CANARIES, copies=200)
    one = study(work / "carried", policy=POLICY + HTTP_OUT + FLOW_OUT)
    out = work / "carried-out"
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = "{}:{}".format(*free.getsockname())
    listen = [*BUNKER, "receive", "--listen", target, "-o", str(out)]
    receiver = subprocess.Popen(listen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    words = ["run", str(one.file), "--closed-box", "vm", "--image", str(image.directory), "--memory", "1024"]
    beats = out / "heartbeats.jsonl"
    try:
        _wait(30, lambda: _listens(target))
        command = subprocess.Popen([*BUNKER, *words, "--to", target, "--read", str(capture)], stderr=subprocess.PIPE)
        _wait(machines.BOOT_S, lambda: command.poll() is not None or (beats.exists() and bool(beats.read_bytes())))
        assert command.poll() is None
        receiver.kill()
        receiver.wait()
        time.sleep(3)
        receiver = subprocess.Popen(listen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, told = command.communicate(timeout=machines.BOOT_S)
        time.sleep(1)
    finally:
        receiver.send_signal(signal.SIGTERM)
        receiver.wait(60)
    assert command.returncode == 0, told
    assert b"the open box is gone" in told
    assert b"the open box is back" in told
    verified = bunker("verify", str(out))
    assert verified.returncode == 0, verified.stdout
    assert len(rows(out, "http")) > 0


def _listens(target: str) -> bool:
    """Without a connection, which would be a run's."""
    port = int(target.rpartition(":")[2])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)


@pytest.mark.root
def test_a_macvtap_hears_the_card_it_is_over(image: Image, work: Path, packets: list[bytes]) -> None:
    """`bunker run -i MACVTAP`: all that arrives at the card below, and the machine sends nothing there."""
    one = study(work / "over", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='duration = "60s"')
    out = work / "over-out"
    with Macvtap("bimg2", "bimg3") as there:
        words = ["run", str(one.file), "--closed-box", "vm", "--image", str(image.directory), "-o", str(out)]
        command = subprocess.Popen([*BUNKER, *words, "--memory", "1024", "-i", there.over], stderr=subprocess.PIPE)
        beats = out / "heartbeats.jsonl"
        _wait(machines.BOOT_S, lambda: command.poll() is not None or _lines(beats) >= 2)
        assert command.poll() is None
        sent_before = there.heard()
        there.send(packets)
        _, told = command.communicate(timeout=machines.BOOT_S)
        assert command.returncode == 0, told
        assert there.heard() == sent_before
    assert counters(out)["packets_received"] == len(packets)
    assert len(rows(out, "http")) > 0


def _lines(file: Path) -> int:
    return len(file.read_bytes().splitlines()) if file.exists() else 0


@pytest.mark.root
def test_nothing_answers_on_the_link(image: Image, work: Path) -> None:
    """Every TCP and UDP port, ICMP, IPv6: scanned from the open box's own end of the cable."""
    one = live(work / "scan")
    with (
        Tap("bimg0", "10.0.2.100/24") as tap,
        started(
            image,
            one.file,
            work / "s",
            live=True,
            place=("10.0.2.100", 9000),
            change=lambda line: replace(line, link_tap=tap.name),
        ) as running,
    ):
        running.wait_for_beat(1)
        assert scan(tap, target="10.0.2.15", mac=LINK_MAC) == []
        beats = len(running.beats)
        running.wait_for_beat(beats + 2)
        # The control: the scan sees an answer when there is one. Without a firewall the kernel answers with resets.
        with Tap("bimg1", "10.0.3.1/24", peer="10.0.3.2/24") as other:
            found = scan(other, target="10.0.3.2", mac=other.peer_mac, ports=range(1, 50))
            assert {"ip protocol 6", "ipv6 protocol 6", "ipv6 protocol 58"} <= set(found)
