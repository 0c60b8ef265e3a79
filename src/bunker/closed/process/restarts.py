"""Who is to blame when a worker is dead, and whether the lane gets another.

Place in the flow: supervisor reads the hand page of the dead ▶ here ▶ the next worker's settings.

Rules of this file:
1. Blame falls on the smallest thing in hand: a flow; a packet without a flow; a part of a batch, which the next worker
   gets in smaller parts.
2. A worker killed from outside is not blamed on anybody the first time: whatever was in hand is tried once more.
3. A lane whose workers keep dying ends the run: restarts are granted in proportion to the flows it has seen, and few if
   nothing is to blame and nothing moves.

Limits: RESTARTS, RESTART_FLOWS, RESTARTS_UNEXPLAINED, LEFT_OUT.
"""

from __future__ import annotations

import signal
from enum import IntEnum

from bunker import limits
from bunker.closed.process import frames
from bunker.closed.process.hand import InHand, Phase
from bunker.closed.process.settings import NO_ANALYZER, LeftOutFlow, PassedOver, Restart, SuspectBatch

_COUNT = 0xFFFF_FFFF_FFFF
"""The part of a flow's number that counts."""
_CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP}
)


class Cause(IntEnum):
    """Why a worker died: places in `frames.CAUSES`."""

    OTHER = frames.CAUSES.index("other")
    TIME = frames.CAUSES.index("time")
    EXITED = frames.CAUSES.index("exited")
    KILLED = frames.CAUSES.index("killed")
    CRASHED = frames.CAUSES.index("crashed")

    @property
    def fault(self) -> str:
        """The word in the flow's record."""
        return _FAULTS[self]


_FAULTS = {
    Cause.OTHER: "exited",
    Cause.TIME: "time",
    Cause.EXITED: "exited",
    Cause.KILLED: "killed",
    Cause.CRASHED: "crash",
}


def cause_of(status: int) -> Cause:
    """Why a process ended, by its exit status (negative: the signal's number)."""
    if status >= 0:
        return Cause.EXITED
    return Cause.CRASHED if -status in _CRASHES else Cause.KILLED


class LaneRestarts:
    """What is known of one lane's dead workers."""

    def __init__(self) -> None:
        self.count = 0
        self._left_out: dict[int, LeftOutFlow] = {}
        self._passed_over: list[PassedOver] = []
        self._suspects: list[SuspectBatch] = []
        self._flows_seen = 0
        self._unexplained = 0
        self._turn = 0
        self._newly = 0
        self._cause = Cause.OTHER
        self._spared: InHand | None = None

    def died(self, hand: InHand, cause: Cause) -> None:
        """A worker is dead, with this in hand."""
        self.count += 1
        self._cause = cause
        self._flows_seen = max(self._flows_seen, hand.uid & _COUNT)
        before = len(self._left_out)
        if cause is Cause.KILLED and not self._is_same_spot(hand):
            self._spared = hand
            self._unexplained += 1
        elif self._blame(hand, cause):
            self._unexplained = 0
        else:
            self._unexplained += 1
        self._newly = len(self._left_out) - before

    def _is_same_spot(self, hand: InHand) -> bool:
        spared = self._spared
        return spared is not None and (spared.sequence, spared.phase, spared.uid, spared.packet) == (
            hand.sequence,
            hand.phase,
            hand.uid,
            hand.packet,
        )

    def _blame(self, hand: InHand, cause: Cause) -> bool:
        match hand.phase:
            case Phase.CALL | Phase.BATCH | Phase.CORE if hand.uid:
                analyzer = NO_ANALYZER if hand.phase is Phase.CORE else hand.analyzer
                known = hand.uid in self._left_out
                self._left_out[hand.uid] = LeftOutFlow(uid=hand.uid, fault=cause.fault, analyzer=analyzer)
                return not known
            case Phase.CORE if hand.packet:
                packet = PassedOver(block=hand.block, packet=hand.packet - 1)
                self._passed_over.append(packet)
                return self._passed_over.count(packet) == 1
            case Phase.BATCH:
                suspect = SuspectBatch(
                    analyzer=hand.analyzer,
                    sequence=hand.sequence,
                    modulus=max(1, hand.modulus),
                    residue=hand.residue,
                )
                self._suspects.append(suspect)
                return self._suspects.count(suspect) == 1
            case _:
                return False

    def granted(self, turn: int) -> bool:
        """Whether the lane gets another worker, which goes on behind this turn."""
        own = 1 if self.count > 1 else 0  # the turn in which a worker says that it has started over
        if turn > self._turn + own:
            # It moves: whatever cannot be explained has not stopped it.
            self._unexplained = min(self._unexplained, 1)
        self._turn = turn
        quarantined = len(self._left_out) + len(self._passed_over) + len(self._suspects)
        return (
            self.count <= limits.RESTARTS.default + self._flows_seen // limits.RESTART_FLOWS.default
            and self._unexplained <= limits.RESTARTS_UNEXPLAINED.default
            and quarantined <= limits.LEFT_OUT.default
        )

    def restart(self, turn: int) -> Restart:
        """What the next worker is told."""
        return Restart(
            count=self.count,
            cause=self._cause,
            turn=turn,
            newly_left_out=self._newly,
            left_out=list(self._left_out.values()),
            passed_over=self._passed_over,
            suspects=self._suspects,
        )
