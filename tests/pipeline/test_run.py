"""`bunker run` as its users meet it: sources, modes, faults, errors, signals."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pcapfile
import pytest
import zstandard
from boxes import (
    BUNKER,
    FLOW_OUT,
    HTTP_OUT,
    POLICY,
    TRAFFIC,
    balanced,
    bunker,
    counters,
    events,
    rows,
    study,
)

TRANSACTIONS = 464
PACKETS = 3866

ONE_SITE_FAILS = """
from bunker.api import Count, Emit, Record, analyzer, http

class Seen(Record):
    depth: Count

@analyzer(emits=Seen)
def seen(tx: http.Transaction, emit: Emit) -> None:
    emit(Seen(depth=tx.trans_depth))
    if tx.host == "shop.example":
        raise KeyError(tx.uri)
"""
SEEN_OUT = """
[out.seen]
depth = { do = "keep", because = "a small number" }
"""
IN_BATCHES = """
import pyarrow as pa
import pyarrow.compute as pc
from bunker.api import Address, Count, Emit, Record, analyzer, http

class Total(Record):
    client: Address
    size: Count

@analyzer(emits=Total, batch=True)
def total(batch: http.Transaction, emit: Emit) -> None:
    table = pa.table(batch)
    large = table.filter(pc.greater(table["response_body_len"], 500))
    emit(pa.table({"client": large["orig_h"], "size": large["response_body_len"]}))
"""
TOTAL_OUT = """
[out.total]
size = { do = "keep", because = "needed here" }
"""


def test_standard_input_and_compressed_files_give_the_same(tmp_path: Path) -> None:
    content = TRAFFIC.read_bytes()
    packed = tmp_path / "t.pcapng.gz"
    packed.write_bytes(gzip.compress(content, 1))
    zstd = tmp_path / "t.pcapng.zst"
    zstd.write_bytes(zstandard.compress(content, 1))
    one = study(tmp_path / "s")
    for number, (source, stdin) in enumerate(((str(packed), None), (str(zstd), None), ("-", content))):
        out = tmp_path / f"out-{number}"
        done = one.run(out, "--read", source, stdin=stdin)
        assert done.returncode == 0, done.stderr
        assert len(rows(out, "http")) == TRANSACTIONS
        assert counters(out)["packets_analysed"] == PACKETS


def test_several_files_are_one_trace(tmp_path: Path) -> None:
    packets = list(pcapfile.read_packets(TRAFFIC))
    halves = [tmp_path / "a.pcap", tmp_path / "b.pcapng"]
    pcapfile.write_pcap(halves[0], packets[: PACKETS // 2])
    pcapfile.write_pcapng(halves[1], packets[PACKETS // 2 :])
    out = tmp_path / "out"
    assert study(tmp_path / "s").run(out, "--read", *map(str, halves)).returncode == 0
    assert len(rows(out, "http")) == TRANSACTIONS


def test_a_deferred_run_gives_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert study(tmp_path / "s", mode="deferred").run(out, "--read", str(TRAFFIC)).returncode == 0
    assert len(rows(out, "http")) == TRANSACTIONS
    assert balanced(counters(out))


def test_diagnostic_mode_gives_the_same_and_says_what_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = study(tmp_path / "s").run(out, "--closed-box", "none", "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert b"Anybody on this machine can read" in done.stderr
    assert len(rows(out, "http")) == TRANSACTIONS
    assert json.loads((out / "manifest.json").read_bytes())["tier"] == "none"


def test_a_filter_leaves_out_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert study(tmp_path / "s", capture='filter = "tcp port 8080"').run(out, "--read", str(TRAFFIC)).returncode == 0
    flows = rows(out, "flow")
    assert flows and {row["resp_p"] for row in flows} == {8080}
    found = counters(out)
    assert balanced(found)
    assert found["packets_received"] == sum(row["orig_pkts"] + row["resp_pkts"] for row in flows)


def test_a_damaged_file_is_read_to_where_it_is_damaged(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(TRAFFIC.read_bytes()[:-10_001])
    out = tmp_path / "out"
    done = study(tmp_path / "s").run(out, "--read", str(cut))
    assert done.returncode == 1
    assert b"cut.pcapng: truncated at byte " in done.stderr
    assert bunker("verify", str(out)).returncode == 0, "the run itself is whole"
    found = counters(out)
    assert found["capture_files_damaged"] == 1
    assert PACKETS * 0.9 < found["packets_analysed"] < PACKETS
    damage = [event for event in events(out) if event["kind"] == "capture_file_damaged"]
    assert [event["reason"] for event in damage] == ["truncated"]


def test_what_is_no_capture_file_is_said(tmp_path: Path) -> None:
    other = tmp_path / "letter.txt"
    other.write_bytes(b"Dear reader,\n" * 100)
    done = study(tmp_path / "s").run(tmp_path / "out", "--read", str(other))
    assert done.returncode == 1
    assert b"letter.txt: not a capture at byte 0" in done.stderr


def test_a_field_that_the_policy_does_not_name_does_not_exist(tmp_path: Path) -> None:
    out = tmp_path / "out"
    policy = POLICY + '[out.http]\nmethod = "present"\n'
    assert study(tmp_path / "s", policy=policy).run(out, "--read", str(TRAFFIC)).returncode == 0
    found = rows(out, "http")
    assert len(found) == TRANSACTIONS
    assert {tuple(row) for row in found} == {("method",)}
    assert bunker("show", str(out), "flow").returncode == 2, "a record that is not named is not there"
    assert [folder.name for folder in (out / "records").iterdir()] == ["http"]


def test_an_exception_costs_its_flow_alone(tmp_path: Path) -> None:
    policy = POLICY + HTTP_OUT + FLOW_OUT + SEEN_OUT
    one = study(
        tmp_path / "s", analyzers=("flow", "http", "./mine.py:seen"), policy=policy, source=ONE_SITE_FAILS, lanes=1
    )
    out = tmp_path / "out"
    done = one.run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    raw = bunker("dissect", str(TRAFFIC), "--json", "--messages", "flow,http").stdout.splitlines()
    messages = [json.loads(line) for line in raw]
    guilty = {m["uid"] for m in messages if m.get("host") == "shop.example"}
    innocent = [m for m in messages if m["message"] == "http" and m["uid"] not in guilty]
    assert len(rows(out, "seen")) == len(innocent) > 0
    outcomes = [row["outcome"] for row in rows(out, "flow")]
    assert outcomes.count("erroneous") == len(guilty) > 0
    assert len(outcomes) == len([m for m in messages if m["message"] == "flow"])
    faults = [event for event in events(out) if event["kind"] == "analyzer_failed"]
    assert {(f["analyzer"], f["exception"], f["line"]) for f in faults} == {("seen", "KeyError", 11)}
    assert counters(out)["analyzer_faults"] == len(faults) >= len(guilty)
    for path in out.rglob("*"):
        assert path.is_dir() or b"/cart" not in path.read_bytes(), "the message of the exception came out"


def test_an_analyzer_may_use_arrow(tmp_path: Path) -> None:
    one = study(tmp_path / "s", analyzers=("./mine.py:total",), policy=POLICY + TOTAL_OUT, source=IN_BATCHES, lanes=1)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert not events(out)
    sizes = [row["size"] for row in rows(out, "total")]
    assert sizes and min(sizes) > 500


def test_a_call_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    source = ONE_SITE_FAILS.replace("raise KeyError(tx.uri)", "while True: pass").replace(
        "shop.example", "files.example:8080"
    )
    one = study(
        tmp_path / "s",
        analyzers=("flow", "./mine.py:seen"),
        policy=POLICY + FLOW_OUT + SEEN_OUT,
        source=source,
        lanes=1,
        analysis='time_per_call = "100ms"',
    )
    out = tmp_path / "out"
    done = one.run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    faults = [event for event in events(out) if event["kind"] == "analyzer_failed"]
    assert faults and {fault["exception"] for fault in faults} == {"CallTimedOut"}
    assert len(rows(out, "seen")) > 300


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("lanes = 2", "lans = 2", ("capture.lans", "Did you mean 'lanes'")),
        ('"http"]', '"htpp"]', ("htpp", "not built in")),
        ('size = "64MB"', 'size = "64"', ("spool.size", "no size")),
        ('file = "policy.toml"', 'file = "polcy.toml"', ("polcy.toml", "cannot be read")),
        ("lanes = 2", 'lanes = 2\nfilter = "tcp prot 80"', ("capture.filter", "is no filter")),
        ("lanes = 2", "lanes = 62", ("capture.lanes", "62 lanes is out of range")),
        ('heartbeat = "200ms"', 'heartbeat = "9ms"', ("egress.heartbeat", "out of range")),
        ('file = "policy.toml"', 'file = "policy.toml"\n[analysis2]', ("analysis2", "Did you mean 'analysis'")),
    ],
)
def test_mistakes_are_named_before_the_start(tmp_path: Path, before: str, after: str, words: tuple[str, ...]) -> None:
    one = study(tmp_path / "s")
    text = one.file.read_text()
    assert before in text
    one.file.write_text(text.replace(before, after))
    done = one.run(tmp_path / "out", "--read", str(TRAFFIC))
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr.decode(), done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--read", "nowhere.pcap"), "nowhere.pcap"),
        (("--interface", "nosuch0"), "does not exist"),
        (("--interface", "lo", "--read", "x"), "one place"),
        ((), "one place"),
        (("--closed-box", "none", "--interface", "lo"), "refuses live interfaces"),
    ],
)
def test_sources_that_cannot_be_had_are_named(tmp_path: Path, options: tuple[str, ...], word: str) -> None:
    done = study(tmp_path / "s").run(tmp_path / "out", *options)
    assert done.returncode == 2
    assert word in done.stderr.decode()


def test_a_run_is_never_mixed_with_another(tmp_path: Path) -> None:
    one = study(tmp_path / "s")
    assert one.run(tmp_path / "out", "--read", str(TRAFFIC)).returncode == 0
    again = one.run(tmp_path / "out", "--read", str(TRAFFIC))
    assert again.returncode == 2
    assert b"not empty" in again.stderr


def test_a_bundle_runs_as_its_experiment(tmp_path: Path) -> None:
    one = study(tmp_path / "s")
    sealed = tmp_path / "x.bundle"
    assert bunker("seal", str(one.file), "-o", str(sealed)).returncode == 0
    digests = []
    for number, what in enumerate((one.file, sealed)):
        out = tmp_path / f"out-{number}"
        done = bunker("run", str(what), "-o", str(out), "--read", str(TRAFFIC))
        assert done.returncode == 0, done.stderr
        digests.append(json.loads((out / "manifest.json").read_bytes())["bundle"])
    assert digests[0] == digests[1]


SLOW = """
import time
from bunker.api import Count, Emit, Record, analyzer, http

class Seen(Record):
    depth: Count

@analyzer(emits=Seen)
def seen(tx: http.Transaction, emit: Emit) -> None:
    time.sleep(0.02)
    emit(Seen(depth=tx.trans_depth))
"""


def _slow_run(folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    one = study(folder / "s", analyzers=("./mine.py:seen",), policy=POLICY + SEEN_OUT, source=SLOW, lanes=1)
    out = folder / "out"
    process = subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-o", str(out), "--read", str(TRAFFIC)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 30
    while time.monotonic() < until:
        beats = out / "heartbeats.jsonl"
        if beats.exists() and len(beats.read_bytes().splitlines()) >= 3:
            return process, out
        time.sleep(0.02)
    process.kill()
    raise AssertionError("the run did not start")


def test_one_signal_ends_in_order(tmp_path: Path) -> None:
    process, out = _slow_run(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert json.loads((out / "manifest.json").read_bytes())["verdict"] == "whole"
    assert json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])["statement"]["reason"] == "interrupted"
    assert len(rows(out, "seen")) == TRANSACTIONS, "what was captured is still analysed"
    assert balanced(counters(out))


def test_two_signals_destroy(tmp_path: Path) -> None:
    process, out = _slow_run(tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1
    last = json.loads((out / "heartbeats.jsonl").read_bytes().splitlines()[-1])
    assert last["kind"] == "abort"
    assert last["statement"]["reason"] == "operator"
    found = counters(out)
    assert balanced(found)
    assert found["packets_destroyed"] > 0
    assert found["live_raw_bytes"] == 0
    assert found["keys_destroyed"] == found["keys_created"]
    assert bunker("verify", str(out)).returncode == 1, "an aborted run is not whole"


def test_a_receiver_that_vanishes_does_not_stop_the_run(tmp_path: Path) -> None:
    one = study(tmp_path / "s", analyzers=("./mine.py:seen",), policy=POLICY + SEEN_OUT, source=SLOW, lanes=1)
    place = tmp_path / "open.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        process = subprocess.Popen(
            [*BUNKER, "run", str(one.file), "--to", f"unix:{place}", "--patience", "1", "--read", str(TRAFFIC)],
            stderr=subprocess.PIPE,
        )
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.close()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1, "the last word could not be said"
    assert b"trying to reach it again" in told
    assert b"Traceback" not in told


def test_a_receiver_takes_a_run_over_a_socket(tmp_path: Path) -> None:
    place, out = tmp_path / "open.sock", tmp_path / "received"
    receiver = subprocess.Popen(
        [*BUNKER, "receive", "--listen", f"unix:{place}", "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 20
        while not place.exists() and time.monotonic() < until:
            time.sleep(0.05)
        done = bunker("run", str(study(tmp_path / "s").file), "--to", f"unix:{place}", "--read", str(TRAFFIC))
        assert done.returncode == 0, done.stderr
        time.sleep(0.5)
    finally:
        receiver.send_signal(signal.SIGTERM)
        receiver.communicate(timeout=30)
    assert bunker("verify", str(out)).returncode == 0
    assert len(rows(out, "http")) == TRANSACTIONS
