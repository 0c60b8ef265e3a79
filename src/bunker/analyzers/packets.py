"""`packets`: the headers of every packet, for a header trace. The policy's `[out.pcap]` says what leaves of them."""

from __future__ import annotations

from bunker.api import Emit, analyzer
from bunker.api.packet import HEADERS, Packet, headers


@analyzer(emits=HEADERS, batch=True)
def packets(batch: Packet, emit: Emit) -> None:
    """Emit the headers; what is not a header stays here."""
    emit(headers(batch))
