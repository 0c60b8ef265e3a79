"""Packet: one captured packet.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("packet")`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from bunker.model.headers import headers_record
from bunker.model.record import Address
from bunker.native.trace import packet_headers


class Packet(Protocol):
    """One captured packet. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "packet"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    caplen: int
    wirelen: int
    linktype: int
    vlan_tci: int | None
    vlan_tpid: int | None
    checksum_unready: bool
    payload: bytes


HEADERS = headers_record()
"""What `headers` makes: the record `pcap`."""


def headers(batch: Packet) -> Any:
    """The headers of a batch of packets, without their payloads: a batch of the record `HEADERS`."""
    return packet_headers(batch)  # type: ignore[arg-type]
