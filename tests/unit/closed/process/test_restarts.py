"""Blame falls on the smallest thing in hand, and a lane whose workers keep dying gets no other."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from bunker import limits
from bunker.closed.process.hand import InHand, Phase
from bunker.closed.process.restarts import Cause, LaneRestarts, cause_of
from bunker.closed.process.settings import NO_ANALYZER, LeftOutFlow, PassedOver, SuspectBatch

CALL = InHand(phase=Phase.CALL, sequence=4, uid=77, analyzer=1, calls=9, packet=0, modulus=0, residue=0, block=3)


def test_a_call_costs_its_flow() -> None:
    lane = LaneRestarts()
    lane.died(CALL, Cause.CRASHED)
    assert lane.granted(5)
    told = lane.restart(5)
    assert told.left_out == [LeftOutFlow(uid=77, fault="crash", analyzer=1)]
    assert (told.count, told.turn, told.newly_left_out) == (1, 5, 1)


def test_the_core_is_blamed_on_the_flow_or_else_on_the_packet() -> None:
    lane = LaneRestarts()
    lane.died(replace(CALL, phase=Phase.CORE), Cause.TIME)
    lane.died(replace(CALL, phase=Phase.CORE, uid=0, packet=12), Cause.CRASHED)
    told = lane.restart(1)
    assert told.left_out == [LeftOutFlow(uid=77, fault="time", analyzer=NO_ANALYZER)]
    assert told.passed_over == [PassedOver(block=3, packet=11)]


def test_a_batch_becomes_a_suspect_and_then_a_flow() -> None:
    lane = LaneRestarts()
    lane.died(replace(CALL, phase=Phase.BATCH, uid=0, modulus=1), Cause.CRASHED)
    lane.died(replace(CALL, phase=Phase.BATCH, uid=0, modulus=64, residue=13), Cause.CRASHED)
    lane.died(replace(CALL, phase=Phase.BATCH, modulus=4096, residue=77), Cause.CRASHED)
    told = lane.restart(1)
    assert told.suspects == [
        SuspectBatch(analyzer=1, sequence=4, modulus=1, residue=0),
        SuspectBatch(analyzer=1, sequence=4, modulus=64, residue=13),
    ]
    assert [flow.uid for flow in told.left_out] == [77]


def test_who_was_killed_from_outside_is_tried_once_more() -> None:
    lane = LaneRestarts()
    lane.died(CALL, Cause.KILLED)
    assert lane.granted(1)
    assert lane.restart(1).left_out == []
    lane.died(CALL, Cause.KILLED)
    assert [flow.fault for flow in lane.restart(1).left_out] == ["killed"]


def test_faults_in_proportion_to_the_flows_are_borne() -> None:
    lane = LaneRestarts()
    flows = 100_000
    for number in range(1, flows // (2 * limits.RESTART_FLOWS.default)):
        lane.died(replace(CALL, uid=number * 2 * limits.RESTART_FLOWS.default), Cause.EXITED)
        assert lane.granted(number)


def test_a_fault_in_every_flow_ends_it() -> None:
    lane = LaneRestarts()
    granted = 0
    for uid in range(1, 1_000):
        lane.died(replace(CALL, uid=uid), Cause.EXITED)
        if not lane.granted(1):
            break
        granted += 1
    assert granted == limits.RESTARTS.default


@pytest.mark.parametrize("phase", [Phase.START, Phase.FINISH, Phase.IDLE])
def test_what_is_nobodys_fault_and_does_not_move_ends_it(phase: Phase) -> None:
    lane = LaneRestarts()
    for _ in range(limits.RESTARTS_UNEXPLAINED.default):
        lane.died(replace(CALL, phase=phase), Cause.EXITED)
        assert lane.granted(1)
    lane.died(replace(CALL, phase=phase), Cause.EXITED)
    assert not lane.granted(1)


def test_the_turn_in_which_a_restart_is_told_is_no_progress() -> None:
    lane = LaneRestarts()
    granted = []
    for turn in range(1, 2 + limits.RESTARTS_UNEXPLAINED.default):
        lane.died(replace(CALL, phase=Phase.IDLE), Cause.EXITED)
        granted.append(lane.granted(turn))
    assert granted == [True] * limits.RESTARTS_UNEXPLAINED.default + [False]


def test_what_is_nobodys_fault_and_moves_goes_on() -> None:
    lane = LaneRestarts()
    for turn in range(1, 3 * limits.RESTARTS_UNEXPLAINED.default):
        lane.died(replace(CALL, phase=Phase.IDLE), Cause.KILLED)
        assert lane.granted(2 * turn)


@pytest.mark.parametrize(
    ("status", "cause"),
    [(0, Cause.EXITED), (70, Cause.EXITED), (-signal.SIGSEGV, Cause.CRASHED), (-signal.SIGKILL, Cause.KILLED)],
)
def test_the_exit_status_says_why(status: int, cause: Cause) -> None:
    assert cause_of(status) is cause
