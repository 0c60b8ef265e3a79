//! Packets in bursts come out as one after another; ranks of time stamps are those of a list that remembers all it may.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod words;

use std::collections::VecDeque;

use bunker_clear::Keys;
use bunker_clear::trace::Trace;
use bunker_clear::trace::burst::{BURST, Burst};
use bunker_clear::trace::decode::decode;
use bunker_clear::trace::facts::Facts;
use bunker_clear::trace::file::Format;
use bunker_clear::trace::ranks::{NEAR, Ranks, STAMPS};
use bunker_clear::trace::rules::Rules;
use bunker_wire::packet::Packet;
use proptest::prelude::*;

fn trace() -> Trace {
    Trace::new(Rules::of(words::ALL.iter().copied()).unwrap(), Keys::new(&mut [7; 32]), None)
}

/// A segment with a time stamp between two of eight hosts; every seventh frame is cut in its headers.
fn frame(number: usize) -> Vec<u8> {
    let (client, clock) = (u8::try_from(number % 8).unwrap(), u32::try_from(number).unwrap());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 52, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, client, 203, 0, 113, 1]);
    frame.extend([0x9C, client, 1, 0xBB]);
    frame.extend(clock.wrapping_mul(100).to_be_bytes());
    frame.extend([0, 0, 0, 9, 0x80, 0x10, 2, 0, 0, 0, 0, 0, 1, 1, 8, 10]);
    frame.extend((1_000 + clock / 3).to_be_bytes());
    frame.extend([0, 0, 0, 1]);
    frame.truncate(if number % 7 == 6 { 40 } else { frame.len() });
    frame
}

fn packet(captured: &[u8], number: usize) -> Packet<'_> {
    Packet {
        ts_ns: 1_700_000_000_000_000_000 + u64::try_from(number).unwrap(),
        captured,
        wire_len: 66,
        linktype: 1,
        vlan: None,
        checksum_not_ready: false,
    }
}

#[test]
fn a_burst_comes_out_as_its_packets_do_one_by_one() {
    for count in [0, 1, BURST - 1, BURST, BURST + 1, 5 * BURST + 3] {
        let (mut alone, mut together) = (trace(), trace());
        let mut burst = Burst::new(Format::Pcapng);
        let (mut expected, mut out, mut facts) = (Vec::new(), Vec::new(), Facts::default());
        for number in 0..count {
            let frame = frame(number);
            let start = Format::Pcapng.open(&mut expected);
            decode(&packet(&frame, number), &mut facts);
            match alone.clear(packet(&frame, number).ts_ns, &facts, &mut expected, &mut ()) {
                Some(cleared) => Format::Pcapng.close(&mut expected, start, cleared.ts_ns, cleared.wire_len),
                None => expected.truncate(start),
            }
            burst.take(&packet(&frame, number), &mut together, &mut out);
        }
        burst.flush(&mut together, &mut out);
        assert_eq!(out, expected, "{count} packets");
        assert_eq!(alone.counts(), together.counts());
        burst.flush(&mut together, &mut out);
        assert_eq!(out, expected, "nothing waits behind a flush");
    }
}

/// What ranks are, written as plainly as it can be: values with their ranks, the oldest forgotten above `most`.
struct Model {
    known: VecDeque<(u32, u32)>,
    most: usize,
}

impl Model {
    fn of(&mut self, value: u32) -> u32 {
        let Some((newest, last)) = self.known.back().copied() else {
            self.known.push_back((value, 1));
            return 1;
        };
        if let Some((_, rank)) = self.known.iter().find(|(known, _)| *known == value) {
            return *rank;
        }
        if value.wrapping_sub(newest) < 1 << 31 {
            self.known.push_back((value, last + 1));
            if self.known.len() > self.most {
                self.known.pop_front();
            }
            return last + 1;
        }
        self.known.iter().find(|(known, _)| known.wrapping_sub(value) < 1 << 31).map_or(last, |(_, rank)| *rank)
    }
}

proptest! {
    #[test]
    fn ranks_are_those_of_a_list(start: u32, steps in prop::collection::vec(-70_i32..200, 1..400), far: bool) {
        let most = if far { STAMPS } else { NEAR };
        let (mut ranks, mut room) = (Ranks::default(), usize::from(far));
        let mut model = Model { known: VecDeque::new(), most };
        let mut value = start;
        for step in steps {
            value = value.wrapping_add_signed(step);
            prop_assert_eq!(ranks.of(value, &mut room), model.of(value));
            for (known, rank) in &model.known {
                prop_assert_eq!(ranks.known(*known), *rank);
            }
        }
        prop_assert_eq!(ranks.known(value.wrapping_sub(1 << 30)), 0);
        // What took memory gives it back, and begins anew.
        prop_assert_eq!(ranks.forget(), far && room == 0);
        prop_assert_eq!(ranks.of(value, &mut room), 1);
    }
}
