"""One analyzer at work: each call is isolated, and what is in hand is shown before it.

Place in the flow: `Dispatcher` ▶ here ▶ the user's function.

Rules of this file:
1. A call about one flow that raises anything at all costs that flow.
2. A batch that a function fails on is given again in halves until the guilty flows are alone; the rest is not lost. A
   batch analyzer with a state of its own cannot be given anything twice: it loses the batch's records.
3. A record is checked when it is emitted, inside the call: what does not fit is the fault of the flow in hand.

Limits: FLOW_TURN_RECORDS, BATCH_RETRIES.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from bunker import limits
from bunker.model.analyzer import Analyzer
from bunker.model.fields import RecordSchema
from bunker.model.record import Record
from bunker.native.wire import Batch, Hand, RecordBuilder, Row

PIECES = 64
"""Parts into which a batch is cut in which a worker died: three such deaths find one flow among 262,144."""


class CallTimedOut(BaseException):
    """An analyzer's call, or a flow's calls together, took longer than allowed.

    No `Exception`: an analyzer that catches all of those must not catch this.
    """


class TooManyRecords(Exception):  # noqa: N818 - named for what there was
    """A flow made more than FLOW_TURN_RECORDS records in one turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzerFailed:
    """An analyzer raised. `flow` is None when the call was not about one flow (a batch, `finish`)."""

    analyzer: str
    exception: str
    line: int
    flow: int | None
    word: str = "exception"
    """Why the flow ends erroneous: a word of `fault_words`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A worker died in a batch call of this analyzer, for message `sequence` of the link, over the flows whose number
    leaves `residue` when divided by `modulus`."""

    analyzer: int
    sequence: int
    modulus: int
    residue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Where on the hand page a runner writes, and what."""

    phase: int
    sequence: int
    uid: int
    analyzer: int
    calls: int
    modulus: int
    residue: int
    call: int
    batch: int
    finish: int


Page = Hand
Failed = Callable[[AnalyzerFailed], None]


class Output(Protocol):
    """Where records and faults go."""

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Take one batch of records of this schema."""


def exception_name(error: BaseException) -> str:
    """The class name of a built-in exception or of ours; "Exception" for any other, whose name could carry traffic."""
    cls = type(error)
    if cls is CallTimedOut or (cls.__module__ == "builtins" and getattr(builtins, cls.__name__, None) is cls):
        return cls.__name__
    return "Exception"


def word_of(error: BaseException) -> str:
    """Why a flow that it hit ends erroneous."""
    match error:
        case CallTimedOut():
            return "time"
        case MemoryError():
            return "memory"
        case TooManyRecords():
            return "output"
        case SystemExit():
            return "exited"
        case _ if type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime":
            return "panic"  # in the core, or in another library in Rust
        case _:
            return "exception"


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


class _Rows:
    """Records of one kind that await the end of a turn; the builder knows the flow of each, so that a condemned flow's
    can be left out.
    """

    __slots__ = ("_builder", "append", "schema")

    def __init__(self, schema: RecordSchema, hand: Hand) -> None:
        self.schema = schema
        owners = (hand, limits.FLOW_TURN_RECORDS.default, TooManyRecords)
        self._builder = RecordBuilder(schema.described(), owners)
        self.append = self._builder.append

    def take(self, condemned: frozenset[int]) -> Batch | None:
        """What remains without the condemned flows, as a batch."""
        if not len(self._builder):
            return None
        batch = self._builder.finish_without(condemned)
        return batch if batch.num_rows else None


class Runner:
    """One analyzer at work in one worker."""

    def __init__(
        self,
        analyzer: Analyzer,
        *,
        number: int,
        hand: Page,
        phases: Phases,
        left_out: frozenset[int] = frozenset(),
        suspects: tuple[Suspect, ...] = (),
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.analyzer = analyzer
        self._number, self._hand, self._phases = number, hand, phases
        self._left_out, self._suspects = left_out, suspects
        self._on_error = on_error
        function = analyzer.function
        self.stateful = isinstance(function, type)
        """An object with a state of its own, made once a worker."""
        self.function: Callable[..., Any] = function() if isinstance(function, type) else function
        self._source = _source_of(self.function)
        self._pending = {schema.name: _Rows(schema, hand) for schema in analyzer.emits}
        self._by_type = {
            cls: self._pending[schema.name]
            for cls, schema in zip(analyzer.record_types, analyzer.emits, strict=False)
            if issubclass(cls, Record)
        }
        self._fields = analyzer.emits[0].described()
        self._copied = [field.name for field in analyzer.emits[0].fields] if analyzer.copies else None
        self._batches: list[Batch] = []
        self._emit_record = self._emitter()

    def _emitter(self) -> Callable[[Record], None]:
        """What analyzers call as `emit`: a closure, because it is called for every record."""
        appends = {cls: pending.append for cls, pending in self._by_type.items()}
        name, astuple = self.analyzer.name, msgspec.structs.astuple

        def emit(record: Record) -> None:
            append = appends.get(type(record))
            if append is None:
                raise TypeError(f"analyzer {name} does not declare this record in emits")
            append(astuple(record))

        return emit

    def _emit_batch(self, batch: Any) -> None:
        self._batches.append(Batch.from_arrow(batch).conform(self._fields))

    def _swallow(self, _record: Any) -> None:
        """What a muted analyzer emits."""

    def run(self, batch: Batch, failed: Failed, *, muted: bool = False) -> None:
        """Give the analyzer every message of the batch; `failed` hears of each that it failed on."""
        hand, phases = self._hand, self._phases
        hand.set(phases.analyzer, self._number)
        if self._left_out and self.analyzer.message == "flow":
            batch = batch.filter_out(set(self._left_out))
        if self.analyzer.batch:
            if self._copied is not None:
                batch = batch.select(self._copied)
            self._run_batch(batch, failed, muted=muted)
            return
        hand.set(phases.phase, phases.call)
        rows: Iterator[Row] = batch.rows(hand)
        function, emit = self.function, self._swallow if muted else self._emit_record
        while True:
            try:
                for row in rows:
                    function(row, emit)
                break
            except BaseException as error:  # noqa: BLE001 - the one place where a flow is isolated
                self._let_operator_stop(error)
                failed(self.fault(error, hand.get(phases.uid) or None))
        hand.set(phases.uid, 0)

    def _let_operator_stop(self, error: BaseException) -> None:
        """Ctrl-C in diagnostic mode is the operator's; in a box nobody sends it but the analyzer itself."""
        if self._on_error is not None and isinstance(error, KeyboardInterrupt):
            raise error

    def _run_batch(self, batch: Batch, failed: Failed, *, muted: bool) -> None:
        sequence = self._hand.get(self._phases.sequence)
        suspects = [suspect for suspect in self._suspects if suspect.sequence == sequence]
        retries = 0 if self.stateful or "uid" not in batch.column_names else limits.BATCH_RETRIES.default
        for piece, modulus, residue in _pieces(batch, suspects):
            flows = piece.flows() if suspects else []
            self._show_batch(modulus, residue, flows[0] if len(flows) == 1 else 0)
            self._call_batch(piece, failed, retries, muted=muted)

    def _show_batch(self, modulus: int, residue: int, uid: int) -> None:
        hand, phases = self._hand, self._phases
        hand.set(phases.uid, uid)
        hand.set(phases.modulus, modulus)
        hand.set(phases.residue, residue)
        hand.set(phases.phase, phases.batch)

    def _call_batch(self, batch: Batch, failed: Failed, retries: int, *, muted: bool) -> None:
        """Call with a batch; with its halves if that fails, as long as there are retries."""
        hand, phases = self._hand, self._phases
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            hand.set(phases.calls, hand.get(phases.calls) + 1)
            made: list[Batch] = []
            try:
                self.function(part, self._swallow if muted else self._collector(made))
            except BaseException as error:  # noqa: BLE001 - isolates what the batch holds
                self._let_operator_stop(error)
                # Each further call may take as long as this one: the guilty half is looked for, not each flow.
                cost = 8 if isinstance(error, CallTimedOut) else 1
                flows = part.flows() if retries >= cost else []
                if len(flows) > 1:
                    retries -= 2 * cost
                    half = set(flows[: len(flows) // 2])
                    waiting += [part.filter_out(half), part.of_flows(half)]
                else:
                    failed(self.fault(error, flows[0] if flows else None))
            else:
                self._batches += made

    def _collector(self, made: list[Batch]) -> Callable[[Any], None]:
        def emit(batch: Any) -> None:
            made.append(Batch.from_arrow(batch).conform(self._fields))

        return emit

    def fault(self, error: BaseException, flow: int | None) -> AnalyzerFailed:
        """What is said of an exception."""
        if self._on_error is not None:
            self._on_error(error)
        return AnalyzerFailed(
            analyzer=self.analyzer.name,
            exception=exception_name(error),
            line=line_in(error, self._source),
            flow=flow,
            word=word_of(error),
        )

    def begin_pass(self, number: int, failed: Failed) -> None:
        """The trace is read for the `number`-th time."""
        begin = getattr(self.function, "begin_pass", None)
        if begin is not None:
            self._alone(lambda: begin(number), failed)

    def finish(self, failed: Failed) -> None:
        """The lane has ended: let an analyzer with state say its last."""
        last = getattr(self.function, "finish", None)
        if last is not None:
            self._alone(lambda: last(self._emit_batch if self.analyzer.batch else self._emit_record), failed)

    def _alone(self, act: Callable[[], Any], failed: Failed) -> None:
        hand, phases = self._hand, self._phases
        hand.set(phases.analyzer, self._number)
        hand.set(phases.uid, 0)
        hand.set(phases.calls, hand.get(phases.calls) + 1)
        hand.set(phases.phase, phases.finish)
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - what was recorded before is not lost
            self._let_operator_stop(error)
            failed(self.fault(error, None))

    def flush(self, condemned: frozenset[int], output: Output) -> None:
        """Write what the turn made, without the condemned flows."""
        for batch in self._batches:
            kept = batch.filter_out(set(condemned)) if condemned and "uid" in batch.column_names else batch
            if kept.num_rows:
                output.records(self.analyzer.emits[0], kept)
        self._batches.clear()
        for pending in self._pending.values():
            made = pending.take(condemned)
            if made is not None:
                output.records(pending.schema, made)


def _pieces(batch: Batch, suspects: list[Suspect]) -> Iterator[tuple[Batch, int, int]]:
    """The batch in parts: what is suspected in PIECES of its flows, the rest whole. (part, modulus, residue)."""
    if not suspects or "uid" not in batch.column_names:
        yield batch, 1, 0
        return
    rest = batch
    for suspect in sorted(suspects, key=lambda one: -one.modulus):
        flows = [flow for flow in rest.flows() if flow % suspect.modulus == suspect.residue]
        if not flows:
            continue
        part = rest.of_flows(set(flows))
        rest = rest.filter_out(set(flows))
        for piece in range(PIECES):
            modulus, residue = suspect.modulus * PIECES, suspect.residue + suspect.modulus * piece
            chosen = {flow for flow in flows if flow % modulus == residue}
            if chosen:
                yield part.of_flows(chosen), modulus, residue
    if rest.num_rows:
        yield rest, 1, 0
