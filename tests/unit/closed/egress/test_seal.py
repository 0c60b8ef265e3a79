"""What is sealed to a remote open box opens there, whole and in any pieces, and nowhere else."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from enveloping import cut, usual
from hypothesis import given
from hypothesis import strategies as st

from bunker.closed.egress.outlet import Outlet
from bunker.closed.egress.seal import Sealer, sealer_for
from bunker.errors import ConfigurationError
from bunker.model.envelope import EnvelopeRefused, Refusal
from bunker.model.sealing import HEAD_BYTES, WRAPPING_BYTES
from bunker.open.unseal import Unsealer, new_private_key, read_private_key

KEY = X25519PrivateKey.from_private_bytes(bytes([7]) * 32)
STRANGER = X25519PrivateKey.from_private_bytes(bytes([8]) * 32)
ENVELOPE = usual().envelopes[0]


def sealer() -> Sealer:
    return Sealer(KEY.public_key().public_bytes_raw().hex())


@given(st.lists(st.binary(min_size=1, max_size=4000), max_size=5), st.integers(min_value=1, max_value=700))
def test_what_was_sealed_opens_in_any_pieces(envelopes: list[bytes], step: int) -> None:
    one, unsealer = sealer(), Unsealer(KEY)
    stream = b"".join(one.seal(envelope) for envelope in envelopes)
    assert len(stream) == sum(map(len, envelopes)) + WRAPPING_BYTES * len(envelopes)
    opened = [plain for at in range(0, len(stream), step) for plain in unsealer.feed(stream[at : at + step])]
    assert opened == envelopes


def test_nothing_of_the_envelope_can_be_read_and_no_two_wrappings_are_the_same() -> None:
    one, two = sealer().seal(ENVELOPE), sealer().seal(ENVELOPE)
    assert one != two
    windows = {ENVELOPE[at : at + 8] for at in range(len(ENVELOPE) - 7)}
    assert not any(one[at : at + 8] in windows for at in range(len(one) - 7))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda wrapped: b"BNKR" + wrapped[4:], Refusal.MAGIC),
        (lambda wrapped: wrapped[:4] + struct.pack("<H", 2) + wrapped[6:], Refusal.VERSION),
        (lambda wrapped: wrapped[:6] + b"\x01\x00" + wrapped[8:], Refusal.MAGIC),
        (lambda wrapped: wrapped[:8] + struct.pack("<I", 0xFFFFFFFF) + wrapped[12:], Refusal.LENGTH),
        (lambda wrapped: wrapped[:8] + struct.pack("<I", 48) + wrapped[12:], Refusal.LENGTH),
        (lambda wrapped: wrapped[:12] + bytes(32) + wrapped[44:], Refusal.CHECK),
        (lambda wrapped: wrapped[:-1] + bytes([wrapped[-1] ^ 1]), Refusal.CHECK),
        (lambda wrapped: wrapped[:60] + bytes([wrapped[60] ^ 1]) + wrapped[61:], Refusal.CHECK),
    ],
)
def test_a_changed_wrapping_is_refused_and_so_is_what_follows(
    change: Callable[[bytes], bytes], refusal: Refusal
) -> None:
    good = sealer().seal(ENVELOPE)
    unsealer = Unsealer(KEY)
    assert list(unsealer.feed(good)) == [ENVELOPE]
    with pytest.raises(EnvelopeRefused) as refused:
        list(unsealer.feed(change(good)))
    assert refused.value.kind is refusal
    with pytest.raises(EnvelopeRefused):
        list(unsealer.feed(good))


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(EnvelopeRefused) as refused:
        list(Unsealer(STRANGER).feed(sealer().seal(ENVELOPE)))
    assert refused.value.kind is Refusal.CHECK


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Sealer(text)


def test_an_experiment_without_a_key_seals_nothing() -> None:
    assert sealer_for(None) is None


def test_the_outlet_queues_sealed_envelopes_and_counts_their_wrapping() -> None:
    reading, writing = os.pipe()
    room = len(ENVELOPE) + WRAPPING_BYTES
    outlet = Outlet(writing, queue_bytes=room, reserve_bytes=0, sealer=sealer())
    assert outlet.room(len(ENVELOPE), records=True) and not outlet.room(len(ENVELOPE) + 1, records=True)
    outlet.put(ENVELOPE)
    assert outlet.finish()
    stream = os.read(reading, 1 << 20)
    os.close(reading)
    assert len(stream) == room and stream[HEAD_BYTES:] != ENVELOPE
    assert [one.raw for one in cut(b"".join(Unsealer(KEY).feed(stream)))] == [ENVELOPE]


def test_a_private_key_is_made_once_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    public = new_private_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(Unsealer(read_private_key(path)).feed(Sealer(public).seal(ENVELOPE))) == [ENVELOPE]
    with pytest.raises(ConfigurationError, match="cannot be made"):
        new_private_key(path)
    other = tmp_path / "other.pem"
    other.write_bytes(b"no key")
    with pytest.raises(ConfigurationError, match="no private key"):
        read_private_key(other)
