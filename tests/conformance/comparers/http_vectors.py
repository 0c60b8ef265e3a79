"""Raw HTTP messages of gunicorn, llhttp and libhtp, wrapped into TCP flows, beside our HTTP transactions."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from conversations import CLIENT, FIRST_PORT, SERVER, write_conversations
from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer
from zeeklog import unescaped

from bunker.api.http import FACTS, Anomaly

Turns = Sequence[tuple[int, bytes]]


def _told(conversations: Sequence[Turns]) -> list[list[Row]]:
    """Our transactions of each conversation."""
    with tempfile.TemporaryDirectory() as folder:
        found = dissected(write_conversations(Path(folder) / "wrapped.pcap", conversations), verify=True)
        dissected.cache_clear()  # the next case's file has the same name
    by_port: dict[int, list[Row]] = {}
    for row in found.rows("http"):
        # The client may be the flow's responder; the port of ours is the one that is not 80.
        port = row["id.orig_p"] if row["id.orig_p"] >= FIRST_PORT else row["id.resp_p"]
        by_port.setdefault(port, []).append(row)
    return [by_port.get(FIRST_PORT + number, []) for number in range(len(conversations))]


def _anomalies(rows: list[Row]) -> Anomaly:
    """What is odd about the messages themselves, not about what was seen of them."""
    found = Anomaly(0)
    for row in rows:
        found |= Anomaly(row["flags"])
    return found & ~FACTS


def _body(row: Row, side: str) -> bytes:
    return base64.b64decode(row.get(f"{side}_body", ""))


def _head_fields(head: bytes) -> list[tuple[str, str]]:
    """Names and values of a raw head, folded lines joined."""
    lines: list[str] = []
    for line in re.split(r"\r?\n", head.decode("latin-1"))[1:]:
        if line[:1] in (" ", "\t") and lines:
            lines[-1] += " " + line.strip()
        elif line:
            lines.append(line)
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.append((name.strip().upper(), value.strip()))
    return fields


# ---- gunicorn ----


@comparer("http", "expected.json", source="gunicorn")
def gunicorn(case: Case) -> Iterator[Finding]:
    """Method, target, version, headers and body; a request that gunicorn refuses is flagged, or is no request."""
    path = case.expected("expected.json")
    assert path is not None
    expected = json.loads(path.read_text(encoding="utf-8"))
    [rows] = _told([[(CLIENT, case.path.read_bytes())]])
    if not expected["valid"]:
        if rows and not _anomalies(rows) and not any(row["flags"] & Anomaly.TRUNCATED for row in rows):
            yield Mismatch(fact="refused", expected=expected["error"], ours=str(Anomaly(rows[0]["flags"])))
        return
    wanted = expected["requests"]
    if len(wanted) != len(rows):
        yield Mismatch(fact="transactions", expected=len(wanted), ours=len(rows))
    for number, (one, row) in enumerate(zip(wanted, rows, strict=False)):
        yield from _same_request(one, row, f"request {number + 1}")


def _same_request(one: dict[str, Any], row: Row, where: str) -> Iterator[Mismatch]:
    facts: dict[str, tuple[Any, Any]] = {
        "method": (one["method"], row.get("method")),
        "uri": (one["uri"].encode("latin-1"), unescaped(row.get("uri") or "")),
        "version": (".".join(map(str, one["version"])), row.get("version")),
        "body": (one["body"].encode("latin-1"), _body(row, "req")),
        "headers": (
            [(name, _blanks(value)) for name, value in one["headers"]],
            [(name, _blanks(value)) for name, value in _head_fields(base64.b64decode(row["req_head"]))],
        ),
    }
    for fact, (wanted, ours) in facts.items():
        if wanted != ours:
            yield Mismatch(fact=fact, expected=wanted, ours=ours, where=where)


def _blanks(value: str) -> str:
    return " ".join(value.split())


# ---- llhttp ----


@dataclass
class _Message:
    """One message of a log of parse events."""

    spans: dict[str, str] = field(default_factory=dict)
    body: int = 0
    status: int | None = None
    complete: bool = False


@dataclass
class _Vector:
    title: str
    is_request: bool
    content: bytes
    messages: list[_Message]
    error: str | None


def _unescaped(text: str) -> bytes:
    """The rules of llhttp's tests: a backslash at a line's end joins, line ends are CRLF, escapes are escapes."""
    text = re.sub(r"\\(\r\n|\r|\n)", "", text)
    text = re.sub(r"\r\n|\r|\n", "\r\n", text)
    for escape, char in (("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")):
        text = text.replace(escape, char)
    content = text.encode("utf-8")
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), content)


def _messages(log: str) -> tuple[list[_Message], str | None]:
    messages: list[_Message] = []
    error = None
    for line in log.splitlines():
        if "message begin" in line:
            messages.append(_Message())
        elif match := re.search(r'len=(\d+) span\[(\w+)\]="?(.*?)"?$', line):
            length, name, text = int(match[1]), match[2], match[3]
            if name == "body":
                messages[-1].body += length
            elif not name.startswith(("header", "chunk")):
                messages[-1].spans[name] = messages[-1].spans.get(name, "") + text
        elif match := re.search(r"headers complete.*?status=(\d+)", line):
            messages[-1].status = int(match[1])
        elif "message complete" in line:
            messages[-1].complete = True
        elif match := re.search(r'error code=\d+ reason="([^"]*)"', line):
            error = match[1]
    return messages, error


@cache
def _vectors(path: Path) -> tuple[_Vector, ...]:
    text = path.read_text(encoding="utf-8")
    found = []
    block = r"((?:(?!```).)*?)"
    pattern = re.compile(rf"<!-- meta=(\{{[^}}]*\}}) ?-->\s*```http\n{block}\n?```\s*```log\n{block}```", re.DOTALL)
    for match in pattern.finditer(text):
        messages, error = _messages(match[3])
        titles = re.findall(r"^#+ (.+)$", text[: match.start()], re.MULTILINE)
        kind = json.loads(match[1])["type"]
        content = _unescaped(match[2])
        found.append(_Vector(titles[-1] if titles else "", kind.startswith("request"), content, messages, error))
    return tuple(found)


# llhttp stops where another protocol begins and calls that an error.
_PAUSES = ("Pause on CONNECT/Upgrade", "Pause on PRI/Upgrade")


@comparer("http", source="llhttp")
def llhttp(case: Case) -> Iterator[Finding]:
    """Method, target, version, status and body length; what llhttp refuses is flagged, or is no message."""
    vectors = _vectors(case.path)
    told = _told([[(CLIENT if one.is_request else SERVER, one.content)] for one in vectors])
    for one, rows in zip(vectors, told, strict=True):
        if one.error is not None and one.error not in _PAUSES:
            if rows and not _anomalies(rows):
                yield Mismatch(fact=f"refused: {one.error}", expected="a flag", ours=None, where=one.title)
            continue
        whole = [message for message in one.messages if message.spans]
        if len(whole) != len(rows):
            yield Mismatch(fact=f"transactions: {one.title}", expected=len(whole), ours=len(rows))
            continue
        for message, row in zip(whole, rows, strict=True):
            yield from _same_message(one, message, row)


def _same_message(one: _Vector, message: _Message, row: Row) -> Iterator[Mismatch]:
    side = "request" if one.is_request else "response"
    facts: dict[str, tuple[Any, Any]] = {
        "version": (message.spans.get("version", "0.9"), row.get("version")),
        "body_len": (message.body, row[f"{side}_body_len"]),
    }
    if one.is_request:
        facts["method"] = (message.spans.get("method"), row.get("method"))
        facts["uri"] = (message.spans.get("url"), row.get("uri"))
    else:
        facts["status_code"] = (message.status, row.get("status_code"))
        facts["status_msg"] = (message.spans.get("status") or None, row.get("status_msg"))
    for fact, (wanted, ours) in facts.items():
        if wanted != ours:
            yield Mismatch(fact=f"{fact}: {one.title}", expected=wanted, ours=ours)


# ---- libhtp ----


def _turns(content: bytes) -> list[tuple[int, bytes]]:
    """`>>>` begins what the client sent, `<<<` what the server sent; the line end before a mark belongs to the mark."""
    turns: list[tuple[int, bytes]] = []
    marks = list(re.finditer(rb"(?:^|\r?\n)(>>>|<<<)[^\r\n]*\r?\n|(>>>|<<<)\r\n", content))
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        end = after.start() if after else len(content)
        side = CLIENT if b">>>" in mark[0] else SERVER
        turns.append((side, content[mark.end() : end]))
    return turns


_HTP_FLAGS = {
    "HTP_HOST_MISSING": Anomaly.NO_HOST,
    "HTP_HOST_AMBIGUOUS": Anomaly.AMBIGUOUS_HOST,
    "HTP_REQUEST_SMUGGLING": Anomaly.LENGTH_AND_CODING | Anomaly.DIFFERENT_LENGTHS | Anomaly.REPEATED_LENGTH,
    "HTP_REQUEST_INVALID_T_E": Anomaly.ODD_TRANSFER_CODING,
    "HTP_REQUEST_INVALID_C_L": Anomaly.BAD_LENGTH,
    "HTP_REQUEST_INVALID": ~FACTS,
    "HTP_HOST_INVALID": Anomaly.BAD_HOST,
    "HTP_HOSTU_INVALID": Anomaly.BAD_HOST,
    "HTP_HOSTH_INVALID": Anomaly.BAD_HOST,
    "HTP_AUTH_INVALID": Anomaly.BAD_AUTHORIZATION,
    "HTP_PATH_UTF8_OVERLONG": Anomaly.OVERLONG_UTF8,
    "HTP_CONN_PIPELINED": Anomaly.PIPELINED,
}
_Get = Callable[[Row], Any]


def _hostname(row: Row) -> str | None:
    host = row.get("host")
    if host is None:
        return None
    match = re.match(r"(\[[^\]]*\]?|[^:]*)", host)
    return match[1].lower() if match else None


_HTP_VALUES: dict[str, _Get] = {
    "request_method": lambda row: row.get("method"),
    "request_uri": lambda row: row.get("uri"),
    "request_hostname": _hostname,
    "parsed_uri.hostname": _hostname,
    "request_auth_username": lambda row: row.get("username"),
    "response_status_number": lambda row: row.get("status_code"),
    "response_entity_len": lambda row: row["response_body_len"],
    "is_protocol_0_9": lambda row: int(bool(row["flags"] & Anomaly.VERSION_09)),
}


def _request_seen(row: Row) -> bool:
    return row.get("method") is not None


def _response_complete(row: Row) -> bool:
    flags = Anomaly(row["flags"])
    return not flags & Anomaly.NO_RESPONSE


def _fact(line: str, row: Row, name: str) -> tuple[str, Any, Any] | None:
    """(fact, expected, ours) of one line about a transaction, if it is one that we have a word for."""
    line = line.replace(f"{name}.", "tx.", 1)
    if match := re.fullmatch(r"tx\.([a-z_.0-9]+) == (.+)", line):
        attribute, text = match[1], match[2]
        if attribute == "request_progress" and text == "HTP_REQUEST_COMPLETE":
            return "request", True, _request_seen(row)
        if attribute == "response_progress" and text == "HTP_RESPONSE_COMPLETE":
            return "response", True, _response_complete(row)
        if attribute in _HTP_VALUES:
            return attribute, json.loads(text), _HTP_VALUES[attribute](row)
    if (match := re.fullmatch(r"tx\.([a-z_.]+) is (present|absent)", line)) and match[1] in _HTP_VALUES:
        return match[1], match[2], "absent" if _HTP_VALUES[match[1]](row) is None else "present"
    if (match := re.fullmatch(r"(not \()?tx\.flags has (HTP_\w+)\)?", line)) and match[2] in _HTP_FLAGS:
        has = bool(Anomaly(row["flags"]) & _HTP_FLAGS[match[2]] & ~FACTS)
        return match[2], match[1] is None, has
    if line in (f"{name} is complete", "tx is complete"):
        return "complete", True, _request_seen(row) and _response_complete(row)
    return None


@comparer("http", "facts.txt", source="libhtp")
def libhtp(case: Case) -> Iterator[Finding]:
    """What libhtp asserts: number, method, target, host, user, status, lengths, completeness, anomalies."""
    path = case.expected("facts.txt")
    assert path is not None
    [rows] = _told([_turns(case.path.read_bytes())])
    names: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"number of transactions == (\d+)", line):
            if int(match[1]) != len(rows):
                yield Mismatch(fact="transactions", expected=int(match[1]), ours=len(rows))
        elif match := re.fullmatch(r"\[(\w+) = transaction (\d+)\]", line):
            names[match[1]] = int(match[2])
        else:
            yield from _about_transaction(line, rows, names)


def _about_transaction(line: str, rows: list[Row], names: dict[str, int]) -> Iterator[Mismatch]:
    match = re.match(r"(?:not \()?(\w+)[. ]", line)
    if match is None or match[1] not in names:
        return
    number = names[match[1]]
    if number >= len(rows):
        yield Mismatch(fact="transactions", expected=number + 1, ours=len(rows), where=line)
        return
    found = _fact(line, rows[number], match[1])
    if found is not None and found[1] != found[2]:
        yield Mismatch(fact=found[0], expected=found[1], ours=found[2], where=match[1])
