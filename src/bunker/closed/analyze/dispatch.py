"""Messages to analyzers, records to the pipe; a fault costs one flow.

Place in the flow: core's batches ▶ here ▶ frames for the releaser.

Rules of this file:
1. Flows come last: an analyzer may fail on a message of a flow whose end stands in the same turn, and the outcome
   must say so.
2. A flow on which an analyzer failed is condemned: what this turn made of it is thrown away, nothing of it follows,
   and its flow record ends `erroneous`.
3. What is known of a fault is a closed set: analyzer, class of the exception if it is one of Python's own, line in the
   analyzer's source. No message, no locals.
4. An analyzer that feeds others (mails found in web pages) has done so before any flow of the turn is given.
5. Turns that are repeated after a restart are muted: analyzers with a state of their own see the messages of open
   flows again and what they emit is dropped, because it is out already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from bunker.closed.analyze.runner import AnalyzerFailed, CallTimedOut, Failed, Page, Phases, Runner, Suspect
from bunker.model.analyzer import Analyzer
from bunker.model.fields import RecordSchema
from bunker.native.wire import Batch, Engine

__all__ = ["AnalyzerFailed", "CallTimedOut", "Dispatcher", "LeftOut", "Output", "Runner", "Suspect"]


class Output(Protocol):
    """Where records and faults go."""

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Take one batch of records of this schema."""

    def fault(self, failed: AnalyzerFailed) -> None:
        """Count and report a fault."""


class _Found:
    """Messages that an analyzer found inside others."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def records(self, _schema: RecordSchema, batch: Batch) -> None:
        """Keep them for those who subscribe."""
        self.batches.append(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A flow on which a worker died in the hands of this analyzer (its number)."""

    uid: int
    analyzer: int


class Dispatcher:
    """All analyzers of a worker.

    Args:
        hand: Shows what is in hand.
        phases: The words for the hand's phases.
        left_out: Flows whose own end a worker died on: the analyzer is not given it again.
        suspects: Parts of batches that a worker died on.
        on_error: Sees the exceptions themselves; diagnostic mode alone may pass one, because they carry traffic.
        external: Makes the runner of an analyzer that is a program.
        crossing: Records with the columns that are asked for; None: all are.
    Invariants:
        After `turn` nothing of the turn's messages is held here.
        A flow in `condemned` has no record in any batch written after it got there.
    """

    def __init__(
        self,
        analyzers: tuple[Analyzer, ...],
        output: Output,
        *,
        hand: Page,
        phases: Phases,
        left_out: tuple[LeftOut, ...] = (),
        suspects: tuple[Suspect, ...] = (),
        on_error: Callable[[BaseException], None] | None = None,
        external: Callable[[Analyzer, int], Runner] | None = None,
        crossing: Mapping[str, RecordSchema] | None = None,
    ) -> None:
        analyzers = tuple(narrowed(analyzer, crossing or {}) for analyzer in analyzers)
        self.runners = [
            Runner(
                analyzer,
                number=number,
                hand=hand,
                phases=phases,
                left_out=frozenset(flow.uid for flow in left_out if flow.analyzer == number),
                suspects=tuple(suspect for suspect in suspects if suspect.analyzer == number),
                on_error=on_error,
            )
            if analyzer.program is None or external is None
            else external(analyzer, number)
            for number, analyzer in enumerate(analyzers)
        ]
        # Whoever sees one message at a time sees flows first: a flow it fails on is told so to those who see batches.
        self._flow_runners = sorted(
            (runner for runner in self.runners if runner.analyzer.message == "flow"),
            key=lambda runner: runner.analyzer.batch,
        )
        self._feeders = [runner for runner in self.runners if runner.analyzer.feeds]
        self._output = output
        self._number = 1
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

    @property
    def columns(self) -> dict[str, set[str]]:
        """Columns by message kind, where nobody sees others: every subscriber hands on columns of its record.

        Whoever is given messages to read may ask for any column, by a name that nobody knows before: then all are made.
        """
        copied: dict[str, set[str]] = {}
        for runner in self.runners:
            if runner.analyzer.copies:
                names = {field.name for field in runner.analyzer.emits[0].fields}
                copied.setdefault(runner.analyzer.message, set()).update(names)
        read = {runner.analyzer.message for runner in self.runners if not runner.analyzer.copies}
        return {kind: names for kind, names in copied.items() if kind not in read}

    @property
    def passes(self) -> int:
        """How often the trace is read."""
        return max(runner.analyzer.passes for runner in self.runners)

    def begin_pass(self, number: int) -> None:
        """Before the first message of a pass, from 1."""
        self._number = number
        for runner in self.runners:
            if runner.analyzer.passes >= number:
                self._guarded(partial(runner.begin_pass, number, self._failed_alone))

    def turn(self, engine: Engine, *, muted: bool = False) -> None:
        """Take what the engine has, run the analyzers over it, write their records.

        Args:
            muted: These messages were given before, to a worker that is dead: only analyzers with a state get them, and
                nothing is written.
        """
        condemned: set[int] = set()

        def failed(fault: AnalyzerFailed) -> None:
            if fault.flow is not None:
                condemned.add(fault.flow)
                engine.condemn(fault.flow, fault.word)
            if not muted:
                self.faults += 1
                self._output.fault(fault)

        for kind, batch in engine.take():
            self._give_all(kind, batch, failed, muted=muted)
        for feeder in self._feeders:
            found = _Found()
            feeder.flush(frozenset(condemned), found)
            for batch in found.batches:
                self._give_all(str(feeder.analyzer.feeds), batch, failed, muted=muted)
        while (flows := engine.take_flows()) is not None:
            self._give_flows(flows, failed, muted=muted)
        if muted:
            return
        for runner in self.runners:
            if runner.analyzer.feeds:
                continue
            # A condemned flow keeps its flow record (it says "erroneous"); everything else of it goes.
            runner.flush(frozenset() if runner.analyzer.message == "flow" else frozenset(condemned), self._output)

    def _give_all(self, kind: str, batch: Batch, failed: Failed, *, muted: bool) -> None:
        for runner in self.runners:
            if runner.analyzer.message == kind:
                self._give(runner, batch, failed, muted=muted)

    def _give_flows(self, flows: Batch, failed: Failed, *, muted: bool) -> None:
        late: dict[int, str] = {}

        def failed_late(fault: AnalyzerFailed) -> None:
            if fault.flow is not None:
                late[fault.flow] = fault.word
            failed(fault)

        for runner in self._flow_runners:
            self._give(runner, condemned_in(flows, late), failed_late, muted=muted)

    def _give(self, runner: Runner, batch: Batch, failed: Failed, *, muted: bool) -> None:
        # Who feeds others works in every pass, and when a turn is repeated: some of those may have a state.
        if runner.analyzer.feeds or (runner.analyzer.passes >= self._number and (runner.stateful or not muted)):
            silent = muted and not runner.analyzer.feeds
            self._guarded(partial(runner.run, batch, failed, muted=silent), runner, failed)

    def _guarded(self, act: Callable[[], None], runner: Runner | None = None, failed: Failed | None = None) -> None:
        self.calling = True
        try:
            act()
        except CallTimedOut as error:  # struck between two calls: no flow is to blame
            if runner is not None and failed is not None:
                failed(runner.fault(error, None))
        finally:
            self.calling = False

    def _failed_alone(self, fault: AnalyzerFailed) -> None:
        self.faults += 1
        self._output.fault(fault)

    def finish(self) -> None:
        """After the last turn of a pass: analyzers that take part in no further one say their last."""
        for runner in self.runners:
            if runner.analyzer.passes == self._number:
                self._guarded(partial(runner.finish, self._failed_alone))
                if not runner.analyzer.feeds:
                    runner.flush(frozenset(), self._output)


def narrowed(analyzer: Analyzer, crossing: Mapping[str, RecordSchema]) -> Analyzer:
    """The analyzer, emitting the columns of its record that are asked for, if all it does is hand on columns.

    The number of the flow is always among them: by it, what is condemned is left out before anything is written.
    """
    [schema, *_] = analyzer.emits
    if not analyzer.copies or schema.name not in crossing:
        return analyzer
    asked = {field.name for field in crossing[schema.name].fields} | {"uid"}
    fields = tuple(field for field in schema.fields if field.name in asked)
    return replace(analyzer, emits=(replace(schema, fields=fields),))


def condemned_in(flows: Batch, late: Mapping[int, str]) -> Batch:
    """Flow records in which these flows ended erroneous, for this reason."""
    return flows.condemned(dict(late)) if late else flows
