//! Capture files: bytes in, packets out. pcap and pcapng, plain, gzip or zstd.
//!
//! Rules of this file:
//! 1. A push parser: any cut of the input gives the same packets. It holds at most one unfinished block (`MAX_BLOCK`).
//! 2. Damage ends the file where it is: what was readable before it has been delivered, the fault says offset and kind. Once failed,
//!    it stays failed.
//! 3. Blocks and options that carry names, secrets or comments are stepped over unread.
//!
//! Source: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
use std::io::Write;

use crate::bytes::{array, be16, be32, le16, le32};
use crate::packet::Packet;
use crate::zstd::ZstdStream;

/// Longest block or record that is accepted. Wireshark's limit for a pcapng block is 16 MiB.
pub const MAX_BLOCK: usize = 16 << 20;
/// Longest packet of a pcap file. libpcap's and Wireshark's limit for the links that are read here; a longer length is damage.
pub const MAX_PACKET: usize = 262_144;
/// Interfaces of one section. Wireshark warns above 65,535.
const MAX_INTERFACES: usize = 65_536;

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Neither pcap nor pcapng, nor one of them compressed.
    NotACapture,
    /// The file ends inside a record.
    Truncated,
    /// A length that cannot be right.
    BadLength,
    /// A packet of an interface that was not described.
    BadInterface,
    /// A version that is not read.
    BadVersion,
    /// The compressed stream is damaged.
    BadCompression,
}

impl FaultKind {
    /// One word for messages and counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotACapture => "not_a_capture",
            Self::Truncated => "truncated",
            Self::BadLength => "bad_length",
            Self::BadInterface => "bad_interface",
            Self::BadVersion => "bad_version",
            Self::BadCompression => "bad_compression",
        }
    }
}

/// Where a file is damaged: an offset in the decompressed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Bytes from the start.
    pub offset: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

#[derive(Clone, Copy)]
struct Interface {
    linktype: u16,
    snaplen: u32,
    /// Ticks a second; as a power of ten or two.
    resolution: u8,
    offset_s: i64,
}

/// Which of a pcap record's lengths comes first: the captured one since version 2.4, the wire's before 2.3, and in 2.3 either.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    Captured,
    Wire,
    Shorter,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Pcap {
    big: bool,
    nanoseconds: bool,
    header: usize,
    linktype: u16,
    lengths: Lengths,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Unknown,
    Pcap(Pcap),
    Pcapng { big: bool },
}

enum Coding {
    Unknown,
    Plain,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<ZstdStream>),
}

/// A capture file being read.
pub struct CaptureFile {
    coding: Coding,
    head: Vec<u8>,
    held: Vec<u8>,
    consumed: u64,
    format: Format,
    interfaces: Vec<Interface>,
    maybe_fault: Option<Fault>,
    /// Packets delivered.
    pub packets: u64,
}

impl Default for CaptureFile {
    fn default() -> Self {
        Self::new()
    }
}

impl CaptureFile {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            coding: Coding::Unknown,
            head: Vec::new(),
            held: Vec::new(),
            consumed: 0,
            format: Format::Unknown,
            interfaces: Vec::new(),
            maybe_fault: None,
            packets: 0,
        }
    }

    /// Take bytes; hand every complete packet, with the number of its interface, to `sink`.
    ///
    /// # Errors
    /// [`Fault`]: the file is damaged here; every packet before it was delivered.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        if let Some(fault) = self.maybe_fault {
            return Err(fault);
        }
        let result = self.decode(bytes, sink);
        if let Err(fault) = result {
            self.maybe_fault = Some(fault);
        }
        result
    }

    /// The file has ended.
    ///
    /// # Errors
    /// [`Fault`]: it ended inside a record, or is no capture at all.
    pub fn finish(&mut self, sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        if let Some(fault) = self.maybe_fault {
            return Err(fault);
        }
        let result = self.finish_coding(sink).and_then(|()| {
            if !self.held.is_empty() || !self.head.is_empty() {
                let begun = self.format != Format::Unknown || le32(&self.held, 0).is_some_and(is_magic);
                Err(self.fault(if begun { FaultKind::Truncated } else { FaultKind::NotACapture }))
            } else if self.format == Format::Unknown {
                Err(self.fault(FaultKind::NotACapture))
            } else {
                Ok(())
            }
        });
        if let Err(fault) = result {
            self.maybe_fault = Some(fault);
        }
        result
    }

    const fn fault(&self, kind: FaultKind) -> Fault {
        Fault { offset: self.consumed, kind }
    }

    fn decode(&mut self, bytes: &[u8], sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        if matches!(self.coding, Coding::Unknown) {
            self.head.extend_from_slice(bytes);
            if self.head.len() < 4 {
                return Ok(());
            }
            self.coding = match self.head.as_slice() {
                [0x1F, 0x8B, ..] => Coding::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new()))),
                [0x28, 0xB5, 0x2F, 0xFD, ..] => Coding::Zstd(Box::default()),
                _ => Coding::Plain,
            };
            let head = core::mem::take(&mut self.head);
            return self.decode(&head, sink);
        }
        // In pieces: a bomb must not unfold all at once.
        for piece in bytes.chunks(1 << 16) {
            let (plain, ok) = match &mut self.coding {
                Coding::Unknown => (Vec::new(), true),
                Coding::Plain => {
                    self.parse(piece, sink)?;
                    continue;
                }
                Coding::Gzip(decoder) => {
                    let ok = decoder.write_all(piece).is_ok();
                    if !ok {
                        let _ = decoder.try_finish(); // fails, too, but first hands out what it had decoded
                    }
                    (core::mem::take(decoder.get_mut()), ok)
                }
                Coding::Zstd(stream) => {
                    let mut plain = Vec::new();
                    let ok = stream.feed(piece, &mut plain);
                    (plain, ok)
                }
            };
            self.parse(&plain, sink)?;
            if !ok {
                return Err(self.fault(FaultKind::BadCompression));
            }
        }
        Ok(())
    }

    fn finish_coding(&mut self, sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        let (plain, maybe_kind) = match &mut self.coding {
            Coding::Unknown | Coding::Plain => return Ok(()),
            Coding::Gzip(decoder) => {
                let ended = decoder.try_finish();
                let plain = core::mem::take(decoder.get_mut());
                let maybe_kind = ended.err().map(|error| match error.kind() {
                    // «Wrong checksum» is also said of one that is not all there: only then is another byte of it taken.
                    std::io::ErrorKind::InvalidInput if decoder.write_all(&[0]).is_err() => FaultKind::BadCompression,
                    _ => FaultKind::Truncated,
                });
                (plain, maybe_kind)
            }
            Coding::Zstd(stream) => {
                let mut plain = Vec::new();
                let done = stream.finish(&mut plain);
                (plain, (!done).then_some(FaultKind::Truncated))
            }
        };
        self.parse(&plain, sink)?;
        maybe_kind.map_or(Ok(()), |kind| Err(self.fault(kind)))
    }

    fn parse(&mut self, bytes: &[u8], sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        let mut held = core::mem::take(&mut self.held);
        let owned;
        let input: &[u8] = if held.is_empty() {
            bytes
        } else {
            held.extend_from_slice(bytes);
            owned = held;
            &owned
        };
        let mut rest = input;
        loop {
            let used = match self.format {
                Format::Unknown => self.start(rest)?,
                Format::Pcap(pcap) => self.record(rest, pcap, sink)?,
                Format::Pcapng { big } => self.block(rest, big, sink)?,
            };
            if used == 0 {
                break;
            }
            self.consumed = self.consumed.saturating_add(used as u64);
            rest = rest.get(used..).unwrap_or(&[]);
        }
        self.held = rest.to_vec();
        Ok(())
    }

    /// Recognise the file; 0 if more bytes are needed.
    fn start(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let Some(magic) = le32(bytes, 0) else { return Ok(0) };
        let (big, nanoseconds, header) = match magic {
            0xA1B2_C3D4 => (false, false, 16),
            0xD4C3_B2A1 => (true, false, 16),
            0xA1B2_3C4D => (false, true, 16),
            0x4D3C_B2A1 => (true, true, 16),
            0xA1B2_CD34 => (false, false, 24), // Kuznetzov's patched libpcap: interface, protocol, type
            0x34CD_B2A1 => (true, false, 24),
            0x0A0D_0D0A => {
                let Some(order) = array::<4>(bytes, 8) else { return Ok(0) };
                let big = match order {
                    [0x1A, 0x2B, 0x3C, 0x4D] => true,
                    [0x4D, 0x3C, 0x2B, 0x1A] => false,
                    _ => return Err(self.fault(FaultKind::NotACapture)),
                };
                self.format = Format::Pcapng { big };
                return self.block(bytes, big, &mut |_, _| {}).inspect(|used| {
                    if *used == 0 {
                        self.format = Format::Unknown;
                    }
                });
            }
            _ => return Err(self.fault(FaultKind::NotACapture)),
        };
        if bytes.len() < 24 {
            return Ok(0);
        }
        let half = |offset| if big { be16(bytes, offset) } else { le16(bytes, offset) };
        // 543.0 was what some wrote for 2.3 and before. (Kuznetzov's and all others write 2.4.)
        let lengths = match half(4).zip(half(6)) {
            Some((2, 4)) => Lengths::Captured,
            Some((2, 3)) => Lengths::Shorter,
            Some((2, 0..=2) | (543, 0)) => Lengths::Wire,
            _ => return Err(self.fault(FaultKind::BadVersion)),
        };
        // The upper bits of the network field may hold the length of a frame check sequence, and those between nothing (yet).
        let network = (if big { be32(bytes, 20) } else { le32(bytes, 20) }).unwrap_or(0);
        if network & 0x03FF_0000 != 0 {
            return Err(self.fault(FaultKind::BadVersion));
        }
        let linktype = u16::try_from(network & 0xFFFF).unwrap_or(0);
        self.format = Format::Pcap(Pcap { big, nanoseconds, header, linktype, lengths });
        Ok(24)
    }

    fn record(&mut self, bytes: &[u8], pcap: Pcap, sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<usize, Fault> {
        let Pcap { big, nanoseconds, header, linktype, lengths } = pcap;
        let word = |offset| if big { be32(bytes, offset) } else { le32(bytes, offset) };
        let (Some(seconds), Some(fraction), Some(first_len), Some(second_len)) = (word(0), word(4), word(8), word(12))
        else {
            return Ok(0);
        };
        if bytes.len() < header {
            return Ok(0);
        }
        let (captured_len, wire_len) = match lengths {
            Lengths::Captured => (first_len, second_len),
            Lengths::Wire => (second_len, first_len),
            Lengths::Shorter => (first_len.min(second_len), first_len.max(second_len)),
        };
        let length = captured_len as usize;
        // Captures of buses have longer ones; their bytes are not looked at.
        let longest = if matches!(linktype, 189 | 220 | 231 | 249 | 279) { MAX_BLOCK } else { MAX_PACKET };
        if length > longest {
            return Err(self.fault(FaultKind::BadLength));
        }
        let Some(captured) = bytes.get(header..header.saturating_add(length)) else { return Ok(0) };
        let unit = if nanoseconds { 1 } else { 1_000 };
        let ts_ns =
            u64::from(seconds).saturating_mul(1_000_000_000).saturating_add(u64::from(fraction).saturating_mul(unit));
        self.packets = self.packets.saturating_add(1);
        let packet = Packet {
            ts_ns,
            captured,
            wire_len: wire_len.max(captured_len),
            linktype,
            vlan: None,
            checksum_not_ready: false,
        };
        sink(&packet, 0);
        Ok(header.saturating_add(length))
    }

    fn block(&mut self, bytes: &[u8], big: bool, sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<usize, Fault> {
        let Some(kind) = (if big { be32(bytes, 0) } else { le32(bytes, 0) }) else { return Ok(0) };
        let big = if kind == 0x0A0D_0D0A {
            let Some(order) = array::<4>(bytes, 8) else { return Ok(0) };
            match order {
                [0x1A, 0x2B, 0x3C, 0x4D] => true,
                [0x4D, 0x3C, 0x2B, 0x1A] => false,
                _ => return Err(self.fault(FaultKind::BadLength)),
            }
        } else {
            big
        };
        let word = |offset| if big { be32(bytes, offset) } else { le32(bytes, offset) };
        let Some(length) = word(4).map(|length| length as usize) else { return Ok(0) };
        if length < 12 || length > MAX_BLOCK || !length.is_multiple_of(4) {
            return Err(self.fault(FaultKind::BadLength));
        }
        let Some(block) = bytes.get(..length) else { return Ok(0) };
        let trailer = length.saturating_sub(4);
        if word(trailer) != word(4) {
            return Err(self.fault(FaultKind::BadLength));
        }
        let body = block.get(8..trailer).unwrap_or(&[]);
        match kind {
            0x0A0D_0D0A => {
                let half = |offset| if big { be16(body, offset) } else { le16(body, offset) };
                // 1.2 is what some write for 1.0.
                if !matches!(half(4).zip(half(6)), Some((1, 0 | 2))) {
                    return Err(self.fault(FaultKind::BadVersion));
                }
                self.format = Format::Pcapng { big };
                self.interfaces.clear();
            }
            1 => self.describe_interface(body, big)?,
            2 => self.old_packet(body, big, sink)?,
            3 => self.simple_packet(body, big, sink)?,
            6 => self.enhanced_packet(body, big, sink)?,
            _ => {} // names, statistics, secrets, custom and unknown blocks
        }
        Ok(length)
    }

    fn describe_interface(&mut self, body: &[u8], big: bool) -> Result<(), Fault> {
        let (linktype, snaplen) = if big { (be16(body, 0), be32(body, 4)) } else { (le16(body, 0), le32(body, 4)) };
        let (Some(linktype), Some(snaplen)) = (linktype, snaplen) else {
            return Err(self.fault(FaultKind::BadLength));
        };
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(self.fault(FaultKind::BadInterface));
        }
        let mut interface = Interface { linktype, snaplen, resolution: 6, offset_s: 0 };
        let mut options = body.get(8..).unwrap_or(&[]);
        loop {
            let (code, length) =
                if big { (be16(options, 0), be16(options, 2)) } else { (le16(options, 0), le16(options, 2)) };
            let (Some(code), Some(length)) = (code, length) else { break };
            let end = 4_usize.saturating_add(usize::from(length));
            if code == 0 {
                break;
            }
            // An option that goes on behind its block: what it says of the packets' times cannot be known.
            let Some(value) = options.get(4..end) else { return Err(self.fault(FaultKind::BadLength)) };
            match (code, value) {
                (9, [resolution, ..]) => interface.resolution = *resolution,
                (14, value) => {
                    if let Some(bytes) = array::<8>(value, 0) {
                        interface.offset_s = if big { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                    }
                }
                _ => {}
            }
            options = options.get(end.next_multiple_of(4)..).unwrap_or(&[]);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn enhanced_packet(
        &mut self,
        body: &[u8],
        big: bool,
        sink: &mut impl FnMut(&Packet<'_>, u32),
    ) -> Result<(), Fault> {
        let word = |offset| if big { be32(body, offset) } else { le32(body, offset) };
        let (Some(number), Some(high), Some(low), Some(captured_len), Some(wire_len)) =
            (word(0), word(4), word(8), word(12), word(16))
        else {
            return Err(self.fault(FaultKind::BadLength));
        };
        let stamp = (u64::from(high) << 32) | u64::from(low);
        self.deliver(body.get(20..).unwrap_or(&[]), number, stamp, captured_len, wire_len, sink)
    }

    fn old_packet(&mut self, body: &[u8], big: bool, sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        let word = |offset| if big { be32(body, offset) } else { le32(body, offset) };
        let number = if big { be16(body, 0) } else { le16(body, 0) };
        let (Some(number), Some(high), Some(low), Some(captured_len), Some(wire_len)) =
            (number, word(4), word(8), word(12), word(16))
        else {
            return Err(self.fault(FaultKind::BadLength));
        };
        let stamp = (u64::from(high) << 32) | u64::from(low);
        self.deliver(body.get(20..).unwrap_or(&[]), u32::from(number), stamp, captured_len, wire_len, sink)
    }

    /// No time stamp: the packet gets the epoch, as Wireshark has it.
    fn simple_packet(&mut self, body: &[u8], big: bool, sink: &mut impl FnMut(&Packet<'_>, u32)) -> Result<(), Fault> {
        let Some(wire_len) = (if big { be32(body, 0) } else { le32(body, 0) }) else {
            return Err(self.fault(FaultKind::BadLength));
        };
        let Some(interface) = self.interfaces.first() else { return Err(self.fault(FaultKind::BadInterface)) };
        let room = u32::try_from(body.len().saturating_sub(4)).unwrap_or(u32::MAX);
        let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        self.deliver(body.get(4..).unwrap_or(&[]), 0, 0, wire_len.min(limit).min(room), wire_len, sink)
    }

    fn deliver(
        &mut self,
        bytes: &[u8],
        number: u32,
        stamp: u64,
        captured_len: u32,
        wire_len: u32,
        sink: &mut impl FnMut(&Packet<'_>, u32),
    ) -> Result<(), Fault> {
        let Some(interface) = self.interfaces.get(number as usize).copied() else {
            return Err(self.fault(FaultKind::BadInterface));
        };
        let Some(captured) = bytes.get(..captured_len as usize) else { return Err(self.fault(FaultKind::BadLength)) };
        self.packets = self.packets.saturating_add(1);
        let packet = Packet {
            ts_ns: nanoseconds(stamp, interface),
            captured,
            wire_len: wire_len.max(captured_len),
            linktype: interface.linktype,
            vlan: None,
            checksum_not_ready: false,
        };
        sink(&packet, number);
        Ok(())
    }
}

/// Whether a file that begins with these four bytes is a pcap or a pcapng.
const fn is_magic(word: u32) -> bool {
    matches!(word, 0xA1B2_C3D4 | 0xD4C3_B2A1 | 0xA1B2_3C4D | 0x4D3C_B2A1 | 0xA1B2_CD34 | 0x34CD_B2A1 | 0x0A0D_0D0A)
}

/// A time stamp in the interface's resolution, as nanoseconds since the epoch.
fn nanoseconds(stamp: u64, interface: Interface) -> u64 {
    let exponent = u32::from(interface.resolution & 0x7F);
    let stamp = u128::from(stamp);
    let value = if interface.resolution & 0x80 == 0 {
        if exponent <= 9 {
            stamp.saturating_mul(10_u128.saturating_pow(9_u32.saturating_sub(exponent)))
        } else {
            stamp.checked_div(10_u128.saturating_pow(exponent.saturating_sub(9).min(38))).unwrap_or(0)
        }
    } else {
        stamp.saturating_mul(1_000_000_000).checked_shr(exponent).unwrap_or(0)
    };
    let shifted = i128::try_from(value)
        .unwrap_or(i128::MAX)
        .saturating_add(i128::from(interface.offset_s).saturating_mul(1_000_000_000));
    u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
}
