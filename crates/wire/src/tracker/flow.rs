//! One flow of the table: its key, its place in the time-out lists, and how packets change it.
use crate::event::{Direction, Endpoint, Flow, FlowSummary, Sink};
use crate::limits::Limits;
use crate::tracker::history::History;
use crate::tracker::overlap::Policy;
use crate::tracker::tcp::{self, ACK, EndState, FIN, Half, Placed, RST, SYN, Segment};

/// How far beyond what is expected a sequence number can be meant: the largest window there is (RFC 7323, 65,535 << 14).
const FARTHEST: i32 = 1 << 30;

/// Direction-less key of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The smaller endpoint.
    pub low: Endpoint,
    /// The larger one.
    pub high: Endpoint,
    /// IP protocol.
    pub protocol: u8,
}

impl Key {
    /// The key of a packet from `source` to `destination`.
    #[must_use]
    pub fn new(source: Endpoint, destination: Endpoint, protocol: u8) -> Self {
        if source <= destination {
            Self { low: source, high: destination, protocol }
        } else {
            Self { low: destination, high: source, protocol }
        }
    }
}

/// Which time-out holds for a flow: also the order in which flows are given up when the table is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// TCP, both sides closed or one reset.
    TcpClosed = 0,
    /// TCP, a SYN that nobody has answered.
    TcpAttempt = 1,
    /// TCP, answered, but the handshake is not complete.
    TcpHandshake = 2,
    /// ICMP and other protocols without ports.
    Other = 3,
    /// UDP.
    Udp = 4,
    /// TCP, established.
    TcpIdle = 5,
}

/// All classes, the one to give up first in front.
pub const CLASSES: [Class; 6] =
    [Class::TcpClosed, Class::TcpAttempt, Class::TcpHandshake, Class::Other, Class::Udp, Class::TcpIdle];

impl Class {
    /// Idle time after which a flow of this class ends, ns.
    #[must_use]
    pub const fn idle_ns(self, limits: &Limits) -> u64 {
        match self {
            Self::TcpClosed => limits.tcp_close_ns,
            Self::TcpAttempt => limits.tcp_attempt_ns,
            Self::TcpHandshake => limits.tcp_handshake_ns,
            Self::Other => limits.icmp_idle_ns,
            Self::Udp => limits.udp_idle_ns,
            Self::TcpIdle => limits.tcp_idle_ns,
        }
    }

    /// Whether its time runs from when a flow came into it, whatever comes after that: a SYN that is sent again and again, and what
    /// straggles in after the end, keep no flow alive (Zeek's `tcp_attempt_delay` and `tcp_close_delay`).
    #[must_use]
    pub const fn is_frozen(self) -> bool {
        matches!(self, Self::TcpClosed | Self::TcpAttempt)
    }
}

/// TCP state of a flow, both directions.
#[derive(Default)]
pub struct Tcp {
    /// Originator's and responder's half.
    pub halves: [Half; 2],
    syn_ns: Option<u64>,
    syn_ack_ns: Option<u64>,
    /// Something else than a SYN came from the side that did not send the SYN/ACK.
    confirmed: bool,
}

/// A flow and its neighbours in the list of its class.
pub struct Entry {
    /// What sinks see.
    pub flow: Flow,
    /// The packet that opened it.
    pub born: crate::tracker::restart::Place,
    /// Its key.
    pub key: Key,
    /// Time-out class.
    pub class: Class,
    /// When its time began to run, ns: the last packet, but see [`Class::is_frozen`].
    pub idle_since_ns: u64,
    /// Older neighbour (slot), or none.
    pub maybe_older: u32,
    /// Newer neighbour (slot), or none.
    pub maybe_newer: u32,
    /// Given up by a fault: nothing more is delivered.
    pub condemned: bool,
    /// TCP state.
    pub tcp: Option<Box<Tcp>>,
    /// History letters.
    pub history: History,
    /// Counts so far.
    pub summary: FlowSummary,
}

/// Changes that reassembly made to the table-wide account of held bytes.
pub type HeldDelta = i64;

impl Entry {
    /// The direction of a packet from `source`.
    #[must_use]
    pub fn direction(&self, source: Endpoint) -> Direction {
        if source == self.flow.orig { Direction::Orig } else { Direction::Resp }
    }

    /// Count a packet.
    pub fn count(&mut self, direction: Direction, ip_len: usize, ts_ns: u64) {
        if let Some(packets) = self.summary.packets.get_mut(direction.index()) {
            *packets = packets.saturating_add(1);
        }
        if let Some(bytes) = self.summary.ip_bytes.get_mut(direction.index()) {
            *bytes = bytes.saturating_add(ip_len as u64);
        }
        // As Zeek has it: what comes after both sides have closed does not make the flow longer.
        if !self.tcp.as_deref().is_some_and(are_both_over) {
            self.summary.last_ts_ns = self.summary.last_ts_ns.max(ts_ns);
        }
    }

    /// Count a payload that is no stream's.
    pub fn note_payload(&mut self, direction: Direction, wire_len: usize) {
        if let Some(bytes) = self.summary.payload_bytes.get_mut(direction.index()) {
            *bytes = bytes.saturating_add(wire_len as u64);
        }
        self.history.note(direction, b'D');
    }

    /// Take a datagram of UDP or another protocol without a stream.
    pub fn datagram(
        &mut self,
        direction: Direction,
        payload: &[u8],
        wire_len: usize,
        ts_ns: u64,
        sink: &mut impl Sink,
    ) {
        self.note_payload(direction, wire_len);
        if !self.condemned {
            sink.datagram(&self.flow, direction, payload, wire_len, ts_ns);
        }
    }

    /// Take a TCP segment whose checksum is right. Returns how the account of held bytes changed.
    pub fn segment(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        ts_ns: u64,
        limits: &Limits,
        sink: &mut impl Sink,
    ) -> HeldDelta {
        let Some(mut tcp) = self.tcp.take() else { return 0 };
        let before = held(&tcp);
        self.note_flags(&mut tcp, direction, segment);
        self.start(&mut tcp, direction, segment);
        self.note_sequence(halves(&mut tcp, direction).0, direction, segment);
        self.count_retransmission(halves(&mut tcp, direction).0, direction, segment);
        self.handshake(&mut tcp, direction, segment, ts_ns);
        tcp.confirmed |= segment.flags & SYN == 0
            && (direction == Direction::Orig
                || segment.payload_len > 0
                || half(&tcp, Direction::Orig).state == EndState::Partial);
        self.data(&mut tcp, direction, segment, ts_ns, limits, sink);
        self.acknowledge(&mut tcp, direction, segment, ts_ns, limits, sink);
        self.finish_directions(&mut tcp, direction, segment, ts_ns, sink);
        // What is over stays over: a straggler does not bring it back (Zeek's close timer, once set, is not cancelled).
        if self.class != Class::TcpClosed {
            self.class = class_of(&tcp);
        }
        let after = held(&tcp);
        self.tcp = Some(tcp);
        after.saturating_sub(before)
    }

    /// History letters as Zeek's `update_history` has them.
    fn note_flags(&mut self, tcp: &mut Tcp, direction: Direction, segment: &Segment<'_>) {
        let flags = segment.flags;
        let (own, peer) = halves(tcp, direction);
        let length = segment.payload_len;
        match flags & (SYN | FIN | RST) {
            0 if length > 0 => self.history.note(direction, b'D'),
            0 if flags & ACK != 0 => self.history.note(direction, b'A'),
            0 => {}
            SYN => {
                let letter = if flags & ACK == 0 { b'S' } else { b'H' };
                let is_same = note_number(&mut own.last_flagged, 0, segment.seq);
                self.history.note_numbered(direction, letter, is_same);
            }
            FIN => {
                let number = segment.seq.wrapping_add(u32::try_from(length).unwrap_or(0));
                self.history.note_numbered(direction, b'F', note_number(&mut own.last_flagged, 1, number));
            }
            RST => {
                let is_same = note_number(&mut own.last_flagged, 2, segment.seq);
                self.history.note_numbered(direction, b'R', is_same);
            }
            several => self.history.note(direction, if several & (FIN | RST) == FIN | RST { b'I' } else { b'Q' }),
        }
        if segment.window == 0 && flags & RST == 0 && peer.state != EndState::Closed && own.state != EndState::Reset {
            self.history.note(direction, b'W');
        }
    }

    /// Move `last_seq`; a segment with data that does not move it is late, a retransmission in Zeek's history.
    fn note_sequence(&mut self, own: &mut Half, direction: Direction, segment: &Segment<'_>) {
        const TOO_FAR: i32 = 1 << 20;
        let flags = segment.flags;
        let flag_numbers = u32::from(flags & SYN != 0).saturating_add(u32::from(flags & FIN != 0));
        let data = if flags & RST == 0 { u32::try_from(segment.payload_len).unwrap_or(0) } else { 0 };
        let end = segment.seq.wrapping_add(data).wrapping_add(flag_numbers);
        let restarts = flags & SYN != 0 && matches!(own.state, EndState::SynSent | EndState::SynAckSent);
        if !own.seen || restarts {
            // A direction that is joined in the middle starts at its first segment's number, so that this is no retransmission.
            own.last_seq = if flags & SYN != 0 { end } else { segment.seq };
            if flags & SYN != 0 {
                return;
            }
        }
        #[allow(clippy::cast_possible_wrap)] // a difference of sequence numbers: RFC 9293 section 3.4
        let delta = end.wrapping_sub(own.last_seq) as i32;
        let is_wild = flags & (SYN | RST) != 0 && !(-TOO_FAR..=TOO_FAR).contains(&delta);
        if is_wild || own.state == EndState::Reset {
            return;
        }
        if delta > 0 {
            if delta <= FARTHEST {
                own.last_seq = end;
            }
        } else if segment.payload_len > 0 {
            self.history.note(direction, b'T');
        }
    }

    /// Where the streams begin.
    fn start(&mut self, tcp: &mut Tcp, direction: Direction, segment: &Segment<'_>) {
        let flags = segment.flags;
        let (own, peer) = halves(tcp, direction);
        if flags & SYN != 0 {
            own.start(segment.seq.wrapping_add(1));
            if flags & ACK != 0 {
                peer.start(segment.ack);
            }
            if let (Some(place), Some(mss)) = (self.summary.mss.get_mut(direction.index()), segment.maybe_mss) {
                place.get_or_insert(mss);
            }
        } else if !own.is_started() {
            // Mid-stream: the first packet seen starts the stream; a keep-alive's byte before it is none of it.
            own.start(segment.seq);
        }
        if flags & ACK != 0 && !peer.is_started() && flags & RST == 0 {
            peer.start(segment.ack);
        }
    }

    /// A segment all of whose bytes had come before.
    fn count_retransmission(&mut self, own: &Half, direction: Direction, segment: &Segment<'_>) {
        if segment.payload_len == 0 || segment.flags & RST != 0 || !own.seen {
            return;
        }
        let length = i64::try_from(segment.payload_len).unwrap_or(i64::MAX);
        let end = own.offset_of(data_seq(segment)).saturating_add(length);
        if own.highest > 0
            && end <= i64::try_from(own.highest).unwrap_or(i64::MAX)
            && let Some(count) = self.summary.retransmissions.get_mut(direction.index())
        {
            *count = count.saturating_add(1);
        }
    }

    /// The endpoints' states, as Zeek's `UpdateStateMachine` has them.
    fn handshake(&mut self, tcp: &mut Tcp, direction: Direction, segment: &Segment<'_>, ts_ns: u64) {
        let flags = segment.flags;
        let is_orig = direction == Direction::Orig;
        let (own, peer) = halves(tcp, direction);
        own.seen = true;
        match own.state {
            EndState::Inactive => {
                if flags & SYN != 0 {
                    if !is_orig {
                        if peer.state == EndState::SynSent {
                            peer.become_(EndState::Established);
                        }
                        own.become_(EndState::Established);
                    } else if flags & ACK != 0 {
                        own.become_(EndState::SynAckSent);
                    } else {
                        own.become_(EndState::SynSent);
                    }
                }
                if flags & FIN != 0 {
                    own.become_(EndState::Closed);
                }
                if flags & RST != 0 {
                    own.become_(EndState::Reset);
                }
                // Some answer a SYN with an ACK before they send theirs: nothing is known by that.
                let is_early_ack = !is_orig && segment.payload_len == 0 && peer.state == EndState::SynSent;
                if own.state == EndState::Inactive && !is_early_ack {
                    own.become_(if flags & ACK != 0 && peer.state == EndState::Established {
                        EndState::Established
                    } else {
                        EndState::Partial
                    });
                }
            }
            EndState::SynSent | EndState::SynAckSent => {
                if flags & FIN != 0 {
                    own.become_(EndState::Closed);
                }
                if flags & RST != 0 {
                    own.become_(EndState::Reset);
                }
            }
            EndState::Partial | EndState::Established => {
                let is_late_syn = flags & (SYN | ACK) == SYN && own.state == EndState::Partial;
                if is_late_syn && peer.state == EndState::Inactive {
                    own.become_(EndState::SynSent);
                }
                if flags & (FIN | RST) == FIN {
                    own.become_(EndState::Closed);
                    if peer.state == EndState::Reset && peer.before == EndState::Closed {
                        peer.become_(EndState::Closed);
                    }
                }
                if flags & RST != 0 {
                    own.become_(EndState::Reset);
                }
            }
            EndState::Closed => {
                if flags & RST != 0 && peer.state != EndState::Closed {
                    own.become_(EndState::Reset);
                }
            }
            EndState::Reset => {}
        }
        match (flags & SYN != 0, flags & ACK != 0) {
            (true, false) => tcp.syn_ns = tcp.syn_ns.or(Some(ts_ns)),
            (true, true) => tcp.syn_ack_ns = tcp.syn_ack_ns.or(Some(ts_ns)),
            (false, true) => {
                if let (Some(syn), Some(_)) = (tcp.syn_ns, tcp.syn_ack_ns)
                    && direction == Direction::Orig
                    && self.summary.maybe_handshake_rtt_ns.is_none()
                {
                    self.summary.maybe_handshake_rtt_ns = Some(ts_ns.saturating_sub(syn));
                }
            }
            (false, false) => {}
        }
    }

    fn data(
        &mut self,
        tcp: &mut Tcp,
        direction: Direction,
        segment: &Segment<'_>,
        ts_ns: u64,
        limits: &Limits,
        sink: &mut impl Sink,
    ) {
        let (own, peer) = halves(tcp, direction);
        let offset = own.offset_of(data_seq(segment));
        // A window's worth beyond what is expected is the most that can be meant; further out it is nonsense or an attack.
        if offset > i64::try_from(own.next).unwrap_or(i64::MAX).saturating_add(i64::from(FARTHEST)) {
            return;
        }
        if segment.flags & RST == 0 {
            let end = offset.saturating_add(i64::try_from(segment.payload_len).unwrap_or(i64::MAX));
            if let Ok(end) = u64::try_from(end) {
                own.highest = own.highest.max(end);
                if segment.flags & FIN != 0 && own.maybe_fin.is_none() {
                    own.maybe_fin = Some(end);
                }
            }
        }
        if segment.flags & RST != 0 || own.ended {
            return; // what a reset carries is its reason, not the stream (RFC 9293 section 3.5.3)
        }
        let payload = segment.payload;
        match own.place(offset, payload.len()) {
            Placed::Empty | Placed::Old => {}
            Placed::InOrder { skip } => {
                if own.policy != Policy::First && own.has_hole() {
                    let (decided, differs) = own.decide(offset, payload);
                    self.summary.inconsistencies = self.summary.inconsistencies.saturating_add(u32::from(differs));
                    self.deliver(own, direction, decided.get(skip..).unwrap_or(&[]), ts_ns, sink);
                    self.drain(own, direction, sink);
                } else {
                    self.fill(own, direction, payload.get(skip..).unwrap_or(&[]), ts_ns, sink);
                }
            }
            Placed::Held => {
                if let Ok(at) = u64::try_from(offset) {
                    if let Some(count) = self.summary.out_of_order.get_mut(direction.index()) {
                        *count = count.saturating_add(1);
                    }
                    if own.hold(at, payload, ts_ns) {
                        self.summary.inconsistencies = self.summary.inconsistencies.saturating_add(1);
                    }
                }
            }
        }
        // The snaplen cut this segment: the bytes behind the cut are a hole that nothing will fill, but for what came before.
        let kept = offset.saturating_add(i64::try_from(payload.len()).unwrap_or(i64::MAX));
        let end = offset.saturating_add(i64::try_from(segment.payload_len).unwrap_or(i64::MAX));
        if let (Ok(kept), Ok(end)) = (u64::try_from(kept), u64::try_from(end))
            && own.next >= kept
        {
            while own.next < end {
                let missing = end.saturating_sub(own.next);
                self.gap(own, direction, own.hole().map_or(missing, |hole| hole.min(missing)), ts_ns, sink);
                self.drain(own, direction, sink);
            }
        }
        self.give_up_holes(own, peer.seen, direction, ts_ns, limits, sink);
    }

    /// Take the next bytes of the stream, in order; where some of them are held already, those win.
    fn fill(&mut self, own: &mut Half, direction: Direction, bytes: &[u8], ts_ns: u64, sink: &mut impl Sink) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room =
                own.room().map_or(rest.len(), |room| usize::try_from(room).unwrap_or(usize::MAX).min(rest.len()));
            let (fresh, known) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.deliver(own, direction, fresh, ts_ns, sink);
            rest = known;
            let Some((skip, piece)) = own.take_ready() else { continue };
            let held = piece.bytes.get(skip..).unwrap_or(&[]);
            let common = held.len().min(rest.len());
            if held.get(..common) != rest.get(..common) {
                self.summary.inconsistencies = self.summary.inconsistencies.saturating_add(1);
            }
            rest = rest.get(common..).unwrap_or(&[]);
            self.deliver(own, direction, held, piece.ts_ns, sink);
        }
        self.drain(own, direction, sink);
    }

    /// Give up the hole whose patience is over, and as many as it takes to hold no more than the limit.
    fn give_up_holes(
        &mut self,
        own: &mut Half,
        peer_seen: bool,
        direction: Direction,
        ts_ns: u64,
        limits: &Limits,
        sink: &mut impl Sink,
    ) {
        if own.gives_up(peer_seen, ts_ns, limits) {
            self.give_up_hole(own, direction, ts_ns, sink);
        }
        while own.has_hole() && own.is_over(limits) {
            self.give_up_hole(own, direction, ts_ns, sink);
        }
    }

    /// The acknowledgement speaks of the other direction.
    fn acknowledge(
        &mut self,
        tcp: &mut Tcp,
        direction: Direction,
        segment: &Segment<'_>,
        ts_ns: u64,
        limits: &Limits,
        sink: &mut impl Sink,
    ) {
        if segment.flags & ACK == 0 || segment.flags & RST != 0 {
            return;
        }
        let (own, peer) = halves(tcp, direction);
        if !peer.is_started() {
            return;
        }
        let acked = peer.offset_of(segment.ack);
        if let Ok(acked) = u64::try_from(acked)
            && acked <= peer.next.saturating_add(1 << 30)
        {
            peer.acked = peer.acked.max(acked);
        }
        self.give_up_holes(peer, own.seen, direction.other(), ts_ns, limits, sink);
    }

    fn finish_directions(
        &mut self,
        tcp: &mut Tcp,
        direction: Direction,
        segment: &Segment<'_>,
        ts_ns: u64,
        sink: &mut impl Sink,
    ) {
        if segment.flags & RST != 0 {
            for side in [direction, direction.other()] {
                let (own, _) = halves(tcp, side);
                self.flush(own, side, ts_ns, sink);
            }
            return;
        }
        for side in [Direction::Orig, Direction::Resp] {
            let (own, _) = halves(tcp, side);
            if own.maybe_fin.is_some_and(|fin| own.next >= fin) {
                self.end_direction(own, side, ts_ns, sink);
            }
        }
    }

    fn deliver(&mut self, own: &mut Half, direction: Direction, bytes: &[u8], ts_ns: u64, sink: &mut impl Sink) {
        own.advance(bytes.len() as u64, ts_ns);
        if !self.condemned && !bytes.is_empty() {
            sink.chunk(&self.flow, direction, bytes, ts_ns);
        }
    }

    fn drain(&mut self, own: &mut Half, direction: Direction, sink: &mut impl Sink) {
        while let Some((skip, piece)) = own.take_ready() {
            self.deliver(own, direction, piece.bytes.get(skip..).unwrap_or(&[]), piece.ts_ns, sink);
        }
    }

    fn gap(&mut self, own: &mut Half, direction: Direction, length: u64, ts_ns: u64, sink: &mut impl Sink) {
        own.jump(length, ts_ns);
        self.history.note(direction, b'G');
        self.summary.missed_bytes = self.summary.missed_bytes.saturating_add(length);
        if !self.condemned {
            sink.gap(&self.flow, direction, length, ts_ns);
        }
    }

    fn give_up_hole(&mut self, own: &mut Half, direction: Direction, ts_ns: u64, sink: &mut impl Sink) {
        if let Some(length) = own.hole() {
            self.gap(own, direction, length, ts_ns, sink);
        }
        self.drain(own, direction, sink);
    }

    /// Deliver everything that is held, with the holes as gaps, and end the direction.
    fn flush(&mut self, own: &mut Half, direction: Direction, ts_ns: u64, sink: &mut impl Sink) {
        while own.has_hole() {
            self.give_up_hole(own, direction, ts_ns, sink);
        }
        // Acknowledged, so it was sent, and we never saw it (the FIN's own number is no byte). Of a side that never spoke nothing is
        // told.
        let acked = own.maybe_fin.map_or(own.acked, |fin| own.acked.min(fin));
        let missing = if own.seen { acked.saturating_sub(own.next) } else { 0 };
        if missing > 1 || (missing == 1 && own.maybe_fin.is_some()) {
            self.gap(own, direction, missing, ts_ns, sink);
        }
        self.end_direction(own, direction, ts_ns, sink);
    }

    fn end_direction(&mut self, own: &mut Half, direction: Direction, ts_ns: u64, sink: &mut impl Sink) {
        if own.ended {
            return;
        }
        own.ended = true;
        own.clear();
        if !self.condemned && own.is_started() {
            sink.direction_ended(&self.flow, direction, ts_ns);
        }
    }

    /// Bytes held for reassembly.
    #[must_use]
    pub fn held(&self) -> HeldDelta {
        self.tcp.as_deref().map_or(0, held)
    }

    /// The flow ends: flush both directions and complete the summary. Returns the change of held bytes.
    pub fn close(&mut self, sink: &mut impl Sink) -> HeldDelta {
        let ts_ns = self.summary.last_ts_ns;
        let Some(mut tcp) = self.tcp.take() else {
            self.summary.conn_state = match (self.flow.protocol, self.summary.packets) {
                (17, [0, 0]) => "OTH",
                (17, [_, 0]) => "S0",
                (17, [0, _]) => "SHR",
                (17, _) => "SF",
                _ => "OTH",
            };
            if matches!(self.flow.protocol, 1 | 58) {
                self.summary.history.clear();
            } else {
                self.summary.history = self.history.text();
            }
            return 0;
        };
        let before = held(&tcp);
        for direction in [Direction::Orig, Direction::Resp] {
            let (own, _) = halves(&mut tcp, direction);
            self.flush(own, direction, ts_ns, sink);
            if let Some(bytes) = self.summary.payload_bytes.get_mut(direction.index()) {
                *bytes = own.size();
            }
        }
        let [orig, resp] = &tcp.halves;
        self.summary.history = self.history.text();
        let payload_seen = orig.size() > 0 || resp.size() > 0;
        self.summary.conn_state = tcp::conn_state(orig.state, resp.state, payload_seen, &self.summary.history);
        -before
    }

    /// Whether a SYN means a new flow on the same ports.
    #[must_use]
    pub fn is_reused_by(&self, direction: Direction, segment: &Segment<'_>, ts_ns: u64, limits: &Limits) -> bool {
        if segment.flags & (SYN | ACK | RST | FIN) != SYN {
            return false;
        }
        let Some(tcp) = &self.tcp else { return false };
        let own = half(tcp, direction);
        let [orig, resp] = &tcp.halves;
        if is_over(orig) || is_over(resp) {
            return true; // even with the same number: some try again after a refusal
        }
        if own.is_started() && own.base() == segment.seq.wrapping_add(1) {
            return false; // the same SYN again
        }
        ts_ns.saturating_sub(self.summary.last_ts_ns) > limits.tcp_handshake_ns
            || (own.seen && own.state == EndState::SynSent && !half(tcp, direction.other()).seen)
    }
}

/// Whether `number` is the one remembered at `place`, which it is from now on.
fn note_number(remembered: &mut [u32; 3], place: usize, number: u32) -> bool {
    remembered.get_mut(place).is_some_and(|known| core::mem::replace(known, number) == number)
}

fn held(tcp: &Tcp) -> i64 {
    let [one, other] = &tcp.halves;
    i64::try_from(one.held_bytes().saturating_add(other.held_bytes())).unwrap_or(i64::MAX)
}

fn half(tcp: &Tcp, direction: Direction) -> &Half {
    let [orig, resp] = &tcp.halves;
    match direction {
        Direction::Orig => orig,
        Direction::Resp => resp,
    }
}

fn halves(tcp: &mut Tcp, direction: Direction) -> (&mut Half, &mut Half) {
    let [orig, resp] = &mut tcp.halves;
    match direction {
        Direction::Orig => (orig, resp),
        Direction::Resp => (resp, orig),
    }
}

/// Sequence number of a segment's first payload byte: a SYN occupies a number of its own.
const fn data_seq(segment: &Segment<'_>) -> u32 {
    if segment.flags & SYN == 0 { segment.seq } else { segment.seq.wrapping_add(1) }
}

fn is_over(half: &Half) -> bool {
    matches!(half.state, EndState::Closed | EndState::Reset)
}

fn are_both_over(tcp: &Tcp) -> bool {
    tcp.halves.iter().all(is_over)
}

fn class_of(tcp: &Tcp) -> Class {
    let [orig, resp] = &tcp.halves;
    let is_alone = |one: &Half, other: &Half| is_over(one) && other.state == EndState::Inactive;
    if are_both_over(tcp)
        || orig.state == EndState::Reset
        || resp.state == EndState::Reset
        || is_alone(orig, resp)
        || is_alone(resp, orig)
    {
        Class::TcpClosed
    } else if matches!(orig.state, EndState::SynSent | EndState::SynAckSent) && resp.state == EndState::Inactive {
        Class::TcpAttempt
    } else if !tcp.confirmed {
        Class::TcpHandshake
    } else {
        Class::TcpIdle
    }
}
