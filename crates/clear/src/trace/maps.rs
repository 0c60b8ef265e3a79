//! Keyed stand-ins: addresses, link-layer addresses, small identifiers.
//!
//! Rules of this file:
//! 1. One map for every place where an address can stand; a scanner's packets may have another one, for all of theirs.
//! 2. What is remembered is bounded and only saves time: answers do not depend on it.
use std::collections::HashMap;

use bunker_wire::flowhash::Seed;

use super::rules::Rules;
use crate::address_map::{AddressMap, Method, Sites};
use crate::draw::Draw;
use crate::keys::Keys;

/// Link-layer addresses remembered.
pub const MACS: usize = 1 << 16;
/// Scanners with a map of their own, each of up to `MEMO` addresses; the others share one.
pub const SCANNERS: usize = 64;

/// IPv4 as `::ffff:a.b.c.d`.
#[must_use]
pub const fn wide(octets: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = octets;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d]
}

/// The last four bytes.
#[must_use]
pub const fn narrow(address: [u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = address;
    [a, b, c, d]
}

/// All keyed stand-ins of one epoch.
pub struct Maps {
    main: AddressMap,
    scanners: HashMap<[u8; 16], AddressMap, Seed>,
    macs: HashMap<[u8; 6], [u8; 6], Seed>,
    small: Draw,
    method: Method,
}

impl Maps {
    /// The maps of an epoch.
    #[must_use]
    pub fn new(rules: &Rules, keys: &Keys, epoch: &str, seed: Seed) -> Self {
        Self {
            main: AddressMap::new(rules.addresses, keys, "address", epoch, &Sites::default()),
            scanners: HashMap::with_hasher(seed),
            macs: HashMap::with_hasher(seed),
            small: Draw::new(&keys.derive("trace", "small", epoch)),
            method: rules.addresses,
        }
    }

    /// Read what is remembered of addresses that are asked for next.
    pub fn expect(&self, addresses: &[[u8; 16]]) {
        self.main.expect(addresses);
    }

    /// The map of a packet: a scanner's own, or the one of all others.
    pub fn addresses(&mut self, maybe_scanner: Option<[u8; 16]>, keys: &Keys, epoch: &str) -> &mut AddressMap {
        let Some(scanner) = maybe_scanner else { return &mut self.main };
        // Above the limit they share one: no scanner's order of addresses meets the map of the others.
        let known = self.scanners.contains_key(&scanner) || self.scanners.len() < SCANNERS;
        let name = if known { scanner } else { [0; 16] };
        let method = self.method;
        self.scanners.entry(name).or_insert_with(|| {
            let mut domain = String::from("scanner ");
            for byte in name {
                domain.push(char::from(b'a'.wrapping_add(byte >> 4)));
                domain.push(char::from(b'a'.wrapping_add(byte & 15)));
            }
            AddressMap::new(method, keys, &domain, epoch, &Sites::default())
        })
    }

    /// `tag48`: a locally administered address, group bit kept; broadcast and nothing stay what they are.
    pub fn mac(&mut self, address: [u8; 6]) -> [u8; 6] {
        if let Some(known) = self.macs.get(&address) {
            return *known;
        }
        let mapped = self.main.map_mac(address);
        if self.macs.len() >= MACS {
            self.macs.clear();
        }
        self.macs.insert(address, mapped);
        mapped
    }

    /// Sixteen keyed bytes for a purpose and a value.
    #[must_use]
    pub fn draw(&self, purpose: u8, value: &[u8]) -> [u8; 16] {
        self.small.of(purpose, value)
    }

    /// Sixteen more, for a small value under a draw.
    #[must_use]
    pub fn draw_next(&self, drawn: [u8; 16], value: [u8; 4]) -> [u8; 16] {
        self.small.next(drawn, value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, clippy::arithmetic_side_effects)]
    #![allow(clippy::indexing_slicing)]
    use super::{MACS, Maps, SCANNERS, wide};
    use crate::keys::Keys;
    use crate::trace::rules::Rules;
    use bunker_wire::flowhash::Seed;

    fn maps() -> (Maps, Keys) {
        let keys = Keys::new(&mut [7; 32]);
        (Maps::new(&Rules::default(), &keys, "run", Seed::new([1; 16])), keys)
    }

    #[test]
    fn macs_are_remembered_up_to_the_bound_and_mapped_alike_beyond_it() {
        let (mut maps, _) = maps();
        let mac =
            |number: usize| [0, 0x1b, (number >> 24) as u8, (number >> 16) as u8, (number >> 8) as u8, number as u8];
        let first = maps.mac(mac(0));
        for number in 1..MACS {
            maps.mac(mac(number));
        }
        assert_eq!(maps.macs.len(), MACS);
        maps.mac(mac(MACS));
        assert_eq!(maps.macs.len(), 1, "the memo starts over");
        assert_eq!(maps.mac(mac(0)), first);
    }

    #[test]
    fn scanners_beyond_the_bound_share_a_map_that_is_nobody_elses() {
        let (mut maps, keys) = maps();
        let target = wide([198, 51, 100, 7]);
        let mut of = |number: usize| maps.addresses(Some(wide([10, 0, 0, number as u8])), &keys, "run").map(target);
        let own: Vec<[u8; 16]> = (0..SCANNERS).map(&mut of).collect();
        let distinct: std::collections::HashSet<_> = own.iter().collect();
        assert_eq!(distinct.len(), SCANNERS);
        let (beyond, further) = (of(SCANNERS), of(SCANNERS + 1));
        assert_eq!(beyond, further, "they share one");
        assert!(!own.contains(&beyond) && of(0) == own[0]);
        assert_ne!(maps.addresses(None, &keys, "run").map(target), beyond);
    }
}
