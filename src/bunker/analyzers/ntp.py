"""`ntp`: one record for each ntp message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.ntp import Message

RECORD = message_record("ntp")


@analyzer(emits=RECORD, batch=True, copies=True)
def ntp(batch: Message, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
