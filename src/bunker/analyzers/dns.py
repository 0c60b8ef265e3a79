"""`dns`: one record for each dns message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.dns import Exchange

RECORD = message_record("dns")


@analyzer(emits=RECORD, batch=True, copies=True)
def dns(batch: Exchange, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
