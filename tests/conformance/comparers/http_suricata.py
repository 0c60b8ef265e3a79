"""Suricata's http, fileinfo and anomaly records and the signatures on HTTP buffers, beside our HTTP transactions."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corpus import Case
from dissecting import Row, dissected
from surichecks import Filter, filters
from verdicts import Finding, Mismatch, Unsupported, comparer

from bunker.api.http import Anomaly

from .http_zeek import ranges_joined

_EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_FIELDS: dict[str, Callable[[Row], object]] = {
    "http.url": lambda row: row.get("uri"),
    "http.hostname": lambda row: re.sub(r":\d*$", "", row.get("host") or ""),
    "http.status": lambda row: row.get("status_code"),
    "http.http_method": lambda row: row.get("method"),
    "http.http_user_agent": lambda row: row.get("user_agent"),
    "http.http_content_type": lambda row: (row.get("resp_content_type") or "").split(";")[0],
    "http.protocol": lambda row: base64.b64decode(row.get("req_head", "")).split(b"\r\n")[0].split(b" ")[-1].decode(),
    "http.redirect": lambda row: row.get("location"),
    "http.length": lambda row: row.get("response_body_len"),
    "http.http_refer": lambda row: row.get("referrer"),
    "dest_port": lambda row: row.get("id.resp_p"),
    "dest_ip": lambda row: row.get("id.resp_h"),
    "src_ip": lambda row: row.get("id.orig_h"),
    "src_port": lambda row: row.get("id.orig_p"),
}
# Facts of Suricata's bookkeeping, not of the traffic.
_THEIRS = frozenset({"tx_id", "pcap_cnt", "app_proto", "fileinfo.tx_id", "fileinfo.stored", "proto"})
_EVENTS = {
    "REQUEST_LINE_MISSING_PROTOCOL": Anomaly.VERSION_09,
    "UNABLE_TO_MATCH_RESPONSE_TO_REQUEST": Anomaly.NO_REQUEST,
}


def _rows(case: Case) -> list[Row]:
    return dissected(case.path, verify=case.verifies_checksums).rows("http")


def _about_http(case: Case) -> bool:
    path = case.expected("checks.yaml")
    return path is not None and any(next(filters(path, kind), None) for kind in ("http", "fileinfo")) and _is_http(case)


def _is_http(case: Case) -> bool:
    return not any(word.startswith(("smtp", "mime", "pop3", "dns", "imap")) for word in case.words)


def _http_rules(case: Case) -> bool:
    path = case.expected("rules.txt")
    return path is not None and any(_buffered(rule) for rule in _rules(path.read_text(encoding="utf-8")))


@comparer("http", "checks.yaml", source="suricata-verify", applies=_about_http)
def http_records(case: Case) -> Iterator[Finding]:
    """Number of transactions with the given URL, host, status, method, length ..."""
    path = case.expected("checks.yaml")
    assert path is not None
    rows = _rows(case)
    for one in filters(path, "http"):
        wanted = {name: value for name, value in one.match.items() if name not in _THEIRS}
        unknown = [name for name in wanted if name not in _FIELDS]
        if unknown:
            yield Unsupported(", ".join(unknown))
            continue
        ours = sum(all(_FIELDS[name](row) == value for name, value in wanted.items()) for row in rows)
        if ours != one.count:
            yield Mismatch(fact="http", expected=one.count, ours=ours, where=str(wanted))


@dataclass(frozen=True)
class _File:
    """A body, or a file in a multipart body."""

    row: Row
    content: bytes
    length: int
    gaps: bool
    truncated: bool
    sha256: str | None


def _parts(head: bytes, body: bytes) -> Iterator[bytes]:
    """Contents of the files in a multipart body."""
    boundary = re.search(rb'(?i)boundary="?([^";\r\n]+)', head)
    if boundary is None:
        return
    for part in body.split(b"--" + boundary[1])[1:]:
        part_head, separator, content = part.partition(b"\r\n\r\n")
        if separator and b"filename" in part_head.lower():
            yield content.removesuffix(b"\r\n")


def _all_files(rows: list[Row]) -> Iterator[_File]:
    for row in rows:
        for side, name, flag in (("req", "request", "orig"), ("resp", "response", "resp")):
            length = row.get(f"{name}_body_len", 0)
            if not length:
                continue
            head, body = (base64.b64decode(row.get(f"{side}_{part}", "")) for part in ("head", "body"))
            flags = Anomaly(row["flags"])
            for part in _parts(head, body):
                yield _File(row, part, len(part), False, False, None)
            yield _File(
                row, body, length, Anomaly.GAP_IN_BODY in flags, Anomaly.TRUNCATED in flags, row.get(f"{flag}_sha256")
            )


def _matches(one: _File, check: Filter) -> bool:
    tests: dict[str, Callable[[object], bool]] = {
        "fileinfo.size": lambda value: value == one.length,
        "fileinfo.gaps": lambda value: value == one.gaps,
        "fileinfo.state": lambda value: (value == "CLOSED") == (not one.gaps and not one.truncated),
        "fileinfo.sha256": lambda value: value == one.sha256,
    }
    for name, value in check.match.items():
        if name in tests and not tests[name](value):
            return False
        if name in _FIELDS and _FIELDS[name](one.row) != value:
            return False
    return True


@comparer("http", "checks.yaml", source="suricata-verify", applies=_about_http)
def files(case: Case) -> Iterator[Finding]:
    """Bodies, and files in multipart bodies, of the given size, hash and completeness."""
    path = case.expected("checks.yaml")
    assert path is not None
    rows = _rows(case)
    found = list(_all_files(rows))
    for one in filters(path, "fileinfo"):
        ours = sum(_matches(file, one) for file in found)
        size = one.match.get("fileinfo.size")
        if ours < one.count and size is not None and len(ranges_joined(rows)) == size:
            continue  # a file that came in ranges
        if ours < one.count:
            yield Mismatch(fact="file", expected=one.count, ours=ours, where=str(one.match))


@comparer(
    "http", "checks.yaml", source="suricata-verify", applies=lambda case: case.path.name.startswith("http-evader")
)
def evader(case: Case) -> Iterator[Finding]:
    """The decoded body holds the test string that a middlebox was cheated out of."""
    rows = _rows(case)
    bodies = [base64.b64decode(row.get("resp_body", "")) for row in rows]
    if not any(_EICAR in body for body in bodies):
        yield Mismatch(fact="eicar", expected=True, ours=[(len(body), body[:40]) for body in bodies])


@comparer(
    "http",
    "checks.yaml",
    source="suricata-verify",
    applies=lambda case: any(
        one.match.get("anomaly.event") in _EVENTS for one in filters(case.path.with_suffix(".checks.yaml"), "anomaly")
    ),
)
def anomalies(case: Case) -> Iterator[Finding]:
    """Anomalies that Suricata reports stand as flags on a transaction."""
    path = case.expected("checks.yaml")
    assert path is not None
    flags = [Anomaly(row["flags"]) for row in _rows(case)]
    for one in filters(path, "anomaly"):
        event = one.match.get("anomaly.event")
        if event in _EVENTS and not any(_EVENTS[event] in flag for flag in flags):
            yield Mismatch(fact="anomaly", expected=event, ours=[str(flag) for flag in flags])


# ---- signatures ----


@dataclass(frozen=True)
class _Rule:
    sid: int
    protocol: str
    to_client: bool
    to_server: bool
    contents: tuple[tuple[str, bytes, bool], ...]  # buffer, bytes, whether case matters


_STICKY = re.compile(r"^(http\.[a-z._]+|file_data|http_header_names|pkt_data)$")
_MODIFIER = {"http_uri": "http.uri", "http_raw_uri": "http.uri", "http_method": "http.method"}


def _bytes_of(content: str) -> bytes:
    out = b""
    for number, part in enumerate(content.split("|")):
        out += bytes.fromhex(part) if number % 2 else part.encode("latin-1")
    return out


def _rules(text: str) -> Iterator[_Rule]:
    for line in text.splitlines():
        match = re.match(r"(?:alert|drop) (\S+) .*?\((.*)\)\s*$", line)
        if match is None:
            continue
        contents: list[tuple[str, bytes, bool]] = []
        buffer, sid, to_client, to_server = "", 0, False, False
        for option in re.findall(r'(?:[^;"]|"[^"]*")+', match[2]):
            name, _, value = option.strip().partition(":")
            if _STICKY.match(name):
                buffer = name
            elif name == "content":
                contents.append((buffer, _bytes_of(value.strip('"')), True))
            elif name == "nocase":
                contents[-1] = (*contents[-1][:2], False)
            elif name in _MODIFIER:
                contents[-1] = (_MODIFIER[name], *contents[-1][1:])
            elif name == "sid":
                sid = int(value)
            elif name == "flow":
                to_client, to_server = "to_client" in value, "to_server" in value
        yield _Rule(sid, match[1], to_client, to_server, tuple(contents))


def _buffered(rule: _Rule) -> bool:
    return bool(rule.contents) and (rule.protocol == "http" or any(buffer for buffer, _, _ in rule.contents))


def _headers(head: bytes) -> bytes:
    return head.partition(b"\n")[2]


def _buffers(row: Row, rule: _Rule) -> Callable[[str], list[bytes]]:
    part = {name: base64.b64decode(row.get(name, "")) for name in ("req_head", "resp_head", "req_body", "resp_body")}
    sides = [side for side, wanted in (("req", rule.to_server), ("resp", rule.to_client)) if wanted] or ["req", "resp"]

    def values(buffer: str) -> list[bytes]:
        match buffer:
            case "http.uri":
                return [(row.get("uri") or "").encode("latin-1", "replace")]
            case "http.method":
                return [(row.get("method") or "").encode()]
            case "http.request_header":
                return [_headers(part["req_head"])]
            case "http.response_header":
                return [_headers(part["resp_head"])]
            case "http.request_body":
                return [part["req_body"]]
            case "http.header" | "http.header.raw" | "http_header_names":
                return [_headers(part[f"{side}_head"]) for side in sides]
            case "file_data":
                return [part[f"{side}_body"] for side in sides]
            case _:
                return [part[f"{side}_head"] + part[f"{side}_body"] for side in sides]

    return values


def _fires(rule: _Rule, row: Row) -> bool:
    values = _buffers(row, rule)
    return all(
        any((content in value) if exact else (content.lower() in value.lower()) for value in values(buffer))
        for buffer, content, exact in rule.contents
    )


@comparer("http", "rules.txt", source="suricata-verify", applies=_http_rules)
def signatures(case: Case) -> Iterator[Finding]:
    """Contents that Suricata's signatures find in HTTP buffers are in ours, and those that they do not find are not."""
    rules_path, checks = case.expected("rules.txt"), case.expected("checks.yaml")
    assert rules_path is not None
    assert checks is not None
    rows = _rows(case)
    by_sid = {rule.sid: rule for rule in _rules(rules_path.read_text(encoding="utf-8"))}
    for one in filters(checks, "alert"):
        rule = by_sid.get(one.match.get("alert.signature_id", -1))
        if rule is None or not _buffered(rule):
            continue
        ours = sum(_fires(rule, row) for row in rows)
        if bool(ours) != bool(one.count):
            yield Mismatch(fact="signature", expected=one.count, ours=ours, where=f"sid {rule.sid}")
