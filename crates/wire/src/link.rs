//! Layer 2: from the link's bytes to an IP packet.
//!
//! Rules of this file:
//! 1. A walk down the headers, each checked; at most `Limits::headers` of them.
//! 2. The answer is an IP packet's bytes, or why there is none ([`Skip`]); it never fails otherwise.
use crate::bytes::{be16, be32, le16, le32};
use crate::packet::Packet;

/// Why a packet holds no IP packet for us. A closed vocabulary: each has a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// ARP or RARP.
    Arp,
    /// Something that is not IP (spanning tree, LLDP, a control frame, ...).
    NonIp,
    /// A header was cut short.
    Truncated,
    /// A header's fields cannot be right.
    Malformed,
    /// More headers or tunnels than the limit.
    TooDeep,
    /// A link type that we do not read.
    UnknownLink,
}

/// What layer 2 says of a packet.
#[derive(Clone, Copy)]
pub struct Link<'a> {
    /// The IP packet, padding included.
    pub ip: &'a [u8],
    /// Outer and inner VLAN identifier.
    pub vlan: [Option<u16>; 2],
}

#[derive(Clone, Copy)]
enum Next {
    Ethernet,
    Ethertype(u16),
    Llc,
    Ppp,
    Mpls,
    Ip,
    Wifi,
}

/// Find the IP packet in a captured packet.
///
/// # Errors
/// [`Skip`] says why there is none.
pub fn link<'a>(packet: &Packet<'a>, headers: u32) -> Result<Link<'a>, Skip> {
    let bytes = packet.captured;
    let mut vlan = [None, None];
    if let Some((tci, _)) = packet.vlan {
        push_vlan(&mut vlan, tci);
    }
    let (next, rest) = first(packet.linktype, bytes)?;
    walk(next, rest, vlan, headers)
}

/// Find the IP packet in an inner Ethernet frame of a tunnel.
///
/// # Errors
/// [`Skip`] says why there is none.
pub fn ethernet(bytes: &[u8], headers: u32) -> Result<Link<'_>, Skip> {
    walk(Next::Ethernet, bytes, [None, None], headers)
}

/// Find the IP packet behind an Ethernet type.
///
/// # Errors
/// [`Skip`] says why there is none.
pub fn ethertype(kind: u16, bytes: &[u8], headers: u32) -> Result<Link<'_>, Skip> {
    walk(Next::Ethertype(kind), bytes, [None, None], headers)
}

/// Find the IP packet in an IEEE 802.11 frame.
///
/// # Errors
/// [`Skip`] says why there is none.
pub fn ieee80211(bytes: &[u8], headers: u32) -> Result<Link<'_>, Skip> {
    walk(Next::Wifi, bytes, [None, None], headers)
}

/// Find the IP packet behind a PPP header.
///
/// # Errors
/// [`Skip`] says why there is none.
pub fn ppp(bytes: &[u8], headers: u32) -> Result<Link<'_>, Skip> {
    walk(Next::Ppp, bytes, [None, None], headers)
}

fn push_vlan(vlan: &mut [Option<u16>; 2], tci: u16) {
    let [outer, inner] = vlan;
    let slot = if outer.is_none() { outer } else { inner };
    if slot.is_none() {
        *slot = Some(tci & 0x0FFF);
    }
}

fn skip(bytes: &[u8], length: usize) -> Result<&[u8], Skip> {
    bytes.get(length..).ok_or(Skip::Truncated)
}

/// The first header, by the link type (tcpdump.org/linktypes.html).
fn first(linktype: u16, bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    Ok(match linktype {
        1 => (Next::Ethernet, bytes),
        0 | 108 => (Next::Ip, skip(bytes, 4)?), // BSD loopback: address family in host or network order; the version tells
        9 => (Next::Ppp, bytes),
        // PPP in HDLC framing, or Cisco's HDLC: its address is 0x0F or 0x8F.
        50 if matches!(bytes.first(), Some(0x0F | 0x8F)) => hdlc(bytes)?,
        50 => (Next::Ppp, bytes),
        51 => (Next::Ethertype(0x8864), bytes),
        12 | 14 | 101 | 228 | 229 => (Next::Ip, bytes),
        104 => hdlc(bytes)?,
        105 => (Next::Wifi, bytes),
        113 => (cooked(be16(bytes, 2), be16(bytes, 14).ok_or(Skip::Truncated)?), skip(bytes, 16)?),
        119 | 163 => {
            let length = if linktype == 119 && be32(bytes, 0).is_some_and(|magic| magic & 0xFFFF_F000 != 0x8021_1000) {
                le32(bytes, 4)
            } else {
                be32(bytes, 4)
            };
            (Next::Wifi, skip(bytes, length.ok_or(Skip::Truncated)? as usize)?)
        }
        127 => (Next::Wifi, skip(bytes, usize::from(le16(bytes, 2).ok_or(Skip::Truncated)?))?),
        239 => (Next::Ip, nflog(bytes)?),
        276 => (cooked(be16(bytes, 8), be16(bytes, 0).ok_or(Skip::Truncated)?), skip(bytes, 20)?),
        _ => return rarer(linktype, bytes),
    })
}

/// The first header of the link types that are met less often.
fn rarer(linktype: u16, bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let kind_at = |at| be16(bytes, at).map(Next::Ethertype).ok_or(Skip::Truncated);
    Ok(match linktype {
        // IEEE 802.5: a source that begins with a set bit announces a route, whose length its first byte has.
        6 => {
            let routed = bytes.get(8).ok_or(Skip::Truncated)? & 0x80 != 0;
            let route = if routed { usize::from(bytes.get(14).ok_or(Skip::Truncated)? & 0x1F) } else { 0 };
            (Next::Llc, skip(bytes, route.saturating_add(14))?)
        }
        8 => (Next::Ip, bytes),
        10 => (Next::Llc, skip(bytes, 13)?),
        99 => (kind_at(6)?, skip(bytes, 44)?), // Symantec Enterprise Firewall
        100 => (Next::Llc, bytes),
        107 => frame_relay(bytes)?,
        109 => (Next::Ip, skip(bytes, 12)?),
        // OpenBSD's and FreeBSD's pf: the header says how long it is, without its padding to words.
        117 => {
            let length = usize::from(*bytes.first().ok_or(Skip::Truncated)?);
            (Next::Ip, skip(bytes, length.next_multiple_of(4))?)
        }
        123 => match bytes.first().ok_or(Skip::Truncated)? & 0x0F {
            2 => (Next::Llc, skip(bytes, 4)?),
            _ => return Err(Skip::NonIp), // signalling, LAN emulation
        },
        138 => (kind_at(16)?, skip(bytes, 18)?),
        166 => (Next::Ppp, skip(bytes, 2)?), // a direction where PPP has its address, and the control field
        192 => named(le32(bytes, 4), skip(bytes, usize::from(le16(bytes, 2).ok_or(Skip::Truncated)?))?)?,
        197 => erf(bytes)?,
        204 => (Next::Ppp, skip(bytes, 1)?),
        226 => (Next::Ip, skip(bytes, 24)?),
        242 => (kind_at(40)?, skip(bytes, 44)?),
        258 => named(le32(bytes, 8), skip(bytes, le32(bytes, 0).ok_or(Skip::Truncated)? as usize)?)?,
        274 => (Next::Ethernet, skip(bytes, 8)?),
        281 | 283 => (kind_at(16)?, skip(bytes, 18)?), // a switch's tag behind the addresses
        282 => (Next::Ethernet, skip(bytes, 4)?),
        284 => (kind_at(20)?, skip(bytes, 22)?),
        _ => return Err(Skip::UnknownLink),
    })
}

/// Cisco's HDLC: address, control, Ethernet type.
fn hdlc(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    Ok((Next::Ethertype(be16(bytes, 2).ok_or(Skip::Truncated)?), skip(bytes, 4)?))
}

/// The link type that a header (PPI, Apple's PKTAP) names for what follows it; neither inside the other.
fn named(linktype: Option<u32>, bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    match u16::try_from(linktype.ok_or(Skip::Truncated)?) {
        Ok(192 | 258) | Err(_) => Err(Skip::UnknownLink),
        Ok(linktype) => first(linktype, bytes),
    }
}

/// Frame relay (RFC 2427): an address whose last byte has its lowest bit set, control, and what is called NLPID.
fn frame_relay(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let endless = if bytes.len() < 4 { Skip::Truncated } else { Skip::Malformed };
    let last = bytes.iter().take(4).position(|byte| byte & 1 == 1).ok_or(endless)?;
    match skip(bytes, last.saturating_add(1))? {
        [0x03, 0xCC | 0x8E, rest @ ..] | [0x03, 0x00, 0xCC | 0x8E, rest @ ..] => Ok((Next::Ip, rest)),
        [0x03, 0xCF, rest @ ..] => Ok((Next::Ppp, rest)),
        [0x03, 0x00, 0x80, 0, 0, 0, high, low, rest @ ..] | [0x03, 0x80, 0, 0, 0, high, low, rest @ ..] => {
            Ok((Next::Ethertype(u16::from_be_bytes([*high, *low])), rest))
        }
        [0x03, 0x00, 0x80, 0, 0x80, 0xC2, 0, 1 | 7, rest @ ..] => Ok((Next::Ethernet, rest)),
        [_, _, ..] => Err(Skip::NonIp),
        _ => Err(Skip::Truncated),
    }
}

/// Endace's record: 16 bytes, extension headers while their first bit is set, then by type.
fn erf(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let kind = *bytes.get(8).ok_or(Skip::Truncated)?;
    let mut rest = skip(bytes, 16)?;
    let mut more = kind & 0x80 != 0;
    for _ in 0..16 {
        if !more {
            break;
        }
        more = rest.first().ok_or(Skip::Truncated)? & 0x80 != 0;
        rest = skip(rest, 8)?;
    }
    match kind & 0x7F {
        1 | 10 | 15 => hdlc(rest),
        2 | 11 | 16 => Ok((Next::Ethernet, skip(rest, 2)?)),
        22 | 23 => Ok((Next::Ip, rest)),
        _ => Err(Skip::NonIp),
    }
}

/// Linux cooked capture: the protocol field depends on the ARP hardware type.
fn cooked(hatype: Option<u16>, protocol: u16) -> Next {
    match (hatype, protocol) {
        (Some(824), _) => Next::Ethertype(0), // netlink
        (_, 0x0004) => Next::Llc,
        (_, protocol) => Next::Ethertype(protocol),
    }
}

/// NFLOG: type-length-value fields in host order; type 9 is the packet.
fn nflog(bytes: &[u8]) -> Result<&[u8], Skip> {
    let mut rest = skip(bytes, 4)?;
    loop {
        let length = usize::from(le16(rest, 0).ok_or(Skip::NonIp)?);
        let kind = le16(rest, 2).ok_or(Skip::Truncated)?;
        if length < 4 {
            return Err(Skip::Malformed);
        }
        if kind & 0x7FFF == 9 {
            let end = length.min(rest.len());
            return rest.get(4..end).ok_or(Skip::Truncated);
        }
        rest = skip(rest, length.next_multiple_of(4))?;
    }
}

fn walk(mut next: Next, mut bytes: &[u8], mut vlan: [Option<u16>; 2], headers: u32) -> Result<Link<'_>, Skip> {
    for _ in 0..headers {
        (next, bytes) = match next {
            Next::Ip => {
                return match bytes.first().map(|first| first >> 4) {
                    Some(4 | 6) => Ok(Link { ip: bytes, vlan }),
                    Some(_) => Err(Skip::NonIp),
                    None => Err(Skip::Truncated),
                };
            }
            Next::Ethernet => {
                let kind = be16(bytes, 12).ok_or(Skip::Truncated)?;
                let rest = skip(bytes, 14)?;
                if kind >= 0x0600 {
                    (Next::Ethertype(kind), rest)
                } else if rest.starts_with(&[0xFF, 0xFF]) {
                    return Err(Skip::NonIp); // raw 802.3: IPX
                } else if let [1 | 3, 0, 0x0C, 0, 0, ..] = bytes {
                    (Next::Ethernet, skip(bytes, 26)?) // Cisco's inter-switch link: a frame in a frame
                } else {
                    (Next::Llc, rest.get(..usize::from(kind)).unwrap_or(rest))
                }
            }
            Next::Llc => match bytes {
                [0xAA, 0xAA, 0x03, 0, 0, 0 | 0xF8, high, low, rest @ ..] => {
                    (Next::Ethertype(u16::from_be_bytes([*high, *low])), rest)
                }
                [0x06, 0x06, 0x03, rest @ ..] | [0xFE, 0xFE, 0x03, 0xCC | 0x8E, rest @ ..] => (Next::Ip, rest),
                [0xFE, 0xFE, 0x03, 0xCF, rest @ ..] => (Next::Ppp, rest),
                [0xAA, 0xAA, 0x03, 0, 0x80, 0xC2, 0, 1 | 7, _, _, rest @ ..] => (Next::Ethernet, rest), // RFC 2684
                [_, _, _, ..] => return Err(Skip::NonIp),
                _ => return Err(Skip::Truncated),
            },
            Next::Ethertype(kind) => match kind {
                0x0800 | 0x86DD => (Next::Ip, bytes),
                0x0806 | 0x8035 => return Err(Skip::Arp),
                0x8100 | 0x88A8 | 0x9100 | 0x9200 | 0x9300 => {
                    push_vlan(&mut vlan, be16(bytes, 0).ok_or(Skip::Truncated)?);
                    let inner = be16(bytes, 2).ok_or(Skip::Truncated)?;
                    let rest = skip(bytes, 4)?;
                    if inner >= 0x0600 { (Next::Ethertype(inner), rest) } else { (Next::Llc, rest) }
                }
                0x8847 | 0x8848 => (Next::Mpls, bytes),
                0x8864 => {
                    // PPPoE session: version/type, code, session, length.
                    if bytes.first() != Some(&0x11) || bytes.get(1) != Some(&0) {
                        return Err(Skip::NonIp);
                    }
                    let length = usize::from(be16(bytes, 4).ok_or(Skip::Truncated)?);
                    let rest = skip(bytes, 6)?;
                    (Next::Ppp, rest.get(..length).unwrap_or(rest))
                }
                0x6558 => (Next::Ethernet, bytes),
                _ => shim(kind, bytes)?,
            },
            Next::Ppp => ppp_header(bytes)?,
            Next::Mpls => {
                let label = be32(bytes, 0).ok_or(Skip::Truncated)?;
                let rest = skip(bytes, 4)?;
                if label & 0x100 == 0 {
                    (Next::Mpls, rest)
                } else {
                    match rest.first().map(|first| first >> 4) {
                        Some(4 | 6) => (Next::Ip, rest),
                        Some(0) => (Next::Ethernet, skip(rest, 4)?), // pseudowire control word
                        Some(_) => (Next::Ethernet, rest),
                        None => return Err(Skip::Truncated),
                    }
                }
            }
            Next::Wifi => wifi(bytes)?,
        };
    }
    Err(Skip::TooDeep)
}

fn ppp_header(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let bytes = if bytes.starts_with(&[0xFF, 0x03]) { skip(bytes, 2)? } else { bytes };
    let first = *bytes.first().ok_or(Skip::Truncated)?;
    let (protocol, rest) = if first & 1 == 1 {
        (u16::from(first), skip(bytes, 1)?)
    } else {
        (be16(bytes, 0).ok_or(Skip::Truncated)?, skip(bytes, 2)?)
    };
    match protocol {
        0x0021 | 0x0057 => Ok((Next::Ip, rest)),
        0x0281 | 0x0283 => Ok((Next::Mpls, rest)),
        // Multilink (RFC 1990): flags and a sequence number; what begins and ends here is whole.
        0x003D if rest.first().is_some_and(|flags| flags & 0xC0 == 0xC0) => Ok((Next::Ppp, skip(rest, 4)?)),
        _ => Err(Skip::NonIp),
    }
}

/// What stands between an Ethernet type and the next one, less often than a VLAN tag.
fn shim(kind: u16, bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    // A tag of so many bytes, and the Ethernet type of what follows.
    let tag = |length: usize| {
        let inner = be16(bytes, length).ok_or(Skip::Truncated)?;
        let rest = skip(bytes, length.saturating_add(2))?;
        Ok(if inner >= 0x0600 { (Next::Ethertype(inner), rest) } else { (Next::Llc, rest) })
    };
    match kind {
        0x880B => Ok((Next::Ppp, bytes)),
        0x8870 => Ok((Next::Llc, bytes)),
        0x8903 => Ok((Next::Ethernet, skip(bytes, 2)?)), // Cisco FabricPath
        0x8926 | 0x892F => tag(4),                       // VN-Tag; High-availability Seamless Redundancy (IEC 62439-3)
        0x8909 | 0x893F => tag(6),                       // Cisco metadata (security group); E-Tag (IEEE 802.1BR)
        0x88E7 => Ok((Next::Ethernet, skip(bytes, 4)?)), // provider backbone bridges (IEEE 802.1ah)
        // MACsec (IEEE 802.1AE) without encryption: 6 bytes, and 8 of a channel identifier where its bit is set.
        0x88E5 => match bytes.first().ok_or(Skip::Truncated)? {
            control if control & 0x0C != 0 => Err(Skip::NonIp),
            control if control & 0x20 != 0 => tag(14),
            _ => tag(6),
        },
        // TRILL (RFC 6325): three words of 16 bits and options.
        0x22F3 => {
            let options = usize::from(be16(bytes, 0).ok_or(Skip::Truncated)? >> 6 & 0x1F);
            Ok((Next::Ethernet, skip(bytes, options.saturating_mul(4).saturating_add(6))?))
        }
        0x894F => nsh(bytes),
        _ => Err(Skip::NonIp),
    }
}

/// Network Service Header (RFC 8300): length in words, next protocol.
fn nsh(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let words = usize::from(be16(bytes, 0).ok_or(Skip::Truncated)? & 0x3F);
    let kind = *bytes.get(3).ok_or(Skip::Truncated)?;
    if words == 0 {
        return Err(Skip::Malformed);
    }
    let rest = skip(bytes, words.checked_mul(4).ok_or(Skip::Malformed)?)?;
    match kind {
        1 | 2 => Ok((Next::Ip, rest)),
        3 => Ok((Next::Ethernet, rest)),
        4 => Ok((Next::Ethertype(0x894F), rest)),
        5 => Ok((Next::Mpls, rest)),
        _ => Err(Skip::NonIp),
    }
}

/// IEEE 802.11 data frames, unencrypted, with LLC/SNAP inside.
fn wifi(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let control = le16(bytes, 0).ok_or(Skip::Truncated)?;
    let (kind, subtype) = ((control >> 2) & 3, (control >> 4) & 15);
    if kind != 2 || subtype & 0x4 != 0 || control & 0x4000 != 0 {
        return Err(Skip::NonIp); // management, control, no data, or protected
    }
    let mut length = 24;
    if control & 0x0300 == 0x0300 {
        length = 30; // four addresses
    }
    if subtype & 0x8 != 0 {
        length += 2; // quality of service
        if control & 0x8000 != 0 {
            length += 4; // high throughput control
        }
        let qos = le16(bytes, if control & 0x0300 == 0x0300 { 30 } else { 24 }).ok_or(Skip::Truncated)?;
        if qos & 0x0080 != 0 {
            // Aggregated: the first subframe (destination, source, length, then LLC).
            return Ok((Next::Llc, skip(bytes, length + 14)?));
        }
    }
    Ok((Next::Llc, skip(bytes, length)?))
}
