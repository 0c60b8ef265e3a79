//! Addresses that are special by their number: which there are, and what a prefix-preserving map must leave alone.
//!
//! Sources: IANA special-purpose registries (RFC 6890 and successors), RFC 4291 (IPv6), RFC 6052 and 8215 (NAT64), RFC 3056 (6to4),
//! RFC 4380 (Teredo), RFC 5214 (ISATAP).
//!
//! Two ways to keep a block where it is:
//! * *pinned*: no bit on the path to the block is flipped. The map stays prefix-exact everywhere; the neighbours of the block show as many of
//!   their first bits as they share with it, plus one. Used where that is a few bits, or nobody's addresses.
//! * *set apart*: the block maps into itself, and what would have landed there is mapped once more. Its neighbours show nothing; an
//!   ordinary block of the same size loses what it shared with others below that size (0.13 % of IPv4, 0.002 % of 2000::/3).

use crate::permute::low;

const V4: u128 = 0xFFFF_0000_0000;

/// What kind of address this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Anything else.
    Ordinary,
    /// 0.0.0.0, ::
    Unspecified,
    /// 127/8, `::1`
    Loopback,
    /// 255.255.255.255
    Broadcast,
    /// 224/4, ff00::/8
    Multicast,
    /// 169.254/16, fe80::/10
    LinkLocal,
    /// 10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7
    Private,
    /// 0/8, 240/4
    Reserved,
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u128 {
    V4 | u32::from_be_bytes([a, b, c, d]) as u128
}

/// A block: its first address and the length of its prefix, IPv4 counted from bit 96.
type Block = (u128, u32);

const PINNED_V4: &[Block] =
    &[(v4(0, 0, 0, 0), 104), (v4(10, 0, 0, 0), 104), (v4(127, 0, 0, 0), 104), (v4(240, 0, 0, 0), 100)];
const PINNED_V6: &[Block] = &[
    (0, 8),
    (0, 96),
    (0x0064_FF9B << 96, 96),
    (0x0064_FF9B_0001 << 80, 48),
    (0xFC00 << 112, 8),
    (0xFD00 << 112, 8),
    (0xFE80 << 112, 64),
    (0xFF02_0000_0000_0000_0000_0001_FF00_0000, 104),
];
/// Blocks in which every address stays what it is: constants of protocols.
const KEPT: &[Block] =
    &[(v4(0, 0, 0, 0), 127), (v4(127, 0, 0, 1), 128), (v4(255, 255, 255, 255), 128), (v4(224, 0, 0, 0), 120), (0, 127)];
const APART: &[Block] = &[
    (v4(100, 64, 0, 0), 106),
    (v4(169, 254, 0, 0), 112),
    (v4(172, 16, 0, 0), 108),
    (v4(192, 168, 0, 0), 112),
    (0x2001_0000 << 96, 32),
    (0x2002 << 112, 16),
];

const fn within(value: u128, block: Block) -> bool {
    (value ^ block.0).leading_zeros() >= block.1
}

/// How many first bits stay as they are; 128 if the address does.
#[must_use]
pub fn fixed_bits(value: u128) -> u32 {
    let is_v4 = value >> 32 == 0xFFFF;
    let toward = |block: Block| (value ^ block.0).leading_zeros().saturating_add(1).min(block.1);
    let mut fixed = if is_v4 { 96 } else { 0 };
    let pinned = if is_v4 { PINNED_V4 } else { PINNED_V6 };
    for block in pinned {
        fixed = fixed.max(toward(*block));
    }
    for block in KEPT.iter().filter(|block| (block.0 >> 32 == 0xFFFF) == is_v4) {
        if within(value, *block) {
            return 128;
        }
        fixed = fixed.max(toward(*block));
    }
    if is_v4 && value & 0xF000_0000 == 0xE000_0000 {
        fixed = fixed.max(104); // multicast: the first octet says the scope
    } else if value >> 120 == 0xFF {
        fixed = fixed.max(16); // flags and scope
        if value & (0xF0 << 112) == 0 {
            // Permanently assigned groups, ffxs::0 to ffxs::1:ffff.
            let block = (value & !low(112), 111);
            if within(value, block) {
                return 128;
            }
            fixed = fixed.max(toward(block));
        }
    }
    fixed
}

/// The length of the block set apart that this address lies in.
#[must_use]
pub fn apart(value: u128) -> Option<u32> {
    APART.iter().find(|block| within(value, **block)).map(|block| block.1)
}

/// What kind of address this is.
#[must_use]
pub fn class_of(address: &[u8; 16]) -> Class {
    let value = u128::from_be_bytes(*address);
    if crate::address::is_v4(address) {
        return match address {
            [.., 0, 0, 0, 0] => Class::Unspecified,
            [.., 255, 255, 255, 255] => Class::Broadcast,
            [.., 127, _, _, _] => Class::Loopback,
            [.., 169, 254, _, _] => Class::LinkLocal,
            [.., 10, _, _, _] | [.., 172, 16..=31, _, _] | [.., 192, 168, _, _] | [.., 100, 64..=127, _, _] => {
                Class::Private
            }
            [.., 224..=239, _, _, _] => Class::Multicast,
            [.., 0 | 240..=255, _, _, _] => Class::Reserved,
            _ => Class::Ordinary,
        };
    }
    match value {
        0 => Class::Unspecified,
        1 => Class::Loopback,
        _ if value >> 120 == 0xFF => Class::Multicast,
        _ if value >> 118 == 0xFE80 >> 6 => Class::LinkLocal,
        _ if value >> 121 == 0xFC >> 1 => Class::Private,
        _ => Class::Ordinary,
    }
}

/// An IPv4 address inside of an IPv6 one: how far its last bit is from the end, and whether it stands inverted.
#[must_use]
pub fn embedded_v4(value: u128) -> Option<(u32, bool)> {
    match () {
        () if value >> 112 == 0x2002 => Some((80, false)),
        () if value >> 96 == 0x0064_FF9B && value & (low(64) << 32) == 0 => Some((0, false)),
        () if value >> 32 == 0 && value > 1 => Some((0, false)),
        () if value >> 96 == 0x2001_0000 => Some((0, true)),
        () if is_unicast_with_iid(value) && is_isatap(value) => Some((0, false)),
        () => None,
    }
}

/// Whether the last 64 bits are an interface identifier.
#[must_use]
pub const fn is_unicast_with_iid(value: u128) -> bool {
    value >> 120 != 0 && value >> 120 != 0xFF && value >> 96 != 0x2001_0000
}

/// Interface identifier made of a MAC address (RFC 4291, appendix A).
#[must_use]
pub const fn is_eui64(value: u128) -> bool {
    (value >> 24) & 0xFFFF == 0xFFFE
}

/// Interface identifier made of an IPv4 address (RFC 5214).
#[must_use]
pub const fn is_isatap(value: u128) -> bool {
    (value >> 32) & 0xFDFF_FFFF == 0x0000_5EFE
}

/// Solicited-node group (RFC 4291, section 2.7.1): ff02::1:ffXX:XXXX.
#[must_use]
pub fn is_solicited_node(value: u128) -> bool {
    value & !low(24) == 0xFF02_0000_0000_0000_0000_0001_FF00_0000
}
