"""Every capture file: it is read to its end or to its damage, every packet is accounted for, nothing panics."""

from __future__ import annotations

from collections.abc import Iterator

from corpus import Case
from dissecting import Dissection, dissected
from verdicts import Finding, Mismatch, comparer


@comparer("capture", applies=lambda case: case.is_capture)
def every_packet_is_accounted_for(case: Case) -> Iterator[Finding]:
    """analysed = in the file, in a flow record or counted by reason; a damaged file says so; no parser panicked."""
    found = dissected(case.path, verify=case.verifies_checksums)
    if found.exit_code not in (0, 1):
        yield Mismatch(fact="exit_code", expected="0 or 1", ours=found.exit_code)
    if found.exit_code == 1 and "damaged" not in found.complaint and " at byte " not in found.complaint:
        yield Mismatch(fact="complaint", expected="what is wrong with the file, and where", ours=found.complaint)
    counters = found.counters
    read, analysed = counters.get("packets_read", 0), counters.get("packets_analysed", 0)
    if read != analysed:
        yield Mismatch(fact="packets", expected=read, ours=analysed)
    if counters.get("panics", 0):
        yield Mismatch(fact="panics", expected=0, ours=counters["panics"])
    yield from _each_in_one_place(found)


_NO_FLOW = "B0"
# What a packet without a flow became. (A packet with a wrong checksum of TCP or UDP is in its flow's record, too.)
_WITHOUT_FLOW = ("fragments", "arp", "non_ip", "truncated", "malformed", "too_deep", "unknown_link")


def _each_in_one_place(found: Dissection) -> Iterator[Finding]:
    """The outermost flows' packets, and those that belong to none, are the packets of the file; none counts twice."""
    packets = found.rows("packet")
    read = found.counters.get("packets_read", 0)
    if len(packets) != read:
        yield Mismatch(fact="packet_rows", expected=read, ours=len(packets))
    outermost = [row for row in found.rows("flow") if "outer_uid" not in row]
    in_flows = sum(row["orig_pkts"] + row["resp_pkts"] for row in outermost)
    with_flow = sum(row["uid"] != _NO_FLOW for row in packets)
    if in_flows != with_flow:
        yield Mismatch(fact="flow_packets", expected=with_flow, ours=in_flows)
    reasons = sum(found.counters.get(f"packets_{reason}", 0) for reason in _WITHOUT_FLOW)
    if not read - with_flow <= reasons + found.counters.get("packets_bad_checksum", 0):
        yield Mismatch(fact="reasons", expected=read - with_flow, ours=reasons)
