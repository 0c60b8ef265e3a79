//! Crypto-PAn (Xu, Fan, Ammar, Moon 2002), for outputs that must agree with older tools. From the paper and published vectors.
//!
//! Rules of this file:
//! 1. Exactly the published map: no address is special, 127.0.0.1 becomes something else. Whoever wants special addresses kept uses
//!    `pfx`.
//! 2. IPv4 stays IPv4 (32 steps); IPv6 takes 128 steps, the form on which Go, C, C#, Python and TypeScript implementations agree.
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use crate::address::is_v4;
use crate::permute::low;

/// The map of one key.
pub struct CryptoPan {
    cipher: Aes128,
    pad: u128,
}

impl CryptoPan {
    /// From 32 bytes: an AES-128 key, and what becomes the pad.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let (chunks, _) = key.as_chunks::<16>();
        let (one, other) = match chunks {
            [one, other] => (*one, *other),
            _ => ([0; 16], [0; 16]), // cannot be: 32 is two times 16
        };
        let cipher = Aes128::new(&one.into());
        let mut pad = Array::from(other);
        cipher.encrypt_block(&mut pad);
        Self { cipher, pad: u128::from_be_bytes(pad.0) }
    }

    /// The mapped address.
    #[must_use]
    pub fn map(&self, address: [u8; 16]) -> [u8; 16] {
        let value = u128::from_be_bytes(address);
        let (bits, aligned) = if is_v4(&address) { (32, value.wrapping_shl(96)) } else { (128, value) };
        let mut blocks = [Array::from([0_u8; 16]); 128];
        for (length, block) in (0_u32..bits).zip(&mut blocks) {
            let rest = low(128_u32.saturating_sub(length));
            *block = Array::from(((aligned & !rest) | (self.pad & rest)).to_be_bytes());
        }
        let Some(used) = blocks.get_mut(..bits as usize) else { return address };
        self.cipher.encrypt_blocks(used);
        let flips = used.iter().fold(0_u128, |flips, block| {
            (flips << 1) | u128::from(block.0.first().is_some_and(|byte| byte & 0x80 != 0))
        });
        (value ^ flips).to_be_bytes()
    }
}
