"""Packet by packet: what tcpdump prints, what Zeek and Suricata say of headers, checksums and cuts, beside our rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import yaml
from corpus import Case
from dissecting import dissected
from surichecks import filters
from verdicts import Finding, Mismatch, comparer
from zeeklog import read_log

from .protocols_others import _packets

# ---- tcpdump ----

_END = r"([0-9a-fA-F:.]+?)"
_ENDS = re.compile(rf"(?<![\w:.]){_END} > {_END}: ")
_TIME = re.compile(r"^\s*(\d+)  (?:(\d{4}-\d\d-\d\d) )?(?:(\d\d):(\d\d):)?(?:(\d\d)|(\d+))\.(\d{6,9}) ")


def _text(case: Case) -> Path | None:
    found = (case.expected(f"tcpdump-{level}.out") for level in ("plain", "e", "v", "vv"))
    return next((path for path in found if path is not None), None)


def _end(text: str) -> tuple[str, int] | None:
    """`192.0.2.1.53` to address and port; port 0 if there is none; None if it is no address."""
    for address, port in ((text, "0"), (*text.rpartition(".")[::2],)):
        try:
            return str(ip_address(address)), int(port)
        except ValueError:
            continue
    return None


_ROUTE = re.compile(r"RT\d+ \(len=\d+, type=\d+[^,]*, segleft=([1-9]\d*)[^)]*\[\d+\]([0-9a-f:]+)\)")


def _told(packet: str) -> list[frozenset[tuple[str, int]]]:
    """Pairs of ends that tcpdump prints for one packet, the outermost first; what an ICMP error quotes is left out."""
    pairs = []
    for match in _ENDS.finditer(packet):
        one, other = _end(match[1]), _end(match[2])
        if one is None or other is None:
            continue
        behind = packet[match.end() :]
        if route := _ROUTE.match(behind):
            # A routing header names the final destination, whose flow it is; ports stand behind it.
            ports = re.search(r" (\d+) > (\d+): ", behind)
            one = one[0], int(ports[1]) if ports else 0
            other = route[2], int(ports[2]) if ports else 0
        pairs.append(frozenset([one, other]))
        if re.match(r"(\[.*?\] )?ICMP6?(,| (?!echo))", behind):
            break
    return pairs


@comparer("decoding", source="tcpdump", applies=lambda case: _text(case) is not None)
def tcpdump(case: Case) -> Iterator[Finding]:
    """Each packet's time; the ends of its innermost TCP, UDP or ICMP are those of the flow that it belongs to."""
    path = _text(case)
    assert path is not None
    rows = dissected(case.path, verify=False).rows("packet")
    packets = list(_packets(path.read_text(encoding="utf-8", errors="replace")))
    if len(packets) != len(rows):
        yield Mismatch(fact="packets", expected=len(packets), ours=len(rows))
    for number, (packet, row) in enumerate(zip(packets, rows, strict=False), 1):
        if (time := _TIME.match(packet)) and time[3]:
            fraction = int(time[7].ljust(9, "0"))
            seconds = int(time[3]) * 3600 + int(time[4]) * 60 + int(time[5])
            begun = int(datetime.fromtimestamp(int(row["ts"]), UTC).strftime("%H%M%S"))
            ours = begun // 10_000 * 3600 + begun // 100 % 100 * 60 + begun % 100
            if ours != seconds or abs(row["ts"] % 1 - fraction / 1e9) > 1e-6:
                yield Mismatch(fact="ts", expected=time[0].strip(), ours=row["ts"], where=f"packet {number}")
        told = _told(packet)
        if not told or "(invalid)" in packet:
            continue
        wanted = {tuple(sorted(address for address, _ in told[-1])), tuple(sorted(told[-1]))}
        addresses = tuple(sorted({row.get("id.orig_h", ""), row.get("id.resp_h", "")}))
        ends = tuple(sorted({(row.get(f"id.{side}_h", ""), row.get(f"id.{side}_p", 0)) for side in ("orig", "resp")}))
        with_ports = any(port for _, port in told[-1])
        if (ends if with_ports else addresses) not in wanted:
            yield Mismatch(fact="ends", expected=sorted(told[-1]), ours=ends, where=f"packet {number}")


# ---- Zeek ----

_BAD = {"bad_IP_checksum", "bad_TCP_checksum", "bad_UDP_checksum", "bad_ICMP_checksum"}
_CUT = {
    "truncated_IP",
    "truncated_IPv6",
    "truncated_IP_len",
    "internally_truncated_header",
    "truncated_ethernet_frame",
    "truncated_header",
}


def _weirds(case: Case) -> list[str]:
    found = []
    for suffix in ("expected.bad.out", "expected.output", "expected.weird.log"):
        path = case.expected(suffix)
        if path is not None and "#fields" in path.read_text(encoding="utf-8", errors="replace"):
            found += [line.get("name") or "" for line in read_log(path)]
    return [name for name in found if name in _BAD | _CUT]


@comparer("decoding", source="zeek", applies=lambda case: bool(_weirds(case)))
def weird_packets(case: Case) -> Iterator[Finding]:
    """As many packets with a wrong checksum; packets that are cut or lie about their length are no traffic here."""
    counters = dissected(case.path, verify=case.verifies_checksums).counters
    names = _weirds(case)
    bad = sum(name in _BAD for name in names)
    if bad != counters["packets_bad_checksum"]:
        yield Mismatch(fact="bad_checksum", expected=bad, ours=counters["packets_bad_checksum"])
    cut = sum(name in _CUT for name in names)
    ours = counters["packets_truncated"] + counters["packets_malformed"]
    if bool(cut) != bool(ours):
        yield Mismatch(fact="truncated", expected=cut, ours=ours)


_SIDE = re.compile(r"^\[size=\d+, state=\d+, num_pkts=(\d+), num_bytes_ip=(\d+),", re.MULTILINE)


@comparer("decoding", "expected.out", source="zeek", applies=lambda case: bool(_sides(case)))
def endpoints(case: Case) -> Iterator[Finding]:
    """Packets and IP bytes of each side of the one connection, where Zeek's test prints its two ends."""
    rows = dissected(case.path, verify=case.verifies_checksums).rows("flow")
    ours = [(row[f"{side}_pkts"], row[f"{side}_ip_bytes"]) for row in rows for side in ("orig", "resp")]
    if _sides(case) != ours:
        yield Mismatch(fact="sides", expected=_sides(case), ours=ours)


def _sides(case: Case) -> list[tuple[int, int]]:
    path = case.expected("expected.out")
    if path is None:
        return []
    return [
        (int(packets), int(size)) for packets, size in _SIDE.findall(path.read_text(encoding="utf-8", errors="replace"))
    ]


_FRAGMENTS = re.compile(r"^flow weird, (fragment_\w+|excessively_\w+)", re.MULTILINE)


@comparer("decoding", "expected.output", source="zeek", applies=lambda case: "ipv4-frag" in case.words)
def fragments(case: Case) -> Iterator[Finding]:
    """Fragments that contradict each other are counted as overlaps; where none do there are none."""
    path = case.expected("expected.output")
    assert path is not None
    names = _FRAGMENTS.findall(path.read_text(encoding="utf-8"))
    counters = dissected(case.path, verify=case.verifies_checksums).counters
    wanted = any(name in ("fragment_inconsistency", "fragment_overlap") for name in names)
    if wanted != bool(counters["fragments_overlapping"]):
        yield Mismatch(fact="overlaps", expected=wanted, ours=counters["fragments_overlapping"])


# ---- Suricata ----


def _all(name: str) -> Callable[[dict[str, int]], int]:
    return lambda counters: counters[name]


# Of a file without fragments, tunnels and damage: there each packet is one of a kind for Suricata, as for us.
_STATS: dict[str, Callable[[dict[str, int]], int]] = {
    "decoder.pkts": _all("packets_read"),
    "decoder.tcp": _all("packets_tcp"),
    "decoder.udp": _all("packets_udp"),
    "decoder.arp": _all("packets_arp"),
    "decoder.icmpv4": _all("packets_icmp"),
}


def _stats(case: Case) -> dict[str, int]:
    path = case.expected("checks.yaml")
    if path is None:
        return {}
    checks = yaml.safe_load(path.read_text(encoding="utf-8")).get("checks") or []
    found = {name: count for check in checks for name, count in (check.get("stats") or {}).items()}
    return {name: count for name, count in found.items() if name in _STATS}


@comparer("decoding", "checks.yaml", source="suricata-verify", applies=lambda case: bool(_stats(case)))
def decoder_stats(case: Case) -> Iterator[Finding]:
    """Numbers of packets by protocol."""
    counters = dissected(case.path, verify=case.verifies_checksums).counters
    for name, count in _stats(case).items():
        if _STATS[name](counters) != count:
            yield Mismatch(fact=name, expected=count, ours=_STATS[name](counters))


_OVERLAP_RULE = re.compile(r"decode-event:ipv[46]\.frag_overlap;.*?sid:(\d+)")


def _overlaps(case: Case) -> list[int]:
    path = case.expected("rules.txt")
    return [int(sid) for sid in _OVERLAP_RULE.findall(path.read_text(encoding="utf-8"))] if path is not None else []


@comparer("decoding", "rules.txt", source="suricata-verify", applies=lambda case: bool(_overlaps(case)))
def overlapping_fragments(case: Case) -> Iterator[Finding]:
    """Fragments that overlap are counted."""
    checks = case.expected("checks.yaml")
    assert checks is not None
    for one in filters(checks, "alert"):
        if one.match.get("alert.signature_id") in _overlaps(case):
            ours = dissected(case.path, verify=case.verifies_checksums).counters["fragments_overlapping"]
            if bool(one.count) != bool(ours):
                yield Mismatch(fact="overlaps", expected=one.count, ours=ours)
