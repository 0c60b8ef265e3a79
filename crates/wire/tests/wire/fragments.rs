//! Fragments against a naive reassembler, and the limits.
use crate::make::{A, B, RAW, SECOND, Talk, Tape, ipv4_fragment, ipv6, packet, udp, v6};
use bunker_wire::event::Address;
use bunker_wire::flowhash::Seed;
use bunker_wire::fragments::{Fragments, Progress};
use bunker_wire::ip::{Fragment, Ip};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::{Checksums, Tracker};
use proptest::prelude::*;

fn piece(identification: u16, offset: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    ipv4_fragment(A, B, 17, bytes, identification, offset as u16, more)
}

/// A UDP datagram of `length` payload bytes and its fragments of `size` bytes.
fn cut(length: usize, size: usize) -> (Vec<u8>, Vec<(usize, Vec<u8>, bool)>) {
    let payload: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
    let whole = udp(&A, &B, (1_000, 2_000), &payload);
    let pieces = whole
        .chunks(size)
        .enumerate()
        .map(|(number, bytes)| (number * size, bytes.to_vec(), (number + 1) * size < whole.len()))
        .collect();
    (payload, pieces)
}

proptest! {
    #![proptest_config(crate::make::cases(150))]

    #[test]
    fn any_order_gives_the_datagram_once(
        length in 1_usize..1_500,
        size in 1_usize..40,
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..250),
        seed in any::<u64>(),
    ) {
        let (payload, mut pieces) = cut(length, size * 8);
        for (at, other) in order.iter().enumerate() {
            let (one, two) = (at % pieces.len(), other.index(pieces.len()));
            pieces.swap(one, two);
        }
        let mut talk = Talk::new(Limits::default());
        let last = pieces.len() - 1;
        for (number, (offset, bytes, more)) in pieces.iter().enumerate() {
            if number < last && seed.rotate_left(number as u32) & 1 == 1 {
                talk.raw(&piece(7, *offset, bytes, *more)); // twice
            }
            talk.raw(&piece(7, *offset, bytes, *more));
            prop_assert_eq!(talk.tape.datagrams().len(), usize::from(number == last));
        }
        prop_assert_eq!(talk.tape.datagrams(), [payload]);
        prop_assert_eq!(talk.tracker.held_bytes(), 0);
        prop_assert_eq!(talk.tracker.fragment_counters().dropped, 0);
        let fate = talk.tracker.counters();
        prop_assert_eq!((fate.udp, fate.bad_checksum), (1, 0));
    }

    /// Overlapping pieces that contradict each other: the bytes that came first win, and the datagram is complete exactly when the
    /// naive reassembler has no hole.
    #[test]
    fn overlaps_are_the_naive_reassemblers(
        pieces in prop::collection::vec((0_usize..20, 1_usize..60, any::<u8>(), 0_u8..4), 1..30),
    ) {
        let mut fragments = Fragments::new(Limits::default(), Seed::new([3; 16]));
        let mut naive: Vec<Option<u8>> = Vec::new();
        let mut maybe_end = None;
        for (eights, length, byte, last) in pieces {
            let offset = eights * 8;
            let bytes = vec![byte; length];
            let more = last > 0;
            if naive.len() < offset + length {
                naive.resize(offset + length, None);
            }
            naive.iter_mut().skip(offset).zip(&bytes).for_each(|(place, byte)| { place.get_or_insert(*byte); });
            if !more && maybe_end.is_none() {
                maybe_end = Some(offset + length);
            }
            let expected = maybe_end
                .and_then(|end| naive.get(..end))
                .and_then(|known| known.iter().copied().collect::<Option<Vec<u8>>>());
            match (fragments.feed(&ip(&bytes), Fragment { identification: 1, offset: offset as u32, more }, 5), expected) {
                (Progress::Complete(whole), Some(bytes)) => {
                    prop_assert_eq!(whole.payload, bytes);
                    return Ok(());
                }
                (Progress::Waiting, None) => {}
                (Progress::Complete(_), None) => prop_assert!(false, "complete with a hole"),
                (Progress::Waiting, Some(_)) => prop_assert!(false, "not complete without a hole"),
            }
        }
    }
}

fn ip(payload: &[u8]) -> Ip<'_> {
    Ip {
        source: Address::v4(A),
        destination: Address::v4(B),
        protocol: 17,
        ttl: 64,
        payload,
        payload_len: payload.len(),
        total_len: payload.len() + 20,
        maybe_fragment: None,
        bad_checksum: false,
        header_len: 20,
    }
}

#[test]
fn overlap_is_counted() {
    let mut fragments = Fragments::new(Limits::default(), Seed::new([3; 16]));
    let at = |offset, more| Fragment { identification: 1, offset, more };
    fragments.feed(&ip(b"AAAAAAAA"), at(8, true), 5);
    assert_eq!(fragments.counters.overlaps, 0);
    fragments.feed(&ip(b"bbbbbbbbbbbb"), at(0, true), 5);
    assert_eq!(fragments.counters.overlaps, 1);
    let Progress::Complete(whole) = fragments.feed(&ip(b"cc"), at(16, false), 5) else { panic!("not complete") };
    assert_eq!(whole.payload, b"bbbbbbbbAAAAAAAAcc");
    assert_eq!(whole.total_len, 18 + 3 * 20);
}

#[test]
fn datagrams_of_other_hosts_numbers_and_protocols_do_not_mix() {
    let mut talk = Talk::new(Limits::default());
    let (_, pieces) = cut(24, 16);
    let [(_, first, _), (offset, second, _)] = pieces.as_slice() else { panic!("two pieces") };
    talk.raw(&piece(1, 0, first, true));
    talk.raw(&piece(2, *offset, second, false));
    talk.raw(&ipv4_fragment(B, A, 17, second, 1, *offset as u16, false));
    talk.raw(&ipv4_fragment(A, B, 6, second, 1, *offset as u16, false));
    assert_eq!(talk.tape.datagrams().len(), 0);
    assert_eq!(talk.tracker.counters().fragments, 4);
    talk.raw(&piece(1, *offset, second, false));
    assert_eq!(talk.tape.datagrams().len(), 1);
}

#[test]
fn datagram_waits_for_its_time_and_not_longer() {
    let limits = Limits::default();
    for (after, told) in [(limits.fragment_ns - 1, 1), (limits.fragment_ns, 0)] {
        let mut tape = Tape::default();
        let mut tracker = Tracker::new(limits, 0, [1; 16], Checksums::Verify);
        let (_, pieces) = cut(24, 16);
        for (number, (offset, bytes, more)) in pieces.iter().enumerate() {
            let ts_ns = SECOND + if number == 0 { 0 } else { after };
            tracker.feed(&packet(&piece(1, *offset, bytes, *more), RAW, ts_ns), &mut tape);
        }
        assert_eq!(tape.datagrams().len(), told);
        assert_eq!(tracker.fragment_counters().dropped, 1 - told as u64);
    }
}

#[test]
fn fragments_of_one_datagram_are_bounded() {
    for (fragments, told) in [(4, 1), (3, 1), (2, 0)] {
        // Four pieces; the last one completes the datagram whether it is over the limit by one or not.
        let mut talk = Talk::new(Limits { fragments, ..Limits::default() });
        for (offset, bytes, more) in cut(24, 8).1 {
            talk.raw(&piece(1, offset, &bytes, more));
        }
        assert_eq!(talk.tape.datagrams().len(), told, "limit {fragments}");
        assert_eq!(talk.tracker.fragment_counters().dropped > 0, told == 0);
    }
}

#[test]
fn oldest_datagram_pays_when_too_much_is_held() {
    let limits = Limits { fragment_bytes: 40_000, ..Limits::default() };
    let mut talk = Talk::new(limits);
    let (payload, pieces) = cut(11_500, 5_504);
    let (offset, last, _) = &pieces[1];
    assert_eq!(pieces.len(), 3);
    for identification in 0..10 {
        talk.raw(&piece(identification, 0, &pieces[0].1, true));
        assert!(talk.tracker.held_bytes() <= 40_000);
    }
    assert!(talk.tracker.fragment_counters().dropped >= 3);
    for identification in [0, 9] {
        talk.raw(&piece(identification, *offset, last, true));
        talk.raw(&piece(identification, pieces[2].0, &pieces[2].1, false));
    }
    assert_eq!(talk.tape.datagrams(), [payload], "the newest is whole, the oldest is gone");
}

#[test]
fn small_fragments_cost_what_they_take() {
    // A piece of one byte costs a place in a tree, a datagram a place in a table: a limit on bytes alone is none.
    let mut fragments = Fragments::new(Limits { fragment_bytes: 100_000, ..Limits::default() }, Seed::new([3; 16]));
    for number in 0..10_000 {
        let at = Fragment { identification: number, offset: 8, more: true };
        assert!(matches!(fragments.feed(&ip(b"x"), at, 5), Progress::Waiting));
    }
    assert!(fragments.counters.dropped >= 10_000 - 100_000 / 64, "{} given up", fragments.counters.dropped);
    assert!(fragments.held() <= 100_000);
}

#[test]
fn finished_datagrams_leave_nothing_behind_a_waiting_one() {
    let mut fragments = Fragments::new(Limits::default(), Seed::new([3; 16]));
    fragments.feed(&ip(b"waiting!"), Fragment { identification: 0, offset: 0, more: true }, 5);
    for number in 1..5_000 {
        fragments.feed(&ip(b"12345678"), Fragment { identification: number, offset: 0, more: true }, 5);
        fragments.feed(&ip(b"9"), Fragment { identification: number, offset: 8, more: false }, 5);
    }
    assert_eq!(fragments.counters.reassembled, 4_999);
    assert!(fragments.remembered() < 100, "{} places are remembered for one datagram", fragments.remembered());
}

#[test]
fn cut_and_empty_fragments_are_given_up() {
    let mut talk = Talk::new(Limits::default());
    let whole = piece(1, 0, &[1; 64], true);
    talk.raw_of(&whole[..60], whole.len() as u32);
    talk.raw(&piece(1, 8, b"", true));
    assert_eq!(talk.tracker.fragment_counters().dropped, 2);
    assert_eq!((talk.tracker.counters().fragments, talk.tracker.held_bytes()), (2, 0));
}

fn v6_fragment(next: u8, offset: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    let mut payload = vec![next, 0];
    payload.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
    payload.extend_from_slice(&[0, 0, 0, 1]);
    payload.extend_from_slice(bytes);
    ipv6(44, &payload)
}

#[test]
fn ipv6_fragments_are_put_together() {
    let whole = udp(&v6(1), &v6(2), (1_000, 2_000), b"over IPv6, in two");
    let mut talk = Talk::new(Limits::default());
    talk.raw(&v6_fragment(0, 16, &whole[16..], false)); // only the first one's next header counts (RFC 8200 section 4.5)
    talk.raw(&v6_fragment(17, 0, &whole[..16], true));
    assert_eq!(talk.tape.datagrams(), [b"over IPv6, in two"]);
}

#[test]
fn atomic_fragment_is_no_fragment() {
    let whole = udp(&v6(1), &v6(2), (1_000, 2_000), b"atomic");
    let mut talk = Talk::new(Limits::default());
    talk.raw(&v6_fragment(17, 0, &whole, false));
    assert_eq!(talk.tape.datagrams(), [b"atomic"]);
    assert_eq!(talk.tracker.counters().fragments, 0);
}

#[test]
fn extension_headers_inside_fragments_are_walked_too() {
    let mut whole = vec![17, 0, 1, 4, 0, 0, 0, 0]; // destination options: padding
    whole.extend_from_slice(&udp(&v6(1), &v6(2), (1_000, 2_000), b"behind options"));
    let mut talk = Talk::new(Limits::default());
    talk.raw(&v6_fragment(60, 0, &whole[..16], true));
    talk.raw(&v6_fragment(60, 16, &whole[16..], false));
    assert_eq!(talk.tape.datagrams(), [b"behind options"]);
    assert_eq!(talk.tracker.counters().udp, 1);
}
