//! TCP: one direction's sequence space, reassembly, and what Zeek's conn_state and history say of both.
//!
//! Rules of this file:
//! 1. Positions are unwrapped: 64-bit offsets from the first byte of the stream, so that wrap-around needs no thought above here.
//! 2. Overlap: the receiver's policy decides (`overlap`; by default the bytes that came first win). Bytes already delivered are
//!    gone; a difference is seen only among bytes still held.
//! 3. A hole is given up when the peer has acknowledged beyond it (or was never seen) and then `hole_packets` packets or `hole_ns`
//!    have passed, or when a limit is reached. An acknowledgement alone makes no gap: it may overtake the data.
use std::collections::BTreeMap;

use crate::bytes::{be16, be32};
use crate::limits::{Limits, PLACE_BYTES};
use crate::tracker::overlap::Policy;

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
    /// Maximum segment size option; 0: none.
    pub mss: u16,
    /// Window scale option; [`NO_SCALE`]: none.
    pub window_scale: u8,
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
    let (mss, window_scale) =
        if flags & SYN == 0 { (0, NO_SCALE) } else { options_of_syn(bytes.get(20..header_len.min(bytes.len()))?) };
    Some(Segment {
        source_port: be16(bytes, 0)?,
        destination_port: be16(bytes, 2)?,
        seq: be32(bytes, 4)?,
        ack: be32(bytes, 8)?,
        flags,
        window: be16(bytes, 14)?,
        mss,
        window_scale,
        payload: bytes.get(header_len..).unwrap_or(&[]),
        payload_len: wire_len.saturating_sub(header_len),
    })
}

/// Maximum segment size and window scale among options.
fn options_of_syn(mut options: &[u8]) -> (u16, u8) {
    let (mut mss, mut scale) = (0, NO_SCALE);
    loop {
        options = match options {
            [1, rest @ ..] => rest,
            [2, 4, high, low, rest @ ..] => {
                mss = u16::from_be_bytes([*high, *low]);
                rest
            }
            [3, 3, shift, rest @ ..] => {
                scale = (*shift).min(14); // RFC 7323 section 2.3
                rest
            }
            [kind, length, ..] if *kind != 0 && *length >= 2 => match options.get(usize::from(*length)..) {
                Some(rest) => rest,
                None => return (mss, scale),
            },
            _ => return (mss, scale),
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

/// One direction of a TCP flow. What only few flows need lies in boxes of its own.
#[derive(Debug)]
pub struct Half {
    /// Next offset to deliver.
    pub next: u64,
    /// Highest offset that the peer has acknowledged.
    pub acked: u64,
    /// Offset at which the stream ends, once a FIN was seen; else [`NO_FIN`].
    fin: u64,
    waiting: Option<Box<Waiting>>,
    /// Sequence number of stream offset 0.
    base: u32,
    /// Sequence number behind the last segment, its SYN and FIN counted: what Zeek calls `last_seq`.
    pub last_seq: u32,
    /// Sequence number of the last FIN (its own) and RST.
    pub last_flagged: [u32; 2],
    /// Maximum segment size that the sender announced; 0: none.
    pub mss: u16,
    /// Shift of the windows that the sender announces; [`NO_SCALE`]: not negotiated.
    pub window_scale: u8,
    /// State of the endpoint that sends in this direction.
    pub state: EndState,
    /// The one before.
    pub before: EndState,
    /// Whose bytes count where held ones overlap: the receiver's.
    pub policy: Policy,
    started: bool,
    /// The end was told to the sink.
    pub ended: bool,
    /// Whether any packet came in this direction.
    pub seen: bool,
}

const NO_FIN: u64 = u64::MAX;
/// No window scale option was seen.
pub const NO_SCALE: u8 = u8::MAX;

impl Default for Half {
    fn default() -> Self {
        Self {
            next: 0,
            acked: 0,
            fin: NO_FIN,
            waiting: None,
            base: 0,
            last_seq: 0,
            last_flagged: [0; 2],
            mss: 0,
            window_scale: NO_SCALE,
            state: EndState::Inactive,
            before: EndState::Inactive,
            policy: Policy::First,
            started: false,
            ended: false,
            seen: false,
        }
    }
}

/// What waits behind a hole.
#[derive(Default, Debug)]
struct Waiting {
    held: BTreeMap<u64, Piece>,
    /// Edges of the segments that are held, as they came: for policies that compare them.
    edges: Vec<(i64, i64)>,
    held_bytes: usize,
    hole_packets: u32,
    hole_since_ns: u64,
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
    pub fn held_bytes(&self) -> usize {
        self.waiting.as_deref().map_or(0, |waiting| waiting.held_bytes)
    }

    /// Whether data waits behind a hole.
    #[must_use]
    pub fn has_hole(&self) -> bool {
        self.waiting.as_deref().is_some_and(|waiting| !waiting.held.is_empty())
    }

    /// Offset at which the stream ends, if a FIN was seen.
    #[must_use]
    pub fn maybe_fin(&self) -> Option<u64> {
        Some(self.fin).filter(|fin| *fin != NO_FIN)
    }

    /// A FIN was seen; the first one counts.
    pub fn set_fin(&mut self, offset: u64) {
        self.fin = self.fin.min(if self.fin == NO_FIN { offset } else { self.fin });
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

    /// Hold `bytes` at `offset`. Returns whether a difference among held bytes was seen.
    pub fn hold(&mut self, offset: u64, bytes: &[u8], now_ns: u64) -> bool {
        let policy = self.policy;
        let waiting = self.waiting.get_or_insert_default();
        if waiting.held.is_empty() {
            waiting.hole_packets = 0;
            waiting.hole_since_ns = now_ns;
        }
        if policy == Policy::First {
            waiting.fill(offset, bytes, now_ns)
        } else {
            waiting.hold(policy, offset, bytes, now_ns)
        }
    }

    /// The bytes of a segment that begins at `start`, those replaced that waiting segments win; and whether any differed.
    #[must_use]
    pub fn decide(&self, start: i64, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.waiting
            .as_deref()
            .map_or_else(|| (bytes.to_vec(), false), |waiting| waiting.decide(self.policy, start, bytes))
    }

    /// The next held piece that is in order now: bytes to leave out at its start, and the piece.
    pub fn take_ready(&mut self) -> Option<(usize, Piece)> {
        let waiting = self.waiting.as_deref_mut()?;
        let (at, length) = waiting.held.first_key_value().map(|(at, piece)| (*at, piece.bytes.len()))?;
        if at > self.next {
            return None;
        }
        let piece = waiting.held.remove(&at)?;
        waiting.held_bytes = waiting.held_bytes.saturating_sub(length).saturating_sub(PLACE_BYTES);
        let skip = usize::try_from(self.next.saturating_sub(at)).unwrap_or(usize::MAX).min(length);
        Some((skip, piece))
    }

    /// Bytes between what was delivered and the first held piece; 0 if that is next.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        self.waiting.as_deref()?.held.keys().next().map(|at| at.saturating_sub(self.next))
    }

    /// Length of the hole before the first held piece.
    #[must_use]
    pub fn hole(&self) -> Option<u64> {
        self.room().filter(|length| *length > 0)
    }

    /// Count a packet of the flow against the hole, and say whether it is given up.
    pub fn gives_up(&mut self, peer_seen: bool, now_ns: u64, limits: &Limits) -> bool {
        let acked = self.acked;
        let Some(waiting) = self.waiting.as_deref_mut() else { return false };
        let Some(first) = waiting.held.keys().next() else { return false };
        let acknowledged = acked >= *first || !peer_seen;
        waiting.hole_packets = waiting.hole_packets.saturating_add(1);
        if !acknowledged {
            // Without an acknowledgement the sender will retransmit: wait much longer, but not for ever.
            return waiting.hole_packets > limits.hole_packets.saturating_mul(16);
        }
        waiting.hole_packets > limits.hole_packets || now_ns.saturating_sub(waiting.hole_since_ns) > limits.hole_ns
    }

    /// Whether more is held than the limit.
    #[must_use]
    pub fn is_over(&self, limits: &Limits) -> bool {
        self.waiting.as_deref().is_some_and(|waiting| {
            waiting.held_bytes > limits.out_of_order_bytes as usize
                || waiting.edges.len() > limits.overlap_segments as usize
        })
    }

    /// `length` bytes are done with. The hole behind them, if there is one, is another one: its patience begins anew.
    pub fn advance(&mut self, length: u64, now_ns: u64) {
        self.next = self.next.saturating_add(length);
        if let Some(waiting) = self.waiting.as_deref_mut() {
            waiting.hole_packets = 0;
            waiting.hole_since_ns = now_ns;
            waiting.forget_edges(self.next);
            if waiting.held.is_empty() && waiting.edges.is_empty() {
                self.waiting = None;
            }
        }
    }

    /// Throw away what is held.
    pub fn clear(&mut self) {
        self.waiting = None;
    }

    /// Another state; the one before is remembered.
    pub const fn become_(&mut self, state: EndState) {
        self.before = self.state;
        self.state = state;
    }

    /// Payload bytes by sequence numbers, as Zeek counts them: up to the highest number sent or acknowledged, without SYN and FIN.
    #[must_use]
    pub fn size(&self) -> u64 {
        if !self.seen {
            return 0;
        }
        let size = self.last().max(self.acked);
        if self.fin == NO_FIN { size } else { size.saturating_sub(1) }
    }

    /// Offset behind the last segment seen.
    #[must_use]
    pub fn last(&self) -> u64 {
        u64::try_from(self.offset_of(self.last_seq)).unwrap_or(0)
    }
}

impl Waiting {
    fn hold(&mut self, policy: Policy, offset: u64, bytes: &[u8], now_ns: u64) -> bool {
        let start = i64::try_from(offset).unwrap_or(i64::MAX);
        let (decided, differs) = self.decide(policy, start, bytes);
        self.cut_out(offset, offset.saturating_add(bytes.len() as u64));
        self.fill(offset, &decided, now_ns);
        if policy.looks_at_edges() {
            let edge = (start, start.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX)));
            if !self.edges.contains(&edge) {
                self.edges.push(edge);
                self.held_bytes = self.held_bytes.saturating_add(PLACE_BYTES);
            }
        }
        differs
    }

    fn decide(&self, policy: Policy, start: i64, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut decided = bytes.to_vec();
        let new = (start, start.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX)));
        let mut differs = false;
        let edges: Vec<_> = self.edges.iter().filter(|edge| edge.0 < new.1 && edge.1 > new.0).collect();
        let from = self.held.range(..=u64::try_from(start).unwrap_or(0)).next_back().map_or(0, |(at, _)| *at);
        for (at, piece) in self.held.range(from..u64::try_from(new.1).unwrap_or(0).max(from)) {
            let Ok(at) = i64::try_from(*at) else { break };
            let end = at.saturating_add(i64::try_from(piece.bytes.len()).unwrap_or(i64::MAX));
            let (low, high) = (at.max(new.0), end.min(new.1));
            if low >= high {
                continue;
            }
            differs |= slice(&piece.bytes, at, low, high) != slice(bytes, start, low, high);
            for edge in edges.iter().filter(|edge| edge.0 < high && edge.1 > low) {
                if !policy.new_wins(new, **edge) {
                    let (low, high) = (low.max(edge.0), high.min(edge.1));
                    let known = slice(&piece.bytes, at, low, high);
                    for (place, byte) in slice_mut(&mut decided, start, low, high).iter_mut().zip(known) {
                        *place = *byte;
                    }
                }
            }
        }
        (decided, differs)
    }

    /// Forget what is held from `start` to `end`.
    fn cut_out(&mut self, start: u64, end: u64) {
        let from = self.held.range(..=start).next_back().map_or(start, |(at, _)| *at);
        let touched: Vec<u64> = self.held.range(from..end.max(from)).map(|(at, _)| *at).collect();
        for at in touched {
            let Some(piece) = self.held.remove(&at) else { continue };
            self.held_bytes = self.held_bytes.saturating_sub(piece.bytes.len()).saturating_sub(PLACE_BYTES);
            let piece_end = at.saturating_add(piece.bytes.len() as u64);
            let before = usize::try_from(start.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.bytes.len());
            let behind = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.bytes.len());
            for (at, part) in [(at, piece.bytes.get(..before)), (end.min(piece_end), piece.bytes.get(behind..))] {
                if let Some(part) = part
                    && !part.is_empty()
                {
                    self.held_bytes = self.held_bytes.saturating_add(part.len()).saturating_add(PLACE_BYTES);
                    self.held.insert(at, Piece { ts_ns: piece.ts_ns, bytes: part.to_vec() });
                }
            }
        }
    }

    /// Forget edges of what has been delivered.
    fn forget_edges(&mut self, next: u64) {
        if self.edges.is_empty() {
            return;
        }
        let (next, before) = (i64::try_from(next).unwrap_or(i64::MAX), self.edges.len());
        self.edges.retain(|edge| edge.1 > next);
        let gone = before.saturating_sub(self.edges.len());
        self.held_bytes = self.held_bytes.saturating_sub(gone.saturating_mul(PLACE_BYTES));
    }

    /// Hold `bytes` at `offset` where nothing is held yet.
    fn fill(&mut self, offset: u64, bytes: &[u8], now_ns: u64) -> bool {
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
}

/// The part of `bytes`, which begin at `start`, from `low` to `high`.
fn slice(bytes: &[u8], start: i64, low: i64, high: i64) -> &[u8] {
    let at = |place: i64| usize::try_from(place.saturating_sub(start)).unwrap_or(0);
    bytes.get(at(low)..at(high)).unwrap_or(&[])
}

/// The same, to be written.
fn slice_mut(bytes: &mut [u8], start: i64, low: i64, high: i64) -> &mut [u8] {
    let at = |place: i64| usize::try_from(place.saturating_sub(start)).unwrap_or(0);
    bytes.get_mut(at(low)..at(high)).unwrap_or(&mut [])
}

/// Whether a history is that of an originator that sent a SYN, then a reset, and nothing else that counts: Zeek's pattern
/// `^?S[^HAFGIQ]*R`.
fn is_syn_then_reset(history: &str) -> bool {
    let rest = history.strip_prefix('^').unwrap_or(history);
    let Some(rest) = rest.strip_prefix('S') else { return false };
    rest.split_once('R').is_some_and(|(before, _)| !before.contains(['H', 'A', 'F', 'G', 'I', 'Q']))
}

/// Zeek's conn_state from the endpoints' states (scripts/base/protocols/conn).
#[must_use]
pub fn conn_state(orig: EndState, resp: EndState, payload_seen: bool, history: &str) -> &'static str {
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
                if is_syn_then_reset(history) { "RSTOS0" } else { "OTH" }
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
