"""Over many flows: output with faults in some = output without, minus exactly those flows.

`make test` has 20,000 flows; `make test-faults` sets BUNKER_FLOWS=100000.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from boxes import balanced, bunker, counters
from faulty import KINDS, faulty_study, make_trace, released

FLOWS = int(os.environ.get("BUNKER_FLOWS", "20000"))
FAULTS = 12
SPOOL = f"{64 + FLOWS * 2 // 1000}MB"
"""The trace lasts moments: its flows stay open to its end, and a restart needs the blocks they began in."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(tmp_path_factory.mktemp("many") / "t.pcap", FLOWS)


@pytest.fixture(scope="module")
def whole(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many-whole")
    done = faulty_study(folder / "s", "exit", set(), spool=SPOOL).run(folder / "out", "--read", str(trace))
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.parametrize("kind", ["exception", "segfault"])
def test_faults_cost_their_flows_and_no_other(kind: str, trace: Path, whole: Path, tmp_path: Path) -> None:
    seen, ended = released(whole, "seen"), released(whole, "ended")
    flows = sorted({(row[0], row[1]) for row in seen})
    assert len(flows) == FLOWS
    guilty = set(random.Random(kind).sample(flows, FAULTS))
    out = tmp_path / "out"
    done = faulty_study(tmp_path / "s", kind, guilty, spool=SPOOL).run(out, "--read", str(trace))
    assert done.returncode == 0, done.stderr
    assert bunker("verify", str(out)).returncode == 0
    assert released(out, "seen") == [row for row in seen if (row[0], row[1]) not in guilty]
    marked = released(out, "ended")
    assert [row for row in marked if (row[0], row[1]) not in guilty] == [
        row for row in ended if (row[0], row[1]) not in guilty
    ]
    assert {(row[0], row[1]): row[-2:] for row in marked if (row[0], row[1]) in guilty} == dict.fromkeys(
        guilty, (KINDS[kind][1], "erroneous")
    )
    assert balanced(counters(out))
    assert counters(out)["flows_erroneous"] == FAULTS
