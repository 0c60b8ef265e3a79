//! Blocks: packets as the kernel's ring delivered them, or as the reader of capture files packed them.
//!
//! Rules of this file (format: `docs/formats/block.md`):
//! 1. Every length is checked before use; the packets before a damage count, the block ends there with a [`BlockFault`].
//! 2. After a fault or the last packet the iterator stays at its end.
use crate::bytes::{le16, le32, le64};
use crate::packet::Packet;

/// How the packets of a block are laid out. The number is authenticated with the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockFormat {
    /// The kernel's TPACKET_V3 block, native (little) byte order.
    TpacketV3 = 1,
    /// Our own, from capture files.
    Packed = 2,
}

impl BlockFormat {
    /// The format of this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::TpacketV3),
            2 => Some(Self::Packed),
            _ => None,
        }
    }
}

/// A block whose lengths do not add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockFault {
    /// Where, in bytes from the start of the block.
    pub offset: usize,
    /// Packets before the damage.
    pub packets_before: u32,
}

/// `magic` of a packed block, little endian.
pub const PACKED_MAGIC: u32 = 0x424B_4E42;
/// Length of a packed block's header and of each packet's.
pub const PACKED_HEADER: usize = 32;

/// Iterator over a block's packets.
#[derive(Clone)]
pub struct Packets<'a> {
    format: BlockFormat,
    block: &'a [u8],
    offset: usize,
    left: u32,
    done: u32,
    failed: bool,
}

/// The packets of `block`.
///
/// A block too short for its own header yields one fault.
#[must_use]
pub fn packets(format: BlockFormat, block: &[u8]) -> Packets<'_> {
    let start = match format {
        BlockFormat::TpacketV3 => le32(block, 12).zip(le32(block, 16)).map(|(count, first)| (count, first as usize)),
        BlockFormat::Packed => (le32(block, 0) == Some(PACKED_MAGIC)
            && le16(block, 4) == Some(1)
            && le16(block, 6).map(usize::from) == Some(PACKED_HEADER)
            && le32(block, 12).map(|length| length as usize) == Some(block.len()))
        .then(|| le32(block, 8).map(|count| (count, PACKED_HEADER)))
        .flatten(),
    };
    let (left, offset, failed) = start.map_or((1, 0, true), |(count, first)| (count, first, false));
    Packets { format, block, offset, left, done: 0, failed }
}

impl<'a> Packets<'a> {
    /// Packets that the block's header claims and that have not been handed out.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    fn tpacket(&self) -> Option<(Packet<'a>, usize)> {
        const VLAN_VALID: u32 = 0x10;
        const CHECKSUM_NOT_READY: u32 = 0x8;
        const VLAN_TPID_VALID: u32 = 0x40;
        let header = self.block.get(self.offset..)?;
        let next = le32(header, 0)? as usize;
        let (seconds, nanoseconds) = (u64::from(le32(header, 4)?), u64::from(le32(header, 8)?));
        let (snaplen, wire_len, status) = (le32(header, 12)?, le32(header, 16)?, le32(header, 20)?);
        let mac = usize::from(le16(header, 24)?);
        let (tci, tpid) = (le32(header, 32)?, le16(header, 36)?);
        let hatype = le16(header, 48 + 8)?;
        let captured_end = mac.checked_add(snaplen as usize)?;
        let captured = header.get(mac..captured_end)?;
        if next != 0 && next < captured_end {
            return None; // packets do not overlap
        }
        let vlan = (status & VLAN_VALID != 0)
            .then(|| ((tci & 0xFFFF) as u16, if status & VLAN_TPID_VALID == 0 { 0x8100 } else { tpid }));
        let packet = Packet {
            ts_ns: seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)?,
            captured,
            wire_len,
            linktype: linktype_of_hatype(hatype),
            vlan,
            checksum_not_ready: status & CHECKSUM_NOT_READY != 0,
        };
        let end = if next == 0 { self.block.len() } else { self.offset.checked_add(next)? };
        Some((packet, end))
    }

    fn packed(&self) -> Option<(Packet<'a>, usize)> {
        let header = self.block.get(self.offset..)?;
        let captured_len = le32(header, 8)? as usize;
        let flags = le16(header, 18)?;
        let end = PACKED_HEADER.checked_add(captured_len)?;
        let packet = Packet {
            ts_ns: le64(header, 0)?,
            captured: header.get(PACKED_HEADER..end)?,
            wire_len: le32(header, 12)?,
            linktype: le16(header, 16)?,
            vlan: (flags & 1 != 0).then_some((le16(header, 20)?, le16(header, 22)?)),
            checksum_not_ready: flags & 2 != 0,
        };
        Some((packet, self.offset.checked_add(end.checked_next_multiple_of(8)?)?))
    }
}

/// The link type of an interface by its ARP hardware type (linux/if_arp.h).
const fn linktype_of_hatype(hatype: u16) -> u16 {
    match hatype {
        768 | 769 | 776 | 778 | 512 | 65534 => 101, // tunnels, PPP without header, raw IP
        801 => 105,
        802 => 119,
        803 => 127,
        _ => 1, // Ethernet (1), loopback (772), veth and bridges
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, BlockFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // Behind the last packet there is nothing: what a packed block's header counts is all of it.
            if self.failed || self.format == BlockFormat::TpacketV3 || self.offset == self.block.len() {
                return None;
            }
            self.failed = true;
            return Some(Err(BlockFault { offset: self.offset, packets_before: self.done }));
        }
        let read = if self.failed {
            None
        } else {
            match self.format {
                BlockFormat::TpacketV3 => self.tpacket(),
                BlockFormat::Packed => self.packed(),
            }
        };
        let Some((packet, end)) = read else {
            self.left = 0;
            self.failed = true;
            return Some(Err(BlockFault { offset: self.offset, packets_before: self.done }));
        };
        self.offset = end;
        self.left = self.left.saturating_sub(1);
        self.done = self.done.saturating_add(1);
        Some(Ok(packet))
    }
}

/// Fills one packed block.
pub struct PackedWriter {
    bytes: Vec<u8>,
    count: u32,
    first_ts_ns: u64,
    last_ts_ns: u64,
    capacity: usize,
}

impl PackedWriter {
    /// An empty block of at most `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { bytes: Vec::new(), count: 0, first_ts_ns: 0, last_ts_ns: 0, capacity }
    }

    /// Packets so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Add a packet; false when it does not fit (an empty block takes any packet up to its capacity).
    pub fn push(&mut self, packet: &Packet<'_>, interface: u32) -> bool {
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(self.capacity);
            self.bytes.resize(PACKED_HEADER, 0);
        }
        let needed = PACKED_HEADER.saturating_add(packet.captured.len().next_multiple_of(8));
        if self.bytes.len().saturating_add(needed) > self.capacity {
            return false;
        }
        if self.count == 0 {
            self.first_ts_ns = packet.ts_ns;
        }
        self.last_ts_ns = packet.ts_ns;
        self.count = self.count.saturating_add(1);
        let (tci, tpid) = packet.vlan.unwrap_or((0, 0));
        let flags = u16::from(packet.vlan.is_some()) | (u16::from(packet.checksum_not_ready) << 1);
        self.bytes.extend_from_slice(&packet.ts_ns.to_le_bytes());
        self.bytes.extend_from_slice(&u32::try_from(packet.captured.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(&packet.wire_len.to_le_bytes());
        self.bytes.extend_from_slice(&packet.linktype.to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&tci.to_le_bytes());
        self.bytes.extend_from_slice(&tpid.to_le_bytes());
        self.bytes.extend_from_slice(&interface.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(packet.captured);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        true
    }

    /// The finished block, or None if it is empty; the writer starts over.
    pub fn take(&mut self) -> Option<PackedBlock> {
        if self.count == 0 {
            return None;
        }
        let mut bytes = core::mem::take(&mut self.bytes);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(PACKED_HEADER);
        header.extend_from_slice(&PACKED_MAGIC.to_le_bytes());
        header.extend_from_slice(&1u16.to_le_bytes());
        header.extend_from_slice(&(PACKED_HEADER as u16).to_le_bytes());
        header.extend_from_slice(&self.count.to_le_bytes());
        header.extend_from_slice(&length.to_le_bytes());
        header.extend_from_slice(&self.first_ts_ns.to_le_bytes());
        header.extend_from_slice(&self.last_ts_ns.to_le_bytes());
        if let Some(place) = bytes.get_mut(..PACKED_HEADER) {
            place.copy_from_slice(&header);
        }
        let block =
            PackedBlock { bytes, packet_count: self.count, first_ts_ns: self.first_ts_ns, last_ts_ns: self.last_ts_ns };
        self.count = 0;
        Some(block)
    }
}

/// A finished packed block.
pub struct PackedBlock {
    /// The block, header included.
    pub bytes: Vec<u8>,
    /// Packets in it.
    pub packet_count: u32,
    /// Capture time of the first, ns.
    pub first_ts_ns: u64,
    /// Capture time of the last, ns.
    pub last_ts_ns: u64,
}
