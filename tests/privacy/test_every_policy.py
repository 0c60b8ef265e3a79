"""Every example policy over a capture full of canaries: nothing of them is in anything that comes out.

The policies are found in `examples/`: a new study is covered by being there.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from boxes import bunker, study
from canary import Canaries, make_canaries, search_tree
from canary_capture import write_canary_capture

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPERIMENTS = sorted(EXAMPLES.glob("*/experiment.toml"))
HEADER_TRACES = [
    path for path in sorted(EXAMPLES.glob("*/*.toml")) if "pcap" in tomllib.loads(path.read_text()).get("out", {})
]
KEEPS_ADDRESSES = """
[policy]
format = 1
name = "control"
purpose = "to be found"
accept = ["exact-sizes", "exact-ports", "exact-numbers", "seq-shows-sizes", "os-fingerprint"]
[out.pcap]
time = { do = "rel", grain = "1ms" }
wirelen = { do = "keep", because = "to be found" }
[out.pcap.eth]
type = { do = "allow", values = ["ipv4"] }
[out.pcap.ipv4]
src = "pfx"
id = { do = "keep", because = "to be found" }
flags = { do = "keep", because = "to be found" }
ttl = { do = "keep", because = "to be found" }
[out.pcap.tcp]
sport = { do = "keep", because = "to be found" }
dport = { do = "keep", because = "to be found" }
seq = { do = "keep", because = "to be found" }
"""


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return make_canaries("every policy")


@pytest.fixture(scope="module")
def capture(canaries: Canaries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("canaries") / "canaries.pcap"
    write_canary_capture(path, canaries, copies=4)
    return path


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_a_run_of_an_example_lets_nothing_out(
    experiment: Path, canaries: Canaries, capture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = bunker("run", str(experiment), "--read", str(capture), "-o", str(out))
    assert done.returncode == 0, done.stderr
    (tmp_path / "said").write_bytes(done.stdout + done.stderr)
    assert search_tree(tmp_path, canaries, shortest=5) == []
    assert bunker("verify", str(out)).returncode == 0


@pytest.mark.parametrize("policy", HEADER_TRACES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_header_trace_by_an_example_lets_nothing_out(
    policy: Path, canaries: Canaries, capture: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    done = bunker("anonymize", str(capture), "-o", str(trace), "--policy", str(policy))
    assert done.returncode == 0, done.stderr
    assert trace.stat().st_size > capture.stat().st_size // 10
    (tmp_path / "said").write_bytes(done.stdout + done.stderr)
    assert search_tree(tmp_path, canaries, shortest=4) == []


def test_the_same_search_finds_what_a_policy_keeps(canaries: Canaries, capture: Path, tmp_path: Path) -> None:
    """The control: ports, IP-IDs, and in the capture itself every canary."""
    policy = tmp_path / "policy.toml"
    policy.write_text(KEEPS_ADDRESSES)
    trace = tmp_path / "trace.pcapng"
    assert bunker("anonymize", str(capture), "-o", str(trace), "--policy", str(policy)).returncode == 0
    assert {hit.canary for hit in search_tree(trace, canaries, shortest=4)} >= {"port", "ip-id"}
    assert {hit.canary for hit in search_tree(capture, canaries, shortest=4)} == {one.name for one in canaries.all}


def test_packets_leave_a_box_as_a_file_that_verifies_and_no_other_byte_passes(
    canaries: Canaries, capture: Path, tmp_path: Path
) -> None:
    policy = (EXAMPLES / "header-trace" / "policy.toml").read_text()
    out = tmp_path / "out"
    done = study(tmp_path / "s", policy=policy, analyzers=("packets",), lanes=1).run(out, "--read", str(capture))
    assert done.returncode == 0, done.stderr
    trace = out / "pcap.pcapng"
    content = trace.read_bytes()
    assert content.startswith(b"\x0a\x0d\x0d\x0a")
    assert bunker("verify", str(out)).returncode == 0
    trace.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert bunker("verify", str(out)).returncode == 1
