"""HTTP in Arkime's sessions and nDPI's flows, beside our HTTP transactions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer


def _sessions(case: Case) -> list[dict[str, Any]]:
    path = case.expected("arkime.json")
    if path is None:
        return []
    return [session["body"] for session in json.loads(path.read_text(encoding="utf-8"))["sessions3"]]


def _ends(row: Row) -> frozenset[tuple[str, int]]:
    return frozenset([(row["id.orig_h"], row["id.orig_p"]), (row["id.resp_h"], row["id.resp_p"])])


def _has_http(case: Case) -> bool:
    return any(session.get("http", {}).get("method") for session in _sessions(case))


@comparer("http", "arkime.json", source="arkime", applies=_has_http)
def arkime(case: Case) -> Iterator[Finding]:
    """By session: methods and how often, statuses, hosts, paths, user agents, hashes of bodies."""
    ours: dict[frozenset[tuple[str, int]], list[Row]] = {}
    for row in dissected(case.path, verify=case.verifies_checksums).rows("http"):
        ours.setdefault(_ends(row), []).append(row)
    for number, session in enumerate(_sessions(case)):
        if not session.get("http", {}).get("method"):
            continue
        ends = frozenset((session[end]["ip"], session[end]["port"]) for end in ("source", "destination"))
        yield from _same_session(session["http"], ours.get(ends, []), f"session {number + 1}")


def _same_session(http: dict[str, Any], rows: list[Row], where: str) -> Iterator[Mismatch]:
    def values(name: str) -> set[Any]:
        return {row[name] for row in rows if name in row}

    facts: dict[str, tuple[set[Any], set[Any]]] = {
        "method": (set(http.get("method", [])), values("method")),
        "status_code": (set(http.get("statuscode", [])), values("status_code") | values("info_code")),
        "user_agent": (set(http.get("useragent", [])), values("user_agent")),
        # The host of a CONNECT is none of Arkime's.
        "host": (
            {_host(host) for host in http.get("host", [])},
            {_host(row["host"]) for row in rows if "host" in row and row.get("method") != "CONNECT"},
        ),
        "path": (
            {path for path in http.get("path", []) if path.startswith("/")},
            {_path(value) for value in values("uri") if _path(value).startswith("/")},
        ),
    }
    for fact, (wanted, found) in facts.items():
        if wanted != found:
            yield Mismatch(fact=fact, expected=sorted(wanted), ours=sorted(found), where=where)
    for method in http.get("method", []):
        wanted_count = http.get(f"method-{method}")
        count = sum(row.get("method") == method for row in rows)
        if wanted_count is not None and wanted_count != count:
            yield Mismatch(fact="transactions", expected=wanted_count, ours=count, where=f"{where} {method}")
    for name in ("md5", "sha256"):
        told = {row.get(f"{side}_{name}") for row in rows for side in ("orig", "resp")}
        if missing := set(http.get(name, [])) - told:
            yield Mismatch(fact=name, expected=sorted(missing), ours=sorted(filter(None, told)), where=where)


def _host(value: str) -> str:
    return re.sub(r":\d+$", "", value).lower()


def _path(uri: str) -> str:
    return re.sub(r"^https?://[^/?#]*", "", uri).partition("?")[0]


_LINE = re.compile(r"^\s*\d+\s+(?:TCP|UDP) (\S+):(\d+) <?->? (\S+):(\d+) \[proto: ([^\]]*)\](.*)$")


def _ndpi_flows(case: Case) -> Iterator[tuple[frozenset[tuple[str, int]], str]]:
    path = case.expected("ndpi.out")
    if path is None:
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.match(line)
        if match and "[URL: " in match[6]:
            ends = [(match[1].strip("[]"), int(match[2])), (match[3].strip("[]"), int(match[4]))]
            yield frozenset(ends), match[6]


@comparer("http", "ndpi.out", source="ndpi", applies=lambda case: bool(list(_ndpi_flows(case))))
def ndpi(case: Case) -> Iterator[Finding]:
    """By flow: URL, status and user agent of its first request."""
    ours: dict[frozenset[tuple[str, int]], list[Row]] = {}
    for row in dissected(case.path, verify=case.verifies_checksums).rows("http"):
        ours.setdefault(_ends(row), []).append(row)
    for ends, text in _ndpi_flows(case):
        where = str(sorted(ends))
        rows = ours.get(ends)
        if not rows:
            yield Mismatch(fact="transactions", expected="at least 1", ours=0, where=where)
            continue
        said = dict(re.findall(r"\[(URL|StatusCode|User-Agent): ([^\]]*)\]", text))
        url = said.get("URL", "")
        uri, host = rows[0].get("uri") or "", rows[0].get("host") or ""
        if url not in (uri, host + uri) and not (url and url in host + uri):
            yield Mismatch(fact="uri", expected=url, ours=host + uri, where=where)
        status = said.get("StatusCode")
        if status and int(status) not in {row.get("status_code") for row in rows}:
            yield Mismatch(fact="status_code", expected=status, ours=rows[0].get("status_code"), where=where)
        agent = said.get("User-Agent")
        if agent and not (rows[0].get("user_agent") or "").startswith(agent):
            yield Mismatch(fact="user_agent", expected=agent, ours=rows[0].get("user_agent"), where=where)
