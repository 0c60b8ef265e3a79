"""Canaries in every place of a capture, through real runs: nothing of them comes out, nothing stays behind."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from boxes import BUNKER, EXAMPLE, FLOW_OUT, HTTP_OUT, POLICY, bunker, counters, rows, study
from canary import Canaries, Hit, make_canaries, may_be_chance, search_tree
from canary_capture import write_canary_capture

STRICT = POLICY + HTTP_OUT + FLOW_OUT
EVERYTHING_THAT_MAY = (
    POLICY
    + """
[out.flow]
ts = { do = "shift+grain", grain = "1s" }
orig_h = "pfx"
resp_h = "pfx"
uid = "tag"
proto = { do = "allow", values = ["tcp", "udp", "icmp"], other = "other" }
history = "len"
[out.http]
host = "tag"
uri = "depth"
user_agent = "tag"
referrer = "present"
resp_mime_type = "tag"
location = "len"
[out.dns]
query = "etld1_tag"
answers = "present"
addresses = "pfx"
[out.tls]
server_name = "tag"
ja4 = "tag"
"""
)


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return make_canaries("no canary leaves")


@pytest.fixture(scope="module")
def capture(canaries: Canaries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("canaries") / "canaries.pcap"
    write_canary_capture(path, canaries, copies=40)
    return path


def left(canaries: Canaries, *places: Path) -> list[Hit]:
    return [hit for place in places for hit in search_tree(place, canaries, shortest=6)]


def nothing_left(canaries: Canaries, *places: Path) -> None:
    assert [hit for hit in left(canaries, *places) if not may_be_chance(hit, canaries)] == []


def nothing_comes_out(canaries: Canaries, run: Callable[[int], Iterable[Path]]) -> None:
    """Run; and if the digits of a port are found, which hex digits of a pseudonym are once in a while, run again."""
    first = left(canaries, *run(1))
    assert [hit for hit in first if not may_be_chance(hit, canaries)] == []
    if first:
        again = {hit.canary for hit in left(canaries, *run(2))}
        assert [hit for hit in first if hit.canary in again] == []


@pytest.mark.parametrize("policy", [STRICT, EVERYTHING_THAT_MAY])
@pytest.mark.parametrize("box", ["process", "none"])
def test_nothing_of_the_traffic_comes_out(
    policy: str, box: str, canaries: Canaries, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search_tree(capture.parent, canaries, shortest=6), "the search finds them where they are"

    def run(number: int) -> Iterable[Path]:
        base = tmp_path / str(number)
        scratch, out, told = base / "tmp", base / "out", base / "told"
        for folder in (scratch, told):
            folder.mkdir(parents=True)
        monkeypatch.setenv("TMPDIR", str(scratch))
        one = study(base / "s", policy=policy, analyzers=("flow", "http", "dns", "tls"))
        done = one.run(out, "--read", str(capture), "--closed-box", box)
        assert done.returncode == 0, done.stderr
        assert len(rows(out, "http")) > 0
        (told / "out").write_bytes(done.stdout)
        (told / "err").write_bytes(done.stderr)
        for record in ("flow", "http"):
            (told / record).write_bytes(bunker("show", str(out), record, "--csv").stdout)
        return out, one.folder, scratch, told

    nothing_comes_out(canaries, run)


@pytest.mark.parametrize(("digits_in", "leaks"), [({1}, False), ({1, 2}, True)])
def test_digits_of_a_port_count_if_every_run_has_them(
    digits_in: set[int], leaks: bool, canaries: Canaries, tmp_path: Path
) -> None:
    [number] = next(canary.numbers for canary in canaries.all if canary.name == "port")

    def run(turn: int) -> Iterable[Path]:
        (tmp_path / str(turn)).write_text(f"ab{number}cd" if turn in digits_in else "nothing")
        return [tmp_path / str(turn)]

    if leaks:
        with pytest.raises(AssertionError):
            nothing_comes_out(canaries, run)
    else:
        nothing_comes_out(canaries, run)


def test_a_policy_that_lets_it_out_is_seen(canaries: Canaries, capture: Path, tmp_path: Path) -> None:
    """The search is no check that always passes: what a policy keeps is found."""
    policy = POLICY + f'[out.http]\nhost = {{ do = "allow", values = ["{canaries.text("host")}.example"] }}\n'
    out = tmp_path / "out"
    assert study(tmp_path / "s", policy=policy).run(out, "--read", str(capture)).returncode == 0
    assert {hit.canary for hit in search_tree(out, canaries, shortest=6)} >= {"host"}


def test_the_example_lets_nothing_out(canaries: Canaries, capture: Path, tmp_path: Path) -> None:
    def run(number: int) -> Iterable[Path]:
        out = tmp_path / str(number)
        done = bunker("run", str(EXAMPLE / "experiment.toml"), "--read", str(capture), "-o", str(out))
        assert done.returncode == 0, done.stderr
        assert counters(out)["packets_analysed"] > 0
        return [out]

    nothing_comes_out(canaries, run)


@pytest.mark.parametrize("moment", range(10))
def test_nothing_stays_behind_a_kill(moment: int, canaries: Canaries, capture: Path, tmp_path: Path) -> None:
    one = study(tmp_path / "s", policy=STRICT)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*BUNKER, "run", str(one.file), "-o", str(out), "--read", str(capture)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.2 + moment * 0.06)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    copied = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(tmp_path / "s"), str(copied)], check=True)
    nothing_left(canaries, tmp_path / "s", copied)
    if out.exists():
        nothing_left(canaries, out)
        assert bunker("verify", str(out)).returncode in {0, 1, 2}
