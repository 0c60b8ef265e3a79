//! What flows cost: CPU time a packet with 10³ to 10⁶ of them alive at once, and memory of an idle one.
//!
//! Each flow has a handshake, a request and an answer; then packets of data go to all flows in a scattered order, so that each packet
//! finds its flow cold once there are more than the caches hold. As the engine does, the tracker is shown the packets a little ahead
//! when there are many flows (not with a second argument, `--blind`). One number of flows a process: memory is what the kernel says of it.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // a measurement
#![allow(clippy::cast_possible_truncation, clippy::disallowed_methods)] // it reads its own time and memory, around the pure crate
use bunker_wire::Packet;
use bunker_wire::event::{Direction, Flow, FlowSummary, Outcome, Sink};
use bunker_wire::ip::sum;
use bunker_wire::limits::Limits;
use bunker_wire::tracker::{AHEAD, COLD_FLOWS, Checksums, Tracker};

struct Bytes(u64);

impl Sink for Bytes {
    fn flow_opened(&mut self, _: &Flow) {}
    fn roles_flipped(&mut self, _: &Flow) {}
    fn chunk(&mut self, _: &Flow, _: Direction, payload: &[u8], _: u64) {
        self.0 += payload.len() as u64;
    }
    fn gap(&mut self, _: &Flow, _: Direction, _: u64, _: u64) {}
    fn direction_ended(&mut self, _: &Flow, _: Direction, _: u64) {}
    fn datagram(&mut self, _: &Flow, _: Direction, _: &[u8], _: usize, _: u64) {}
    fn flow_closed(&mut self, _: &Flow, _: &FlowSummary, _: Outcome) {}
}

/// An Ethernet frame with a segment of flow `number`; its checksums are right.
fn frame(out: &mut [u8; 154], number: u32, back: bool, seq: u32, ack: u32, flags: u8, length: usize) -> usize {
    let client = [10, (number >> 16) as u8, (number >> 8) as u8, number as u8];
    let server = [192, 0, 2, (number % 200) as u8];
    let (source, destination, ports) =
        if back { (server, client, [80, 40_000_u16]) } else { (client, server, [40_000, 80]) };
    out.fill(0);
    out[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    let total = 40 + length;
    out[16..18].copy_from_slice(&(total as u16).to_be_bytes());
    out[22..24].copy_from_slice(&[64, 6]);
    out[26..30].copy_from_slice(&source);
    out[30..34].copy_from_slice(&destination);
    let checksum = !sum(&out[14..34], 0);
    out[24..26].copy_from_slice(&checksum.to_be_bytes());
    out[34..36].copy_from_slice(&ports[0].to_be_bytes());
    out[36..38].copy_from_slice(&ports[1].to_be_bytes());
    out[38..42].copy_from_slice(&seq.to_be_bytes());
    out[42..46].copy_from_slice(&ack.to_be_bytes());
    out[46..50].copy_from_slice(&[0x50, flags, 4, 0]);
    out[54..54 + length].fill(b'x');
    let pseudo = u32::from(sum(&source, 0)) + u32::from(sum(&destination, 0)) + 6 + (20 + length) as u32;
    let checksum = !sum(&out[34..14 + total], pseudo);
    out[50..52].copy_from_slice(&checksum.to_be_bytes());
    14 + total
}

fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

const fn packet(bytes: &[u8; 154], length: usize, ts_ns: u64) -> Packet<'_> {
    Packet {
        ts_ns,
        captured: bytes.split_at(length).0,
        wire_len: length as u32,
        linktype: 1,
        vlan: None,
        checksum_not_ready: false,
    }
}

/// The flow that comes at `place`: each once in a round, none near the one before.
const fn scattered(place: u32, flows: u32) -> u32 {
    ((place as u64 * 611_953) % flows as u64) as u32
}

fn main() {
    let flows: u32 = std::env::args().nth(1).map_or(1_000, |text| text.parse().unwrap());
    let limits = Limits { flows: flows + 1, ..Limits::default() };
    let mut tracker = Tracker::new(limits, 0, [7; 16], Checksums::Verify);
    let mut sink = Bytes(0);
    let mut bytes = [0; 154];
    let mut now = 1_000_000_000;
    let blind = std::env::args().nth(2).is_some_and(|word| word == "--blind");
    let mut feed = |tracker: &mut Tracker, number, back, seq, ack, flags, length| {
        let length = frame(&mut bytes, number, back, seq, ack, flags, length);
        now += 10;
        tracker.feed(&packet(&bytes, length, now), &mut sink);
    };
    let empty = resident_bytes();
    for number in 0..flows {
        feed(&mut tracker, number, false, 99, 0, 2, 0);
        feed(&mut tracker, number, true, 499, 100, 18, 0);
        feed(&mut tracker, number, false, 100, 500, 16, 0);
    }
    let shaken = resident_bytes();
    for number in 0..flows {
        feed(&mut tracker, number, false, 100, 500, 16, 100);
        feed(&mut tracker, number, true, 500, 200, 16, 100);
    }
    let talked = resident_bytes();
    let (mut frames, mut later, mut data) = ([[0; 154]; AHEAD], 2_000_000_000_u64, Bytes(0));
    // What the generator costs without the tracker is subtracted.
    let rounds = (2_000_000 / flows).max(2);
    let (mut spent, mut idle) = (u64::MAX, u64::MAX);
    for turn in 0..3 {
        let before = cpu_ns();
        for round in 0..rounds {
            let seq = 200 + (turn * rounds + round) * 100;
            for start in (0..flows).step_by(AHEAD) {
                let count = AHEAD.min((flows - start) as usize);
                for (place, frames) in frames.iter_mut().take(count).enumerate() {
                    frame(frames, scattered(start + place as u32, flows), false, seq, 600, 16, 100);
                }
                let burst = frames.iter().take(count).map(|bytes| packet(bytes, 154, later));
                if flows as usize >= COLD_FLOWS && !blind {
                    let mut slots = [None; AHEAD];
                    for (slot, packet) in slots.iter_mut().zip(burst.clone()) {
                        *slot = tracker.expect(&packet);
                    }
                    tracker.glance(&slots);
                }
                for packet in burst {
                    tracker.feed(&packet, &mut data);
                }
                later += 160;
            }
        }
        spent = spent.min(cpu_ns() - before);
        let before = cpu_ns();
        let mut scratch = [0; 154];
        for round in 0..rounds {
            for number in 0..flows {
                std::hint::black_box(frame(&mut scratch, scattered(number, flows), false, round, 600, 16, 100));
            }
        }
        idle = idle.min(cpu_ns() - before);
    }
    let packets = u64::from(rounds) * u64::from(flows);
    println!(
        "{flows} flows: {} ns a packet ({} with making it), {} bytes a flow after the handshake, {} after an exchange",
        spent.saturating_sub(idle) / packets,
        spent / packets,
        (shaken - empty) / u64::from(flows),
        (talked - empty) / u64::from(flows),
    );
}
