"""What is done when the gate is violated: go on without what violated it, or destroy the run.

Place in the flow: the gate clears ▶ `OutputRatio` admits ▶ egress.

Rules of this file:
1. A violation is a batch that the gate refuses, a broken frame of a worker, or a batch with which more would leave than
   the policy's share of what came in.
2. What is not admitted is destroyed and counted; it does not leave later, when more has come in.
"""

from __future__ import annotations

from dataclasses import dataclass

from bunker import limits


@dataclass(slots=True)
class OutputRatio:
    """How much may leave of how much came in: `max_output_ratio`.

    Invariants:
        released <= most * received + OUTPUT_ALLOWANCE, if there is a `most`.
    Limits: OUTPUT_ALLOWANCE, without which a run's first batch, with its schema, would be too much.
    """

    most: float | None
    released: int = 0
    """Bytes of cleared batches that were admitted."""

    def admits(self, size: int, received: int) -> bool:
        """Whether a cleared batch of `size` bytes may leave after `received` captured bytes; counts it if so."""
        fits = self.most is None or self.released + size <= self.most * received + limits.OUTPUT_ALLOWANCE.default
        if fits:
            self.released += size
        return fits
