"""DNS as tcpdump prints it, DNS and SMTP as ipfixprobe exports them, beside our rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer

# A query, and a reply with -vv: identifier, flags, question, numbers of records, size in brackets.
_QUESTION = re.compile(r" (\d+)[+%|$*-]*(?: \[\S+\])*(?: q:)? (\w+)\? (\S+?)\.? .*?\((\d+)\)\s*$")
_REPLY = re.compile(r" (\d+)(?: [A-Za-z]\w*)?[*|$-]*(?: q: \w+\? \S+)? (\d+)/(\d+)/(\d+) ?.*?\((\d+)\)\s*$")


def _packets(text: str) -> Iterator[str]:
    """One line a packet: what -v puts on lines of its own belongs to the one before."""
    lines: list[str] = []
    for line in text.splitlines():
        if re.match(r"\s*\d+  \S", line):
            if lines:
                yield " ".join(lines)
            lines = []
        lines.append(line.strip())
    if lines:
        yield " ".join(lines)


def _printed(case: Case) -> Path | None:
    found = (case.expected(f"tcpdump-{level}.out") for level in ("plain", "v", "vv"))
    return next((path for path in found if path is not None), None)


@comparer("dns", source="tcpdump", applies=lambda case: "dns" in case.words and _printed(case) is not None)
def tcpdump_dns(case: Case) -> Iterator[Finding]:
    """Each query's identifier, type, name and size; each reply's identifier, number of answers and size."""
    path = _printed(case)
    assert path is not None
    rows = dissected(case.path, verify=False).rows("dns")
    queries = {(row["trans_id"], row.get("qtype_name"), row.get("query"), row.get("query_bytes")) for row in rows}
    replies = {(row["trans_id"], row.get("answer_count"), row.get("reply_bytes")) for row in rows}
    seen = 0
    for packet in _packets(path.read_text(encoding="utf-8", errors="replace")):
        if reply := _REPLY.search(packet):
            seen += 1
            told = (int(reply[1]), int(reply[2]), int(reply[5]))
            if told not in replies:
                yield Mismatch(fact="reply", expected=told, ours=sorted(replies, key=str))
        elif query := _QUESTION.search(packet):
            seen += 1
            asked = (int(query[1]), query[2], query[3].lower(), int(query[4]))
            if asked not in queries:
                yield Mismatch(fact="query", expected=asked, ours=sorted(queries, key=str))
    if seen == 0 and rows:
        yield Mismatch(fact="messages", expected="as tcpdump prints them", ours=len(rows))


def _records(case: Case) -> list[dict[str, str]]:
    """Rows of the export by field name; the line with the names stands last."""
    path = case.expected("flows.csv")
    if path is None:
        return []
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    names = next(line for line in lines if line[0].startswith("ipaddr "))
    keys = [name.split(" ", 1)[1] for name in names]
    return [dict(zip(keys, line, strict=False)) for line in lines if line is not names]


def _bare(text: str) -> str:
    return text.strip().strip("<>")


@comparer("dns", "flows.csv", source="ipfixprobe", applies=lambda case: "dns" in case.words)
def ipfixprobe_dns(case: Case) -> Iterator[Finding]:
    """Each record's identifier, name, type and code are those of one of our exchanges."""
    rows = dissected(case.path, verify=False).rows("dns")

    def ours(row: Row) -> tuple[str, ...]:
        return (str(row["trans_id"]), row.get("query", ""), str(row.get("qtype", "")), str(row.get("rcode", 0)))

    known = {ours(row) for row in rows}
    for record in _records(case):
        told = (record["DNS_ID"], record["DNS_NAME"].lower(), record["DNS_QTYPE"], record["DNS_RCODE"])
        if told not in known:
            yield Mismatch(fact="exchange", expected=told, ours=sorted(known))


@comparer("mail", "flows.csv", source="ipfixprobe", applies=lambda case: "smtp" in case.words)
def ipfixprobe_smtp(case: Case) -> Iterator[Finding]:
    """Name of the client, first sender, first recipient."""
    rows = dissected(case.path, verify=False).rows("mail")
    for record in _records(case):
        told = (record["SMTP_DOMAIN"], _bare(record["SMTP_FIRST_SENDER"]), _bare(record["SMTP_FIRST_RECIPIENT"]))
        known = [(row.get("helo"), row.get("mailfrom"), next(iter(row.get("rcptto", [])), None)) for row in rows]
        if told not in known:
            yield Mismatch(fact="envelope", expected=told, ours=known)
