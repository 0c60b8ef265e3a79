"""`bunker bench clear`: header traces beside other anonymizers, one leak search over all outputs; ciphers; transforms.

Rules of this file:
1. All programs read the same capture; CPU time of the whole process, start and end included, rounds interleaved,
   medians.
2. What is left in an output is counted by the same search in the same run. A short pattern (an IPv4 address has four
   bytes) is found by chance about once in 4 GB a pattern: the search's own control is the input.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow as pa

from bunker.cli.bench.link import check_work
from bunker.cli.bench.mixed import Marks, write_mixed
from bunker.cli.bench.peers import Cost, present, run
from bunker.cli.bench.report import Table, median, show, write
from bunker.cli.bench.traffic import default_work
from bunker.model.fields import RecordSchema
from bunker.model.messages import message_record
from bunker.native.clear import Gate
from bunker.native.heap import keep_heap
from bunker.native.trace import map_addresses
from bunker.native.wire import Batch
from bunker.open.rehearsal.canaries import Search, make_canaries
from bunker.open.rehearsal.capture import canary_packets
from bunker.policy.load import policy_of
from bunker.policy.needed import crossing

_POLICY = """
[policy]
format = 1
name = "bench"
purpose = "all header rules"
profile = "partner"
accept = ["seq-shows-sizes"]
[sites]
services = { tcp = [22, 25, 80, 443], udp = [53] }
[out.pcap]
time = { do = "shift+grain", grain = "1ms" }
wirelen = { do = "bucket", edges = [64, 128, 256, 512, 1024, 1500] }
fragments = "first-only"
unknown_ip_proto = "l3-only"
truncated = "emit-parsed-prefix"
[out.pcap.eth]
src = "tag48"
dst = "tag48"
type = { do = "allow", values = ["ipv4", "ipv6", "arp"] }
vlan = "tag"
[out.pcap.arp]
op = { do = "allow", values = [1, 2] }
sha = "tag48"
tha = "tag48"
spa = "pfx"
tpa = "pfx"
[out.pcap.ipv4]
src = "pfx"
dst = "pfx"
tos = "ecn-only"
id = "if-fragment"
flags = { do = "keep", because = "bench" }
ttl = "hops"
options = { allow = ["eol", "nop"], other = "nop" }
checksum = "validity"
[out.pcap.ipv6]
src = "pfx"
dst = "pfx"
traffic_class = "ecn-only"
flow_label = "tag"
hop_limit = "hops"
ext_headers = { allow = ["fragment"], other = "stop-parse" }
[out.pcap.tcp]
sport = "shuffle"
dport = "shuffle"
seq = "flow_offset"
ack = "flow_offset"
flags = { do = "keep", because = "bench" }
window = { do = "bucket", edges = "log2" }
checksum = "validity"
[out.pcap.tcp.options]
allow = ["eol", "nop", "sackperm"]
sack = "flow_offset"
ts = "flow_rank"
mss = { do = "bucket", edges = "log2" }
other = "nop"
[out.pcap.udp]
sport = "shuffle"
dport = "shuffle"
checksum = "validity"
[out.pcap.icmp]
types = { do = "allow", values = [0, 3, 8, 11] }
echo_id = "flow_tag16"
echo_seq = "rel"
quoted = "recurse"
checksum = "validity"
[out.pcap.icmpv6]
types = { do = "allow", values = [1, 2, 3, 128, 129, 135, 136] }
quoted = "recurse"
nd_target = "pfx"
nd_lladdr = "tag48"
checksum = "validity"
"""

_PKTANON_PROFILE = Path("/usr/share/doc/pktanon/examples/profiles/profile.xml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One program: how it is called. `needs` is the peer's name, None for ours."""

    name: str
    needs: str | None
    argv: Callable[[Path, Path, Path], list[str | Path]]
    rounds: int | None = None


def _bunker(source: Path, target: Path, policy: Path) -> list[str | Path]:
    command = shutil.which("bunker", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    return [command or "bunker", "anonymize", source, "-o", target, "--policy", policy, "--quiet"]


CONTENDERS = (
    Contender(name="bunker anonymize", needs=None, argv=_bunker),
    Contender(
        name="tcprewrite --seed",
        needs="tcprewrite",
        argv=lambda source, target, _: [
            "tcprewrite",
            "--seed=423",
            "--fixcsum",
            f"--infile={source}",
            f"--outfile={target}",
        ],
    ),
    Contender(
        name="traceanon (Crypto-PAn)",
        needs="traceanon",
        argv=lambda source, target, _: [
            "traceanon",
            "-s",
            "-d",
            "-c",
            "0123456789abcdef0123456789abcdef",
            f"pcapfile:{source}",
            f"pcapfile:{target}",
        ],
    ),
    Contender(
        name="PktAnon, its default profile",
        needs="pktanon",
        argv=lambda source, target, _: ["pktanon", "-c", _PKTANON_PROFILE, source, target],
        rounds=1,
    ),
    Contender(
        name="tcpdump -r -w (a copy)",
        needs="tcpdump",
        argv=lambda source, target, _: ["tcpdump", "-r", source, "-w", target],
    ),
)


def _present() -> tuple[list[Contender], list[str]]:
    """The contenders that can be run here, and a note for each other."""
    here, missing = present(contender.needs for contender in CONTENDERS if contender.needs is not None)
    return [one for one in CONTENDERS if one.needs is None or one.needs in here], missing


def compare(work: Path, packets: int, rounds: int, *, packets_a_flow: int) -> list[Table]:
    """Run all contenders over one capture, then the search over what they made."""
    source, policy = work / "mixed.pcap", work / "clear-policy.toml"
    marks = write_mixed(source, packets, packets_a_flow=packets_a_flow)
    policy.write_text(_POLICY)
    costs: dict[str, list[Cost]] = {}
    made: dict[str, Path] = {}
    here, notes = _present()
    for turn in range(rounds):
        for contender in here:
            if contender.rounds is not None and turn >= contender.rounds:
                continue
            target = work / f"clear-{CONTENDERS.index(contender)}.out"
            target.unlink(missing_ok=True)
            cost = run(contender.argv(source, target, policy), output=work / "clear.log")
            if cost.exit_code != 0 or not target.exists():
                notes.append(f"{contender.name} failed with exit code {cost.exit_code}")
                continue
            costs.setdefault(contender.name, []).append(cost)
            made[contender.name] = target
    flows = "every packet a flow of its own" if packets_a_flow == 1 else f"{packets_a_flow} packets a connection"
    rates = Table(
        title=f"Header trace of {packets:,} packets, {source.stat().st_size / 1e6:.0f} MB, {flows}",
        columns=("program", "CPU s", "packets a CPU-second", "peak MB", "rounds"),
        notes=notes,
    )
    for name, found in costs.items():
        cpu = median([cost.cpu_s for cost in found]) or 0.0
        peak = max(cost.peak_bytes for cost in found) / 1e6
        rates.add(name, cpu, packets / cpu if cpu else None, peak, len(found))
    tables = [rates, leaks(source, made, marks)] if packets_a_flow > 1 else [rates]
    for path in (source, policy, work / "clear.log", *made.values()):
        path.unlink(missing_ok=True)
    return tables


def leaks(source: Path, made: dict[str, Path], marks: Marks) -> Table:
    """What of the input stands in each output."""
    table = Table(
        title="Left in the output: hits by place",
        columns=("program", *marks.patterns),
        notes=["the row of the input is the search's control; four-byte patterns may be there by chance"],
    )
    for name, path in {"(the input)": source, **made}.items():
        found = marks.found(path.read_bytes())
        table.add(name, *found.values())
    return table


def canary_table(work: Path) -> Table:
    """The canaries of the rehearsal, in every protocol that Bunker reads, through every program."""
    source, policy = work / "canaries.pcap", work / "clear-policy.toml"
    canaries = make_canaries("bench")
    policy.write_text(_POLICY)
    with source.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for number, packet in enumerate(canary_packets(canaries)):
            file.write(struct.pack("<IIII", 1_700_000_000, number, len(packet), len(packet)) + packet)
    search = Search(canaries, shortest=4)
    table = Table(
        title=f"Canaries left in the output, of {len(canaries.all)}",
        columns=("program", "left", "which"),
        notes=[
            "raw, reversed, hex, base64 at three offsets, URL-encoded, UTF-16, decimal, arpa, EUI-64; any letter case"
        ],
    )
    made = {"(the input)": source}
    here, missing = _present()
    table.notes += missing
    for number, contender in enumerate(here):
        target = work / f"canaries-{number}.out"
        target.unlink(missing_ok=True)
        if run(contender.argv(source, target, policy), output=work / "clear.log").exit_code != 0 or not target.exists():
            table.notes.append(f"{contender.name} failed")
            continue
        made[contender.name] = target
    for name, path in made.items():
        found = sorted({hit.canary for hit in search.in_bytes(path.read_bytes())})
        every = "all" if len(found) == len(canaries.all) else None
        table.add(name, len(found), every or ", ".join(found) or "none")
    for path in (policy, work / "clear.log", *made.values()):
        path.unlink(missing_ok=True)
    return table


def ciphers(addresses: int) -> Table:
    """Addresses a CPU-second of each map, new and known ones."""
    table = Table(title="Address maps", columns=("map", "addresses", "new, a CPU-second", "known, a CPU-second"))
    for family in (4, 6):
        for method in ("pfx", "cryptopan", "tag"):
            rates = []
            for distinct in (addresses, 1000):
                before = time.process_time()
                map_addresses(method, family, addresses, distinct)
                rates.append(addresses / max(time.process_time() - before, 1e-9))
            table.add(method, f"IPv{family}", *rates)
    return table


_WHOLE = "typical, of all columns"
_BATCHES = 11
"""Batches of a case; the median counts."""
_HTTP_RULES = {
    "ts": '{ do = "shift+grain", grain = "1min" }',
    "orig_h": '"pfx"',
    "host": '"etld1_tag"',
    "uri": '"depth"',
    "method": '{ do = "allow", values = ["GET", "POST", "HEAD"], other = "other" }',
    "status_code": '{ do = "keep", because = "bench" }',
    "user_agent": '"tag"',
    "referrer": '"present"',
    "response_body_len": '{ do = "bucket", edges = "log2" }',
}


_CELLS: dict[str, tuple[pa.DataType, Callable[[int], object]]] = {
    "Address": (pa.binary(16), lambda row: bytes(10) + b"\xff\xff\x0a" + (row % 5000).to_bytes(3, "big")),
    "Time": (pa.timestamp("ns", tz="UTC"), lambda row: 1_700_000_000_000_000_000 + row),
    "Duration": (pa.duration("ns"), lambda _: 1_000_000),
    "Port": (pa.uint16(), lambda _: 200),
    "Code": (pa.uint16(), lambda _: 200),
    "Vlan": (pa.uint16(), lambda _: 200),
    "Bytes": (pa.uint64(), lambda row: row),
    "Count": (pa.uint64(), lambda row: row),
    "FlowId": (pa.uint64(), lambda row: row),
    "Flags": (pa.uint64(), lambda row: row),
    "Flag": (pa.bool_(), lambda _: True),
    "Score": (pa.float64(), lambda _: 1.0),
    "TextList": (pa.list_(pa.string()), lambda _: ["one"]),
    "AddressList": (pa.list_(pa.binary(16)), lambda _: [bytes(16)]),
    "Mac": (pa.binary(6), lambda _: bytes(6)),
    "Digest": (pa.string(), lambda _: "00ff"),
}
_TEXTS: dict[str, Callable[[int], str]] = {
    "host": lambda row: f"www.site{row % 500}.example.com",
    "uri": lambda row: f"/a/{row % 50}/page.html?q=1",
    "method": lambda row: ("GET", "POST")[row % 2],
    "user_agent": lambda row: f"Mozilla/5.0 (X11; Linux x86_64) agent {row % 40}",
}


def _word(_: int) -> str:
    return "word"


def _http_batch(rows: int, schema: RecordSchema) -> Batch:
    """Typical transactions with these columns."""
    columns: list[pa.Array] = []
    for field in schema.fields:
        kind, cell = _CELLS.get(field.type.value, (pa.string(), _word))
        make: Callable[[int], object] = _TEXTS.get(field.name, cell)
        columns.append(pa.array([make(row) for row in range(rows)], kind))
    names = [field.name for field in schema.fields]
    return Batch.from_arrow(pa.record_batch(columns, names=names)).conform(schema.described())


def transforms(rows: int) -> Table:
    """Rows a CPU-second through the gate, by transform and for a typical policy of HTTP."""
    keep_heap()  # as the releaser does
    schema = message_record("http")
    table = Table(
        title=f"Rows of HTTP through the gate, batches of {rows:,}",
        columns=("rules", "rows a CPU-second"),
        notes=[
            "decoding, all checks, canonical order and encoding included; the first row is their cost with one rule",
            "a batch has the columns that the rules read, as in a run; the last row is the same with all of them",
        ],
    )
    cases = {f"{name} = {rule}": {name: rule} for name, rule in _HTTP_RULES.items()}
    cases["typical: all of these"] = cases[_WHOLE] = _HTTP_RULES
    for name, rules in cases.items():
        body = "\n".join(f"{field} = {rule}" for field, rule in rules.items())
        text = f'[policy]\nformat = 1\nname = "bench"\npurpose = "bench"\n[out.http]\n{body}\n'
        policy = policy_of(text, {"http": schema}, {}, name="bench")
        sent = schema if name == _WHOLE else crossing(policy)["http"]
        ipc = _http_batch(rows, sent).ipc()
        gate = Gate(policy.compiled(), {"http": sent.described()})
        gate.clear("http", ipc)
        spent = []
        for _ in range(_BATCHES):
            before = time.process_time()
            gate.clear("http", ipc)
            spent.append(time.process_time() - before)
        table.add(name, rows / max(median(spent) or 0.0, 1e-9))
    return table


@click.command("clear")
@click.option("--packets", default=500_000, show_default=True, help="Packets of the capture.")
@click.option("--rounds", default=3, show_default=True, help="Rounds; medians are reported.")
@click.option("--rows", default=60_000, show_default=True, help="Rows of a batch for the transforms.")
@click.option("--work", type=click.Path(path_type=Path), default=None, help="Folder for captures and outputs.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the tables as JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Write the tables as Markdown.")
def measure_clear(
    *, packets: int, rounds: int, rows: int, work: Path | None, json_path: Path | None, markdown_path: Path | None
) -> None:
    """Header traces beside traceanon, tcprewrite, PktAnon, leak searches over all outputs; ciphers; transforms."""
    folder = work or default_work()
    check_work(folder, 6 * 700 * packets)
    tables: Sequence[Table] = [
        *compare(folder, packets, rounds, packets_a_flow=16),
        *compare(folder, packets // 5, rounds, packets_a_flow=1),
        canary_table(folder),
        ciphers(200_000),
        transforms(rows),
    ]
    show(tables)
    write(tables, json_path=json_path, markdown_path=markdown_path)
