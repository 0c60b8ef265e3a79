"""The run disk: what the machine is told from outside, once, before it touches traffic.

    magic (16 bytes) | length of the head, u32 | length of the bundle, u32 | head: JSON | bundle

Rules of this file:
1. It is read before the first packet and never again; whoever writes it later writes to nobody.
2. Whatever it says can only make the machine fail: it names an address to send to, sizes and the bundle's digest. It
   names no path, no program, no option.
3. Unknown fields and another digest stop the start.

Format: `docs/formats/run-disk.md`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated, Final

import msgspec

from bunker import limits
from bunker.errors import BoxError, ConfigurationError

MAGIC: Final = b"bunker run disk\n"
_HEAD: Final = struct.Struct("<16sII")
_V4 = r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}\Z"

Address4 = Annotated[str, msgspec.Meta(pattern=_V4)]
Mac = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")]


class Way(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The one way out: which interface, under which address, to whom; and which interface captures."""

    mac: Mac
    address: Address4
    prefix: Annotated[int, msgspec.Meta(ge=1, le=31)]
    gateway: Address4 | None = None
    target: Address4
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    capture: Mac | None = None
    """None: the one that is not `mac`, if there is one. Named, all others stay down."""


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run and where to send what it releases."""

    bundle: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    way: Way
    captures: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=16)]
    """Bytes of each capture file, whose disk is as long as the next multiple of 512; none: capture live."""


def checked_orders(
    bundle: str,
    *,
    mac: str,
    address: str,
    prefix: str,
    gateway: str | None,
    target: str,
    port: str,
    capture: str | None = None,
) -> Orders:
    """Live orders from an operator's words.

    Raises:
        ConfigurationError: one of them is not what it should be.
    """
    way = {"mac": mac.lower(), "address": address, "gateway": gateway, "target": target}
    way["capture"] = None if capture is None else capture.lower()
    try:
        return msgspec.convert(
            {"bundle": bundle, "way": {**way, "prefix": int(prefix), "port": int(port)}, "captures": []}, type=Orders
        )
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigurationError(
            "the way out", f"is not usable ({error})", "Give IPv4 addresses: --address 10.0.0.2/24 --to 10.0.0.1:9000"
        ) from None


def pack(orders: Orders, bundle: bytes) -> bytes:
    """The content of a run disk, padded to whole sectors."""
    head = msgspec.json.encode(orders, order="sorted")
    content = _HEAD.pack(MAGIC, len(head), len(bundle)) + head + bundle
    return content + bytes(-len(content) % 512)


def unpack(content: bytes) -> tuple[Orders, bytes]:
    """Orders and bundle.

    Raises:
        BoxError: not a run disk, too long, a field unknown, or a bundle of another digest.
    Limits: RUN_DISK_HEAD_BYTES, RUN_DISK_BUNDLE_BYTES.
    """
    head_bytes, bundle_bytes = lengths(content)
    try:
        orders = msgspec.json.decode(content[_HEAD.size : _HEAD.size + head_bytes], type=Orders)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BoxError("run disk", f"its head cannot be read ({error})", "Make it by bunker run") from None
    bundle = content[_HEAD.size + head_bytes :][:bundle_bytes]
    if len(bundle) != bundle_bytes or hashlib.sha256(bundle).hexdigest() != orders.bundle:
        raise BoxError("run disk", "the bundle is not the one it names", "Make it anew: it was changed")
    return orders, bundle


def lengths(content: bytes) -> tuple[int, int]:
    """(bytes of the head, bytes of the bundle), from the disk's first bytes.

    Raises:
        BoxError: not a run disk, or longer than the limits.
    """
    if len(content) < _HEAD.size:
        raise BoxError("run disk", "it is too short", "Make it by bunker run")
    magic, head_bytes, bundle_bytes = _HEAD.unpack_from(content)
    if magic != MAGIC:
        raise BoxError("run disk", "it is none", "Make it by bunker run")
    if head_bytes > limits.RUN_DISK_HEAD_BYTES.default or bundle_bytes > limits.RUN_DISK_BUNDLE_BYTES.default:
        raise BoxError("run disk", "it claims to be longer than the limits", "Make it by bunker run")
    return head_bytes, bundle_bytes


def whole_bytes(content: bytes) -> int:
    """Bytes of a run disk without its padding, from its first bytes; raises as `lengths`."""
    return _HEAD.size + sum(lengths(content))
