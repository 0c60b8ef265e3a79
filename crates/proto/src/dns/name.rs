//! Domain names, with compression (RFC 1035, section 4.1.4).
//!
//! A pointer may point anywhere in the message (also forward, as resolvers accept it), but a name has at most
//! [`JUMPS`] pointers and [`NAME_BYTES`] bytes: loops and bombs end there.

/// Bytes of a name in text. RFC 1035: 255 on the wire.
pub const NAME_BYTES: usize = 255;
/// Pointers followed in one name. Real names have one or two; BIND stops at 16 as well.
pub const JUMPS: u32 = 16;

/// What was odd about a name.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct NameFacts {
    /// A pointer that points behind itself.
    pub forward: bool,
    /// Cut at [`NAME_BYTES`] or [`JUMPS`].
    pub too_long: bool,
}

/// Read the name at `start`, lower-cased, labels joined by dots, into `out`; returns the offset behind it and what was odd.
///
/// None: the name runs out of the message, or a label type is unknown.
pub fn read_name(message: &[u8], start: usize, out: &mut Vec<u8>) -> Option<(usize, NameFacts)> {
    let begin = out.len();
    let mut facts = NameFacts::default();
    let mut at = start;
    let mut maybe_end = None;
    let mut jumps = 0u32;
    loop {
        let length = *message.get(at)?;
        match length & 0xC0 {
            0x00 if length == 0 => {
                let end = at.checked_add(1)?;
                return Some((maybe_end.unwrap_or(end), facts));
            }
            0x00 => {
                let from = at.checked_add(1)?;
                let to = from.checked_add(usize::from(length))?;
                let label = message.get(from..to)?;
                let used = out.len().saturating_sub(begin);
                if used.saturating_add(label.len()).saturating_add(1) > NAME_BYTES {
                    facts.too_long = true;
                    return Some((skip(message, at, maybe_end)?, facts));
                }
                if used != 0 {
                    out.push(b'.');
                }
                out.extend(label.iter().map(u8::to_ascii_lowercase));
                at = to;
            }
            0xC0 => {
                let low = *message.get(at.checked_add(1)?)?;
                let target = (usize::from(length & 0x3F) << 8) | usize::from(low);
                let end = at.checked_add(2)?;
                maybe_end = maybe_end.or(Some(end));
                jumps = jumps.saturating_add(1);
                if jumps > JUMPS {
                    facts.too_long = true;
                    return Some((maybe_end?, facts));
                }
                facts.forward |= target >= at;
                at = target;
            }
            _ => return None,
        }
    }
}

/// The end of a name whose text is not wanted: behind its first pointer or its root label.
fn skip(message: &[u8], start: usize, maybe_end: Option<usize>) -> Option<usize> {
    if let Some(end) = maybe_end {
        return Some(end);
    }
    let mut at = start;
    loop {
        let length = *message.get(at)?;
        match length & 0xC0 {
            0x00 if length == 0 => return at.checked_add(1),
            0x00 => at = at.checked_add(1)?.checked_add(usize::from(length))?,
            0xC0 => return at.checked_add(2),
            _ => return None,
        }
    }
}

/// Decode a NetBIOS name (RFC 1001, section 14.1): 32 letters A to P stand for 16 bytes; the last byte, its kind, is left out.
///
/// None: not of that form.
pub fn decode_netbios(name: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = match memchr::memchr(b'.', name) {
        Some(dot) => name.split_at_checked(dot)?,
        None => (name, &b""[..]),
    };
    if first.len() != 32 {
        return None;
    }
    let mut decoded = Vec::with_capacity(15);
    for pair in first.chunks_exact(2) {
        let &[high, low] = pair else { return None };
        let nibble = |letter: u8| letter.to_ascii_lowercase().checked_sub(b'a').filter(|nibble| *nibble < 16);
        decoded.push((nibble(high)? << 4) | nibble(low)?);
    }
    decoded.truncate(15);
    while matches!(decoded.last(), Some(b' ' | 0)) {
        decoded.pop();
    }
    decoded.extend_from_slice(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn name(message: &[u8], at: usize) -> Option<(String, usize, NameFacts)> {
        let mut out = Vec::new();
        let (end, facts) = read_name(message, at, &mut out)?;
        Some((String::from_utf8(out).unwrap(), end, facts))
    }

    #[test]
    fn names_are_joined_lowered_and_end_behind_the_pointer() {
        let message = b"\x03WWW\x07example\x00\x03ftp\xc0\x04";
        assert_eq!(name(message, 0).unwrap(), ("www.example".into(), 13, NameFacts::default()));
        assert_eq!(name(message, 13).unwrap(), ("ftp.example".into(), 19, NameFacts::default()));
        assert_eq!(name(b"\x00", 0).unwrap().0, "");
    }

    #[test]
    fn forward_pointer_is_followed_and_told() {
        let (text, end, facts) = name(b"\xc0\x02\x01a\x00", 0).unwrap();
        assert_eq!((text.as_str(), end, facts.forward), ("a", 2, true));
    }

    #[test]
    fn loops_and_bombs_end_at_the_limit() {
        let (text, end, facts) = name(b"\x01a\xc0\x00", 0).unwrap();
        let labels = JUMPS as usize + 1;
        assert_eq!((text.len(), end, facts.too_long), (2 * labels - 1, 4, true));
        // Pointers to pointers: as many as are followed, and one more.
        for (pointers, too_long) in [(JUMPS - 1, false), (JUMPS, false), (JUMPS + 1, true)] {
            let mut chain = b"\x01a\x00".to_vec();
            let mut target = 0_u8;
            for _ in 0..pointers {
                let next = u8::try_from(chain.len()).unwrap();
                chain.extend_from_slice(&[0xC0, target]);
                target = next;
            }
            let (text, _, facts) = name(&chain, usize::from(target)).unwrap();
            assert_eq!((text == "a", facts.too_long), (!too_long, too_long), "{pointers}");
        }
        assert!(name(b"\xc0\x00", 0).unwrap().2.too_long);
        let mut long: Vec<u8> = Vec::new();
        for _ in 0..5 {
            long.push(63);
            long.extend_from_slice(&[b'x'; 63]);
        }
        long.push(0);
        let (text, end, facts) = name(&long, 0).unwrap();
        assert!(text.len() <= NAME_BYTES && facts.too_long);
        assert_eq!(end, long.len());
    }

    #[test]
    fn names_that_run_out_are_rejected() {
        for broken in [&b""[..], b"\x03ab", b"\xc0", b"\x40a\x00", b"\x01a", b"\xc0\x09"] {
            assert!(name(broken, 0).is_none());
        }
    }

    #[test]
    fn netbios_names_are_decoded() {
        assert_eq!(decode_netbios(b"fhepfcelehfceffaejenebcacacacaca.x").unwrap(), b"WORKGREPIMA.x"[..].to_vec());
        assert!(decode_netbios(b"www.example").is_none());
        assert!(decode_netbios(b"zzepfcelehfceffaejenebcacacacaca").is_none());
    }
}
