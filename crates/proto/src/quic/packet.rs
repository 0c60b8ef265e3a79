//! Packets of QUIC with a long header (RFC 9000 section 17.2), as far as Initial packets need it.
use super::keys::{SideKeys, V2, salt};

/// Connection identifiers are at most this long (RFC 9000 section 17.2).
pub const IDENTIFIER_BYTES: usize = 20;

/// A variable-length integer (RFC 9000 section 16) and what follows it.
#[must_use]
pub fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    let value = number.iter().skip(1).fold(u64::from(first & 0x3F), |value, byte| (value << 8) | u64::from(*byte));
    Some((value, rest))
}

/// The kinds of packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Carries the hellos.
    Initial,
    /// Early data of the client.
    ZeroRtt,
    /// Under the handshake's keys.
    Handshake,
    /// The server asks for a token.
    Retry,
    /// A list of versions.
    Negotiation,
}

/// One packet with a long header.
pub struct Long<'a> {
    /// What it is.
    pub kind: Kind,
    /// Version.
    pub version: u32,
    /// Destination's identifier.
    pub dcid: &'a [u8],
    /// The packet up to its end by its own length.
    pub whole: &'a [u8],
    /// Where its packet number begins in `whole`.
    pub number_at: usize,
}

/// The first packet of `bytes`, which begins with a long header, and the packets behind it.
#[must_use]
pub fn long(bytes: &[u8]) -> Option<(Long<'_>, &[u8])> {
    let [first, a, b, c, d, rest @ ..] = bytes else { return None };
    if first & 0x80 == 0 {
        return None;
    }
    let version = u32::from_be_bytes([*a, *b, *c, *d]);
    let (dcid, rest) = identifier(rest)?;
    let (_, rest) = identifier(rest)?;
    let empty: &[u8] = &[];
    let all = |kind| Some((Long { kind, version, dcid, whole: bytes, number_at: bytes.len() }, empty));
    if version == 0 {
        return all(Kind::Negotiation);
    }
    salt(version)?;
    if first & 0x40 == 0 {
        return None;
    }
    let code = (first >> 4) & 3;
    // Version 2 shifts the codes by one (RFC 9369 section 3.2).
    let kind = match if version == V2 { code.wrapping_sub(1) & 3 } else { code } {
        0 => Kind::Initial,
        1 => Kind::ZeroRtt,
        2 => Kind::Handshake,
        _ => return all(Kind::Retry),
    };
    let rest = if kind == Kind::Initial {
        let (length, rest) = varint(rest)?;
        rest.get(usize::try_from(length).ok()?..)?
    } else {
        rest
    };
    let (length, rest) = varint(rest)?;
    let number_at = bytes.len().checked_sub(rest.len())?;
    let end = number_at.checked_add(usize::try_from(length).ok()?)?;
    let (whole, after) = bytes.split_at_checked(end)?;
    Some((Long { kind, version, dcid, whole, number_at }, after))
}

fn identifier(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    if length > IDENTIFIER_BYTES {
        return None;
    }
    rest.split_at_checked(length)
}

/// Take the protection off an Initial packet. The packet number is taken as it stands: nothing was acknowledged before it, so
/// a sender may not shorten it (RFC 9000 section 17.1). None: other keys.
#[must_use]
pub fn unprotect(packet: &Long<'_>, keys: &SideKeys) -> Option<Vec<u8>> {
    let sample_at = packet.number_at.checked_add(4)?;
    let sample = packet.whole.get(sample_at..)?.first_chunk::<16>()?;
    let mask = keys.mask(sample);
    let [first_mask, number_mask @ ..] = mask;
    let first = packet.whole.first()? ^ (first_mask & 0x0F);
    let length = usize::from(first & 3).checked_add(1)?;
    let payload_at = packet.number_at.checked_add(length)?;
    let (header, sealed) = packet.whole.split_at_checked(payload_at)?;
    let mut header = header.to_vec();
    *header.first_mut()? = first;
    let mut number = 0u64;
    for (byte, mask) in header.get_mut(packet.number_at..)?.iter_mut().zip(number_mask) {
        *byte ^= mask;
        number = (number << 8) | u64::from(*byte);
    }
    keys.open(number, &header, sealed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn integers_are_those_of_the_rfc() {
        // RFC 9000, appendix A.1.
        for (bytes, value) in [
            (&[0xC2, 0x19, 0x7C, 0x5E, 0xFF, 0x14, 0xE8, 0x8C][..], 151_288_809_941_952_652),
            (&[0x9D, 0x7F, 0x3E, 0x7D], 494_878_333),
            (&[0x7B, 0xBD], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(varint(bytes).unwrap().0, value);
            assert!(varint(bytes.get(..bytes.len() - 1).unwrap()).is_none());
        }
    }

    #[test]
    fn identifiers_end_at_their_limit() {
        for (length, good) in [(0, true), (IDENTIFIER_BYTES, true), (IDENTIFIER_BYTES + 1, false)] {
            let mut bytes = vec![0xC0, 0, 0, 0, 1, u8::try_from(length).unwrap()];
            bytes.extend(vec![7; length]);
            bytes.extend_from_slice(&[0, 0, 4, 1, 2, 3, 4]);
            assert_eq!(long(&bytes).is_some(), good);
            assert!(long(bytes.get(..bytes.len() - 1).unwrap()).is_none());
        }
    }
}
