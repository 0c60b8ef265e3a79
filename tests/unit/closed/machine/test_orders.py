"""The run disk: what is packed is unpacked; anything else stops the start."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import pytest

from bunker import limits
from bunker.closed.machine.orders import MAGIC, Orders, Way, pack, unpack, whole_bytes
from bunker.errors import BoxError

BUNDLE = b"a bundle" * 100
WAY = Way(mac="02:62:75:6e:6b:01", address="10.0.2.15", prefix=24, target="10.0.2.100", port=9000)
ORDERS = Orders(bundle=hashlib.sha256(BUNDLE).hexdigest(), way=WAY, captures=(7, 513))


def test_what_is_packed_is_unpacked() -> None:
    content = pack(ORDERS, BUNDLE)
    assert len(content) % 512 == 0
    assert unpack(content) == (ORDERS, BUNDLE)
    assert unpack(content[: whole_bytes(content[:512])]) == (ORDERS, BUNDLE)


@pytest.mark.parametrize("at", [0, 15, 16, 20, 24, 40, 300, 700, -600])
def test_a_flipped_byte_is_refused(at: int) -> None:
    content = bytearray(pack(ORDERS, BUNDLE))
    content[at] ^= 0x80
    with pytest.raises(BoxError):
        unpack(bytes(content))


@pytest.mark.parametrize("length", [0, 1, 23, 24, 100, 500])
def test_a_short_disk_is_refused(length: int) -> None:
    with pytest.raises(BoxError):
        unpack(pack(ORDERS, BUNDLE)[:length])


def test_an_unknown_field_is_refused() -> None:
    head = msgspec.json.encode({**msgspec.to_builtins(ORDERS), "init": "/bin/sh"})
    with pytest.raises(BoxError):
        unpack(struct.pack("<16sII", MAGIC, len(head), len(BUNDLE)) + head + BUNDLE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "host.example"),
        ("target", "10.0.2.256"),
        ("target", "10.0.2.1; flush ruleset"),
        ("address", "::1"),
        ("mac", "02:62:75:6e:6b:01\n"),
        ("mac", "eth0"),
        ("port", 0),
        ("port", 65536),
        ("prefix", 0),
        ("prefix", 32),
    ],
)
def test_a_way_out_is_an_address_and_nothing_else(field: str, value: object) -> None:
    way = {**msgspec.to_builtins(WAY), field: value}
    head = msgspec.json.encode({**msgspec.to_builtins(ORDERS), "way": way})
    with pytest.raises(BoxError):
        unpack(struct.pack("<16sII", MAGIC, len(head), len(BUNDLE)) + head + BUNDLE)


def test_claims_beyond_the_limits_are_refused() -> None:
    for head, bundle in ((limits.RUN_DISK_HEAD_BYTES.default + 1, 0), (0, limits.RUN_DISK_BUNDLE_BYTES.default + 1)):
        with pytest.raises(BoxError, match="limits"):
            whole_bytes(struct.pack("<16sII", MAGIC, head, bundle))
