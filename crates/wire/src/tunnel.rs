//! Tunnels: what is inside an IP or UDP payload.
//!
//! Rules of this file:
//! 1. A tunnel header that does not add up is no tunnel: the answer is None and the payload stays what it was.
//! 2. Nothing here descends; the tracker counts depth.
use crate::bytes::{be16, be32};

/// What a tunnel carries.
#[derive(Clone, Copy)]
pub enum Inner<'a> {
    /// An IP packet.
    Ip(&'a [u8]),
    /// An Ethernet frame.
    Ethernet(&'a [u8]),
    /// What the Ethernet type says.
    Ethertype(u16, &'a [u8]),
    /// A PPP frame.
    Ppp(&'a [u8]),
    /// An IEEE 802.11 frame.
    Wifi(&'a [u8]),
}

/// The inner packet of an IP protocol: IP in IP (4), IPv6 in IP (41), GRE (47), EtherIP (97, RFC 3378), MPLS (137, RFC 4023).
#[must_use]
pub fn of_protocol(protocol: u8, payload: &[u8]) -> Option<Inner<'_>> {
    match protocol {
        4 | 41 => matches!(payload.first()? >> 4, 4 | 6).then_some(Inner::Ip(payload)),
        47 => gre(payload),
        97 => payload.strip_prefix(&[0x30, 0]).map(Inner::Ethernet),
        137 => mpls(payload),
        _ => None,
    }
}

/// The inner packet of a UDP payload, by well-known port and a header that adds up.
#[must_use]
pub fn of_udp(source_port: u16, destination_port: u16, payload: &[u8]) -> Option<Inner<'_>> {
    match (source_port, destination_port) {
        (_, 4789 | 4790 | 8472) => vxlan(payload),
        (_, 6081) => geneve(payload),
        (_, 4754) => gre(payload),
        (_, 6635) => mpls(payload),
        (2152, _) | (_, 2152) => gtp(payload),
        (3544, _) | (_, 3544) => teredo(payload),
        (5072, _) | (_, 5072) => ayiya(payload),
        (1701, _) | (_, 1701) => l2tp(payload),
        (5247, _) | (_, 5247) => capwap(payload),
        (_, 4341) => lisp(payload),
        (_, 37008) => tzsp(payload),
        _ => teredo_by_address(payload),
    }
}

/// GRE (RFC 2784, 2890; in UDP: RFC 8086; version 1 with PPP: RFC 2637), ERSPAN I, II and III inside.
fn gre(bytes: &[u8]) -> Option<Inner<'_>> {
    let flags = be16(bytes, 0)?;
    let kind = be16(bytes, 2)?;
    let version = flags & 7;
    let mut length = 4_usize;
    if flags & 0xC000 != 0 {
        length += 4; // checksum and offset
    }
    if version == 0 && flags & 0x4000 != 0 {
        return routed_gre(bytes, flags, kind);
    }
    if flags & 0x2000 != 0 {
        length += 4; // key
    }
    let has_sequence = flags & 0x1000 != 0;
    if has_sequence {
        length += 4;
    }
    match (version, kind) {
        (1, 0x880B) => {
            if flags & 0x0080 != 0 {
                length += 4; // acknowledgement number
            }
            Some(Inner::Ppp(bytes.get(length..)?))
        }
        (0, 0x88BE) => {
            // ERSPAN: type I has no header of its own and no sequence number, type II has eight bytes.
            let rest = bytes.get(length..)?;
            Some(Inner::Ethernet(if has_sequence { rest.get(8..)? } else { rest }))
        }
        (0, 0x22EB) => {
            let rest = bytes.get(length..)?;
            let extended = rest.get(11)? & 1 != 0;
            let frame_type = rest.get(10)? >> 2 & 0x1F;
            let inner = rest.get(if extended { 20 } else { 12 }..)?;
            Some(if frame_type == 2 { Inner::Ip(inner) } else { Inner::Ethernet(inner) })
        }
        (0, 0x6558) => Some(Inner::Ethernet(bytes.get(length..)?)),
        (0, 0x0000) => None, // keep-alive
        // Redirected to a web cache (WCCP): IP, behind a word of its own in the second version.
        (0, 0x883E) => {
            let rest = bytes.get(length..)?;
            Some(Inner::Ip(if rest.first()? >> 4 == 4 { rest } else { rest.get(4..)? }))
        }
        // Aruba's access points: what they hear and send.
        (0, 0x8200..=0x8210 | 0x9000) => Some(Inner::Wifi(bytes.get(length..)?)),
        (0, kind) => Some(Inner::Ethertype(kind, bytes.get(length..)?)),
        _ => None,
    }
}

/// GRE with a source route (RFC 1701): entries of an address family and a length, the last of length zero.
fn routed_gre(bytes: &[u8], flags: u16, kind: u16) -> Option<Inner<'_>> {
    let mut at = 8_usize;
    for present in [flags & 0x2000, flags & 0x1000] {
        if present != 0 {
            at = at.checked_add(4)?;
        }
    }
    for _ in 0..16 {
        let length = usize::from(*bytes.get(at.checked_add(3)?)?);
        at = at.checked_add(4)?.checked_add(length)?;
        if length == 0 {
            return Some(Inner::Ethertype(kind, bytes.get(at..)?));
        }
    }
    None
}

/// L2TP (RFC 2661), data messages: optional length, sequence numbers, offset; then PPP.
fn l2tp(bytes: &[u8]) -> Option<Inner<'_>> {
    let flags = be16(bytes, 0)?;
    if flags & 0x800F != 2 {
        return None; // a control message, or another version
    }
    let mut at = if flags & 0x4000 != 0 { 8_usize } else { 6 };
    if flags & 0x0800 != 0 {
        at = at.checked_add(4)?;
    }
    if flags & 0x0200 != 0 {
        at = at.checked_add(2)?.checked_add(usize::from(be16(bytes, at)?))?;
    }
    Some(Inner::Ppp(bytes.get(at..)?))
}

/// CAPWAP data (RFC 5415): a header as long as it says; frames of Ethernet or 802.11, those that came in one piece.
fn capwap(bytes: &[u8]) -> Option<Inner<'_>> {
    let [0, length, _, flags, ..] = bytes else { return None };
    if flags & 0x80 != 0 {
        return None; // a fragment
    }
    // Type of the payload: the lowest bit of the third byte.
    let native = bytes.get(2)? & 1 != 0;
    let inner = bytes.get(usize::from(length >> 3).checked_mul(4)?..)?;
    Some(if native { Inner::Wifi(inner) } else { Inner::Ethernet(inner) })
}

/// LISP data (RFC 9300): eight bytes, then an IP packet as long as it says.
fn lisp(bytes: &[u8]) -> Option<Inner<'_>> {
    let inner = bytes.get(8..)?;
    let length = match inner.first()? >> 4 {
        4 => usize::from(be16(inner, 2)?),
        6 => usize::from(be16(inner, 4)?).checked_add(40)?,
        _ => return None,
    };
    (length == inner.len()).then_some(Inner::Ip(inner))
}

/// TaZmen Sniffer Protocol: received packets of Ethernet or 802.11 behind tagged fields.
fn tzsp(bytes: &[u8]) -> Option<Inner<'_>> {
    let [1, 0 | 1, high, low, tags @ ..] = bytes else { return None };
    let mut rest = tags;
    for _ in 0..64 {
        rest = match rest {
            [0, after @ ..] => after,
            [1, after @ ..] => {
                return match u16::from_be_bytes([*high, *low]) {
                    1 => Some(Inner::Ethernet(after)),
                    18 => Some(Inner::Wifi(after)),
                    _ => None,
                };
            }
            [_, length, after @ ..] => after.get(usize::from(*length)..)?,
            _ => return None,
        };
    }
    None
}

/// VXLAN (RFC 7348), with the generic protocol extension's next protocol where it is set.
fn vxlan(bytes: &[u8]) -> Option<Inner<'_>> {
    let flags = *bytes.first()?;
    if flags & 0x08 == 0 {
        return None;
    }
    let rest = bytes.get(8..)?;
    match (flags & 0x04 != 0, *bytes.get(3)?) {
        (true, 1 | 2) => Some(Inner::Ip(rest)),
        (true, 4) => Some(Inner::Ethertype(0x894F, rest)),
        (true, 5) => Some(Inner::Ethertype(0x8847, rest)),
        _ => Some(Inner::Ethernet(rest)),
    }
}

/// MPLS in UDP (RFC 7510): a label stack that ends, and an IP packet behind it.
fn mpls(bytes: &[u8]) -> Option<Inner<'_>> {
    let depth = bytes.as_chunks::<4>().0.iter().take(8).position(|[_, _, bottom, _]| bottom & 1 == 1)?;
    let inner = bytes.get(depth.checked_add(1)?.checked_mul(4)?)?;
    matches!(inner >> 4, 4 | 6).then_some(Inner::Ethertype(0x8847, bytes))
}

/// Geneve (RFC 8926).
fn geneve(bytes: &[u8]) -> Option<Inner<'_>> {
    let first = *bytes.first()?;
    if first >> 6 != 0 {
        return None;
    }
    let length = usize::from(first & 0x3F).checked_mul(4)?.checked_add(8)?;
    Some(Inner::Ethertype(be16(bytes, 2)?, bytes.get(length..)?))
}

/// GTP-U, version 1 (3GPP TS 29.281): G-PDU with optional fields and extension headers.
fn gtp(bytes: &[u8]) -> Option<Inner<'_>> {
    let flags = *bytes.first()?;
    if flags >> 5 != 1 || flags & 0x10 == 0 || *bytes.get(1)? != 0xFF {
        return None;
    }
    let mut offset = 8_usize;
    if flags & 0x07 != 0 {
        let mut next = *bytes.get(11)?;
        offset = 12;
        if flags & 0x04 != 0 {
            for _ in 0..16 {
                if next == 0 {
                    break;
                }
                let length = usize::from(*bytes.get(offset)?).checked_mul(4)?;
                if length == 0 {
                    return None;
                }
                offset = offset.checked_add(length)?;
                next = *bytes.get(offset.checked_sub(1)?)?;
            }
        }
    }
    let rest = bytes.get(offset..)?;
    matches!(rest.first()? >> 4, 4 | 6).then_some(Inner::Ip(rest))
}

/// Teredo (RFC 4380): optional authentication and origin indications before the IPv6 packet.
fn teredo(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut rest = bytes;
    if rest.starts_with(&[0, 1]) {
        let length = 13_usize.checked_add(usize::from(*rest.get(2)?))?.checked_add(usize::from(*rest.get(3)?))?;
        rest = rest.get(length..)?;
    }
    if rest.starts_with(&[0, 0]) {
        rest = rest.get(8..)?;
    }
    (rest.len() >= 40 && rest.first()? >> 4 == 6).then_some(Inner::Ip(rest))
}

/// Teredo between a client and a relay, on any ports: an IPv6 packet as long as its header says, one end of which has Teredo's prefix
/// (2001::/32, RFC 4380 section 2.6). Only the server listens on the well-known port.
fn teredo_by_address(bytes: &[u8]) -> Option<Inner<'_>> {
    const PREFIX: [u8; 4] = [0x20, 0x01, 0, 0];
    if bytes.first()? >> 4 != 6 {
        return None;
    }
    let claimed = usize::from(be16(bytes, 4)?).checked_add(40)?;
    let (source, destination) = (bytes.get(8..24)?, bytes.get(24..40)?);
    let is_teredo = source.starts_with(&PREFIX) || destination.starts_with(&PREFIX);
    (is_teredo && claimed == bytes.len()).then_some(Inner::Ip(bytes))
}

/// AYIYA (draft-massar-v6ops-ayiya): identity, signature, then the packet.
fn ayiya(bytes: &[u8]) -> Option<Inner<'_>> {
    let word = be32(bytes, 0)?;
    let identity = 1_usize.checked_shl(word >> 28)?;
    let signature = usize::try_from((word >> 20) & 0x0F).ok()?.checked_mul(4)?;
    let (operation, next) = ((word >> 8) & 0x0F, word & 0xFF);
    // Fields of the first word: identity length (as a power of two) and type, signature length and method, authentication and
    // operation, next header.
    let rest = bytes.get(8_usize.checked_add(identity)?.checked_add(signature)?..)?;
    (operation == 1 && matches!(next, 4 | 41) && matches!(rest.first()? >> 4, 4 | 6)).then_some(Inner::Ip(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv6(source: [u8; 4], destination: [u8; 4], claimed: u8, room: usize) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, claimed, 59, 64];
        packet.extend([source.as_slice(), &[1; 12], &destination, &[2; 12]].concat());
        packet.resize(40_usize.saturating_add(room), 0);
        packet
    }

    #[test]
    fn teredo_is_found_on_any_port_by_its_prefix_and_length() {
        let (teredo, other) = ([0x20, 1, 0, 0], [0x20, 1, 0x0D, 0xB8]);
        for (source, destination) in [(teredo, other), (other, teredo)] {
            let packet = ipv6(source, destination, 8, 8);
            assert!(matches!(of_udp(1000, 2000, &packet), Some(Inner::Ip(inner)) if inner == packet));
        }
        assert!(of_udp(1000, 2000, &ipv6(other, other, 8, 8)).is_none(), "no end of it is Teredo's");
        for (claimed, room) in [(8, 7), (8, 9), (0, 1)] {
            assert!(of_udp(1000, 2000, &ipv6(teredo, other, claimed, room)).is_none(), "its length does not add up");
        }
        assert!(of_udp(1000, 2000, &[0x60; 39]).is_none());
    }
}
