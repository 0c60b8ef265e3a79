//! The keyed hash of flows: the table's, and the one that splits packets over lanes.
//!
//! Rules of this file:
//! 1. Keyed by a random seed of the run, so that nobody outside can aim at one bucket or one lane.
//! 2. A lane is chosen by the pair of IP addresses alone, direction-less: both directions of a flow, all its fragments, and quoted
//!    errors between the same hosts stay together. (Ports would spread better and tear fragments from their flow.)
use core::hash::{BuildHasher, Hasher};

use crate::event::Address;
use crate::ip;
use crate::link;
use crate::packet::Packet;

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one).wrapping_mul(u128::from(other));
    // The halves of a 128-bit product, mixed: the step of wyhash and folded-multiply hashes.
    #[allow(clippy::cast_possible_truncation)]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// The finalizer of splitmix64.
const fn stir(value: u64) -> u64 {
    let value = value.wrapping_add(MULTIPLIER);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The run's seed, split for hashing.
#[derive(Clone, Copy)]
pub struct Seed {
    first: u64,
    second: u64,
}

impl Seed {
    /// From sixteen random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        let value = u128::from_le_bytes(bytes);
        #[allow(clippy::cast_possible_truncation)]
        let (first, second) = (value as u64, (value >> 64) as u64);
        // Stirred, so that a seed with few bits set does not make a multiplier that mixes badly.
        Self { first: stir(first), second: stir(second ^ MULTIPLIER) | 1 }
    }
}

impl BuildHasher for Seed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer { state: self.first, key: self.second }
    }
}

/// Hasher over words.
pub struct Mixer {
    state: u64,
    key: u64,
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        let mut tail = [0_u8; 8];
        for (place, byte) in tail.iter_mut().zip(rest) {
            *place = *byte;
        }
        self.write_u64(u64::from_le_bytes(tail));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.state = fold(self.state ^ value, self.key);
    }

    fn write_usize(&mut self, _length: usize) {
        // Array lengths, which the standard library hashes too; ours are fixed.
    }

    fn finish(&self) -> u64 {
        fold(self.state ^ MULTIPLIER, self.key)
    }
}

/// The lane of a packet: below `lanes`, the same for both directions of a flow. Packets without IP go to lane 0.
#[must_use]
pub fn lane_of(packet: &Packet<'_>, seed: Seed, lanes: u16) -> u16 {
    if lanes < 2 {
        return 0;
    }
    let Ok(link) = link::link(packet, 24) else { return 0 };
    let Ok(ip) = ip::ip(link.ip, 24) else { return 0 };
    lane_of_addresses(ip.source, ip.destination, seed, lanes)
}

/// The lane of a pair of addresses, whichever comes first.
#[must_use]
pub fn lane_of_addresses(one: Address, other: Address, seed: Seed, lanes: u16) -> u16 {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    let mut hasher = seed.build_hasher();
    hasher.write(&low.0);
    hasher.write(&high.0);
    let spread = u128::from(hasher.finish()).wrapping_mul(u128::from(lanes.max(1))) >> 64;
    u16::try_from(spread).unwrap_or(0)
}
