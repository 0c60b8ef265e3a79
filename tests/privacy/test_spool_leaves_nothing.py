"""A process that seals is killed at random moments: spool and temporary directories hold nothing of the traffic."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import canary
import pytest
import sealing_victim
from spooling import spool

MOMENTS = 50


def kill_while_sealing(root: Path, seed: str, moments: int, *mode: str) -> dict[str, Any]:
    """Run the victim with all its directories below `root`."""
    places = {
        "TMPDIR": root / "tmp",
        "HOME": root / "home",
        "XDG_CACHE_HOME": root / "cache",
        "XDG_RUNTIME_DIR": root / "run",
    }
    for place in (root / "cwd", *places.values()):
        place.mkdir(parents=True)
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-B", sealing_victim.__file__, str(root / "box" / "spool"), seed, str(moments), *mode]
    (root / "box").mkdir()
    done = subprocess.run(command, cwd=root / "cwd", env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (root / "stderr").write_bytes(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_killed_at_random_moments_it_leaves_noise(tmp_path: Path) -> None:
    seed = secrets.token_hex(8)
    print("seed", seed)
    result = kill_while_sealing(tmp_path, seed, MOMENTS)
    assert result["killed"] == MOMENTS
    assert result["written"] > MOMENTS // 2, "most moments must lie behind the first write, or they show nothing"
    assert result["hits"] == []
    assert canary.search_tree(tmp_path, canary.make_canaries(seed)) == []
    assert list((tmp_path / "box" / "spool").iterdir()) == []


def test_the_same_search_finds_all_canaries_of_a_spool_that_is_not_sealed(tmp_path: Path) -> None:
    result = kill_while_sealing(tmp_path, "control", 3, "open")
    assert result["killed"] == 3 and len(result["hits"]) >= 16
    assert set(result["hits"]) == {found.name for found in canary.make_canaries("control").all}


@pytest.mark.parametrize("lap", [1, 2])
def test_whole_spool_holds_nothing_of_what_was_sealed(tmp_path: Path, lap: int) -> None:
    """In the first lap and after files were used again; in files, names and what a compressor would hide."""
    canaries = canary.make_canaries(f"spool {lap}")
    traffic = sealing_victim.traffic(tmp_path / "elsewhere.pcap", canaries)
    (tmp_path / "elsewhere.pcap").unlink()
    with spool(tmp_path / "spool", lanes=2, slots=2, slot_bytes=64 << 10) as lanes:
        for lane in lanes:
            for number in range(lap * lane.slots):
                lane.seal(traffic[: lane.longest])
                lane.writer.release(number if number < (lap - 1) * lane.slots else -1)
            assert canary.search(lane.all_bytes(), canaries, shortest=6) == []
            assert canary.search(traffic[: lane.longest], canaries, shortest=6) != []
        assert canary.search_tree(tmp_path, canaries) == []
