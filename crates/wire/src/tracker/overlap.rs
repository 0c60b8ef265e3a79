//! Whose bytes count where segments overlap.
//!
//! Rules of this file:
//! 1. A host never takes back what it has accepted: a policy is about bytes that wait behind a hole, not about delivered ones.
//! 2. A policy compares the edges of the new segment with those of each segment that waits, as they came on the wire.
//!
//! Source: Novak, Sturges, "Target-Based TCP Stream Reassembly" (2007), as Suricata's unit tests have it (`src/tests/stream-tcp-list.c`).
//! `bsd-right` has no TCP stack among them; it is the mirror of `bsd` (the paper's fragment policy of that name).
use crate::event::Address;

/// Which of two copies of a byte is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// The one that came first.
    #[default]
    First,
    /// The one that came last.
    Last,
    /// The first, but a segment that begins before the older one wins: BSD, AIX, FreeBSD, HP-UX 10, IRIX, macOS, Windows.
    Bsd,
    /// The last, unless it begins before the older one.
    BsdRight,
    /// As BSD; also one that begins with the older one and ends behind it.
    Linux,
    /// As BSD; also one that begins with the older one and ends with or behind it (Linux 2.2).
    OldLinux,
    /// One that covers the end of the older one, and all that begins before it and covers it: Solaris, HP-UX 11.
    Solaris,
}

/// Names as an experiment has them; several systems behave alike.
const NAMES: [(&str, Policy); 14] = [
    ("first", Policy::First),
    ("last", Policy::Last),
    ("bsd", Policy::Bsd),
    ("bsd-right", Policy::BsdRight),
    ("linux", Policy::Linux),
    ("old-linux", Policy::OldLinux),
    ("solaris", Policy::Solaris),
    ("hpux10", Policy::Bsd),
    ("hpux11", Policy::Solaris),
    ("irix", Policy::Bsd),
    ("macos", Policy::Bsd),
    ("windows", Policy::Bsd),
    ("windows2k3", Policy::Bsd),
    ("vista", Policy::First),
];

impl Policy {
    /// The policy of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Whether the edges of waiting segments matter.
    #[must_use]
    pub const fn looks_at_edges(self) -> bool {
        !matches!(self, Self::First | Self::Last)
    }

    /// Whether a new segment's bytes replace those of a waiting one that it overlaps. Edges: first and one past the last.
    #[must_use]
    pub fn new_wins(self, new: (i64, i64), old: (i64, i64)) -> bool {
        let (before, same) = (new.0 < old.0, new.0 == old.0);
        match self {
            Self::First => false,
            Self::Last => true,
            Self::Bsd => before,
            Self::BsdRight => !before,
            Self::Linux => before || (same && new.1 > old.1),
            Self::OldLinux => before || (same && new.1 >= old.1),
            Self::Solaris => {
                if before || same {
                    new.1 >= old.1
                } else {
                    new.1 > old.1
                }
            }
        }
    }
}

/// The policy of each host that receives: a default, and prefixes of which the longest that fits decides.
#[derive(Clone, Debug, Default)]
pub struct Overlap {
    default: Policy,
    hosts: Vec<(Address, u8, Policy)>,
}

impl Overlap {
    /// One policy for all.
    #[must_use]
    pub const fn all(default: Policy) -> Self {
        Self { default, hosts: Vec::new() }
    }

    /// Another policy for the hosts below a prefix; `length` counts bits of the 128 (IPv4: 96 more than written).
    pub fn set(&mut self, prefix: Address, length: u8, policy: Policy) {
        self.hosts.push((prefix, length.min(128), policy));
        self.hosts.sort_by_key(|(_, length, _)| core::cmp::Reverse(*length));
    }

    /// The policy of a host.
    #[must_use]
    pub fn of(&self, host: Address) -> Policy {
        let bits = u128::from_be_bytes(host.0);
        let below = |prefix: Address, length: u8| {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(length))).unwrap_or(0);
            (bits ^ u128::from_be_bytes(prefix.0)) & mask == 0
        };
        self.hosts
            .iter()
            .find(|(prefix, length, _)| below(*prefix, *length))
            .map_or(self.default, |(_, _, policy)| *policy)
    }
}
