"""What an analyzer is to the rest of the system: a function, what it subscribes to, what it emits.

Rules of this file:
1. The subscription is the type of the first argument; there is no registry of names to get wrong.
2. Everything wrong with a declaration is said when the module is loaded (at `bunker check` and `bunker seal`), not
   in the box.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bunker.errors import BoxError, ConfigurationError
from bunker.model.external import Program
from bunker.model.fields import RecordSchema
from bunker.model.record import Record, schema_of
from bunker.native.wire import message_schema

MESSAGE_KINDS = ("flow", "http", "dns", "tls", "mail", "ssh", "ntp", "dhcp", "packet", "chunk", "datagram")
NEEDS = ("heads", "bodies", "hashes", "statistics")


class Emit(Protocol):
    """Takes one record; with `batch=True` one Arrow batch whose columns are the schema's."""

    def __call__(self, record: Any, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzer:
    """One declared analyzer.

    Invariants:
        message is in MESSAGE_KINDS.
        emits is not empty; names are unique.
        batch implies exactly one schema in emits.
        copies implies batch, and that every field of the record is a column of the message.
    """

    name: str
    function: Callable[..., Any]
    message: str
    emits: tuple[RecordSchema, ...]
    record_types: tuple[type[Record], ...]
    batch: bool
    needs: frozenset[str]
    passes: int
    program: Program | None = None
    """Of a program in another language: `function` is never called then."""
    copies: bool = False
    """It hands on the columns of its record as they are: it is given those alone that are asked for."""
    feeds: str | None = None
    """What it emits are messages of this kind, for the analyzers that subscribe to them; nothing of it is released."""


def _message_of(name: str, function: Callable[..., Any]) -> str:
    target = function.__call__ if inspect.isclass(function) else function
    parameters = [p for p in inspect.signature(target).parameters.values() if p.name != "self"]
    if len(parameters) < 2:
        raise ConfigurationError(
            f"analyzer {name}",
            "it takes too few arguments",
            "Write it as def analyzer(message: http.Transaction, emit)",
        )
    hints = typing.get_type_hints(target)
    kind = getattr(hints.get(parameters[0].name), "MESSAGE_KIND", None)
    if kind not in MESSAGE_KINDS:
        raise ConfigurationError(
            f"analyzer {name}, argument {parameters[0].name}",
            "its type is no message of bunker.api",
            "Annotate it with http.Transaction, dns.Exchange, tls.Handshake, mail.Message, ssh.Greeting, ntp.Message, "
            "dhcp.Message, flow.Flow, stream.Chunk, udp.Datagram or packet.Packet",
        )
    return str(kind)


def declare(
    function: Callable[..., Any],
    *,
    emits: type[Record] | RecordSchema | tuple[type[Record] | RecordSchema, ...],
    batch: bool,
    needs: typing.Iterable[str],
    passes: int,
    copies: bool = False,
) -> Analyzer:
    """Check a declaration and make it an `Analyzer`.

    Raises:
        ConfigurationError: unknown message type, unknown need, no record, two records of one name, batch with several,
            copies without batch or of what the message does not have.
    """
    name = function.__name__
    record_types, schemas = _emitted(name, emits)
    if batch and len(schemas) != 1:
        raise ConfigurationError(f"analyzer {name}", "batch=True with several records", "Emit one kind of record")
    if passes < 1:
        raise ConfigurationError(f"analyzer {name}", "passes is below 1", "Use 1 or more")
    message = _message_of(name, function)
    columns = message_schema(message) if copies else []
    if copies and not (batch and set(schemas[0].described()) <= set(columns)):
        raise ConfigurationError(
            f"analyzer {name}",
            "copies=True without batch=True, or with a field that is no column of the message",
            "Declare it for a function that hands on columns as they are",
        )
    return Analyzer(
        name=name,
        function=function,
        message=message,
        emits=schemas,
        record_types=record_types,
        batch=batch,
        needs=_known(name, needs),
        passes=passes,
        copies=copies,
    )


def _emitted(
    name: str, emits: type[Record] | RecordSchema | tuple[type[Record] | RecordSchema, ...]
) -> tuple[tuple[type[Record], ...], tuple[RecordSchema, ...]]:
    declared = emits if isinstance(emits, tuple) else (emits,)
    record_types = tuple(item for item in declared if not isinstance(item, RecordSchema))
    schemas = tuple(item if isinstance(item, RecordSchema) else schema_of(item) for item in declared)
    names = [schema.name for schema in schemas]
    if not schemas or len(set(names)) != len(names):
        raise ConfigurationError(f"analyzer {name}", "emits is empty or names a record twice", "List each record once")
    return record_types, schemas


def _known(name: str, needs: typing.Iterable[str]) -> frozenset[str]:
    unknown = sorted(set(needs) - set(NEEDS))
    if unknown:
        raise ConfigurationError(f"analyzer {name}", f"unknown need {unknown[0]!r}", f"Known: {', '.join(NEEDS)}")
    return frozenset(needs)


def declare_external(
    program: Program,
    *,
    name: str,
    message: str,
    emits: type[Record] | tuple[type[Record], ...],
    needs: typing.Iterable[str],
) -> Analyzer:
    """A program as an `Analyzer`; `message` is one of MESSAGE_KINDS.

    Raises:
        ConfigurationError: unknown need or field, no record class, two records of one name.
    """
    record_types, schemas = _emitted(name, emits)
    if len(record_types) != len(schemas):
        raise ConfigurationError(f"external {name}", "emits a schema", "Declare a class of Record for what it writes")
    columns = {column for column, _, _ in message_schema(message)}
    unknown = sorted(set(program.fields) - columns)
    if unknown:
        raise ConfigurationError(
            f"external {name}", f"unknown field {unknown[0]!r} of {message}", f"Known: {', '.join(sorted(columns))}"
        )
    return Analyzer(
        name=name,
        function=_never_called,
        message=message,
        emits=schemas,
        record_types=record_types,
        batch=False,
        needs=_known(name, needs),
        passes=1,
        program=program,
    )


def _never_called(*_arguments: object) -> None:
    raise BoxError("external analyzer", "was called as a function", "This is a bug")
