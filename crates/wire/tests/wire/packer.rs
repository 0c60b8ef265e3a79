//! Capture files into blocks: each packet in one lane's block, or counted.
use crate::make::{A, ETHERNET, ethernet, ipv4, udp};
use bunker_wire::block::{BlockFormat, packets};
use bunker_wire::bpf::{MAX_INSTRUCTIONS, Program};
use bunker_wire::packer::Packer;
use std::collections::{HashMap, HashSet};

/// A pcap of Ethernet frames.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 1, 0, 0, 0];
    for (number, frame) in frames.iter().enumerate() {
        for word in [number as u32, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}

fn frames(count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let other = [198, 51, 100, number % 50];
            ethernet(0x0800, &ipv4(A, other, 17, &udp(&A, &other, (1, 2), &vec![number; usize::from(number)])))
        })
        .collect()
}

fn program(instructions: &[(u16, u8, u8, u32)]) -> Option<Program> {
    let bytes: Vec<u8> = instructions
        .iter()
        .flat_map(|(code, jt, jf, k)| {
            let [c0, c1] = code.to_le_bytes();
            let [k0, k1, k2, k3] = k.to_le_bytes();
            [c0, c1, *jt, *jf, k0, k1, k2, k3]
        })
        .collect();
    Program::from_bytes(&bytes)
}

/// Packets by lane: time and bytes.
fn packed(packer: &mut Packer, file: &[u8], piece: usize) -> Vec<(u16, u64, Vec<u8>)> {
    let mut blocks = Vec::new();
    for bytes in file.chunks(piece) {
        packer.feed(bytes).unwrap();
        blocks.extend(packer.take_full());
    }
    packer.end_file().unwrap();
    blocks.extend(packer.take_rest());
    let mut found = Vec::new();
    for (lane, block) in blocks {
        let mut count = 0;
        for packet in packets(BlockFormat::Packed, &block.bytes) {
            let packet = packet.unwrap();
            found.push((lane, packet.ts_ns, packet.captured.to_vec()));
            count += 1;
        }
        assert_eq!(count, block.packet_count);
    }
    found
}

#[test]
fn each_packet_is_in_one_block_and_hosts_stay_together() {
    let frames = frames(200);
    let mut packer = Packer::new(3, 2_000, 65_535, None, [5; 16]);
    let mut found = packed(&mut packer, &pcap(&frames), 777);
    for lane in 0..3 {
        let times: Vec<_> = found.iter().filter(|packet| packet.0 == lane).map(|packet| packet.1).collect();
        assert!(times.is_sorted() && !times.is_empty());
    }
    let pairs: HashSet<(u16, u8)> = found.iter().map(|(lane, _, bytes)| (*lane, bytes[14 + 19])).collect();
    assert_eq!(pairs.len(), 50, "one lane for each pair of hosts");
    found.sort_by_key(|packet| packet.1);
    assert_eq!(found.into_iter().map(|packet| packet.2).collect::<Vec<_>>(), frames);
    let counters = packer.counters();
    assert_eq!((counters.read, counters.filtered, counters.cut, counters.too_long), (200, 0, 0, 0));
}

#[test]
fn cut_of_the_input_changes_nothing() {
    let file = pcap(&frames(60));
    let once = packed(&mut Packer::new(2, 1_500, 100, None, [5; 16]), &file, usize::MAX);
    for piece in [1, 2, 23, 24, 25, 1_000] {
        assert_eq!(packed(&mut Packer::new(2, 1_500, 100, None, [5; 16]), &file, piece), once);
    }
}

#[test]
fn snaplen_cuts_and_counts_from_the_first_byte_too_many() {
    let frames = [vec![1; 99], vec![2; 100], vec![3; 101]];
    let mut packer = Packer::new(1, 2_000, 100, None, [5; 16]);
    let found = packed(&mut packer, &pcap(&frames), 1_000);
    assert_eq!(found.iter().map(|packet| packet.2.len()).collect::<Vec<_>>(), [99, 100, 100]);
    assert_eq!(packer.counters().cut, 1);
}

#[test]
fn packet_longer_than_a_block_is_left_out_and_counted() {
    let frames = [vec![1; 50], vec![2; 137], vec![3; 136], vec![4; 50]];
    let mut packer = Packer::new(1, 200, 65_535, None, [5; 16]);
    let found = packed(&mut packer, &pcap(&frames), 1_000);
    assert_eq!(found.iter().map(|packet| packet.2[0]).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!((packer.counters().too_long, packer.counters().read), (1, 4));
}

#[test]
fn filter_passes_by_link_type_and_says_how_much_to_keep() {
    let frames = [ethernet(0x0800, &[1; 60]), ethernet(0x0806, &[2; 60])];
    // ldh [12]; jeq 0x800 -> ret 40; ret 0
    let keep = || program(&[(0x28, 0, 0, 12), (0x15, 0, 1, 0x0800), (0x06, 0, 0, 40), (0x06, 0, 0, 0)]).unwrap();
    for (linktype, lengths, filtered) in [(ETHERNET, vec![40], 1), (101, vec![], 2)] {
        let filters = HashMap::from([(linktype, keep())]);
        let mut packer = Packer::new(1, 2_000, 65_535, Some(filters), [5; 16]);
        let found = packed(&mut packer, &pcap(&frames), 1_000);
        assert_eq!(found.iter().map(|packet| packet.2.len()).collect::<Vec<_>>(), lengths);
        assert_eq!((packer.counters().filtered, packer.counters().cut), (filtered, lengths.len() as u64));
    }
}

#[test]
fn damaged_file_ends_and_the_next_one_is_read() {
    let mut packer = Packer::new(1, 2_000, 65_535, None, [5; 16]);
    let file = pcap(&frames(3));
    packer.feed(&file[..file.len() - 1]).unwrap();
    assert!(packer.end_file().is_err());
    assert!(packer.feed(b"this is no capture").is_err());
    assert!(packer.end_file().is_err());
    assert_eq!(packed(&mut packer, &file, 10).len(), 2 + 3);
}

#[test]
fn programs_that_might_not_end_are_refused() {
    let good: &[(u16, u8, u8, u32)] = &[(0x28, 0, 0, 12), (0x15, 0, 1, 1), (0x06, 0, 0, 1), (0x06, 0, 0, 0)];
    assert!(program(good).is_some());
    for (name, bad) in [
        ("empty", vec![]),
        ("no return at the end", vec![(0x28, 0, 0, 12)]),
        ("jump behind the end", vec![(0x05, 0, 0, 1), (0x06, 0, 0, 0)]),
        ("jump backwards", vec![(0x05, 0, 0, u32::MAX), (0x06, 0, 0, 0)]),
        ("branch behind the end", vec![(0x15, 1, 0, 1), (0x06, 0, 0, 0)]),
        ("unknown instruction", vec![(0xFF, 0, 0, 0), (0x06, 0, 0, 0)]),
        ("memory that is not there", vec![(0x60, 0, 0, 16), (0x06, 0, 0, 0)]),
        ("division by zero", vec![(0x34, 0, 0, 0), (0x06, 0, 0, 0)]),
        ("too long", vec![(0x06, 0, 0, 0); MAX_INSTRUCTIONS + 1]),
    ] {
        assert!(program(&bad).is_none(), "{name}");
    }
    assert!(program(&[(0x06, 0, 0, 0); MAX_INSTRUCTIONS]).is_some());
    assert!(Program::from_bytes(&[6, 0, 0, 0, 0, 0, 0]).is_none());
}

#[test]
fn instructions_do_what_the_kernels_do() {
    let packet = [0x45, 1, 2, 3, 4, 5, 6, 7];
    let run = |body: &[(u16, u8, u8, u32)]| {
        let mut all = body.to_vec();
        all.push((0x16, 0, 0, 0)); // ret A
        program(&all).unwrap().run(&packet, 1_500)
    };
    for (name, body, expected) in [
        ("ld [0]", vec![(0x20, 0, 0, 0)], 0x4501_0203),
        ("ldh [6]", vec![(0x28, 0, 0, 6)], 0x0607),
        ("ldh [7] beyond", vec![(0x00, 0, 0, 9), (0x28, 0, 0, 7)], 0),
        ("ldb [1]", vec![(0x30, 0, 0, 1)], 1),
        ("len", vec![(0x80, 0, 0, 0)], 1_500),
        ("ldx msh; txa", vec![(0xB1, 0, 0, 0), (0x87, 0, 0, 0)], 20),
        ("ldx #2; ldb [x+1]", vec![(0x01, 0, 0, 2), (0x50, 0, 0, 1)], 3),
        ("ldx max; ldb [x+1]", vec![(0x01, 0, 0, u32::MAX), (0x50, 0, 0, 1)], 0),
        ("store and load", vec![(0x00, 0, 0, 7), (0x02, 0, 0, 3), (0x00, 0, 0, 0), (0x60, 0, 0, 3)], 7),
        ("add", vec![(0x00, 0, 0, u32::MAX), (0x04, 0, 0, 3)], 2),
        ("sub", vec![(0x00, 0, 0, 1), (0x14, 0, 0, 3)], u32::MAX - 1),
        ("mul", vec![(0x00, 0, 0, 6), (0x24, 0, 0, 7)], 42),
        ("div", vec![(0x00, 0, 0, 42), (0x34, 0, 0, 5)], 8),
        ("mod", vec![(0x00, 0, 0, 42), (0x94, 0, 0, 5)], 2),
        ("div x of 0", vec![(0x00, 0, 0, 42), (0x3C, 0, 0, 0)], 0),
        ("and or xor", vec![(0x00, 0, 0, 12), (0x54, 0, 0, 10), (0x44, 0, 0, 3), (0xA4, 0, 0, 1)], 10),
        ("lsh rsh", vec![(0x00, 0, 0, 1), (0x64, 0, 0, 5), (0x74, 0, 0, 2)], 8),
        ("neg", vec![(0x00, 0, 0, 1), (0x84, 0, 0, 0)], u32::MAX),
        ("jgt", vec![(0x00, 0, 0, 5), (0x25, 0, 1, 4), (0x04, 0, 0, 100)], 105),
        ("jge", vec![(0x00, 0, 0, 5), (0x35, 0, 1, 6), (0x04, 0, 0, 100)], 5),
        ("jset", vec![(0x00, 0, 0, 5), (0x45, 0, 1, 4), (0x04, 0, 0, 100)], 105),
        ("jeq x", vec![(0x01, 0, 0, 5), (0x00, 0, 0, 5), (0x1D, 0, 1, 9), (0x04, 0, 0, 100)], 105),
        ("ja", vec![(0x00, 0, 0, 5), (0x05, 0, 0, 1), (0x04, 0, 0, 100)], 5),
    ] {
        assert_eq!(run(&body), expected, "{name}");
    }
}
