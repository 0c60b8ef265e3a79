"""Messages to analyzers, records to the pipe; a fault costs one flow.

Place in the flow: core's batches ▶ here ▶ frames for the releaser.

Rules of this file:
1. Flows come last: an analyzer may fail on a message of a flow whose end stands in the same turn, and the outcome
   must say so.
2. A flow on which an analyzer failed is condemned: what this turn made of it is thrown away, nothing of it follows,
   and its flow record ends `erroneous`.
3. What is known of a fault is a closed set: analyzer, class of the exception if it is one of Python's own, line in the
   analyzer's source. No message, no locals.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from bunker.model.analyzer import Analyzer
from bunker.model.fields import RecordSchema
from bunker.model.record import Record
from bunker.native.wire import Batch, Engine, RecordBuilder, Row


class CallTimedOut(Exception):  # noqa: N818 - named in the past tense, as events are
    """An analyzer's call took longer than `analysis.time_per_call`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzerFailed:
    """An analyzer raised. `flow` is None when the call was not about one flow (a batch, `finish`)."""

    analyzer: str
    exception: str
    line: int
    flow: int | None


class Output(Protocol):
    """Where records and faults go."""

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Take one batch of records of this schema."""

    def fault(self, failed: AnalyzerFailed) -> None:
        """Count and report a fault."""


def exception_name(error: BaseException) -> str:
    """The class name of a built-in exception or of ours; "Exception" for any other, whose name could carry traffic."""
    cls = type(error)
    if cls is CallTimedOut or (cls.__module__ == "builtins" and getattr(builtins, cls.__name__, None) is cls):
        return cls.__name__
    return "Exception"


def line_in(error: BaseException, filename: str) -> int:
    """The innermost line of the analyzer's own source in the traceback, 0 if there is none."""
    line = 0
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _source_of(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return str(code.co_filename) if code is not None else ""


@dataclass(slots=True)
class _Rows:
    """Records of one kind that await the end of a turn, each with its flow, so that a condemned flow's can be left
    out.
    """

    schema: RecordSchema
    flows: list[int | None] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def take(self, condemned: set[int]) -> Batch | None:
        """What remains without the condemned flows, as a batch.

        Raises:
            TypeError, ValueError, OverflowError: a value does not fit its field; names the field, not the value.
        """
        if condemned:
            kept = [row for flow, row in zip(self.flows, self.rows, strict=True) if flow not in condemned]
        else:
            kept = self.rows
        self.flows, self.rows = [], []
        if not kept:
            return None
        builder = RecordBuilder(self.schema.described())
        for row in kept:
            builder.append(row)
        return builder.finish()


class Runner:
    """One analyzer at work in one worker."""

    def __init__(self, analyzer: Analyzer, on_error: Callable[[BaseException], None] | None = None) -> None:
        self.analyzer = analyzer
        self._on_error = on_error
        function = analyzer.function
        self.function: Callable[..., Any] = function() if isinstance(function, type) else function
        self._source = _source_of(self.function)
        self._pending = {schema.name: _Rows(schema) for schema in analyzer.emits}
        self._by_type = {
            cls: self._pending[schema.name]
            for cls, schema in zip(analyzer.record_types, analyzer.emits, strict=False)
            if issubclass(cls, Record)
        }
        self._fields = analyzer.emits[0].described()
        self._batches: list[Batch] = []
        self._flow: int | None = None
        self.calls = 0
        """Messages begun: the watchdog sees whether it moves."""

    def _emit_record(self, record: Record) -> None:
        pending = self._by_type.get(type(record))
        if pending is None:
            raise TypeError(f"analyzer {self.analyzer.name} does not declare this record in emits")
        pending.flows.append(self._flow)
        pending.rows.append(msgspec.structs.astuple(record))

    def _emit_batch(self, batch: Any) -> None:
        self._batches.append(Batch.from_arrow(batch).conform(self._fields))

    def run(self, batch: Batch, failed: Callable[[AnalyzerFailed], None]) -> None:
        """Give the analyzer every message of the batch; `failed` hears of each that it failed on."""
        if self.analyzer.batch:
            self._run_batch(batch, failed)
            return
        rows: Iterator[Row] = iter(batch.rows())
        function, emit = self.function, self._emit_record
        while True:
            try:
                for row in rows:
                    self._flow = row.uid
                    self.calls += 1
                    function(row, emit)
                break
            except Exception as error:  # noqa: BLE001 - the one place where a flow is isolated
                failed(self.fault(error, self._flow))
        self._flow = None

    def _run_batch(self, batch: Batch, failed: Callable[[AnalyzerFailed], None]) -> None:
        self.calls += 1
        try:
            self.function(batch, self._emit_batch)
        except Exception as error:  # noqa: BLE001 - isolates what the batch holds
            self._batches.clear()
            failed(self.fault(error, None))

    def fault(self, error: BaseException, flow: int | None) -> AnalyzerFailed:
        """What is said of an exception."""
        if self._on_error is not None:
            self._on_error(error)
        return AnalyzerFailed(
            analyzer=self.analyzer.name, exception=exception_name(error), line=line_in(error, self._source), flow=flow
        )

    def finish(self, failed: Callable[[AnalyzerFailed], None]) -> None:
        """The lane has ended: let an analyzer with state say its last."""
        last = getattr(self.function, "finish", None)
        if last is None:
            return
        self._flow = None
        self.calls += 1
        try:
            last(self._emit_batch if self.analyzer.batch else self._emit_record)
        except Exception as error:  # noqa: BLE001 - what was recorded before is not lost
            failed(self.fault(error, None))

    def flush(self, condemned: set[int], output: Output) -> None:
        """Write what the turn made, without the condemned flows."""
        for batch in self._batches:
            kept = batch.filter_out(condemned) if condemned and "uid" in batch.column_names else batch
            if kept.num_rows:
                output.records(self.analyzer.emits[0], kept)
        self._batches.clear()
        for pending in self._pending.values():
            try:
                made = pending.take(condemned)
            except (TypeError, ValueError, OverflowError) as error:
                output.fault(self.fault(error, None))
                continue
            if made is not None:
                output.records(pending.schema, made)


class Dispatcher:
    """All analyzers of a worker.

    Args:
        on_error: Sees the exceptions themselves; diagnostic mode alone may pass one, because they carry traffic.
        external: Makes the runner of an analyzer that is a program.
    Invariants:
        After `turn` nothing of the turn's messages is held here.
        A flow in `condemned` has no record in any batch written after it got there.
    """

    def __init__(
        self,
        analyzers: tuple[Analyzer, ...],
        output: Output,
        *,
        on_error: Callable[[BaseException], None] | None = None,
        external: Callable[[Analyzer], Runner] | None = None,
    ) -> None:
        self.runners = [
            Runner(analyzer, on_error) if analyzer.program is None or external is None else external(analyzer)
            for analyzer in analyzers
        ]
        self._output = output
        self.faults = 0
        self.calling = False
        """An analyzer has the word: the watchdog may interrupt."""

    @property
    def kinds(self) -> frozenset[str]:
        """Message kinds that somebody subscribes to."""
        return frozenset(runner.analyzer.message for runner in self.runners)

    @property
    def needs(self) -> frozenset[str]:
        """What somebody asked for beyond the tables."""
        return frozenset().union(*(runner.analyzer.needs for runner in self.runners))

    def position(self) -> int:
        """Grows with every call into an analyzer; the watchdog compares two readings."""
        return sum(runner.calls for runner in self.runners)

    def turn(self, engine: Engine) -> None:
        """Take what the engine has, run the analyzers over it, write their records."""
        condemned: set[int] = set()

        def failed(fault: AnalyzerFailed) -> None:
            self.faults += 1
            if fault.flow is not None:
                condemned.add(fault.flow)
                engine.condemn(fault.flow)
            self._output.fault(fault)

        for kind, batch in engine.take():
            self._give(kind, batch, failed)
        while (flows := engine.take_flows()) is not None:
            self._give("flow", flows, failed)
        for runner in self.runners:
            # A condemned flow keeps its flow record (it says "erroneous"); everything else of it goes.
            runner.flush(set() if runner.analyzer.message == "flow" else condemned, self._output)

    def _give(self, kind: str, batch: Batch, failed: Callable[[AnalyzerFailed], None]) -> None:
        for runner in self.runners:
            if runner.analyzer.message == kind:
                self.calling = True
                try:
                    runner.run(batch, failed)
                except CallTimedOut as error:  # struck between two calls: no flow is to blame
                    failed(runner.fault(error, None))
                finally:
                    self.calling = False

    def finish(self) -> None:
        """After the last turn."""

        def failed(fault: AnalyzerFailed) -> None:
            self.faults += 1
            self._output.fault(fault)

        for runner in self.runners:
            runner.finish(failed)
            runner.flush(set(), self._output)
