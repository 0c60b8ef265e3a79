"""Zeek's conn.log and the flows that its test outputs name, beside our flow records."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer
from zeeklog import read_log

Log = dict[str, str | None]
Ends = tuple[str, int, str, int, str]

# Zeek's tests write the same log several times under other options; these variants do not speak of the default.
_NOT_DEFAULT = ("history-flip", "conn-limited", "vlan-logging")


def _logs(case: Case) -> list[Path]:
    found = sorted(case.path.parent.glob(f"{case.path.stem}.expected.*"))
    return [path for path in found if re.search(r"\.conn(-all)?(\.cut)?\.log", path.name) and not _other(path)]


def _other(path: Path) -> bool:
    return any(word in path.name for word in _NOT_DEFAULT)


def _text(address: str) -> str:
    return str(ip_address(address))


def _ends(row: Log | Row, proto: str) -> Ends:
    return (
        _text(str(row["id.orig_h"])),
        int(row["id.orig_p"] or 0),
        _text(str(row["id.resp_h"])),
        int(row["id.resp_p"] or 0),
        proto,
    )


def _number(value: str | None) -> int:
    return int(value or 0)


# Zeek leaves sizes out where there was nothing; ours are 0 there.
_COUNTS = {
    "orig_bytes": "orig_bytes",
    "resp_bytes": "resp_bytes",
    "missed_bytes": "missed_bytes",
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_ip_bytes": "orig_ip_bytes",
    "resp_ip_bytes": "resp_ip_bytes",
    "ip_proto": "ip_proto",
    "vlan": "vlan",
    "inner_vlan": "inner_vlan",
}
_WORDS: dict[str, Callable[[Row], str]] = {
    "conn_state": lambda row: str(row["conn_state"]),
    "history": lambda row: str(row.get("history", "")),
}


def _facts(log: Log) -> Iterator[tuple[str, str | int, Callable[[Row], str | int]]]:
    for name, ours in _COUNTS.items():
        # Zeek tells the bytes of flows that have a duration.
        if name in log and not (name in ("orig_bytes", "resp_bytes") and log.get("duration") is None):
            yield name, _number(log[name]), lambda row, ours=ours: int(row.get(ours) or 0)
    for name, read in _WORDS.items():
        if name in log:
            yield name, log[name] or "", read
    if "tunnel_parents" in log:
        yield "tunnelled", int(log["tunnel_parents"] is not None), lambda row: int("outer_uid" in row)


def _grouped(rows: list[Row]) -> dict[Ends, list[Row]]:
    found: dict[Ends, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: float(row["ts"])):
        found[_ends(row, str(row["proto"]))].append(row)
    return found


@comparer("flow", source="zeek", applies=lambda case: bool(_logs(case)))
def conn_log(case: Case) -> Iterator[Finding]:
    """Each flow: ends, packets, bytes, conn_state, history, missed bytes, duration, VLANs, tunnelled or not."""
    ours = _grouped(dissected(case.path, verify=case.verifies_checksums).rows("flow"))
    for path in _logs(case):
        logs = [log for log in read_log(path) if log.get("id.orig_h")]
        if not logs:
            continue
        wanted: dict[Ends, list[Log]] = defaultdict(list)
        for log in logs:
            proto = log.get("proto") or next((ends[4] for ends in ours if _ends(log, ends[4]) == ends), "tcp")
            wanted[_ends(log, proto)].append(log)
        whole = path.name.endswith((".conn.log", ".conn-all.log")) and "split from" not in path.read_text(
            encoding="utf-8", errors="replace"
        )
        for ends, expected in wanted.items():
            found = ours.get(ends, [])
            if len(found) != len(expected):
                yield Mismatch(fact="flows", expected=len(expected), ours=len(found), where=str(ends))
            yield from _same(expected, found, str(ends))
        if whole and "conn_state" in logs[0] and (extra := set(ours) - set(wanted)):
            carriers = {row["outer_uid"] for rows in ours.values() for row in rows if "outer_uid" in row}
            extra = {ends for ends in extra if not carriers & {row["uid"] for row in ours[ends]}}
            if extra:
                yield Mismatch(fact="flows", expected=len(wanted), ours=len(ours), where=f"more: {sorted(extra)[:3]}")


def _same(expected: list[Log], found: list[Row], where: str) -> Iterator[Mismatch]:
    if len(expected) == len(found) > 1 and "orig_pkts" in expected[0]:
        # Reused ports: Zeek logs in the order of the ends, we tell when they began.
        expected = sorted(expected, key=_shape)
        found = sorted(found, key=lambda row: (int(row["orig_pkts"]), int(row["resp_pkts"]), int(row["orig_bytes"])))
    for log, row in zip(expected, found, strict=False):
        for fact, value, read in _facts(log):
            if read(row) != value:
                yield Mismatch(fact=fact, expected=value, ours=read(row), where=where)
        if log.get("duration") and "conn_state" in log:
            duration = float(log["duration"] or 0)
            if abs(duration - float(row.get("duration", 0))) > 2e-6:
                yield Mismatch(fact="duration", expected=duration, ours=row.get("duration", 0), where=where)


def _shape(log: Log) -> tuple[int, int, int]:
    return _number(log["orig_pkts"]), _number(log.get("resp_pkts")), _number(log.get("orig_bytes"))


_NAMED = re.compile(r"\[orig_h=([0-9a-f:.]+), orig_p=(\d+)/(\w+), resp_h=([0-9a-f:.]+), resp_p=(\d+)/\w+")


def _named(case: Case) -> Counter[Ends]:
    found: Counter[Ends] = Counter()
    for path in case.path.parent.glob(f"{case.path.stem}.expected.*"):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            for match in _NAMED.finditer(line):
                if match[3] != "unknown":  # a carrier without ports: Zeek's tunnel, not its connection
                    found[_text(match[1]), int(match[2]), _text(match[4]), int(match[5]), match[3]] += 1
    return found


@comparer("flow", source="zeek", applies=lambda case: bool(_named(case)))
def named(case: Case) -> Iterator[Finding]:
    """Each flow that the output of Zeek's test names is among ours."""
    ours = set(_grouped(dissected(case.path, verify=case.verifies_checksums).rows("flow")))
    turned = {(resp_h, resp_p, orig_h, orig_p, proto) for orig_h, orig_p, resp_h, resp_p, proto in ours}
    for ends in _named(case):
        # Zeek names a packet's ends as the packet has them in some events.
        if ends not in ours | turned:
            yield Mismatch(fact="flows", expected=ends, ours=None)


@comparer("flow", source="zeek", applies=lambda case: _outcome(case) is not None)
def outcome(case: Case) -> Iterator[Finding]:
    """History and conn_state where the test prints just these two."""
    found = _outcome(case)
    assert found is not None
    history, state = found
    for row in dissected(case.path, verify=case.verifies_checksums).rows("flow"):
        if row["history"] != history:
            yield Mismatch(fact="history", expected=history, ours=row["history"])
        if row["conn_state"] != state:
            yield Mismatch(fact="conn_state", expected=state, ours=row["conn_state"])


def _outcome(case: Case) -> tuple[str, str] | None:
    path = case.expected("expected.out")
    if path is None:
        return None
    match = re.search(
        r"^(\^?[A-Za-z]+), ([A-Z0-9]+)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
    )
    return (match[1], match[2]) if match else None
