"""`http`: one record for each http message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.http import Transaction

RECORD = message_record("http")


@analyzer(emits=RECORD, batch=True, copies=True)
def http(batch: Transaction, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
