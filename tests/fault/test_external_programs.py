"""External analyzers: whatever a program does, it costs the flow in hand, and nothing of it gets out another way."""

from __future__ import annotations

import collections
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from boxes import POLICY, ROOT, TRAFFIC, Study, balanced, bunker, counters, events, rows, study

pytestmark = pytest.mark.root

PERL = ROOT / "examples" / "perl-score"
OUT = (
    POLICY
    + """
[out.seen]
flow = "tag"
number = { do = "keep", because = "needed here" }
[out.totals]
count = { do = "keep", because = "needed here" }
[out.flow]
uid = "tag"
outcome = { do = "keep", because = "a word of ours" }
"""
)
DECLARED = """
from bunker.api import Count, FlowId, Record, external

class Seen(Record):
    flow: FlowId
    number: Count

class Totals(Record):
    count: Count

mine = external({command!r}, message="http", emits=(Seen, Totals), {more})
"""
PROGRAM = """
import json, os, sys, time
number = 0
for line in sys.stdin:
    tx = json.loads(line)
    number += 1
    method, uri = tx.get("method"), tx.get("uri", "")
{fault}
    print(json.dumps({{"record": "seen", "flow": tx["uid"], "number": len(uri)}}))
    print(flush=True)
print(json.dumps({{"record": "totals", "count": number}}))
"""
GUILTY = 'method == "PUT"'


def program_study(folder: Path, fault: str = "", *, command: str = "", more: str = "", **settings: Any) -> Study:
    """An experiment whose analyzer is a Python program as any other language's would be: it imports nothing of ours."""
    folder.mkdir()
    body = "\n".join("    " + line for line in fault.splitlines())
    (folder / "own.py").write_text(PROGRAM.format(fault=body))
    declared = DECLARED.format(command=command or f"{sys.executable} -I -S -B own.py", more=more)
    settings = {"lanes": 1, "analysis": 'time_per_call = "1s"'} | settings
    return study(folder, analyzers=("./mine.py:mine", "flow"), policy=OUT, source=declared, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, ...]]:
    """What the program says of each flow, without a fault: lengths of its addresses."""
    folder = tmp_path_factory.mktemp("whole")
    out = folder / "out"
    done = program_study(folder / "s").run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert counters(out)["analyzer_faults"] == 0 and balanced(counters(out))
    return by_flow(out)


def by_flow(out: Path) -> list[tuple[int, ...]]:
    """The numbers of each flow, sorted; tags differ from run to run."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for row in rows(out, "seen"):
        found[row["flow"]].append(row["number"])
    return sorted(tuple(sorted(numbers)) for numbers in found.values())


def puts() -> int:
    """Flows with a PUT in the example's traffic."""
    dissected = bunker("dissect", str(TRAFFIC), "--messages", "http", "--json").stdout.splitlines()
    return len({line.split(b'"uid":"')[1].split(b'"')[0] for line in dissected if b'"method":"PUT"' in line})


FAULTS = {
    "dies": (f"if {GUILTY}: os._exit(3)", "BrokenPipeError"),
    "is killed by a signal": (f"if {GUILTY}: import ctypes; ctypes.string_at(8)", "BrokenPipeError"),
    "hangs": (f"if {GUILTY}: time.sleep(1000)", "CallTimedOut"),
    "spins": (f"while {GUILTY}: pass", "CallTimedOut"),
    "floods": (f"while {GUILTY}: print('x' * 1000)", "OverflowError"),
    "floods with one line": (f"while {GUILTY}: sys.stdout.write('x' * 1000)", "OverflowError"),
    "writes what is no record": (f"if {GUILTY}: print('what?')", "ValueError"),
    "writes an unknown field": (f"if {GUILTY}: print(json.dumps(dict(record='totals', count=1, x=2)))", "ValueError"),
    "writes another type": (f"if {GUILTY}: print(json.dumps(dict(record='totals', count='many')))", "ValueError"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_costs_its_flow_and_no_other(fault: str, whole: list[tuple[int, ...]], tmp_path: Path) -> None:
    text, exception = FAULTS[fault]
    out = tmp_path / "out"
    done = program_study(tmp_path / "s", text).run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert bunker("verify", str(out)).returncode == 0
    found = counters(out)
    guilty = puts()
    outcomes = collections.Counter(row["outcome"] for row in rows(out, "flow"))
    assert outcomes["erroneous"] == found["flows_erroneous"] == guilty > 0
    left = collections.Counter(whole) - collections.Counter(by_flow(out))
    assert sum(left.values()) == guilty, "the innocent flows have all they had, once"
    assert not collections.Counter(by_flow(out)) - collections.Counter(whole)
    said = [event for event in events(out) if event["kind"] == "analyzer_failed"]
    assert {event["exception"] for event in said} == {exception}
    assert balanced(found)


def test_what_it_says_at_its_end_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert program_study(tmp_path / "s").run(out, "--read", str(TRAFFIC)).returncode == 0
    transactions = len(bunker("dissect", str(TRAFFIC), "--messages", "http", "--json").stdout.splitlines())
    assert [row["count"] for row in rows(out, "totals")] == [transactions]


@pytest.mark.parametrize("text", ["os._exit(0)", "time.sleep(1000)"])
def test_a_program_that_fails_on_every_flow_ends_the_run(text: str, tmp_path: Path) -> None:
    one = program_study(tmp_path / "s", text, analysis='time_per_call = "100ms"')
    out = tmp_path / "out"
    assert one.run(out, "--read", str(TRAFFIC)).returncode == 1
    assert rows(out, "seen") == [], "the turn in which it failed is not committed, nor are its faults counted"
    verified = bunker("verify", str(out))
    assert verified.returncode == 1 and b"ABORTED" in verified.stdout and b"child_failed" in verified.stdout


ATTEMPTS = """
def tried(attempt):
    try:
        attempt()
    except OSError:
        return 0
    return 1

def written(path):
    with open(path, "w") as file:
        file.write("x")

import socket
harmless = [
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_UNIX),
    lambda: os.listdir("/proc"),
    lambda: os.listdir("/etc/ssl"),
]
writing = [
    lambda: written("own.py"),
    lambda: written("new"),
    lambda: written("/new"),
    lambda: written("/scratch/new"),
]
"""


def test_a_program_has_no_network_and_no_files(tmp_path: Path) -> None:
    """What it reached it says in its records, a bit each."""
    text = ATTEMPTS + "uri = '/' * sum(tried(one) << place for place, one in enumerate(harmless + writing))"
    out = tmp_path / "out"
    done = program_study(tmp_path / "s", text).run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    assert {row["number"] for row in rows(out, "seen")} == {0}


def test_outside_a_box_the_same_attempts_succeed(tmp_path: Path) -> None:
    """The control. Runs on the machine itself, as root: nothing stands here that changes anything."""
    text = ATTEMPTS + "uri = '/' * sum(tried(one) << place for place, one in enumerate(harmless))"
    out = tmp_path / "out"
    done = program_study(tmp_path / "s", text).run(out, "--read", str(TRAFFIC), "--closed-box", "none")
    assert done.returncode == 0, done.stderr
    assert {row["number"] for row in rows(out, "seen")} == {0b1111}


def test_its_files_are_those_of_the_bundle(tmp_path: Path) -> None:
    """What is changed after sealing changes nothing."""
    one = program_study(tmp_path / "s", more="files=('words.txt',)")
    (one.folder / "words.txt").write_text("four")
    own = (one.folder / "own.py").read_text()
    (one.folder / "own.py").write_text(
        own.replace("number = 0\n", "number = 0\nsize = len(open('words.txt').read())\n")
    )
    (one.folder / "own.py").write_text((one.folder / "own.py").read_text().replace("len(uri)", "size"))
    bundle = tmp_path / "one.bundle"
    assert bunker("seal", str(one.file), "-o", str(bundle)).returncode == 0
    (one.folder / "words.txt").write_text("something else")
    (one.folder / "own.py").unlink()
    out = tmp_path / "out"
    done = bunker("run", str(bundle), "--read", str(TRAFFIC), "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert {row["number"] for row in rows(out, "seen")} == {4}


def test_another_program_is_another_digest(tmp_path: Path) -> None:
    one = program_study(tmp_path / "s")
    first = bunker("seal", str(one.file), "-o", str(tmp_path / "1.bundle")).stdout
    (one.folder / "own.py").write_text((one.folder / "own.py").read_text() + "#\n")
    second = bunker("seal", str(one.file), "-o", str(tmp_path / "2.bundle")).stdout
    assert (tmp_path / "1.bundle").read_bytes() != (tmp_path / "2.bundle").read_bytes() and first != second


@pytest.mark.parametrize("box", ["process", "none"])
def test_the_perl_example_scores(box: str, tmp_path: Path) -> None:
    assert shutil.which("perl"), "Debian's perl-base has it"
    out = tmp_path / "out"
    done = bunker("run", str(PERL / "experiment.toml"), "--read", str(TRAFFIC), "-o", str(out), "--closed-box", box)
    assert done.returncode == 0, done.stderr
    transactions = bunker("dissect", str(TRAFFIC), "--messages", "http", "--json").stdout.splitlines()
    assert sum(row["count"] for row in rows(out, "methods_seen")) == len(transactions)
    assert len(rows(out, "scored")) == sum(b'"host":"' in line for line in transactions)
    assert {row["outcome"] for row in rows(out, "flow")} & {"erroneous"} == set()
