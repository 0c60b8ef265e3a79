//! Flows: who began, how they ended in Zeek's words, and when they are given up.
use crate::make::{A, ACK, B, Event, FIN, RAW, RST, SECOND, SYN, Talk, Tcp, ipv4, ipv6, packet, tcp, udp, udp4, v6};
use bunker_wire::Packet;
use bunker_wire::event::Direction::{Orig, Resp};
use bunker_wire::event::{Flow, FlowSummary, Outcome, Sink};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::restart::{Again, Born, Stranded};
use bunker_wire::tracker::{Checksums, Tracker};

/// One letter a packet: who sends (upper case: the one of port 40000), what. `D` data, `A` bare ACK.
fn play(script: &str) -> (String, String) {
    let mut talk = Talk::new(Limits::default());
    let mut next = [1_000_u32, 5_000];
    for step in script.split_whitespace() {
        let from = usize::from(step.chars().next().unwrap().is_lowercase());
        let (flags, payload): (u8, &[u8]) = match step.to_ascii_uppercase().as_str() {
            "S" => (SYN, b""),
            "H" => (SYN | ACK, b""),
            "A" => (ACK, b""),
            "D" => (ACK, b"data"),
            "F" => (FIN | ACK, b""),
            "DF" => (FIN | ACK, b"data"),
            "R" => (RST, b""),
            "RA" => (RST | ACK, b""),
            "I" => (FIN | RST, b""),
            "Q" => (SYN | FIN, b""),
            "X" => (SYN | RST, b""),
            other => panic!("{other}"),
        };
        let (seq, ack) = (next[from], if flags & ACK == 0 { 0 } else { next[1 - from] });
        if from == 0 {
            talk.orig(seq, ack, flags, payload)
        } else {
            talk.resp(seq, ack, flags, payload)
        }
        next[from] = seq + payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
    }
    talk.verdict()
}

#[test]
fn conn_state_and_history_are_zeeks() {
    // The scripts are Zeek's own descriptions of its states (base/protocols/conn/main.zeek), played.
    let table = [
        ("S", "S0", "S"),
        ("S h", "S1", "Sh"),
        ("S h A", "S1", "ShA"),
        ("S h A D a d", "S1", "ShADad"),
        ("S h A D d F f A", "SF", "ShADdFf"),
        ("S h A D a d f F a", "SF", "ShADadfF"),
        ("S h A D F", "S2", "ShADF"),
        ("S h A D f", "S3", "ShADf"),
        ("S ra", "REJ", "Sr"),
        ("S h A D R", "RSTO", "ShADR"),
        ("S h A d ra", "RSTR", "ShAdr"),
        ("S R", "RSTOS0", "SR"),
        ("h r", "RSTRH", "^hr"),
        ("S F", "SH", "SF"),
        ("h f", "SHR", "^hf"),
        ("h A", "S1", "^hA"),
        ("D d", "OTH", "Dd"),
        ("A", "OTH", "A"),
        ("S h A R r", "REJ", "ShARr"),
        ("S h A D R r", "RSTR", "ShADRr"),
    ];
    for (script, state, history) in table {
        assert_eq!(play(script), (state.to_owned(), history.to_owned()), "{script}");
    }
}

#[test]
fn strange_flags_have_their_letters() {
    assert_eq!(play("I").1, "I");
    assert_eq!(play("Q").1, "Q");
    assert_eq!(play("X x").1, "Qq");
}

#[test]
fn window_of_zero_is_counted_by_powers_of_ten() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    talk.window = 0;
    for _ in 0..99 {
        talk.resp(5_000, 1_000, ACK, b"");
    }
    assert_eq!(talk.verdict().1, "ShAaww");
}

#[test]
fn wrong_checksum_is_noted_and_its_bytes_are_not_told() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    let mut bad = talk.segment(Orig, 1_000, 5_000, ACK, b"wrong");
    *bad.last_mut().unwrap() ^= 1;
    talk.raw(&bad);
    talk.orig(1_000, 5_000, ACK, b"right");
    assert_eq!(talk.tracker.counters().bad_checksum, 1);
    let (_, history) = talk.verdict();
    assert_eq!(history, "ShACD");
    assert_eq!(talk.tape.stream(Orig).into_iter().flatten().collect::<Vec<_>>(), b"right");
    assert_eq!(talk.tape.summaries[0].1.bad_checksums, 1);
}

#[test]
fn checksum_that_the_card_would_have_filled_in_is_not_wrong() {
    let mut bad = udp4((1, 2), b"payload");
    *bad.last_mut().unwrap() ^= 1;
    for (not_ready, checksums, told) in
        [(false, Checksums::Verify, 0), (true, Checksums::Verify, 1), (false, Checksums::Ignore, 1)]
    {
        let mut tape = crate::make::Tape::default();
        let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], checksums);
        let fed = Packet { checksum_not_ready: not_ready, ..packet(&bad, RAW, SECOND) };
        tracker.feed(&fed, &mut tape);
        assert_eq!(tape.datagrams().len(), told, "{not_ready} {checksums:?}");
    }
}

#[test]
fn checksum_left_for_the_card_is_known_by_its_value_when_asked_for() {
    let pseudo = |bytes: &[u8], at: usize, protocol: u8, length: usize| {
        let mut left = bytes.to_vec();
        let mut start = [A.as_slice(), &B, &[0, protocol], &(length as u16).to_be_bytes()].concat();
        start.push(0);
        left[20 + at..22 + at].copy_from_slice(&bunker_wire::ip::sum(&start[..12], 0).to_be_bytes());
        left
    };
    let datagram = udp4((1, 2), b"payload");
    let head = Tcp { ports: (1, 2), seq: 1, ack: 0, flags: SYN, window: 1, payload: b"" };
    let segment = ipv4(A, B, 6, &tcp(&A, &B, head));
    let mut wrong = datagram.clone();
    wrong[26] ^= 0x55;
    let cases = [
        (pseudo(&datagram, 6, 17, datagram.len() - 20), true),
        (pseudo(&datagram, 6, 17, 0), true),
        (pseudo(&segment, 16, 6, segment.len() - 20), true),
        (pseudo(&segment, 16, 6, 3), false),
        (wrong, false),
    ];
    for (number, (bytes, good)) in cases.iter().enumerate() {
        for (checksums, taken) in [(Checksums::Auto, *good), (Checksums::Verify, false), (Checksums::Ignore, true)] {
            let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], checksums);
            tracker.feed(&packet(bytes, RAW, SECOND), &mut crate::make::Tape::default());
            assert_eq!(tracker.counters().bad_checksum, u64::from(!taken), "case {number}, {checksums:?}");
        }
    }
}

#[test]
fn datagram_shorter_than_its_ip_packet_is_checked_by_its_own_length() {
    // RFC 9868: what stands behind the UDP length is not the datagram's.
    let mut payload = udp(&A, &B, (1_000, 2_000), b"payload");
    payload.extend_from_slice(b"surplus");
    let mut talk = Talk::new(Limits::default());
    talk.raw(&ipv4(A, B, 17, &payload));
    assert_eq!(talk.tracker.counters().bad_checksum, 0);
    assert_eq!(talk.tape.datagrams(), [b"payload"]);
}

#[test]
fn udp_states_say_who_spoke() {
    for (script, state) in [("o", "S0"), ("or", "SF"), ("oor", "SF")] {
        let mut talk = Talk::new(Limits::default());
        for who in script.chars() {
            let bytes = match who {
                'o' => udp4((5_000, 53), b"question"),
                _ => ipv4(B, A, 17, &udp(&B, &A, (53, 5_000), b"answer")),
            };
            talk.raw(&bytes);
        }
        assert_eq!(talk.verdict().0, state);
    }
    // The answer alone: port 53 tells who is the responder.
    let mut talk = Talk::new(Limits::default());
    talk.raw(&ipv4(B, A, 17, &udp(&B, &A, (53, 5_000), b"answer")));
    assert_eq!(talk.verdict(), ("SHR".to_owned(), "^d".to_owned()));
}

#[test]
fn responder_is_known_by_its_syn_ack_and_by_its_port() {
    let mut talk = Talk::new(Limits::default());
    talk.resp(5_000, 1_000, SYN | ACK, b"");
    talk.ports = (40_001, 443);
    talk.resp(5_000, 1_000, ACK, b"data");
    talk.ports = (443, 40_002);
    talk.orig(5_000, 1_000, SYN, b"");
    let origs: Vec<_> = talk.tape.flows.iter().map(|flow| flow.orig.port).collect();
    assert_eq!(origs, [40_000, 40_001, 443]);
}

#[test]
fn syn_on_a_closed_flow_begins_another_and_a_repeated_one_does_not() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    talk.orig(999, 0, SYN, b"");
    assert_eq!(talk.tape.flows.len(), 1, "the same SYN again");
    talk.orig(9_000, 0, SYN, b"");
    assert_eq!(talk.tape.flows.len(), 1, "a SYN into a living flow");
    talk.orig(1_000, 5_000, FIN | ACK, b"");
    talk.resp(5_000, 1_001, FIN | ACK, b"");
    talk.orig(20_000, 0, SYN, b"");
    assert_eq!(talk.tape.flows.len(), 2);
    assert_eq!(talk.tape.summaries[0].2, Outcome::Completed);
    talk.resp(30_000, 20_001, SYN | ACK, b"");
    talk.orig(20_001, 30_001, ACK, b"second");
    talk.finish();
    assert_eq!(talk.tape.stream(Orig).into_iter().flatten().collect::<Vec<_>>(), b"second");
}

/// The time at which a flow ends when nothing comes any more: not 1 ns before `idle`, but then.
fn ends_after(mut talk: Talk, idle: u64, outcome: Outcome) {
    let last = talk.now_ns;
    talk.tracker.expire(last + idle - 1, &mut talk.tape);
    assert_eq!(talk.tracker.flows(), 1);
    talk.tracker.expire(last + idle, &mut talk.tape);
    assert_eq!(talk.tracker.flows(), 0);
    assert_eq!(talk.tape.summaries[0].2, outcome);
}

#[test]
fn each_state_has_its_time_out() {
    let limits = Limits::default();
    let mut attempt = Talk::new(limits);
    attempt.orig(1, 0, SYN, b"");
    ends_after(attempt, limits.tcp_attempt_ns, Outcome::TimedOut);
    let mut handshake = Talk::new(limits);
    handshake.orig(1, 0, SYN, b"");
    handshake.resp(9, 2, SYN | ACK, b"");
    ends_after(handshake, limits.tcp_handshake_ns, Outcome::TimedOut);
    let mut idle = Talk::new(limits);
    idle.handshake(1_000, 5_000);
    ends_after(idle, limits.tcp_idle_ns, Outcome::TimedOut);
    let mut closed = Talk::new(limits);
    closed.handshake(1_000, 5_000);
    closed.orig(1_000, 5_000, FIN | ACK, b"");
    closed.resp(5_000, 1_001, FIN | ACK, b"");
    ends_after(closed, limits.tcp_close_ns, Outcome::Completed);
    let mut datagram = Talk::new(limits);
    datagram.raw(&udp4((1_000, 2_000), b"x"));
    ends_after(datagram, limits.udp_idle_ns, Outcome::Completed);
    let mut other = Talk::new(limits);
    other.raw(&ipv4(A, B, 89, b"ospf"));
    ends_after(other, limits.icmp_idle_ns, Outcome::Completed);
}

#[test]
fn packet_restarts_the_clock_of_its_flow_alone() {
    let limits = Limits::default();
    let mut talk = Talk::new(limits);
    talk.raw(&udp4((1_000, 2_000), b"x"));
    talk.raw(&udp4((1_001, 2_000), b"x"));
    let second = talk.now_ns;
    talk.now_ns = second + limits.udp_idle_ns - 3_000_000;
    talk.raw(&udp4((1_000, 2_000), b"x"));
    assert_eq!(talk.tracker.flows(), 2);
    talk.tracker.expire(second + limits.udp_idle_ns, &mut talk.tape);
    assert_eq!(talk.tape.summaries.iter().map(|(flow, ..)| flow.orig.port).collect::<Vec<_>>(), [1_001]);
}

#[test]
fn time_does_not_run_backwards() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    let now = talk.now_ns;
    talk.now_ns = SECOND / 2;
    talk.orig(1_000, 5_000, ACK, b"from the past");
    assert_eq!(talk.tracker.now_ns(), now);
    talk.finish();
    assert_eq!(talk.tape.summaries[0].1.last_ts_ns, now);
}

/// An established flow and a datagram's; then the clock is set, and both talk on after 10 s.
fn across_a_step(by_ns: i64, told: bool) -> Talk {
    let mut talk = Talk::new(Limits::default());
    talk.now_ns = 1_000_000 * SECOND;
    talk.handshake(1_000, 5_000);
    talk.raw(&udp4((1_000, 2_000), b"x"));
    if told {
        talk.tracker.clock_stepped(by_ns);
    }
    // A packet that was stamped before does not show it.
    talk.raw(&udp4((1_000, 2_000), b"y"));
    talk.now_ns = talk.now_ns.saturating_add_signed(by_ns) + 10 * SECOND;
    talk.orig(1_000, 5_000, ACK, b"on");
    talk.raw(&udp4((1_000, 2_000), b"z"));
    talk
}

#[test]
fn clock_that_is_set_ends_no_flow_before_its_time_and_none_after_it() {
    let (hour, limits) = (3_600 * SECOND as i64, Limits::default());
    for by_ns in [hour, -hour, 24 * hour, -24 * hour, 30 * SECOND as i64] {
        let mut talk = across_a_step(by_ns, true);
        assert_eq!(talk.tracker.flows(), 2, "{by_ns}");
        assert_eq!(talk.tracker.now_ns(), talk.now_ns, "time goes on from where the clock is");
        let last = talk.now_ns;
        talk.tracker.expire(last + limits.udp_idle_ns - 1, &mut talk.tape);
        assert_eq!(talk.tracker.flows(), 2, "{by_ns}");
        talk.tracker.expire(last + limits.udp_idle_ns, &mut talk.tape);
        assert_eq!(talk.tracker.flows(), 1, "{by_ns}");
    }
}

#[test]
fn clock_that_is_set_and_not_told_of_ends_flows_at_once_or_never() {
    assert_eq!(across_a_step(3_600 * SECOND as i64, false).tape.summaries.len(), 2, "and two others began");
    let mut back = across_a_step(-3_600 * SECOND as i64, false);
    let last = back.now_ns;
    back.tracker.expire(last + Limits::default().udp_idle_ns, &mut back.tape);
    assert_eq!(back.tracker.flows(), 2);
}

#[test]
fn step_that_no_packet_shows_changes_nothing() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    talk.tracker.clock_stepped(-3_600 * SECOND as i64);
    let now = talk.tracker.now_ns();
    talk.orig(1_000, 5_000, ACK, b"on");
    assert!(talk.tracker.now_ns() > now);
    talk.tracker.expire(now + Limits::default().tcp_idle_ns * 2, &mut talk.tape);
    assert_eq!(talk.tracker.flows(), 0);
}

#[test]
fn stranded_flow_goes_on_under_its_number_in_another_tracker() {
    let mut first = Talk::new(Limits::default());
    first.tracker.keep_journal();
    first.tracker.at(3, 0);
    first.handshake(1_000, 5_000);
    first.tracker.at(4, 0);
    first.raw(&udp4((1_000, 2_000), b"x"));
    assert_eq!(Stranded::read_all(&first.tracker.strand(3)).count(), 0, "none began before");
    let stranded: Vec<_> = Stranded::read_all(&first.tracker.strand(4)).collect();
    assert_eq!(stranded.iter().map(|one| (one.flow.uid, one.block)).collect::<Vec<_>>(), [(1, 3)]);
    assert_eq!(first.tracker.strand(4).len(), 0, "told once");
    assert_eq!(Stranded::read_all(&first.tracker.stranded()).collect::<Vec<_>>(), stranded, "and in the whole");

    let mut second = Talk::new(Limits::default());
    let born = Born::read_all(&first.tracker.born()).collect::<Vec<_>>();
    second.tracker.read_again(Again::new(born.into_iter(), 3, first.now_ns));
    second.tracker.restore(&stranded, 4, &mut second.tape);
    second.tracker.at(4, 0);
    second.now_ns = first.now_ns - 1_000_000;
    second.raw(&udp4((1_000, 2_000), b"x"));
    second.tracker.at(4, 1);
    second.orig(1_000, 5_000, ACK, b"on");
    assert_eq!(second.tracker.caught_up(), 0, "all are there");
    second.raw(&udp4((7, 7), b"new"));
    assert_eq!(second.tape.flows.iter().map(|flow| flow.uid).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(second.tape.flows[0].first_ts_ns, first.tape.flows[0].first_ts_ns);
    second.tracker.expire(second.now_ns + Limits::default().tcp_idle_ns - 1_000_000, &mut second.tape);
    assert_eq!(second.tracker.flows(), 0, "and its time is over when it would have been");
}

#[test]
fn full_table_gives_up_the_least_valuable_oldest_flow() {
    let mut talk = Talk::new(Limits { flows: 3, ..Limits::default() });
    talk.handshake(1_000, 5_000); // established: kept longest
    talk.raw(&udp4((1_000, 2_000), b"x"));
    talk.raw(&udp4((1_001, 2_000), b"x"));
    assert_eq!((talk.tracker.flows(), talk.tracker.counters().flows_evicted), (3, 0));
    talk.raw(&udp4((1_002, 2_000), b"x"));
    talk.raw(&udp4((1_003, 2_000), b"x"));
    assert_eq!((talk.tracker.flows(), talk.tracker.counters().flows_evicted), (3, 2));
    let gone: Vec<_> = talk.tape.summaries.iter().map(|(flow, _, outcome)| (flow.orig.port, *outcome)).collect();
    assert_eq!(gone, [(1_000, Outcome::Evicted), (1_001, Outcome::Evicted)]);
    talk.orig(1_000, 5_000, ACK, b"still here");
    assert_eq!(talk.tape.stream(Orig).len(), 10);
}

#[test]
fn numbers_of_flows_carry_the_lane_and_slots_are_used_again() {
    let mut tape = crate::make::Tape::default();
    let mut tracker = Tracker::new(Limits::default(), 3, [1; 16], Checksums::Verify);
    for round in 1..=3_u64 {
        tracker.feed(&packet(&udp4((1_000, 2_000), b"x"), RAW, round * 100 * SECOND), &mut tape);
    }
    let numbers: Vec<_> = tape.flows.iter().map(|flow| (flow.uid, flow.slot)).collect();
    assert_eq!(numbers, [(3 << 48 | 1, 0), (3 << 48 | 2, 0), (3 << 48 | 3, 0)]);
}

#[test]
fn condemned_flow_ends_erroneous_and_its_neighbour_goes_on() {
    let mut talk = Talk::new(Limits::default());
    talk.handshake(1_000, 5_000);
    talk.tracker.condemn(talk.tape.flows[0].uid);
    talk.orig(1_000, 5_000, ACK, b"not told");
    talk.raw(&udp4((1_000, 2_000), b"told"));
    talk.finish();
    assert_eq!(talk.tape.stream(Orig), []);
    assert_eq!(talk.tape.datagrams(), [b"told"]);
    let outcomes: Vec<_> = talk.tape.summaries.iter().map(|(flow, _, outcome)| (flow.protocol, *outcome)).collect();
    assert!(outcomes.contains(&(6, Outcome::Erroneous)) && outcomes.contains(&(17, Outcome::Ended)));
}

/// A sink that falls over at a chunk that begins with `!`.
#[derive(Default)]
struct Fragile(crate::make::Tape);

impl Sink for Fragile {
    fn flow_opened(&mut self, flow: &Flow) {
        self.0.flow_opened(flow);
    }
    fn roles_flipped(&mut self, flow: &Flow) {
        self.0.roles_flipped(flow);
    }
    fn chunk(&mut self, flow: &Flow, direction: bunker_wire::Direction, payload: &[u8], ts_ns: u64) {
        if payload.starts_with(b"!") {
            std::panic::resume_unwind(Box::new("fragile"));
        }
        self.0.chunk(flow, direction, payload, ts_ns);
    }
    fn gap(&mut self, flow: &Flow, direction: bunker_wire::Direction, length: u64, ts_ns: u64) {
        self.0.gap(flow, direction, length, ts_ns);
    }
    fn direction_ended(&mut self, flow: &Flow, direction: bunker_wire::Direction, ts_ns: u64) {
        self.0.direction_ended(flow, direction, ts_ns);
    }
    fn datagram(&mut self, flow: &Flow, direction: bunker_wire::Direction, payload: &[u8], wire_len: usize, ts: u64) {
        self.0.datagram(flow, direction, payload, wire_len, ts);
    }
    fn flow_closed(&mut self, flow: &Flow, summary: &FlowSummary, outcome: Outcome) {
        self.0.flow_closed(flow, summary, outcome);
    }
}

#[test]
fn fault_in_a_sink_costs_its_flow_and_none_of_the_room_for_others() {
    let limits = Limits { reassembly_bytes: 10_000, ..Limits::default() };
    let mut tracker = Tracker::new(limits, 0, [1; 16], Checksums::Verify);
    let mut sink = Fragile::default();
    let mut now = SECOND;
    let mut feed = |tracker: &mut Tracker, sink: &mut Fragile, port: u16, seq: u32, flags: u8, payload: &[u8]| {
        now += 1_000;
        let head = Tcp { ports: (port, 8_000), seq, ack: 1, flags, window: 9, payload };
        let bytes = ipv4(A, B, 6, &tcp(&A, &B, head));
        let fed = packet(&bytes, RAW, now);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tracker.feed(&fed, sink)));
        if outcome.is_err() {
            assert!(tracker.recover_after_panic().is_some());
            tracker.count_lost();
        }
        outcome.is_err()
    };
    for port in 1_000..1_100 {
        feed(&mut tracker, &mut sink, port, 99, SYN, b"");
        feed(&mut tracker, &mut sink, port, 200, ACK, &[7; 1_000]);
        assert!(feed(&mut tracker, &mut sink, port, 100, ACK, b"!"), "the sink fell over");
        assert_eq!(tracker.counters().by_fate(), tracker.counters().received);
    }
    assert_eq!(tracker.counters().flows_evicted, 0, "what the faulty flows had held is given back");
    assert_eq!(tracker.held_bytes(), 0);
    feed(&mut tracker, &mut sink, 2_000, 99, SYN, b"");
    feed(&mut tracker, &mut sink, 2_000, 100, ACK, b"neighbour");
    tracker.finish(&mut sink);
    assert_eq!(sink.0.stream(Orig).len(), 9);
    assert_eq!(tracker.counters().flows_erroneous, 100);
    assert_eq!(sink.0.summaries.len(), 101);
}

#[test]
fn icmp_echo_and_its_reply_are_one_flow() {
    let echo = |kind: u8| {
        let mut bytes = vec![kind, 0, 0, 0, 0, 1, 0, 1];
        bytes.extend_from_slice(b"ping");
        let value = !bunker_wire::ip::sum(&bytes, 0);
        bytes[2..4].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    let mut talk = Talk::new(Limits::default());
    talk.raw(&ipv4(A, B, 1, &echo(8)));
    talk.raw(&ipv4(B, A, 1, &echo(0)));
    assert_eq!(talk.tracker.counters().icmp, 2);
    assert_eq!(
        talk.tape.plain(),
        [Event::Opened, Event::Datagram(Orig, b"ping".to_vec(), 4), Event::Datagram(Resp, b"ping".to_vec(), 4),]
    );
    let mut bad = echo(8);
    bad[8] ^= 1;
    talk.raw(&ipv4(A, B, 1, &bad));
    assert_eq!(talk.tracker.counters().bad_checksum, 1);
}

#[test]
fn tcp_over_ipv6_is_tcp() {
    let head = |flags, payload| Tcp { ports: (40_000, 80), seq: 100, ack: 0, flags, window: 1, payload };
    let mut talk = Talk::new(Limits::default());
    talk.raw(&ipv6(6, &tcp(&v6(1), &v6(2), head(SYN, b"".as_slice()))));
    talk.raw(&ipv6(6, &tcp(&v6(1), &v6(2), Tcp { seq: 101, ..head(0, b"hello".as_slice()) })));
    assert_eq!(talk.tracker.counters().tcp, 2);
    assert_eq!(talk.tape.stream(Orig).len(), 5);
    assert_eq!(format!("{:?}", talk.tape.flows[0].orig.address), "Address(16)", "no address in a message of ours");
}
