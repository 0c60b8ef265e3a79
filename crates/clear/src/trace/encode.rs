//! Facts and rules into the bytes of a cleared packet.
//!
//! Rules of this file:
//! 1. A packet is built from nothing: each byte is put by one call that names the rule it is accounted to. Nothing is copied from a
//!    packet as bytes, and there is no payload to copy.
//! 2. Lengths are those of what was emitted plus the released size of what was cut; checksums are computed over what was emitted, the
//!    cut part as zeros. A wrong checksum becomes 1 (2 if 1 would be right).
use bunker_wire::ip::sum;

use super::facts::{Area, Check, End, Facts, Layer, Tunnel};
use super::flows::{FlowKey, Flows, TcpOut, TcpRules};
use super::maps::{Maps, narrow, wide};
use super::ranks::Ranking;
use super::rules::{ARP, IPV4, IPV6, Key, Otherwise, Rules, Sizes, Small, Stamps};
use super::{Fate, Scope};
use crate::address_map::group_mac;

/// What was cut is never said to be shorter than this: a reader that finds fewer bytes announced than a header needs calls the packet
/// malformed, and one that finds them announced but not captured does not.
const SMALLEST_CUT: u64 = 64;

/// Hears to which rule each byte is accounted: nothing in production, a list in the proof.
pub trait Trail {
    /// Bytes from `at` on are accounted to `key` now.
    fn note(&mut self, key: Key, at: usize, length: usize);
}

impl Trail for () {
    fn note(&mut self, _key: Key, _at: usize, _length: usize) {}
}

/// The rule of each byte.
#[derive(Default)]
pub struct Provenance {
    /// One entry a byte; None never stays.
    pub keys: Vec<Option<Key>>,
}

impl Trail for Provenance {
    fn note(&mut self, key: Key, at: usize, length: usize) {
        let end = at.saturating_add(length);
        if self.keys.len() < end {
            self.keys.resize(end, None);
        }
        for place in self.keys.iter_mut().skip(at).take(length) {
            *place = Some(key);
        }
    }
}

struct Out<'a, T> {
    bytes: &'a mut Vec<u8>,
    trail: &'a mut T,
}

impl<T: Trail> Out<'_, T> {
    #[inline(always)] // with the caller's constant length it is one store
    fn put(&mut self, key: Key, bytes: &[u8]) {
        self.trail.note(key, self.bytes.len(), bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn put16(&mut self, key: Key, value: u16) {
        self.put(key, &value.to_be_bytes());
    }

    /// A field under `key` if a rule names it, else zeros that say nothing.
    #[inline(always)]
    fn field<const N: usize>(&mut self, key: Key, maybe: Option<[u8; N]>) {
        match maybe {
            Some(bytes) => self.put(key, &bytes),
            None => self.put(Key::Zero, &[0; N]),
        }
    }

    #[inline(always)]
    fn patch(&mut self, key: Key, at: usize, bytes: &[u8]) {
        self.trail.note(key, at, bytes.len());
        if let Some(place) = self.bytes.get_mut(at..at.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    #[inline(always)]
    fn patch16(&mut self, key: Key, at: usize, value: u16) {
        self.patch(key, at, &value.to_be_bytes());
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn since(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or(&[])
    }
}

/// What an encoder works with.
pub(super) struct Encoder<'a, T> {
    pub rules: &'a Rules,
    pub maps: &'a mut Maps,
    pub flows: &'a mut Flows,
    pub ranking: Option<&'a Ranking>,
    pub scope: Scope<'a>,
    pub bytes: &'a mut Vec<u8>,
    pub trail: &'a mut T,
}

/// An IP packet as far as it is known while its payload is written.
#[derive(Clone, Copy)]
struct Ip {
    source: [u8; 16],
    destination: [u8; 16],
    out_source: [u8; 16],
    out_destination: [u8; 16],
    v4: bool,
    /// Bytes behind the headers read so far, by the header's claim.
    claimed: u64,
    /// Length on the wire before the claimed bytes: headers, Ethernet as 14.
    before: u64,
    /// The same as emitted.
    out_before: u64,
    quoted: bool,
}

fn at_most16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn wrong(check: Check, right: u16) -> u16 {
    match check {
        Check::Wrong => {
            if right == 1 {
                2
            } else {
                1
            }
        }
        Check::Right | Check::Absent | Check::Unknown => right,
    }
}

/// What a tunnel or a quote adds to the packet around it.
struct Inner {
    /// Length as released, the cut part included.
    length: u64,
    /// Bytes of the original that were described.
    described: u64,
}

impl<T: Trail> Encoder<'_, T> {
    /// Write the packet; its length on the wire as released, or why there is none.
    pub fn packet(mut self, facts: &Facts) -> Result<u64, Fate> {
        let rules = self.rules;
        match facts.end {
            End::Whole => {}
            End::Unread => return Err(Fate::Unread),
            End::TooDeep => return Err(Fate::Malformed),
            End::Malformed if rules.malformed == Otherwise::DropPacket => return Err(Fate::Malformed),
            End::Cut if rules.truncated == Otherwise::DropPacket => return Err(Fate::Cut),
            End::Malformed | End::Cut => {}
        }
        let start = self.bytes.len();
        let length = self.ethernet(&facts.layers)?.length;
        // A frame is never shorter than what stands in it.
        Ok(length.max(self.bytes.len().saturating_sub(start) as u64))
    }

    fn out(&mut self) -> Out<'_, T> {
        Out { bytes: self.bytes, trail: self.trail }
    }

    fn map(&mut self, address: [u8; 16]) -> [u8; 16] {
        self.maps.addresses(self.scope.maybe_scanner, self.scope.keys, self.scope.epoch).map(address)
    }

    fn map4(&mut self, address: [u8; 4]) -> [u8; 4] {
        narrow(self.map(wide(address)))
    }

    fn ethernet(&mut self, layers: &[Layer]) -> Result<Inner, Fate> {
        let start = self.bytes.len();
        let Some((Layer::Ethernet { destination, source }, mut rest)) = layers.split_first() else {
            return Err(Fate::Unread);
        };
        let rules = self.rules;
        let out_source = rules.eth_src.then(|| self.maps.mac(*source));
        let mut out = self.out();
        out.put(Key::Zero, &[0; 6]);
        out.field(Key::EthSource, out_source);
        let mut described = 14_u64;
        while let Some((Layer::Vlan { service, tci }, behind)) = rest.split_first() {
            rest = behind;
            described = described.saturating_add(4);
            let identifier = match rules.vlan {
                Small::Keep => tci & 0x0FFF,
                Small::Changed => {
                    let [a, b, ..] = self.maps.draw(3, &(tci & 0x0FFF).to_be_bytes());
                    u16::from_be_bytes([a, b]) & 0x0FFF
                }
                _ => continue,
            };
            let mut out = self.out();
            out.put16(Key::Vlan, if *service { 0x88A8 } else { 0x8100 });
            out.put16(Key::Vlan, identifier);
        }
        let (member, code, on) = match rest.first() {
            Some(Layer::Arp { .. }) => (ARP, 0x0806, rules.arp),
            Some(Layer::V4 { .. }) => (IPV4, 0x0800, rules.v4),
            Some(Layer::V6 { .. }) => (IPV6, 0x86DD, rules.v6),
            _ => return Err(Fate::Unread),
        };
        if !rules.types.has(member) || !on {
            return Err(Fate::Unwanted);
        }
        self.out().put16(Key::EthType, code);
        let linked = self.bytes.len().saturating_sub(start) as u64;
        let (length, maybe_group) = if let Some(Layer::Arp { .. }) = rest.first() {
            (self.arp(rest)?, None)
        } else {
            let (found, group) = self.ip(rest, linked, false)?;
            described = described.saturating_add(found.described);
            (found.length, group)
        };
        if rules.eth_dst {
            // 33:33 and 01:00:5e repeat bits of the group: they are made again from the mapped one.
            let of_group = matches!(destination, [0x33, 0x33, ..] | [0x01, 0x00, 0x5E, ..]);
            let maybe_mac = maybe_group.filter(|_| of_group).and_then(|(group, _)| group_mac(&group));
            let destination = maybe_mac.unwrap_or_else(|| self.maps.mac(*destination));
            self.out().patch(Key::EthDestination, start, &destination);
        }
        Ok(Inner { length: length.saturating_add(linked), described })
    }

    fn arp(&mut self, layers: &[Layer]) -> Result<u64, Fate> {
        let Some(Layer::Arp { operation, sender, sender_ip, target, target_ip }) = layers.first() else {
            return Err(Fate::Unread);
        };
        let rules = self.rules;
        let number = u8::try_from(*operation).map_err(|_| Fate::Unwanted)?;
        if !rules.arp_operations.has(number) {
            return Err(Fate::Unwanted);
        }
        let sha = rules.arp_sha.then(|| self.maps.mac(*sender));
        let tha = rules.arp_tha.then(|| self.maps.mac(*target));
        let spa = rules.arp_spa.then(|| self.map4(*sender_ip));
        let tpa = rules.arp_tpa.then(|| self.map4(*target_ip));
        let mut out = self.out();
        out.put(Key::Format, &[0, 1, 8, 0, 6, 4]);
        out.put16(Key::ArpOperation, *operation);
        out.field(Key::ArpSender, sha);
        out.field(Key::ArpSenderIp, spa);
        out.field(Key::ArpTarget, tha);
        out.field(Key::ArpTargetIp, tpa);
        Ok(28)
    }

    /// An IP packet. The second answer is its destination as emitted, and whether it is IPv4: for group addresses of the link.
    #[allow(clippy::type_complexity)]
    fn ip(&mut self, layers: &[Layer], linked: u64, quoted: bool) -> Result<(Inner, Option<([u8; 16], bool)>), Fate> {
        match layers.first() {
            Some(Layer::V4 { .. }) => self.v4(layers, linked, quoted),
            Some(Layer::V6 { .. }) => self.v6(layers, linked, quoted),
            _ => Err(Fate::Unread),
        }
    }

    #[allow(clippy::type_complexity)]
    fn v4(&mut self, layers: &[Layer], linked: u64, quoted: bool) -> Result<(Inner, Option<([u8; 16], bool)>), Fate> {
        let Some((
            Layer::V4 { tos, claimed, id, flags, offset, ttl, protocol, check, source, destination, options },
            rest,
        )) = layers.split_first()
        else {
            return Err(Fate::Unread);
        };
        let rules = self.rules;
        let (later, fragment) = (*offset != 0, *offset != 0 || flags & 1 != 0);
        if !quoted && ((later && !rules.fragments_later) || (fragment && !rules.fragments_first)) {
            return Err(Fate::Fragment);
        }
        let (wide_source, wide_destination) = (wide(*source), wide(*destination));
        let (out_source, out_destination) = (
            if rules.v4_src { self.map(wide_source) } else { wide([0; 4]) },
            if rules.v4_dst { self.map(wide_destination) } else { wide([0; 4]) },
        );
        let identification = match rules.v4_id {
            Small::Keep => Some(*id),
            Small::Changed if fragment => {
                let value = [&source[..], destination, &[*protocol], &id.to_be_bytes()].concat();
                let [a, b, ..] = self.maps.draw(4, &value);
                Some(u16::from_be_bytes([a, b]))
            }
            Small::Changed => Some(0),
            _ => None,
        };
        let start = self.bytes.len();
        let scope_ttl = hops(rules.v4_ttl, *ttl);
        let kept_options = rules.v4_options.as_ref().map(|allowed| v4_options(options, allowed));
        let header = 20_usize.saturating_add(kept_options.as_ref().map_or(0, |area| area.bytes().len()));
        let mut out = self.out();
        out.put(Key::Format, &[0x40 | u8::try_from(header >> 2).unwrap_or(5)]);
        out.field(Key::V4Tos, class(rules.v4_tos, *tos).map(|value| [value]));
        out.put16(Key::Derived, 0);
        out.field(Key::V4Id, identification.map(u16::to_be_bytes));
        out.field(Key::V4Flags, rules.v4_flags.then(|| (u16::from(flags & 3) << 13 | offset).to_be_bytes()));
        out.field(Key::V4Ttl, scope_ttl.map(|value| [value]));
        out.put(Key::V4Protocol, &[*protocol]);
        out.put16(Key::Zero, 0);
        out.field(Key::V4Source, rules.v4_src.then(|| narrow(out_source)));
        out.field(Key::V4Destination, rules.v4_dst.then(|| narrow(out_destination)));
        if let Some(area) = &kept_options {
            out.put(Key::V4Options, area.bytes());
        }
        let read = 20_u64.saturating_add(options.bytes().len() as u64);
        let ip = Ip {
            source: wide_source,
            destination: wide_destination,
            out_source: if rules.v4_src { out_source } else { wide([0; 4]) },
            out_destination: if rules.v4_dst { out_destination } else { wide([0; 4]) },
            v4: true,
            claimed: u64::from(*claimed),
            before: read.saturating_add(14),
            out_before: linked.saturating_add(header as u64),
            quoted,
        };
        let body = if later { self.rest(ip, 0, self.bytes.len()) } else { self.body(rest, ip, *protocol)? };
        let total = body.length.saturating_add(header as u64);
        let mut out = self.out();
        // Longer than the field (segmentation offload): zero, as the kernel had it.
        out.patch16(Key::V4Len, start.saturating_add(2), u16::try_from(total).unwrap_or(0));
        if rules.v4_checksum {
            let right = !sum(out.bytes.get(start..start.saturating_add(header)).unwrap_or(&[]), 0);
            out.patch16(Key::V4Checksum, start.saturating_add(10), wrong(*check, right));
        }
        let described = body.described.saturating_add(read);
        Ok((Inner { length: total, described }, Some((out_destination, true))))
    }

    #[allow(clippy::type_complexity, clippy::too_many_lines)] // one header after another, in their order
    fn v6(&mut self, layers: &[Layer], linked: u64, quoted: bool) -> Result<(Inner, Option<([u8; 16], bool)>), Fate> {
        let Some((Layer::V6 { class: traffic, label, claimed, next, hops: limit, source, destination }, mut rest)) =
            layers.split_first()
        else {
            return Err(Fate::Unread);
        };
        let rules = self.rules;
        let out_source = if rules.v6_src { self.map(*source) } else { [0; 16] };
        let out_destination = if rules.v6_dst { self.destination6(*destination, rest) } else { [0; 16] };
        let flow_label = match rules.v6_label {
            Small::Keep => *label,
            Small::Changed if *label != 0 => {
                let value = [&source[..], destination, &label.to_be_bytes()].concat();
                let [a, b, c, ..] = self.maps.draw(5, &value);
                u32::from_be_bytes([0, a & 0x0F, b, c])
            }
            _ => 0,
        };
        let start = self.bytes.len();
        let traffic = class(rules.v6_class, *traffic);
        let first = 6_u32 << 28 | u32::from(traffic.unwrap_or(0)) << 20 | flow_label;
        let [a, b, c, d] = first.to_be_bytes();
        let mut out = self.out();
        // Version, class and label share bytes: each byte goes to the rule of most of its bits.
        out.put(if traffic.is_some() { Key::V6Class } else { Key::Format }, &[a, b]);
        out.put(if rules.v6_label == Small::Drop { Key::Zero } else { Key::V6Label }, &[c, d]);
        out.put16(Key::V6Len, 0);
        out.put(Key::V6Next, &[*next]);
        out.field(Key::V6Hops, hops(rules.v6_hops, *limit).map(|value| [value]));
        out.field(Key::V6Source, rules.v6_src.then_some(out_source));
        out.field(Key::V6Destination, rules.v6_dst.then_some(out_destination));
        let mut next_place = start.saturating_add(6);
        let mut protocol = *next;
        let mut described = 40_u64;
        let mut stopped = false;
        let mut later = false;
        loop {
            match rest.first() {
                Some(Layer::Fragment { next, offset, more, id }) => {
                    later = *offset != 0;
                    let fragment = later || *more;
                    if !quoted && ((later && !rules.fragments_later) || (fragment && !rules.fragments_first)) {
                        return Err(Fate::Fragment);
                    }
                    if rules.v6_fragment {
                        let value = [&source[..], destination, &id.to_be_bytes()].concat();
                        let [a, b, c, d, ..] = self.maps.draw(6, &value);
                        let mut out = self.out();
                        next_place = out.len();
                        out.put(Key::V6Next, &[*next]);
                        out.put(Key::Zero, &[0]);
                        out.put16(Key::V6Fragment, offset << 3 | u16::from(*more));
                        out.put(Key::V6Fragment, &[a, b, c, d]);
                    } else if later || !self.extension(*next, next_place)? {
                        stopped = true;
                        break;
                    }
                    described = described.saturating_add(8);
                    protocol = *next;
                    if later {
                        break;
                    }
                }
                Some(Layer::Extension { next, length, .. }) => {
                    if !self.extension(*next, next_place)? {
                        stopped = true;
                        break;
                    }
                    described = described.saturating_add(u64::from(*length));
                    protocol = *next;
                }
                _ => break,
            }
            rest = rest.get(1..).unwrap_or(&[]);
        }
        let header = self.bytes.len().saturating_sub(start) as u64;
        let extended = described.saturating_sub(40);
        let ip = Ip {
            source: *source,
            destination: *destination,
            out_source,
            out_destination,
            v4: false,
            claimed: u64::from(*claimed).saturating_sub(extended),
            before: described.saturating_add(14),
            out_before: linked.saturating_add(header),
            quoted,
        };
        let body = if stopped || later { self.rest(ip, 0, self.bytes.len()) } else { self.body(rest, ip, protocol)? };
        let total = header.saturating_add(body.length);
        let mut out = self.out();
        out.patch16(Key::V6Len, start.saturating_add(4), at_most16(total.saturating_sub(40)));
        let described = described.saturating_add(body.described);
        Ok((Inner { length: total, described }, Some((out_destination, false))))
    }

    /// An extension header that no rule allows; true: it is left out and what follows leaves.
    fn extension(&mut self, next: u8, next_place: usize) -> Result<bool, Fate> {
        match self.rules.v6_other {
            Otherwise::DropPacket => Err(Fate::Unwanted),
            Otherwise::Prefix => Ok(false),
            Otherwise::Skip => {
                self.out().patch(Key::V6Next, next_place, &[next]);
                Ok(true)
            }
        }
    }

    /// A solicited-node group repeats 24 bits of the address that the solicitation is for: they are taken from the mapped one.
    fn destination6(&mut self, destination: [u8; 16], rest: &[Layer]) -> [u8; 16] {
        if let [0xFF, _, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, x, y, z] = destination {
            for layer in rest {
                if let Layer::Icmp6Address { address, .. } = layer
                    && address.ends_with(&[x, y, z])
                {
                    let (keys, epoch) = (self.scope.keys, self.scope.epoch);
                    return self.maps.addresses(self.scope.maybe_scanner, keys, epoch).solicited_node(*address);
                }
            }
        }
        self.map(destination)
    }

    /// What lies behind the headers that leave: its released size.
    fn rest(&self, ip: Ip, described: u64, from: usize) -> Inner {
        let emitted = self.bytes.len().saturating_sub(from) as u64;
        let left = ip.claimed.saturating_sub(described);
        let cut = if left == 0 {
            0
        } else {
            match &self.rules.wire_len {
                Sizes::Drop => 0,
                Sizes::Keep => left,
                sizes @ Sizes::Bucket(_) => {
                    // The edge is one of the whole packet, so that packets of one size look alike whatever their headers are.
                    let whole = sizes.of(ip.before.saturating_add(ip.claimed));
                    whole.saturating_sub(ip.out_before).saturating_sub(emitted).max(SMALLEST_CUT)
                }
            }
        };
        Inner { length: emitted.saturating_add(cut), described }
    }

    fn body(&mut self, layers: &[Layer], ip: Ip, protocol: u8) -> Result<Inner, Fate> {
        let rules = self.rules;
        let from = self.bytes.len();
        match layers.split_first() {
            Some((Layer::Tcp { .. } | Layer::TcpStart { .. }, _)) if rules.tcp => return Ok(self.tcp(layers, ip, from)),
            Some((Layer::Udp { .. }, _)) if rules.udp => return self.udp(layers, ip, from),
            Some((Layer::Icmp { kind, .. }, _)) if rules.icmp.has(*kind) => return Ok(self.icmp(layers, ip, from)),
            Some((Layer::Icmp6 { kind, .. }, _)) if rules.icmp6.has(*kind) => return Ok(self.icmp6(layers, ip, from)),
            Some((Layer::Tunnel { kind, length }, inner)) if rules.tunnels >> kind.number() & 1 == 1 => {
                if let Some(found) = self.tunnel(*kind, *length, inner, protocol, from)? {
                    return Ok(found);
                }
            }
            // Nothing behind the IP header, or a header that was cut: there is nothing that a rule could be missing for.
            None if matches!(protocol, 6 | 17 | 1 | 58 | 59) => return Ok(self.rest(ip, 0, from)),
            _ => {}
        }
        if rules.unknown_ip_proto == Otherwise::DropPacket && !ip.quoted {
            return Err(Fate::Unwanted);
        }
        Ok(self.rest(ip, 0, from))
    }

    /// A tunnel's header as little as it can be, and the packet in it. None: there is nothing in it that leaves.
    fn tunnel(
        &mut self,
        kind: Tunnel,
        length: u16,
        inner: &[Layer],
        protocol: u8,
        from: usize,
    ) -> Result<Option<Inner>, Fate> {
        let ethernet = matches!(inner.first(), Some(Layer::Ethernet { .. }));
        let code: u16 = match inner.first() {
            Some(Layer::Ethernet { .. }) => 0x6558,
            Some(Layer::V4 { .. }) => 0x0800,
            Some(Layer::V6 { .. }) => 0x86DD,
            _ => return Ok(None),
        };
        let [high, low] = code.to_be_bytes();
        let head: &[u8] = match kind {
            Tunnel::IpIp => {
                // The protocol number of the header before must fit, which it does: 4 and 41 are what was read.
                if ethernet || (protocol == 4) != (code == 0x0800) {
                    return Ok(None);
                }
                &[]
            }
            Tunnel::Gre => &[0, 0, high, low],
            Tunnel::Vxlan if ethernet => &[0x08, 0, 0, 0, 0, 0, 0, 0],
            Tunnel::Geneve => &[0, 0, high, low, 0, 0, 0, 0],
            Tunnel::Gtp if !ethernet => &[0x30, 0xFF, 0, 0, 0, 0, 0, 0],
            Tunnel::Teredo if code == 0x86DD => &[],
            Tunnel::Vxlan | Tunnel::Gtp | Tunnel::Teredo | Tunnel::Ayiya => return Ok(None),
        };
        self.out().put(Key::Tunnels, head);
        let found = if ethernet {
            match self.ethernet(inner) {
                Ok(found) => found,
                // What the frame holds does not leave: nor does the tunnel's header.
                Err(Fate::Unread | Fate::Unwanted) => {
                    self.bytes.truncate(from);
                    return Ok(None);
                }
                Err(other) => return Err(other),
            }
        } else {
            self.ip(inner, 14, false)?.0
        };
        let total = found.length.saturating_add(head.len() as u64);
        if kind == Tunnel::Gtp {
            let at = from.saturating_add(2);
            self.out().patch16(Key::Derived, at, at_most16(found.length));
        }
        Ok(Some(Inner { length: total, described: u64::from(length).saturating_add(found.described) }))
    }

    fn transport_checksum(
        &mut self,
        ip: Ip,
        protocol: u8,
        from: usize,
        length: u64,
        check: Check,
        zero_is_ones: bool,
    ) -> u16 {
        let mut start = 0_u32;
        for address in [&ip.out_source, &ip.out_destination] {
            let bytes: &[u8] = if ip.v4 { address.get(12..).unwrap_or(&[]) } else { address };
            start = start.wrapping_add(u32::from(sum(bytes, 0)));
        }
        start = start.wrapping_add(u32::from(protocol));
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        start = start
            .wrapping_add(u32::from(u16::from_be_bytes([a, b])))
            .wrapping_add(u32::from(u16::from_be_bytes([c, d])));
        let mut right = !sum(self.out().since(from), start);
        if right == 0 && zero_is_ones {
            right = 0xFFFF;
        }
        wrong(check, right)
    }

    fn tcp(&mut self, layers: &[Layer], ip: Ip, from: usize) -> Inner {
        let rules = self.rules;
        let wanted = TcpRules {
            sport: rules.tcp_sport,
            dport: rules.tcp_dport,
            sequence: rules.tcp_seq,
            acknowledgement: rules.tcp_ack,
            sack: rules.tcp_sack,
        };
        let (ports, numbers, flags) = match layers.first() {
            Some(Layer::Tcp { ports, sequence, acknowledgement, flags, .. }) => {
                (*ports, [*sequence, *acknowledgement], *flags)
            }
            Some(Layer::TcpStart { ports, sequence }) => (*ports, [*sequence, 0], 0),
            _ => return self.rest(ip, 0, from),
        };
        let found = FlowKey::of(ip.source, ip.destination, ports, 6);
        let acks = flags & 0x10 != 0;
        let syn = flags & 0x12 == 0x02 && !ip.quoted;
        let moved = self.flows.tcp(found, ports, numbers, syn, acks, wanted, &rules.tcp_services, self.maps);
        let [sport, dport] = moved.ports;
        let mut out = self.out();
        out.put16(if rules.tcp_sport == super::rules::Ports::Drop { Key::Zero } else { Key::TcpSource }, sport);
        out.put16(if rules.tcp_dport == super::rules::Ports::Drop { Key::Zero } else { Key::TcpDestination }, dport);
        out.put(sequence_key(rules.tcp_seq, Key::TcpSequence), &moved.sequence.to_be_bytes());
        let Some(Layer::Tcp { window, urgent, check, options, .. }) = layers.first() else {
            return self.rest(ip, 8, from);
        };
        out.put(sequence_key(rules.tcp_ack, Key::TcpAcknowledgement), &moved.acknowledgement.to_be_bytes());
        let place = out.len();
        out.put(Key::Format, &[0x50]);
        out.field(Key::TcpFlags, rules.tcp_flags.then(|| [flags.to_be_bytes()[1]]));
        out.field(
            Key::TcpWindow,
            (rules.tcp_window != Sizes::Drop).then(|| at_most16(rules.tcp_window.of(u64::from(*window))).to_be_bytes()),
        );
        out.put16(Key::Zero, 0);
        out.field(Key::TcpUrgent, rules.tcp_urg.then(|| urgent.to_be_bytes()));
        if rules.tcp_options.is_some() {
            self.tcp_options(options, found, moved);
        }
        let header = self.bytes.len().saturating_sub(from);
        let high = if rules.tcp_flags { flags.to_be_bytes()[0] & 0x01 } else { 0 };
        self.out().patch(Key::Format, place, &[u8::try_from(header << 2).unwrap_or(0xF0) & 0xF0 | high]);
        let body = self.rest(ip, 20_u64.saturating_add(options.bytes().len() as u64), from);
        if rules.tcp_checksum {
            let value = self.transport_checksum(ip, 6, from, body.length, *check, false);
            self.out().patch16(Key::TcpChecksum, from.saturating_add(16), value);
        }
        body
    }

    /// Options by the list, others as NOPs of the same length, what follows the end as zeros.
    fn tcp_options(&mut self, options: &Area, found: (FlowKey, bool), moved: TcpOut) {
        let rules = self.rules;
        let Some(allowed) = &rules.tcp_options else { return };
        let mut rest = options.bytes();
        while let Some((kind, behind)) = rest.split_first() {
            match kind {
                0 => {
                    let left = rest.len();
                    let key = if allowed.has(0) { Key::TcpOptions } else { Key::Zero };
                    // The end of the list, and padding that may have been anything.
                    self.out().put(key, [0_u8; 40].get(..left).unwrap_or(&[]));
                    return;
                }
                1 => {
                    self.out().put(Key::TcpOptions, &[1]);
                    rest = behind;
                    continue;
                }
                _ => {}
            }
            let length = behind.first().map_or(0, |length| usize::from(*length));
            let (length, option) = match rest.get(..length) {
                Some(option) if length >= 2 => (length, option),
                _ => (rest.len(), &[][..]), // a length that cannot be: the rest becomes NOPs
            };
            rest = rest.get(length..).unwrap_or(&[]);
            let mut mapped = [1_u8; 40];
            let key = self.tcp_option(option, found, moved, &mut mapped);
            self.out().put(key, mapped.get(..length).unwrap_or(&[]));
        }
    }

    /// One option that has a length, into `out`, which is NOPs already.
    fn tcp_option(&mut self, option: &[u8], found: (FlowKey, bool), moved: TcpOut, out: &mut [u8; 40]) -> Key {
        let rules = self.rules;
        let mut write = |bytes: &[u8]| {
            for (place, byte) in out.iter_mut().zip(bytes) {
                *place = *byte;
            }
        };
        match option {
            [2, 4, a, b] if rules.tcp_mss != Sizes::Drop => {
                let size = at_most16(rules.tcp_mss.of(u64::from(u16::from_be_bytes([*a, *b])))).to_be_bytes();
                write(&[2, 4, size[0], size[1]]);
                Key::TcpMss
            }
            [3, 3, shift] if rules.tcp_scale => {
                write(&[3, 3, (*shift).min(14)]);
                Key::TcpScale
            }
            [4, 2] if rules.tcp_options.as_ref().is_some_and(|allowed| allowed.has(4)) => {
                write(&[4, 2]);
                Key::TcpOptions
            }
            [5, length, blocks @ ..]
                if rules.tcp_sack != super::rules::Sequence::Drop
                    && blocks.len().is_multiple_of(8)
                    && blocks.len() <= 32 =>
            {
                write(&[5, *length]);
                let (edges, _) = blocks.as_chunks::<4>();
                for (number, edge) in edges.iter().enumerate() {
                    let edge = u32::from_be_bytes(*edge).wrapping_add(moved.sack).to_be_bytes();
                    let at = number.saturating_mul(4).saturating_add(2);
                    if let Some(place) = out.get_mut(at..at.saturating_add(4)) {
                        place.copy_from_slice(&edge);
                    }
                }
                Key::TcpSack
            }
            [8, 10, a, b, c, d, e, f, g, h] if rules.tcp_stamps != Stamps::Nop => {
                let values = [u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h])];
                if let Some([value, echo]) =
                    self.flows.stamps(found, moved.place, values, rules.tcp_stamps, self.ranking)
                {
                    let ([a, b, c, d], [e, f, g, h]) = (value.to_be_bytes(), echo.to_be_bytes());
                    write(&[8, 10, a, b, c, d, e, f, g, h]);
                    return Key::TcpStamps;
                }
                Key::TcpOptions
            }
            _ => Key::TcpOptions,
        }
    }

    fn udp(&mut self, layers: &[Layer], ip: Ip, from: usize) -> Result<Inner, Fate> {
        let Some((Layer::Udp { ports, check }, behind)) = layers.split_first() else {
            return Ok(self.rest(ip, 0, from));
        };
        let rules = self.rules;
        let found = FlowKey::of(ip.source, ip.destination, *ports, 17);
        let wanted = [rules.udp_sport, rules.udp_dport];
        let [sport, dport] = self.flows.udp(found, *ports, wanted, &rules.udp_services, self.maps);
        let mut out = self.out();
        out.put16(if rules.udp_sport == super::rules::Ports::Drop { Key::Zero } else { Key::UdpSource }, sport);
        out.put16(if rules.udp_dport == super::rules::Ports::Drop { Key::Zero } else { Key::UdpDestination }, dport);
        out.put16(Key::UdpLen, 0);
        out.put16(Key::Zero, 0);
        let inside = self.bytes.len();
        let body = match behind.split_first() {
            Some((Layer::Tunnel { kind, length }, inner)) if rules.tunnels >> kind.number() & 1 == 1 => {
                match self.tunnel(*kind, *length, inner, 17, inside)? {
                    Some(found) => {
                        Inner { length: found.length.saturating_add(8), described: found.described.saturating_add(8) }
                    }
                    None => self.rest(ip, 8, from),
                }
            }
            _ => self.rest(ip, 8, from),
        };
        self.out().patch16(Key::UdpLen, from.saturating_add(4), u16::try_from(body.length).unwrap_or(0));
        if rules.udp_checksum && *check != Check::Absent {
            let value = self.transport_checksum(ip, 17, from, body.length, *check, true);
            self.out().patch16(Key::UdpChecksum, from.saturating_add(6), value);
        }
        Ok(body)
    }

    fn icmp(&mut self, layers: &[Layer], ip: Ip, from: usize) -> Inner {
        let Some((Layer::Icmp { kind, code, rest, check }, behind)) = layers.split_first() else {
            return self.rest(ip, 0, from);
        };
        let rules = self.rules;
        let mut out = self.out();
        out.put(Key::IcmpTypes, &[*kind, *code]);
        out.put16(Key::Zero, 0);
        match kind {
            0 | 8 => self.echo(ip, *rest, 1, [rules.icmp_id, rules.icmp_seq], [Key::IcmpId, Key::IcmpSequence]),
            3 if *code == 4 && rules.icmp_mtu => {
                let mut out = self.out();
                out.put16(Key::Zero, 0);
                out.put(Key::IcmpMtu, &[rest[2], rest[3]]);
            }
            5 if rules.icmp_gateway => {
                let gateway = self.map4(*rest);
                self.out().put(Key::IcmpGateway, &gateway);
            }
            _ => self.out().put(Key::Zero, &[0; 4]),
        }
        let described = if rules.icmp_quoted { self.quote(behind) } else { 0 };
        let body = self.rest(ip, described.saturating_add(8), from);
        if rules.icmp_checksum {
            let right = !sum(self.out().since(from), 0);
            self.out().patch16(Key::IcmpChecksum, from.saturating_add(2), wrong(*check, right));
        }
        body
    }

    fn echo(&mut self, ip: Ip, rest: [u8; 4], protocol: u8, rules: [Small; 2], keys: [Key; 2]) {
        let [a, b, c, d] = rest;
        let (identifier, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let (key, _) = FlowKey::of(ip.source, ip.destination, [identifier, identifier], protocol);
        let (tag, since) = self.flows.echo(key, sequence, self.maps);
        let mut out = self.out();
        for ((rule, key), (raw, changed)) in rules.into_iter().zip(keys).zip([(identifier, tag), (sequence, since)]) {
            out.field(
                key,
                match rule {
                    Small::Keep => Some(raw.to_be_bytes()),
                    Small::Changed | Small::Relative => Some(changed.to_be_bytes()),
                    Small::Drop | Small::Const(_) => None,
                },
            );
        }
    }

    /// The packet that an error quotes: how many of its bytes were described.
    fn quote(&mut self, layers: &[Layer]) -> u64 {
        let Some((Layer::Quote, quoted)) = layers.split_first() else { return 0 };
        let before = self.bytes.len();
        let on = match quoted.first() {
            Some(Layer::V4 { .. }) => self.rules.v4,
            Some(Layer::V6 { .. }) => self.rules.v6,
            _ => false,
        };
        if !on {
            return 0;
        }
        match self.ip(quoted, 14, true) {
            Ok((found, _)) => found.described,
            Err(_) => {
                self.bytes.truncate(before);
                0
            }
        }
    }

    fn icmp6(&mut self, layers: &[Layer], ip: Ip, from: usize) -> Inner {
        let Some((Layer::Icmp6 { kind, code, rest, check }, behind)) = layers.split_first() else {
            return self.rest(ip, 0, from);
        };
        let rules = self.rules;
        let mut out = self.out();
        out.put(Key::Icmp6Types, &[*kind, *code]);
        out.put16(Key::Zero, 0);
        let body = match kind {
            128 | 129 => {
                self.echo(ip, *rest, 58, [rules.icmp6_id, rules.icmp6_seq], [Key::Icmp6Id, Key::Icmp6Sequence]);
                self.rest(ip, 8, from)
            }
            1..=4 => {
                if *kind == 2 && rules.icmp6_mtu {
                    self.out().put(Key::Icmp6Mtu, rest);
                } else {
                    self.out().put(Key::Zero, &[0; 4]);
                }
                let described = if rules.icmp6_quoted { self.quote(behind) } else { 0 };
                self.rest(ip, described.saturating_add(8), from)
            }
            130..=137 => {
                self.out().put(Key::Zero, &[0; 4]);
                if *kind == 134 {
                    self.out().put(Key::Zero, &[0; 8]);
                }
                self.neighbours(behind);
                // Other options do not exist in the output, so nothing of the message is cut.
                Inner { length: self.bytes.len().saturating_sub(from) as u64, described: ip.claimed }
            }
            _ => {
                self.out().put(Key::Zero, &[0; 4]);
                self.rest(ip, 8, from)
            }
        };
        if rules.icmp6_checksum {
            let value = self.transport_checksum(ip, 58, from, body.length, *check, false);
            self.out().patch16(Key::Icmp6Checksum, from.saturating_add(2), value);
        }
        body
    }

    fn neighbours(&mut self, layers: &[Layer]) {
        for layer in layers {
            match layer {
                Layer::Icmp6Address { address, .. } => {
                    let mapped = self.rules.icmp6_target.then(|| self.destination6(*address, layers));
                    self.out().field(Key::Icmp6Target, mapped);
                }
                Layer::LinkAddress { kind, address } if self.rules.icmp6_lladdr => {
                    let mapped = self.maps.mac(*address);
                    let mut out = self.out();
                    out.put(Key::Format, &[*kind, 1]);
                    out.put(Key::Icmp6LinkAddress, &mapped);
                }
                _ => {}
            }
        }
    }
}

fn sequence_key(rule: super::rules::Sequence, key: Key) -> Key {
    if rule == super::rules::Sequence::Drop { Key::Zero } else { key }
}

/// Type of service or traffic class.
const fn class(rule: Small, value: u8) -> Option<u8> {
    match rule {
        Small::Keep => Some(value),
        Small::Changed => Some(value & 3),
        Small::Const(value) => Some(value),
        Small::Drop | Small::Relative => None,
    }
}

/// `hops`: 64 minus the hops that the packet seems to have come, from the usual starts 32, 64, 128, 255.
const fn hops(rule: Small, value: u8) -> Option<u8> {
    match rule {
        Small::Keep => Some(value),
        Small::Const(value) => Some(value),
        Small::Changed => {
            let start: u8 = match value {
                0..=32 => 32,
                33..=64 => 64,
                65..=128 => 128,
                _ => 255,
            };
            let away: u8 = start.saturating_sub(value);
            Some(64_u8.saturating_sub(if away < 63 { away } else { 63 }))
        }
        Small::Drop | Small::Relative => None,
    }
}

/// IPv4 options by the list, others as NOPs of the same length.
fn v4_options(options: &Area, allowed: &super::rules::ByteSet) -> Area {
    let mut mapped = [1_u8; 40];
    let bytes = options.bytes();
    let mut at = 0_usize;
    while let Some(kind) = bytes.get(at).copied() {
        if kind == 0 {
            // The end of the list and its padding.
            for place in mapped.iter_mut().skip(at) {
                *place = 0;
            }
            break;
        }
        let length =
            if kind == 1 { 1 } else { bytes.get(at.saturating_add(1)).map_or(0, |length| usize::from(*length)) };
        if length == 0 || at.saturating_add(length) > bytes.len() {
            break;
        }
        // Router alert (148) is the one option whose value says nothing of anybody.
        if kind == 148 && length == 4 && allowed.has(148) {
            for (place, byte) in mapped.iter_mut().skip(at).zip([148_u8, 4, 0, 0]) {
                *place = byte;
            }
        }
        at = at.saturating_add(length);
    }
    Area::new(mapped.get(..bytes.len()).unwrap_or(&[])).unwrap_or(Area::EMPTY)
}
