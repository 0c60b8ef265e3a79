//! What the tracker tells: the dialogue between `wire` and whatever reads streams.
//!
//! Rules of this file:
//! 1. Per flow: one `flow_opened`, then chunks, gaps and datagrams, then one `flow_closed`; nothing after it.
//! 2. Per direction of a TCP flow, chunks and gaps come in stream order and together cover each byte exactly once.
//! 3. Feeding the same packets in other blocks gives the same calls (chunks may be cut elsewhere).
use core::fmt;

use crate::tracker::measures::Measures;

/// Who sent something: the first sender seen of a flow, or the other.
///
/// A tracker may correct the roles while it has not yet delivered any byte (first packet was a SYN/ACK).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From the originator.
    Orig,
    /// From the responder.
    Resp,
}

impl Direction {
    /// The opposite direction.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Orig => Self::Resp,
            Self::Resp => Self::Orig,
        }
    }

    /// 0 for the originator, 1 for the responder: to index pairs.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Orig => 0,
            Self::Resp => 1,
        }
    }
}

/// An IPv4 or IPv6 address as sixteen bytes, IPv4 as `::ffff:a.b.c.d`, network order.
///
/// `Debug` prints no address: raw traffic never stands in a message of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// An IPv4 address.
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The four octets when this is an IPv4 address.
    #[must_use]
    pub const fn maybe_v4(self) -> Option<[u8; 4]> {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
            _ => None,
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.maybe_v4().is_some() { "Address(4)" } else { "Address(16)" })
    }
}

/// One end of a flow: address and port (ICMP: type and code as Zeek has them; other protocols: 0).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// Address.
    pub address: Address,
    /// Port, host order.
    pub port: u16,
}

/// How a flow ended. A closed vocabulary: Python has the same names (`bunker.model.outcome`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Both sides closed, or one reset, or a datagram exchange went quiet within its time-out.
    Completed,
    /// Nothing was heard for the time-out of its state.
    TimedOut,
    /// The trace ended first.
    Ended,
    /// State was given up because a limit was reached.
    Evicted,
    /// A parser, an analyzer or the core failed on it; its messages after that are not delivered.
    Erroneous,
}

/// Facts about a flow that stand while it lives. `slot` is dense and reused: sinks index side tables with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Number in this run: lane in the upper 16 bits, count in the lower 48. Never reused.
    pub uid: u64,
    /// Dense index, reused after `flow_closed`.
    pub slot: u32,
    /// The originator.
    pub orig: Endpoint,
    /// The responder.
    pub resp: Endpoint,
    /// IP protocol number (6, 17, 1, 58, ...).
    pub protocol: u8,
    /// Capture time of the first packet, nanoseconds since the epoch, UTC.
    pub first_ts_ns: u64,
    /// `uid` of the flow that carries this one through a tunnel.
    pub maybe_outer: Option<u64>,
}

/// Who listens to the tracker. `wire` calls it; `proto::engine` implements it.
///
/// `payload` slices live only during the call. No method may panic on any traffic; the engine catches what escapes, marks the
/// flow [`Outcome::Erroneous`] and goes on with the next packet.
pub trait Sink {
    /// A flow began.
    fn flow_opened(&mut self, flow: &Flow);
    /// The tracker learnt that originator and responder were the wrong way round. Only before the first byte was delivered.
    fn roles_flipped(&mut self, flow: &Flow);
    /// Stream bytes in order. `ts_ns` is the capture time of the packet that brought the first of them.
    fn chunk(&mut self, flow: &Flow, direction: Direction, payload: &[u8], ts_ns: u64);
    /// Stream bytes known to be missing.
    fn gap(&mut self, flow: &Flow, direction: Direction, length: u64, ts_ns: u64);
    /// This direction will send no more bytes (FIN consumed in order, RST, or the flow closes).
    fn direction_ended(&mut self, flow: &Flow, direction: Direction, ts_ns: u64);
    /// One UDP (or other non-stream) payload; `wire_len` is its length before the snaplen cut it.
    fn datagram(&mut self, flow: &Flow, direction: Direction, payload: &[u8], wire_len: usize, ts_ns: u64);
    /// The flow ended. Its `FlowSummary` is complete.
    fn flow_closed(&mut self, flow: &Flow, summary: &FlowSummary, outcome: Outcome);
}

/// What is known of a flow when it ends. Names follow Zeek's conn.log.
#[derive(Clone, Debug, Default)]
pub struct FlowSummary {
    /// Capture time of the last packet, ns.
    pub last_ts_ns: u64,
    /// Payload bytes by direction (TCP: by sequence numbers, as Zeek's orig_bytes and resp_bytes).
    pub payload_bytes: [u64; 2],
    /// Packets by direction.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction, headers included.
    pub ip_bytes: [u64; 2],
    /// Stream bytes that were never captured, both directions.
    pub missed_bytes: u64,
    /// Zeek's conn_state, e.g. "SF".
    pub conn_state: &'static str,
    /// Zeek's history letters.
    pub history: String,
    /// Outer and inner VLAN identifiers.
    pub vlan: [Option<u16>; 2],
    /// Overlaps whose bytes differed from what had been delivered, both directions.
    pub inconsistencies: u32,
    /// Packets with a wrong checksum.
    pub bad_checksums: u32,
    /// Time from SYN to SYN/ACK plus SYN/ACK to ACK, ns.
    pub maybe_handshake_rtt_ns: Option<u64>,
    /// Maximum segment size announced by each side.
    pub mss: [Option<u16>; 2],
    /// Window shift announced by each side.
    pub window_scale: [Option<u8>; 2],
    /// Whether all of `measures` was measured, or only what went wrong (retransmissions, holes, contradictions).
    pub has_statistics: bool,
    /// What was measured of each direction.
    pub measures: [Measures; 2],
}
