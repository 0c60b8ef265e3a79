//! Traffic that wants all memory: what is held stays below the limits, what pays is said, and everything is counted.
use crate::make::{
    A, ACK, B, ETHERNET, Event, FIN, RAW, RST, SECOND, SYN, Talk, Tape, Tcp, ethernet, ipv4, ipv4_fragment, packet,
    tcp, udp4,
};
use bunker_wire::event::Direction::{Orig, Resp};
use bunker_wire::event::{Direction, Flow, FlowSummary, Outcome, Sink};
use bunker_wire::limits::{Limits, PLACE_BYTES};
use bunker_wire::tracker::flow::{Entry, Tcp as TcpState};
use bunker_wire::tracker::{Checksums, Tracker};

/// Counts, and keeps nothing.
#[derive(Default)]
struct Count {
    opened: u64,
    closed: u64,
    bytes: u64,
}

impl Sink for Count {
    fn flow_opened(&mut self, _: &Flow) {
        self.opened += 1;
    }
    fn roles_flipped(&mut self, _: &Flow) {}
    fn chunk(&mut self, _: &Flow, _: Direction, payload: &[u8], _: u64) {
        self.bytes += payload.len() as u64;
    }
    fn gap(&mut self, _: &Flow, _: Direction, _: u64, _: u64) {}
    fn direction_ended(&mut self, _: &Flow, _: Direction, _: u64) {}
    fn datagram(&mut self, _: &Flow, _: Direction, _: &[u8], _: usize, _: u64) {}
    fn flow_closed(&mut self, _: &Flow, _: &FlowSummary, _: Outcome) {
        self.closed += 1;
    }
}

struct Flood {
    tracker: Tracker,
    sink: Count,
    now_ns: u64,
}

impl Flood {
    fn new(limits: Limits, seed: [u8; 16]) -> Self {
        Self { tracker: Tracker::new(limits, 0, seed, Checksums::Ignore), sink: Count::default(), now_ns: SECOND }
    }

    fn segment(&mut self, from: u32, back: bool, seq: u32, flags: u8, payload: &[u8]) {
        let host = [10, (from >> 16) as u8, (from >> 8) as u8, from as u8];
        let (source, destination, ports) = if back { (B, host, (80, 4_000)) } else { (host, B, (4_000, 80)) };
        let head = Tcp { ports, seq, ack: 1, flags, window: 1_000, payload };
        let bytes = ipv4(source, destination, 6, &tcp(&source, &destination, head));
        self.raw(&bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.now_ns += 1_000;
        self.tracker.feed(&packet(bytes, RAW, self.now_ns), &mut self.sink);
    }

    /// All ended, all counted.
    fn settle(mut self) -> bunker_wire::tracker::Counters {
        self.tracker.finish(&mut self.sink);
        let counters = self.tracker.counters();
        assert_eq!(counters.by_fate(), counters.received);
        assert_eq!((self.sink.opened, self.sink.closed), (counters.flows_opened, counters.flows_opened));
        assert_eq!((self.tracker.flows(), self.tracker.held_bytes()), (0, 0));
        counters
    }
}

#[test]
fn syn_flood_stays_in_the_table_and_spares_those_who_talk() {
    let mut flood = Flood::new(Limits { flows: 1_000, ..Limits::default() }, [1; 16]);
    for host in 0..100 {
        flood.segment(host, false, 99, SYN, b"");
        flood.segment(host, true, 499, SYN | ACK, b"");
        flood.segment(host, false, 100, ACK, b"hello");
    }
    for host in 1_000..6_000 {
        flood.segment(host, false, 99, SYN, b"");
        assert!(flood.tracker.flows() <= 1_000);
    }
    let told = flood.sink.bytes;
    for host in 0..100 {
        flood.segment(host, false, 105, ACK, b" again");
    }
    assert_eq!(flood.sink.bytes - told, 600, "those who talked were not given up for those who did not");
    let counters = flood.settle();
    assert_eq!((counters.flows_opened, counters.flows_evicted), (5_100, 5_100 - 1_000));
}

#[test]
fn half_open_flows_go_before_those_that_are_established_and_after_bare_syns() {
    let mut flood = Flood::new(Limits { flows: 4, ..Limits::default() }, [1; 16]);
    flood.segment(1, false, 99, SYN, b""); // half open: answered, never confirmed
    flood.segment(1, true, 499, SYN | ACK, b"");
    flood.segment(2, false, 99, SYN, b""); // established
    flood.segment(2, true, 499, SYN | ACK, b"");
    flood.segment(2, false, 100, ACK, b"");
    flood.segment(3, false, 99, SYN, b"");
    flood.segment(4, false, 99, SYN, b"");
    for host in 5..7 {
        flood.segment(host, false, 99, SYN, b"");
        flood.segment(host, true, 499, SYN | ACK, b"");
        flood.segment(host, false, 100, ACK, b"");
    }
    assert_eq!(flood.tracker.counters().flows_evicted, 2, "the bare SYNs");
    flood.segment(7, false, 99, SYN, b"");
    let told = flood.sink.bytes;
    flood.segment(2, false, 100, ACK, b"alive");
    assert_eq!((flood.sink.bytes - told, flood.tracker.flows()), (5, 4));
    flood.segment(1, false, 100, ACK, b"");
    assert_eq!(flood.tracker.counters().flows_opened, 8, "the half open one was given up, so this is another");
}

#[test]
fn seeds_decide_where_flows_lie_and_no_seed_loses_any() {
    for seed in [[0; 16], [255; 16], [7; 16]] {
        let mut flood = Flood::new(Limits::default(), seed);
        for host in 0..5_000_u32 {
            flood.raw(&ipv4([10, 0, (host >> 8) as u8, host as u8], B, 17, &crate::make::udp(&A, &B, (1, 2), b"x")));
        }
        assert_eq!(flood.tracker.flows(), 5_000);
        flood.settle();
    }
}

#[test]
fn keys_that_differ_in_one_bit_spread_over_the_hash() {
    // A hash that an outsider could aim at would put these regular keys into few values.
    use bunker_wire::event::{Address, Endpoint};
    use bunker_wire::flowhash::Seed;
    use bunker_wire::tracker::flow::Key;
    use bunker_wire::tracker::table::Table;
    for seed in [[0; 16], [1; 16], [0xAA; 16]] {
        let table = Table::new(Seed::new(seed));
        let end = |host: u32, port: u16| Endpoint {
            address: Address::v4([10, (host >> 16) as u8, (host >> 8) as u8, host as u8]),
            port,
        };
        let mut hashes = std::collections::HashSet::new();
        let mut low_bits = vec![0_u32; 1 << 8];
        for host in 0..256_u32 {
            for port in 0..256_u16 {
                let hash = table.hash(&Key::new(end(host, port), end(0xFFFF, 80), 6));
                hashes.insert(hash);
                low_bits[(hash & 0xFF) as usize] += 1;
            }
        }
        assert!(hashes.len() > 65_500, "{} of 65,536", hashes.len());
        assert!(low_bits.iter().all(|count| (128..=384).contains(count)), "uneven");
    }
}

#[test]
fn tiny_segments_out_of_order_in_many_flows_stay_below_the_common_limit() {
    let limits = Limits { reassembly_bytes: 1 << 19, ..Limits::default() };
    let mut flood = Flood::new(limits, [1; 16]);
    for round in 0..60_u32 {
        for host in 0..300 {
            flood.segment(host, false, 102 + round * 2, ACK, b"x");
            // One segment above the limit, until the flow that sent it has paid.
            assert!(flood.tracker.held_bytes() <= limits.reassembly_bytes);
        }
    }
    let counters = flood.settle();
    assert!(counters.flows_evicted > 0);
}

#[test]
fn tiny_segments_in_order_are_not_held_at_all() {
    let mut flood = Flood::new(Limits::default(), [1; 16]);
    flood.segment(1, false, 99, SYN, b"");
    for number in 0..10_000 {
        flood.segment(1, false, 100 + number, ACK, b"x");
    }
    assert_eq!((flood.tracker.held_bytes(), flood.sink.bytes), (0, 10_000));
}

#[test]
fn fragment_storm_stays_below_its_limit_and_the_oldest_pay() {
    let limits = Limits { fragment_bytes: 100_000, ..Limits::default() };
    let mut flood = Flood::new(limits, [1; 16]);
    for number in 0..10_000_u32 {
        flood.raw(&ipv4_fragment(A, B, 17, &[0; 64], number as u16, 8 * (number % 100) as u16, true));
        assert!(flood.tracker.held_bytes() <= limits.fragment_bytes);
    }
    // The newest datagram is still there: its rest completes it.
    flood.raw(&ipv4_fragment(A, B, 17, &crate::make::udp(&A, &B, (1, 2), &[1; 56]), 60_000, 0, true));
    flood.raw(&ipv4_fragment(A, B, 17, &[2; 8], 60_000, 64, false));
    assert_eq!(flood.tracker.counters().udp, 1);
    assert!(flood.tracker.fragment_counters().dropped > 9_000);
    flood.tracker.expire(flood.now_ns + limits.fragment_ns + 1, &mut flood.sink);
    flood.settle();
}

#[test]
fn resets_with_ever_new_numbers_make_no_endless_history() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    for number in 0..1_000 {
        talk.orig(1_000 + number, 5_000, RST, b"");
    }
    talk.finish();
    assert_eq!(talk.tape.summaries[0].1.history.len(), 128);
}

#[test]
fn syn_that_is_sent_again_and_again_keeps_no_flow_alive() {
    let limits = Limits::default();
    let mut talk = Talk::new(limits);
    talk.orig(999, 0, SYN, b"");
    let begin = talk.now_ns;
    for step in 1..5 {
        talk.now_ns = begin + step * SECOND;
        talk.orig(999, 0, SYN, b"");
    }
    talk.now_ns = begin + limits.tcp_attempt_ns;
    talk.orig(999, 0, SYN, b"");
    assert_eq!(talk.tape.flows.len(), 2);
    assert_eq!(talk.tape.summaries[0].2, Outcome::TimedOut);
}

#[test]
fn what_straggles_in_after_the_end_keeps_no_flow_alive_and_makes_it_no_longer() {
    let limits = Limits::default();
    let mut talk = Talk::new(limits);
    talk.handshake(1_000, 5_000);
    talk.orig(1_000, 5_000, FIN | ACK, b"");
    talk.resp(5_000, 1_001, FIN | ACK, b"");
    let closed = talk.now_ns;
    for step in 1..5 {
        talk.now_ns = closed + step * SECOND;
        talk.orig(1_000, 5_001, FIN | ACK, b"");
    }
    talk.now_ns = closed + limits.tcp_close_ns;
    talk.orig(1_000, 5_001, FIN | ACK, b"");
    assert_eq!(talk.tape.flows.len(), 2);
    assert_eq!(talk.tape.summaries[0].1.last_ts_ns, closed);
}

#[test]
fn records_of_a_flow_stay_small() {
    // The index adds 9 bytes a place, of which at least 7 in 16 are taken; the allocator 16 a box.
    let (entry, tcp) = (size_of::<Option<Entry>>(), size_of::<TcpState>());
    assert!(entry + tcp + 16 + 20 <= 400, "{entry} + {tcp}");
    assert!(PLACE_BYTES >= 48, "a place in the tree of what is held");
}

#[test]
fn tunnel_without_ports_is_a_flow_that_counts_and_tells_nothing_twice() {
    let inner = udp4((1_000, 2_000), b"inner");
    let mut gre = vec![0, 0, 0x08, 0];
    gre.extend_from_slice(&inner);
    let mut tape = Tape::default();
    let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], Checksums::Verify);
    let frame = ethernet(0x0800, &ipv4([203, 0, 113, 1], [203, 0, 113, 2], 47, &gre));
    tracker.feed(&packet(&frame, ETHERNET, SECOND), &mut tape);
    tracker.finish(&mut tape);
    let [outer, within] = tape.flows.as_slice() else { panic!("{} flows", tape.flows.len()) };
    assert_eq!((outer.protocol, within.protocol, within.maybe_outer), (47, 17, Some(outer.uid)));
    assert_eq!(tape.datagrams(), [b"inner"]);
    assert_eq!(tape.events.iter().filter(|(_, event)| matches!(event, Event::Datagram(..))).count(), 1);
    let (_, summary, _) = tape.summaries.iter().find(|(flow, ..)| flow.protocol == 47).unwrap();
    assert_eq!((summary.packets, summary.payload_bytes), ([1, 0], [gre.len() as u64, 0]));
}

#[test]
fn protocols_with_ports_where_tcp_has_them_have_them_in_their_flows() {
    for (protocol, ports) in [(132, (7, 9)), (33, (7, 9)), (136, (7, 9)), (89, (0, 0))] {
        let mut talk = Talk::new(Limits::default());
        talk.raw(&ipv4(A, B, protocol, &[0, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 0]));
        talk.raw(&ipv4(B, A, protocol, &[0, 9, 0, 7, 1, 2, 3, 4, 0, 0, 0, 0]));
        let [flow] = talk.tape.flows.as_slice() else { panic!("{} flows", talk.tape.flows.len()) };
        assert_eq!((flow.orig.port, flow.resp.port), ports, "{protocol}");
    }
}

#[test]
fn measures_are_those_of_the_packets() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    talk.orig(1_000, 5_000, ACK, &[1; 100]);
    talk.now_ns += 9_000_000;
    talk.resp(5_000, 1_100, ACK, b""); // 10 ms later
    talk.orig(1_100, 5_000, ACK, &[2; 50]);
    talk.orig(1_100, 5_000, ACK, &[2; 50]); // again: no round trip from this
    talk.now_ns += 500_000_000;
    talk.resp(5_000, 1_150, ACK, b"");
    talk.resp(5_000, 1_150, ACK, b"");
    talk.orig(1_150, 5_000, ACK, &[3; 10]);
    talk.now_ns += 19_000_000;
    talk.window = 0;
    talk.resp(5_000, 1_160, ACK, b"");
    talk.finish();
    let [orig, resp] = &talk.tape.summaries[0].1.measures;
    assert_eq!((orig.rtt_samples, orig.rtt()), (2, Some([10_000_000, 15_000_000, 20_000_000])));
    assert_eq!((orig.retransmissions, orig.retransmitted_bytes, orig.in_flight_max), (1, 50, 100));
    assert_eq!((resp.duplicate_acks, resp.zero_windows, resp.window_max, resp.rtt()), (1, 1, 1_000, None));
    assert_eq!((orig.flags, resp.flags), (SYN | ACK, SYN | ACK));
    assert_eq!((orig.ttl_min, orig.ttl_max), (64, 64));
    let lengths = orig.lengths(6 * 40 + 100 + 50 + 50 + 10).unwrap();
    assert_eq!((lengths.min, lengths.mean, lengths.max, lengths.deviation), (40, 75, 140, 36));
    let gaps = resp.gaps().unwrap();
    assert_eq!((gaps.min, gaps.max), (1_000_000, 503_000_000));
}

#[test]
fn without_statistics_what_went_wrong_is_counted_all_the_same() {
    let mut talk = Talk::new(Limits::default());
    talk.tracker = Tracker::new(Limits::default(), 0, [9; 16], Checksums::Verify);
    talk.handshake(1_000, 5_000);
    talk.orig(1_000, 5_000, ACK, b"once");
    talk.orig(1_000, 5_000, ACK, b"once");
    talk.orig(1_010, 5_000, ACK, b"beyond");
    talk.finish();
    let summary = &talk.tape.summaries[0].1;
    let [orig, resp] = &summary.measures;
    assert!(!summary.has_statistics);
    assert_eq!((orig.retransmissions, orig.out_of_order, summary.missed_bytes), (1, 1, 6));
    assert_eq!((orig.is_empty(), orig.rtt_samples, resp.flags), (true, 0, 0));
}

#[test]
fn flow_of_one_packet_is_measured_too() {
    let mut talk = Talk::new(Limits::default());
    talk.orig(999, 0, SYN, b"");
    talk.finish();
    let [orig, resp] = &talk.tape.summaries[0].1.measures;
    assert_eq!((orig.flags, orig.ttl_min, orig.lengths(40).unwrap().max, orig.gaps()), (SYN, 64, 40, None));
    assert!(resp.is_empty());
}

#[test]
fn simultaneous_open_is_one_flow_with_both_streams() {
    let mut talk = Talk::new(Limits::default());
    talk.orig(999, 0, SYN, b"");
    talk.resp(4_999, 0, SYN, b"");
    talk.orig(999, 5_000, SYN | ACK, b"");
    talk.resp(4_999, 1_000, SYN | ACK, b"");
    talk.orig(1_000, 5_000, ACK, b"from one");
    talk.resp(5_000, 1_008, ACK, b"from the other");
    talk.finish();
    assert_eq!(talk.tape.flows.len(), 1);
    assert_eq!((talk.tape.stream(Orig).len(), talk.tape.stream(Resp).len()), (8, 14));
    assert_eq!(talk.tape.summaries[0].1.conn_state, "S1");
}

#[test]
fn urgent_data_is_part_of_the_stream() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    let mut bytes = talk.segment(Orig, 1_000, 5_000, ACK | 0x20, b"ab!cd");
    bytes[20 + 19] = 3; // urgent pointer: behind the '!'
    let value = u16::from_be_bytes([bytes[20 + 16], bytes[20 + 17]]) - 3; // what it adds to the sum
    bytes[20 + 16..20 + 18].copy_from_slice(&value.to_be_bytes());
    talk.raw(&bytes);
    talk.finish();
    let told: Vec<u8> = talk.tape.stream(Orig).into_iter().flatten().collect();
    assert_eq!(told, b"ab!cd");
}

#[test]
fn half_closed_flow_goes_on_in_the_other_direction() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    talk.orig(1_000, 5_000, FIN | ACK, b"request");
    talk.now_ns += 100 * SECOND;
    talk.resp(5_000, 1_008, ACK, b"a long ");
    talk.resp(5_007, 1_008, FIN | ACK, b"answer");
    let (state, history) = talk.verdict();
    assert_eq!((state.as_str(), history.as_str()), ("SF", "ShAFdf"));
    assert_eq!(talk.tape.stream(Resp).len(), 13);
}

#[test]
fn whole_segments_of_offloading_longer_than_any_packet_are_one_chunk() {
    // Receive offloading hands on up to 64 KiB, with a checksum that is not there and a length in IPv6's case of zero.
    let payload = vec![7; 60_000];
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    let bytes = talk.segment(Orig, 1_000, 5_000, ACK, &payload);
    talk.raw(&bytes);
    talk.orig(61_000, 5_000, ACK, b"next");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig).len(), 60_004);
}
