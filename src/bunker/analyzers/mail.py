"""`mail`: one record for each mail message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.mail import Message

RECORD = message_record("mail")


@analyzer(emits=RECORD, batch=True, copies=True)
def mail(batch: Message, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
