//! Keys of clearing: one random root a run, everything else derived from it and dying with it.
//!
//! Rules of this file:
//! 1. A key has no `Debug`, no `Clone`, and is overwritten when it goes.
//! 2. Derivation names purpose, domain and epoch, so that equal values in different domains or epochs do not look equal, and so
//!    that boxes which agree on a root agree on every key (DESIGN section 5).
use zeroize::{Zeroize, Zeroizing};

const CONTEXT: &str = "bunker 2026 clearing v1";

/// The run's root.
pub struct Keys {
    root: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// Take a root; the caller's copy is overwritten.
    #[must_use]
    pub fn new(root: &mut [u8; 32]) -> Self {
        let keys = Self { root: Zeroizing::new(*root) };
        root.zeroize();
        keys
    }

    /// A second holder of the same root, for another stage of the same run; each forgets its own.
    pub(crate) fn shared(&self) -> Self {
        Self { root: self.root.clone() }
    }

    /// The key for a purpose ("tag", "pfx", "time") in a domain, for an epoch.
    #[must_use]
    pub fn derive(&self, purpose: &str, domain: &str, epoch: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        for part in [purpose, domain, epoch] {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(self.root.as_slice());
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        hasher.zeroize();
        key
    }

    /// The run is over.
    pub fn forget(&mut self) {
        self.root.zeroize();
    }
}
