"""`dhcp`: one record for each dhcp message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.dhcp import Message

RECORD = message_record("dhcp")


@analyzer(emits=RECORD, batch=True, copies=True)
def dhcp(batch: Message, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
