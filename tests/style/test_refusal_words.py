"""The gate's words have a counter and a reason each: counted as something else, a refusal hides what happened."""

from __future__ import annotations

import re
from pathlib import Path

from bunker.closed.process.releaser import refusal_counter
from bunker.model.counters import Counter
from bunker.model.diagnostics import Reason

GATE = Path(__file__).resolve().parents[2] / "crates" / "clear" / "src" / "check.rs"


def test_every_word_of_the_gate_is_known() -> None:
    words = re.findall(r'Self::\w+ => "(\w+)"', GATE.read_text())
    assert len(words) >= 9
    for word in words:
        assert Reason.of(word) is not Reason.OTHER, word
        # After the end of a run nothing is cleared any more: that is no batch's fault.
        assert (refusal_counter(word) is Counter.GATE_REFUSED_FRAME) is (word == "forgotten"), word
