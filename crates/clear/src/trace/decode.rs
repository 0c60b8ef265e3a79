//! A captured packet into facts.
//!
//! Rules of this file:
//! 1. Links and tunnels are those of `bunker_wire`; this walk keeps the fields that the analysis has no use for.
//! 2. A header is a layer only when all its bytes were captured; what cannot be right ends the walk with its reason.
//! 3. Checksums are verified here, where the payload still is; behind this file there is none.
use bunker_wire::bytes::{be16, be32};
use bunker_wire::event::Address;
use bunker_wire::ip::{self, sum, transport_checksum_ok};
use bunker_wire::link::{self, Skip};
use bunker_wire::packet::Packet;
use bunker_wire::tunnel::{self, Inner};

use super::facts::{Area, Check, End, Facts, LAYERS, Layer, Tunnel, piece, ports_of, word};

const HEADERS: u32 = 24;
const TUNNELS: u8 = 4;

/// Read a packet's headers.
pub fn decode(packet: &Packet<'_>, facts: &mut Facts) {
    facts.layers.clear();
    facts.wire_len = packet.wire_len;
    let mut walk = Walk { layers: &mut facts.layers, verify: !packet.checksum_not_ready, quoted: false, tunnels: 0 };
    facts.end = match walk.link(packet) {
        Ok(()) => End::Whole,
        Err(end) => end,
    };
}

struct Walk<'a> {
    layers: &'a mut Vec<Layer>,
    verify: bool,
    quoted: bool,
    tunnels: u8,
}

type Walked = Result<(), End>;

const fn end_of(skip: Skip) -> End {
    match skip {
        Skip::Arp | Skip::NonIp | Skip::UnknownLink => End::Unread,
        Skip::Truncated => End::Cut,
        Skip::Malformed => End::Malformed,
        Skip::TooDeep => End::TooDeep,
    }
}

impl Walk<'_> {
    fn push(&mut self, layer: Layer) -> Walked {
        if self.layers.len() >= LAYERS {
            return Err(End::TooDeep);
        }
        self.layers.push(layer);
        Ok(())
    }

    fn link(&mut self, packet: &Packet<'_>) -> Walked {
        let bytes = packet.captured;
        let (addresses, kind, rest) = match packet.linktype {
            1 => {
                let Some((head, rest)) = bytes.split_at_checked(14) else { return Err(End::Cut) };
                ((piece(head, 0), piece(head, 6)), be16(head, 12), rest)
            }
            // Linux cooked captures hold one address, the sender's, if it is one of six bytes.
            113 if be16(bytes, 4) == Some(6) && be16(bytes, 2) != Some(824) => {
                ((None, piece(bytes, 6)), be16(bytes, 14), bytes.get(16..).unwrap_or(&[]))
            }
            276 if bytes.get(11) == Some(&6) && be16(bytes, 8) != Some(824) => {
                ((None, piece(bytes, 12)), be16(bytes, 0), bytes.get(20..).unwrap_or(&[]))
            }
            _ => ((None, None), None, bytes),
        };
        self.push(Layer::Ethernet {
            destination: addresses.0.unwrap_or_default(),
            source: addresses.1.unwrap_or_default(),
        })?;
        if let Some((tci, tpid)) = packet.vlan {
            self.push(Layer::Vlan { service: tpid == 0x88A8, tci })?;
        }
        if let Some(kind) = kind
            && let Some(done) = self.ethertype(kind, rest)
        {
            return done;
        }
        // Everything else that wire reads: other links, LLC, MPLS, PPPoE, ... down to the IP packet.
        let found = link::link(packet, HEADERS).map_err(end_of)?;
        for tag in found.vlan.into_iter().flatten() {
            if !self.layers.iter().any(|layer| matches!(layer, Layer::Vlan { tci, .. } if tci & 0x0FFF == tag)) {
                self.push(Layer::Vlan { service: false, tci: tag })?;
            }
        }
        self.ip(found.ip)
    }

    /// VLAN tags, IP and ARP; None for what the wire crate has to look into.
    fn ethertype(&mut self, mut kind: u16, mut rest: &[u8]) -> Option<Walked> {
        for _ in 0..HEADERS {
            match kind {
                0x0800 | 0x86DD => {
                    return match rest.first().map(|first| first >> 4) {
                        Some(4 | 6) => Some(self.ip(rest)),
                        Some(_) => Some(Err(End::Malformed)),
                        None => Some(Err(End::Cut)),
                    };
                }
                0x0806 => return Some(self.arp(rest)),
                0x8100 | 0x88A8 | 0x9100 | 0x9200 | 0x9300 => {
                    let (Some(tci), Some(inner)) = (be16(rest, 0), be16(rest, 2)) else { return Some(Err(End::Cut)) };
                    if let Err(end) = self.push(Layer::Vlan { service: kind == 0x88A8, tci }) {
                        return Some(Err(end));
                    }
                    rest = rest.get(4..)?;
                    kind = inner;
                }
                _ => return None,
            }
        }
        Some(Err(End::TooDeep))
    }

    fn arp(&mut self, bytes: &[u8]) -> Walked {
        let Some(bytes) = bytes.get(..28) else { return Err(End::Cut) };
        if !bytes.starts_with(&[0, 1, 8, 0, 6, 4]) {
            return Err(End::Unread);
        }
        self.push(Layer::Arp {
            operation: be16(bytes, 6).ok_or(End::Cut)?,
            sender: piece(bytes, 8).ok_or(End::Cut)?,
            sender_ip: piece(bytes, 14).ok_or(End::Cut)?,
            target: piece(bytes, 18).ok_or(End::Cut)?,
            target_ip: piece(bytes, 24).ok_or(End::Cut)?,
        })
    }

    fn ip(&mut self, bytes: &[u8]) -> Walked {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => self.v4(bytes),
            Some(6) => self.v6(bytes),
            Some(_) => Err(End::Malformed),
            None => Err(End::Cut),
        }
    }

    fn v4(&mut self, bytes: &[u8]) -> Walked {
        let head = bytes.get(..20).ok_or(End::Cut)?;
        let length = usize::from(head.first().ok_or(End::Cut)? & 0x0F).saturating_mul(4);
        if length < 20 {
            return Err(End::Malformed);
        }
        let header = bytes.get(..length).ok_or(End::Cut)?;
        let total = match usize::from(be16(head, 2).ok_or(End::Cut)?) {
            0 => bytes.len(), // segmentation offload: not filled in yet
            total => total,
        };
        if total < length {
            return Err(End::Malformed);
        }
        let flags_offset = be16(head, 6).ok_or(End::Cut)?;
        let (source, destination) = (piece(head, 12).ok_or(End::Cut)?, piece(head, 16).ok_or(End::Cut)?);
        let protocol = *head.get(9).ok_or(End::Cut)?;
        let claimed = total.saturating_sub(length);
        self.push(Layer::V4 {
            tos: *head.get(1).ok_or(End::Cut)?,
            claimed: u32::try_from(claimed).unwrap_or(u32::MAX),
            id: be16(head, 4).ok_or(End::Cut)?,
            flags: u8::try_from(flags_offset >> 13).unwrap_or(0),
            offset: flags_offset & 0x1FFF,
            ttl: *head.get(8).ok_or(End::Cut)?,
            protocol,
            check: match (self.quoted, sum(header, 0) == 0xFFFF) {
                // Routers quote headers whose checksum was not right any more, or never was.
                (true, _) => Check::Unknown,
                (false, true) => Check::Right,
                (false, false) if self.verify => Check::Wrong,
                (false, false) => Check::Unknown,
            },
            source,
            destination,
            options: Area::new(header.get(20..).unwrap_or(&[])).ok_or(End::Malformed)?,
        })?;
        let payload = bytes.get(length..total.min(bytes.len())).unwrap_or(&[]);
        if flags_offset & 0x1FFF != 0 {
            return Ok(());
        }
        let whole = flags_offset & 0x2000 == 0 && payload.len() == claimed;
        let ends = (Address::v4(source), Address::v4(destination));
        self.transport(protocol, payload, claimed, ends, whole)
    }

    fn v6(&mut self, bytes: &[u8]) -> Walked {
        let head = bytes.get(..40).ok_or(End::Cut)?;
        let first = word(head, 0).ok_or(End::Cut)?;
        let mut claimed = usize::from(be16(head, 4).ok_or(End::Cut)?);
        let mut next = *head.get(6).ok_or(End::Cut)?;
        if claimed == 0 && (next != 59) {
            claimed = bytes.len().saturating_sub(40); // a jumbogram, or segmentation offload
        }
        let source = piece(head, 8).ok_or(End::Cut)?;
        let mut destination = piece(head, 24).ok_or(End::Cut)?;
        let mut home = source;
        self.push(Layer::V6 {
            class: u8::try_from((first >> 20) & 0xFF).unwrap_or(0),
            label: first & 0xF_FFFF,
            claimed: u32::try_from(claimed).unwrap_or(u32::MAX),
            next,
            hops: *head.get(7).ok_or(End::Cut)?,
            source,
            destination,
        })?;
        let mut rest = bytes.get(40..claimed.saturating_add(40).min(bytes.len())).unwrap_or(&[]);
        let mut left = claimed;
        let mut whole = rest.len() == claimed;
        for _ in 0..HEADERS {
            let length = match next {
                44 => 8,
                // Mobility messages and HIP carry no payload (59): they are it.
                135 | 139 | 140 if rest.first() == Some(&59) => break,
                0 | 43 | 60 | 135 | 139 | 140 => {
                    usize::from(*rest.get(1).ok_or(End::Cut)?).saturating_add(1).saturating_mul(8)
                }
                51 => usize::from(*rest.get(1).ok_or(End::Cut)?).saturating_add(2).saturating_mul(4),
                _ => break,
            };
            if length > left {
                return Err(End::Malformed);
            }
            let header = rest.get(..length).ok_or(End::Cut)?;
            let follows = *header.first().ok_or(End::Cut)?;
            if next == 44 {
                let place = be16(header, 2).ok_or(End::Cut)?;
                let (offset, more) = (place >> 3, place & 1 == 1);
                let id = be32(header, 4).ok_or(End::Cut)?;
                self.push(Layer::Fragment { next: follows, offset, more, id })?;
                whole = whole && !more && offset == 0;
                if offset != 0 {
                    return Ok(());
                }
            } else {
                // What checksums cover.
                if next == 43 {
                    destination = ip::routed(header, Address(destination)).0;
                }
                if next == 60 {
                    home = ip::home_address(header).map_or(home, |address| address.0);
                }
                let length = u16::try_from(length).map_err(|_| End::Malformed)?;
                self.push(Layer::Extension { kind: next, next: follows, length })?;
            }
            next = follows;
            rest = rest.get(length..).unwrap_or(&[]);
            left = left.saturating_sub(length);
        }
        self.transport(next, rest, left, (Address(home), Address(destination)), whole)
    }

    fn checked(&self, protocol: u8, payload: &[u8], ends: (Address, Address), whole: bool) -> Check {
        if !self.verify || !whole || self.quoted {
            return Check::Unknown;
        }
        let right = if protocol == 1 {
            sum(payload, 0) == 0xFFFF
        } else {
            transport_checksum_ok(ends.0, ends.1, protocol, payload)
        };
        if right { Check::Right } else { Check::Wrong }
    }

    /// `claimed` bytes by the headers before, of which `payload` was captured; `whole`: all of them, unfragmented.
    fn transport(
        &mut self,
        protocol: u8,
        payload: &[u8],
        claimed: usize,
        ends: (Address, Address),
        whole: bool,
    ) -> Walked {
        match protocol {
            6 => self.tcp(payload, claimed, ends, whole),
            17 => self.udp(payload, claimed, ends, whole),
            1 if ends.0.maybe_v4().is_some() => self.icmp(payload, claimed, ends, whole),
            58 if ends.0.maybe_v4().is_none() => self.icmp6(payload, claimed, ends, whole),
            4 | 41 => match payload.first().map(|first| first >> 4) {
                Some(4 | 6) => self.tunnel(Tunnel::IpIp, payload, Inner::Ip(payload)),
                _ => Ok(()),
            },
            47 => match tunnel::of_protocol(47, payload) {
                Some(inner) => self.tunnel(Tunnel::Gre, payload, inner),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn short(payload: &[u8], needed: usize, claimed: usize) -> End {
        if claimed < needed || payload.len() > needed { End::Malformed } else { End::Cut }
    }

    fn tcp(&mut self, payload: &[u8], claimed: usize, ends: (Address, Address), whole: bool) -> Walked {
        let Some(head) = payload.get(..20) else {
            if self.quoted
                && let (Some(ports), Some(sequence)) = (ports_of(payload), word(payload, 4))
            {
                return self.push(Layer::TcpStart { ports, sequence });
            }
            return Err(Self::short(payload, 20, claimed));
        };
        let place = be16(head, 12).ok_or(End::Cut)?;
        let length = usize::from(place >> 12).saturating_mul(4);
        if length < 20 || (length > claimed && !self.quoted) {
            return Err(End::Malformed);
        }
        let Some(options) = payload.get(20..length) else {
            if self.quoted {
                let (ports, sequence) = (ports_of(head).ok_or(End::Cut)?, word(head, 4).ok_or(End::Cut)?);
                return self.push(Layer::TcpStart { ports, sequence });
            }
            return Err(End::Cut);
        };
        self.push(Layer::Tcp {
            ports: ports_of(head).ok_or(End::Cut)?,
            sequence: word(head, 4).ok_or(End::Cut)?,
            acknowledgement: word(head, 8).ok_or(End::Cut)?,
            flags: place & 0x0FFF,
            window: be16(head, 14).ok_or(End::Cut)?,
            urgent: be16(head, 18).ok_or(End::Cut)?,
            check: self.checked(6, payload, ends, whole),
            options: Area::new(options).ok_or(End::Malformed)?,
        })
    }

    fn udp(&mut self, payload: &[u8], claimed: usize, ends: (Address, Address), whole: bool) -> Walked {
        let Some(head) = payload.get(..8) else { return Err(Self::short(payload, 8, claimed)) };
        let length = usize::from(be16(head, 4).ok_or(End::Cut)?);
        if length != 0 && length < 8 {
            return Err(End::Malformed);
        }
        let ports = ports_of(head).ok_or(End::Cut)?;
        let body = if length == 0 { payload } else { payload.get(..length.min(payload.len())).unwrap_or(payload) };
        let check = if be16(head, 6) == Some(0) {
            Check::Absent
        } else {
            self.checked(17, body, ends, whole && length <= payload.len())
        };
        self.push(Layer::Udp { ports, check })?;
        let body = body.get(8..).unwrap_or(&[]);
        let Some(inner) = tunnel::of_udp(ports[0], ports[1], body) else { return Ok(()) };
        let kind = match (ports[0], ports[1]) {
            (_, 4789 | 8472) => Tunnel::Vxlan,
            (_, 6081) => Tunnel::Geneve,
            (2152, _) | (_, 2152) => Tunnel::Gtp,
            (3544, _) | (_, 3544) => Tunnel::Teredo,
            (5072, _) | (_, 5072) => Tunnel::Ayiya,
            _ => return Ok(()), // the analysis looks into more of them; here it is a datagram's payload
        };
        self.tunnel(kind, body, inner)
    }

    fn tunnel(&mut self, kind: Tunnel, payload: &[u8], inner: Inner<'_>) -> Walked {
        if self.quoted || self.tunnels >= TUNNELS {
            return Ok(()); // what lies deeper is payload
        }
        let rest = match inner {
            Inner::Wifi(_) => return Ok(()),
            Inner::Ip(rest) | Inner::Ethernet(rest) | Inner::Ethertype(_, rest) | Inner::Ppp(rest) => rest,
        };
        self.tunnels = self.tunnels.saturating_add(1);
        let length = u16::try_from(payload.len().saturating_sub(rest.len())).map_err(|_| End::Malformed)?;
        self.push(Layer::Tunnel { kind, length })?;
        let walked = match inner {
            Inner::Wifi(_) => Ok(()),
            Inner::Ip(rest) => self.ip(rest),
            Inner::Ethernet(rest) => self.inner_ethernet(rest),
            Inner::Ethertype(0x6558, rest) => self.inner_ethernet(rest),
            Inner::Ethertype(code, rest) => match self.ethertype(code, rest) {
                Some(done) => done,
                None => link::ethertype(code, rest, HEADERS).map_err(end_of).and_then(|found| self.ip(found.ip)),
            },
            Inner::Ppp(rest) => link::ppp(rest, HEADERS).map_err(end_of).and_then(|found| self.ip(found.ip)),
        };
        match walked {
            // What a tunnel carries besides IP is its payload, and no reason to drop the packet.
            Err(End::Unread) => Ok(()),
            other => other,
        }
    }

    fn inner_ethernet(&mut self, bytes: &[u8]) -> Walked {
        let (Some(destination), Some(source), Some(kind)) = (piece(bytes, 0), piece(bytes, 6), be16(bytes, 12)) else {
            return Err(End::Cut);
        };
        self.push(Layer::Ethernet { destination, source })?;
        match self.ethertype(kind, bytes.get(14..).unwrap_or(&[])) {
            Some(done) => done,
            None => link::ethernet(bytes, HEADERS).map_err(end_of).and_then(|found| self.ip(found.ip)),
        }
    }

    fn icmp(&mut self, payload: &[u8], claimed: usize, ends: (Address, Address), whole: bool) -> Walked {
        let Some(head) = payload.get(..8) else { return Err(Self::short(payload, 8, claimed)) };
        let kind = *head.first().ok_or(End::Cut)?;
        self.push(Layer::Icmp {
            kind,
            code: *head.get(1).ok_or(End::Cut)?,
            rest: piece(head, 4).ok_or(End::Cut)?,
            check: self.checked(1, payload, ends, whole),
        })?;
        if matches!(kind, 3 | 4 | 5 | 11 | 12) { self.quote(payload.get(8..).unwrap_or(&[])) } else { Ok(()) }
    }

    fn icmp6(&mut self, payload: &[u8], claimed: usize, ends: (Address, Address), whole: bool) -> Walked {
        let Some(head) = payload.get(..8) else { return Err(Self::short(payload, 8, claimed)) };
        let kind = *head.first().ok_or(End::Cut)?;
        self.push(Layer::Icmp6 {
            kind,
            code: *head.get(1).ok_or(End::Cut)?,
            rest: piece(head, 4).ok_or(End::Cut)?,
            check: self.checked(58, payload, ends, whole),
        })?;
        let mut options = match kind {
            1..=4 => return self.quote(payload.get(8..).unwrap_or(&[])),
            133 => 8_usize,
            134 => 16,
            130..=132 | 135 | 136 => 24,
            137 => 40,
            _ => return Ok(()),
        };
        for place in 0..options.saturating_sub(8).checked_div(16).unwrap_or(0) {
            let at = place.saturating_mul(16).saturating_add(8);
            let Some(address) = piece(payload, at) else { return Err(Self::short(payload, options, claimed)) };
            self.push(Layer::Icmp6Address { place: u8::try_from(place).unwrap_or(0), address })?;
        }
        if kind < 133 {
            return Ok(());
        }
        while let (Some(option), Some(words)) = (payload.get(options), payload.get(options.saturating_add(1))) {
            if let (1 | 2, 1, Some(address)) = (*option, *words, piece(payload, options.saturating_add(2))) {
                self.push(Layer::LinkAddress { kind: *option, address })?;
            }
            if *words == 0 {
                break;
            }
            options = options.saturating_add(usize::from(*words).saturating_mul(8));
        }
        Ok(())
    }

    /// The packet that an error quotes. It is cut as a rule, and its own errors are nobody's business: they end it.
    fn quote(&mut self, bytes: &[u8]) -> Walked {
        if self.quoted {
            return Ok(());
        }
        self.quoted = true;
        let before = self.layers.len();
        self.push(Layer::Quote)?;
        let _ = self.ip(bytes);
        if self.layers.len() == before.saturating_add(1) {
            self.layers.pop();
        }
        Ok(())
    }
}
