"""Diagnostic mode (`--closed-box none`): all stages in one ordinary process, so that pdb, prints and logs work.

Holds nothing back from anybody on this machine, and says so: the tier in every envelope is "none". Takes capture files only; a live
interface is refused before this module is reached. The stages are the same objects as in the box; only the spool is left out,
since there is nothing to hide the packets from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bunker.closed.analyze.dispatch import AnalyzerFailed, Dispatcher
from bunker.closed.capture.files import FileReader
from bunker.closed.egress.envelopes import Envelopes
from bunker.errors import GateRefusal
from bunker.experiment.bundle import Bundle
from bunker.model.counters import Counter
from bunker.model.diagnostics import Diagnostic, DiagnosticKind
from bunker.model.fields import RecordSchema
from bunker.native.clear import Gate
from bunker.native.wire import Batch, Engine
from bunker.policy.load import policy_of


@dataclass(slots=True)
class _Direct:
    """Records straight through the gate."""

    gate: Gate
    envelopes: Envelopes
    write: Callable[[bytes], None]
    analyzers: dict[str, int]
    counters: dict[Counter, int] = field(default_factory=dict)

    def count(self, counter: Counter, number: int) -> None:
        self.counters[counter] = self.counters.get(counter, 0) + number

    def records(self, schema: RecordSchema, batch: Batch) -> None:
        """Clear and write a batch."""
        self.count(Counter.RECORDS_EMITTED, batch.num_rows)
        try:
            cleared = self.gate.clear(schema.name, batch.ipc())
        except GateRefusal as refusal:
            self.count(Counter.GATE_REFUSALS, 1)
            self.write(
                self.envelopes.diagnostic(Diagnostic(kind=DiagnosticKind.GATE_REFUSED, word=refusal.kind))
            )
            return
        if cleared is not None:
            self.count(Counter.RECORDS_RELEASED, cleared.num_rows)
            self.write(self.envelopes.records(cleared))

    def fault(self, failed: AnalyzerFailed) -> None:
        """Report a fault."""
        self.count(Counter.ANALYZER_FAULTS, 1)
        self.write(
            self.envelopes.diagnostic(
                Diagnostic(
                    kind=DiagnosticKind.ANALYZER_FAILED,
                    number=self.analyzers[failed.analyzer],
                    word=failed.exception,
                    line=failed.line,
                )
            )
        )


def run_inline(bundle: Bundle, files: list[int], egress_fd: int) -> list[tuple[int, int, str]]:
    """Trace capture files in this process.

    Args:
        files: Open descriptors of capture files, in order.
        egress_fd: Where the envelopes go.
    Returns:
        (number of the file, offset, kind) of each damage.
    """
    policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
    gate = Gate(policy.compiled(), {name: schema.described() for name, schema in bundle.schemas.items()})
    started_ns = time.time_ns()
    envelopes = Envelopes(
        run=os.urandom(16),
        bundle_digest=bundle.digest,
        policy_digest=policy.digest,
        tier="none",
        enforcement={"jail": "none: diagnostic mode"},
        schemas={name: gate.output_schema(name) for name in sorted(bundle.schemas) if policy.releases(name)},
        heartbeat_ns=bundle.experiment.heartbeat_ns,
        started_ns=started_ns,
    )

    def write(piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[os.write(egress_fd, view) :]

    analyzers = bundle.load_analyzers()
    output = _Direct(gate, envelopes, write, {analyzer.name: n for n, analyzer in enumerate(analyzers)})
    dispatcher = Dispatcher(analyzers, output)
    engine = Engine(
        lane=0,
        want=sorted(dispatcher.kinds | {"flow"}),
        needs=sorted(dispatcher.needs),
        seed=os.urandom(16),
        verify_checksums=bundle.experiment.verify_checksums,
    )
    write(envelopes.start())
    reader = FileReader(
        files, lanes=1, block_bytes=bundle.experiment.block_bytes, snaplen=bundle.experiment.snaplen, filters={}, seed=os.urandom(16)
    )
    number = 0
    for block in reader.blocks():
        engine.feed(block.format, block.plaintext, number)
        dispatcher.turn(engine)
        number += 1
    engine.finish()
    dispatcher.turn(engine)
    dispatcher.finish()
    counters = output.counters
    for name, value in (engine.counters() | reader.counters()).items():
        counter = Counter.maybe(name)
        if counter is not None:
            counters[counter] = value
    gate.forget()
    write(envelopes.end(counters, reason="done", now_ns=time.time_ns()))
    return reader.damages()
