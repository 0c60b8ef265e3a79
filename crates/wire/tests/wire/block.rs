//! Blocks of both formats: every packet comes back; where lengths do not add up the block ends.
use crate::make::{ETHERNET, RAW, packet};
use bunker_wire::Packet;
use bunker_wire::block::{BlockFault, BlockFormat, PACKED_HEADER, PackedWriter, packets};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    ts_ns: u64,
    captured: Vec<u8>,
    wire_len: u32,
    linktype: u16,
    vlan: Option<(u16, u16)>,
    checksum_not_ready: bool,
}

impl Owned {
    fn packet(&self) -> Packet<'_> {
        Packet {
            ts_ns: self.ts_ns,
            captured: &self.captured,
            wire_len: self.wire_len,
            linktype: self.linktype,
            vlan: self.vlan,
            checksum_not_ready: self.checksum_not_ready,
        }
    }
}

fn owned(packet: &Packet<'_>) -> Owned {
    Owned {
        ts_ns: packet.ts_ns,
        captured: packet.captured.to_vec(),
        wire_len: packet.wire_len,
        linktype: packet.linktype,
        vlan: packet.vlan,
        checksum_not_ready: packet.checksum_not_ready,
    }
}

/// All packets up to the damage, and the damage. Nothing may come after it.
fn read(format: BlockFormat, block: &[u8]) -> (Vec<Owned>, Option<BlockFault>) {
    let mut found = Vec::new();
    let mut maybe_fault = None;
    for one in packets(format, block) {
        assert_eq!(maybe_fault, None, "something after the damage");
        match one {
            Ok(packet) => found.push(owned(&packet)),
            Err(fault) => maybe_fault = Some(fault),
        }
    }
    (found, maybe_fault)
}

fn any_packet() -> impl Strategy<Value = Owned> {
    let tag = prop::option::of((any::<u16>(), any::<u16>()));
    let data = prop::collection::vec(any::<u8>(), 0..70);
    (any::<u64>(), data, any::<u32>(), any::<u16>(), tag, any::<bool>()).prop_map(
        |(ts_ns, captured, wire_len, linktype, vlan, checksum_not_ready)| Owned {
            ts_ns,
            captured,
            wire_len,
            linktype,
            vlan,
            checksum_not_ready,
        },
    )
}

fn packed(all: &[Owned]) -> Vec<u8> {
    let mut writer = PackedWriter::new(1 << 16);
    for one in all {
        assert!(writer.push(&one.packet(), 3));
    }
    let block = writer.take().unwrap();
    assert_eq!(block.packet_count as usize, all.len());
    assert_eq!((block.first_ts_ns, block.last_ts_ns), (all[0].ts_ns, all[all.len() - 1].ts_ns));
    block.bytes
}

/// A block as the kernel writes it (linux/if_packet.h): descriptor of 48 bytes, then packets.
fn tpacket(all: &[Owned]) -> Vec<u8> {
    let mut block = vec![0_u8; 48];
    block[12..16].copy_from_slice(&(all.len() as u32).to_le_bytes());
    block[16..20].copy_from_slice(&48_u32.to_le_bytes());
    for (number, one) in all.iter().enumerate() {
        let mac = 82_usize;
        let next = (mac + one.captured.len()).next_multiple_of(16);
        let last = number + 1 == all.len();
        let mut header = vec![0_u8; 48 + 20];
        let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, if last { 0 } else { next as u32 });
        put(4, (one.ts_ns / 1_000_000_000) as u32);
        put(8, (one.ts_ns % 1_000_000_000) as u32);
        put(12, one.captured.len() as u32);
        put(16, one.wire_len);
        put(20, if one.vlan.is_some() { 0x50 } else { 0 } | if one.checksum_not_ready { 8 } else { 0 } | 1);
        put(32, one.vlan.map_or(0xFFFF, |(tci, _)| u32::from(tci)));
        header[24..26].copy_from_slice(&(mac as u16).to_le_bytes());
        header[36..38].copy_from_slice(&one.vlan.map_or(0, |(_, tpid)| tpid).to_le_bytes());
        let hatype: u16 = if one.linktype == RAW { 65_534 } else { 1 };
        header[56..58].copy_from_slice(&hatype.to_le_bytes());
        let start = block.len();
        block.extend(header);
        block.resize(start + mac, 0xEE);
        block.extend_from_slice(&one.captured);
        if !last {
            block.resize(start + next, 0xEE);
        }
    }
    block
}

fn kernel_packet() -> impl Strategy<Value = Owned> {
    (any_packet(), 0_u64..4_000_000_000_000_000_000, any::<bool>()).prop_map(|(packet, ts_ns, raw)| Owned {
        ts_ns,
        linktype: if raw { RAW } else { ETHERNET },
        ..packet
    })
}

proptest! {
    #![proptest_config(crate::make::cases(200))]

    #[test]
    fn packed_packets_come_back(all in prop::collection::vec(any_packet(), 1..20)) {
        prop_assert_eq!(read(BlockFormat::Packed, &packed(&all)), (all, None));
    }

    #[test]
    fn kernels_packets_come_back(all in prop::collection::vec(kernel_packet(), 1..20)) {
        prop_assert_eq!(read(BlockFormat::TpacketV3, &tpacket(&all)), (all, None));
    }

    #[test]
    fn block_cut_anywhere_gives_what_was_whole_and_one_fault(
        all in prop::collection::vec(kernel_packet(), 1..8),
        at in any::<prop::sample::Index>(),
    ) {
        for (format, block) in [(BlockFormat::Packed, packed(&all)), (BlockFormat::TpacketV3, tpacket(&all))] {
            let length = at.index(block.len());
            let (found, fault) = read(format, &block[..length]);
            prop_assert!(all.starts_with(&found) && found.len() < all.len() || format == BlockFormat::Packed);
            prop_assert_eq!(fault.map(|fault| fault.packets_before as usize), Some(found.len()));
        }
    }

    #[test]
    fn no_bytes_are_too_strange(mut block in prop::collection::vec(any::<u8>(), 0..300), count in 0_u32..9) {
        for format in [BlockFormat::Packed, BlockFormat::TpacketV3] {
            read(format, &block);
            let at = if format == BlockFormat::Packed { 8 } else { 12 };
            if let Some(place) = block.get_mut(at..at + 4) {
                place.copy_from_slice(&count.to_le_bytes());
            }
            let (found, fault) = read(format, &block);
            prop_assert!(fault.is_some() || found.len() == count as usize);
        }
    }
}

fn three() -> Vec<Owned> {
    (0..3_u8)
        .map(|number| Owned {
            ts_ns: u64::from(number),
            captured: vec![number; 9],
            wire_len: 9,
            linktype: ETHERNET,
            vlan: None,
            checksum_not_ready: false,
        })
        .collect()
}

#[test]
fn packed_header_that_is_wrong_is_one_fault() {
    let good = packed(&three());
    for (name, at, value) in
        [("magic", 0, 1_u8), ("version", 4, 2), ("header length", 6, 24), ("header length 0", 6, 0), ("length", 12, 1)]
    {
        let mut block = good.clone();
        block[at] = value;
        let (found, fault) = read(BlockFormat::Packed, &block);
        assert_eq!((found.len(), fault.map(|fault| fault.packets_before)), (0, Some(0)), "{name}");
    }
}

#[test]
fn lengths_that_do_not_add_up_are_a_fault_behind_the_packets() {
    let mut block = packed(&three());
    block[8] = 2; // one packet fewer than the block holds
    let (found, fault) = read(BlockFormat::Packed, &block);
    assert_eq!((found.len(), fault.map(|fault| fault.packets_before)), (2, Some(2)));
    block[8] = 4;
    let (found, fault) = read(BlockFormat::Packed, &block);
    assert_eq!((found.len(), fault.map(|fault| fault.packets_before)), (3, Some(3)));
    let mut block = packed(&three());
    block[PACKED_HEADER + 8] = 200;
    let (found, fault) = read(BlockFormat::Packed, &block);
    assert_eq!((found.len(), fault), (0, Some(BlockFault { offset: 32, packets_before: 0 })));
}

#[test]
fn kernels_packets_that_overlap_are_a_fault() {
    let mut block = tpacket(&three());
    block[48..52].copy_from_slice(&16_u32.to_le_bytes());
    let (found, fault) = read(BlockFormat::TpacketV3, &block);
    assert_eq!((found.len(), fault), (0, Some(BlockFault { offset: 48, packets_before: 0 })));
}

#[test]
fn stale_bytes_behind_a_kernels_block_are_not_read() {
    // The caller seals `blk_len` bytes only; what stands behind is of an earlier lap.
    let mut block = tpacket(&three());
    let length = block.len();
    block.extend_from_slice(&tpacket(&three()));
    assert_eq!(read(BlockFormat::TpacketV3, &block).0, read(BlockFormat::TpacketV3, &block[..length]).0);
}

#[test]
fn vlan_tag_counts_by_its_flag_and_not_by_its_value() {
    let mut all = three();
    all[0].vlan = Some((0, 0x88A8));
    assert_eq!(read(BlockFormat::TpacketV3, &tpacket(&all)).0[0].vlan, Some((0, 0x88A8)));
    let mut block = tpacket(&all);
    block[48 + 20] = 0x10; // valid, but the kernel is too old to say the identifier
    assert_eq!(read(BlockFormat::TpacketV3, &block).0[0].vlan, Some((0, 0x8100)));
    block[48 + 20] = 0x40;
    assert_eq!(read(BlockFormat::TpacketV3, &block).0[0].vlan, None);
}

#[test]
fn writer_takes_what_fits_and_not_a_byte_more() {
    for (length, fits) in [(8, true), (9, false)] {
        let mut writer = PackedWriter::new(PACKED_HEADER + 2 * (PACKED_HEADER + 8));
        assert!(writer.push(&packet(&[1; 8], RAW, 5), 0));
        assert_eq!(writer.push(&packet(&vec![2; length], RAW, 6), 0), fits);
        let block = writer.take().unwrap();
        assert_eq!(block.packet_count, 1 + u32::from(fits));
        assert_eq!(read(BlockFormat::Packed, &block.bytes).1, None);
        assert!(writer.take().is_none() && writer.count() == 0);
        assert!(writer.push(&packet(&[3; 8], RAW, 9), 0), "the writer starts over");
        assert_eq!(writer.take().unwrap().first_ts_ns, 9);
    }
}

#[test]
fn formats_have_their_numbers() {
    let found: Vec<_> = (0..4).map(BlockFormat::from_number).collect();
    assert_eq!(found, [None, Some(BlockFormat::TpacketV3), Some(BlockFormat::Packed), None]);
}
