"""The bench's experiments are valid, and a run whose records do not add up is called out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bunker.cli.bench import analysis
from bunker.cli.bench.peers import Cost, peer
from bunker.cli.bench.traffic import trace
from bunker.experiment.file import read_experiment


@pytest.mark.parametrize("variant", analysis.VARIANTS, ids=lambda variant: variant.record)
def test_experiment_of_each_variant_is_valid(variant: object, tmp_path: Path) -> None:
    file = analysis.write_experiment(tmp_path / "x", variant, lanes=2, spool_mb=64)
    experiment, _ = read_experiment(file)
    assert experiment.lanes == 2 and experiment.analyzers == (variant.analyzer,)  # type: ignore[attr-defined]
    policy = tomllib.loads((file.parent / "policy.toml").read_text())
    assert list(policy["out"]) == [variant.record]  # type: ignore[attr-defined]


def _run(found: int | None, *, exit_code: int = 0, cpu: float = 2.0) -> object:
    cost = Cost(exit_code=exit_code, wall_s=4.0, cpu_s=cpu, peak_bytes=3 << 20, output="")
    return analysis.Run(cost=cost, found=found)


def test_row_has_rates_and_says_whether_all_was_found(tmp_path: Path) -> None:
    traced = trace(tmp_path, "close", 10)
    row = analysis._row("x", traced, [_run(10), _run(10), _run(10, cpu=9.0)], counts_requests=True)
    assert dict(zip(analysis.COLUMNS, row, strict=True)) == {
        "program": "x", "requests": 10, "CPU s": 2.0, "wall s": 4.0, "requests/CPU s": 5.0, "requests/s": 2.5,
        "packets/CPU s": 40.0, "peak MiB": 3.0, "found": "all",
    }  # fmt: skip


def test_row_calls_out_what_is_missing_or_failed(tmp_path: Path) -> None:
    traced = trace(tmp_path, "close", 10)
    assert analysis._row("x", traced, [_run(10), _run(9)], counts_requests=True)[-1] == "9 of 10"
    assert analysis._row("x", traced, [_run(None, exit_code=1)], counts_requests=True)[-1] == "failed"
    assert analysis._row("x", traced, [_run(None)], counts_requests=False)[-1] == "no HTTP records"


def test_stages_add_up_to_the_whole_run(tmp_path: Path) -> None:
    traced = trace(tmp_path, "close", 10)
    by_name = {"bunker-worker": 0.5, "bunker-capturer": 0.25, "something": 9.0}
    cost = Cost(exit_code=0, wall_s=4.0, cpu_s=2.0, peak_bytes=3 << 20, output="", cpu_by_name=by_name)
    rows = [dict(zip(analysis.STAGE_COLUMNS, row, strict=True)) for row in analysis.stage_rows(
        "x", traced, [analysis.Run(cost=cost, found=10)])]  # fmt: skip
    assert [row["CPU s"] for row in rows] == [0.25, 0.5, 0.0, 0.0, 1.25]
    worker = rows[1]
    assert worker["requests/CPU s"] == 20.0 and worker["packets/CPU s"] == 160.0 and worker["share"] == "25%"
    assert rows[2]["requests/CPU s"] is None
    failed = analysis.stage_rows("x", traced, [_run(None, exit_code=1)])  # type: ignore[list-item]
    assert all(row[2] is None for row in failed)


def test_records_are_counted_over_all_parts(tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(pa.table({"count": [1, 2, number]}), tmp_path / f"part-{number}.parquet")
    assert analysis._rows(tmp_path) == 9 and analysis._summed(tmp_path) == 12
    assert analysis._rows(tmp_path / "none") == 0


@pytest.mark.skipif(peer("tshark").maybe_version() is None, reason="tshark is not installed")
def test_tshark_finds_all_requests_of_a_trace(tmp_path: Path) -> None:
    traced = trace(tmp_path, "keepalive", 150)
    run = analysis.run_peer(tmp_path, "tshark", traced)
    assert run.found == 150 and run.cost.cpu_s > 0
