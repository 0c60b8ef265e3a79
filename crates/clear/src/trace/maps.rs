//! Keyed stand-ins: addresses, link-layer addresses, small identifiers.
//!
//! Rules of this file:
//! 1. One map for every place where an address can stand; a scanner's packets may have another one, for all of theirs.
//! 2. What is remembered is bounded and only saves time: answers do not depend on it.
use std::collections::HashMap;

use bunker_wire::flowhash::Seed;
use zeroize::Zeroizing;

use super::rules::{Addresses, Rules};
use crate::address;
use crate::keys::Keys;
use crate::pfx::Pfx;

/// Link-layer addresses remembered.
pub const MACS: usize = 1 << 16;
/// Scanners with a map of their own; the others share one.
pub const SCANNERS: usize = 4_096;
/// Addresses remembered by a map of the trace.
pub const ADDRESSES: usize = 1 << 20;

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

enum Cipher {
    Pfx(Pfx),
    Tag(Zeroizing<[u8; 32]>),
    Truncate(u8, u8),
}

/// The map of addresses.
pub struct AddressMap {
    cipher: Cipher,
    memo: HashMap<[u8; 16], [u8; 16], Seed>,
}

impl AddressMap {
    fn new(kind: Addresses, keys: &Keys, domain: &str, epoch: &str, seed: Seed) -> Self {
        let cipher = match kind {
            Addresses::Pfx | Addresses::CryptoPan => Cipher::Pfx(Pfx::new(&keys.derive("pfx", domain, epoch))),
            Addresses::Tag => Cipher::Tag(keys.derive("tag", domain, epoch)),
            Addresses::Truncate((v4, v6)) => Cipher::Truncate(v4, v6),
        };
        Self { cipher, memo: HashMap::with_hasher(seed) }
    }

    /// The address that leaves.
    pub fn map(&mut self, address: [u8; 16]) -> [u8; 16] {
        if let Some(known) = self.memo.get(&address) {
            return *known;
        }
        let mapped = match &mut self.cipher {
            Cipher::Pfx(pfx) => pfx.map(address),
            Cipher::Truncate(v4, v6) => address::truncate(address, *v4, *v6),
            Cipher::Tag(key) => {
                let hash = blake3::keyed_hash(key, &address);
                let mut tagged: [u8; 16] = hash.as_bytes().first_chunk().copied().unwrap_or_default();
                if address::is_v4(&address) {
                    tagged = wide(narrow(tagged));
                }
                tagged
            }
        };
        if self.memo.len() >= ADDRESSES {
            self.memo.clear();
        }
        self.memo.insert(address, mapped);
        mapped
    }
}

/// All keyed stand-ins of one epoch.
pub struct Maps {
    main: AddressMap,
    scanners: HashMap<[u8; 16], AddressMap, Seed>,
    macs: HashMap<[u8; 6], [u8; 6], Seed>,
    mac_key: Zeroizing<[u8; 32]>,
    small_key: Zeroizing<[u8; 32]>,
    kind: Addresses,
    seed: Seed,
}

impl Maps {
    /// The maps of an epoch.
    #[must_use]
    pub fn new(rules: &Rules, keys: &Keys, epoch: &str, seed: Seed) -> Self {
        Self {
            main: AddressMap::new(rules.addresses, keys, "address", epoch, seed),
            scanners: HashMap::with_hasher(seed),
            macs: HashMap::with_hasher(seed),
            mac_key: keys.derive("tag48", "mac", epoch),
            small_key: keys.derive("trace", "small", epoch),
            kind: rules.addresses,
            seed,
        }
    }

    /// The map of a packet: a scanner's own, or the one of all others.
    pub fn addresses(&mut self, maybe_scanner: Option<[u8; 16]>, keys: &Keys, epoch: &str) -> &mut AddressMap {
        let Some(scanner) = maybe_scanner else { return &mut self.main };
        // Above the limit they share one: no scanner's order of addresses meets the map of the others.
        let known = self.scanners.contains_key(&scanner) || self.scanners.len() < SCANNERS;
        let name = if known { scanner } else { [0; 16] };
        let (kind, seed) = (self.kind, self.seed);
        self.scanners.entry(name).or_insert_with(|| {
            let mut domain = String::from("scanner/");
            for byte in blake3::hash(&name).as_bytes() {
                domain.push(char::from(b'a'.wrapping_add(byte >> 4)));
                domain.push(char::from(b'a'.wrapping_add(byte & 15)));
            }
            AddressMap::new(kind, keys, &domain, epoch, seed)
        })
    }

    /// `tag48`: a locally administered address, group bit kept; broadcast and nothing stay what they are.
    pub fn mac(&mut self, address: [u8; 6]) -> [u8; 6] {
        if address == [0xFF; 6] || address == [0; 6] {
            return address;
        }
        if let Some(known) = self.macs.get(&address) {
            return *known;
        }
        let hash = blake3::keyed_hash(&self.mac_key, &address);
        let mut tagged: [u8; 6] = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        if let (Some(first), Some(original)) = (tagged.first_mut(), address.first()) {
            *first = (*first & 0xFC) | 0x02 | (original & 0x01);
        }
        if self.macs.len() >= MACS {
            self.macs.clear();
        }
        self.macs.insert(address, tagged);
        tagged
    }

    /// 32 keyed bytes for a purpose and a value.
    #[must_use]
    pub fn draw(&self, purpose: u8, value: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.small_key);
        hasher.update(&[purpose]);
        hasher.update(value);
        *hasher.finalize().as_bytes()
    }
}
