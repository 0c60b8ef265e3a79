//! Prefix-preserving addresses: ipcrypt-pfx (draft-denis-ipcrypt-13, section "Prefix-Preserving Encryption").
//!
//! Rules of this file:
//! 1. Two addresses that share their first n bits are mapped to two that share their first n bits, and no more.
//! 2. IPv4 stays IPv4: only the last 32 bits of `::ffff:a.b.c.d` are mapped.
//! 3. No address is special here, and nothing is remembered: both are `address_map`'s.
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use crate::permute::low;

/// The map of one run, domain and epoch.
pub struct Pfx {
    first: Aes128,
    second: Aes128,
}

impl Pfx {
    /// From a 32-byte key, two halves that must differ.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let (chunks, _) = key.as_chunks::<16>();
        let (one, other) = match chunks {
            [one, other] => (*one, *other),
            _ => ([0; 16], [1; 16]), // cannot be: 32 is two times 16
        };
        Self { first: Aes128::new(&one.into()), second: Aes128::new(&other.into()) }
    }

    /// The mapped address.
    #[must_use]
    pub fn map(&self, address: [u8; 16]) -> [u8; 16] {
        let start: u32 = if crate::address::is_v4(&address) { 96 } else { 0 };
        let value = u128::from_be_bytes(address);
        (value ^ self.flips(value, start)).to_be_bytes()
    }

    /// Which of the bits from `start` (0 is the first) on are flipped; bits before `start` never are.
    #[must_use]
    pub fn flips(&self, value: u128, start: u32) -> u128 {
        let start = start.min(128);
        // All blocks depend on the input's bits alone, so they are enciphered together.
        let mut one = [Array::from([0_u8; 16]); 128];
        for (length, block) in (start..128).zip(&mut one) {
            let prefix = if length == 0 { 0 } else { value.checked_shr(128_u32.wrapping_sub(length)).unwrap_or(0) };
            *block = Array::from((prefix | (1_u128.checked_shl(length).unwrap_or(0))).to_be_bytes());
        }
        let mut other = one;
        let count = 128_usize.saturating_sub(start as usize);
        let (Some(one), Some(other)) = (one.get_mut(..count), other.get_mut(..count)) else { return 0 };
        self.first.encrypt_blocks(one);
        self.second.encrypt_blocks(other);
        let mut flips = 0_u128;
        for (one, other) in one.iter().zip(&*other) {
            let bit = (one.last().copied().unwrap_or(0) ^ other.last().copied().unwrap_or(0)) & 1;
            flips = (flips << 1) | u128::from(bit);
        }
        flips & low(128_u32.saturating_sub(start))
    }
}
