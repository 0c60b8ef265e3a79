//! Heads many bytes at a time: where lines end, how many control characters there are, what a header is called.
//!
//! Rules of this file:
//! 1. Nothing is decided here that reading byte by byte would decide otherwise; tests hold both side by side.
//! 2. SSE2 belongs to every x86-64; other machines take plain loops, which compilers make wide as they can.

/// Bytes looked at in one go.
const BLOCK: usize = 64;

/// Line feeds of a text, in order, and the control characters passed on the way.
pub struct Scan<'a> {
    bytes: &'a [u8],
    /// Where the block in hand begins, and where the next one does.
    base: usize,
    next: usize,
    /// Line feeds of the block in hand that were not handed out.
    feeds: u64,
    /// Its control characters, and the number of those before it.
    controls: u64,
    before: usize,
}

impl<'a> Scan<'a> {
    /// From the start of `bytes`.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, base: 0, next: 0, feeds: 0, controls: 0, before: 0 }
    }

    /// Where the next line feed stands; None if there is no other.
    #[inline]
    pub fn line_feed(&mut self) -> Option<usize> {
        while self.feeds == 0 {
            self.load()?;
        }
        let at = self.feeds.trailing_zeros() as usize;
        self.feeds &= self.feeds.wrapping_sub(1);
        Some(self.base.wrapping_add(at))
    }

    /// Control characters (but for the tab; DEL counts) up to and with the line feed that was handed out last, at `at`.
    #[inline]
    #[must_use]
    pub fn controls_up_to(&self, at: usize) -> usize {
        let place = u32::try_from(at.wrapping_sub(self.base)).unwrap_or(u32::MAX).min(63);
        let passed = self.controls & (u64::MAX >> 63_u32.wrapping_sub(place));
        self.before.saturating_add(passed.count_ones() as usize)
    }

    #[inline]
    fn load(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.next..).filter(|rest| !rest.is_empty())?;
        self.before = self.before.wrapping_add(self.controls.count_ones() as usize);
        (self.feeds, self.controls) = if let Some(block) = rest.first_chunk::<BLOCK>() {
            masks(block)
        } else {
            let mut padded = [b' '; BLOCK];
            for (place, byte) in padded.iter_mut().zip(rest) {
                *place = *byte;
            }
            masks(&padded)
        };
        self.base = self.next;
        self.next = self.next.saturating_add(BLOCK);
        Some(())
    }
}

/// (line feeds, control characters) of a block, the first byte in the lowest bit.
#[inline]
fn masks(block: &[u8; BLOCK]) -> (u64, u64) {
    let (mut feeds, mut controls) = (0, 0);
    for (number, part) in block.as_chunks::<16>().0.iter().enumerate() {
        let (of_feeds, of_controls) = wide::ends_and_controls(part);
        let shift = u32::try_from(number).unwrap_or(0).wrapping_mul(16);
        feeds |= u64::from(of_feeds).wrapping_shl(shift);
        controls |= u64::from(of_controls).wrapping_shl(shift);
    }
    (feeds, controls)
}

/// A header's name of at most 31 bytes: its length, and its bytes in lower case, the first in the lowest byte, zeros behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// Bytes.
    pub length: usize,
    /// The first sixteen of them.
    pub low: u128,
    /// The others.
    pub high: u128,
}

impl Name {
    /// The name in front of a colon at `start`, if it is made of letters, digits and hyphens alone and some bytes follow: the usual
    /// one. None says nothing: look closer.
    #[inline]
    #[must_use]
    pub fn usual(bytes: &[u8], start: usize) -> Option<Self> {
        let first = bytes.get(start..)?.first_chunk::<16>()?;
        let (colon, plain) = wide::colons_and_plain(first);
        if colon != 0 {
            let length = colon.trailing_zeros();
            let named = (1_u32 << length).wrapping_sub(1);
            let fine = length > 0 && plain & named == named;
            return fine.then(|| Self { length: length as usize, low: lowered(first, length), high: 0 });
        }
        if plain != 0xFFFF {
            return None;
        }
        let second = bytes.get(start.checked_add(16)?..)?.first_chunk::<16>()?;
        let (colon, plain) = wide::colons_and_plain(second);
        let length = colon.trailing_zeros();
        let named = 1_u32.checked_shl(length)?.wrapping_sub(1);
        (plain & named == named).then(|| Self {
            length: 16_usize.saturating_add(length as usize),
            low: lowered(first, 16),
            high: lowered(second, length),
        })
    }

    /// Any name, as sent; one that is too long is none that is known.
    #[must_use]
    pub const fn of(name: &[u8]) -> Self {
        let (mut low, mut high, mut at) = (0_u128, 0_u128, 0_u32);
        let mut rest = name;
        while let [byte, after @ ..] = rest {
            let byte = byte.to_ascii_lowercase() as u128;
            match at {
                0..16 => low |= byte << (at * 8),
                16..32 => high |= byte << ((at - 16) * 8),
                _ => {}
            }
            at = at.saturating_add(1);
            rest = after;
        }
        Self { length: name.len(), low, high }
    }
}

/// The first `length` bytes in lower case: they are letters, digits and hyphens.
#[inline]
fn lowered(bytes: &[u8; 16], length: u32) -> u128 {
    const CASE: u128 = u128::from_le_bytes([0x20; 16]);
    let kept = if length >= 16 { u128::MAX } else { (1_u128 << length.wrapping_mul(8)).wrapping_sub(1) };
    (u128::from_le_bytes(*bytes) | CASE) & kept
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use safe_arch::{
        bitand_m128i, bitandnot_m128i, bitor_m128i, cmp_eq_mask_i8_m128i, cmp_gt_mask_i8_m128i, cmp_lt_mask_i8_m128i,
        load_unaligned_m128i, m128i, min_u8_m128i, move_mask_i8_m128i, set_splat_i8_m128i,
    };

    #[inline]
    #[allow(clippy::cast_possible_wrap)] // the instruction's bytes have a sign
    fn all(byte: u8) -> m128i {
        set_splat_i8_m128i(byte as i8)
    }

    /// A bit for each byte whose highest bit is set.
    #[inline]
    #[allow(clippy::cast_sign_loss)]
    fn bits(bytes: m128i) -> u32 {
        move_mask_i8_m128i(bytes) as u32
    }

    #[inline]
    pub fn ends_and_controls(bytes: &[u8; 16]) -> (u32, u32) {
        let value = load_unaligned_m128i(bytes);
        let low = cmp_eq_mask_i8_m128i(min_u8_m128i(value, all(0x1F)), value);
        let control = bitandnot_m128i(cmp_eq_mask_i8_m128i(value, all(b'\t')), low);
        let control = bitor_m128i(control, cmp_eq_mask_i8_m128i(value, all(0x7F)));
        (bits(cmp_eq_mask_i8_m128i(value, all(b'\n'))), bits(control))
    }

    #[inline]
    pub fn colons_and_plain(bytes: &[u8; 16]) -> (u32, u32) {
        let value = load_unaligned_m128i(bytes);
        let lower = bitor_m128i(value, all(0x20));
        let between = |value, first: u8, last: u8| {
            let (below, above) = (all(first.wrapping_sub(1)), all(last.wrapping_add(1)));
            bitand_m128i(cmp_gt_mask_i8_m128i(value, below), cmp_lt_mask_i8_m128i(value, above))
        };
        let plain = bitor_m128i(between(lower, b'a', b'z'), between(value, b'0', b'9'));
        let plain = bitor_m128i(plain, cmp_eq_mask_i8_m128i(value, all(b'-')));
        (bits(cmp_eq_mask_i8_m128i(value, all(b':'))), bits(plain))
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod wide {
    pub use super::narrow::{colons_and_plain, ends_and_controls};
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod narrow {
    fn bits(bytes: &[u8; 16], is: impl Fn(u8) -> bool) -> u32 {
        bytes.iter().rev().fold(0, |bits, byte| bits << 1 | u32::from(is(*byte)))
    }

    pub fn ends_and_controls(bytes: &[u8; 16]) -> (u32, u32) {
        let control = |byte| (byte < b' ' && byte != b'\t') || byte == 0x7F;
        (bits(bytes, |byte| byte == b'\n'), bits(bytes, control))
    }

    pub fn colons_and_plain(bytes: &[u8; 16]) -> (u32, u32) {
        (bits(bytes, |byte| byte == b':'), bits(bytes, |byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;

    #[test]
    fn wide_and_narrow_say_the_same_of_every_byte_at_every_place() {
        for byte in 0..=255_u8 {
            for place in 0..16 {
                let mut bytes = *b"abcdefghijklmnop";
                bytes[place] = byte;
                assert_eq!(wide::ends_and_controls(&bytes), narrow::ends_and_controls(&bytes), "{byte} at {place}");
                assert_eq!(wide::colons_and_plain(&bytes), narrow::colons_and_plain(&bytes), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn line_feeds_and_controls_are_those_of_a_plain_reading() {
        for length in [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300] {
            for step in [1, 2, 7, 63, 64, 65] {
                let text: Vec<u8> =
                    (0..length).map(|at| if at % step == 0 { b'\n' } else { (at % 40) as u8 }).collect();
                let mut scan = Scan::new(&text);
                let mut found = Vec::new();
                while let Some(at) = scan.line_feed() {
                    found.push(at);
                    let controls = |byte: &&u8| (**byte < b' ' && **byte != b'\t') || **byte == 0x7F;
                    assert_eq!(scan.controls_up_to(at), text[..=at].iter().filter(controls).count(), "{length} {step}");
                }
                let wanted: Vec<usize> = (0..length).filter(|at| text[*at] == b'\n').collect();
                assert_eq!(found, wanted, "{length} {step}");
            }
        }
    }

    #[test]
    fn a_usual_name_is_what_it_is_as_sent() {
        let behind = b": value, and more than sixteen bytes";
        for name in [
            "A",
            "Host",
            "ETag",
            "If-None-Match",
            "Accept-Language",
            "Content-Encoding",
            "Transfer-Encoding",
            "x2-ABCDEFGHIJKLMNOPQRSTUVWXYZ-3",
        ]
        // fmt: up to 31 bytes
        {
            let line = [name.as_bytes(), behind].concat();
            assert_eq!(Name::usual(&line, 0), Some(Name::of(name.as_bytes())), "{name}");
            assert_eq!(Name::usual(&line, 0).unwrap().length, name.len());
        }
    }

    #[test]
    fn what_is_not_usual_is_left_to_a_closer_look() {
        let long = [&[b'a'; 32][..], b": value, and more than sixteen bytes"].concat();
        for line in [
            &b": no name and more than sixteen"[..],
            b"user\ragent: with a control character",
            b"Us er: a space in it, and more",
            b"no colon\r\nnext: line of the same head",
            b"caf\xc3\xa9: not ASCII and more than that",
            b"a_b: an underscore is left as well",
            b"Host: x",
            &long,
        ] {
            assert_eq!(Name::usual(line, 0), None);
        }
        assert_eq!(Name::usual(b"Host: and more than sixteen", 99), None);
    }
}
