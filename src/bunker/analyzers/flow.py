"""`flow`: one record for each flow message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.flow import Flow

RECORD = message_record("flow")


@analyzer(emits=RECORD, batch=True, copies=True)
def flow(batch: Flow, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
