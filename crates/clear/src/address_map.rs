//! One map for every place an address can stand: headers, quoted headers, ARP, NDP, tunnels, DNS answers, names, texts.
//!
//! Rules of this file:
//! 1. An answer depends on method, key and address alone, never on what was asked before: the memo is bounded and only saves time.
//! 2. IPv4 stays IPv4, IPv6 stays IPv6.
//! 3. `pfx` and `tag` never give two addresses one answer. `pfx` keeps exactly the common prefix of two addresses, but for the blocks set
//!    apart (see `address_special`) and for interface identifiers that hold a MAC or IPv4 address.
//! 4. Special addresses are treated on purpose: constants stay, blocks map into themselves, embedded addresses go through the map of what is
//!    embedded. `cryptopan` alone knows none of this: it is the published map.
use std::collections::HashMap;
use std::hint::black_box;

use foldhash::fast::FixedState;

use crate::address::{is_v4, truncate};
use crate::address_special::{
    Class, apart, class_of, embedded_v4, fixed_bits, is_eui64, is_isatap, is_solicited_node, is_unicast_with_iid,
};
use crate::cryptopan::CryptoPan;
use crate::keys::Keys;
use crate::permute::{Permutation, low};
use crate::pfx::Pfx;

/// Addresses remembered of each version of IP; past it the memo starts over. At ~15 and ~50 bytes each: 65 MB.
pub const MEMO: usize = 1 << 20;
const V4: u128 = 0xFFFF_0000_0000;

/// How addresses are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Prefix-preserving, special addresses treated (ipcrypt-pfx inside).
    Pfx,
    /// Crypto-PAn, as published.
    CryptoPan,
    /// A keyed permutation without structure.
    Tag,
    /// The first bits.
    Truncate {
        /// Bits of an IPv4 address.
        v4: u8,
        /// Bits of an IPv6 address.
        v6: u8,
    },
    /// One address for each role: 192.0.2.1 internal, .2 external, .3 private, .4 special; 2001:db8::1 to ::4.
    Role,
}

/// Networks that are the operator's own.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Sites {
    /// First address and length of the prefix, IPv4 counted from bit 96.
    pub internal: Vec<([u8; 16], u8)>,
    /// Domains of its mail, lower case.
    pub domains: Vec<String>,
}

/// What an address is to the operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Of the sites.
    Internal,
    /// Of somebody else.
    External,
    /// A private address that is in no site.
    Private,
    /// Loopback, multicast, link-local, reserved.
    Special,
}

impl Role {
    /// All, in the order of their words.
    pub const ALL: [Self; 4] = [Self::Internal, Self::External, Self::Private, Self::Special];

    /// The word in outputs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
            Self::Private => "private",
            Self::Special => "special",
        }
    }
}

impl Sites {
    /// The role of an address.
    #[must_use]
    pub fn role(&self, address: &[u8; 16]) -> Role {
        let value = u128::from_be_bytes(*address);
        let inside = |(block, length): &([u8; 16], u8)| {
            (value ^ u128::from_be_bytes(*block)).leading_zeros() >= u32::from(*length)
        };
        if self.internal.iter().any(inside) {
            return Role::Internal;
        }
        match class_of(address) {
            Class::Ordinary => Role::External,
            Class::Private => Role::Private,
            _ => Role::Special,
        }
    }
}

#[allow(clippy::large_enum_variant)] // one of it in a map, and a map is large
enum Engine {
    Pfx(Pfx),
    CryptoPan(CryptoPan),
    Tag(Permutation),
    Truncate(u8, u8),
    Role,
}

/// The map of one run, domain and epoch.
pub struct AddressMap {
    engine: Engine,
    small: Permutation,
    sites: Sites,
    /// IPv4 apart: with nine bytes an address a campus' worth of them stays in the processor's caches.
    memo4: HashMap<u32, u32, FixedState>,
    memo6: HashMap<[u8; 16], [u8; 16], FixedState>,
}

impl AddressMap {
    /// The map of a domain ("address" unless the policy splits) in an epoch ("run", or what `Keys::epoch` names).
    #[must_use]
    pub fn new(method: Method, keys: &Keys, domain: &str, epoch: &str, sites: &Sites) -> Self {
        let engine = match method {
            Method::Pfx => Engine::Pfx(Pfx::new(&keys.derive("pfx", domain, epoch))),
            Method::CryptoPan => Engine::CryptoPan(CryptoPan::new(&keys.derive("cryptopan", domain, epoch))),
            Method::Tag => Engine::Tag(Permutation::new(&keys.derive("address-tag", domain, epoch))),
            Method::Truncate { v4, v6 } => Engine::Truncate(v4, v6),
            Method::Role => Engine::Role,
        };
        Self {
            engine,
            small: Permutation::new(&keys.derive("mac", domain, epoch)),
            sites: sites.clone(),
            memo4: HashMap::with_hasher(FixedState::with_seed(keys.seed())),
            memo6: HashMap::with_hasher(FixedState::with_seed(keys.seed())),
        }
    }

    /// The mapped address.
    pub fn map(&mut self, address: [u8; 16]) -> [u8; 16] {
        match self.engine {
            Engine::Truncate(v4, v6) => return truncate_special(address, v4, v6),
            Engine::Role => return role_address(&address, self.sites.role(&address)),
            _ => {}
        }
        if is_v4(&address) {
            return self.map_v4(address);
        }
        if let Some(known) = self.memo6.get(&address) {
            return *known;
        }
        let mapped = self.compute(address);
        if self.memo6.len() >= MEMO {
            self.memo6.clear();
        }
        self.memo6.insert(address, mapped);
        mapped
    }

    /// Read what is remembered of addresses that are asked for next: the reads wait beside each other. No answer depends on it.
    pub fn expect(&self, addresses: &[[u8; 16]]) {
        let known = addresses
            .iter()
            .filter(|address| is_v4(address))
            .filter_map(|[.., a, b, c, d]| self.memo4.get(&u32::from_be_bytes([*a, *b, *c, *d])));
        black_box(known.fold(0, |sum: u32, known| sum.wrapping_add(*known)));
    }

    fn map_v4(&mut self, address: [u8; 16]) -> [u8; 16] {
        let [.., a, b, c, d] = address;
        let number = u32::from_be_bytes([a, b, c, d]);
        let mapped = if let Some(known) = self.memo4.get(&number) {
            *known
        } else {
            let [.., a, b, c, d] = self.compute(address);
            if self.memo4.len() >= MEMO {
                self.memo4.clear();
            }
            *self.memo4.entry(number).or_insert(u32::from_be_bytes([a, b, c, d]))
        };
        (V4 | u128::from(mapped)).to_be_bytes()
    }

    /// What the address is to the operator.
    #[must_use]
    pub fn role(&self, address: &[u8; 16]) -> Role {
        self.sites.role(address)
    }

    /// The mapped MAC address, as it also stands in mapped EUI-64 identifiers: locally administered, group bit kept. Broadcast, zero and
    /// 01:80:c2 (bridges) stay. Of an IP group (33:33, 01:00:5e) the packet's mapped address says more: use [`group_mac`].
    #[must_use]
    pub fn map_mac(&self, mac: [u8; 6]) -> [u8; 6] {
        match mac {
            [0, 0, 0, 0, 0, 0] | [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF] | [0x01, 0x80, 0xC2, 0, 0, _] => return mac,
            [0x33, 0x33, ..] | [0x01, 0x00, 0x5E, ..] => {
                let (keep, width) = if mac.first() == Some(&0x33) { (16_u32, 32_u32) } else { (24, 24) };
                let value = number_of(mac);
                let mapped = self.small.map(width, 1, value & low(width));
                return mac_of((value & (low(keep) << width)) | mapped);
            }
            _ => {}
        }
        let value = number_of(mac);
        let first = value >> 40;
        // 46 bits: all but the group bit and the bit that says who administers.
        let bare = ((first >> 2) << 40) | (value & low(40));
        let mapped = self.small.map(46, if first & 2 == 0 { 2 } else { 3 }, bare);
        let first = ((mapped >> 40) << 2) | 2 | (first & 1);
        mac_of((first << 40) | (mapped & low(40)))
    }

    /// The solicited-node group of the mapped `target`: what a header trace puts where the packet had the target's group.
    pub fn solicited_node(&mut self, target: [u8; 16]) -> [u8; 16] {
        let mapped = u128::from_be_bytes(self.map(target));
        ((0xFF02_0000_0000_0000_0000_0001_FF00_0000_u128) | (mapped & low(24))).to_be_bytes()
    }

    fn compute(&self, address: [u8; 16]) -> [u8; 16] {
        match &self.engine {
            Engine::Pfx(pfx) => self.prefixed(pfx, u128::from_be_bytes(address)).to_be_bytes(),
            Engine::CryptoPan(pan) => pan.map(address),
            Engine::Tag(tag) => tagged(tag, u128::from_be_bytes(address)).to_be_bytes(),
            Engine::Truncate(..) | Engine::Role => address, // answered by map()
        }
    }

    fn prefixed(&self, pfx: &Pfx, value: u128) -> u128 {
        if is_solicited_node(value) {
            return (value & !low(24)) | self.small.map(24, 4, value & low(24));
        }
        let mut mapped = outside(pfx, value);
        if is_unicast_with_iid(value) && value >> 32 != 0xFFFF {
            mapped = (mapped & !low(64)) | self.iid(pfx, value, mapped);
        }
        if let Some((shift, inverted)) = embedded_v4(value) {
            let turn = if inverted { low(32) } else { 0 };
            let raw = ((value >> shift) ^ turn) & low(32);
            let inner = (outside(pfx, V4 | raw) ^ turn) & low(32);
            mapped = (mapped & !(low(32) << shift)) | (inner << shift);
            if inverted {
                // Teredo: the server's address as well.
                let server = outside(pfx, V4 | ((value >> 64) & low(32))) & low(32);
                mapped = (mapped & !(low(32) << 64)) | (server << 64);
            }
        }
        mapped
    }

    /// The interface identifier. One that holds a MAC address holds the mapped one, so that it agrees with the link layer; any other is
    /// mapped under its own /64, so that the same identifier in two networks does not look the same.
    fn iid(&self, pfx: &Pfx, value: u128, mapped: u128) -> u128 {
        if is_eui64(value) {
            let [.., a, b, c, _, _, d, e, f] = value.to_be_bytes();
            let [a, b, c, d, e, f] = self.map_mac([a ^ 2, b, c, d, e, f]);
            return u128::from(u64::from_be_bytes([a ^ 2, b, c, 0xFF, 0xFE, d, e, f]));
        }
        if is_isatap(value) {
            return (value & (low(32) << 32)) | (mapped & low(32));
        }
        let mut iid = mapped & low(64);
        for _ in 0..16 {
            if !is_eui64(iid) && !is_isatap(iid) {
                break;
            }
            iid = outside(pfx, (value & !low(64)) | iid) & low(64);
        }
        iid
    }
}

/// The prefix-preserving map with blocks pinned and blocks set apart.
fn outside(pfx: &Pfx, value: u128) -> u128 {
    let step = |value: u128| value ^ pfx.flips(value, fixed_bits(value));
    let mut mapped = step(value);
    if let Some(length) = apart(value) {
        let below = low(128_u32.saturating_sub(length));
        return (value & !below) | (mapped & below);
    }
    // A block set apart can be entered once at most on the way, since a map of prefixes takes a block whole: six steps are enough.
    for _ in 0..8 {
        if apart(mapped).is_none() {
            break;
        }
        mapped = step(mapped);
    }
    mapped
}

/// A permutation without structure: constants stay, groups keep their scope, everything else is spread over everything else.
fn tagged(tag: &Permutation, value: u128) -> u128 {
    if fixed_bits(value) == 128 {
        return value;
    }
    let is_v4 = value >> 32 == 0xFFFF;
    let multicast = class_of(&value.to_be_bytes()) == Class::Multicast;
    let step = |value: u128| match (is_v4, multicast) {
        (true, false) => V4 | tag.map(32, 5, value & low(32)),
        (true, true) => {
            (value & !low(24)) | tag.map(24, u8::try_from((value >> 24) & 0xFF).unwrap_or(0), value & low(24))
        }
        (false, false) => tag.block(value),
        (false, true) => (value & !low(112)) | tag.map(112, 6, value & low(112)),
    };
    let fits = |value: u128| {
        let address = value.to_be_bytes();
        fixed_bits(value) != 128
            && (class_of(&address) == Class::Multicast) == multicast
            && (value >> 32 == 0xFFFF) == is_v4
    };
    let mut mapped = step(value);
    for _ in 0..64 {
        if fits(mapped) {
            break;
        }
        mapped = step(mapped);
    }
    mapped
}

/// Cut, and where an IPv4 address is embedded, no more of it left than of any other.
fn truncate_special(address: [u8; 16], v4: u8, v6: u8) -> [u8; 16] {
    let value = u128::from_be_bytes(address);
    let most = match embedded_v4(value) {
        Some((80, _)) => v4.saturating_add(16),
        Some((_, true)) => 32,
        Some(_) => v4.saturating_add(96),
        None => 128,
    };
    // An identifier made of a MAC address or one that is anybody's: nothing special, it goes with the bits.
    if is_v4(&address) { truncate(address, v4, v6) } else { truncate(address, v4, v6.min(most)) }
}

fn role_address(address: &[u8; 16], role: Role) -> [u8; 16] {
    let number = match role {
        Role::Internal => 1,
        Role::External => 2,
        Role::Private => 3,
        Role::Special => 4,
    };
    let base: u128 = if is_v4(address) { V4 | 0xC000_0200 } else { 0x2001_0DB8 << 96 };
    (base | number).to_be_bytes()
}

/// The MAC address of an IP group: what stands in a frame to it (RFC 1112, RFC 2464).
#[must_use]
pub fn group_mac(group: &[u8; 16]) -> Option<[u8; 6]> {
    let [.., a, b, c, d] = *group;
    match class_of(group) {
        Class::Multicast if is_v4(group) => Some([0x01, 0x00, 0x5E, b & 0x7F, c, d]),
        Class::Multicast => Some([0x33, 0x33, a, b, c, d]),
        _ => None,
    }
}

fn number_of(mac: [u8; 6]) -> u128 {
    mac.iter().fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

fn mac_of(number: u128) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = number.to_be_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::{AddressMap, MEMO, Method, Sites, V4};
    use crate::keys::Keys;

    #[test]
    fn addresses_are_remembered_up_to_the_bound_and_mapped_alike_beyond_it() {
        let mut map = AddressMap::new(Method::Tag, &Keys::new(&mut [7; 32]), "address", "run", &Sites::default());
        for base in [0x2001_0db8_u128 << 96, V4 | 0x2000_0000] {
            let address = |number: usize| (base | number as u128).to_be_bytes();
            let held = |map: &AddressMap| if base >> 32 == 0xFFFF { map.memo4.len() } else { map.memo6.len() };
            let first = map.map(address(0));
            for number in 1..MEMO {
                map.map(address(number));
            }
            assert_eq!(held(&map), MEMO);
            map.map(address(MEMO));
            assert_eq!(held(&map), 1, "the memo starts over");
            assert_eq!(map.map(address(0)), first);
        }
    }
}
