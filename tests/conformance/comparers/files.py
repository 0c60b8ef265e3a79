"""Capture files as files: how many packets they hold, of which length and time, and which must be refused."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from corpus import Case
from dissecting import Dissection, dissected
from verdicts import Finding, Mismatch, comparer

_LONGEST = 2**31 - 1  # tshark keeps a packet's length in an int


def _found(case: Case) -> Dissection:
    return dissected(case.path, verify=case.verifies_checksums)


def _count(case: Case, wanted: int) -> Iterator[Mismatch]:
    ours = _found(case).counters["packets_read"]
    if ours != wanted:
        yield Mismatch(fact="packets", expected=wanted, ours=ours)


@comparer("files", "txt", source="pcapng-test-generator")
def generated(case: Case) -> Iterator[Finding]:
    """As many packets as there are blocks that hold one, and no complaint."""
    path = case.expected("txt")
    assert path is not None
    counts = dict(re.findall(r"^\s+(\w+): (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    yield from _count(case, sum(int(counts.get(kind, 0)) for kind in ("EPB", "SPB", "PB")))
    if _found(case).exit_code:
        yield Mismatch(fact="exit_code", expected=0, ours=_found(case).complaint)


@comparer("files", "error.txt", source="libpcap")
def refused(case: Case) -> Iterator[Finding]:
    """The file is refused before its first packet, with a word why."""
    yield from _count(case, 0)
    if _found(case).exit_code != 1 or case.path.name not in _found(case).complaint:
        yield Mismatch(fact="exit_code", expected="1, and why", ours=_found(case).complaint)


@comparer("files", "tshark.tsv", source="pcapplusplus")
def dumped(case: Case) -> Iterator[Finding]:
    """Each packet's time and lengths, and whether the file is damaged, as tshark says."""
    path = case.expected("tshark.tsv")
    assert path is not None
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t"))
    yield from _count(case, len(rows))
    for theirs, ours in zip(rows, _found(case).rows("packet"), strict=False):
        lengths = (int(theirs["frame.cap_len"]), int(theirs["frame.len"]))
        found = (ours["caplen"], min(ours["wirelen"], _LONGEST))
        if lengths != found:
            yield Mismatch(fact="lengths", expected=lengths, ours=found)
        # What is no fraction of a second (damaged files) wraps in tshark; it is no fact then.
        seconds, _, fraction = theirs["frame.time_epoch"].partition(".")
        if int(fraction) < 10**9 and abs(int(seconds) + int(fraction) / 1e9 - ours["ts"]) > 1e-5:
            yield Mismatch(fact="ts", expected=theirs["frame.time_epoch"], ours=ours["ts"])
    damaged = any(line.startswith("# end:") for line in lines)
    if damaged != bool(_found(case).exit_code):
        yield Mismatch(fact="damaged", expected=damaged, ours=_found(case).complaint or "no complaint")


@comparer("files", "facts.txt", source="libtrace")
def libtrace(case: Case) -> Iterator[Finding]:
    """Numbers of packets, and by port; the VLAN identifier."""
    path = case.expected("facts.txt")
    assert path is not None
    text = path.read_text(encoding="utf-8")
    if packets := re.search(r"^packets (\d+)$", text, re.MULTILINE):
        yield from _count(case, int(packets[1]))
    flows = [row for row in _found(case).rows("flow") if row["ip_proto"] in (6, 17)]
    for side, port, count in re.findall(r"^(source|destination) port (\d+): (\d+) packets$", text, re.MULTILINE):
        senders = {"source": ("orig", "resp"), "destination": ("resp", "orig")}[side]
        ours = sum(
            flow[f"{sender}_pkts"]
            for flow in flows
            for end, sender in zip(senders, ("orig", "resp"), strict=True)
            if flow[f"id.{end}_p"] == int(port)
        )
        if ours != int(count):
            yield Mismatch(fact=f"{side} port", expected=int(count), ours=ours, where=f"port {port}")
    if vlan := re.search(r"VLAN id (\d+)", text):
        found = {row.get("vlan") for row in _found(case).rows("flow")}
        if int(vlan[1]) not in found:
            yield Mismatch(fact="vlan", expected=int(vlan[1]), ours=sorted(map(str, found)))


@comparer("files", "facts.txt", source="pcapplusplus")
def pcapplusplus(case: Case) -> Iterator[Finding]:
    """Number of packets; a nanosecond file has times below the microsecond."""
    path = case.expected("facts.txt")
    assert path is not None
    text = path.read_text(encoding="utf-8")
    if packets := re.search(r"^packets (\d+)$", text, re.MULTILINE):
        yield from _count(case, int(packets[1]))
