//! What a header trace costs: `cargo run --release -p bunker-clear --example header_trace -- FILE` clears a capture file with every rule
//! on and prints packets, seconds of user time (of one pass, reading included), and packets a second. For a profiler, not for a result:
//! `bunker bench clear` measures the command as it is used.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use std::time::Instant;

use bunker_clear::Keys;
use bunker_clear::trace::Trace;
use bunker_clear::trace::file::Format;
use bunker_clear::trace::rules::Rules;
use bunker_wire::capfile::CaptureFile;
use bunker_wire::packet::Packet;

type Word = (&'static str, &'static str, &'static [u64]);

const ALL: &[Word] = &[
    ("time", "shift+grain", &[1_000_000]),
    ("wirelen", "bucket", &[64, 128, 256, 512, 1024, 1500]),
    ("truncated", "emit-parsed-prefix", &[]),
    ("unknown_ip_proto", "l3-only", &[]),
    ("fragments", "first-only", &[]),
    ("addresses", "pfx", &[]),
    ("services.tcp", "list", &[22, 25, 80, 443]),
    ("services.udp", "list", &[53]),
    ("eth.src", "tag48", &[]),
    ("eth.dst", "tag48", &[]),
    ("eth.type", "allow", &[4, 6, 1]),
    ("eth.vlan", "tag", &[]),
    ("arp", "on", &[]),
    ("arp.op", "allow", &[1, 2]),
    ("arp.sha", "tag48", &[]),
    ("arp.tha", "tag48", &[]),
    ("arp.spa", "map", &[]),
    ("arp.tpa", "map", &[]),
    ("ipv4", "on", &[]),
    ("ipv4.src", "map", &[]),
    ("ipv4.dst", "map", &[]),
    ("ipv4.tos", "ecn-only", &[]),
    ("ipv4.id", "if-fragment", &[]),
    ("ipv4.flags", "keep", &[]),
    ("ipv4.ttl", "hops", &[]),
    ("ipv4.options", "allow", &[0, 1]),
    ("ipv4.checksum", "validity", &[]),
    ("ipv6", "on", &[]),
    ("ipv6.src", "map", &[]),
    ("ipv6.dst", "map", &[]),
    ("ipv6.traffic_class", "ecn-only", &[]),
    ("ipv6.flow_label", "tag", &[]),
    ("ipv6.hop_limit", "hops", &[]),
    ("ipv6.fragment", "on", &[]),
    ("ipv6.ext_headers", "stop-parse", &[]),
    ("tcp", "on", &[]),
    ("tcp.sport", "shuffle", &[]),
    ("tcp.dport", "shuffle", &[]),
    ("tcp.seq", "flow_offset", &[]),
    ("tcp.ack", "flow_offset", &[]),
    ("tcp.flags", "keep", &[]),
    ("tcp.window", "bucket", &[]),
    ("tcp.checksum", "validity", &[]),
    ("tcp.options", "allow", &[0, 1, 4]),
    ("tcp.options.sack", "flow_offset", &[]),
    ("tcp.options.ts", "flow_rank", &[]),
    ("tcp.options.mss", "bucket", &[]),
    ("udp", "on", &[]),
    ("udp.sport", "shuffle", &[]),
    ("udp.dport", "shuffle", &[]),
    ("udp.checksum", "validity", &[]),
    ("icmp.types", "allow", &[0, 3, 8, 11]),
    ("icmp.echo_id", "flow_tag16", &[]),
    ("icmp.echo_seq", "rel", &[]),
    ("icmp.quoted", "recurse", &[]),
    ("icmp.checksum", "validity", &[]),
    ("icmpv6.types", "allow", &[1, 2, 3, 128, 129, 135, 136]),
    ("icmpv6.quoted", "recurse", &[]),
    ("icmpv6.nd_target", "map", &[]),
    ("icmpv6.nd_lladdr", "tag48", &[]),
    ("icmpv6.checksum", "validity", &[]),
];

fn main() {
    let path = std::env::args().nth(1).expect("a capture file");
    let bytes = std::fs::read(path).expect("a file that can be read");
    let rules = Rules::of(ALL.iter().copied()).unwrap();
    let mut trace = Trace::new(rules, Keys::new(&mut [7; 32]), None);
    let mut file = CaptureFile::new();
    let (mut out, mut packets, mut written) = (Vec::new(), 0_u64, 0_u64);
    let start = Instant::now();
    let mut take = |packet: &Packet<'_>, _: u32, out: &mut Vec<u8>| {
        packets = packets.saturating_add(1);
        let begin = Format::Pcapng.open(out);
        match trace.clear_packet(packet, out) {
            Some(cleared) => Format::Pcapng.close(out, begin, cleared.ts_ns, cleared.wire_len),
            None => out.truncate(begin),
        }
    };
    for piece in bytes.chunks(1 << 20) {
        out.clear();
        let _ = file.feed(piece, &mut |packet, at| take(packet, at, &mut out));
        written = written.saturating_add(out.len() as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let rate = packets as f64 / seconds;
    println!("{packets} packets, {written} bytes, {seconds:.3} s, {rate:.0} packets/s");
}
