"""The cost of a program is that of its whole tree; a peer that is not here is missed with a remedy."""

from __future__ import annotations

import sys
from pathlib import Path

from bunker.cli.bench.peers import PEERS, Peer, missing_note, run

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN.format(seconds=0.4)!r}])"


def test_cpu_of_a_child_counts(tmp_path: Path) -> None:
    cost = run([sys.executable, "-c", CHILD], output=tmp_path / "out")
    assert cost.exit_code == 0 and 0.4 <= cost.cpu_s < 3 and cost.wall_s >= 0.4


def test_cpu_is_told_by_process(tmp_path: Path) -> None:
    renamed = f"open('/proc/self/comm', 'w').write('bench-child'); {BURN.format(seconds=0.4)}"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {renamed!r}])"
    cost = run([sys.executable, "-c", code], output=tmp_path / "out")
    assert 0.2 <= cost.cpu_by_name["bench-child"] <= cost.cpu_s


def test_memory_of_a_child_counts(tmp_path: Path) -> None:
    hold = "import time; held = bytearray(64 << 20); time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    cost = run([sys.executable, "-c", code], output=tmp_path / "out")
    assert 64 << 20 < cost.peak_bytes < 256 << 20


def test_exit_code_and_output_are_kept(tmp_path: Path) -> None:
    cost = run([sys.executable, "-c", "print('said'); raise SystemExit(7)"], output=tmp_path / "out")
    assert cost.exit_code == 7 and cost.output.strip() == "said"


def test_version_is_found_and_a_missing_program_is_missing() -> None:
    here = Peer(name="python", does="-", version_argv=(sys.executable, "--version"), install="-")
    assert here.maybe_version() == sys.version.split()[0]
    absent = Peer(name="absent", does="-", version_argv=("no-such-program-here",), install="-")
    assert absent.maybe_version() is None
    module = Peer(name="m", does="-", version_argv=(sys.executable, "-c", "import no_such_module"), install="-")
    assert module.maybe_version() is None


def test_each_peer_says_how_to_get_it() -> None:
    for peer in PEERS:
        assert missing_note(peer.name).endswith(peer.install) and peer.install.split()[0] in ("apt-get", "pip")
