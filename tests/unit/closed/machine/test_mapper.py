"""Device-mapper requests as the kernel expects them; the kernel itself answers in tests/image."""

from __future__ import annotations

import struct

import pytest

from bunker.closed.machine import mapper
from bunker.errors import BoxError

VERITY = mapper.Verity(root_hash="ab" * 32, salt="cd" * 32, data_blocks=10)


def test_a_verity_table_names_the_hash_and_ends_the_machine_on_corruption() -> None:
    table = VERITY.table("/dev/vda")
    assert table == f"1 /dev/vda /dev/vda 4096 4096 10 11 sha256 {'ab' * 32} {'cd' * 32} 1 panic_on_corruption"
    assert VERITY.sectors == 80


def test_the_request_is_the_kernels_structure() -> None:
    assert mapper._HEAD.size == 312
    assert mapper._TARGET.size == 40
    request = mapper._request("spool", flags=1, payload=8, targets=1)
    assert len(request) == 320
    assert struct.unpack_from("=3I", request) == (4, 0, 0)
    assert struct.unpack_from("=III", request, 12) == (320, 312, 1)
    assert request[48:53] == b"spool"


def test_without_a_device_mapper_the_start_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapper, "CONTROL", "/nonexistent")
    with pytest.raises(BoxError, match="device mapper"):
        mapper.open_encrypted("x", "/dev/null", sectors=8)


def test_forgetting_a_key_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapper, "CONTROL", "/nonexistent")
    assert not mapper.forget_key("x")
