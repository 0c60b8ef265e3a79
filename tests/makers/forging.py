"""What an open box, or whoever stands before it, could do to a stream; and boxes that lie.

`dropped` … `spliced` handle envelopes as they are. `refit` mends the checks after an edit, `restamped` the chain too.
`Liar` is a box with a key of its own that breaks rules which `Envelopes` cannot break.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from enveloping import Clearing, birth_of, cut, story

from bunker.closed.egress.envelopes import Envelopes
from bunker.model.envelope import HEADER_BYTES, NO_PREVIOUS, Envelope, Kind, pack
from bunker.model.heartbeat import canonical, fingerprint
from bunker.native.clear import ClearedBatch

HEAD = struct.Struct("<4sHBB16sQI32s")
Raws = tuple[bytes, ...]
Statement = dict[str, Any]


def dropped(stream: Sequence[bytes], *which: int) -> Raws:
    """Without these."""
    return tuple(one for number, one in enumerate(stream) if number not in which)


def duplicated(stream: Sequence[bytes], which: int, before: int) -> Raws:
    """One of them a second time, before that one."""
    return (*stream[:before], stream[which], *stream[before:])


def swapped(stream: Sequence[bytes], one: int, other: int) -> Raws:
    """Two in each other's place."""
    out = list(stream)
    out[one], out[other] = out[other], out[one]
    return tuple(out)


def replaced(stream: Sequence[bytes], which: int, envelope: bytes) -> Raws:
    """Another in this place."""
    return (*stream[:which], envelope, *stream[which + 1 :])


def refit(raw: bytes) -> bytes:
    """The same with checks that fit."""
    head = raw[: HEAD.size]
    middle = head + struct.pack("<I", zlib.crc32(head)) + raw[HEADER_BYTES:-4]
    return middle + struct.pack("<I", zlib.crc32(middle))


def flipped(raw: bytes, at: int, mask: int = 1) -> bytes:
    """One byte changed."""
    return raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


def with_head(raw: bytes, **fields: Any) -> bytes:
    """Other header fields, checks that fit."""
    names = ("magic", "version", "kind", "reserved", "run", "number", "length", "previous")
    had = dict(zip(names, HEAD.unpack_from(raw), strict=True))
    return refit(HEAD.pack(*(fields.get(name, had[name]) for name in names)) + raw[HEAD.size :])


def restamped(stream: Sequence[bytes], start: int = 0) -> Raws:
    """Run, numbers, chain and checks made to fit from `start` on; signatures cannot be."""
    out = list(stream[:start])
    for raw in stream[start:]:
        first = cut(out[0])[0] if out else None
        previous = cut(out[-1])[0].hash if out else NO_PREVIOUS
        run = first.run if first is not None else cut(raw)[0].run
        out.append(with_head(raw, run=run, number=len(out), previous=previous))
    return tuple(out)


class Liar:
    """A box of which every statement can be changed before it is signed.

    `lie` gets (kind, fields) of each signed envelope and changes the fields in place.
    """

    def __init__(self, lie: Callable[[Kind, Statement], None] = lambda _kind, _fields: None) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._lie = lie
        self._previous = NO_PREVIOUS
        self.out: list[bytes] = []
        self.run = b"\x11" * 16

    @property
    def fingerprint(self) -> str:
        """Of its key."""
        return fingerprint(self._key.public_key().public_bytes_raw())

    def put(self, kind: Kind, *body: bytes, number: int | None = None) -> None:
        """Any envelope, signed if its kind is."""
        raw = pack(
            kind,
            body,
            run=self.run,
            number=len(self.out) if number is None else number,
            previous=self._previous,
            sign=self._key.sign,
        )
        self.out.append(raw)
        self._previous = cut(raw)[0].hash

    def say(self, kind: Kind, fields: Statement) -> None:
        """A statement, after the lie."""
        beat = fields.get("last", fields)
        if "chain" in beat:
            beat["chain"] = self._previous.hex()
        self._lie(kind, fields)
        self.put(kind, canonical(fields))

    def tell(self, envelopes: Sequence[Envelope]) -> Liar:
        """A true stream once more, signed by this key, with lies."""
        for envelope in envelopes:
            if envelope.kind.signed:
                fields = json.loads(bytes(envelope.body))
                if envelope.kind is Kind.START:
                    fields |= {"run": self.run.hex(), "public_key": self._key.public_key().public_bytes_raw().hex()}
                self.say(envelope.kind, fields)
            else:
                self.put(envelope.kind, bytes(envelope.body))
        return self


def lying(lie: Callable[[Kind, Statement], None] = lambda _kind, _fields: None) -> Liar:
    """The usual story, told with a lie."""
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing), cleared=ClearedBatch)
    return Liar(lie).tell(cut(b"".join(story(maker, clearing))))
