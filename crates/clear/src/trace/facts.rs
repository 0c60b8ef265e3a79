//! Facts of a packet: its headers as typed layers, without payload. What the decoder finds, what a worker sends, what rules are for.
//!
//! Rules of this file (format: `docs/formats/headers.md`):
//! 1. A layer has fields of fixed size and the option areas of IPv4 and TCP (40 bytes at most); there is no place for a payload.
//! 2. `unpack` takes exactly what `pack` writes: unknown kinds, other lengths, too many layers, bytes behind the last one are refused.
use bunker_wire::bytes::{array, be16, be32};

/// Layers of one packet. The wire crate reads 24 headers and 4 tunnels; a quoted packet and neighbour discovery add to them.
pub const LAYERS: usize = 32;

/// What is known of a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// The sender left it out (UDP).
    Absent,
    /// The packet was cut, is a fragment, or the sender's card was to fill it in.
    Unknown,
}

impl Check {
    const fn number(self) -> u8 {
        match self {
            Self::Right => 0,
            Self::Wrong => 1,
            Self::Absent => 2,
            Self::Unknown => 3,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Right),
            1 => Some(Self::Wrong),
            2 => Some(Self::Absent),
            3 => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// The option area of an IPv4 or TCP header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Area {
    bytes: [u8; 40],
    len: u8,
}

impl Area {
    /// No options.
    pub const EMPTY: Self = Self { bytes: [0; 40], len: 0 };

    /// From its bytes; None above 40 of them, or if they are not a whole number of words.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(4) {
            return None;
        }
        let mut area = Self { bytes: [0; 40], len: u8::try_from(bytes.len()).ok()? };
        area.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(area)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// A tunnel's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tunnel {
    /// IP in IP, either version in either (protocols 4 and 41).
    IpIp,
    /// GRE, ERSPAN in it.
    Gre,
    /// VXLAN.
    Vxlan,
    /// Geneve.
    Geneve,
    /// GTP-U.
    Gtp,
    /// Teredo.
    Teredo,
    /// AYIYA.
    Ayiya,
}

impl Tunnel {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 7] = [Self::IpIp, Self::Gre, Self::Vxlan, Self::Geneve, Self::Gtp, Self::Teredo, Self::Ayiya];

    /// Number, and bit in a set.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// One header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are those of the RFCs
pub enum Layer {
    /// Ethernet, or what another link has of it (zeros where it has nothing).
    Ethernet { destination: [u8; 6], source: [u8; 6] },
    /// A VLAN tag: of the service (802.1ad) or the customer.
    Vlan { service: bool, tci: u16 },
    /// ARP for IPv4 over Ethernet.
    Arp { operation: u16, sender: [u8; 6], sender_ip: [u8; 4], target: [u8; 6], target_ip: [u8; 4] },
    /// IPv4. `claimed` is the length behind the header that it claims.
    V4 {
        tos: u8,
        claimed: u32,
        id: u16,
        flags: u8,
        offset: u16,
        ttl: u8,
        protocol: u8,
        check: Check,
        source: [u8; 4],
        destination: [u8; 4],
        options: Area,
    },
    /// IPv6. `claimed` is the length behind these 40 bytes, `next` the first next header.
    V6 { class: u8, label: u32, claimed: u32, next: u8, hops: u8, source: [u8; 16], destination: [u8; 16] },
    /// The IPv6 fragment header. `next` is what follows.
    Fragment { next: u8, offset: u16, more: bool, id: u32 },
    /// Any other IPv6 extension header: its own number, what follows, its length. Nothing of its content.
    Extension { kind: u8, next: u8, length: u16 },
    /// TCP.
    Tcp {
        ports: [u16; 2],
        sequence: u32,
        acknowledgement: u32,
        flags: u16,
        window: u16,
        urgent: u16,
        check: Check,
        options: Area,
    },
    /// The first eight bytes of TCP, all that an ICMP error need quote.
    TcpStart { ports: [u16; 2], sequence: u32 },
    /// UDP.
    Udp { ports: [u16; 2], check: Check },
    /// ICMP for IPv4: type, code, and the four bytes whose meaning the type gives.
    Icmp { kind: u8, code: u8, rest: [u8; 4], check: Check },
    /// ICMPv6.
    Icmp6 { kind: u8, code: u8, rest: [u8; 4], check: Check },
    /// An address in ICMPv6 (target of neighbour discovery, group of listener discovery); `place` 0, or 1 for a redirect's destination.
    Icmp6Address { place: u8, address: [u8; 16] },
    /// A link-layer address option of neighbour discovery (kind 1 source, 2 target).
    LinkAddress { kind: u8, address: [u8; 6] },
    /// The layers after this one are quoted by the ICMP error before it.
    Quote,
    /// A tunnel's header of this length, Ethernet or IP layers follow.
    Tunnel { kind: Tunnel, length: u16 },
}

/// Why the layers end where they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything that there is a layer for was read.
    Whole,
    /// Not IP and not ARP, or a link type that is not read.
    Unread,
    /// The next header was cut by the capture.
    Cut,
    /// The next header's fields cannot be right.
    Malformed,
    /// More headers or tunnels than the limit.
    TooDeep,
}

impl End {
    const fn number(self) -> u8 {
        self as u8
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Whole),
            1 => Some(Self::Unread),
            2 => Some(Self::Cut),
            3 => Some(Self::Malformed),
            4 => Some(Self::TooDeep),
            _ => None,
        }
    }
}

/// The facts of one packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Facts {
    /// Outermost first; at most [`LAYERS`].
    pub layers: Vec<Layer>,
    /// Why they end.
    pub end: End,
    /// Length on the wire.
    pub wire_len: u32,
}

impl Default for Facts {
    fn default() -> Self {
        Self { layers: Vec::with_capacity(LAYERS), end: End::Whole, wire_len: 0 }
    }
}

impl core::fmt::Debug for Facts {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Facts({} layers)", self.layers.len())
    }
}

/// Packed facts that break the grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotFacts;

impl Facts {
    /// Write the layers and their end: one cell of the `headers` column.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.push(self.end.number());
        for layer in &self.layers {
            pack(layer, out);
        }
    }

    /// Read what `pack` wrote. `wire_len` stands in a column of its own.
    ///
    /// # Errors
    /// [`NotFacts`]: anything else.
    pub fn unpack(&mut self, bytes: &[u8], wire_len: u32) -> Result<(), NotFacts> {
        self.layers.clear();
        self.wire_len = wire_len;
        let mut cursor = Cursor { rest: bytes };
        self.end = cursor.u8().and_then(End::of).ok_or(NotFacts)?;
        while !cursor.rest.is_empty() {
            if self.layers.len() >= LAYERS {
                return Err(NotFacts);
            }
            self.layers.push(cursor.layer().ok_or(NotFacts)?);
        }
        Ok(())
    }
}

fn pack(layer: &Layer, out: &mut Vec<u8>) {
    match layer {
        Layer::Ethernet { destination, source } => {
            out.push(1);
            out.extend_from_slice(destination);
            out.extend_from_slice(source);
        }
        Layer::Vlan { service, tci } => {
            out.extend_from_slice(&[2, u8::from(*service)]);
            out.extend_from_slice(&tci.to_be_bytes());
        }
        Layer::Arp { operation, sender, sender_ip, target, target_ip } => {
            out.push(3);
            out.extend_from_slice(&operation.to_be_bytes());
            out.extend_from_slice(sender);
            out.extend_from_slice(sender_ip);
            out.extend_from_slice(target);
            out.extend_from_slice(target_ip);
        }
        Layer::V4 { tos, claimed, id, flags, offset, ttl, protocol, check, source, destination, options } => {
            out.extend_from_slice(&[4, *tos]);
            out.extend_from_slice(&claimed.to_be_bytes());
            out.extend_from_slice(&id.to_be_bytes());
            out.push(*flags);
            out.extend_from_slice(&offset.to_be_bytes());
            out.extend_from_slice(&[*ttl, *protocol, check.number()]);
            out.extend_from_slice(source);
            out.extend_from_slice(destination);
            pack_area(options, out);
        }
        Layer::V6 { class, label, claimed, next, hops, source, destination } => {
            out.extend_from_slice(&[5, *class]);
            out.extend_from_slice(&label.to_be_bytes());
            out.extend_from_slice(&claimed.to_be_bytes());
            out.extend_from_slice(&[*next, *hops]);
            out.extend_from_slice(source);
            out.extend_from_slice(destination);
        }
        Layer::Fragment { next, offset, more, id } => {
            out.extend_from_slice(&[6, *next]);
            out.extend_from_slice(&offset.to_be_bytes());
            out.push(u8::from(*more));
            out.extend_from_slice(&id.to_be_bytes());
        }
        Layer::Extension { kind, next, length } => {
            out.extend_from_slice(&[7, *kind, *next]);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Layer::Tcp { ports, sequence, acknowledgement, flags, window, urgent, check, options } => {
            out.push(8);
            pack_ports(*ports, out);
            out.extend_from_slice(&sequence.to_be_bytes());
            out.extend_from_slice(&acknowledgement.to_be_bytes());
            out.extend_from_slice(&flags.to_be_bytes());
            out.extend_from_slice(&window.to_be_bytes());
            out.extend_from_slice(&urgent.to_be_bytes());
            out.push(check.number());
            pack_area(options, out);
        }
        Layer::TcpStart { ports, sequence } => {
            out.push(9);
            pack_ports(*ports, out);
            out.extend_from_slice(&sequence.to_be_bytes());
        }
        Layer::Udp { ports, check } => {
            out.push(10);
            pack_ports(*ports, out);
            out.push(check.number());
        }
        Layer::Icmp { kind, code, rest, check } | Layer::Icmp6 { kind, code, rest, check } => {
            out.extend_from_slice(&[if matches!(layer, Layer::Icmp { .. }) { 11 } else { 12 }, *kind, *code]);
            out.extend_from_slice(rest);
            out.push(check.number());
        }
        Layer::Icmp6Address { place, address } => {
            out.extend_from_slice(&[13, *place]);
            out.extend_from_slice(address);
        }
        Layer::LinkAddress { kind, address } => {
            out.extend_from_slice(&[14, *kind]);
            out.extend_from_slice(address);
        }
        Layer::Quote => out.push(15),
        Layer::Tunnel { kind, length } => {
            out.extend_from_slice(&[16, kind.number()]);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

fn pack_area(area: &Area, out: &mut Vec<u8>) {
    out.push(area.len);
    out.extend_from_slice(area.bytes());
}

fn pack_ports(ports: [u16; 2], out: &mut Vec<u8>) {
    for port in ports {
        out.extend_from_slice(&port.to_be_bytes());
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn below(&mut self, bound: u16) -> Option<u16> {
        self.u16().filter(|value| *value < bound)
    }

    fn check(&mut self) -> Option<Check> {
        Check::of(self.u8()?)
    }

    fn area(&mut self) -> Option<Area> {
        let length = usize::from(self.u8()?);
        Area::new(self.take(length)?)
    }

    fn ports(&mut self) -> Option<[u16; 2]> {
        Some([self.u16()?, self.u16()?])
    }

    fn layer(&mut self) -> Option<Layer> {
        Some(match self.u8()? {
            1 => Layer::Ethernet { destination: self.array()?, source: self.array()? },
            2 => Layer::Vlan { service: self.flag()?, tci: self.u16()? },
            3 => Layer::Arp {
                operation: self.u16()?,
                sender: self.array()?,
                sender_ip: self.array()?,
                target: self.array()?,
                target_ip: self.array()?,
            },
            4 => Layer::V4 {
                tos: self.u8()?,
                claimed: self.u32()?,
                id: self.u16()?,
                flags: self.u8().filter(|flags| *flags < 8)?,
                offset: self.below(0x2000)?,
                ttl: self.u8()?,
                protocol: self.u8()?,
                check: self.check()?,
                source: self.array()?,
                destination: self.array()?,
                options: self.area()?,
            },
            5 => Layer::V6 {
                class: self.u8()?,
                label: self.u32().filter(|label| *label < 1 << 20)?,
                claimed: self.u32()?,
                next: self.u8()?,
                hops: self.u8()?,
                source: self.array()?,
                destination: self.array()?,
            },
            6 => Layer::Fragment { next: self.u8()?, offset: self.below(0x2000)?, more: self.flag()?, id: self.u32()? },
            7 => Layer::Extension { kind: self.u8()?, next: self.u8()?, length: self.u16()? },
            8 => Layer::Tcp {
                ports: self.ports()?,
                sequence: self.u32()?,
                acknowledgement: self.u32()?,
                flags: self.below(0x1000)?,
                window: self.u16()?,
                urgent: self.u16()?,
                check: self.check()?,
                options: self.area()?,
            },
            9 => Layer::TcpStart { ports: self.ports()?, sequence: self.u32()? },
            10 => Layer::Udp { ports: self.ports()?, check: self.check()? },
            11 => Layer::Icmp { kind: self.u8()?, code: self.u8()?, rest: self.array()?, check: self.check()? },
            12 => Layer::Icmp6 { kind: self.u8()?, code: self.u8()?, rest: self.array()?, check: self.check()? },
            13 => Layer::Icmp6Address { place: self.u8().filter(|place| *place < 2)?, address: self.array()? },
            14 => Layer::LinkAddress { kind: self.u8().filter(|kind| matches!(kind, 1 | 2))?, address: self.array()? },
            15 => Layer::Quote,
            16 => Layer::Tunnel { kind: Tunnel::ALL.get(usize::from(self.u8()?)).copied()?, length: self.u16()? },
            _ => return None,
        })
    }
}

/// Ports at the start of a transport header.
#[must_use]
pub(super) fn ports_of(bytes: &[u8]) -> Option<[u16; 2]> {
    Some([be16(bytes, 0)?, be16(bytes, 2)?])
}

/// A big-endian u32 and an array, re-exported for the decoder.
#[must_use]
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    be32(bytes, offset)
}

/// `N` bytes at an offset.
#[must_use]
pub(super) fn piece<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    array(bytes, offset)
}
