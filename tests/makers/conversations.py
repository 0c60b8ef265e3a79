"""Bytes of both sides of a conversation, without packets, as TCP flows in a capture file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from packets import Conversation
from pcapfile import Captured, write_pcap

CLIENT, SERVER = 0, 1
FIRST_PORT = 10_000
_MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
_HOSTS = (bytes([192, 0, 2, 1]), bytes([198, 51, 100, 1]))
_START_NS = 1_700_000_000 * 10**9


def write_conversations(
    path: Path, conversations: Iterable[Sequence[tuple[int, bytes]]], *, port: int = 80, size: int = 1400
) -> Path:
    """One flow for each conversation, one after the other; the n-th comes from port `FIRST_PORT + n`.

    A conversation is a sequence of (side, bytes); `size` is the largest segment.
    """
    packets: list[bytes] = []
    for number, turns in enumerate(conversations):
        flow = Conversation(macs=_MACS, hosts=_HOSTS, ports=(FIRST_PORT + number, port))
        flow.open()
        for side, content in turns:
            flow.send(side, content, size=size)
        packets += flow.close()
    write_pcap(path, (Captured(_START_NS + n * 10**6, packet, len(packet)) for n, packet in enumerate(packets)))
    return path
