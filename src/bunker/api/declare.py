"""The decorator that makes a function, or a class with state, an analyzer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bunker.model.analyzer import Analyzer, declare
from bunker.model.fields import RecordSchema
from bunker.model.record import Record


def analyzer(
    *,
    emits: type[Record] | RecordSchema | tuple[type[Record] | RecordSchema, ...],
    batch: bool = False,
    needs: Iterable[str] = (),
    passes: int = 1,
) -> Callable[[Callable[..., Any]], Analyzer]:
    """Declare an analyzer; the type of its first argument is what it subscribes to.

    A function is called with each message (or batch) and `emit`. A class is instantiated once a worker; its
    `__call__` is the
    function, `finish(self, emit)`, if it has one, is called when the lane has ended, and `begin_pass(self, number)`
    before each pass.

    Args:
        emits: The record class, or several, or a schema (`message_record("http", ...)`).
        batch: Call with a whole Arrow batch; `pyarrow.record_batch(batch)` shares its memory.
        needs: What costs extra and is therefore asked for: "heads" (raw message heads), "bodies" (decoded bodies up to
            the limit), "hashes" (of bodies), "statistics" (of flows).
        passes: How often the analyzer wants to read the trace (deferred tracing).
    Raises:
        ConfigurationError: the declaration cannot work; says why and what to write.
    """

    def wrap(function: Callable[..., Any]) -> Analyzer:
        return declare(function, emits=emits, batch=batch, needs=needs, passes=passes)

    return wrap
