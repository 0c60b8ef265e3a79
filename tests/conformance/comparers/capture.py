"""Every capture file: it is read to its end or to its damage, every packet is accounted for, nothing panics."""

from __future__ import annotations

from collections.abc import Iterator

from corpus import Case
from dissecting import dissected
from verdicts import Finding, Mismatch, comparer


@comparer("capture", applies=lambda case: case.is_capture)
def every_packet_is_accounted_for(case: Case) -> Iterator[Finding]:
    """analysed = in the file; a damaged file says so; no parser panicked."""
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
