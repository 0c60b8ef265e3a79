"""One run in the machine, quick image, emulated: the same results as the process box, told as what it is, nothing left.

The attacks on the machine are in `attack_machine.py` (`make test-image`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxes import FLOW_OUT, HTTP_OUT, POLICY, balanced, bunker, counters, events, rows, study
from canary import make_canaries, search_tree
from canary_capture import write_canary_capture
from machines import BOOT_S, Running, log_of, readable_blocks, started

from bunker.image.launch import Image, ends_by_itself
from bunker.image.qemu import Acceleration
from bunker.model.attestation import key_fingerprint
from bunker.open.attestation import Expected, faults
from bunker.open.verdict import Word

CANARIES = make_canaries("the sealed image")
KEYED = {"host", "client"}


@pytest.fixture(scope="module")
def capture(work: Path) -> Path:
    path = work / "canaries.pcap"
    write_canary_capture(path, CANARIES, copies=40)
    return path


@pytest.fixture(scope="module")
def run(image: Image, work: Path, capture: Path) -> Iterator[Running]:
    """A machine that ran to its end on a capture file full of canaries."""
    one = study(work / "study", policy=POLICY + HTTP_OUT + FLOW_OUT)
    with started(image, one.file, work / "vm", files=(capture,), tpm=True) as running:
        running.wait_until_off()
    yield running


def test_the_run_is_whole(run: Running) -> None:
    assert run.verdict is not None, log_of(run.line)
    assert run.verdict.word is Word.WHOLE, log_of(run.line)
    assert bunker("verify", str(run.out)).returncode == 0
    assert not events(run.out)
    assert balanced(counters(run.out))


def test_it_releases_what_the_process_box_releases(run: Running, work: Path, capture: Path) -> None:
    done = study(work / "again", policy=POLICY + HTTP_OUT + FLOW_OUT).run(work / "process", "--read", str(capture))
    assert done.returncode == 0, done.stderr
    for record in ("http", "flow"):
        # Tags are keyed by the run: how often each comes is the same, what it is must not be.
        assert _plain(rows(run.out, record)) == _plain(rows(work / "process", record))
        assert rows(run.out, record)
    ours, theirs = ({row["host"] for row in rows(place, "http")} for place in (run.out, work / "process"))
    assert ours.isdisjoint(theirs - {None})
    assert _traffic(run.out) == _traffic(work / "process")


def _plain(found: list[dict[str, Any]]) -> Counter[str]:
    tags = {name: Counter(row[name] for row in found) for name in KEYED & set(found[0])}
    return Counter(
        json.dumps({name: tags[name][value] if name in tags else value for name, value in row.items()}, sort_keys=True)
        for row in found
    )


def _traffic(directory: Path) -> dict[str, int]:
    # Not bytes: how flows spread over lanes is random, and each block has a head.
    names = ("packets_received", "packets_analysed", "packets_dropped_spool", "records_released", "flows_finished")
    found = counters(directory)
    return {name: found.get(name, 0) for name in names}


def test_statements_say_what_it_is(run: Running, image: Image) -> None:
    beats = [json.loads(line)["statement"] for line in (run.out / "heartbeats.jsonl").read_bytes().splitlines()]
    assert {beat.get("last", beat)["tier"] for beat in beats} == {"vm"}
    assert {beat.get("last", beat)["image"] for beat in beats} == {image.manifest.digest}


def test_its_tpm_has_signed_for_this_run(run: Running) -> None:
    assert run.verdict is not None
    start = run.verdict.start
    assert start is not None
    assert start.enforcement["tpm"] == "enforced"
    assert start.attestation is not None
    key = key_fingerprint(start.attestation.key)
    assert faults(start, Expected(keys=[key])) == []
    # QEMU's own firmware measures no kernel; the appliance's disk under UEFI does (attack_appliance.py).
    assert "another kernel than the image's was started" in faults(start, Expected(kernels={"0" * 64}))
    told = bunker("verify", str(run.out), "--tpm-key", key)
    assert told.returncode == 0, told.stdout
    refused = bunker("verify", str(run.out), "--tpm-key", "0" * 64)
    assert refused.returncode == 1
    assert b"another TPM's key signed" in refused.stdout


def test_no_canary_is_in_the_output_or_on_the_disk(run: Running) -> None:
    assert search_tree(run.out, CANARIES, shortest=6) == []
    assert search_tree(run.work, CANARIES, shortest=6) == []


def test_the_key_is_overwritten_before_the_power_goes_off(run: Running, image: Image) -> None:
    if run.line.log is None:
        pytest.skip("a sealed kernel has no console to say so")
    lines = [line.split("bunker: ")[1] for line in run.line.log.read_text().splitlines() if "bunker: " in line]
    assert lines.index("the box ended with status 0") < lines.index("the spool's key is overwritten")
    assert any("memory overwritten" in line for line in lines)


def test_the_spool_disk_is_noise(run: Running, capture: Path) -> None:
    written, readable = readable_blocks(run.spool)
    assert written > 50
    assert readable == 0
    # The control: what the method says of a disk that is not encrypted.
    assert readable_blocks(capture)[1] > 0


def test_a_way_of_running_it_is_taken_if_the_image_starts_under_it(image: Image) -> None:
    """What decides between KVM and TCG, asked about TCG: the image must end by itself when it gets no run disk."""
    assert ends_by_itself(image, Acceleration.TCG, timeout_s=BOOT_S)
    # The controls: a machine that hangs, and one that QEMU does not start.
    assert not ends_by_itself(image, Acceleration.TCG, timeout_s=1)
    assert not ends_by_itself(image, Acceleration.TCG, timeout_s=BOOT_S, root=image.directory / "none")
