//! Keyed draws: sixteen bytes for a purpose and a short value, equal for equal ones, random to whoever has no key.
//!
//! CBC-MAC over AES-128. Plain CBC-MAC is a pseudo-random function as long as no input is the beginning of another (Bellare, Kilian and
//! Rogaway 2000), which the length in the first block sees to. A draw of a flow costs three blocks, a twentieth of keyed BLAKE3, which for
//! inputs this short spends its time on its own tree.
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// A family of draws, one for each purpose.
pub struct Draw(Aes128);

impl Draw {
    /// From the first half of a 32-byte key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let (chunks, _) = key.as_chunks::<16>();
        Self(Aes128::new(&chunks.first().copied().unwrap_or([0; 16]).into()))
    }

    /// The bytes of a purpose and a value; a value ends at its 255th byte.
    ///
    /// # Invariants
    /// No two inputs are worked through the same blocks: purpose and length come first.
    #[must_use]
    pub fn of(&self, purpose: u8, value: &[u8]) -> [u8; 16] {
        let value = value.get(..255).unwrap_or(value);
        let mut state = [0_u8; 16];
        let [first, second, rest @ ..] = &mut state;
        *first = purpose;
        *second = u8::try_from(value.len()).unwrap_or(u8::MAX);
        let (head, behind) = value.split_at_checked(rest.len()).unwrap_or((value, &[]));
        for (place, byte) in rest.iter_mut().zip(head) {
            *place = *byte;
        }
        let mut state = self.block(state);
        for piece in behind.chunks(16) {
            for (place, byte) in state.iter_mut().zip(piece) {
                *place ^= *byte;
            }
            state = self.block(state);
        }
        state
    }

    /// One block further: a draw for a small value under what `of` has drawn.
    #[must_use]
    pub fn next(&self, mut drawn: [u8; 16], value: [u8; 4]) -> [u8; 16] {
        for (place, byte) in drawn.iter_mut().zip(value) {
            *place ^= byte;
        }
        self.block(drawn)
    }

    fn block(&self, state: [u8; 16]) -> [u8; 16] {
        let mut block = Array::from(state);
        self.0.encrypt_block(&mut block);
        block.0
    }
}
