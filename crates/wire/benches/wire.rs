//! criterion benchmarks: decoding, reassembly, flow table. `cargo bench -p bunker-wire`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing
)]
use std::hint::black_box;

use bunker_wire::Packet;
use bunker_wire::event::{Direction, Flow, FlowSummary, Outcome, Sink};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::overlap::{Overlap, Policy};
use bunker_wire::tracker::{AHEAD, COLD_FLOWS, Checksums, Tracker};
use bunker_wire::{ip, link};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

struct Nothing;

impl Sink for Nothing {
    fn flow_opened(&mut self, _: &Flow) {}
    fn roles_flipped(&mut self, _: &Flow) {}
    fn chunk(&mut self, _: &Flow, _: Direction, payload: &[u8], _: u64) {
        black_box(payload);
    }
    fn gap(&mut self, _: &Flow, _: Direction, _: u64, _: u64) {}
    fn direction_ended(&mut self, _: &Flow, _: Direction, _: u64) {}
    fn datagram(&mut self, _: &Flow, _: Direction, _: &[u8], _: usize, _: u64) {}
    fn flow_closed(&mut self, _: &Flow, _: &FlowSummary, _: Outcome) {}
}

/// Ethernet, `tags` VLAN tags, IPv4, TCP.
fn frame(tags: usize, host: u32, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    for _ in 0..tags {
        bytes.extend_from_slice(&[0x81, 0, 0, 7]);
    }
    bytes.extend_from_slice(&[8, 0, 0x45, 0]);
    bytes.extend_from_slice(&(40 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 1, 0, 0, 64, 6, 0, 0, 10]);
    bytes.extend_from_slice(&host.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[192, 0, 2, 1, 156, 64, 0, 80]);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 1, 0x50, flags, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

fn packet(bytes: &[u8], ts_ns: u64) -> Packet<'_> {
    Packet { ts_ns, captured: bytes, wire_len: bytes.len() as u32, linktype: 1, vlan: None, checksum_not_ready: false }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for tags in [0, 2] {
        let bytes = frame(tags, 1, 1, 16, &[0; 100]);
        group.bench_function(BenchmarkId::new("ethernet_ipv4", tags), |bench| {
            bench.iter(|| {
                let found =
                    link::link(black_box(&packet(&bytes, 1)), 24).ok().and_then(|link| ip::ip(link.ip, 24).ok());
                found.map(|ip| ip.payload_len)
            });
        });
    }
    group.finish();
}

/// 1,000 segments of one flow, in the order of `order`.
fn reassemble(policy: Policy, frames: &[Vec<u8>]) {
    let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], Checksums::Ignore).with_overlap(Overlap::all(policy));
    for (number, bytes) in frames.iter().enumerate() {
        tracker.feed(&packet(bytes, 1_000 + number as u64), &mut Nothing);
    }
    tracker.finish(&mut Nothing);
}

fn reassembly(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reassembly");
    group.throughput(Throughput::Elements(1_001));
    let order = |swap: u32| {
        let mut frames = vec![frame(0, 1, 99, 2, b"")];
        frames.extend((0..1_000_u32).map(|number| frame(0, 1, 100 + (number ^ swap) * 100, 16, &[7; 100])));
        frames
    };
    for (name, swap) in [("in_order", 0), ("pairs_swapped", 1), ("eights_reversed", 7)] {
        let frames = order(swap);
        group.bench_function(name, |bench| bench.iter(|| reassemble(Policy::First, &frames)));
    }
    let frames = order(7);
    group.bench_function("eights_reversed_linux", |bench| bench.iter(|| reassemble(Policy::Linux, &frames)));
    group.finish();
}

fn flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flows");
    group.sample_size(10);
    for flows in [1_000_u32, 10_000, 100_000] {
        let syns: Vec<_> = (0..flows).map(|host| frame(0, host, 99, 2, b"")).collect();
        group.throughput(Throughput::Elements(flows.into()));
        group.bench_with_input(BenchmarkId::new("opened_and_closed", flows), &syns, |bench, syns| {
            bench.iter(|| {
                let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], Checksums::Ignore);
                for (number, bytes) in syns.iter().enumerate() {
                    tracker.feed(&packet(bytes, 1_000 + number as u64), &mut Nothing);
                }
                tracker.finish(&mut Nothing);
            });
        });
    }
    group.finish();
}

/// A packet of data to one of so many flows, in a scattered order, shown to the tracker a little ahead as the engine does.
fn among(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("among");
    group.sample_size(10);
    for flows in [1_000_u32, 10_000, 100_000, 1_000_000] {
        let limits = Limits { flows: flows + 1, ..Limits::default() };
        let mut tracker = Tracker::new(limits, 0, [1; 16], Checksums::Ignore);
        for host in 0..flows {
            tracker.feed(&packet(&frame(0, host, 99, 2, b""), 1_000), &mut Nothing);
            tracker.feed(&packet(&frame(0, host, 100, 16, &[7; 50]), 1_001), &mut Nothing);
        }
        let (mut place, mut seq) = (0_u64, 150_u32);
        group.throughput(Throughput::Elements(AHEAD as u64));
        group.bench_function(BenchmarkId::new("data", flows), |bench| {
            bench.iter_batched(
                || {
                    let hosts = (0..AHEAD as u64).map(|next| ((place + next) * 611_953 % u64::from(flows)) as u32);
                    let frames: Vec<_> = hosts.map(|host| frame(0, host, seq, 16, &[7; 50])).collect();
                    place += AHEAD as u64;
                    if place.is_multiple_of(u64::from(flows)) {
                        seq = seq.wrapping_add(50);
                    }
                    frames
                },
                |frames| {
                    if tracker.flows() >= COLD_FLOWS {
                        let slots: Vec<_> = frames.iter().map(|bytes| tracker.expect(&packet(bytes, 2_000))).collect();
                        tracker.glance(&slots);
                    }
                    for bytes in &frames {
                        tracker.feed(&packet(bytes, 2_000), &mut Nothing);
                    }
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(all, decode, reassembly, flows, among);
criterion_main!(all);
