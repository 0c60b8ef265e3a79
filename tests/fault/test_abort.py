"""An abort overwrites the keys before anything else: what is left in memory and on disk cannot be read any more."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from boxed import box_of, start, wait_for_beats
from boxes import balanced, bunker, counters
from canary import make_canaries, search_tree
from canary_capture import write_canary_capture
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from faulty import faulty_study

from bunker.closed.process.jail import JailSpec, Role, enter_box
from bunker.closed.process.supervisor import overwrite
from bunker.closed.spool.keys import KEY_BYTES, KeyStore, create_store

SLOW = "time.sleep(0.2)"


def test_every_key_is_zero_in_a_moment_whoever_maps_them() -> None:
    fd, _ = create_store(64)
    writer, reader = KeyStore.attach(fd, writable=True), KeyStore.attach(fd, writable=False)
    for slot in range(64):
        writer.create(slot)
    sealed = writer.cipher(7).encrypt(bytes(12), b"raw traffic", None)
    assert reader.cipher(7).decrypt(bytes(12), sealed, None) == b"raw traffic"
    before = time.perf_counter()
    overwrite(fd)
    assert time.perf_counter() - before < 0.1
    assert all(reader.is_erased(slot) for slot in range(64))
    assert all(writer.is_erased(slot) for slot in range(64))
    with pytest.raises(Exception):  # noqa: B017 - whatever the library says
        AESGCM(bytes(KEY_BYTES)).decrypt(bytes(12), sealed, None)


def test_the_supervisor_can_do_it_under_its_own_list() -> None:
    fd, _ = create_store(8)
    keys = KeyStore.attach(fd, writable=True)
    for slot in range(8):
        keys.create(slot)
    spec = JailSpec(
        role=Role.SUPERVISOR, descriptors={"keys": fd}, import_paths=(str(Path(__file__).resolve().parent),)
    )
    process = enter_box(spec, "overwriting", str(fd))
    assert process.wait(60) == 0
    assert all(keys.is_erased(slot) for slot in range(8))


def secret_memory(pid: int) -> list[tuple[int, int]]:
    """(start, end) of what a process maps."""
    regions = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split()
        if words[1].startswith("r") and "[v" not in line:
            start, end = (int(part, 16) for part in words[0].split("-"))
            regions.append((start, end))
    return regions


def memory_holds(pid: int, needles: list[bytes]) -> bool:
    """Whether one of these stands in the memory of a process, as root may look."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in secret_memory(pid):
            try:
                memory.seek(start)
                content = memory.read(min(end - start, 64 << 20))
            except (OSError, ValueError, OverflowError):
                continue
            if any(needle in content for needle in needles):
                return True
    return False


@pytest.mark.root
def test_after_an_abort_nothing_raw_is_left_in_memory_or_on_disk(tmp_path: Path) -> None:
    canaries = make_canaries("abort")
    write_canary_capture(tmp_path / "c.pcap", canaries, copies=50)
    one = faulty_study(tmp_path / "s", "exit", set(), analysis='time_per_call = "30s"', before=SLOW)
    out = tmp_path / "out"
    process = start(one, out, "--read", str(tmp_path / "c.pcap"))
    wait_for_beats(out, 3)
    time.sleep(0.5)
    roles = box_of(process)
    needles = [canaries.text("host").encode()]
    assert any(memory_holds(pid, needles) for pid in roles["worker"]), "control: the search finds what is there"
    # The runner stands still: the releaser cannot say its last word and stays, with the supervisor, to be searched.
    os.kill(roles["releaser"][0], 19)
    before = time.monotonic()
    os.kill(roles["supervisor"][0], 3)
    while any(Path(f"/proc/{pid}/mem").exists() and alive(pid) for pid in (*roles["worker"], *roles["capturer"])):
        assert time.monotonic() - before < 5
        time.sleep(0.002)
    took = time.monotonic() - before
    for pid in (*roles["supervisor"], *roles["releaser"]):
        assert not memory_holds(pid, needles)
    os.kill(roles["releaser"][0], 18)
    process.communicate(timeout=60)
    assert took < 2, "on a loaded machine; the keys went first"
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert (last["kind"], last["statement"]["reason"]) == ("abort", "operator")
    found = counters(out)
    assert balanced(found)
    assert found["keys_destroyed"] == found["keys_created"] > 0
    assert search_tree(tmp_path / "s" / "spool", canaries, shortest=6) == []
    assert search_tree(out, canaries, shortest=6) == []


def alive(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.root
def test_bunker_abort_finds_the_run_by_its_directory(tmp_path: Path) -> None:
    canaries = make_canaries("abort command")
    write_canary_capture(tmp_path / "c.pcap", canaries, copies=50)
    one = faulty_study(tmp_path / "s", "exit", set(), analysis='time_per_call = "30s"', before=SLOW)
    out = tmp_path / "out"
    process = start(one, out, "--read", str(tmp_path / "c.pcap"))
    wait_for_beats(out, 3)
    assert bunker("abort", str(tmp_path / "other")).returncode == 2
    done = bunker("abort", str(out))
    process.communicate(timeout=60)
    assert done.returncode == 0, done.stderr
    assert process.returncode == 1
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert (last["kind"], last["statement"]["reason"]) == ("abort", "operator")
    assert bunker("abort", str(out)).returncode == 2, "it is over"
