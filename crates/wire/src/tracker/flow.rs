//! One flow of the table: its key, its place in the time-out lists, and how packets change it.
use crate::event::{Direction, Endpoint, Flow, FlowSummary, Sink};
use crate::limits::Limits;
use crate::tracker::history::History;
use crate::tracker::measures::Measures;
use crate::tracker::overlap::Policy;
use crate::tracker::tcp::{self, ACK, EndState, FIN, Half, NO_SCALE, Placed, RST, SYN, Segment};

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
    #[inline]
    #[must_use]
    pub fn new(source: Endpoint, destination: Endpoint, protocol: u8) -> Self {
        // As numbers, which is the order of the bytes: a call for sixteen of them is dear.
        let number = |end: Endpoint| (u128::from_be_bytes(end.address.0), end.port);
        if number(source) <= number(destination) {
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
    /// Time from the flow's first packet, a SYN, to the originator's acknowledgement, ns; 0: not known.
    handshake_ns: u64,
    syn_ack_seen: bool,
    began_with_syn: bool,
    /// Something else than a SYN came from the side that did not send the SYN/ACK.
    confirmed: bool,
}

/// A flow.
pub struct Entry {
    /// What sinks see.
    pub flow: Flow,
    /// Time-out class.
    pub class: Class,
    /// When its time began to run, ns: the last packet, but see [`Class::is_frozen`].
    pub idle_since_ns: u64,
    /// Given up by a fault: nothing more is delivered.
    pub condemned: bool,
    /// TCP state.
    pub tcp: Option<Box<Tcp>>,
    /// History letters.
    pub history: History,
    /// Whether all is measured, or only what went wrong: retransmissions, holes, contradictions.
    statistics: bool,
    first_ttl: u8,
    first_flags: u8,
    /// Counts so far.
    pub counts: Counts,
    /// Statistics, from the first packet on that has any.
    measures: Option<Box<[Measures; 2]>>,
}

/// What every flow counts.
#[derive(Default)]
pub struct Counts {
    /// Capture time of the last packet, ns.
    pub last_ts_ns: u64,
    /// Payload bytes by direction, of flows that are no streams.
    pub payload_bytes: [u64; 2],
    /// Packets by direction.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction.
    pub ip_bytes: [u64; 2],
    /// Outer and inner VLAN identifier; [`NO_VLAN`]: none.
    vlan: [u16; 2],
    /// Packets with a wrong checksum.
    pub bad_checksums: u32,
}

/// No VLAN identifier: they have twelve bits.
const NO_VLAN: u16 = u16::MAX;

/// Changes that reassembly made to the table-wide account of held bytes.
pub type HeldDelta = i64;

impl Entry {
    /// The direction of a packet from `source`.
    #[must_use]
    pub fn direction(&self, source: Endpoint) -> Direction {
        if source == self.flow.orig { Direction::Orig } else { Direction::Resp }
    }

    /// A flow of which nothing is counted yet.
    #[must_use]
    pub fn new(flow: Flow, class: Class, vlan: [Option<u16>; 2], policies: [Policy; 2], statistics: bool) -> Self {
        let maybe_tcp = (flow.protocol == 6).then(|| {
            let mut tcp = Box::<Tcp>::default();
            for (half, policy) in tcp.halves.iter_mut().zip(policies) {
                half.policy = policy;
            }
            tcp
        });
        Self {
            flow,
            class,
            idle_since_ns: flow.first_ts_ns,
            condemned: false,
            tcp: maybe_tcp,
            history: History::default(),
            statistics,
            first_ttl: 0,
            first_flags: 0,
            counts: Counts {
                last_ts_ns: flow.first_ts_ns,
                vlan: vlan.map(|tag| tag.unwrap_or(NO_VLAN)),
                ..Counts::default()
            },
            measures: None,
        }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.flow.orig, self.flow.resp, self.flow.protocol)
    }

    /// Whether that is its key.
    #[must_use]
    pub fn has_key(&self, key: &Key) -> bool {
        let (orig, resp) = (self.flow.orig, self.flow.resp);
        self.flow.protocol == key.protocol
            && ((orig == key.low && resp == key.high) || (orig == key.high && resp == key.low))
    }

    /// What is measured of a direction; from now on, if it was not yet.
    fn measures(&mut self, direction: Direction) -> &mut Measures {
        if self.measures.is_none() {
            let mut measures = Box::<[Measures; 2]>::default();
            let [orig, resp] = &mut *measures;
            if self.statistics {
                self.seed(orig, resp);
            }
            self.measures = Some(measures);
        }
        let [orig, resp] = &mut **self.measures.get_or_insert_default();
        match direction {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }

    /// Measure the flow's first packet, which is the only one so far.
    fn seed(&self, orig: &mut Measures, resp: &mut Measures) {
        let [orig_packets, resp_packets] = self.counts.packets;
        let [orig_bytes, resp_bytes] = self.counts.ip_bytes;
        for (measures, packets, bytes) in [(orig, orig_packets, orig_bytes), (resp, resp_packets, resp_bytes)] {
            if packets > 0 {
                measures.packet(usize::try_from(bytes).unwrap_or(usize::MAX), self.first_ttl, self.flow.first_ts_ns);
                measures.flags |= self.first_flags;
            }
        }
    }

    /// Count a packet.
    pub fn count(&mut self, direction: Direction, ip_len: usize, ttl: u8, ts_ns: u64) {
        if self.counts.packets == [0, 0] {
            self.first_ttl = ttl;
        } else if self.statistics {
            self.measures(direction).packet(ip_len, ttl, ts_ns);
        }
        if let Some(packets) = self.counts.packets.get_mut(direction.index()) {
            *packets = packets.saturating_add(1);
        }
        if let Some(bytes) = self.counts.ip_bytes.get_mut(direction.index()) {
            *bytes = bytes.saturating_add(ip_len as u64);
        }
        // As Zeek has it: what comes after both sides have closed does not make the flow longer.
        if !self.tcp.as_deref().is_some_and(are_both_over) {
            self.counts.last_ts_ns = self.counts.last_ts_ns.max(ts_ns);
        }
    }

    /// Count a payload that is no stream's.
    pub fn note_payload(&mut self, direction: Direction, wire_len: usize) {
        if let Some(bytes) = self.counts.payload_bytes.get_mut(direction.index()) {
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
        self.measure(&tcp, direction, segment, ts_ns);
        self.note_sequence(halves(&mut tcp, direction).0, direction, segment);
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
                let is_same = own.is_started() && own.base() == segment.seq.wrapping_add(1);
                self.history.note_numbered(direction, letter, is_same);
            }
            FIN => {
                let number = segment.seq.wrapping_add(u32::try_from(length).unwrap_or(0));
                self.history.note_numbered(direction, b'F', note_number(&mut own.last_flagged, 0, number));
            }
            RST => {
                let is_same = note_number(&mut own.last_flagged, 1, segment.seq);
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
            if own.mss == 0 {
                own.mss = segment.mss;
                own.window_scale = segment.window_scale;
            }
        } else if !own.is_started() {
            // Mid-stream: the first packet seen starts the stream; a keep-alive's byte before it is none of it.
            own.start(segment.seq);
        }
        if flags & ACK != 0 && !peer.is_started() && flags & RST == 0 {
            peer.start(segment.ack);
        }
    }

    /// Round trips, windows, what came again: before the segment changes the streams.
    fn measure(&mut self, tcp: &Tcp, direction: Direction, segment: &Segment<'_>, ts_ns: u64) {
        if !self.statistics {
            let half = half(tcp, direction);
            if segment.payload_len > 0 && segment.flags & RST == 0 && is_again(half, segment) {
                self.measures(direction).sent_again(segment.payload_len);
            }
            return;
        }
        if self.measures.is_none() {
            self.first_flags = segment.flags;
            if segment.payload_len == 0 {
                return; // a bare first packet, of which floods are made, has nothing to measure
            }
        }
        let (own, peer) = (half(tcp, direction), half(tcp, direction.other()));
        let flags = segment.flags;
        let can_scale = own.window_scale != NO_SCALE && peer.window_scale != NO_SCALE;
        let shift = if can_scale { u32::from(own.window_scale) } else { 0 };
        let end = end_of(own, segment);
        let is_again = is_again(own, segment);
        let acked = own.acked;
        let measures = self.measures(direction);
        measures.flags |= flags;
        if flags & RST == 0 {
            if flags & SYN == 0 {
                measures.window_max = measures.window_max.max(u32::from(segment.window).wrapping_shl(shift));
                measures.zero_windows = measures.zero_windows.saturating_add(u32::from(segment.window == 0));
            }
            if segment.payload_len > 0 {
                if is_again {
                    measures.sent_again(segment.payload_len);
                } else if let Ok(end) = u64::try_from(end) {
                    measures.sent(end, acked, ts_ns);
                }
            } else if flags & (SYN | FIN | ACK) == ACK {
                measures.bare_ack(segment.ack, segment.window);
            }
            if flags & ACK != 0
                && peer.is_started()
                && let Ok(acked) = u64::try_from(peer.offset_of(segment.ack))
            {
                self.measures(direction.other()).acknowledged(acked, ts_ns);
            }
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
            (true, false) => tcp.began_with_syn |= is_orig && ts_ns == self.flow.first_ts_ns,
            (true, true) => tcp.syn_ack_seen = true,
            (false, true) if is_orig && tcp.began_with_syn && tcp.syn_ack_seen && tcp.handshake_ns == 0 => {
                tcp.handshake_ns = ts_ns.saturating_sub(self.flow.first_ts_ns);
            }
            (false, _) => {}
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
                if segment.flags & FIN != 0 {
                    own.set_fin(end);
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
                    self.measures(direction).note_inconsistency(differs);
                    self.deliver(own, direction, decided.get(skip..).unwrap_or(&[]), ts_ns, sink);
                    self.drain(own, direction, sink);
                } else {
                    self.fill(own, direction, payload.get(skip..).unwrap_or(&[]), ts_ns, sink);
                }
            }
            Placed::Held => {
                if let Ok(at) = u64::try_from(offset) {
                    let measures = self.measures(direction);
                    measures.out_of_order = measures.out_of_order.saturating_add(1);
                    if own.hold(at, payload, ts_ns) {
                        self.measures(direction).note_inconsistency(true);
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
                self.measures(direction).note_inconsistency(true);
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
            if own.maybe_fin().is_some_and(|fin| own.next >= fin) {
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
        own.advance(length, ts_ns);
        self.history.note(direction, b'G');
        let measures = self.measures(direction);
        measures.missed_bytes = measures.missed_bytes.saturating_add(length);
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
        let acked = own.maybe_fin().map_or(own.acked, |fin| own.acked.min(fin));
        let missing = if own.seen { acked.saturating_sub(own.next) } else { 0 };
        if missing > 1 || (missing == 1 && own.maybe_fin().is_some()) {
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

    /// The flow ends: flush both directions. Returns all that is known of it and the change of held bytes.
    pub fn close(&mut self, sink: &mut impl Sink) -> (FlowSummary, HeldDelta) {
        let ts_ns = self.counts.last_ts_ns;
        let mut summary = FlowSummary {
            last_ts_ns: ts_ns,
            payload_bytes: self.counts.payload_bytes,
            packets: self.counts.packets,
            ip_bytes: self.counts.ip_bytes,
            vlan: self.counts.vlan.map(|tag| Some(tag).filter(|tag| *tag != NO_VLAN)),
            bad_checksums: self.counts.bad_checksums,
            ..FlowSummary::default()
        };
        let mut delta = 0;
        if let Some(mut tcp) = self.tcp.take() {
            delta = -held(&tcp);
            for direction in [Direction::Orig, Direction::Resp] {
                self.flush(halves(&mut tcp, direction).0, direction, ts_ns, sink);
            }
            let [orig, resp] = &tcp.halves;
            summary.payload_bytes = [orig.size(), resp.size()];
            summary.history = self.history.text();
            let payload_seen = orig.size() > 0 || resp.size() > 0;
            summary.conn_state = tcp::conn_state(orig.state, resp.state, payload_seen, &summary.history);
            summary.maybe_handshake_rtt_ns = Some(tcp.handshake_ns).filter(|rtt| *rtt > 0);
            summary.mss = [orig, resp].map(|half| Some(half.mss).filter(|mss| *mss > 0));
            summary.window_scale = [orig, resp].map(|half| Some(half.window_scale).filter(|scale| *scale != NO_SCALE));
        } else {
            summary.conn_state = match (self.flow.protocol, self.counts.packets) {
                (17, [0, 0]) => "OTH",
                (17, [_, 0]) => "S0",
                (17, [0, _]) => "SHR",
                (17, _) => "SF",
                _ => "OTH",
            };
            if !matches!(self.flow.protocol, 1 | 58) {
                summary.history = self.history.text();
            }
        }
        // A flow of one packet has no box of its own: its only packet is what is known.
        if self.measures.is_none() && self.statistics {
            let [orig, resp] = &mut summary.measures;
            self.seed(orig, resp);
        }
        summary.has_statistics = self.statistics;
        if let Some(measures) = self.measures.take() {
            summary.measures = *measures;
            let [orig, resp] = &summary.measures;
            summary.inconsistencies = orig.inconsistencies.saturating_add(resp.inconsistencies);
            summary.missed_bytes = orig.missed_bytes.saturating_add(resp.missed_bytes);
        }
        (summary, delta)
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
        ts_ns.saturating_sub(self.counts.last_ts_ns) > limits.tcp_handshake_ns
            || (own.seen && own.state == EndState::SynSent && !half(tcp, direction.other()).seen)
    }
}

/// Offset behind a segment's payload.
fn end_of(own: &Half, segment: &Segment<'_>) -> i64 {
    own.offset_of(data_seq(segment)).saturating_add(i64::try_from(segment.payload_len).unwrap_or(i64::MAX))
}

/// Whether all of a segment's payload had come before, or before what came.
fn is_again(own: &Half, segment: &Segment<'_>) -> bool {
    own.seen && end_of(own, segment) <= i64::try_from(own.last()).unwrap_or(i64::MAX)
}

/// Whether `number` is the one remembered at `place`, which it is from now on.
fn note_number(remembered: &mut [u32; 2], place: usize, number: u32) -> bool {
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
