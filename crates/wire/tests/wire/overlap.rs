//! Overlap policies: the vectors that Suricata's unit tests have for each, and a naive model of them all.
use crate::make::{A, ACK, B, SECOND, Talk};
use bunker_wire::event::Address;
use bunker_wire::event::Direction::{Orig, Resp};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::overlap::{Overlap, Policy};
use bunker_wire::tracker::{Checksums, Tracker};
use proptest::prelude::*;

fn patient() -> Limits {
    Limits { hole_packets: u32::MAX, hole_ns: u64::MAX, overlap_segments: u32::MAX, ..Limits::default() }
}

/// What waits while byte 0 is missing, told when it comes: `.` where nothing came.
fn waiting(policy: Policy, base: u32, steps: &[(u32, &str)]) -> String {
    let mut talk = Talk::with_policy(patient(), policy);
    talk.handshake(base, 5_000);
    for (offset, text) in steps {
        talk.orig(base.wrapping_add(*offset), 5_000, ACK, text.as_bytes());
        assert_eq!(talk.tape.stream(Orig), [], "byte 0 is missing");
    }
    talk.orig(base, 5_000, ACK, b"0");
    talk.finish();
    talk.tape.stream(Orig).iter().skip(1).map(|byte| byte.map_or('.', char::from)).collect()
}

const MIXED: [(u32, &str); 17] = [
    (1, "AAA"),
    (5, "BB"),
    (7, "CCC"),
    (11, "D"),
    (14, "EE"),
    (16, "FFF"),
    (19, "GG"),
    (21, "HH"),
    (23, "I"),
    (2, "JJJJ"),
    (7, "KKK"),
    (10, "LLL"),
    (13, "MMM"),
    (17, "N"),
    (20, "O"),
    (21, "P"),
    (23, "QQ"),
];
const BEFORE: [(u32, &str); 7] = [(3, "B"), (9, "D"), (12, "EE"), (2, "AA"), (1, "JJJJ"), (8, "LLL"), (11, "MMM")];
const SAME: [(u32, &str); 7] = [(1, "CCC"), (15, "HH"), (17, "II"), (1, "KKK"), (1, "LLLL"), (15, "P"), (15, "QQ")];
const AFTER: [(u32, &str); 6] = [(1, "AA"), (16, "FFF"), (19, "GG"), (2, "JJ"), (20, "O"), (17, "N")];

#[test]
fn each_policy_keeps_the_bytes_that_suricatas_tests_have() {
    let table = [
        ("bsd", "AAAJJBCCCLLLMMMFFFGGHHIQ", "JJJJ...LLLMMM", "CCCL..........HHII", "AAJ............FFFGG"),
        ("vista", "AAAJBBCCCLDLMEEFFFGGHHIQ", "JABJ...LDLMEE", "CCCL..........HHII", "AAJ............FFFGG"),
        ("first", "AAAJBBCCCLDLMEEFFFGGHHIQ", "JABJ...LDLMEE", "CCCL..........HHII", "AAJ............FFFGG"),
        ("linux", "AAAJJBCCCLLLMMMFFFGGHHQQ", "JJJJ...LLLMMM", "LLLL..........HHII", "AAJ............FFFGG"),
        ("old-linux", "AAAJJBKKKLLLMMMFFFGGHHQQ", "JJJJ...LLLMMM", "LLLL..........QQII", "AAJ............FFFGG"),
        ("solaris", "AJJJBBKKKLLLMMMFFFGGHHQQ", "JJJJ...LLLMMM", "LLLL..........QQII", "AJJ............FFFGG"),
        ("last", "AJJJJBKKKLLLMMMFNFGOPHQQ", "JJJJ...LLLMMM", "LLLL..........QQII", "AJJ............FNFGO"),
        // Systems that Suricata treats as BSD or as Solaris.
        ("windows", "AAAJJBCCCLLLMMMFFFGGHHIQ", "JJJJ...LLLMMM", "CCCL..........HHII", "AAJ............FFFGG"),
        ("macos", "AAAJJBCCCLLLMMMFFFGGHHIQ", "JJJJ...LLLMMM", "CCCL..........HHII", "AAJ............FFFGG"),
        ("irix", "AAAJJBCCCLLLMMMFFFGGHHIQ", "JJJJ...LLLMMM", "CCCL..........HHII", "AAJ............FFFGG"),
        ("hpux10", "AAAJJBCCCLLLMMMFFFGGHHIQ", "JJJJ...LLLMMM", "CCCL..........HHII", "AAJ............FFFGG"),
        ("hpux11", "AJJJBBKKKLLLMMMFFFGGHHQQ", "JJJJ...LLLMMM", "LLLL..........QQII", "AJJ............FFFGG"),
    ];
    for (name, mixed, before, same, after) in table {
        let policy = Policy::from_name(name).unwrap();
        for base in [0, 1, u32::MAX, u32::MAX - 10] {
            assert_eq!(waiting(policy, base, &MIXED), mixed, "{name} from {base}");
            assert_eq!(waiting(policy, base, &BEFORE), before, "{name} before");
            assert_eq!(waiting(policy, base, &SAME), same, "{name} same");
            assert_eq!(waiting(policy, base, &AFTER), after, "{name} after");
        }
    }
}

#[test]
fn right_handed_bsd_mirrors_bsd() {
    assert_eq!(waiting(Policy::BsdRight, 1_000, &[(3, "AAA"), (5, "BB"), (2, "CC")]), ".CAABB");
}

#[test]
fn what_was_accepted_is_never_taken_back() {
    for name in Policy::names() {
        let mut talk = Talk::with_policy(patient(), Policy::from_name(name).unwrap());
        talk.handshake(1_000, 5_000);
        talk.orig(1_000, 5_000, ACK, b"told");
        talk.orig(1_000, 5_000, ACK, b"lies and more");
        talk.finish();
        let told: Vec<u8> = talk.tape.stream(Orig).into_iter().flatten().collect();
        assert_eq!(told, b"told and more", "{name}");
    }
}

#[test]
fn segment_that_fills_the_hole_is_weighed_too() {
    for (policy, expected) in [(Policy::First, b"abcDEFg"), (Policy::Bsd, b"abcdefg"), (Policy::BsdRight, b"abcDEFg")] {
        let mut talk = Talk::with_policy(patient(), policy);
        talk.handshake(1_000, 5_000);
        talk.orig(1_003, 5_000, ACK, b"DEF");
        talk.orig(1_000, 5_000, ACK, b"abcdefg");
        talk.finish();
        let told: Vec<u8> = talk.tape.stream(Orig).into_iter().flatten().collect();
        assert_eq!(told, expected, "{policy:?}");
        assert_eq!(talk.tape.summaries[0].1.inconsistencies, 1, "{policy:?}");
    }
}

#[test]
fn policy_is_that_of_the_host_that_receives() {
    let mut overlap = Overlap::all(Policy::First);
    let host = |octets: [u8; 4]| Address::v4(octets);
    overlap.set(host([198, 0, 0, 0]), 96 + 8, Policy::First);
    overlap.set(host(B), 96 + 24, Policy::Last);
    assert_eq!(overlap.of(host(B)), Policy::Last);
    assert_eq!(overlap.of(host([B[0], B[1], B[2], 250])), Policy::Last);
    assert_eq!(overlap.of(host([B[0], B[1], B[2] + 1, 7])), Policy::First);
    assert_eq!(overlap.of(host(A)), Policy::First);
    let mut talk = Talk::new(patient());
    talk.tracker = Tracker::new(patient(), 0, [1; 16], Checksums::Verify).with_overlap(overlap);
    talk.handshake(1_000, 5_000);
    talk.orig(1_001, 5_000, ACK, b"old");
    talk.orig(1_001, 5_000, ACK, b"new");
    talk.resp(5_001, 1_000, ACK, b"old");
    talk.resp(5_001, 1_000, ACK, b"new");
    talk.orig(1_000, 5_000, ACK, b"-");
    talk.resp(5_000, 1_000, ACK, b"-");
    talk.finish();
    let told = |direction| talk.tape.stream(direction).into_iter().flatten().collect::<Vec<_>>();
    assert_eq!((told(Orig), told(Resp)), (b"-new".to_vec(), b"-old".to_vec()));
}

#[test]
fn empty_prefix_is_every_host_and_a_whole_one_is_one() {
    let mut overlap = Overlap::all(Policy::First);
    overlap.set(Address([0; 16]), 0, Policy::Last);
    overlap.set(Address::v4(A), 128, Policy::Bsd);
    assert_eq!(overlap.of(Address::v4(B)), Policy::Last);
    assert_eq!(overlap.of(Address::v4(A)), Policy::Bsd);
}

#[test]
fn more_segments_to_compare_than_the_limit_give_up_the_oldest_hole() {
    let limits = Limits { overlap_segments: 8, ..patient() };
    for (count, told) in [(8_u32, 0), (9, 10)] {
        let mut talk = Talk::with_policy(limits, Policy::Linux);
        talk.handshake(1_000, 5_000);
        for number in 0..count {
            talk.orig(1_001 + number, 5_000, ACK, b"x");
        }
        assert_eq!(talk.tape.stream(Orig).len(), told, "{count} segments");
    }
}

#[test]
fn names_of_no_policy_are_none() {
    assert_eq!(Policy::from_name("Windows"), None);
    assert_eq!(Policy::from_name(""), None);
    assert!(Policy::names().all(|name| Policy::from_name(name).is_some()));
}

/// Each byte by itself: the new one, unless a segment that waits, covers it and is not beaten.
#[derive(Default)]
struct Naive {
    bytes: Vec<Option<u8>>,
    segments: Vec<(i64, i64)>,
}

impl Naive {
    fn delivered(&self) -> usize {
        self.bytes.iter().take_while(|byte| byte.is_some()).count()
    }

    fn take(&mut self, policy: Policy, offset: usize, text: &[u8]) {
        let next = self.delivered();
        let new = (offset as i64, (offset + text.len()) as i64);
        if self.bytes.len() < offset + text.len() {
            self.bytes.resize(offset + text.len(), None);
        }
        for (at, byte) in (offset..).zip(text) {
            let covering = self.segments.iter().filter(|old| old.0 <= at as i64 && (at as i64) < old.1);
            if at >= next && covering.clone().all(|old| policy.new_wins(new, *old)) {
                self.bytes[at] = Some(*byte);
            }
        }
        if offset > next {
            self.segments.push(new);
        }
        let delivered = self.delivered() as i64;
        self.segments.retain(|old| old.1 > delivered);
    }
}

proptest! {
    #![proptest_config(crate::make::cases(200))]

    #[test]
    fn any_segments_give_what_the_naive_model_of_the_policy_has(
        name in prop::sample::select(Policy::names().collect::<Vec<_>>()),
        pieces in prop::collection::vec((0_usize..60, 1_usize..20), 0..40),
        base in prop_oneof![any::<u32>(), (u32::MAX - 60)..=u32::MAX],
    ) {
        let policy = Policy::from_name(name).unwrap();
        let mut talk = Talk::with_policy(patient(), policy);
        talk.handshake(base, 5_000);
        let mut naive = Naive::default();
        for (number, (offset, length)) in pieces.iter().enumerate() {
            let text: Vec<u8> = (0..*length).map(|at| (number * 20 + at) as u8).collect();
            talk.now_ns += SECOND / 1_000;
            talk.orig(base.wrapping_add(*offset as u32), 5_000, ACK, &text);
            naive.take(policy, *offset, &text);
            prop_assert_eq!(talk.tape.stream(Orig), naive.bytes[..naive.delivered()].to_vec());
        }
        talk.finish();
        prop_assert_eq!(talk.tape.stream(Orig), naive.bytes);
        prop_assert_eq!(talk.tracker.held_bytes(), 0);
    }
}
