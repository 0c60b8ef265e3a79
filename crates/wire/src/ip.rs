//! Layer 3: IPv4 and IPv6 headers, options and extension headers.
//!
//! Rules of this file:
//! 1. The payload ends where the IP length says, not where the captured bytes end: padding is not payload.
//! 2. A captured packet that is shorter than its IP length says so (`payload_len` > `payload.len()`); nothing is made up.
//! 3. Extension headers are walked up to the limit; the first fragment header ends the walk.
use crate::bytes::{array, be16, be32};
use crate::event::Address;
use crate::fragments::Whole;
use crate::link::Skip;

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// IP identification.
    pub identification: u32,
    /// Offset in the datagram, bytes.
    pub offset: u32,
    /// More follow.
    pub more: bool,
}

/// One IP packet.
#[derive(Clone, Copy)]
pub struct Ip<'a> {
    /// Source (the home address where a destination option names it).
    pub source: Address,
    /// Destination (the final one where a routing header names it).
    pub destination: Address,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The payload's captured bytes, without padding.
    pub payload: &'a [u8],
    /// The payload's length by the headers.
    pub payload_len: usize,
    /// The whole packet's length by the headers.
    pub total_len: usize,
    /// Set if this is a fragment (atomic fragments are none: RFC 6946).
    pub maybe_fragment: Option<Fragment>,
    /// The IPv4 header checksum is wrong.
    pub bad_checksum: bool,
    /// Bytes before the payload (headers), to account for fragments.
    pub header_len: usize,
}

/// Decode an IPv4 or IPv6 packet.
///
/// # Errors
/// [`Skip`]: `Truncated`, `Malformed`, `TooDeep`, `NonIp`.
pub fn ip(bytes: &[u8], headers: u32) -> Result<Ip<'_>, Skip> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => v4(bytes),
        Some(6) => v6(bytes, headers),
        Some(_) => Err(Skip::NonIp),
        None => Err(Skip::Truncated),
    }
}

fn v4(bytes: &[u8]) -> Result<Ip<'_>, Skip> {
    let header_len = usize::from(bytes.first().ok_or(Skip::Truncated)? & 0x0F) * 4;
    if header_len < 20 {
        return Err(Skip::Malformed);
    }
    let header = bytes.get(..header_len).ok_or(Skip::Truncated)?;
    let mut total_len = usize::from(be16(header, 2).ok_or(Skip::Truncated)?);
    if total_len == 0 {
        total_len = bytes.len(); // segmentation offload: the kernel had not filled it in yet
    }
    if total_len < header_len {
        return Err(Skip::Malformed);
    }
    let mut payload = bytes.get(header_len..total_len.min(bytes.len())).ok_or(Skip::Truncated)?;
    let mut protocol = *header.get(9).ok_or(Skip::Truncated)?;
    let flags = be16(header, 6).ok_or(Skip::Truncated)?;
    let offset = u32::from(flags & 0x1FFF) * 8;
    let more = flags & 0x2000 != 0;
    let source = array::<4>(header, 12).ok_or(Skip::Truncated)?;
    let destination = array::<4>(header, 16).ok_or(Skip::Truncated)?;
    let mut behind = header_len;
    // What an authentication header (RFC 4302) vouches for is in the clear.
    if protocol == AUTHENTICATION
        && !more
        && offset == 0
        && let Ok(Some(extension)) = extension(protocol, payload)
    {
        behind = behind.saturating_add(extension.len()).min(total_len);
        protocol = *extension.first().ok_or(Skip::Truncated)?;
        payload = payload.get(extension.len()..).ok_or(Skip::Truncated)?;
    }
    Ok(Ip {
        source: Address::v4(source),
        destination: Address::v4(destination),
        protocol,
        ttl: *header.get(8).ok_or(Skip::Truncated)?,
        payload,
        payload_len: total_len - behind,
        total_len,
        maybe_fragment: (more || offset > 0).then_some(Fragment {
            identification: u32::from(be16(header, 4).ok_or(Skip::Truncated)?),
            offset,
            more,
        }),
        bad_checksum: sum(header, 0) != 0xFFFF,
        header_len: behind,
    })
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// The extension header that `bytes` begin with, by the protocol number that announced it; None if that announces none.
fn extension(protocol: u8, bytes: &[u8]) -> Result<Option<&[u8]>, Skip> {
    let length = match protocol {
        // Mobility messages carry no payload (59): they are the payload.
        MOBILITY if bytes.first() == Some(&59) => return Ok(None),
        HOP_BY_HOP | DESTINATION | ROUTING | MOBILITY | HIP | SHIM6 => {
            (usize::from(*bytes.get(1).ok_or(Skip::Truncated)?) + 1) * 8
        }
        AUTHENTICATION => (usize::from(*bytes.get(1).ok_or(Skip::Truncated)?) + 2) * 4,
        _ => return Ok(None),
    };
    bytes.get(..length).ok_or(Skip::Truncated).map(Some)
}

/// Protocol and payload of a reassembled datagram, behind the extension headers that had been fragmented with it (IPv6).
///
/// # Errors
/// [`Skip`]: `Truncated`, `TooDeep`.
pub fn behind_extensions<'a>(ip: &Ip<'_>, whole: &'a Whole, headers: u32) -> Result<(u8, &'a [u8]), Skip> {
    let (mut protocol, mut payload) = (whole.protocol, whole.payload.as_slice());
    if ip.source.maybe_v4().is_some() {
        return Ok((protocol, payload));
    }
    for _ in 0..headers {
        let Some(header) = extension(protocol, payload)? else { return Ok((protocol, payload)) };
        protocol = *header.first().ok_or(Skip::Truncated)?;
        payload = payload.get(header.len()..).ok_or(Skip::Truncated)?;
    }
    Err(Skip::TooDeep)
}

fn v6(bytes: &[u8], headers: u32) -> Result<Ip<'_>, Skip> {
    let header = bytes.get(..40).ok_or(Skip::Truncated)?;
    let mut source = Address(array::<16>(header, 8).ok_or(Skip::Truncated)?);
    let mut destination = Address(array::<16>(header, 24).ok_or(Skip::Truncated)?);
    let mut claimed = usize::from(be16(header, 4).ok_or(Skip::Truncated)?);
    let mut protocol = *header.get(6).ok_or(Skip::Truncated)?;
    let mut offset = 40_usize;
    let mut maybe_fragment = None;
    let jumbo = claimed == 0;
    let mut read = 0_u32;
    loop {
        let rest = bytes.get(offset..).ok_or(Skip::Truncated)?;
        if protocol == FRAGMENT {
            let fragment = rest.get(..8).ok_or(Skip::Truncated)?;
            let place = be16(fragment, 2).ok_or(Skip::Truncated)?;
            let (start, more) = (u32::from(place & 0xFFF8), place & 1 != 0);
            protocol = *fragment.first().ok_or(Skip::Truncated)?;
            offset += 8;
            if start > 0 || more {
                let identification = be32(fragment, 4).ok_or(Skip::Truncated)?;
                maybe_fragment = Some(Fragment { identification, offset: start, more });
                break;
            }
        } else if let Some(header) = extension(protocol, rest)? {
            if protocol == HOP_BY_HOP && jumbo {
                claimed = jumbo_length(header).unwrap_or(0);
            }
            if protocol == ROUTING {
                destination = routed(header, destination);
            }
            if protocol == DESTINATION {
                source = home_address(header).unwrap_or(source);
            }
            protocol = *header.first().ok_or(Skip::Truncated)?;
            offset += header.len();
        } else {
            break;
        }
        read += 1;
        if read > headers {
            return Err(Skip::TooDeep);
        }
    }
    // A length of zero without a jumbo option: segmentation offload.
    let total_len = if claimed == 0 { bytes.len() } else { claimed.saturating_add(40) };
    if total_len < offset {
        return Err(Skip::Malformed);
    }
    let payload = bytes.get(offset..total_len.min(bytes.len())).ok_or(Skip::Truncated)?;
    Ok(Ip {
        source,
        destination,
        protocol,
        ttl: *header.get(7).ok_or(Skip::Truncated)?,
        payload,
        payload_len: total_len - offset,
        total_len,
        maybe_fragment,
        bad_checksum: false,
        header_len: offset,
    })
}

/// The value of an option among those of a hop-by-hop or destination options header, if it is as long as it should be.
fn option(extension: &[u8], wanted: u8, length: u8) -> Option<&[u8]> {
    let mut options = extension.get(2..)?;
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [kind, found, rest @ ..] if *kind == wanted && *found == length => return rest.get(..usize::from(length)),
            [_, length, rest @ ..] => options = rest.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

/// RFC 2675: the jumbo payload option among hop-by-hop options.
fn jumbo_length(extension: &[u8]) -> Option<usize> {
    be32(option(extension, 0xC2, 4)?, 0).map(|length| length as usize)
}

/// RFC 6275 section 6.3: the address at which a mobile node is known, and which its checksums cover.
#[must_use]
pub fn home_address(extension: &[u8]) -> Option<Address> {
    array::<16>(option(extension, 0xC9, 16)?, 0).map(Address)
}

/// The final destination that a routing header names while segments are left: the last address of types 0 and 2, the first of a list
/// that is written backwards in type 4 (RFC 8754).
#[must_use]
pub fn routed(extension: &[u8], destination: Address) -> Address {
    match extension {
        [_, _, 0 | 2, left, ..] if *left > 0 => {
            let last = extension.len().saturating_sub(16);
            if last < 8 { destination } else { array::<16>(extension, last).map_or(destination, Address) }
        }
        [_, _, 4, left, ..] if *left > 0 => array::<16>(extension, 8).map_or(destination, Address),
        _ => destination,
    }
}

/// The one's complement sum of 16-bit words over `bytes`, added to `start` (RFC 1071).
#[must_use]
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = u64::from(start);
    let (chunks, rest) = bytes.as_chunks::<4>();
    for chunk in chunks {
        total = total.wrapping_add(u64::from(u32::from_be_bytes(*chunk)));
    }
    let mut tail = [0_u8; 4];
    for (place, byte) in tail.iter_mut().zip(rest) {
        *place = *byte;
    }
    total = total.wrapping_add(u64::from(u32::from_be_bytes(tail)));
    while total > 0xFFFF {
        total = (total & 0xFFFF) + (total >> 16);
    }
    // Fits: the loop has just made it so.
    u16::try_from(total).unwrap_or(u16::MAX)
}

/// Whether the checksum of a TCP, UDP or ICMPv6 payload is right, pseudo header included.
#[must_use]
pub fn transport_checksum_ok(source: Address, destination: Address, protocol: u8, payload: &[u8]) -> bool {
    let start = pseudo_header(source, destination, protocol, payload.len());
    sum(payload, start) == 0xFFFF
}

/// Whether the checksum is what a kernel leaves for the card to complete: the sum of the pseudo header alone, with the length or, for
/// segments that the card will cut, without it (Linux `CHECKSUM_PARTIAL`).
#[must_use]
pub fn transport_checksum_left(source: Address, destination: Address, protocol: u8, payload: &[u8]) -> bool {
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => return false,
    };
    let found = be16(payload, at);
    [payload.len(), 0]
        .iter()
        .any(|length| found == Some(sum(&[], pseudo_header(source, destination, protocol, *length))))
}

/// The sum over a pseudo header, not folded.
fn pseudo_header(source: Address, destination: Address, protocol: u8, length: usize) -> u32 {
    let mut start = 0_u32;
    let parts: [&[u8]; 2] = match (&source.0, &destination.0) {
        ([_, _, _, _, _, _, _, _, _, _, _, _, from @ ..], [_, _, _, _, _, _, _, _, _, _, _, _, to @ ..])
            if source.maybe_v4().is_some() =>
        {
            [from, to]
        }
        (from, to) => [from, to],
    };
    for part in parts {
        start = start.wrapping_add(u32::from(sum(part, 0)));
    }
    start = start.wrapping_add(u32::from(protocol));
    start.wrapping_add(u32::try_from(length >> 16).unwrap_or(0)).wrapping_add((length & 0xFFFF) as u32)
}
