"""Columns that nobody sees are not made; whoever reads messages sees every column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bunker.analyzers import flow, http
from bunker.api import Emit, Record, Url, analyzer
from bunker.api.http import Transaction
from bunker.closed.analyze.dispatch import Dispatcher
from bunker.closed.process.hand import own_hand
from bunker.closed.process.worker import PHASES
from bunker.errors import ConfigurationError
from bunker.model.analyzer import Analyzer
from bunker.model.fields import RecordSchema
from bunker.model.messages import message_record
from bunker.native.wire import Batch, RecordBuilder

FULL = message_record("http")


def asked(*names: str, record: str = "http") -> dict[str, RecordSchema]:
    schema = message_record(record)
    return {record: replace(schema, fields=tuple(field for field in schema.fields if field.name in names))}


class Kept:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def records(self, _schema: RecordSchema, batch: Batch) -> None:
        self.batches.append(batch)

    def fault(self, failed: Any) -> None:
        raise AssertionError(failed)


class Seen(Record):
    uri: Url


@analyzer(emits=Seen)
def reader(tx: Transaction, emit: Emit) -> None:
    emit(Seen(uri=str(getattr(tx, "u" + "ri"))))


class Given:
    """In place of an engine: has made this batch."""

    def __init__(self, kind: str, batch: Batch) -> None:
        self.made = [(kind, batch)]

    def take(self) -> list[tuple[str, Batch]]:
        made, self.made = self.made, []
        return made

    def take_flows(self) -> None:
        return None

    def condemn(self, *_arguments: Any) -> bool:
        return True


def transactions(uids: list[int]) -> Batch:
    """One transaction of each of these flows, with every column."""
    builder = RecordBuilder(FULL.described())
    filled = {"orig_h": "192.0.2.1", "resp_h": "192.0.2.2", "cookie": False, "set_cookie": False, "gap": False}
    for uid in uids:
        values = {**filled, "uid": uid, "uri": f"/{uid}"}
        builder.append(tuple(values.get(field.name, None if field.nullable else 0) for field in FULL.fields))
    return builder.finish()


def dispatcher(*analyzers: Analyzer, crossing: dict[str, RecordSchema] | None = None) -> tuple[Dispatcher, Kept]:
    kept = Kept()
    return Dispatcher(analyzers, kept, hand=own_hand(), phases=PHASES, crossing=crossing), kept


def test_columns_of_those_that_hand_on_are_what_crosses_and_the_number_of_the_flow() -> None:
    made, _ = dispatcher(http.http, crossing=asked("ts", "host"))
    assert made.columns == {"http": {"ts", "host", "uid"}}


def test_all_columns_are_made_for_whoever_reads_messages() -> None:
    made, _ = dispatcher(http.http, reader, flow.flow, crossing=asked("ts", "host"))
    assert set(made.columns) == {"flow"}, "the reader may ask for any column of http"
    assert made.columns["flow"] == {field.name for field in message_record("flow").fields}


def test_nothing_is_left_out_where_nobody_says_what_crosses() -> None:
    made, _ = dispatcher(http.http)
    assert made.columns == {"http": {field.name for field in FULL.fields}}


def test_what_is_handed_on_has_the_columns_that_cross_and_leaves_out_condemned_flows() -> None:
    @analyzer(emits=Seen)
    def fails(tx: Transaction, emit: Emit) -> None:
        if tx.uid == 2:
            raise ValueError
        emit(Seen(uri=str(tx.uri)))

    made, kept = dispatcher(http.http, fails, crossing=asked("ts", "uri"))
    kept.fault = lambda _failed: None  # type: ignore[method-assign]
    made.turn(Given("http", transactions([1, 2, 3])))  # type: ignore[arg-type]
    copied, seen = kept.batches
    assert copied.column_names == ["ts", "uid", "uri"]
    assert copied.flows() == [1, 3]
    assert (seen.column_names, seen.num_rows) == (["uri"], 2)


@pytest.mark.parametrize("declare", [analyzer(emits=FULL, copies=True), analyzer(emits=Seen, batch=True, copies=True)])
def test_only_whole_batches_of_the_messages_columns_are_handed_on(declare: Callable[..., Analyzer]) -> None:
    def copier(batch: Transaction, emit: Emit) -> None:
        emit(batch)

    copier.__annotations__ = {"batch": Transaction, "emit": Emit}
    with pytest.raises(ConfigurationError, match="copies=True"):
        declare(copier)
