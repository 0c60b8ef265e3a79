"""`tls`: one record for each tls message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.tls import Handshake

RECORD = message_record("tls")


@analyzer(emits=RECORD, batch=True, copies=True)
def tls(batch: Handshake, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
