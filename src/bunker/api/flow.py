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
    ip_proto: int
    service: str | None
    duration: int | None
    orig_bytes: int | None
    resp_bytes: int | None
    conn_state: str
    history: str
    missed_bytes: int
    orig_pkts: int
    orig_ip_bytes: int
    resp_pkts: int
    resp_ip_bytes: int
    vlan: int | None
    inner_vlan: int | None
    outer_uid: int | None
    orig_retrans: int
    resp_retrans: int
    orig_out_of_order: int
    resp_out_of_order: int
    inconsistencies: int
    bad_checksums: int
    handshake_rtt: int | None
    orig_mss: int | None
    resp_mss: int | None
    orig_retrans_bytes: int
    orig_dup_acks: int | None
    orig_zero_windows: int | None
    orig_window_scale: int | None
    orig_window_max: int | None
    orig_in_flight_max: int | None
    orig_rtt_samples: int | None
    orig_rtt_min: int | None
    orig_rtt_mean: int | None
    orig_rtt_max: int | None
    orig_tcp_flags: int | None
    orig_ttl_min: int | None
    orig_ttl_max: int | None
    orig_length_min: int | None
    orig_length_mean: int | None
    orig_length_max: int | None
    orig_length_sd: int | None
    orig_gap_min: int | None
    orig_gap_mean: int | None
    orig_gap_max: int | None
    orig_gap_sd: int | None
    resp_retrans_bytes: int
    resp_dup_acks: int | None
    resp_zero_windows: int | None
    resp_window_scale: int | None
    resp_window_max: int | None
    resp_in_flight_max: int | None
    resp_rtt_samples: int | None
    resp_rtt_min: int | None
    resp_rtt_mean: int | None
    resp_rtt_max: int | None
    resp_tcp_flags: int | None
    resp_ttl_min: int | None
    resp_ttl_max: int | None
    resp_length_min: int | None
    resp_length_mean: int | None
    resp_length_max: int | None
    resp_length_sd: int | None
    resp_gap_min: int | None
    resp_gap_mean: int | None
    resp_gap_max: int | None
    resp_gap_sd: int | None
    fault: str | None
    outcome: str
