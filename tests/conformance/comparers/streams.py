"""Reassembled bytes: TCP streams and IP datagrams of tcpflow, PcapPlusPlus and Suricata beside ours, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path

from corpus import Case
from dissecting import Row, dissected
from pcapfile import Captured, write_pcap
from surichecks import filters
from verdicts import Finding, Mismatch, comparer

from .http_suricata import _Rule, _rules

Ends = tuple[str, int, str, int]
ETHERNET, RAW = 1, 101


@dataclass(kw_only=True)
class _Stream:
    """One direction: its bytes, the same with a word for each hole as Suricata writes it, and its chunks' sizes."""

    content: bytes = b""
    shown: bytes = b""
    sizes: list[int] = field(default_factory=list)


def _content(row: Row) -> bytes:
    return base64.b64decode(row.get("payload") or "")


def _streams(rows: list[Row]) -> dict[tuple[str, bool], _Stream]:
    """By flow and direction, in the order of the first chunk."""
    found: dict[tuple[str, bool], _Stream] = {}
    for row in rows:
        stream = found.setdefault((row["uid"], row["is_orig"]), _Stream())
        if row["is_gap"]:
            stream.shown += f"[{row['length']} bytes missing]".encode()
        else:
            stream.content += _content(row)
            stream.shown += _content(row)
            stream.sizes.append(row["length"])
    return found


def _chunks(case: Case) -> list[Row]:
    return dissected(case.path, verify=case.verifies_checksums).rows("chunk")


# ---- tcpflow ----

_SIDE = r"([0-9a-f.:]+?)\.(\d{5})"
_FLOW = re.compile(rf"{_SIDE}-{_SIDE}(?:--\d+)?")


def _address(text: str) -> str:
    """`074.125.019.101` to `74.125.19.101`."""
    return str(ip_address(".".join(str(int(part)) for part in text.split(".")) if ":" not in text else text))


@comparer("streams", "md5.tsv", source="tcpflow")
def tcpflow(case: Case) -> Iterator[Finding]:
    """Length and MD5 of every direction."""
    path = case.expected("md5.tsv")
    assert path is not None
    ours: dict[Ends, bytes] = {}
    streams = _streams(_chunks(case))
    for row in _chunks(case):
        orig, resp = (row["id.orig_h"], row["id.orig_p"]), (row["id.resp_h"], row["id.resp_p"])
        ends = (*orig, *resp) if row["is_orig"] else (*resp, *orig)
        ours[ends] = streams[row["uid"], row["is_orig"]].content
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        name, digest, size = line.split("\t")
        match = _FLOW.fullmatch(name)
        assert match is not None, name
        found = ours.get((_address(match[1]), int(match[2]), _address(match[3]), int(match[4])), b"")
        if len(found) != int(size):
            yield Mismatch(fact="bytes", expected=int(size), ours=len(found), where=name)
        elif hashlib.md5(found, usedforsecurity=False).hexdigest() != digest:
            yield Mismatch(fact="md5", expected=digest, ours="another", where=name)


# ---- PcapPlusPlus ----


def _files(case: Case, pattern: str) -> list[Path]:
    return sorted(case.path.parent.glob(f"{case.path.stem}.{pattern}"))


@comparer("streams", source="pcapplusplus", applies=lambda case: bool(_files(case, "client.bin")))
def pcapplusplus_sides(case: Case) -> Iterator[Finding]:
    """The bytes of each side of the connection; packets with data, bytes and messages of each side."""
    rows = _chunks(case)
    streams = _streams(rows)
    uid = rows[0]["uid"]
    sides = {"client.bin": streams[uid, True], "server.bin": streams[uid, False]}
    for suffix, stream in sides.items():
        if _files(case, suffix)[0].read_bytes() != stream.content:
            yield Mismatch(fact="stream", expected=suffix, ours=f"{len(stream.content)} bytes that are not the same")
    messages = [is_orig for (_, is_orig), _ in groupby(rows, key=lambda row: (row["uid"], row["is_orig"]))]
    text = _files(case, "metadata.txt")[0].read_text(encoding="utf-8")
    for number, stream in enumerate(sides.values()):
        told = {
            "data packets": len(stream.sizes),
            "bytes": len(stream.content),
            "messages": messages.count(number == 0),
        }
        for word, count in told.items():
            wanted = re.search(rf"Number of {word} in side {number}:\s+(\d+)", text)
            if wanted is not None and int(wanted[1]) != count:
                yield Mismatch(fact=word, expected=int(wanted[1]), ours=count, where=f"side {number}")


@comparer("streams", source="pcapplusplus", applies=lambda case: bool(_printed(case)))
def pcapplusplus_dialogues(case: Case) -> Iterator[Finding]:
    """The bytes of both sides of each connection in the order in which they came."""
    by_flow: dict[str, bytes] = {}
    for row in _chunks(case):
        by_flow[row["uid"]] = by_flow.get(row["uid"], b"") + _content(row)
    for path in _printed(case):
        if path.read_bytes() not in by_flow.values():
            yield Mismatch(fact="stream", expected=path.name, ours=f"{len(by_flow)} connections, none of them the same")


def _printed(case: Case) -> list[Path]:
    return [*_files(case, "stream.txt"), *_files(case, "conn*.txt")]


# ---- datagrams ----


@cache
def _carried(linktype: int, *frames: bytes) -> tuple[tuple[str, str], ...]:
    """What whole frames carry, as our own decoder says: (kind of row, payload in base64)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"whole-{hashlib.sha256(b''.join(frames)).hexdigest()[:16]}.pcap"
        write_pcap(path, (Captured(1, frame, len(frame)) for frame in frames), linktype=linktype)
        return tuple(_payloads(path))


def _payloads(path: Path) -> Iterator[tuple[str, str]]:
    found = dissected(path, verify=False)
    for kind in ("chunk", "datagram"):
        for row in found.rows(kind):
            yield kind, row.get("payload") or ""


@comparer("datagrams", source="pcapplusplus", applies=lambda case: bool(_wholes(case)))
def pcapplusplus_datagrams(case: Case) -> Iterator[Finding]:
    """What the datagrams that the peer puts together carry comes out of the fragments here."""
    ours = set(_payloads(case.path))
    for path in _wholes(case):
        frames = [bytes.fromhex(path.read_text(encoding="ascii"))] if path.suffix == ".txt" else []
        wanted = _carried(ETHERNET, *frames) if frames else tuple(_payloads(path))
        if not wanted:
            yield Mismatch(fact="datagram", expected=path.name, ours="a frame that says nothing")
        for kind, payload in wanted:
            if (kind, payload) not in ours:
                size = len(base64.b64decode(payload))
                yield Mismatch(fact="datagram", expected=f"{path.name}: {size} bytes", ours="not among ours")


def _wholes(case: Case) -> list[Path]:
    hexes = [path for path in _files(case, "*.hex.txt") if "partial" not in path.name]
    return [*hexes, *_files(case, "expected.defragmented.pcap")]


# ---- Suricata ----


def _alerts(case: Case) -> list[tuple[_Rule | None, int, dict[str, object]]]:
    """(the rule, how often it fires, what else is said of the alert) of each check."""
    checks, rules = case.expected("checks.yaml"), case.expected("rules.txt")
    if checks is None or rules is None:
        return []
    by_sid = {rule.sid: rule for rule in _rules(rules.read_text(encoding="utf-8"))}
    return [
        (by_sid.get(one.match.get("alert.signature_id", -1)), one.count, one.match) for one in filters(checks, "alert")
    ]


def _raw(rule: _Rule | None) -> bool:
    """Whether a rule looks for bytes of a TCP stream or packet, in no particular buffer."""
    return (
        rule is not None
        and rule.protocol in ("tcp", "tcp-stream", "tcp-pkt")
        and bool(rule.contents)
        and not any(buffer for buffer, _, _ in rule.contents)
    )


@comparer(
    "streams",
    "checks.yaml",
    source="suricata-verify",
    applies=lambda case: any(_raw(rule) for rule, _, _ in _alerts(case)),
)
def suricata_streams(case: Case) -> Iterator[Finding]:
    """Bytes that a signature finds in a stream or packet are there in ours, and where it finds none there are none."""
    verify = case.verifies_checksums
    streams = list(_streams(_chunks(case)).values())
    packets = [_content(row) for row in dissected(case.path, verify=verify).rows("packet")]
    for rule, count, match in _alerts(case):
        if rule is None or not _raw(rule):
            continue
        places = packets if rule.protocol == "tcp-pkt" else [stream.content for stream in streams]
        ours = any(all(content in place for _, content, _ in rule.contents) for place in places)
        if ours != bool(count):
            yield Mismatch(fact="content", expected=count, ours=int(ours), where=f"sid {rule.sid}")
        wanted = base64.b64decode(str(match.get("payload", "")))
        if match.get("stream") == 1 and wanted not in [stream.shown for stream in streams]:
            yield Mismatch(fact="stream", expected=wanted, ours=[stream.shown for stream in streams])


@comparer(
    "datagrams",
    "checks.yaml",
    source="suricata-verify",
    applies=lambda case: "defrag" in case.name and any("packet" in match for _, _, match in _alerts(case)),
)
def suricata_datagrams(case: Case) -> Iterator[Finding]:
    """The packet that Suricata made of the fragments has the flow and the bytes that ours has."""
    ours = set(_payloads(case.path))
    flows = {(row["id.orig_h"], row["id.orig_p"]) for row in dissected(case.path, verify=False).rows("flow")}
    for _, _, match in _alerts(case):
        frame = base64.b64decode(str(match["packet"]))
        linktype = ETHERNET if match.get("packet_info.linktype") == ETHERNET else RAW
        for kind, payload in _carried(linktype, frame):
            if (kind, payload) not in ours:
                yield Mismatch(fact="datagram", expected=f"{len(frame)} bytes", ours="not among ours")
        source = _source(frame[_network(frame) :] if linktype == ETHERNET else frame)
        if source not in flows:
            yield Mismatch(fact="flow", expected=source, ours=sorted(flows))


def _network(frame: bytes) -> int:
    """Where the network header of an Ethernet frame begins."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return at + 2


def _source(packet: bytes) -> tuple[str, int]:
    """Source address and port of an IP packet without extension headers."""
    if packet[0] >> 4 == 4:
        length = (packet[0] & 15) * 4
        return str(ip_address(packet[12:16])), int.from_bytes(packet[length : length + 2])
    return str(ip_address(packet[8:24])), int.from_bytes(packet[40:42])
