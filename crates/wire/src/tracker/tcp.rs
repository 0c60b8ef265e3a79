//! TCP: one direction's sequence space, reassembly, and what Zeek's conn_state and history say of both.
//!
//! Rules of this file:
//! 1. Positions are unwrapped: 64-bit offsets from the first byte of the stream, so that wrap-around needs no thought above here.
//! 2. Overlap: the bytes that came first win. Bytes already delivered are gone; a difference is seen only among bytes still held.
//! 3. A hole is given up when the peer has acknowledged beyond it (or was never seen) and then `hole_packets` packets or `hole_ns`
//!    have passed, or when a limit is reached. An acknowledgement alone makes no gap: it may overtake the data.
use std::collections::BTreeMap;

use crate::bytes::{be16, be32};
use crate::limits::{Limits, PLACE_BYTES};

/// A TCP header with what the tracker needs of its options.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32).
    pub flags: u8,
    /// Receive window, unscaled.
    pub window: u16,
    /// Maximum segment size option.
    pub maybe_mss: Option<u16>,
    /// Captured payload.
    pub payload: &'a [u8],
    /// Payload length by the IP header.
    pub payload_len: usize,
}

/// FIN flag.
pub const FIN: u8 = 1;
/// SYN flag.
pub const SYN: u8 = 2;
/// RST flag.
pub const RST: u8 = 4;
/// ACK flag.
pub const ACK: u8 = 16;

/// Parse a TCP header; None if it is cut short or its length cannot be right.
#[must_use]
pub fn segment(bytes: &[u8], wire_len: usize) -> Option<Segment<'_>> {
    let header_len = usize::from(bytes.get(12)? >> 4) * 4;
    if header_len < 20 || header_len > wire_len {
        return None;
    }
    let flags = *bytes.get(13)?;
    let options = bytes.get(20..header_len.min(bytes.len()))?;
    Some(Segment {
        source_port: be16(bytes, 0)?,
        destination_port: be16(bytes, 2)?,
        seq: be32(bytes, 4)?,
        ack: be32(bytes, 8)?,
        flags,
        window: be16(bytes, 14)?,
        maybe_mss: if flags & SYN == 0 { None } else { mss(options) },
        payload: bytes.get(header_len..).unwrap_or(&[]),
        payload_len: wire_len.saturating_sub(header_len),
    })
}

fn mss(mut options: &[u8]) -> Option<u16> {
    loop {
        options = match options {
            [1, rest @ ..] => rest,
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [kind, length, ..] if *kind != 0 && *length >= 2 => options.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

/// Endpoint states, as Zeek has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EndState {
    /// Nothing was seen.
    #[default]
    Inactive,
    /// Sent a SYN.
    SynSent,
    /// Sent a SYN/ACK without a SYN before it.
    SynAckSent,
    /// Seen, but not from its start.
    Partial,
    /// Handshake done.
    Established,
    /// Sent FIN.
    Closed,
    /// Sent RST.
    Reset,
}

/// One direction of a TCP flow.
#[derive(Default, Debug)]
pub struct Half {
    /// State of the endpoint that sends in this direction.
    pub state: EndState,
    started: bool,
    /// Sequence number of stream offset 0.
    base: u32,
    /// Next offset to deliver.
    pub next: u64,
    /// Highest offset seen (end of data).
    pub highest: u64,
    /// Highest offset that the peer has acknowledged.
    pub acked: u64,
    /// Offset at which the stream ends, once a FIN was seen.
    pub maybe_fin: Option<u64>,
    /// The end was told to the sink.
    pub ended: bool,
    held: BTreeMap<u64, Piece>,
    held_bytes: usize,
    hole_packets: u32,
    hole_since_ns: u64,
    /// Bytes given up.
    pub missed: u64,
    /// Whether any packet came in this direction.
    pub seen: bool,
}

/// Bytes that wait for those before them.
#[derive(Debug)]
pub struct Piece {
    /// Capture time of the packet that brought them, ns.
    pub ts_ns: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a segment did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// No payload.
    Empty,
    /// In order; `skip` bytes of it were known already.
    InOrder {
        /// Bytes to leave out at its start.
        skip: usize,
    },
    /// Beyond a hole: held.
    Held,
    /// Nothing new.
    Old,
}

impl Half {
    /// Bytes held out of order, with `PLACE_BYTES` for each piece.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether data waits behind a hole.
    #[must_use]
    pub fn has_hole(&self) -> bool {
        !self.held.is_empty()
    }

    /// Set where the stream starts. `seq` is the number of its first byte.
    pub fn start(&mut self, seq: u32) {
        if !self.started {
            self.started = true;
            self.base = seq;
        }
    }

    /// Whether a start is known.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.started
    }

    /// First sequence number of the stream.
    #[must_use]
    pub const fn base(&self) -> u32 {
        self.base
    }

    /// The offset of `seq`, nearest to where the stream is; negative: before its start.
    #[must_use]
    #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)] // wrapping on purpose: RFC 9293 section 3.4
    pub fn offset_of(&self, seq: u32) -> i64 {
        let reference = self.base.wrapping_add(self.next as u32);
        let delta = seq.wrapping_sub(reference) as i32;
        (self.next as i64).wrapping_add(i64::from(delta))
    }

    /// Where a segment's payload belongs. Does not copy or deliver.
    #[must_use]
    pub fn place(&self, offset: i64, length: usize) -> Placed {
        if length == 0 {
            return Placed::Empty;
        }
        let next = i64::try_from(self.next).unwrap_or(i64::MAX);
        let end = offset.saturating_add(i64::try_from(length).unwrap_or(i64::MAX));
        if end <= next {
            Placed::Old
        } else if offset <= next {
            Placed::InOrder { skip: usize::try_from(next.saturating_sub(offset)).unwrap_or(0) }
        } else {
            Placed::Held
        }
    }

    /// Hold `bytes` at `offset`; first wins. Returns whether a difference among held bytes was seen.
    pub fn hold(&mut self, offset: u64, bytes: &[u8], now_ns: u64) -> bool {
        if self.held.is_empty() {
            self.hole_packets = 0;
            self.hole_since_ns = now_ns;
        }
        let mut differs = false;
        let mut start = offset;
        let mut rest = bytes;
        if let Some((at, piece)) = self.held.range(..=start).next_back() {
            let end = at.saturating_add(piece.bytes.len() as u64);
            if end > start {
                let from = usize::try_from(start.saturating_sub(*at)).unwrap_or(usize::MAX);
                let common = piece.bytes.get(from..).unwrap_or(&[]);
                let length = common.len().min(rest.len());
                differs |= common.get(..length) != rest.get(..length);
                rest = rest.get(length..).unwrap_or(&[]);
                start = start.saturating_add(length as u64);
            }
        }
        while !rest.is_empty() {
            let following = self.held.range(start..).next().map(|(at, piece)| (*at, piece.bytes.len()));
            let room = following.map_or(rest.len(), |(at, _)| {
                usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(rest.len())
            });
            if room > 0
                && let Some(part) = rest.get(..room)
            {
                self.held_bytes = self.held_bytes.saturating_add(room).saturating_add(PLACE_BYTES);
                self.held.insert(start, Piece { ts_ns: now_ns, bytes: part.to_vec() });
            }
            rest = rest.get(room..).unwrap_or(&[]);
            start = start.saturating_add(room as u64);
            if let (false, Some((at, length))) = (rest.is_empty(), following) {
                let common = length.min(rest.len());
                if let Some(piece) = self.held.get(&at) {
                    differs |= piece.bytes.get(..common) != rest.get(..common);
                }
                rest = rest.get(common..).unwrap_or(&[]);
                start = at.saturating_add(length as u64);
            }
        }
        differs
    }

    /// The next held piece that is in order now: bytes to leave out at its start, and the piece.
    pub fn take_ready(&mut self) -> Option<(usize, Piece)> {
        let (at, length) = self.held.first_key_value().map(|(at, piece)| (*at, piece.bytes.len()))?;
        if at > self.next {
            return None;
        }
        let piece = self.held.remove(&at)?;
        self.held_bytes = self.held_bytes.saturating_sub(length).saturating_sub(PLACE_BYTES);
        let skip = usize::try_from(self.next.saturating_sub(at)).unwrap_or(usize::MAX).min(length);
        Some((skip, piece))
    }

    /// Bytes between what was delivered and the first held piece; 0 if that is next.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        self.held.keys().next().map(|at| at.saturating_sub(self.next))
    }

    /// Length of the hole before the first held piece.
    #[must_use]
    pub fn hole(&self) -> Option<u64> {
        self.room().filter(|length| *length > 0)
    }

    /// Count a packet of the flow against the hole, and say whether it is given up.
    pub fn gives_up(&mut self, peer_seen: bool, now_ns: u64, limits: &Limits) -> bool {
        let Some(first) = self.held.keys().next() else { return false };
        let acknowledged = self.acked >= *first || !peer_seen;
        self.hole_packets = self.hole_packets.saturating_add(1);
        if !acknowledged {
            // Without an acknowledgement the sender will retransmit: wait much longer, but not for ever.
            return self.hole_packets > limits.hole_packets.saturating_mul(16);
        }
        self.hole_packets > limits.hole_packets || now_ns.saturating_sub(self.hole_since_ns) > limits.hole_ns
    }

    /// Whether more is held than the limit.
    #[must_use]
    pub const fn is_over(&self, limits: &Limits) -> bool {
        self.held_bytes > limits.out_of_order_bytes as usize
    }

    /// Jump over `length` missing bytes.
    pub fn jump(&mut self, length: u64, now_ns: u64) {
        self.missed = self.missed.saturating_add(length);
        self.advance(length, now_ns);
    }

    /// `length` bytes are done with. The hole behind them, if there is one, is another one: its patience begins anew.
    pub fn advance(&mut self, length: u64, now_ns: u64) {
        self.next = self.next.saturating_add(length);
        self.hole_packets = 0;
        self.hole_since_ns = now_ns;
    }

    /// Throw away what is held.
    pub fn clear(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }
}

/// Zeek's conn_state from the endpoints' states (scripts/base/protocols/conn).
#[must_use]
pub fn conn_state(orig: EndState, resp: EndState, payload_seen: bool) -> &'static str {
    use EndState::{Closed, Established, Inactive, Partial, Reset, SynAckSent, SynSent};
    let orig_inactive = matches!(orig, Inactive | Partial);
    let resp_inactive = matches!(resp, Inactive | Partial);
    match (orig, resp) {
        (SynSent | SynAckSent, Reset) => "REJ",
        (Reset, Reset) if !payload_seen => "REJ",
        (_, Reset) => {
            if orig_inactive {
                "RSTRH"
            } else {
                "RSTR"
            }
        }
        (Reset, _) => {
            if resp_inactive {
                "RSTOS0"
            } else {
                "RSTO"
            }
        }
        (Closed, Closed) => "SF",
        (Closed, _) => {
            if resp_inactive {
                "SH"
            } else {
                "S2"
            }
        }
        (_, Closed) => {
            if orig_inactive {
                "SHR"
            } else {
                "S3"
            }
        }
        (SynSent, Inactive) => "S0",
        (Established, Established) => "S1",
        _ => "OTH",
    }
}
