"""Flows as Arkime, ipfixprobe, nDPI, Suricata and the Community ID vectors have them, beside our flow records."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from corpus import Case
from dissecting import Row, dissected
from surichecks import Filter, filters
from verdicts import Finding, Mismatch, Unsupported, comparer

End = tuple[str, int]
Pair = tuple[frozenset[End], int]


def _end(row: Row, side: str) -> End:
    return row[f"id.{side}_h"], row[f"id.{side}_p"]


def _rows(case: Case) -> list[Row]:
    """Our flows; of these peers only Suricata looks at checksums."""
    verify = case.source == "suricata-verify" and case.verifies_checksums
    return dissected(case.path, verify=verify).rows("flow")


def _by_pair(case: Case, *, ports: bool = True) -> dict[Pair, list[Row]]:
    """Our flows by their ends and protocol; ICMP and other protocols without ports by addresses alone."""
    found: dict[Pair, list[Row]] = defaultdict(list)
    for row in _rows(case):
        found[_pair(_end(row, "orig"), _end(row, "resp"), row["ip_proto"], ports=ports)].append(row)
    return found


def _pair(one: End, other: End, proto: int, *, ports: bool = True) -> Pair:
    if not ports or proto not in (6, 17, 132):
        one, other = (one[0], 0), (other[0], 0)
    return frozenset([one, other]), proto


def _of(row: Row, end: End, what: str) -> int:
    """A count of the side of the flow that `end` is."""
    side = (
        "orig"
        if row["id.orig_h"] == end[0] and (row["id.orig_p"] == end[1] or row["ip_proto"] not in (6, 17))
        else "resp"
    )
    return int(row[f"{side}_{what}"])


def _sum(rows: list[Row], end: End, what: str) -> int:
    return sum(_of(row, end, what) for row in rows)


# ---- Arkime ----


def _sessions(case: Case) -> list[dict[str, Any]]:
    path = case.expected("arkime.json")
    assert path is not None
    return [session["body"] for session in json.loads(path.read_text(encoding="utf-8"))["sessions3"]]


@comparer("flow", "arkime.json", source="arkime")
def arkime(case: Case) -> Iterator[Finding]:
    """By pair of ends: packets of each side, and that a tunnelled session came through a tunnel."""
    ours = _by_pair(case)
    grouped: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for session in _sessions(case):
        source, destination = session["source"], session["destination"]
        if "ip" not in source or "ipProtocol" not in session:
            continue  # ARP and the like have sessions there
        one = (source["ip"], source.get("port", 0))
        other = (destination["ip"], destination.get("port", 0))
        grouped[_pair(one, other, session["ipProtocol"])].append(session)
    for pair, sessions in grouped.items():
        rows = ours.get(pair, [])
        where = f"{sorted(pair[0])} {pair[1]}"
        if not rows:
            yield Mismatch(fact="flows", expected=len(sessions), ours=0, where=where)
            continue
        source = sessions[0]["source"]
        end = (source["ip"], source.get("port", 0))
        for side, other in (("source", "destination"), ("destination", "source")):
            wanted = sum(
                session[
                    side if session["source"]["ip"] == end[0] and session["source"].get("port", 0) == end[1] else other
                ]["packets"]
                for session in sessions
            )
            mine = end if side == "source" else next(iter(pair[0] - {_bare(end, pair[1])}), end)
            if wanted != _sum(rows, mine, "pkts"):
                yield Mismatch(fact="packets", expected=wanted, ours=_sum(rows, mine, "pkts"), where=f"{where} {side}")
        if any("srcOuterIp" in session for session in sessions) and not any("outer_uid" in row for row in rows):
            yield Mismatch(fact="tunnelled", expected=True, ours=False, where=where)
        if vlans := {vlan for session in sessions for vlan in session.get("vlan", {}).get("id", [])}:
            found = {row[name] for row in rows for name in ("vlan", "inner_vlan") if name in row}
            if vlans != found:
                yield Mismatch(fact="vlan", expected=sorted(vlans), ours=sorted(found), where=where)


def _bare(end: End, proto: int) -> End:
    return end if proto in (6, 17, 132) else (end[0], 0)


# ---- ipfixprobe ----


@comparer("flow", "flows.csv", source="ipfixprobe")
def ipfixprobe(case: Case) -> Iterator[Finding]:
    """By pair of ends: packets and IP bytes of each side."""
    path = case.expected("flows.csv")
    assert path is not None
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    head = next(line for line in lines if line and line[0].startswith("ipaddr "))
    names = [cell.rpartition(" ")[2] for cell in head]
    wanted: dict[tuple[Pair, End], list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        if not line or line is head:
            continue
        row = dict(zip(names, line, strict=False))
        one, other = (row["SRC_IP"], int(row["SRC_PORT"])), (row["DST_IP"], int(row["DST_PORT"]))
        pair = _pair(one, other, int(row["PROTOCOL"]))
        for end, suffix in ((one, ""), (other, "_REV")):
            counts = wanted[pair, end]
            counts[0] += int(row[f"PACKETS{suffix}"])
            counts[1] += int(row[f"BYTES{suffix}"])
    ours = _by_pair(case)
    for (pair, end), (packets, size) in wanted.items():
        rows = ours.get(pair, [])
        for fact, what, value in (("packets", "pkts", packets), ("bytes", "ip_bytes", size)):
            if _sum(rows, end, what) != value:
                yield Mismatch(fact=fact, expected=value, ours=_sum(rows, end, what), where=str(end))


# ---- nDPI ----

_NDPI = re.compile(
    r"^\s*\d+\s+(\w+) (\S+?)(?::(\d+))? (<?->) (\S+?)(?::(\d+))? "
    r"\[.*?\[(\d+) pkts/\d+ bytes (?:<-|)-> (\d+) pkts/\d+ bytes\]"
)
_PROTOCOLS = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPV6": 58, "IGMP": 2, "SCTP": 132, "GRE": 47, "ESP": 50}


@comparer("flow", "ndpi.out", source="ndpi")
def ndpi(case: Case) -> Iterator[Finding]:
    """By pair of ends: packets of each side (nDPI cuts flows at its time-outs: they are added up)."""
    path = case.expected("ndpi.out")
    assert path is not None
    ours = _by_pair(case)
    wanted: dict[tuple[Pair, End], int] = defaultdict(int)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _NDPI.match(line)
        if match is None or match[1] not in _PROTOCOLS:
            continue
        one, other = ((str(ip_address(match[at].strip("[]"))), int(match[at + 1] or 0)) for at in (2, 5))
        pair = _pair(one, other, _PROTOCOLS[match[1]])
        wanted[pair, one] += int(match[7])
        if other != one:
            wanted[pair, other] += int(match[8])
    for (pair, end), packets in wanted.items():
        found = _sum(ours.get(pair, []), end, "pkts")
        if found != packets:
            yield Mismatch(fact="packets", expected=packets, ours=found, where=f"{end} of {sorted(pair[0])} {pair[1]}")


# ---- Community ID ----


@comparer("flow", "baseline_deflt.json", source="community-id")
def community_id(case: Case) -> Iterator[Finding]:
    """The 5-tuple of every packet is that of one of our flows."""
    path = case.expected("baseline_deflt.json")
    assert path is not None
    ours = set(_by_pair(case, ports=True))
    for number, packet in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        if packet.get("proto") is None:
            continue
        one = (packet["saddr"], packet.get("sport") or 0)
        other = (packet["daddr"], packet.get("dport") or 0)
        if _pair(one, other, packet["proto"]) not in ours:
            yield Mismatch(fact="flows", expected=packet, ours=None, where=f"packet {number + 1}")


# ---- Suricata ----

_FIELDS: dict[str, Callable[[Row], object]] = {
    "src_ip": lambda row: row["id.orig_h"],
    "dest_ip": lambda row: row["id.resp_h"],
    "src_port": lambda row: row["id.orig_p"],
    "dest_port": lambda row: row["id.resp_p"],
    "proto": lambda row: {6: "TCP", 17: "UDP", 1: "ICMP", 58: "IPv6-ICMP"}.get(row["ip_proto"]),
    "vlan": lambda row: [row[name] for name in ("vlan", "inner_vlan") if name in row],
    "flow.pkts_toserver": lambda row: row["orig_pkts"],
    "flow.pkts_toclient": lambda row: row["resp_pkts"],
    "pkts_toserver": lambda row: row["orig_pkts"],
    "pkts_toclient": lambda row: row["resp_pkts"],
}
# Of Suricata's state machine or Ethernet's lengths; what they say of the traffic stands in other fields.
_THEIRS = re.compile(
    r"^(flow\.(age|state|reason|alerted|start|end|exception_policy|bytes_to\w+)|tcp\..*|stats\..*|tx_id|pcap_cnt|app_proto)$"
)


def _flows(case: Case) -> list[Filter]:
    path = case.expected("checks.yaml")
    return list(filters(path, "flow")) if path is not None else []


@comparer("flow", "checks.yaml", source="suricata-verify", applies=lambda case: bool(_flows(case)))
def suricata(case: Case) -> Iterator[Finding]:
    """Flow records that match all fields of a check: as many as the check says."""
    rows = _rows(case)
    carriers = {row["outer_uid"] for row in rows if "outer_uid" in row}
    for one in _flows(case):
        wanted = {name: value for name, value in one.match.items() if not _THEIRS.match(name)}
        unknown = [name for name in wanted if name not in _FIELDS]
        if unknown:
            yield Unsupported(", ".join(unknown))
            continue
        matching = [row for row in rows if all(_FIELDS[name](row) == value for name, value in wanted.items())]
        # A check without fields counts all flows; Suricata has none for what carries a tunnel without ports.
        ours = len([row for row in matching if wanted or row["uid"] not in carriers])
        if ours != one.count:
            yield Mismatch(fact="flows", expected=one.count, ours=ours, where=str(wanted))
