"""Notices that the wall clock was set: packets are stamped with it, and flows time out by their stamps.

Place in the flow: two clocks, read by the capturer ▶ here ▶ a word to each lane.

Rules of this file:
1. The wall clock is compared with one that nobody sets (CLOCK_BOOTTIME: it also counts while the machine sleeps). Both
   are slewed alike by NTP, so only a step moves one against the other.
2. Asked after a block was taken and before it is announced: a step that the block's stamps show has been noticed then.

Limits: CLOCK_STEP_MS; smaller steps change no time-out by more than that.
"""

from __future__ import annotations

from bunker import limits


class ClockWatch:
    """The distance between the two clocks, as it was."""

    def __init__(self, wall_ns: int, boot_ns: int) -> None:
        self._distance_ns = wall_ns - boot_ns

    def step(self, wall_ns: int, boot_ns: int) -> int | None:
        """By how many ns the wall clock was set since the last step; None: it was not."""
        by_ns = wall_ns - boot_ns - self._distance_ns
        if abs(by_ns) < limits.CLOCK_STEP_MS.default * 1_000_000:
            return None
        self._distance_ns += by_ns
        return by_ns
