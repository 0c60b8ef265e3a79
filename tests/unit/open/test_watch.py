"""Progress where there is no terminal: a line for each heartbeat that says something new."""

from __future__ import annotations

import io

from enveloping import BALANCED, SECOND_NS, Clearing, birth_of, cut, pulse_at, through_outlet
from rich.console import Console

from bunker.closed.egress.envelopes import Envelopes
from bunker.model.heartbeat import Heartbeat
from bunker.native.clear import ClearedBatch
from bunker.open.verifier import StreamVerifier
from bunker.open.watch import Watch


def told(*pulses: dict[str, int]) -> list[str]:
    """What is printed when heartbeats with these counters come, a second apart."""
    maker = Envelopes(birth_of(Clearing(), heartbeat_ns=SECOND_NS), cleared=ClearedBatch)
    stream = [maker.start(), *(maker.heartbeat(pulse_at(second, **one)) for second, one in enumerate(pulses))]
    text = io.StringIO()
    verifier = StreamVerifier()
    with Watch(Console(file=text, force_terminal=False, width=400)) as watch:
        for envelope in cut(through_outlet(stream)):
            statement = verifier.feed(envelope).statement
            if isinstance(statement, Heartbeat):
                assert verifier.start is not None
                watch.heartbeat(statement, verifier.start)
    return text.getvalue().splitlines()


def test_what_says_the_same_is_said_once() -> None:
    lines = told(BALANCED, BALANCED, BALANCED, BALANCED)
    assert len(lines) == 1
    assert lines[0].startswith("0:00:00  packets 100")


def test_what_changes_is_said() -> None:
    lines = told(BALANCED, BALANCED, {**BALANCED, "gaps": 1}, {**BALANCED, "lag_bytes": 5000}, BALANCED)
    assert [line.split()[0] for line in lines] == ["0:00:00", "0:00:03", "0:00:04"]


def test_a_rate_that_falls_to_nothing_is_said_once() -> None:
    more = {**BALANCED, "packets_received": 200, "packets_analysed": 170}
    lines = told(BALANCED, more, more, more)
    assert [line.split()[0] for line in lines] == ["0:00:00", "0:00:01", "0:00:02"]
    assert "(100/s)" in lines[1] and "(0/s)" in lines[2]
