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
        ("Cisco HDLC where PPP may be", 50, with(&[0x0F, 0, 8, 0], &ip)),
        ("PPP multilink", 9, with(&[0xFF, 3, 0, 0x3D, 0xC0, 0, 0, 1, 0x21], &ip)),
        ("token ring", 6, with(&[&[0x10, 0x40][..], &mac, &snap].concat(), &[])),
        (
            "token ring with a route",
            6,
            [&[0x10, 0x40, 1, 2, 3, 4, 5, 6, 0x82][..], &[1; 5], &[4, 0, 0, 0], &snap].concat(),
        ),
        ("SLIP", 8, ip.clone()),
        ("FDDI", 10, [&[0x50][..], &mac, &snap].concat()),
        ("Symantec", 99, [&[0; 6][..], &[8, 0], &[0; 36], &ip].concat()),
        ("ATM", 100, snap.clone()),
        ("ATM, bridged", 100, [&[0xAA, 0xAA, 3, 0, 0x80, 0xC2, 0, 7, 0, 0][..], &ethernet(0x0800, &ip)].concat()),
        ("ATM, IP by its NLPID", 100, with(&[0xFE, 0xFE, 3, 0xCC], &ip)),
        ("ATM, PPP by its NLPID", 100, with(&[0xFE, 0xFE, 3, 0xCF, 0x21], &ip)),
        ("frame relay", 107, with(&[0x18, 0x41, 3, 0xCC], &ip)),
        ("frame relay, padded", 107, with(&[0x18, 0x41, 3, 0, 0xCC], &ip)),
        ("frame relay, SNAP", 107, with(&[0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 8, 0], &ip)),
        (
            "frame relay, bridged",
            107,
            [&[0x18, 0x41, 3, 0, 0x80, 0, 0x80, 0xC2, 0, 7][..], &ethernet(0x0800, &ip)].concat(),
        ),
        ("IPsec", 109, with(&[0; 12], &ip)),
        ("pf", 117, with(&[&[61, 2][..], &[0; 62]].concat(), &ip)),
        ("SunATM", 123, with(&[2, 0, 0, 1], &snap)),
        ("FireWire", 138, [&[0; 16][..], &[8, 0], &ip].concat()),
        ("PPP of pppd", 166, with(&[0, 3, 0, 0x21], &ip)),
        ("ERF", 197, [&[0; 8][..], &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0], &ethernet(0x0800, &ip)].concat()),
        (
            "ERF with an extension",
            197,
            [&[0; 8][..], &[0x82, 0, 0, 0, 0, 0, 0, 0], &[0; 10], &ethernet(0x0800, &ip)].concat(),
        ),
        ("ERF, raw", 197, [&[0; 8][..], &[22, 0, 0, 0, 0, 0, 0, 0], &ip].concat()),
        ("PPP with a direction", 204, with(&[1, 0xFF, 3, 0, 0x21], &ip)),
        ("IPNET", 226, with(&[0; 24], &ip)),
        ("InfiniBand", 242, [&[0; 40][..], &[8, 0, 0, 0], &ip].concat()),
        ("PKTAP", 258, [&[16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &ethernet(0x0800, &ip)].concat()),
        ("preemptible Ethernet", 274, with(&[0x55; 8], &ethernet(0x0800, &ip))),
        ("Broadcom's switch tag", 281, [&mac[..], &[1, 2, 3, 4, 8, 0], &ip].concat()),
        ("Broadcom's switch tag before", 282, with(&[1, 2, 3, 4], &ethernet(0x0800, &ip))),
        ("Marvell's switch tag", 283, [&mac[..], &[1, 2, 3, 4, 8, 0], &ip].concat()),
        ("Marvell's longer switch tag", 284, [&mac[..], &[1, 2, 3, 4, 5, 6, 7, 8, 8, 0], &ip].concat()),
        ("inter-switch link", ETHERNET, isl(&ethernet(0x0800, &ip))),
        ("provider backbone", ETHERNET, ethernet(0x88E7, &with(&[0, 0, 0, 7], &ethernet(0x0800, &ip)))),
        ("E-Tag", ETHERNET, ethernet(0x893F, &with(&[0, 0, 0, 7, 0, 0, 8, 0], &ip))),
        ("VN-Tag", ETHERNET, ethernet(0x8926, &with(&[0, 0, 0, 7, 8, 0], &ip))),
        ("security group tag", ETHERNET, ethernet(0x8909, &with(&[1, 1, 0, 1, 0, 7, 8, 0], &ip))),
        ("seamless redundancy", ETHERNET, ethernet(0x892F, &with(&[0, 60, 0, 7, 8, 0], &ip))),
        ("FabricPath", ETHERNET, ethernet(0x8903, &with(&[0, 1], &ethernet(0x0800, &ip)))),
        ("TRILL", ETHERNET, ethernet(0x22F3, &with(&[0, 0, 0, 1, 0, 2], &ethernet(0x0800, &ip)))),
        (
            "TRILL with options",
            ETHERNET,
            ethernet(0x22F3, &with(&[0, 0x40, 0, 1, 0, 2, 9, 9, 9, 9], &ethernet(0x0800, &ip))),
        ),
        ("MACsec in the clear", ETHERNET, ethernet(0x88E5, &with(&[0, 0, 0, 0, 0, 1, 8, 0], &ip))),
        (
            "MACsec with a channel",
            ETHERNET,
            ethernet(0x88E5, &with(&[0x20, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 0], &ip)),
        ),
        ("PPP by its Ethernet type", ETHERNET, ethernet(0x880B, &with(&[0, 0x21], &ip))),
        ("long LLC", ETHERNET, ethernet(0x8870, &snap)),
        ("NSH in NSH", ETHERNET, ethernet(0x894F, &with(&[0, 2, 1, 4, 0, 0, 0, 0, 0, 2, 1, 1, 0, 0, 0, 0], &ip))),
    ]
}

/// Cisco's inter-switch link: destination, type, source, length, SNAP, VLAN, index: 26 bytes.
fn isl(frame: &[u8]) -> Vec<u8> {
    let length = (frame.len() + 12) as u16;
    let head = [&[1, 0, 0x0C, 0, 0, 0, 2, 0, 0, 0, 0, 2][..], &length.to_be_bytes(), &[0xAA, 0xAA, 3, 0, 0, 0x0C]];
    [&head.concat()[..], &[0, 7, 0, 0, 0, 0], frame].concat()
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
        for protocol in [0, 4, 6, 17, 43, 44, 47, 51, 58, 60, 97, 137] {
            tracker.feed(&packet(&ipv4(A, B, protocol, &bytes), RAW, SECOND), &mut tape);
            tracker.feed(&packet(&ipv6(protocol, &bytes), RAW, SECOND), &mut tape);
        }
        for port in [1_701, 2_152, 3_544, 4_341, 4_754, 4_789, 5_072, 5_247, 6_081, 6_635, 37_008] {
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
    // Ethernet, each tag, the type of the last one, and IP: each is one step.
    for (tags, expected) in [(21, Ok(inner().len())), (22, Err(Skip::TooDeep))] {
        let mut bytes = ethernet(0x8100, b"");
        for tag in 0..tags {
            bytes.extend_from_slice(if tag + 1 == tags { &[0, 1, 8, 0] } else { &[0, 1, 0x81, 0] });
        }
        bytes.extend_from_slice(&inner());
        let found = link::link(&packet(&bytes, ETHERNET, 1), Limits::default().headers);
        assert_eq!(found.map(|link| link.ip.len()), expected, "{tags} tags");
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
    for (kind, left, last) in [(0, 1, 9), (2, 1, 9), (0, 0, 2), (4, 1, 9), (4, 0, 2), (3, 1, 2)] {
        let mut payload = vec![17, 2, kind, left, 0, 0, 0, 0];
        payload.extend_from_slice(&v6(9));
        payload.extend_from_slice(&udp(&v6(1), &v6(last), (1, 2), PAYLOAD));
        let bytes = ipv6(43, &payload);
        let found = ip::ip(&bytes, 24).unwrap();
        assert_eq!(found.destination, Address(v6(last)), "type {kind}, {left} left");
        assert!(transport_checksum_ok(found.source, found.destination, 17, found.payload));
    }
}

#[test]
fn segment_list_is_written_backwards() {
    let mut payload = vec![17, 4, 4, 1, 1, 0, 0, 0];
    payload.extend_from_slice(&[v6(9), v6(5)].concat());
    payload.extend_from_slice(&udp(&v6(1), &v6(9), (1, 2), PAYLOAD));
    let bytes = ipv6(43, &payload);
    assert_eq!(ip::ip(&bytes, 24).unwrap().destination, Address(v6(9)));
}

#[test]
fn home_address_is_the_source() {
    // Options: one byte of padding, then the home address; a length that is none says nothing.
    for (length, source) in [(16, 9), (15, 1)] {
        let mut payload = vec![17, 2, 0, 1, 1, 0, 0xC9, length];
        payload.extend_from_slice(&v6(9));
        payload.extend_from_slice(&udp(&v6(source), &v6(2), (1, 2), PAYLOAD));
        let bytes = ipv6(60, &payload);
        let found = ip::ip(&bytes, 24).unwrap();
        assert_eq!(found.source, Address(v6(source)));
        assert!(transport_checksum_ok(found.source, found.destination, 17, found.payload));
    }
}

#[test]
fn what_an_ipv4_authentication_header_vouches_for_is_read() {
    let head = [17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let mut talk = Talk::new(Limits::default());
    talk.raw(&ipv4(A, B, 51, &with(&head, &udp(&A, &B, (1_000, 2_000), PAYLOAD))));
    assert_eq!(talk.tape.datagrams(), [PAYLOAD]);
    let mut talk = Talk::new(Limits::default());
    talk.raw(&ipv4(A, B, 51, &head[..23]));
    assert_eq!((talk.tracker.counters().other_ip, talk.tracker.counters().udp), (1, 0), "longer than its packet");
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
            "GRE with a route",
            ipv4(A, B, 47, &with(&[0x40, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0, 4, 9, 9, 9, 9, 0, 0, 0, 0], inner)),
        ),
        ("web cache", ipv4(A, B, 47, &with(&[0, 0, 0x88, 0x3E], inner))),
        ("web cache, version 2", ipv4(A, B, 47, &with(&[0, 0, 0x88, 0x3E, 0, 0, 0, 0], inner))),
        (
            "Aruba",
            ipv4(A, B, 47, &[&[0, 0, 0x82, 0][..], &[8; 1], &[0; 23], &[0xAA, 0xAA, 3, 0, 0, 0, 8, 0], inner].concat()),
        ),
        ("ERSPAN III", ipv4(A, B, 47, &[&[0x10, 0, 0x22, 0xEB, 0, 0, 0, 1, 0x20][..], &[0; 11], &frame].concat())),
        (
            "ERSPAN III of IP",
            ipv4(A, B, 47, &[&[0x10, 0, 0x22, 0xEB, 0, 0, 0, 1, 0x20][..], &[0; 9], &[8, 0], inner].concat()),
        ),
        ("EtherIP", ipv4(A, B, 97, &with(&[0x30, 0], &frame))),
        ("MPLS in IP", ipv4(A, B, 137, &with(&[0, 0, 0x11, 64], inner))),
        ("MPLS in UDP", over_udp((5_555, 6_635), &with(&[0, 0, 0x11, 64], inner))),
        ("GRE in UDP", over_udp((5_555, 4_754), &with(&[0, 0, 8, 0], inner))),
        ("VXLAN-GPE", over_udp((5_555, 4_790), &with(&[0x0C, 0, 0, 1, 0, 0, 1, 0], inner))),
        ("L2TP", over_udp((1_701, 1_701), &with(&[0, 2, 0, 1, 0, 2, 0xFF, 3, 0, 0x21], inner))),
        (
            "L2TP with all fields",
            over_udp((1_701, 1_701), &with(&[0x4A, 2, 0, 99, 0, 1, 0, 2, 0, 0, 0, 0, 0, 2, 9, 9, 0, 0x21], inner)),
        ),
        ("CAPWAP", over_udp((5_555, 5_247), &with(&[0, 0x10, 0, 0, 0, 0, 0, 0], &frame))),
        ("LISP", over_udp((5_555, 4_341), &with(&[0x80, 0, 0, 0, 0, 0, 0, 1], inner))),
        ("TZSP", over_udp((5_555, 37_008), &with(&[1, 0, 0, 1, 0, 0x0A, 1, 9, 1], &frame))),
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
    let cases: [(&str, u16, &[u8]); 9] = [
        ("VXLAN of nothing", 4_789, &[8, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3]),
        ("VXLAN without its flag", 4_789, &[0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3]),
        ("a control message of L2TP", 1_701, &[0xC8, 2, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("L2TP, version 3", 1_701, &[0, 3, 0, 0, 0, 0, 0, 1, 0, 0x21, 0x45]),
        ("a fragment of CAPWAP", 5_247, &[0, 0x10, 0, 0x80, 0, 0, 0, 0, 1, 2, 3]),
        ("LISP longer than its packet", 4_341, &[0x80, 0, 0, 0, 0, 0, 0, 1, 0x45, 0, 0, 99]),
        ("TZSP without an end", 37_008, &[1, 0, 0, 1, 0, 0]),
        ("MPLS without a last label", 6_635, &[0, 0, 0x10, 64, 0, 0, 0x10, 64]),
        ("GRE with an endless route", 4_754, &[0x40, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0, 4, 9, 9, 9, 9]),
    ];
    for (name, port, payload) in cases {
        let mut talk = Talk::new(Limits::default());
        talk.raw(&udp4((5_555, port), payload));
        assert_eq!((talk.tracker.counters().udp, talk.tape.flows.len()), (1, 1), "{name}");
    }
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
