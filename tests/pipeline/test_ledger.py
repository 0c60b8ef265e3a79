"""What the programs that talked wrote down themselves is what comes out: raw by `dissect`, cleared by a run."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import pytest
from boxes import EXAMPLE, TRAFFIC, balanced, bunker, counters, rows


@pytest.fixture(scope="module")
def ledger() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLE / "traffic.ledger.json").read_text())
    return content


@pytest.fixture(scope="module")
def messages() -> dict[str, list[dict[str, Any]]]:
    found = bunker("dissect", str(TRAFFIC), "--json", "--hashes", "--messages", "flow,http,dns,tls")
    assert found.returncode == 0, found.stderr
    kinds = collections.defaultdict(list)
    for line in found.stdout.splitlines():
        message = json.loads(line)
        kinds[message["message"]].append(message)
    return kinds


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("released") / "out"
    done = bunker("run", str(EXAMPLE / "experiment.toml"), "--read", str(TRAFFIC), "-o", str(out))
    assert done.returncode == 0, done.stderr
    return out


def test_each_transaction_is_found_with_its_body(
    ledger: dict[str, Any], messages: dict[str, list[dict[str, Any]]]
) -> None:
    def agrees(entry: dict[str, Any], message: dict[str, Any]) -> bool:
        told = {
            "id.orig_h": entry["client"],
            "id.orig_p": ledger["connections"][entry["connection"]]["client_port"],
            "trans_depth": entry["depth"],
            "method": entry["method"],
            "host": entry["host"],
            "uri": entry["uri"],
            "status_code": entry["status"],
            "request_body_len": entry["request_body_len"],
            "response_body_len": entry["response_body_len"],
            "resp_sha256": entry["response_body_sha256"] if entry["response_body_len"] else None,
            "user_agent": entry["user_agent"],
            "cookie": entry["cookie"],
            "set_cookie": entry["set_cookie"],
        }
        # What a program does not tell of itself (wget its port, curl the cookies it got) is None in the ledger.
        return all(message.get(name) == value for name, value in told.items() if value is not None)

    left = list(messages["http"])
    for entry in ledger["http"]:
        match = next((message for message in left if agrees(entry, message)), None)
        assert match is not None, entry
        assert match.get("referrer") == entry["referrer"]
        left.remove(match)
    assert not left


def test_each_connection_is_a_flow(ledger: dict[str, Any], messages: dict[str, list[dict[str, Any]]]) -> None:
    web = {80, 443, 8080}
    told = collections.Counter((c["client"], c["server"], c["server_port"]) for c in ledger["connections"])
    found = collections.Counter(
        (m["id.orig_h"], m["id.resp_h"], m["id.resp_p"])
        for m in messages["flow"]
        if m["proto"] == "tcp" and m["id.resp_p"] in web
    )
    assert {key: count for key, count in told.items() if key[2] in web} == found


def test_each_query_is_found(ledger: dict[str, Any], messages: dict[str, list[dict[str, Any]]]) -> None:
    told = collections.Counter((q["client"], q["client_port"], q["name"], q["qtype"]) for q in ledger["dns"])
    found = collections.Counter((m["id.orig_h"], m["id.orig_p"], m["query"], m["qtype_name"]) for m in messages["dns"])
    assert found == told


def test_the_run_releases_as_many(ledger: dict[str, Any], released: Path) -> None:
    http = rows(released, "http")
    assert collections.Counter(row["status_code"] for row in http) == collections.Counter(
        entry["status"] for entry in ledger["http"]
    )
    assert len(rows(released, "dns")) == len(ledger["dns"])


def test_tags_keep_who_is_who_and_nothing_else(ledger: dict[str, Any], released: Path) -> None:
    by_tag = collections.Counter((row["client"], row["host"]) for row in rows(released, "http"))
    by_name = collections.Counter((entry["client"], entry["host"]) for entry in ledger["http"])
    assert sorted(by_tag.values()) == sorted(by_name.values())
    names = {name for pair in by_name for name in pair}
    assert not names & {tag for pair in by_tag for tag in pair}
    flows = {row["client"] for row in rows(released, "flow")}
    assert {client for client, _ in by_tag} <= flows, "one client has one tag in all records"


def test_forms_of_the_users_analyzer(ledger: dict[str, Any], released: Path) -> None:
    posts = [entry for entry in ledger["http"] if entry["method"] == "POST"]
    logins = sum(entry["uri"] == "/login" for entry in posts)
    forms = rows(released, "form")
    assert 0 < logins <= sum(row["secret"] for row in forms)
    assert {row["kind"] for row in forms} <= {"urlencoded", "multipart"}
    assert len(forms) <= len(posts)


def test_every_packet_is_accounted_for(released: Path) -> None:
    found = counters(released)
    assert balanced(found)
    assert found["packets_analysed"] > 0
    assert found["live_raw_bytes"] == 0
    assert found["keys_destroyed"] == found["keys_created"] > 0


def test_two_runs_have_other_tags(released: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert bunker("run", str(EXAMPLE / "experiment.toml"), "--read", str(TRAFFIC), "-o", str(out)).returncode == 0
    first, second = ({row["client"] for row in rows(run, "http")} for run in (released, out))
    assert first and second and not first & second


def test_each_handshake_is_found(ledger: dict[str, Any], messages: dict[str, list[dict[str, Any]]]) -> None:
    words = {"TLSv1.2": "TLSv12", "TLSv1.3": "TLSv13"}

    def agrees(entry: dict[str, Any], message: dict[str, Any]) -> bool:
        told = {
            "id.orig_h": entry["client"],
            "id.orig_p": entry["client_port"],
            "server_name": entry["sni"],
            "version": words.get(entry["version"]),
            "cipher": entry["cipher"] if str(entry["cipher"]).startswith("TLS_") else None,
            "resumed": entry["resumed"],
            "established": entry["established"],
            "client_alpn": entry["alpn_offered"] or None,
        }
        return all(message.get(name) == value for name, value in told.items() if value is not None)

    left = list(messages["tls"])
    for entry in ledger["tls"]:
        match = next((message for message in left if agrees(entry, message)), None)
        assert match is not None, entry
        left.remove(match)
    assert not left
