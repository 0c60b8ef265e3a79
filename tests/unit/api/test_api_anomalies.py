"""The names of anomaly bits are those of the core."""

from __future__ import annotations

import re
from enum import IntFlag
from pathlib import Path

import pytest

from bunker.api import dns, mail, ssh, tls

_CRATE = Path(__file__).resolve().parents[3] / "crates" / "proto" / "src"
_BIT = re.compile(r"^    pub const (\w+): u64 = (\d+)(?: << (\d+))?;", re.MULTILINE)


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (tls.Anomaly, "tls/mod.rs"),
        (mail.Anomaly, "mail/mod.rs"),
        (ssh.Anomaly, "ssh.rs"),
        (dns.Anomaly, "dns/mod.rs"),
    ],
)
def test_bits_are_those_of_the_core(names: type[IntFlag], file: str) -> None:
    bits = {
        name: int(value) << int(shift or 0)
        for name, value, shift in _BIT.findall((_CRATE / file).read_text(encoding="utf-8"))
    }
    assert bits
    assert {anomaly.name: anomaly.value for anomaly in names} == bits
