//! TCP streams against a naive reassembler: an array of bytes, the first that came wins.
use crate::make::{ACK, Event, FIN, RST, SECOND, SYN, Talk};
use bunker_wire::event::Direction::{self, Orig, Resp};
use bunker_wire::limits::Limits;
use proptest::prelude::*;

/// Limits under which no hole is ever given up before the flow ends.
fn patient() -> Limits {
    Limits { hole_packets: u32::MAX, hole_ns: u64::MAX, out_of_order_bytes: u32::MAX, ..Limits::default() }
}

/// The bytes of a stream: each place has its own.
fn truth(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(|at| (at.wrapping_mul(167) >> 3) as u8 ^ at as u8).collect()
}

#[derive(Clone, Debug)]
struct Piece {
    direction: Direction,
    offset: usize,
    length: usize,
    /// 0 says the truth; anything else is another text for the same place.
    lie: u8,
}

fn piece(lies: bool) -> impl Strategy<Value = Piece> {
    (any::<bool>(), 0_usize..300, 0_usize..60, if lies { 0_u8..3 } else { 0_u8..1 }).prop_map(
        |(orig, offset, length, lie)| Piece { direction: if orig { Orig } else { Resp }, offset, length, lie },
    )
}

#[derive(Default)]
struct Naive {
    known: Vec<Option<u8>>,
}

impl Naive {
    fn take(&mut self, offset: usize, bytes: &[u8]) {
        if !bytes.is_empty() && self.known.len() < offset + bytes.len() {
            self.known.resize(offset + bytes.len(), None);
        }
        for (place, byte) in self.known.iter_mut().skip(offset).zip(bytes) {
            place.get_or_insert(*byte);
        }
    }

    /// What can be told already: all before the first hole.
    fn prefix(&self) -> Vec<Option<u8>> {
        self.known.iter().copied().take_while(Option::is_some).collect()
    }
}

fn side(direction: Direction, bases: [u32; 2]) -> u32 {
    bases[direction.index()]
}

proptest! {
    #![proptest_config(crate::make::cases(400))]

    /// Whatever the order, the overlaps, the contradictions and the place of the wrap.
    #[test]
    fn any_order_and_overlap_gives_what_the_naive_reassembler_has(
        pieces in prop::collection::vec(piece(true), 0..40),
        orig in prop_oneof![any::<u32>(), (u32::MAX - 300)..=u32::MAX],
        resp in prop_oneof![any::<u32>(), (u32::MAX - 300)..=u32::MAX],
    ) {
        let mut talk = Talk::new(patient());
        talk.handshake(orig, resp);
        let mut naive = [Naive::default(), Naive::default()];
        let mut ends = [0_u64; 2];
        for piece in &pieces {
            let mut bytes = truth(piece.offset, piece.length);
            bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(piece.lie));
            let seq = side(piece.direction, [orig, resp]).wrapping_add(piece.offset as u32);
            match piece.direction {
                Orig => talk.orig(seq, resp, ACK, &bytes),
                Resp => talk.resp(seq, orig, ACK, &bytes),
            }
            naive[piece.direction.index()].take(piece.offset, &bytes);
            let end = &mut ends[piece.direction.index()];
            *end = (*end).max((piece.offset + piece.length) as u64);
            prop_assert_eq!(talk.tape.stream(piece.direction), naive[piece.direction.index()].prefix());
        }
        talk.finish();
        for direction in [Orig, Resp] {
            prop_assert_eq!(&talk.tape.stream(direction), &naive[direction.index()].known);
        }
        let summary = &talk.tape.summaries[0].1;
        let missed: usize = naive.iter().flat_map(|one| &one.known).filter(|byte| byte.is_none()).count();
        prop_assert_eq!(summary.missed_bytes, missed as u64);
        prop_assert_eq!(summary.payload_bytes, ends, "by sequence numbers, as Zeek's");
        if pieces.iter().all(|piece| piece.lie == 0) {
            prop_assert_eq!(summary.inconsistencies, 0);
        }
    }

    /// With holes given up early, held bytes bounded and packets cut by the snaplen: what is told is true, in order and told once.
    #[test]
    fn holes_that_are_given_up_never_make_a_false_byte(
        pieces in prop::collection::vec((piece(false), 0_usize..70), 0..60),
        hole_packets in 1_u32..6,
        out_of_order_bytes in 1_u32..2_000,
        orig in any::<u32>(),
    ) {
        let mut talk = Talk::new(Limits { hole_packets, out_of_order_bytes, ..Limits::default() });
        let resp = 7_000;
        talk.handshake(orig, resp);
        let mut ends = [0_usize; 2];
        for (piece, cut) in &pieces {
            let bytes = truth(piece.offset, piece.length);
            let seq = side(piece.direction, [orig, resp]).wrapping_add(piece.offset as u32);
            let acks = [resp.wrapping_add(ends[1] as u32), orig.wrapping_add(ends[0] as u32)];
            let packet = talk.segment(piece.direction, seq, acks[piece.direction.index()], ACK, &bytes);
            let kept = packet.len() - (*cut).min(piece.length);
            talk.raw_of(&packet[..kept], packet.len() as u32);
            ends[piece.direction.index()] = ends[piece.direction.index()].max(piece.offset + piece.length);
            let most = 2 * u64::from(out_of_order_bytes);
            prop_assert!(talk.tracker.held_bytes() <= most, "{} bytes held", talk.tracker.held_bytes());
        }
        talk.finish();
        for direction in [Orig, Resp] {
            let told = talk.tape.stream(direction);
            let end = ends[direction.index()];
            prop_assert!(told.len() <= end);
            let expected = truth(0, told.len());
            for (at, byte) in told.iter().enumerate() {
                prop_assert!(byte.is_none() || *byte == Some(expected[at]), "a false byte at {}", at);
            }
        }
    }
}

/// Data in an established flow whose streams begin at 1,000 and 5,000.
fn established(limits: Limits) -> Talk {
    let mut talk = Talk::new(limits);
    talk.handshake(1_000, 5_000);
    talk
}

fn some(bytes: &[u8]) -> Vec<Option<u8>> {
    bytes.iter().copied().map(Some).collect()
}

#[test]
fn bytes_that_came_first_win_when_the_hole_before_them_is_filled() {
    let mut talk = established(patient());
    talk.orig(1_004, 5_000, ACK, b"EFGH");
    talk.orig(1_000, 5_000, ACK, b"abcdefghij");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"abcdEFGHij"));
    assert_eq!(talk.tape.summaries[0].1.inconsistencies, 1);
}

#[test]
fn held_bytes_keep_the_time_of_the_packet_that_brought_them() {
    let mut talk = established(patient());
    talk.orig(1_003, 5_000, ACK, b"def");
    let held_ns = talk.now_ns;
    talk.now_ns += 400_000_000;
    talk.orig(1_000, 5_000, ACK, b"abc");
    let filled_ns = talk.now_ns;
    let chunks: Vec<_> = talk.tape.plain().into_iter().filter(|event| matches!(event, Event::Chunk(..))).collect();
    assert_eq!(chunks, [Event::Chunk(Orig, b"abc".to_vec(), filled_ns), Event::Chunk(Orig, b"def".to_vec(), held_ns)]);
}

#[test]
fn hole_is_given_up_after_its_packets_and_not_one_sooner() {
    let limits = Limits { hole_packets: 10, hole_ns: u64::MAX, ..Limits::default() };
    let mut talk = established(limits);
    talk.orig(1_100, 5_000, ACK, b"behind the hole");
    talk.resp(5_000, 1_115, ACK, b"");
    for number in 0..8 {
        talk.resp(5_000 + number, 1_115, ACK, b"x");
        assert_eq!(talk.tape.stream(Orig), [], "given up after {} packets", number + 2);
    }
    talk.resp(5_008, 1_115, ACK, b"x");
    let mut expected = vec![None; 100];
    expected.extend(some(b"behind the hole"));
    assert_eq!(talk.tape.stream(Orig), expected);
}

#[test]
fn hole_is_given_up_after_its_time_and_not_sooner() {
    let limits = Limits { hole_packets: u32::MAX, hole_ns: SECOND, ..Limits::default() };
    let mut talk = established(limits);
    talk.orig(1_100, 5_000, ACK, b"behind");
    let since = talk.now_ns;
    talk.now_ns = since + SECOND - 1_000_000;
    talk.resp(5_000, 1_106, ACK, b"");
    assert_eq!((talk.tape.stream(Orig), talk.now_ns), (vec![], since + SECOND));
    talk.now_ns = since + SECOND + 1 - 1_000_000;
    talk.resp(5_000, 1_106, ACK, b"");
    assert_eq!(talk.tape.stream(Orig).len(), 106);
}

#[test]
fn hole_that_is_not_acknowledged_waits_for_its_retransmission() {
    let limits = Limits { hole_packets: 4, hole_ns: SECOND, ..Limits::default() };
    let mut talk = established(limits);
    talk.orig(1_003, 5_000, ACK, b"def");
    for number in 0..16 {
        talk.now_ns += SECOND;
        talk.resp(5_000 + number, 1_000, ACK, b"x");
    }
    talk.orig(1_000, 5_000, ACK, b"abc");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"abcdef"));
}

#[test]
fn second_hole_has_its_own_patience() {
    let limits = Limits { hole_packets: 10, hole_ns: u64::MAX, ..Limits::default() };
    let mut talk = established(limits);
    talk.orig(1_003, 5_000, ACK, b"def");
    talk.orig(1_009, 5_000, ACK, b"jkl");
    for number in 0..7 {
        talk.resp(5_000 + number, 1_012, ACK, b"x");
    }
    talk.orig(1_000, 5_000, ACK, b"abc");
    for number in 7..10 {
        talk.resp(5_000 + number, 1_012, ACK, b"x");
    }
    assert_eq!(talk.tape.stream(Orig), some(b"abcdef"), "the second hole was charged with the first one's packets");
    talk.orig(1_006, 5_000, ACK, b"ghi");
    assert_eq!(talk.tape.stream(Orig), some(b"abcdefghijkl"));
}

#[test]
fn too_much_behind_holes_gives_up_the_oldest_holes_and_no_more() {
    let limits = Limits { out_of_order_bytes: 4_000, ..patient() };
    let mut talk = established(limits);
    for number in 0..10_u32 {
        talk.orig(1_000 + 10 + number * 20, 5_000, ACK, b"x");
    }
    assert_eq!(talk.tape.stream(Orig), []);
    talk.orig(3_000, 5_000, ACK, &[7; 3_900]);
    let after = talk.tape.stream(Orig);
    assert!(talk.tracker.held_bytes() <= 4_000, "{} held", talk.tracker.held_bytes());
    let told: Vec<u8> = after.into_iter().flatten().collect();
    assert_eq!(told, b"xxxxxxxxxx", "the oldest go first, the newest that fits stays");
}

#[test]
fn small_pieces_cost_what_they_take() {
    // A byte held costs a place in a tree, too: a limit on bytes alone would be a limit on nothing.
    let mut talk = established(Limits { out_of_order_bytes: 10_000, ..patient() });
    for number in 0..1_000_u32 {
        talk.orig(1_001 + number * 2, 5_000, ACK, b"x");
    }
    let told = talk.tape.stream(Orig).iter().flatten().count();
    assert!(told >= 1_000 - 10_000 / 32, "{} pieces held", 1_000 - told);
}

#[test]
fn retransmission_is_counted_and_told_once() {
    let mut talk = established(patient());
    for _ in 0..10 {
        talk.orig(1_000, 5_000, ACK, b"again");
    }
    let (_, history) = talk.verdict();
    assert_eq!(talk.tape.stream(Orig), some(b"again"));
    assert_eq!(talk.tape.summaries[0].1.measures[0].retransmissions, 9);
    assert_eq!(history, "ShADT");
}

#[test]
fn tenth_retransmission_stands_in_the_history() {
    let mut talk = established(patient());
    for _ in 0..11 {
        talk.orig(1_000, 5_000, ACK, b"again");
    }
    assert_eq!(talk.verdict().1, "ShADTT");
}

#[test]
fn keep_alive_is_no_byte() {
    let mut talk = established(patient());
    talk.orig(1_000, 5_000, ACK, b"ab");
    talk.orig(1_001, 5_000, ACK, b"\0");
    talk.orig(1_001, 5_000, ACK, b"");
    talk.orig(1_002, 5_000, ACK, b"cd");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"abcd"));
}

#[test]
fn mid_stream_begins_with_the_first_packet_seen() {
    let mut talk = Talk::new(patient());
    talk.orig(77_000, 90_000, ACK, b"in the middle");
    talk.resp(90_000, 77_013, ACK, b"of it");
    talk.orig(76_990, 90_005, ACK, b"of before.");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"in the middle"));
    assert_eq!(talk.tape.stream(Resp), some(b"of it"));
    assert_eq!(talk.tape.summaries[0].1.conn_state, "OTH");
}

#[test]
fn bytes_with_the_syn_are_the_streams_first() {
    let mut talk = Talk::new(patient());
    talk.orig(999, 0, SYN, b"fast ");
    talk.resp(4_999, 1_005, SYN | ACK, b"");
    talk.orig(1_005, 5_000, ACK, b"open");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"fast open"));
}

#[test]
fn end_is_told_when_the_fin_is_in_order() {
    let mut talk = established(patient());
    talk.orig(1_003, 5_000, ACK | FIN, b"def");
    assert!(!talk.tape.plain().contains(&Event::DirectionEnded(Orig)));
    talk.orig(1_000, 5_000, ACK, b"abc");
    assert_eq!(talk.tape.plain().last(), Some(&Event::DirectionEnded(Orig)));
    talk.orig(1_006, 5_000, ACK, b"after the end");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"abcdef"));
}

#[test]
fn acknowledged_bytes_that_never_came_are_a_gap_and_the_fin_is_none() {
    let mut talk = established(patient());
    talk.orig(1_000, 5_000, ACK, b"abc");
    talk.resp(5_000, 1_010, ACK, b"");
    talk.resp(5_000, 1_010, ACK | FIN, b"");
    talk.orig(1_009, 5_001, ACK | FIN, b"");
    talk.resp(5_001, 1_010, ACK, b"");
    talk.finish();
    let mut expected = some(b"abc");
    expected.extend([None; 6]);
    assert_eq!(talk.tape.stream(Orig), expected);
    assert_eq!(talk.tape.stream(Resp), []);
    assert_eq!(talk.tape.summaries[0].1.missed_bytes, 6);
}

#[test]
fn reset_ends_both_directions_with_what_is_held() {
    let mut talk = established(patient());
    talk.orig(1_002, 5_000, ACK, b"cd");
    talk.resp(5_000, 1_000, RST | ACK, b"reason");
    talk.orig(1_000, 5_000, ACK, b"ab");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), [None, None, Some(b'c'), Some(b'd')]);
    assert_eq!(talk.tape.stream(Resp), [], "what a reset carries is not the stream");
}

#[test]
fn segment_from_far_outside_is_nothing() {
    let mut talk = established(patient());
    talk.orig(1_000_u32.wrapping_add((1 << 30) + 1), 5_000, ACK | FIN, b"nonsense");
    talk.orig(1_000, 5_000, ACK, b"sense");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), some(b"sense"));
    assert_eq!(talk.tape.summaries[0].1.payload_bytes, [5, 0], "nonsense counts no bytes");
    assert_eq!(talk.tape.summaries[0].1.missed_bytes, 0);
}

#[test]
fn segment_cut_by_the_snaplen_leaves_a_gap_of_what_is_missing() {
    let mut talk = established(patient());
    let packet = talk.segment(Orig, 1_000, 5_000, ACK, &truth(0, 500));
    talk.raw_of(&packet[..40 + 60], packet.len() as u32);
    talk.orig(1_500, 5_000, ACK, b"next");
    talk.finish();
    let mut expected = some(&truth(0, 60));
    expected.extend([None; 440]);
    expected.extend(some(b"next"));
    assert_eq!(talk.tape.stream(Orig), expected);
}

#[test]
fn cut_segment_does_not_hide_what_had_come_before_it() {
    let mut talk = established(patient());
    talk.orig(1_200, 5_000, ACK, b"known");
    let packet = talk.segment(Orig, 1_000, 5_000, ACK, &truth(0, 500));
    talk.raw_of(&packet[..40 + 60], packet.len() as u32);
    talk.finish();
    let mut expected = some(&truth(0, 60));
    expected.extend([None; 140]);
    expected.extend(some(b"known"));
    expected.extend([None; 295]);
    assert_eq!(talk.tape.stream(Orig), expected);
}

#[test]
fn all_flows_together_hold_no_more_than_the_limit_and_the_offender_pays() {
    let limits = Limits { reassembly_bytes: 5_000, ..patient() };
    let mut talk = established(limits);
    talk.orig(1_100, 5_000, ACK, &[1; 2_000]);
    talk.ports = (40_001, 8_000);
    talk.handshake(1_000, 5_000);
    talk.orig(1_100, 5_000, ACK, &[2; 2_000]);
    assert_eq!(talk.tracker.flows(), 2);
    talk.orig(3_200, 5_000, ACK, &[3; 2_000]);
    assert_eq!(talk.tracker.flows(), 1);
    assert_eq!(talk.tracker.counters().flows_evicted, 1);
    let (flow, _, _) = &talk.tape.summaries[0];
    assert_eq!(flow.orig.port, 40_001);
    assert!(talk.tracker.held_bytes() <= 5_000);
}
