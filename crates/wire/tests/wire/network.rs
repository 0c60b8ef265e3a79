//! Links, IP headers, tunnels: what they carry is found, and why there is nothing is said.
use crate::make::{
    A, ACK, B, ETHERNET, RAW, SECOND, SYN, Talk, Tape, Tcp, ethernet, ipv4, ipv6, packet, tcp, udp, udp4, v6,
};
use bunker_wire::Packet;
use bunker_wire::event::Address;
use bunker_wire::ip::{self, transport_checksum_ok};
use bunker_wire::limits::Limits;
use bunker_wire::link::{self, Skip};
use bunker_wire::tracker::{Checksums, Tracker};
use proptest::prelude::*;

const PAYLOAD: &[u8] = b"carried";

fn inner() -> Vec<u8> {
    udp4((1_000, 2_000), PAYLOAD)
}

fn with(head: &[u8], tail: &[u8]) -> Vec<u8> {
    [head, tail].concat()
}

/// Every link type with an IP packet in it.
fn links() -> Vec<(&'static str, u16, Vec<u8>)> {
    let ip = inner();
    let mac = [2_u8, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let snap = with(&[0xAA, 0xAA, 3, 0, 0, 0, 8, 0], &ip);
    let mut wifi = vec![0x08, 0, 0, 0];
    wifi.extend_from_slice(&[0; 20]);
    wifi.extend_from_slice(&snap);
    let mut quality = vec![0x88, 0, 0, 0];
    quality.extend_from_slice(&[0; 22]);
    quality.extend_from_slice(&snap);
    let mut cooked = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
    cooked.extend_from_slice(&ip);
    let mut cooked2 = vec![8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    cooked2.extend_from_slice(&ip);
    let pppoe = |length: usize| with(&[0x11, 0, 0, 1, 0, length as u8, 0, 0x21], &ip);
    vec![
        ("ethernet", ETHERNET, ethernet(0x0800, &ip)),
        ("vlan", ETHERNET, ethernet(0x8100, &with(&[0, 5, 8, 0], &ip))),
        ("QinQ", ETHERNET, ethernet(0x88A8, &with(&[0, 5, 0x81, 0, 0, 6, 8, 0], &ip))),
        ("MPLS", ETHERNET, ethernet(0x8847, &with(&[0, 0, 0x10, 64, 0, 0, 0x21, 64], &ip))),
        ("MPLS pseudowire", ETHERNET, ethernet(0x8847, &with(&[0, 0, 0x11, 64, 0, 0, 0, 0], &ethernet(0x0800, &ip)))),
        ("PPPoE", ETHERNET, ethernet(0x8864, &pppoe(ip.len() + 2))),
        ("802.3 SNAP", ETHERNET, with(&with(&mac, &(snap.len() as u16).to_be_bytes()), &snap)),
        ("NSH", ETHERNET, ethernet(0x894F, &with(&[0, 2, 1, 1, 0, 0, 0, 0], &ip))),
        ("raw", RAW, ip.clone()),
        ("raw IPv4", 228, ip.clone()),
        ("BSD loopback", 0, with(&[2, 0, 0, 0], &ip)),
        ("OpenBSD loopback", 108, with(&[0, 0, 0, 2], &ip)),
        ("PPP", 9, with(&[0xFF, 3, 0, 0x21], &ip)),
        ("PPP, compressed protocol", 9, with(&[0x21], &ip)),
        ("Cisco HDLC", 104, with(&[0x0F, 0, 8, 0], &ip)),
        ("cooked", 113, cooked),
        ("cooked 2", 276, cooked2),
        ("802.11", 105, wifi.clone()),
        ("802.11 with quality of service", 105, quality),
        ("radiotap", 127, with(&[0, 0, 8, 0, 0, 0, 0, 0], &wifi)),
        ("PPI", 192, with(&[0, 0, 8, 0, 1, 0, 0, 0], &ethernet(0x0800, &ip))),
        ("NFLOG", 239, with(&[2, 0, 0, 0, 8, 0, 1, 0, 9, 9, 9, 9, (ip.len() + 4) as u8, 0, 9, 0], &ip)),
    ]
}

#[test]
fn ip_is_found_in_every_link() {
    for (name, linktype, bytes) in links() {
        let mut tape = Tape::default();
        let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], Checksums::Verify);
        tracker.feed(&packet(&bytes, linktype, SECOND), &mut tape);
        assert_eq!(tape.datagrams(), [PAYLOAD], "{name}");
    }
}

#[test]
fn link_cut_anywhere_is_said_to_be_cut_and_never_more() {
    for (name, linktype, bytes) in links() {
        let head = bytes.len() - inner().len();
        for length in 0..bytes.len() {
            let found = link::link(&packet(&bytes[..length], linktype, 0), 24).map(|link| link.ip.len());
            match found {
                Ok(left) => assert!(length > head && left == length - head, "{name} cut to {length}"),
                Err(skip) => assert!(
                    length <= head && matches!(skip, Skip::Truncated | Skip::NonIp),
                    "{name} cut to {length}: {skip:?}"
                ),
            }
        }
    }
}

proptest! {
    #![proptest_config(crate::make::cases(256))]

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), linktype in 0_u16..300, kind in any::<u16>()) {
        let mut tape = Tape::default();
        let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], Checksums::Ignore);
        tracker.feed(&packet(&bytes, linktype, SECOND), &mut tape);
        tracker.feed(&packet(&ethernet(kind, &bytes), ETHERNET, SECOND), &mut tape);
        for protocol in [0, 4, 6, 17, 43, 44, 47, 58, 60] {
            tracker.feed(&packet(&ipv4(A, B, protocol, &bytes), RAW, SECOND), &mut tape);
            tracker.feed(&packet(&ipv6(protocol, &bytes), RAW, SECOND), &mut tape);
        }
        for port in [2_152, 3_544, 4_789, 5_072, 6_081] {
            tracker.feed(&packet(&udp4((port, port), &bytes), RAW, SECOND), &mut tape);
        }
        tracker.finish(&mut tape);
        prop_assert_eq!(tracker.counters().by_fate(), tracker.counters().received);
    }
}

#[test]
fn what_is_no_ip_is_counted_by_kind() {
    let cases: [(&str, u16, Vec<u8>, fn(&bunker_wire::tracker::Counters) -> u64); 8] = [
        ("ARP", ETHERNET, ethernet(0x0806, &[0; 28]), |counters| counters.arp),
        ("LLDP", ETHERNET, ethernet(0x88CC, &[0; 28]), |counters| counters.non_ip),
        ("spanning tree", ETHERNET, ethernet(38, &[0x42, 0x42, 3, 0, 0]), |counters| counters.non_ip),
        ("short", ETHERNET, vec![0; 13], |counters| counters.truncated),
        ("unknown link", 9_999, vec![0; 60], |counters| counters.unknown_link),
        ("header of 16 bytes", RAW, with(&[0x44], &inner()[1..]), |counters| counters.malformed),
        ("length below the header's", RAW, with(&[0x45, 0, 0, 19], &inner()[4..]), |counters| counters.malformed),
        ("IP of version 5", RAW, with(&[0x55], &inner()[1..]), |counters| counters.non_ip),
    ];
    for (name, linktype, bytes, counter) in cases {
        let mut tape = Tape::default();
        let mut tracker = Tracker::new(Limits::default(), 0, [1; 16], Checksums::Verify);
        tracker.feed(&packet(&bytes, linktype, SECOND), &mut tape);
        assert_eq!(counter(&tracker.counters()), 1, "{name}: {:?}", tracker.counters());
        assert_eq!(tape.events, []);
    }
}

#[test]
fn wrong_ip_checksum_is_counted() {
    let mut bytes = inner();
    bytes[8] ^= 1;
    let mut talk = Talk::new(Limits::default());
    talk.raw(&bytes);
    assert_eq!((talk.tracker.counters().bad_checksum, talk.tape.events.len()), (1, 0));
}

#[test]
fn vlan_identifiers_are_kept_outer_first() {
    let tagged = ethernet(0x88A8, &with(&[0xE0, 5, 0x81, 0, 0, 6, 8, 0], &inner()));
    let plain = ethernet(0x0800, &inner());
    let one = Packet { vlan: Some((0x2007, 0x8100)), ..packet(&plain, ETHERNET, 1) };
    let three = Packet { vlan: Some((0x0004, 0x88A8)), ..packet(&tagged, ETHERNET, 1) };
    assert_eq!(link::link(&packet(&tagged, ETHERNET, 1), 24).unwrap().vlan, [Some(5), Some(6)]);
    assert_eq!(link::link(&one, 24).unwrap().vlan, [Some(7), None]);
    assert_eq!(link::link(&three, 24).unwrap().vlan, [Some(4), Some(5)]);
}

#[test]
fn headers_are_read_up_to_the_limit() {
    let limit = Limits::default().headers;
    for (tags, found) in [(limit as usize - 2, true), (limit as usize - 1, false)] {
        let mut bytes = ethernet(0x8100, b"");
        for tag in 0..tags {
            bytes.extend_from_slice(if tag + 1 == tags { &[0, 1, 8, 0] } else { &[0, 1, 0x81, 0] });
        }
        bytes.extend_from_slice(&inner());
        let result = link::link(&packet(&bytes, ETHERNET, 1), limit - 1).map(|link| link.ip.len());
        // Ethernet, the tags, IP: each is one step.
        assert_eq!(result.is_ok(), tags + 2 <= limit as usize - 1, "{tags} tags, {found}");
        if result.is_err() {
            assert_eq!(result, Err(Skip::TooDeep));
        }
    }
}

fn extensions(count: usize, kind: u8) -> Vec<u8> {
    let mut payload = Vec::new();
    for number in 0..count {
        payload.extend_from_slice(&[if number + 1 == count { 17 } else { kind }, 0, 1, 4, 0, 0, 0, 0]);
    }
    payload.extend_from_slice(&udp(&v6(1), &v6(2), (1_000, 2_000), PAYLOAD));
    ipv6(if count == 0 { 17 } else { kind }, &payload)
}

#[test]
fn ipv6_extension_headers_are_walked_up_to_the_limit() {
    for kind in [0, 60, 43, 135, 139, 140] {
        for count in [0, 1, 5, 24] {
            let bytes = extensions(count, kind);
            let found = ip::ip(&bytes, 24).unwrap();
            assert_eq!((found.protocol, found.payload.len()), (17, 8 + PAYLOAD.len()), "{count} of {kind}");
        }
        assert_eq!(ip::ip(&extensions(25, kind), 24).map(|ip| ip.protocol), Err(Skip::TooDeep), "25 of {kind}");
    }
    let fragment = [17, 0, 0, 1, 0, 0, 0, 1];
    let mut atomic = Vec::new();
    for _ in 0..25 {
        atomic.extend_from_slice(&[44, 0, 0, 0, 0, 0, 0, 1]);
    }
    atomic.extend_from_slice(&fragment);
    assert_eq!(ip::ip(&ipv6(44, &atomic), 24).map(|ip| ip.protocol), Err(Skip::TooDeep));
}

#[test]
fn padding_is_not_payload_and_missing_bytes_are_not_made_up() {
    let bytes = inner();
    let padded = with(&bytes, &[0; 18]);
    let found = ip::ip(&padded, 24).unwrap();
    assert_eq!((found.payload.len(), found.payload_len), (bytes.len() - 20, bytes.len() - 20));
    let cut = ip::ip(&bytes[..25], 24).unwrap();
    assert_eq!((cut.payload.len(), cut.payload_len, cut.total_len), (5, bytes.len() - 20, bytes.len()));
}

#[test]
fn length_of_zero_is_what_was_captured() {
    let mut bytes = inner();
    bytes[2..4].copy_from_slice(&[0, 0]);
    assert_eq!(ip::ip(&bytes, 24).unwrap().payload_len, bytes.len() - 20);
    let mut six = ipv6(17, &udp(&v6(1), &v6(2), (1, 2), PAYLOAD));
    six[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(ip::ip(&six, 24).unwrap().payload_len, 8 + PAYLOAD.len());
}

#[test]
fn jumbo_option_gives_the_length() {
    let datagram = vec![5; 70_000];
    let mut payload = vec![99, 0, 0xC2, 4];
    payload.extend_from_slice(&(70_008_u32).to_be_bytes());
    payload.extend_from_slice(&datagram);
    let mut bytes = ipv6(0, &payload[..8]);
    bytes[4..6].copy_from_slice(&[0, 0]);
    bytes.extend_from_slice(&datagram);
    bytes.extend_from_slice(&[0; 4]);
    let found = ip::ip(&bytes, 24).unwrap();
    assert_eq!((found.protocol, found.payload.len(), found.payload_len), (99, 70_000, 70_000));
}

#[test]
fn routing_header_names_the_final_destination() {
    for (kind, left, last) in [(0, 1, 9), (2, 1, 9), (0, 0, 2), (4, 1, 2)] {
        let mut payload = vec![17, 2, kind, left, 0, 0, 0, 0];
        payload.extend_from_slice(&v6(9));
        payload.extend_from_slice(&udp(&v6(1), &v6(last), (1, 2), PAYLOAD));
        let bytes = ipv6(43, &payload);
        let found = ip::ip(&bytes, 24).unwrap();
        assert_eq!(found.destination, Address(v6(last)), "type {kind}, {left} left");
        assert!(transport_checksum_ok(found.source, found.destination, 17, found.payload));
    }
}

proptest! {
    #![proptest_config(crate::make::cases(256))]

    #[test]
    fn sum_is_the_one_of_rfc_1071(bytes in prop::collection::vec(any::<u8>(), 0..70), start in 0_u32..0x2_0000) {
        let mut naive = u64::from(start);
        for pair in bytes.chunks(2) {
            naive += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        while naive > 0xFFFF {
            naive = (naive & 0xFFFF) + (naive >> 16);
        }
        prop_assert_eq!(u64::from(ip::sum(&bytes, start)), naive);
    }
}

/// Each tunnel around `inner`.
fn tunnels(inner: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let over_udp = |ports, payload: &[u8]| ipv4(A, B, 17, &udp(&A, &B, ports, payload));
    let frame = ethernet(0x0800, inner);
    vec![
        ("IP in IP", ipv4(A, B, 4, inner)),
        ("IPv4 in IPv6", ipv6(4, inner)),
        ("GRE", ipv4(A, B, 47, &with(&[0, 0, 8, 0], inner))),
        ("GRE with key and sequence", ipv4(A, B, 47, &with(&[0x30, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 2], inner))),
        ("GRE, transparent bridging", ipv4(A, B, 47, &with(&[0, 0, 0x65, 0x58], &frame))),
        (
            "PPTP",
            ipv4(
                A,
                B,
                47,
                &with(&[0x30, 0x81, 0x88, 0x0B, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 3, 0, 0x21], inner),
            ),
        ),
        ("ERSPAN II", ipv4(A, B, 47, &with(&[0x10, 0, 0x88, 0xBE, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0], &frame))),
        ("VXLAN", over_udp((5_555, 4_789), &with(&[8, 0, 0, 0, 0, 0, 1, 0], &frame))),
        ("Geneve", over_udp((5_555, 6_081), &with(&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 0, 0, 0, 0], &frame))),
        ("GTP-U", over_udp((2_152, 2_152), &with(&[0x30, 0xFF, 0, inner.len() as u8, 0, 0, 0, 1], inner))),
        (
            "GTP-U with an extension",
            over_udp((2_152, 2_152), &with(&[0x34, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0], inner)),
        ),
    ]
}

#[test]
fn packets_inside_tunnels_are_found_with_their_outer_flow() {
    for (name, bytes) in tunnels(&inner()) {
        let mut talk = Talk::new(Limits::default());
        talk.raw(&bytes);
        assert_eq!(talk.tape.datagrams().last().map(Vec::as_slice), Some(PAYLOAD), "{name}");
        let flows = &talk.tape.flows;
        assert_eq!(flows.last().unwrap().orig.port, 1_000, "{name}");
        assert_eq!(flows.last().unwrap().maybe_outer, (flows.len() > 1).then(|| flows[0].uid), "{name}");
    }
}

#[test]
fn tunnel_cut_anywhere_makes_no_false_datagram() {
    for (name, bytes) in tunnels(&inner()) {
        for length in 20..bytes.len() {
            let mut talk = Talk::new(Limits::default());
            talk.raw_of(&bytes[..length], bytes.len() as u32);
            let found = talk.tape.flows.iter().filter(|flow| flow.orig.port == 1_000).count();
            if found == 1 {
                let told = talk.tape.datagrams();
                assert!(PAYLOAD.starts_with(told.last().unwrap()), "{name} cut to {length}");
            }
        }
    }
}

#[test]
fn teredo_carries_ipv6() {
    let six = ipv6(17, &udp(&v6(1), &v6(2), (1_000, 2_000), PAYLOAD));
    for head in [&[][..], &[0, 0, 1, 2, 3, 4, 5, 6], &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut talk = Talk::new(Limits::default());
        talk.raw(&ipv4(A, B, 17, &udp(&A, &B, (5_555, 3_544), &with(head, &six))));
        assert_eq!(talk.tape.datagrams().last().map(Vec::as_slice), Some(PAYLOAD));
    }
}

#[test]
fn tunnels_are_entered_up_to_the_limit() {
    let limit = Limits::default().tunnels as usize;
    for (depth, udp_found, too_deep) in [(limit, 1, 0), (limit + 1, 0, 1)] {
        let mut bytes = inner();
        for _ in 0..depth {
            bytes = ipv4(A, B, 4, &bytes);
        }
        let mut talk = Talk::new(Limits::default());
        talk.raw(&bytes);
        assert_eq!((talk.tracker.counters().udp, talk.tracker.counters().too_deep), (udp_found, too_deep), "{depth}");
    }
}

#[test]
fn what_only_looks_like_a_tunnel_is_a_datagram() {
    let mut talk = Talk::new(Limits::default());
    talk.raw(&udp4((5_555, 4_789), &[8, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3]));
    assert_eq!((talk.tracker.counters().udp, talk.tape.flows.len()), (1, 1));
}

#[test]
fn lane_is_the_same_for_both_directions_and_all_fragments() {
    use bunker_wire::flowhash::{Seed, lane_of};
    let seed = Seed::new([7; 16]);
    let mut used = std::collections::HashSet::new();
    for last in 0..64_u8 {
        let other = [198, 51, 100, last];
        let head = Tcp { ports: (1, 2), seq: 0, ack: 0, flags: SYN, window: 0, payload: b"" };
        let packets = [
            ipv4(A, other, 6, &tcp(&A, &other, head)),
            ipv4(other, A, 6, &tcp(&other, &A, Tcp { flags: SYN | ACK, ..head })),
            ipv4(A, other, 17, &udp(&A, &other, (9, 10), b"x")),
            crate::make::ipv4_fragment(other, A, 17, b"12345678", 1, 8, false),
        ];
        let lanes: Vec<u16> = packets.iter().map(|bytes| lane_of(&packet(bytes, RAW, 0), seed, 4)).collect();
        assert!(lanes.iter().all(|lane| *lane == lanes[0] && *lane < 4));
        used.insert(lanes[0]);
    }
    assert_eq!(used.len(), 4, "all lanes are used");
    assert_eq!(lane_of(&packet(b"no packet", RAW, 0), seed, 4), 0);
}
