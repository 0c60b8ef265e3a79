"""Flow: one flow that has ended.

The class is for annotations and editors; what an analyzer gets is a view into the core's columns whose attributes
are made when they are read. Columns: `bunker.model.messages.message_record("flow")`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bunker.model.record import Address


class Flow(Protocol):
    """One flow that has ended. Times and durations in nanoseconds."""

    MESSAGE_KIND: ClassVar[str] = "flow"

    ts: int
    uid: int
    orig_h: Address
    orig_p: int
    resp_h: Address
    resp_p: int
    client: Address
    server: Address
    proto: str
    service: str | None
    duration: int | None
    orig_bytes: int | None
    resp_bytes: int | None
    conn_state: str | None
    history: str
    missed_bytes: int
    orig_pkts: int
    resp_pkts: int
    orig_ip_bytes: int
    resp_ip_bytes: int
    orig_rtt_min: int | None
    orig_rtt_mean: int | None
    orig_rtt_max: int | None
    orig_window_max: int | None
    orig_retrans_bytes: int
    orig_length_mean: int | None
    orig_gap_mean: int | None
    resp_rtt_min: int | None
    resp_rtt_mean: int | None
    resp_rtt_max: int | None
    resp_window_max: int | None
    resp_retrans_bytes: int
    resp_length_mean: int | None
    resp_gap_mean: int | None
    fault: str | None
    outcome: str
