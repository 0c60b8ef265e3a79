//! Capture files: every form gives the same packets, in whatever pieces it comes; damage ends it where it is, and says so.
use bunker_wire::capfile::{CaptureFile, Fault, FaultKind, MAX_BLOCK, MAX_PACKET};
use proptest::prelude::*;
use std::io::Write as _;

/// A packet as it comes out: time, bytes, wire length, link type, interface.
type Seen = (u64, Vec<u8>, u32, u16, u32);

#[derive(Default, Debug, PartialEq, Eq)]
struct Read {
    packets: Vec<Seen>,
    fault: Option<Fault>,
}

fn read(pieces: &[&[u8]]) -> Read {
    let mut file = CaptureFile::new();
    let mut packets = Vec::new();
    let mut sink = |packet: &bunker_wire::Packet<'_>, interface| {
        packets.push((packet.ts_ns, packet.captured.to_vec(), packet.wire_len, packet.linktype, interface));
    };
    let mut result = Ok(());
    for piece in pieces {
        result = file.feed(piece, &mut sink);
        if let Err(fault) = result {
            assert_eq!(file.feed(b"more", &mut sink), Err(fault), "what failed stays failed");
            break;
        }
    }
    let end = file.finish(&mut sink);
    if result.is_err() {
        assert_eq!(end, result, "what failed stays failed");
    }
    assert_eq!(file.packets, packets.len() as u64);
    Read { packets, fault: end.err() }
}

fn whole(bytes: &[u8]) -> Read {
    read(&[bytes])
}

fn packets_of(bytes: &[u8]) -> Vec<Seen> {
    let read = whole(bytes);
    assert_eq!(read.fault, None);
    read.packets
}

fn fault_of(bytes: &[u8]) -> (FaultKind, u64) {
    let fault = whole(bytes).fault.expect("a fault");
    (fault.kind, fault.offset)
}

/// Writes numbers in one byte order.
#[derive(Clone, Copy, Debug)]
struct Order {
    big: bool,
}

const LITTLE: Order = Order { big: false };
const BIG: Order = Order { big: true };

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
    fn u32(self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.u32(*value)).collect()
    }
}

fn pcap_header(order: Order, magic: u32, network: u32) -> Vec<u8> {
    let mut bytes = order.u32(magic).to_vec();
    bytes.extend_from_slice(&order.u16(2));
    bytes.extend_from_slice(&order.u16(4));
    bytes.extend(order.words(&[0, 0, 65_535, network]));
    bytes
}

fn record(order: Order, seconds: u32, fraction: u32, data: &[u8], wire_len: u32) -> Vec<u8> {
    let mut bytes = order.words(&[seconds, fraction, data.len() as u32, wire_len]);
    bytes.extend_from_slice(data);
    bytes
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let length = padded.len() as u32 + 12;
    let mut bytes = order.words(&[kind, length]);
    bytes.extend_from_slice(&padded);
    bytes.extend_from_slice(&order.u32(length));
    bytes
}

fn section(order: Order) -> Vec<u8> {
    let mut body = order.u32(0x1A2B_3C4D).to_vec();
    body.extend_from_slice(&order.u16(1));
    body.extend_from_slice(&order.u16(0));
    body.extend_from_slice(&[0xFF; 8]);
    block(order, 0x0A0D_0D0A, &body)
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = order.u16(code).to_vec();
    bytes.extend_from_slice(&order.u16(value.len() as u16));
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn interface(order: Order, linktype: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
    let mut body = order.u16(linktype).to_vec();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&order.u32(snaplen));
    body.extend_from_slice(options);
    block(order, 1, &body)
}

fn enhanced(order: Order, interface: u32, stamp: u64, data: &[u8], wire_len: u32) -> Vec<u8> {
    let mut body = order.words(&[interface, (stamp >> 32) as u32, stamp as u32, data.len() as u32, wire_len]);
    body.extend_from_slice(data);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(option(order, 1, b"a comment that nobody reads"));
    block(order, 6, &body)
}

fn old(order: Order, interface: u16, stamp: u64, data: &[u8], wire_len: u32) -> Vec<u8> {
    let mut body = order.u16(interface).to_vec();
    body.extend_from_slice(&[0xFF, 0xFF]);
    body.extend(order.words(&[(stamp >> 32) as u32, stamp as u32, data.len() as u32, wire_len]));
    body.extend_from_slice(data);
    block(order, 2, &body)
}

fn simple(order: Order, data: &[u8], wire_len: u32) -> Vec<u8> {
    let mut body = order.u32(wire_len).to_vec();
    body.extend_from_slice(data);
    block(order, 3, &body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

const DATA: &[u8] = b"thirteen byte";

#[test]
fn pcap_of_each_magic_is_read() {
    for (order, magic, header, expected) in [
        (LITTLE, 0xA1B2_C3D4, 16, 1_700_000_001_000_007_000_u64),
        (BIG, 0xA1B2_C3D4, 16, 1_700_000_001_000_007_000),
        (LITTLE, 0xA1B2_3C4D, 16, 1_700_000_001_000_000_007),
        (BIG, 0xA1B2_3C4D, 16, 1_700_000_001_000_000_007),
        (LITTLE, 0xA1B2_CD34, 24, 1_700_000_001_000_007_000),
        (BIG, 0xA1B2_CD34, 24, 1_700_000_001_000_007_000),
    ] {
        let mut bytes = pcap_header(order, magic, 113);
        for wire_len in [13, 1_500] {
            let mut record = record(order, 1_700_000_001, 7, DATA, wire_len);
            record.splice(16..16, vec![9; header - 16]);
            bytes.extend(record);
        }
        let expected: Vec<Seen> = [13, 1_500].map(|wire_len| (expected, DATA.to_vec(), wire_len, 113, 0)).to_vec();
        assert_eq!(packets_of(&bytes), expected, "{magic:x} {order:?}");
    }
}

#[test]
fn length_of_the_frame_check_sequence_is_no_link_type() {
    let mut bytes = pcap_header(LITTLE, 0xA1B2_C3D4, 0x1400_0001);
    bytes.extend(record(LITTLE, 1, 0, DATA, 13));
    assert_eq!(packets_of(&bytes)[0].3, 1);
}

#[test]
fn wire_length_is_never_below_what_was_captured() {
    let mut bytes = pcap_header(LITTLE, 0xA1B2_C3D4, 1);
    bytes.extend(record(LITTLE, 1, 0, DATA, 5));
    assert_eq!(packets_of(&bytes)[0].2, 13);
}

#[test]
fn pcapng_of_each_block_is_read() {
    for order in [LITTLE, BIG] {
        let mut bytes = section(order);
        bytes.extend(interface(order, 1, 0, &[]));
        bytes.extend(interface(order, 101, 0, &option(order, 9, &[9])));
        bytes.extend(enhanced(order, 1, 1_700_000_000_000_000_007, DATA, 99));
        bytes.extend(old(order, 0, 1_700_000_000_000_007, DATA, 13));
        bytes.extend(simple(order, DATA, 13));
        for unread in [4, 5, 10, 0xBAD, 0x4000_0BAD, 7] {
            bytes.extend(block(order, unread, b"names, statistics, secrets"));
        }
        bytes.extend(enhanced(order, 0, 2_000_000, &[], 0));
        let expected: Vec<Seen> = vec![
            (1_700_000_000_000_000_007, DATA.to_vec(), 99, 101, 1),
            (1_700_000_000_000_007_000, DATA.to_vec(), 13, 1, 0),
            (0, DATA.to_vec(), 13, 1, 0),
            (2_000_000_000, vec![], 0, 1, 0),
        ];
        assert_eq!(packets_of(&bytes), expected, "{order:?}");
    }
}

#[test]
fn simple_packet_is_cut_by_its_interfaces_snaplen() {
    let mut bytes = section(LITTLE);
    bytes.extend(interface(LITTLE, 1, 5, &[]));
    bytes.extend(simple(LITTLE, &DATA[..5], 13));
    assert_eq!(packets_of(&bytes), [(0, DATA[..5].to_vec(), 13, 1, 0)]);
}

#[test]
fn each_section_has_its_order_and_its_interfaces() {
    let mut bytes = section(LITTLE);
    bytes.extend(interface(LITTLE, 1, 0, &[]));
    bytes.extend(enhanced(LITTLE, 0, 1, DATA, 13));
    bytes.extend(section(BIG));
    let second = bytes.len();
    bytes.extend(interface(BIG, 101, 0, &[]));
    bytes.extend(enhanced(BIG, 0, 2, DATA, 13));
    let links: Vec<_> = packets_of(&bytes).iter().map(|packet| (packet.0, packet.3)).collect();
    assert_eq!(links, [(1_000, 1), (2_000, 101)]);
    // Interfaces of the first section are gone in the second.
    let mut bytes = bytes[..second].to_vec();
    bytes.extend(enhanced(BIG, 0, 2, DATA, 13));
    assert_eq!(fault_of(&bytes), (FaultKind::BadInterface, second as u64));
}

#[test]
fn time_is_in_the_interfaces_resolution() {
    for (resolution, offset_s, stamp, expected) in [
        (0_u8, 0_i64, 1_700_000_000_u64, 1_700_000_000_000_000_000_u64),
        (3, 0, 1_700_000_000_001, 1_700_000_000_001_000_000),
        (9, 0, 1_700_000_000_000_000_001, 1_700_000_000_000_000_001),
        (12, 0, 1_700_000_000_123_456_789, 1_700_000_000_123_456),
        (0x8A, 0, 1_024, 1_000_000_000),
        (0x80 | 32, 0, 1_700_000_000 << 32 | 1 << 31, 1_700_000_000_500_000_000),
        (6, 1_700_000_000, 1, 1_700_000_000_000_001_000),
        (6, -1, 2_000_000, 1_000_000_000),
        (6, -10, 1, 0),
        (127, 0, u64::MAX, 0),
        (0, i64::MAX, u64::MAX, u64::MAX),
    ] {
        for order in [LITTLE, BIG] {
            let shift = if order.big { offset_s.to_be_bytes() } else { offset_s.to_le_bytes() };
            let mut options = option(order, 2, b"a name");
            options.extend(option(order, 9, &[resolution]));
            options.extend(option(order, 14, &shift));
            options.extend(option(order, 0, &[]));
            options.extend(option(order, 9, &[1]));
            let mut bytes = section(order);
            bytes.extend(interface(order, 1, 0, &options));
            bytes.extend(enhanced(order, 0, stamp, DATA, 13));
            assert_eq!(packets_of(&bytes)[0].0, expected, "{resolution} {offset_s} {stamp}");
        }
    }
}

#[test]
fn compressed_files_are_read_as_what_they_hold() {
    let mut plain = pcap_header(LITTLE, 0xA1B2_C3D4, 1);
    for number in 0..50 {
        plain.extend(record(LITTLE, number, 0, &vec![number as u8; 100], 100));
    }
    let expected = packets_of(&plain);
    assert_eq!(expected.len(), 50);
    let (one, two) = plain.split_at(1_234);
    let skippable = [0x50, 0x2A, 0x4D, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5];
    for (name, bytes) in [
        ("gzip", gzip(&plain)),
        ("gzip members", [gzip(one), gzip(two)].concat()),
        ("zstd", zstd(&plain)),
        ("zstd frames", [zstd(one), skippable.to_vec(), zstd(two)].concat()),
    ] {
        assert_eq!(packets_of(&bytes), expected, "{name}");
    }
}

/// A pcap of three packets, compressed by zstd 1.5 with content size and checksum.
const BY_ZSTD: &str = "28b52ffd24a5a501000402d4c3b2a102000400ffff00006500000064000000070000001f45006501660202072060743c18\
                       1461be4542ae8b835bafe3024934ec64";

fn by_zstd() -> Vec<u8> {
    let digits: Vec<u8> = BY_ZSTD.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn file_of_the_zstd_program_is_read_and_its_checksum_is_checked() {
    let bytes = by_zstd();
    let packets = packets_of(&bytes);
    assert_eq!(
        packets.iter().map(|packet| (packet.0, packet.1.len())).collect::<Vec<_>>(),
        [(100_000_007_000, 31), (101_000_007_000, 31), (102_000_007_000, 31),]
    );
    for damaged in bytes.len() - 4..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[damaged] ^= 1;
        assert_eq!(whole(&bytes).fault.map(|fault| fault.kind), Some(FaultKind::BadCompression), "byte {damaged}");
    }
}

#[test]
fn compressed_file_that_is_cut_gives_nearly_all_before_the_cut() {
    let mut plain = pcap_header(LITTLE, 0xA1B2_C3D4, 1);
    let mut noise = 1_u32;
    for number in 0..500 {
        let data: Vec<u8> = (0..1_000)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        plain.extend(record(LITTLE, number, 0, &data, 1_000));
    }
    for (name, bytes, at_least) in [("gzip", gzip(&plain), 430), ("zstd", zstd(&plain), 320)] {
        let found = whole(&bytes[..bytes.len() * 9 / 10]);
        assert_eq!(found.fault.map(|fault| fault.kind), Some(FaultKind::Truncated), "{name}");
        assert!((at_least..=450).contains(&found.packets.len()), "{name}: {}", found.packets.len());
    }
}

#[test]
fn wrong_checksum_of_gzip_is_damage_and_no_cut() {
    let mut plain = pcap_header(LITTLE, 0xA1B2_C3D4, 1);
    plain.extend(record(LITTLE, 1, 0, DATA, 13));
    let good = gzip(&plain);
    for damaged in good.len() - 8..good.len() {
        let mut bytes = good.clone();
        bytes[damaged] ^= 1;
        let read = whole(&bytes);
        assert_eq!(read.fault.map(|fault| fault.kind), Some(FaultKind::BadCompression), "byte {damaged}");
        assert_eq!(read.packets.len(), 1, "what was readable has been delivered");
    }
}

#[test]
fn what_is_no_capture_is_refused() {
    for bytes in [&b""[..], b"\xD4", b"GET / HTTP/1.1\r\n\r\n", &[0; 100], &gzip(b"no capture"), &zstd(b"no capture")] {
        assert_eq!(fault_of(bytes), (FaultKind::NotACapture, 0));
    }
}

#[test]
fn header_that_is_cut_is_truncated() {
    for (name, bytes) in [("pcap", pcap_header(BIG, 0xA1B2_3C4D, 1)), ("pcapng", section(BIG))] {
        for length in 4..bytes.len() {
            assert_eq!(fault_of(&bytes[..length]), (FaultKind::Truncated, 0), "{name} cut to {length}");
        }
    }
}

#[test]
fn other_versions_are_refused() {
    for (major, minor) in [(1, 4), (2, 5), (3, 0), (543, 1)] {
        let mut pcap = pcap_header(LITTLE, 0xA1B2_C3D4, 1);
        pcap[4..6].copy_from_slice(&LITTLE.u16(major));
        pcap[6..8].copy_from_slice(&LITTLE.u16(minor));
        assert_eq!(fault_of(&pcap), (FaultKind::BadVersion, 0), "pcap {major}.{minor}");
    }
    for (major, minor, fine) in [(0, 1, false), (1, 0, true), (1, 1, false), (1, 2, true), (1, 3, false), (2, 0, false)]
    {
        let mut pcapng = section(LITTLE);
        pcapng[12] = major;
        pcapng[14] = minor;
        let expected = (!fine).then_some(Fault { offset: 0, kind: FaultKind::BadVersion });
        assert_eq!(whole(&pcapng).fault, expected, "pcapng {major}.{minor}");
    }
}

#[test]
fn network_field_with_bits_that_mean_nothing_is_refused() {
    for bit in 16..26 {
        let pcap = pcap_header(LITTLE, 0xA1B2_C3D4, 1 | 1 << bit);
        assert_eq!(fault_of(&pcap), (FaultKind::BadVersion, 0), "bit {bit}");
    }
}

#[test]
fn lengths_stand_the_other_way_round_before_version_2_4() {
    // (version, captured length first) and what the fields say: 5 of 13 bytes.
    for (version, swapped) in
        [((2, 4), false), ((2, 3), false), ((2, 3), true), ((2, 2), true), ((2, 0), true), ((543, 0), true)]
    {
        for order in [LITTLE, BIG] {
            let mut bytes = pcap_header(order, 0xA1B2_C3D4, 1);
            bytes[4..6].copy_from_slice(&order.u16(version.0));
            bytes[6..8].copy_from_slice(&order.u16(version.1));
            bytes.extend(order.words(&if swapped { [1, 0, 13, 5] } else { [1, 0, 5, 13] }));
            bytes.extend(&DATA[..5]);
            let found = packets_of(&bytes);
            assert_eq!((found[0].1.as_slice(), found[0].2), (&DATA[..5], 13), "{version:?}, {swapped}");
        }
    }
}

#[test]
fn option_of_an_interface_that_goes_on_behind_its_block_is_damage() {
    let mut options = option(LITTLE, 9, &[6]);
    let good = [section(LITTLE), interface(LITTLE, 1, 0, &options)].concat();
    assert_eq!(whole(&good).fault, None);
    options[2] = 200;
    let bad = [section(LITTLE), interface(LITTLE, 1, 0, &options)].concat();
    assert_eq!(fault_of(&bad), (FaultKind::BadLength, section(LITTLE).len() as u64));
}

#[test]
fn lengths_that_cannot_be_right_are_refused_where_they_stand() {
    let good = [section(LITTLE), interface(LITTLE, 1, 0, &[]), enhanced(LITTLE, 0, 1, DATA, 13)].concat();
    let at = good.len() as u64;
    let with = |tail: Vec<u8>| [good.clone(), tail].concat();
    let patched = |offset: usize, value: u32| {
        let mut bytes = enhanced(LITTLE, 0, 1, DATA, 13);
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        with(bytes)
    };
    let length = enhanced(LITTLE, 0, 1, DATA, 13).len();
    let cases = [
        ("block of 8 bytes", patched(4, 8), FaultKind::BadLength),
        ("block of 13 bytes", patched(4, 13), FaultKind::BadLength),
        ("block above the limit", patched(4, MAX_BLOCK as u32 + 4), FaultKind::BadLength),
        ("other length at the end", patched(length - 4, 8), FaultKind::BadLength),
        ("captured more than the block holds", patched(20, 1_000), FaultKind::BadLength),
        ("interface that was not described", patched(8, 1), FaultKind::BadInterface),
        ("too short for its fields", with(block(LITTLE, 6, &[0; 16])), FaultKind::BadLength),
        ("interface too short for its fields", with(block(LITTLE, 1, &[0; 4])), FaultKind::BadLength),
        ("old packet too short", with(block(LITTLE, 2, &[0; 16])), FaultKind::BadLength),
        ("simple packet too short", with(block(LITTLE, 3, &[])), FaultKind::BadLength),
        ("section of no byte order", with(block(LITTLE, 0x0A0D_0D0A, &[0; 16])), FaultKind::BadLength),
    ];
    for (name, bytes, kind) in cases {
        let read = whole(&bytes);
        assert_eq!(read.fault, Some(Fault { offset: at, kind }), "{name}");
        assert_eq!(read.packets.len(), 1, "{name}: what came before is delivered");
    }
    let mut bytes = pcap_header(LITTLE, 0xA1B2_C3D4, 1);
    bytes.extend(record(LITTLE, 1, 0, DATA, 13));
    bytes.extend(LITTLE.words(&[1, 0, MAX_PACKET as u32 + 1, 13]));
    assert_eq!(fault_of(&bytes), (FaultKind::BadLength, 24 + 29));
    assert_eq!(whole(&bytes).packets.len(), 1);
}

#[test]
fn longest_record_is_read_and_none_that_is_longer() {
    // A bus (USB) has longer packets than a network.
    for (linktype, longest) in [(1, MAX_PACKET), (220, MAX_BLOCK)] {
        for (length, fine) in [(longest, true), (longest + 1, false)] {
            let data = vec![7; length];
            let mut bytes = pcap_header(LITTLE, 0xA1B2_C3D4, linktype);
            bytes.extend(record(LITTLE, 1, 0, &data, data.len() as u32));
            let read = whole(&bytes);
            let expected = (!fine).then_some(Fault { offset: 24, kind: FaultKind::BadLength });
            assert_eq!((read.packets.len(), read.fault), (usize::from(fine), expected), "{linktype}, {length}");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Pcap { nanoseconds: bool },
    Pcapng,
}

#[derive(Clone, Debug)]
struct Written {
    bytes: Vec<u8>,
    /// Where each record or block ends, and the packets that are complete there.
    ends: Vec<(usize, usize)>,
}

/// Packets in a file of one form.
fn written(form: Form, order: Order, packets: &[(u32, Vec<u8>, u8)]) -> Written {
    let mut bytes = match form {
        Form::Pcap { nanoseconds } => pcap_header(order, if nanoseconds { 0xA1B2_3C4D } else { 0xA1B2_C3D4 }, 1),
        Form::Pcapng => section(order),
    };
    let mut ends = vec![(bytes.len(), 0)];
    if form == Form::Pcapng {
        bytes.extend(interface(order, 1, 0, &[]));
        ends.push((bytes.len(), 0));
    }
    for (number, (time, data, kind)) in packets.iter().enumerate() {
        let wire_len = data.len() as u32 + 1;
        bytes.extend(match (form, kind % 4) {
            (Form::Pcap { .. }, _) => record(order, *time, 5, data, wire_len),
            (Form::Pcapng, 0) => old(order, 0, u64::from(*time), data, wire_len),
            (Form::Pcapng, 1) => simple(order, data, data.len() as u32),
            (Form::Pcapng, _) => enhanced(order, 0, u64::from(*time), data, wire_len),
        });
        ends.push((bytes.len(), number + 1));
        if form == Form::Pcapng && *kind > 200 {
            bytes.extend(block(order, u32::from(*kind), data));
            ends.push((bytes.len(), number + 1));
        }
    }
    Written { bytes, ends }
}

fn file() -> impl Strategy<Value = Written> {
    let form = prop_oneof![
        any::<bool>().prop_map(|nanoseconds| Form::Pcap { nanoseconds }),
        Just(Form::Pcapng),
        Just(Form::Pcapng)
    ];
    let packet = (any::<u32>(), prop::collection::vec(any::<u8>(), 0..90), any::<u8>());
    (form, any::<bool>(), prop::collection::vec(packet, 0..12))
        .prop_map(|(form, big, packets)| written(form, Order { big }, &packets))
}

proptest! {
    #![proptest_config(crate::make::cases(200))]

    #[test]
    fn any_cut_of_the_input_gives_the_same_packets(
        file in file(),
        coding in 0..3,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes = match coding {
            0 => file.bytes.clone(),
            1 => gzip(&file.bytes),
            _ => zstd(&file.bytes),
        };
        let expected = whole(&file.bytes);
        prop_assert_eq!(expected.fault, None);
        prop_assert_eq!(expected.packets.len(), file.ends.last().unwrap().1);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&read(&pieces), &expected);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single), &expected);
    }

    #[test]
    fn file_cut_anywhere_gives_what_was_whole_and_says_where_it_ends(file in file(), at in any::<prop::sample::Index>()) {
        let length = at.index(file.bytes.len() + 1);
        let found = whole(&file.bytes[..length]);
        let maybe_last = file.ends.iter().rev().find(|(end, _)| *end <= length);
        let (end, packets) = maybe_last.copied().unwrap_or((0, 0));
        prop_assert_eq!(found.packets, whole(&file.bytes).packets[..packets].to_vec());
        let fault = match length {
            0..4 => Some(Fault { offset: 0, kind: FaultKind::NotACapture }),
            _ if length == end => None,
            _ => Some(Fault { offset: end as u64, kind: FaultKind::Truncated }),
        };
        prop_assert_eq!(found.fault, fault);
        for packed in [gzip(&file.bytes), zstd(&file.bytes)] {
            let cut = at.index(packed.len() - 4) + 4;
            let found = whole(&packed[..cut]);
            prop_assert!(whole(&file.bytes).packets.starts_with(&found.packets));
            prop_assert_eq!(found.fault.map(|fault| fault.kind), Some(FaultKind::Truncated));
        }
    }

    #[test]
    fn damaged_file_gives_no_packet_twice_and_ends(
        file in file(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let mut bytes = file.bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let found = whole(&bytes);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single), &found);
        let before = file.ends.iter().rev().find(|(end, _)| *end <= at).map_or(0, |(_, packets)| *packets);
        prop_assert_eq!(&found.packets[..before], &whole(&file.bytes).packets[..before]);
        for mut packed in [gzip(&bytes), zstd(&bytes)] {
            let at = at % packed.len();
            packed[at] ^= flip;
            let found = whole(&packed);
            let single: Vec<&[u8]> = packed.chunks(1).collect();
            prop_assert_eq!(&read(&single), &found);
        }
    }
}
