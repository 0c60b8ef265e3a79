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

    /// A seed for hash tables: an attacker who chooses what is hashed does not know it.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.derive("table", "", "").first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The clock of the run: how far times are shifted, and which epoch a time lies in.
    #[must_use]
    pub fn clock(&self, rotation: Rotation) -> Clock {
        Clock { shift_ns: shift_of(&self.derive("time", "shift", "run")), rotation }
    }

    /// The run is over.
    pub fn forget(&mut self) {
        self.root.zeroize();
    }
}

/// BLAKE3 of public content (sealed lists), hex. Not for traffic: there is no unkeyed hash among the transforms.
#[must_use]
pub fn digest_hex(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

/// How long keys are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// The whole run.
    Run,
    /// A day of packet time.
    Day,
    /// An hour of packet time.
    Hour,
}

impl Rotation {
    /// Length, ns; none for the run.
    #[must_use]
    pub const fn length_ns(self) -> Option<i64> {
        match self {
            Self::Run => None,
            Self::Day => Some(DAY_NS),
            Self::Hour => Some(DAY_NS / 24),
        }
    }
}

const DAY_NS: i64 = 86_400_000_000_000;

/// Time as the run shows it.
///
/// Epochs are counted on the shifted clock: were they counted on the true one, the moment at which all pseudonyms change would tell the
/// shift to the day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Added to every time, ns; at least two days, at most ten years, either way.
    pub shift_ns: i64,
    /// How long keys are used.
    pub rotation: Rotation,
}

impl Clock {
    /// The number of the epoch that a true time lies in; 0 if the run is one epoch.
    #[must_use]
    pub const fn epoch(&self, ts_ns: i64) -> i64 {
        match self.rotation.length_ns() {
            Some(length) => match ts_ns.saturating_add(self.shift_ns).checked_div_euclid(length) {
                Some(number) => number,
                None => 0,
            },
            None => 0,
        }
    }

    /// The name under which the keys of an epoch are derived.
    #[must_use]
    pub fn name(&self, epoch: i64) -> String {
        match self.rotation {
            Rotation::Run => "run".to_owned(),
            Rotation::Day => format!("day {epoch}"),
            Rotation::Hour => format!("hour {epoch}"),
        }
    }

    /// A time as it leaves: shifted, then cut to a grain.
    #[must_use]
    pub const fn shifted(&self, ts_ns: i64, grain_ns: i64) -> i64 {
        let shifted = ts_ns.saturating_add(self.shift_ns);
        match shifted.checked_rem_euclid(grain_ns) {
            Some(rest) => shifted.saturating_sub(rest),
            None => shifted,
        }
    }
}

/// Up to ten years either way, never less than two days.
fn shift_of(key: &[u8; 32]) -> i64 {
    let (chunks, _) = key.as_chunks::<8>();
    let [amount, sign, ..] = chunks else { return 0 };
    let (drawn, sign) = (u64::from_le_bytes(*amount), u64::from_le_bytes(*sign));
    let span = u64::try_from(DAY_NS.saturating_mul(3_650)).unwrap_or(1);
    let amount =
        i64::try_from(drawn.checked_rem(span).unwrap_or(0)).unwrap_or(0).saturating_add(DAY_NS.saturating_mul(2));
    if sign & 1 == 0 { amount } else { amount.saturating_neg() }
}
