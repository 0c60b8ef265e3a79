"""The decorator that makes a function, or a class with state, an analyzer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from bunker.errors import ConfigurationError
from bunker.model.analyzer import Analyzer, declare
from bunker.model.fields import RecordSchema
from bunker.model.messages import message_class
from bunker.model.record import Record


def analyzer(
    *,
    emits: type[Record] | RecordSchema | tuple[type[Record] | RecordSchema, ...],
    batch: bool = False,
    needs: Iterable[str] = (),
    passes: int = 1,
    copies: bool = False,
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
        copies: With batch=True: it emits columns of the message as they are. The batch then holds the columns of its
            record that the policy asks for and no others, and if nobody else reads these messages, no others are made.
    Raises:
        ConfigurationError: the declaration cannot work; says why and what to write.
    """

    def wrap(function: Callable[..., Any]) -> Analyzer:
        return declare(function, emits=emits, batch=batch, needs=needs, passes=passes, copies=copies)

    return wrap


def feeder(message: str, *, needs: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Analyzer]:
    """Declare an analyzer that finds messages inside others: what it emits goes to those who subscribe to `message`.

        @feeder("mail", needs={"bodies"})
        def webmail(tx: http.Transaction, emit: Emit) -> None:
            emit(message_class("mail")(ts=tx.ts, uid=tx.uid, ...))

    Nothing of what it emits is released as such. A fault of it costs the flow in hand, as everywhere.

    Args:
        message: What it finds: "mail", "http", ...
        needs: As for `analyzer`.
    Raises:
        ConfigurationError: as `analyzer`, or it would feed itself.
    """

    def wrap(function: Callable[..., Any]) -> Analyzer:
        made = declare(function, emits=message_class(message), batch=False, needs=needs, passes=1)
        if made.message == message:
            raise ConfigurationError(
                f"feeder {made.name}", f"reads what it finds ({message})", "Subscribe to another kind of message"
            )
        return replace(made, feeds=message)

    return wrap
