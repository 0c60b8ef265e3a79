"""Others read every header trace: tshark finds no malformed packet, tcpdump no fault; the corpus, the canaries."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from canary import make_canaries
from canary_capture import write_canary_capture

from bunker.cli.anonymize import make_trace
from bunker.policy.trace_file import read_trace

EXAMPLES = Path(__file__).parents[2] / "examples" / "header-trace"
CORPUS = Path(os.environ.get("BUNKER_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
_MAGICS = (
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\xc3\xd4",
    b"\x4d\x3c\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
    b"\x0a\x0d\x0d\x0a",
    b"\x34\xcd\xb2\xa1",
    b"\xa1\xb2\xcd\x34",
)
# Everything that a policy can let out: more layers, more to get wrong.
WIDE = """
[policy]
format = 1
name = "wide"
purpose = "every rule, for readers to find fault with"
accept = ["exact-sizes", "exact-ports", "exact-numbers", "os-fingerprint", "seq-shows-sizes"]
[sites]
services = { tcp = [80], udp = [53] }
[out.pcap]
time = { do = "shift+grain", grain = "1us" }
wirelen = "bucket"
fragments = "headers"
unknown_ip_proto = "l3-only"
malformed = "emit-parsed-prefix"
truncated = "emit-parsed-prefix"
tunnels = ["ipip", "gre", "vxlan", "geneve", "gtp", "teredo"]
[out.pcap.eth]
src = "tag48"
dst = "tag48"
type = { do = "allow", values = ["ipv4", "ipv6", "arp"] }
vlan = "tag"
[out.pcap.arp]
op = { do = "allow", values = [1, 2, 3, 4, 8, 9] }
sha = "tag48"
tha = "tag48"
spa = "tag"
tpa = "tag"
[out.pcap.ipv4]
src = "tag"
dst = "tag"
id = "if-fragment"
flags = { do = "keep", because = "test" }
ttl = { do = "const", value = 64 }
options = { allow = ["eol", "nop", "router_alert"] }
checksum = "validity"
[out.pcap.ipv6]
src = "tag"
dst = "tag"
flow_label = "tag"
hop_limit = "hops"
ext_headers = { allow = ["fragment"], other = "skip" }
[out.pcap.tcp]
sport = { do = "keep", because = "test" }
dport = { do = "keep", because = "test" }
seq = "rel"
ack = "rel"
flags = { do = "keep", because = "test" }
window = { do = "keep", because = "test" }
urg = { do = "keep", because = "test" }
checksum = "validity"
[out.pcap.tcp.options]
allow = ["eol", "nop", "sackperm"]
sack = "rel"
ts = "flow_rank"
mss = { do = "keep", because = "test" }
wscale = { do = "keep", because = "test" }
[out.pcap.udp]
sport = { do = "keep", because = "test" }
dport = { do = "keep", because = "test" }
checksum = "validity"
[out.pcap.icmp]
types = { do = "allow", values = [0, 3, 4, 5, 8, 11, 12] }
echo_id = "flow_tag16"
echo_seq = "rel"
mtu = { do = "keep", because = "test" }
gateway = "tag"
quoted = "recurse"
checksum = "validity"
[out.pcap.icmpv6]
types = { do = "allow", values = [1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137] }
echo_id = "flow_tag16"
echo_seq = "rel"
mtu = { do = "keep", because = "test" }
quoted = "recurse"
nd_target = "tag"
nd_lladdr = "tag48"
checksum = "validity"
"""
POLICIES = {path.stem: path.read_text() for path in sorted(EXAMPLES.glob("*.toml")) if "[out.pcap]" in path.read_text()}
POLICIES["wide"] = WIDE


def captures(folder: Path) -> tuple[Path, ...]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(4)
            if head in _MAGICS or head == b"\x28\xb5\x2f\xfd" or head[:2] == b"\x1f\x8b":
                found.append(path)
    return tuple(found)


def readable(trace: Path) -> int:
    """Frames that tshark has read; fails at the first that it calls malformed."""
    command = ["tshark", "-r", str(trace), "-Y", "_ws.malformed", "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "malformed"
    read = ["tcpdump", "-n", "-r", str(trace)]
    told = subprocess.run(read, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    assert told.returncode == 0, told.stderr
    counted = subprocess.run([*read, "--count"], capture_output=True, check=False, text=True)
    return int(counted.stdout.split()[0])


needs_readers = pytest.mark.skipif(
    shutil.which("tshark") is None or shutil.which("tcpdump") is None, reason="tshark and tcpdump are the readers"
)


@needs_readers
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here (BUNKER_CORPUS)")
@pytest.mark.parametrize("policy", POLICIES)
def test_the_whole_corpus_is_read_without_a_malformed_packet(policy: str, tmp_path: Path) -> None:
    """All captures into one trace, so that one call of each reader does."""
    files = captures(CORPUS)
    trace = tmp_path / "trace.pcapng"
    _, counts = make_trace(files, trace, read_trace(POLICIES[policy], name=policy))
    assert len(files) > 100 and counts["released"] > 5_000
    assert readable(trace) == counts["released"]


@needs_readers
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("file", ["pcapng", "pcap"])
def test_canaries_are_read_without_a_malformed_packet(policy: str, file: str, tmp_path: Path) -> None:
    raw, trace = tmp_path / "raw.pcap", tmp_path / "trace"
    write_canary_capture(raw, make_canaries("reading"))
    text = POLICIES[policy].replace('file = "pcapng"', "").replace("[out.pcap]\n", f'[out.pcap]\nfile = "{file}"\n')
    _, counts = make_trace((raw,), trace, read_trace(text, name=policy))
    assert readable(trace) == counts["released"] > 50
