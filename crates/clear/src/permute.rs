//! Keyed permutations of small domains: a value of n bits becomes another of n bits, and no two become the same.
//!
//! A balanced Feistel network of ten rounds (as FF1 of NIST SP 800-38G has), AES-128 as its round function. FF1 itself asks for a domain
//! of a million values; ports and solicited-node suffixes have fewer, so the shape is ours and the claim is modest: injective, and
//! not to be inverted without the key.
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

const ROUNDS: u8 = 10;

/// A family of permutations, one for each width and tweak.
pub struct Permutation(Aes128);

impl Permutation {
    /// From the first half of a 32-byte key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let (chunks, _) = key.as_chunks::<16>();
        Self(Aes128::new(&chunks.first().copied().unwrap_or([0; 16]).into()))
    }

    /// Where `value` goes among the values of `width` bits (even, at most 128); higher bits are ignored.
    #[must_use]
    pub fn map(&self, width: u32, tweak: u8, value: u128) -> u128 {
        let half = width.min(128) / 2;
        let mask = low(half);
        let (mut left, mut right) = (value.checked_shr(half).unwrap_or(0) & mask, value & mask);
        for round in 0..ROUNDS {
            // 8 bytes of the half (at most 64 bits), then what keeps rounds, widths and tweaks apart.
            let [.., a, b, c, d, e, f, g, h] = right.to_be_bytes();
            let width = u8::try_from(width).unwrap_or(128);
            let mut block = Array::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, tweak, width, round]);
            self.0.encrypt_block(&mut block);
            let next = (left ^ u128::from_be_bytes(block.0)) & mask;
            (left, right) = (right, next);
        }
        left.checked_shl(half).unwrap_or(0) | right
    }

    /// One AES block: the permutation of 128-bit values that ipcrypt-deterministic is.
    #[must_use]
    pub fn block(&self, value: u128) -> u128 {
        let mut block = Array::from(value.to_be_bytes());
        self.0.encrypt_block(&mut block);
        u128::from_be_bytes(block.0)
    }
}

/// The lowest `bits` bits set.
#[must_use]
pub fn low(bits: u32) -> u128 {
    1_u128.checked_shl(bits).map_or(u128::MAX, |bit| bit.wrapping_sub(1))
}
