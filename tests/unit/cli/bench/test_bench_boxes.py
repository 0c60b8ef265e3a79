"""The four bars: what is lost is told, what no round lost is the bar, and emulation is said."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bunker.cli.bench import boxes
from bunker.cli.bench.boxes import BARS, Counters, Load, lost, table_of
from bunker.closed.process.capture_bench import _NoCipher
from bunker.image.qemu import Acceleration

LOAD = Load(size=300, rates=(1000, 2000), seconds=1.0, ring_bytes=16 << 20, block_bytes=1 << 20)


def test_a_bar_is_the_highest_rate_of_which_no_round_lost_anything() -> None:
    samples = {"plain": [{1000: 0.0, 2000: 0.0}, {1000: 0.0, 2000: 0.25}], "machine": [{1000: 0.1, 2000: 0.5}]}
    table = table_of(LOAD, samples, fast=Acceleration.KVM)
    assert table.rows == [("plain", 1000, 2.4, "0.00%", "25.00%"), ("machine", None, None, "10.00%", "50.00%")]
    assert not any("EMULATED" in note for note in table.notes)
    assert any("EMULATED" in note for note in table_of(LOAD, samples, fast=Acceleration.TCG).notes)


def test_counters_are_quiet_when_they_stand_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "_QUIET_S", 0.3)
    told = tmp_path / "told"
    told.write_text('[    1.0] bench: {"packets": 5}\n[    2.0] bench: {"packets": 7}\n[    3.0] bench: {"pack')
    with subprocess.Popen(["sleep", "30"]) as process:
        counters = Counters(told, process)
        counters.started()
        assert counters.quiet() == 7
        process.kill()


def test_plain_copies_what_sealing_would_seal() -> None:
    out = memoryview(bytearray(10))
    _NoCipher().encrypt_into(b"", b"packets", b"", out)
    assert bytes(out) == b"packets\0\0\0"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.parametrize("bar", [bar for bar in BARS if not bar.machine], ids=lambda bar: bar.name)
def test_a_hosts_bar_catches_a_slow_burst(bar: boxes.Bar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "_QUIET_S", 2.2)
    found = lost(bar, LOAD, work=tmp_path, image=None, fast=Acceleration.TCG)  # type: ignore[arg-type]  # unused
    assert found == {1000: 0.0, 2000: 0.0}
