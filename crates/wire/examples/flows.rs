//! Flows of a capture file as JSON lines, or with `--rate N` the CPU time a packet over N turns: to compare and to profile.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a tool for lab traffic
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // it reads a file and its own time, around the pure crate
use std::io::Read as _;

use bunker_wire::capfile::CaptureFile;
use bunker_wire::event::{Direction, Endpoint, Flow, FlowSummary, Outcome, Sink};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::{Checksums, Tracker};
use bunker_wire::{Address, Packet};

struct Lines {
    quiet: bool,
    bytes: u64,
}

fn address(of: Address) -> String {
    match of.maybe_v4() {
        Some([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        None => std::net::Ipv6Addr::from(of.0).to_string(),
    }
}

fn end(name: &str, of: Endpoint) -> String {
    format!("\"id.{name}_h\":\"{}\",\"id.{name}_p\":{}", address(of.address), of.port)
}

impl Sink for Lines {
    fn flow_opened(&mut self, _: &Flow) {}
    fn roles_flipped(&mut self, _: &Flow) {}
    fn chunk(&mut self, _: &Flow, _: Direction, payload: &[u8], _: u64) {
        self.bytes += payload.len() as u64;
    }
    fn gap(&mut self, _: &Flow, _: Direction, _: u64, _: u64) {}
    fn direction_ended(&mut self, _: &Flow, _: Direction, _: u64) {}
    fn datagram(&mut self, _: &Flow, _: Direction, payload: &[u8], _: usize, _: u64) {
        self.bytes += payload.len() as u64;
    }
    fn flow_closed(&mut self, flow: &Flow, summary: &FlowSummary, _: Outcome) {
        if self.quiet {
            return;
        }
        println!(
            "{{\"uid\":{},\"outer_uid\":{},{},{},\"ip_proto\":{},\"conn_state\":\"{}\",\"history\":\"{}\",\
             \"orig_bytes\":{},\"resp_bytes\":{},\"missed_bytes\":{},\"orig_pkts\":{},\"resp_pkts\":{},\"orig_ip_bytes\":{},\
             \"resp_ip_bytes\":{},\"duration\":{}}}",
            flow.uid,
            flow.maybe_outer.unwrap_or(0),
            end("orig", flow.orig),
            end("resp", flow.resp),
            flow.protocol,
            summary.conn_state,
            summary.history,
            summary.payload_bytes[0],
            summary.payload_bytes[1],
            summary.missed_bytes,
            summary.packets[0],
            summary.packets[1],
            summary.ip_bytes[0],
            summary.ip_bytes[1],
            (summary.last_ts_ns - flow.first_ts_ns) as f64 / 1e9,
        );
    }
}

fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mut bytes = Vec::new();
    std::fs::File::open(&arguments[1]).unwrap().read_to_end(&mut bytes).unwrap();
    let turns = arguments.iter().position(|word| word == "--rate").map(|at| arguments[at + 1].parse::<u32>().unwrap());
    let ignore = arguments.iter().any(|word| word == "--ignore");
    let checksums = if ignore { Checksums::Ignore } else { Checksums::Verify };
    let mut packets: Vec<(Vec<u8>, Packet<'static>)> = Vec::new();
    let mut file = CaptureFile::default();
    let mut keep = |packet: &Packet<'_>, _: u32| {
        packets.push((packet.captured.to_vec(), Packet { captured: &[], ..*packet }));
    };
    let _ = file.feed(&bytes, &mut keep).and_then(|()| file.finish(&mut keep));
    let mut lines = Lines { quiet: turns.is_some(), bytes: 0 };
    let before = cpu_ns();
    for _ in 0..turns.unwrap_or(1) {
        let mut tracker = Tracker::new(Limits::default(), 0, [3; 16], checksums);
        for (captured, head) in &packets {
            tracker.feed(&Packet { captured, ..*head }, &mut lines);
        }
        tracker.finish(&mut lines);
    }
    if let Some(turns) = turns {
        let spent = cpu_ns() - before;
        let all = packets.len() as u64 * u64::from(turns);
        println!("{all} packets, {} bytes, {:.1} ns a packet", lines.bytes, spent as f64 / all as f64);
    }
}
