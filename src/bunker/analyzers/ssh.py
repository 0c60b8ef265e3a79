"""`ssh`: one record for each ssh message, the whole table but its content columns."""

from __future__ import annotations

from bunker.api import Emit, analyzer, message_record
from bunker.api.ssh import Greeting

RECORD = message_record("ssh")


@analyzer(emits=RECORD, batch=True, copies=True)
def ssh(batch: Greeting, emit: Emit) -> None:
    """Emit the columns as they are."""
    emit(batch)
