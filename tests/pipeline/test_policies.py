"""Policies in real runs: the shipped studies, thresholds in both modes, epochs, aggregates from inside of the jail."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes import EXAMPLE, POLICY, ROOT, TRAFFIC, bunker, counters, rows, study

DNS = ROOT / "examples" / "dns-study" / "experiment.toml"
MAIL = ROOT / "examples" / "mail-study" / "experiment.toml"
TOPK = """
[gate]
unit = "orig_h"
[out.http]
orig = {{ do = "tag", from = "orig_h" }}
site = {{ do = "topk", from = "user_agent", k = {k}, other = "rare" }}
"""
AGGREGATE = """
[privacy]
epsilon = 100.0
rows_per_unit = 1000
[aggregate.methods]
of = "http"
do = "count"
by = "method"
keys = ["GET", "POST", "TRACE"]
epsilon = 100.0
"""


@pytest.mark.parametrize("experiment", [DNS, MAIL, EXAMPLE / "experiment.toml"], ids=["dns", "mail", "web"])
def test_a_shipped_study_is_checked_and_says_what_is_learnt(experiment: Path) -> None:
    done = bunker("check", str(experiment), "--bits", "--rate", "500", "--known", "7")
    told = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "What an attacker learns" in told and "MB a day" in told


def test_the_dns_study_waits_and_shows_no_name_that_few_ask_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bunker("run", str(DNS), "--read", str(TRAFFIC), "-o", str(out))
    assert done.returncode == 0, done.stderr
    seen = rows(out, "dns")
    assert len(seen) == counters(out)["records_released"] > 0
    assert all(len(str(row["domain"]).split(".")[0]) == 32 for row in seen if row["domain"] is not None)


@pytest.mark.parametrize(("mode", "box"), [("continuous", "process"), ("deferred", "process"), ("continuous", "none")])
def test_thresholds_hold_in_both_modes(mode: str, box: str, tmp_path: Path) -> None:
    shown: dict[int, set[str]] = {}
    for k in (2, 4000):
        one = study(tmp_path / f"s{k}", policy=POLICY + TOPK.format(k=k), mode=mode)
        out = tmp_path / f"out{k}"
        done = one.run(out, "--read", str(TRAFFIC), "--closed-box", box)
        assert done.returncode == 0, done.stderr
        seen = rows(out, "http")
        shown[k] = {str(row["site"]) for row in seen}
        clients = {site: {row["orig"] for row in seen if row["site"] == site} for site in shown[k] - {"rare", "None"}}
        assert all(len(of_site) >= k for of_site in clients.values())
    assert shown[2] - {"rare", "None"}, "agents that two clients share are shown"
    assert shown[4000] <= {"rare", "None"}


def test_an_aggregate_leaves_the_jail_with_noise(tmp_path: Path) -> None:
    one = study(tmp_path / "s", policy=POLICY + AGGREGATE)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    numbers = {row["key"]: row for row in rows(out, "methods")}
    assert set(numbers) == {"GET", "POST", "TRACE"}
    assert numbers["GET"]["noise_scale"] == 10.0
    assert numbers["GET"]["value"] > 20
    assert abs(numbers["TRACE"]["value"]) < 400, "exp(-40) is the chance of more"
    assert not (out / "records" / "http").exists()


SAMPLED = """
[gate]
delay = "window"
sample = { http = { share = 0.3 } }
[out.http]
client = { do = "tag", from = "orig_h" }
number = { do = "enum", from = "orig_h" }
order = { do = "enum", from = "ts" }
since = { do = "rel", from = "ts", grain = "1s" }
size = { do = "noise", from = "response_body_len", scale = 1000 }
format = { do = "const", from = "method", value = "2" }
"""


@pytest.mark.parametrize("box", ["process", "none"])
def test_a_sample_of_clients_leaves_and_the_rest_is_counted(box: str, tmp_path: Path) -> None:
    one = study(tmp_path / "s", policy=POLICY + SAMPLED, analyzers=("http",))
    out = tmp_path / "out"
    done = one.run(out, "--read", str(TRAFFIC), "--closed-box", box)
    assert done.returncode == 0, done.stderr
    seen, found = rows(out, "http"), counters(out)
    assert len(seen) == found["records_released"]
    assert found["records_released"] + found["records_sampled_out"] == found["records_emitted"] > 0
    pairs = {(row["client"], row["number"]) for row in seen}
    assert len(pairs) == len({client for client, _ in pairs}) == len({number for _, number in pairs})
    assert {number for _, number in pairs} == set(range(1, len(pairs) + 1))
    assert {row["order"] for row in seen} == set(range(1, len({row["order"] for row in seen}) + 1))
    assert all(row["format"] == "2" and row["size"] >= 0 for row in seen)
    told = bunker("verify", str(out)).stdout.decode()
    assert f"withheld     {found['records_sampled_out']} rows not in the policy's sample" in told
