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

fn first(linktype: u16, bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    Ok(match linktype {
        1 => (Next::Ethernet, bytes),
        0 | 108 => (Next::Ip, skip(bytes, 4)?), // BSD loopback: address family in host or network order; the version tells
        9 => (Next::Ppp, bytes),
        50 => (Next::Ppp, bytes),
        51 => (Next::Ethertype(0x8864), bytes),
        12 | 14 | 101 | 228 | 229 => (Next::Ip, bytes),
        104 => (Next::Ethertype(be16(bytes, 2).ok_or(Skip::Truncated)?), skip(bytes, 4)?),
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
        192 => return ppi(bytes),
        239 => (Next::Ip, nflog(bytes)?),
        276 => (cooked(be16(bytes, 8), be16(bytes, 0).ok_or(Skip::Truncated)?), skip(bytes, 20)?),
        _ => return Err(Skip::UnknownLink),
    })
}

/// Linux cooked capture: the protocol field depends on the ARP hardware type.
fn cooked(hatype: Option<u16>, protocol: u16) -> Next {
    match (hatype, protocol) {
        (Some(824), _) => Next::Ethertype(0), // netlink
        (_, 0x0004) => Next::Llc,
        (_, protocol) => Next::Ethertype(protocol),
    }
}

/// Per-packet information: its own header, then the link type that it names.
fn ppi(bytes: &[u8]) -> Result<(Next, &[u8]), Skip> {
    let length = usize::from(le16(bytes, 2).ok_or(Skip::Truncated)?);
    let inner = le32(bytes, 4).ok_or(Skip::Truncated)?;
    let rest = skip(bytes, length)?;
    match inner {
        1 => Ok((Next::Ethernet, rest)),
        105 => Ok((Next::Wifi, rest)),
        101 => Ok((Next::Ip, rest)),
        _ => Err(Skip::UnknownLink),
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
                } else {
                    (Next::Llc, rest.get(..usize::from(kind)).unwrap_or(rest))
                }
            }
            Next::Llc => match bytes {
                [0xAA, 0xAA, 0x03, 0, 0, 0 | 0xF8, high, low, rest @ ..] => {
                    (Next::Ethertype(u16::from_be_bytes([*high, *low])), rest)
                }
                [0x06, 0x06, 0x03, rest @ ..] => (Next::Ip, rest),
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
                0x894F => return nsh(bytes, vlan, headers),
                _ => return Err(Skip::NonIp),
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
        _ => Err(Skip::NonIp),
    }
}

/// Network Service Header (RFC 8300): length in words, next protocol.
fn nsh(bytes: &[u8], vlan: [Option<u16>; 2], headers: u32) -> Result<Link<'_>, Skip> {
    let words = usize::from(be16(bytes, 0).ok_or(Skip::Truncated)? & 0x3F);
    let kind = *bytes.get(3).ok_or(Skip::Truncated)?;
    let rest = skip(bytes, words.checked_mul(4).ok_or(Skip::Malformed)?)?;
    let next = match kind {
        1 | 2 => Next::Ip,
        3 => Next::Ethernet,
        5 => Next::Mpls,
        _ => return Err(Skip::NonIp),
    };
    walk(next, rest, vlan, headers.saturating_sub(1))
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
