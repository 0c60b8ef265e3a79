"""Interrupts an analyzer that takes too long over one call, or over one flow.

Rules of this file:
1. Costs nothing per call: a timer looks at the hand page ten times a second or oftener.
2. A call is interrupted by `CallTimedOut`, raised in the analyzer. A call that never comes back to the interpreter is
   not reached this way: that worker is the supervisor's to kill.
3. A flow's time is sampled: whoever is in hand at a tick pays for the time since the last.

Limits: FLOWS_TIMED; the flow with the least time makes room.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

from bunker import limits
from bunker.closed.analyze.dispatch import CallTimedOut, Dispatcher
from bunker.closed.process.hand import Word
from bunker.native.wire import Hand

_TICK_S = 0.1


class Watchdog:
    """One worker's timer."""

    def __init__(self, dispatcher: Dispatcher, hand: Hand, *, call_ns: int, flow_ns: int) -> None:
        self._dispatcher, self._hand = dispatcher, hand
        self._call_ns, self._flow_ns = call_ns, flow_ns
        self._tick_s = min(_TICK_S, max(call_ns / 4e9, 0.01))
        self._calls, self._since_ns = -1, 0
        self._last_ns = 0
        self._spent: dict[int, int] = {}

    def start(self) -> None:
        """Arm the timer."""
        self._last_ns = time.monotonic_ns()
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self._tick_s, self._tick_s)

    def stop(self) -> None:
        """Disarm it."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, _signal: int, _frame: FrameType | None) -> None:
        if self._is_late(time.monotonic_ns()):
            raise CallTimedOut

    def _is_late(self, now_ns: int) -> bool:
        """Whether the call or the flow in hand has had its time."""
        elapsed, self._last_ns = now_ns - self._last_ns, now_ns
        if not self._dispatcher.calling:
            self._calls = -1
            return False
        calls, uid = self._hand.get(Word.CALLS), self._hand.get(Word.UID)
        if calls != self._calls:
            self._calls, self._since_ns = calls, now_ns
        late = now_ns - self._since_ns >= self._call_ns
        if uid:
            self._spent[uid] = self._spent.get(uid, 0) + elapsed
            late = late or self._spent[uid] >= self._flow_ns
            if len(self._spent) > limits.FLOWS_TIMED.default:
                del self._spent[min(self._spent, key=self._spent.__getitem__)]
        if late:
            self._since_ns = now_ns
        return late
