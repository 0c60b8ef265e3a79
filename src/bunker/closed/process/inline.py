"""Diagnostic mode (`--closed-box none`): all stages in one ordinary process, so that pdb, prints and logs work.

Holds nothing back from anybody on this machine, and says so: the tier in every statement is "none". Takes capture
files only; a live
interface is refused before this module is reached. The stages are the same objects as in the box; only spool and
jail are left out, since there is nobody to hide the packets from.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bunker.closed.analyze.dispatch import AnalyzerFailed, Dispatcher, Runner
from bunker.closed.analyze.external import ExternalRunner
from bunker.closed.capture.files import FileReader
from bunker.closed.capture.filter import filters_for_files
from bunker.closed.clear.noise import provide_noise
from bunker.closed.clear.violation import OutputRatio
from bunker.closed.egress.birth import output_schemas
from bunker.closed.egress.envelopes import Birth, Envelopes, Pulse
from bunker.closed.egress.seal import sealer_for
from bunker.closed.process.external import PlainKeepers
from bunker.closed.process.hand import own_hand
from bunker.closed.process.interpreter import interpreters
from bunker.closed.process.link import pair
from bunker.closed.process.releaser import refusal_counter
from bunker.closed.process.setup import open_files
from bunker.closed.process.worker import PHASES
from bunker.errors import BoxError, GateRefusal
from bunker.experiment.bundle import Bundle
from bunker.model import diagnostics
from bunker.model.analyzer import Analyzer
from bunker.model.counters import Counter
from bunker.model.diagnostics import DiagnosticKind, Reason
from bunker.model.fields import RecordSchema
from bunker.model.heartbeat import AbortReason, EndReason, Tier
from bunker.native.clear import ClearedBatch, Gate
from bunker.native.wire import Batch, Engine, Hand
from bunker.policy.load import policy_of
from bunker.policy.needed import crossing


class _Violated(BaseException):
    """The policy was violated, and says that this ends the run. No analyzer's `except Exception` is in its way."""


class _Inline:
    """Records straight through the gate into the stream."""

    def __init__(self, bundle: Bundle, egress_fd: int) -> None:
        policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
        self.crossing = crossing(policy)
        self.gate = Gate(
            policy.compiled(),
            {name: schema.described() for name, schema in self.crossing.items()},
            policy.packets(),
        )
        provide_noise(self.gate, policy)
        self.ratio = OutputRatio(most=policy.max_output_ratio)
        self._stops = policy.on_violation == "stop"
        self.envelopes = Envelopes(
            Birth(
                run=os.urandom(16),
                started_ns=time.time_ns(),
                tier=Tier.NONE,
                bundle=bundle.digest,
                image=None,
                policy=policy.digest,
                schemas=output_schemas(policy, self.gate),
                enforcement={"jail": "missing: diagnostic mode"},
                heartbeat_ns=bundle.experiment.heartbeat_ns,
            ),
            cleared=ClearedBatch,
        )
        self.counters = dict.fromkeys(Counter, 0)
        self._egress_fd = egress_fd
        self._sealer = sealer_for(bundle.experiment.seal_to)
        self._heartbeat_ns = bundle.experiment.heartbeat_ns
        self._next_beat = 0

    def write(self, envelope: bytes) -> None:
        """All of it; the open box may be slow."""
        view = memoryview(envelope if self._sealer is None else self._sealer.seal(envelope))
        while view:
            view = view[os.write(self._egress_fd, view) :]

    def pulse(self) -> Pulse:
        """What a heartbeat says now."""
        self.counters[Counter.RECORDS_SAMPLED_OUT] = self.gate.sampled_out
        self.counters[Counter.VALUES_UNNUMBERED] = self.gate.unnumbered
        return Pulse(now_ns=time.time_ns(), monotonic_ns=time.monotonic_ns(), counters=self.counters)

    def beat(self) -> None:
        """A heartbeat, if one is due."""
        if time.monotonic_ns() >= self._next_beat:
            self._next_beat = time.monotonic_ns() + self._heartbeat_ns
            self.write(self.envelopes.heartbeat(self.pulse()))

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Clear and write a batch."""
        self.counters[Counter.RECORDS_EMITTED] += batch.num_rows
        try:
            kept = batch.select([field.name for field in self.crossing[schema.name].fields])
            batches = self.gate.clear(schema.name, kept.ipc())
        except GateRefusal as refusal:
            self.refuse(refusal.kind)
            return
        self.release(batches)

    def refuse(self, kind: str) -> None:
        """Count and report what the gate did not let out.

        Raises:
            _Violated: the policy says that this ends the run.
        """
        self.counters[refusal_counter(kind)] += 1
        reason = Reason.of(kind)
        event = diagnostics.event(DiagnosticKind.GATE_REFUSED, at_ns=time.time_ns(), lane=0, reason=reason)
        self.write(self.envelopes.diagnostics([event]))
        if self._stops:
            raise _Violated

    def release(self, batches: list[ClearedBatch]) -> None:
        """Write what has been cleared."""
        for cleared in batches:
            if not self.ratio.admits(len(cleared.ipc()), self.counters[Counter.BYTES_RECEIVED]):
                self.counters[Counter.RECORDS_REFUSED] += cleared.num_rows
                self.refuse(Reason.OUTPUT_RATIO.value)
                continue
            self.counters[Counter.RECORDS_RELEASED] += cleared.num_rows
            self.write(self.envelopes.records(cleared))

    def fault(self, failed: AnalyzerFailed) -> None:
        """Report a fault."""
        self.counters[Counter.ANALYZER_FAULTS] += 1
        event = diagnostics.event(
            DiagnosticKind.ANALYZER_FAILED,
            at_ns=time.time_ns(),
            lane=0,
            analyzer=failed.analyzer,
            exception=failed.exception,
            line=failed.line,
            count=1,
        )
        self.write(self.envelopes.diagnostics([event]))


def _external(bundle: Bundle, hand: Hand, stack: ExitStack) -> Callable[[Analyzer, int], Runner]:
    """Programs as ordinary processes, their files in a temporary folder."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bunker-programs-")) if bundle.programs else ""
    for path, content in bundle.program_files.items():
        file = Path(folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o555)
    ends: dict[str, int] = {}
    settings = []
    for name, program in zip(bundle.programs, interpreters(bundle, folder=folder), strict=True):
        keeper_end, ends[name] = pair()
        settings.append(msgspec.structs.replace(program.settings(keeper_end), own_session=True))
    keepers = PlainKeepers(settings)
    stack.callback(keepers.end)
    return lambda analyzer, number: ExternalRunner(
        analyzer,
        ends[analyzer.name],
        number=number,
        hand=hand,
        phases=PHASES,
        on_error=traceback.print_exception,
        revive=keepers.revive,
    )


def run_inline(bundle: Bundle, files: tuple[Path, ...], egress_fd: int) -> list[tuple[int, int, str]]:
    """Run an experiment over capture files without a box; tracebacks of analyzers go to standard error.

    Returns:
        (number of the file, offset, reason) of each damaged capture file.
    Raises:
        ConfigurationError: a file, filter or analyzer is not to be had.
        BoxError: the policy was violated, and says that this ends the run.
    """
    output = _Inline(bundle, egress_fd)
    with ExitStack() as stack:
        try:
            return _run(bundle, files, output, stack)
        except _Violated:
            output.counters[Counter.RECORDS_DESTROYED] += output.gate.waiting_rows
            output.gate.forget()
            output.write(output.envelopes.abort(output.pulse(), reason=AbortReason.POLICY))
            raise BoxError(
                "the policy", "was violated, and on_violation is stop", "The diagnostics say what the gate refused"
            ) from None


def _run(bundle: Bundle, files: tuple[Path, ...], output: _Inline, stack: ExitStack) -> list[tuple[int, int, str]]:
    experiment = bundle.experiment
    hand = own_hand()
    dispatcher = Dispatcher(
        bundle.load_analyzers(),
        output,
        hand=hand,
        phases=PHASES,
        on_error=traceback.print_exception,
        external=_external(bundle, hand, stack),
        crossing=output.crossing,
    )
    dispatcher.begin_pass(1)
    engine = Engine(
        lane=0,
        want=sorted(dispatcher.kinds),
        needs=sorted(dispatcher.needs),
        seed=os.urandom(16),
        verify_checksums=experiment.verify_checksums,
        auto_checksums=experiment.auto_checksums,
        overlap=experiment.overlap,
        columns=dispatcher.columns,
    )
    reader = FileReader(
        open_files(files),
        lanes=1,
        block_bytes=experiment.block_bytes,
        snaplen=experiment.snaplen,
        filters=filters_for_files(experiment.capture_filter, snaplen=experiment.snaplen),
        seed=os.urandom(16),
    )
    counters = output.counters

    def count() -> None:
        for name, value in engine.counters().items():
            counter = Counter.maybe(name)
            if counter is not None:
                counters[counter] = value

    output.write(output.envelopes.start())
    for number, block in enumerate(reader.blocks()):
        counters[Counter.PACKETS_RECEIVED] += block.packet_count
        counters[Counter.BYTES_RECEIVED] += len(block.plaintext)
        while not engine.feed(block.format, block.plaintext, number):
            dispatcher.turn(engine)
        dispatcher.turn(engine)
        count()
        output.beat()
    engine.finish()
    dispatcher.turn(engine)
    dispatcher.finish()
    count()
    counters[Counter.CAPTURE_FILES_DAMAGED] = len(reader.damages)
    output.release(output.gate.finish())
    output.gate.forget()
    output.write(output.envelopes.end(output.pulse(), reason=EndReason.DONE))
    return reader.damages
