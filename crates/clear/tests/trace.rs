//! Header traces: facts are a closed grammar, every byte has a rule, fewer rules never tell more, nothing panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod words;

use bunker_clear::Keys;
use bunker_clear::trace::encode::Provenance;
use bunker_clear::trace::facts::{Facts, LAYERS};
use bunker_clear::trace::rules::{Key, Rules};
use bunker_clear::trace::{Trace, decode};
use bunker_wire::ip::sum;
use bunker_wire::packet::Packet;
use proptest::prelude::*;
use words::{ALL, Word};

fn rules(words: &[Word]) -> Rules {
    Rules::of(words.iter().copied()).unwrap()
}

fn trace(words: &[Word]) -> Trace {
    Trace::new(rules(words), Keys::new(&mut [7; 32]), None)
}

fn packet(captured: &[u8], linktype: u16) -> Packet<'_> {
    Packet {
        ts_ns: 1_700_000_000_123_456_789,
        captured,
        wire_len: u32::try_from(captured.len()).unwrap(),
        linktype,
        vlan: None,
        checksum_not_ready: false,
    }
}

fn facts_of(captured: &[u8]) -> Facts {
    let mut facts = Facts::default();
    decode::decode(&packet(captured, 1), &mut facts);
    facts
}

/// Bytes of a cleared packet, the length it claims, and the rule of each byte.
fn cleared(trace: &mut Trace, captured: &[u8]) -> Option<(Vec<u8>, u32, Vec<Option<Key>>)> {
    let (mut out, mut provenance) = (Vec::new(), Provenance::default());
    let cleared = trace.clear(1_700_000_000_123_456_789, &facts_of(captured), &mut out, &mut provenance)?;
    provenance.keys.truncate(out.len());
    Some((out, cleared.wire_len, provenance.keys))
}

fn fold(value: u16) -> [u8; 2] {
    value.to_be_bytes()
}

fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8], options: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0xB9];
    packet.extend(fold(u16::try_from(header + payload.len()).unwrap()));
    packet.extend([0xAB, 0xCD, 0x40, 0x00, 57, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    let check = !sum(&packet, 0);
    packet[10..12].copy_from_slice(&fold(check));
    packet.extend(payload);
    packet
}

fn v6(source: [u8; 16], destination: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6B, 0x91, 0x23, 0x45];
    packet.extend(fold(u16::try_from(payload.len()).unwrap()));
    packet.extend([next, 60]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0x11, 0x22, 0x33, 0x44, 0x55, 2, 0x66, 0x77, 0x88, 0x99, 0xAA];
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

const A: [u8; 4] = [203, 0, 113, 77];
const B: [u8; 4] = [198, 51, 100, 200];
const A6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 9, 8, 7, 6, 5, 4, 3, 2, 0x91, 0x82, 0x73, 0x64];
const B6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 2, 0x11, 0x22, 0xff, 0xfe, 0x33, 0x44, 0x55];

fn with_checksum(source: &[u8], destination: &[u8], protocol: u8, at: usize, mut segment: Vec<u8>) -> Vec<u8> {
    let mut pseudo = [source, destination].concat();
    pseudo.extend([0, protocol]);
    pseudo.extend(u16::try_from(segment.len()).unwrap().to_be_bytes());
    let check = !sum(&segment, u32::from(sum(&pseudo, 0)));
    segment[at..at + 2].copy_from_slice(&fold(check));
    segment
}

fn tcp(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xC3, 0x51, 0, 80, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0];
    segment.push(u8::try_from((20 + options.len()) / 4).unwrap() << 4);
    segment.extend([0x18, 0xFA, 0xF0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A little of everything: each frame is well formed.
fn zoo() -> Vec<Vec<u8>> {
    let options = [
        &[2, 4, 5, 0xB4][..],
        &[1, 3, 3, 7],
        &[4, 2, 1, 1],
        &[8, 10, 0x81, 2, 3, 4, 0, 0, 0, 0, 1, 1],
        &[5, 10, 0x9A, 0xBC, 0xE0, 0, 0x9A, 0xBC, 0xF0, 0, 1, 1],
        &[0, 0x55, 0x66, 0x77],
    ]
    .concat();
    let segment = with_checksum(&A, &B, 6, 16, tcp(&options, b"a secret in the payload"));
    let udp = with_checksum(&A, &B, 17, 6, [&[0xC3, 0x51, 0, 53, 0, 19, 0, 0][..], b"topsecret!!"].concat());
    let quoted = v4(B, A, 17, &udp, &[]);
    let mut unreachable = [&[3, 4, 0, 0, 0, 0, 5, 0x78][..], &quoted].concat();
    let check = !sum(&unreachable, 0);
    unreachable[2..4].copy_from_slice(&fold(check));
    let mut echo = vec![8, 0, 0, 0, 0x77, 0x66, 0, 9, b's', b'e', b'c', b'r'];
    let check = !sum(&echo, 0);
    echo[2..4].copy_from_slice(&fold(check));
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &B6, &[1, 1, 2, 0x66, 0x77, 0x88, 0x99, 0xAA]].concat();
    let mut group = [0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0, 0, 0];
    group[13..].copy_from_slice(&B6[13..]);
    let solicitation = v6(A6, group, 58, &solicitation);
    let mut neighbour = ethernet(0x86DD, &solicitation);
    neighbour[..6].copy_from_slice(&[0x33, 0x33, 0xFF, B6[13], B6[14], B6[15]]);
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0x66, 0x77, 0x88, 0x99, 0xAA][..], &A, &[0; 6], &B].concat();
    let inner6 = v6(A6, B6, 6, &tcp(&[], b"deep secret"));
    let vxlan = [
        &[0xC3, 0x51, 0x12, 0xB5, 0, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 0][..],
        &ethernet(0x0800, &v4(A, B, 6, &segment, &[])),
    ]
    .concat();
    let vxlan = {
        let mut v = vxlan;
        let n = u16::try_from(v.len()).unwrap();
        v[4..6].copy_from_slice(&n.to_be_bytes());
        v
    };
    let gre = [&[0x20, 0, 8, 0, 9, 9, 9, 9][..], &v4(A, B, 17, &udp, &[])].concat();
    let hop = [&[6, 0, 5, 2, 0, 0, 1, 0][..], &tcp(&[], b"")].concat();
    let fragment = [&[17, 0, 0, 1, 0xDE, 0xAD, 0xBE, 0xEF][..], &udp].concat();
    vec![
        ethernet(0x0800, &v4(A, B, 6, &segment, &[0x94, 4, 0, 0, 7, 7, 4, 1, 2, 3, 4, 0])),
        ethernet(0x0800, &v4(A, B, 17, &udp, &[])),
        ethernet(0x0800, &v4(A, B, 1, &unreachable, &[])),
        ethernet(0x0800, &v4(A, B, 1, &echo, &[])),
        ethernet(0x0800, &v4(A, B, 89, b"ospf and so on", &[])),
        ethernet(0x0800, &v4(A, B, 41, &inner6, &[])),
        ethernet(0x0800, &v4(A, B, 47, &gre, &[])),
        ethernet(0x0800, &v4(A, B, 17, &vxlan, &[])),
        ethernet(0x86DD, &v6(A6, B6, 6, &with_checksum(&A6, &B6, 6, 16, tcp(&options, b"another secret")))),
        ethernet(0x86DD, &v6(A6, B6, 0, &hop)),
        ethernet(0x86DD, &v6(A6, B6, 44, &fragment)),
        ethernet(0x8100, &[&[0x01, 0x23, 0x08, 0x00][..], &v4(A, B, 17, &udp, &[])].concat()),
        neighbour,
        ethernet(0x0806, &[&arp[..], b"padding that nobody sent"].concat()),
    ]
}

#[test]
fn every_byte_of_every_packet_is_accounted_to_a_rule_that_the_policy_names() {
    let mut trace = trace(ALL);
    let mut used = std::collections::HashSet::new();
    for frame in zoo() {
        let (bytes, wire_len, keys) = cleared(&mut trace, &frame).expect("leaves");
        assert_eq!(keys.len(), bytes.len());
        assert!(wire_len as usize >= bytes.len());
        for key in keys {
            used.insert(key.expect("a byte without a rule"));
        }
    }
    // The zoo shows the rules at work.
    let used: std::collections::HashSet<_> = used.into_iter().map(Key::name).collect();
    for name in [
        "eth.src",
        "eth.dst",
        "eth.type",
        "eth.vlan",
        "arp.op",
        "arp.sha",
        "arp.tha",
        "arp.spa",
        "arp.tpa",
        "ipv4.src",
        "ipv4.dst",
        "ipv4.tos",
        "ipv4.id",
        "ipv4.flags",
        "ipv4.ttl",
        "ipv4.options",
        "ipv4.checksum",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.hop_limit",
        "ipv6.fragment",
        "tcp.sport",
        "tcp.dport",
        "tcp.seq",
        "tcp.ack",
        "tcp.flags",
        "tcp.window",
        "tcp.urg",
        "tcp.checksum",
        "tcp.options.sack",
        "tcp.options.ts",
        "tcp.options.mss",
        "tcp.options.wscale",
        "udp.sport",
        "udp.dport",
        "udp.checksum",
        "icmp.types",
        "icmp.echo_id",
        "icmp.echo_seq",
        "icmp.mtu",
        "icmp.checksum",
        "icmpv6.types",
        "icmpv6.nd_target",
        "icmpv6.nd_lladdr",
        "icmpv6.checksum",
        "tunnels",
    ] {
        assert!(used.contains(name), "{name}");
    }
}

#[test]
fn nothing_of_the_payload_or_of_an_identifier_is_in_the_output() {
    let mut trace = trace(ALL);
    let secrets: [&[u8]; 11] = [
        b"secret",
        &A,
        &B,
        &A6[..8],
        &A6[8..],
        &B6[..8],
        &B6[8..],
        &[0x66, 0x77, 0x88],
        &[0x22, 0x33, 0x44],
        &[0x9A, 0xBC, 0xDE],
        b"padding",
    ];
    for frame in zoo() {
        let (bytes, _, _) = cleared(&mut trace, &frame).unwrap();
        for secret in secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "found in a packet");
            assert!(zoo().iter().any(|frame| frame.windows(secret.len()).any(|window| window == secret)), "is planted");
        }
    }
}

#[test]
fn deleting_a_rule_only_takes_away() {
    for left_out in 0..ALL.len() {
        let (key, _, _) = ALL[left_out];
        if matches!(key, "time" | "wirelen" | "addresses" | "services.tcp" | "services.udp") {
            continue; // required by the language, or a parameter of other rules
        }
        let fewer: Vec<Word> =
            ALL.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| *word).collect();
        let (mut full, mut less) = (trace(ALL), trace(&fewer));
        for frame in zoo() {
            let (whole, _, _) = cleared(&mut full, &frame).unwrap();
            let Some((reduced, _, keys)) = cleared(&mut less, &frame) else { continue };
            assert!(reduced.len() <= whole.len(), "{key}: longer without the rule");
            for named in keys.iter().flatten() {
                assert_ne!(named.name(), key, "a byte is accounted to a rule that is not there");
            }
            if reduced.len() == whole.len() {
                for (at, (one, other)) in whole.iter().zip(&reduced).enumerate() {
                    let follows = keys[at].is_some_and(|key| {
                        // A checksum follows the bytes that it covers; NOPs and stand-ins of an option are one byte each.
                        // The link's group address follows the group; without that it is a tag like any other.
                        key.name().ends_with("checksum")
                            || matches!(key, Key::Derived | Key::Format | Key::TcpOptions | Key::EthDestination)
                    });
                    assert!(*other & !*one == 0 || follows, "{key}: byte {at} says something else");
                }
            }
        }
    }
}

fn checksum_of(trace: &mut Trace, frame: &[u8]) -> (u16, u16) {
    let (bytes, _, _) = cleared(trace, frame).unwrap();
    (u16::from_be_bytes([bytes[24], bytes[25]]), u16::from_be_bytes([bytes[34 + 16], bytes[34 + 17]]))
}

#[test]
fn checksums_are_right_where_they_were_and_one_where_they_were_not() {
    let mut trace = trace(ALL);
    let segment = with_checksum(&A, &B, 6, 16, tcp(&[], b"payload"));
    let good = ethernet(0x0800, &v4(A, B, 6, &segment, &[]));
    let (bytes, wire_len, _) = cleared(&mut trace, &good).unwrap();
    assert_eq!(sum(&bytes[14..34], 0), 0xFFFF);
    // With the cut part as zeros the segment's checksum is right.
    let length = u16::from_be_bytes([bytes[16], bytes[17]]) - 20;
    assert_eq!(u32::from(length) + 34, wire_len);
    let mut pseudo = bytes[26..34].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend(length.to_be_bytes());
    assert_eq!(sum(&bytes[34..], u32::from(sum(&pseudo, 0))), 0xFFFF);
    let mut bad = good.clone();
    bad[24] ^= 0x55;
    bad[34 + 16] ^= 0x55;
    assert_eq!(checksum_of(&mut trace, &bad), (1, 1));
}

#[test]
fn a_group_address_of_the_link_follows_the_mapped_group_and_that_the_mapped_target() {
    let mut trace = trace(ALL);
    let frame = zoo().swap_remove(12);
    let (bytes, _, _) = cleared(&mut trace, &frame).unwrap();
    let (group, target) = (&bytes[14 + 24..14 + 40], &bytes[14 + 40 + 8..14 + 40 + 24]);
    assert_eq!(&bytes[..2], [0x33, 0x33]);
    assert_eq!(bytes[2..6], group[12..]);
    assert_eq!(group[13..], target[13..]);
    assert_ne!(target, B6);
}

#[test]
fn one_address_is_mapped_alike_in_headers_quotes_arp_and_tunnels() {
    let mut trace = trace(ALL);
    let zoo = zoo();
    let at = |trace: &mut Trace, frame: &[u8], from: usize| -> [u8; 4] {
        cleared(trace, frame).unwrap().0[from..from + 4].try_into().unwrap()
    };
    let plain = at(&mut trace, &zoo[1], 26);
    let quoted = at(&mut trace, &zoo[2], 14 + 20 + 8 + 16);
    let arp = at(&mut trace, &zoo[13], 14 + 14);
    let tunnelled = at(&mut trace, &zoo[6], 14 + 20 + 4 + 12);
    assert_eq!([quoted, arp, tunnelled], [plain; 3]);
    assert_ne!(plain, A);
}

#[test]
fn sequence_numbers_keep_distances_and_the_other_side_agrees() {
    let mut trace = trace(ALL);
    let segment = |ports: [u16; 2], seq: u32, ack: u32| {
        let mut segment = tcp(&[], b"");
        segment[..2].copy_from_slice(&ports[0].to_be_bytes());
        segment[2..4].copy_from_slice(&ports[1].to_be_bytes());
        segment[4..8].copy_from_slice(&seq.to_be_bytes());
        segment[8..12].copy_from_slice(&ack.to_be_bytes());
        segment
    };
    let mut numbers = |frame: &[u8]| {
        let (bytes, _, _) = cleared(&mut trace, frame).unwrap();
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(38), word(42))
    };
    let one = numbers(&ethernet(0x0800, &v4(A, B, 6, &segment([50_001, 80], 1000, 5000), &[])));
    let two = numbers(&ethernet(0x0800, &v4(A, B, 6, &segment([50_001, 80], 1500, 5100), &[])));
    let back = numbers(&ethernet(0x0800, &v4(B, A, 6, &segment([80, 50_001], 5100, 1500), &[])));
    assert_eq!(two.0.wrapping_sub(one.0), 500);
    assert_eq!((back.0, back.1), (two.1, two.0));
    assert_ne!(one.0, 1000);
}

#[test]
fn another_key_gives_another_trace_and_after_forgetting_there_is_none() {
    let frame = &zoo()[0];
    let mut one = trace(ALL);
    let mut other = Trace::new(rules(ALL), Keys::new(&mut [8; 32]), None);
    assert_ne!(cleared(&mut one, frame).unwrap().0, cleared(&mut other, frame).unwrap().0);
    one.forget();
    assert!(cleared(&mut one, frame).is_none());
}

#[test]
fn facts_have_a_bound_and_refuse_what_is_behind_it() {
    let mut facts = facts_of(&zoo()[0]);
    let layer = facts.layers[0];
    facts.layers = vec![layer; LAYERS];
    let mut packed = Vec::new();
    facts.pack(&mut packed);
    let mut read = Facts::default();
    assert!(read.unpack(&packed, facts.wire_len).is_ok());
    facts.layers.push(layer);
    packed.clear();
    facts.pack(&mut packed);
    assert!(read.unpack(&packed, facts.wire_len).is_err());
    assert!(read.unpack(&[], 0).is_err());
    assert!(read.unpack(&[9], 0).is_err());
}

proptest! {
    #[test]
    fn packed_facts_are_read_back_and_read_facts_pack_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut facts = Facts::default();
        if facts.unpack(&bytes, 0).is_ok() {
            let mut packed = Vec::new();
            facts.pack(&mut packed);
            prop_assert_eq!(packed, bytes);
        }
    }

    #[test]
    fn any_bytes_of_any_link_are_cleared_without_a_panic_and_below_the_stated_length(
        which in 0..14_usize, cut in 0..200_usize, flips in proptest::collection::vec((0..200_usize, any::<u8>()), 0..12),
        linktype in prop::sample::select(vec![0_u16, 1, 9, 12, 50, 51, 101, 104, 105, 113, 119, 127, 192, 239, 276, 9999]),
    ) {
        let mut frame = zoo().swap_remove(which);
        for (at, value) in flips {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(frame.len().saturating_sub(cut));
        let mut facts = Facts::default();
        decode::decode(&packet(&frame, linktype), &mut facts);
        let mut packed = Vec::new();
        facts.pack(&mut packed);
        let mut read = Facts::default();
        prop_assert!(read.unpack(&packed, facts.wire_len).is_ok());
        prop_assert!(read == facts);
        let (mut out, mut provenance) = (Vec::new(), Provenance::default());
        if let Some(cleared) = trace(ALL).clear(0, &facts, &mut out, &mut provenance) {
            prop_assert!(out.len() <= bunker_clear::trace::file::LONGEST as usize);
            prop_assert!(cleared.wire_len as usize >= out.len());
            prop_assert!(provenance.keys.iter().take(out.len()).all(Option::is_some));
        }
    }
}

#[test]
fn a_sample_takes_hosts_whole_and_counts_the_packets_of_the_others() {
    let udp = |from: [u8; 4], to: [u8; 4]| ethernet(0x0800, &v4(from, to, 17, &[0, 9, 0, 9, 0, 8, 0, 0], &[]));
    let site: &[u64] = &[0, 0xFFFF_C633_6400, 120];
    let below: &[u64] = &[1 << 62]; // a quarter
    let words = [ALL, &[("sample", "host", below), ("sites", "internal", site)]].concat();
    let mut trace = trace(&words);
    let mut taken = 0_u64;
    for host in 0..=255 {
        let own = [198, 51, 100, host];
        // Lower and higher than its own: the packet goes with the host of the site, both ways.
        let leaves: Vec<bool> = [[10, 0, 0, host], [203, 0, 113, 9]]
            .into_iter()
            .flat_map(|other| [udp(own, other), udp(other, own)])
            .map(|frame| cleared(&mut trace, &frame).is_some())
            .collect();
        assert!(leaves.iter().all(|one| *one == leaves[0]), "{leaves:?}");
        taken += u64::from(leaves[0]);
    }
    assert!((30..100).contains(&taken), "{taken} of 256 hosts: a quarter, five spreads wide");
    assert_eq!(trace.sampled_out(), 4 * (256 - taken));
    // Between hosts that are both outside the lower address decides, both ways alike.
    for host in 0..50 {
        let ends = ([192, 0, 2, host], [203, 0, 113, host]);
        let [one, other] =
            [udp(ends.0, ends.1), udp(ends.1, ends.0)].map(|frame| cleared(&mut trace, &frame).is_some());
        assert_eq!(one, other);
    }
    for bad in [("sample", "host", &[][..]), ("sample", "flow", below), ("sites", "internal", &[0, 0, 129])] {
        assert!(Rules::of([bad]).is_err(), "{bad:?}");
    }
}
