//! Bytes of one bounded message that arrive in pieces and in any order: QUIC's CRYPTO frames, DTLS fragments.
//!
//! Rules of this file:
//! 1. The first copy of a byte wins.
//! 2. What lies beyond the bound, or in more than [`PIECES`] separate pieces, is dropped.
use std::collections::BTreeMap;

/// Separate pieces held behind a hole. Chrome scatters its hello over a dozen.
pub const PIECES: usize = 64;

/// The front that is complete, and pieces behind holes.
pub struct Pieces {
    front: Vec<u8>,
    behind: BTreeMap<usize, Vec<u8>>,
    behind_bytes: usize,
    limit: usize,
}

impl Pieces {
    /// Nothing yet; at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { front: Vec::new(), behind: BTreeMap::new(), behind_bytes: 0, limit }
    }

    /// Bytes without a hole from the start on.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        &self.front
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.front.capacity().saturating_add(self.behind_bytes).saturating_add(self.behind.len().saturating_mul(64))
    }

    /// Take a piece. False: it is beyond the bounds.
    pub fn add(&mut self, start: usize, bytes: &[u8]) -> bool {
        let fits = start.checked_add(bytes.len()).is_some_and(|end| end <= self.limit);
        if !fits {
            return false;
        }
        if start > self.front.len() {
            let known = self.behind.get(&start).map_or(0, Vec::len);
            if bytes.len() > known {
                if known == 0 && self.behind.len() >= PIECES {
                    return false;
                }
                // Pieces overlap at most as often as they are many: the sum stays below twice the limit.
                if self.behind_bytes.saturating_add(bytes.len()) > self.limit.saturating_mul(2) {
                    return false;
                }
                self.behind_bytes = self.behind_bytes.saturating_sub(known).saturating_add(bytes.len());
                let piece = self.behind.entry(start).or_default();
                piece.extend_from_slice(bytes.get(known..).unwrap_or_default());
            }
            return true;
        }
        self.extend(start, bytes);
        while let Some(entry) = self.behind.first_entry() {
            if *entry.key() > self.front.len() {
                break;
            }
            let (start, piece) = entry.remove_entry();
            self.behind_bytes = self.behind_bytes.saturating_sub(piece.len());
            self.extend(start, &piece);
        }
        true
    }

    fn extend(&mut self, start: usize, bytes: &[u8]) {
        let known = self.front.len().saturating_sub(start);
        self.front.extend_from_slice(bytes.get(known..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_of_overlapping_pieces_gives_the_bytes(
            whole in proptest::collection::vec(any::<u8>(), 1..200),
            cuts in proptest::collection::vec((any::<usize>(), 1usize..80), 0..40),
        ) {
            let mut pieces = Pieces::new(200);
            for (start, length) in cuts {
                let start = start % whole.len();
                let end = start.saturating_add(length).min(whole.len());
                pieces.add(start, whole.get(start..end).unwrap_or_default());
                prop_assert!(whole.starts_with(pieces.front()));
            }
            for start in (0..whole.len()).rev() {
                pieces.add(start, whole.get(start..=start).unwrap_or_default());
            }
            // Single bytes may have found the list of pieces full; a second round closes every hole.
            for start in 0..whole.len() {
                pieces.add(start, whole.get(start..=start).unwrap_or_default());
            }
            prop_assert_eq!(pieces.front(), whole.as_slice());
            prop_assert_eq!(pieces.behind_bytes, 0);
        }
    }

    #[test]
    fn bounds_hold_and_the_first_copy_wins() {
        let mut pieces = Pieces::new(4);
        assert!(pieces.add(0, b"ab") && pieces.add(0, b"XYcd"));
        assert_eq!(pieces.front(), b"abcd");
        assert!(!pieces.add(4, b"e") && !pieces.add(usize::MAX, b"e"));
        let mut pieces = Pieces::new(1000);
        for number in 0..PIECES {
            assert!(pieces.add(2 + 2 * number, b"x"));
        }
        assert!(!pieces.add(900, b"x"));
    }
}
