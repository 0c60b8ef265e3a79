//! Addresses as sixteen bytes: which family, cut to a prefix, written as text.
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether this is an IPv4 address (`::ffff:a.b.c.d`).
#[must_use]
pub const fn is_v4(address: &[u8; 16]) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, ..])
}

/// The first `v4` or `v6` bits, the rest zero.
#[must_use]
pub fn truncate(address: [u8; 16], v4: u8, v6: u8) -> [u8; 16] {
    let keep = if is_v4(&address) { u32::from(v4.min(32)).saturating_add(96) } else { u32::from(v6.min(128)) };
    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(keep)).unwrap_or(0);
    (u128::from_be_bytes(address) & mask).to_be_bytes()
}

/// Append the usual text form.
pub fn write_text(address: &[u8; 16], text: &mut String) {
    let written = match address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d] => write!(text, "{}", Ipv4Addr::new(*a, *b, *c, *d)),
        _ => write!(text, "{}", Ipv6Addr::from(*address)),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}
