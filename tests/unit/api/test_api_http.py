"""The names of the anomalies are the core's."""

from __future__ import annotations

import re
from pathlib import Path

from bunker.api.http import FACTS, Anomaly

_HEAD = Path(__file__).resolve().parents[3] / "crates" / "proto" / "src" / "http" / "head.rs"


def test_anomalies_are_the_bits_of_the_core() -> None:
    text = _HEAD.read_text(encoding="utf-8")
    bits = {name: 1 << int(shift or 0) for name, shift in re.findall(r"pub const (\w+): u64 = 1(?: << (\d+))?;", text)}
    assert bits == {anomaly.name: anomaly.value for anomaly in Anomaly}
    names = text[text.index("pub const NAMES") :]
    listed = re.findall(r'^        "(\w+)",$', names[: names.index("];")], re.MULTILINE)
    assert listed == [str(anomaly.name).lower() for anomaly in Anomaly]


def test_facts_of_the_capture_are_no_anomalies_of_the_message() -> None:
    assert Anomaly.TRUNCATED in FACTS
    assert Anomaly.LENGTH_AND_CODING not in FACTS
