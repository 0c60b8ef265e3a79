//! Prefix-preserving addresses: ipcrypt-pfx (draft-denis-ipcrypt-13, section "Prefix-Preserving Encryption").
//!
//! Rules of this file:
//! 1. Two addresses that share their first n bits are mapped to two that share their first n bits, and no more.
//! 2. IPv4 stays IPv4: only the last 32 bits of `::ffff:a.b.c.d` are mapped.
//! 3. The memo is bounded; when it is full it starts over, and answers stay the same.
use std::collections::HashMap;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Addresses remembered. At ~50 bytes each: 50 MB.
pub const MEMO: usize = 1 << 20;

/// The map of one run, domain and epoch.
pub struct Pfx {
    first: Aes128,
    second: Aes128,
    memo: HashMap<[u8; 16], [u8; 16]>,
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
        Self { first: Aes128::new(&one.into()), second: Aes128::new(&other.into()), memo: HashMap::new() }
    }

    /// The mapped address.
    pub fn map(&mut self, address: [u8; 16]) -> [u8; 16] {
        if let Some(known) = self.memo.get(&address) {
            return *known;
        }
        let mapped = self.compute(address);
        if self.memo.len() >= MEMO {
            self.memo.clear();
        }
        self.memo.insert(address, mapped);
        mapped
    }

    fn compute(&self, address: [u8; 16]) -> [u8; 16] {
        let start: u32 = if crate::address::is_v4(&address) { 96 } else { 0 };
        let value = u128::from_be_bytes(address);
        // All blocks depend on the input's bits alone, so they are enciphered together.
        let blocks: Vec<Array<u8, _>> = (start..128)
            .map(|length| {
                let prefix = if length == 0 { 0 } else { value.checked_shr(128_u32.wrapping_sub(length)).unwrap_or(0) };
                Array::from((prefix | (1_u128.checked_shl(length).unwrap_or(0))).to_be_bytes())
            })
            .collect();
        let (mut one, mut other) = (blocks.clone(), blocks);
        self.first.encrypt_blocks(&mut one);
        self.second.encrypt_blocks(&mut other);
        let mut flips = 0_u128;
        for (one, other) in one.iter().zip(&other) {
            let bit = (one.last().copied().unwrap_or(0) ^ other.last().copied().unwrap_or(0)) & 1;
            flips = (flips << 1) | u128::from(bit);
        }
        (value ^ flips).to_be_bytes()
    }
}
