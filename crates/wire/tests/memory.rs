//! What a living flow costs in memory, counted allocation by allocation: the numbers of `docs/architecture.md`.
//!
//! A crate of its own, because the counting allocator is the whole program's; one test, so that nothing else allocates meanwhile.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::cast_possible_truncation)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bunker_wire::Packet;
use bunker_wire::event::{Direction, Flow, FlowSummary, Outcome, Sink};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::{Checksums, Tracker};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// What glibc's malloc takes for it: eight bytes of its own, in steps of sixteen, 32 at least.
fn taken(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: hands everything to the system's allocator and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(taken(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(taken(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Nobody;

impl Sink for Nobody {
    fn flow_opened(&mut self, _: &Flow) {}
    fn roles_flipped(&mut self, _: &Flow) {}
    fn chunk(&mut self, _: &Flow, _: Direction, _: &[u8], _: u64) {}
    fn gap(&mut self, _: &Flow, _: Direction, _: u64, _: u64) {}
    fn direction_ended(&mut self, _: &Flow, _: Direction, _: u64) {}
    fn datagram(&mut self, _: &Flow, _: Direction, _: &[u8], _: usize, _: u64) {}
    fn flow_closed(&mut self, _: &Flow, _: &FlowSummary, _: Outcome) {}
}

/// Raw IPv4 of flow `number`.
fn packet(number: u32, protocol: u8, back: bool, rest: &[u8]) -> Vec<u8> {
    let ends = [(0x0A00_0000 | number, 40_000_u16), (0xC000_0201, 443)];
    let (from, to) = if back { (ends[1], ends[0]) } else { (ends[0], ends[1]) };
    let mut bytes = vec![0x45, 0];
    bytes.extend((24 + rest.len() as u16).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    bytes.extend(from.0.to_be_bytes());
    bytes.extend(to.0.to_be_bytes());
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn tcp(number: u32, back: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut rest = seq.to_be_bytes().to_vec();
    rest.extend(ack.to_be_bytes());
    rest.extend([0x50, flags, 0xFF, 0, 0, 0, 0, 0]);
    rest.extend(payload);
    packet(number, 6, back, &rest)
}

/// Bytes a flow after `talk` with each of `flows`.
fn bytes_a_flow(flows: u32, talk: impl Fn(u32) -> Vec<Vec<u8>>) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    let limits = Limits { flows: flows + 1, ..Limits::default() };
    let mut tracker = Tracker::new(limits, 0, [1; 16], Checksums::Ignore);
    for number in 0..flows {
        for bytes in talk(number) {
            let wire_len = bytes.len() as u32;
            let fed = Packet {
                ts_ns: 1_000_000_000 + u64::from(number),
                captured: &bytes,
                wire_len,
                linktype: 101,
                vlan: None,
                checksum_not_ready: false,
            };
            tracker.feed(&fed, &mut Nobody);
        }
    }
    assert_eq!(tracker.flows(), flows as usize);
    (LIVE.load(Ordering::Relaxed) - before).div_ceil(flows as usize)
}

#[test]
fn an_idle_flow_takes_no_more_than_four_hundred_bytes() {
    // One more than an index of 2^17 places takes: it has just doubled, which is when it is emptiest.
    let flows = (1 << 17) / 8 * 7 + 1;
    let shaken = bytes_a_flow(flows, |number| {
        vec![
            tcp(number, false, 99, 0, 2, b""),
            tcp(number, true, 499, 100, 18, b""),
            tcp(number, false, 100, 500, 16, b""),
        ]
    });
    let talked = bytes_a_flow(flows, |number| {
        vec![
            tcp(number, false, 99, 0, 2, b""),
            tcp(number, true, 499, 100, 18, b""),
            tcp(number, false, 100, 500, 16, b"asked"),
            tcp(number, true, 500, 105, 16, b"answered"),
        ]
    });
    let datagrams = bytes_a_flow(flows, |number| {
        vec![
            packet(number, 17, false, &[0, 12, 0, 0, 1, 2, 3, 4]),
            packet(number, 17, true, &[0, 12, 0, 0, 1, 2, 3, 4]),
        ]
    });
    assert_eq!(shaken, talked, "data in order leaves nothing behind");
    assert!(talked <= 400, "{talked} bytes a TCP flow");
    assert!(datagrams <= 256, "{datagrams} bytes a UDP flow");
}
