//! Zeek's history letters: each once a direction, but for those that count (`C G T W`), which come again at 10, 100, 1,000, and
//! for `S H F R`, which come again when the sequence number is another one. At most [`LETTERS_KEPT`] are kept.
use crate::event::Direction;

const LETTERS: [u8; 14] = *b"SHADFRCTGWIQ^X";
/// Letters of one history. Resets with ever new sequence numbers would make it grow; Zeek has no bound.
pub const LETTERS_KEPT: usize = 128;
const COUNTED: [u8; 4] = *b"CTGW";

/// The letters so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    text: Vec<u8>,
    once: [u16; 2],
    counts: [[u32; 4]; 2],
}

impl History {
    /// Note an event. `letter` is upper case; the direction decides the case that is written.
    pub fn note(&mut self, direction: Direction, letter: u8) {
        let Some(place) = LETTERS.iter().position(|known| *known == letter) else { return };
        let side = direction.index();
        if let Some(counted) = COUNTED.iter().position(|known| *known == letter) {
            let Some(count) = self.counts.get_mut(side).and_then(|side| side.get_mut(counted)) else { return };
            *count = count.saturating_add(1);
            if !is_power_of_ten(*count) {
                return;
            }
        } else {
            let Some(seen) = self.once.get_mut(side) else { return };
            let bit = 1_u16 << place;
            if *seen & bit != 0 {
                return;
            }
            *seen |= bit;
        }
        self.push(direction, letter);
    }

    /// Note an event that is told again when it comes with another sequence number than the last one.
    pub fn note_numbered(&mut self, direction: Direction, letter: u8, is_same: bool) {
        if !self.has(direction, letter) {
            self.note(direction, letter);
        } else if !is_same {
            self.push(direction, letter);
        }
    }

    fn has(&self, direction: Direction, letter: u8) -> bool {
        let Some(place) = LETTERS.iter().position(|known| *known == letter) else { return false };
        self.once.get(direction.index()).is_some_and(|seen| seen & (1_u16 << place) != 0)
    }

    fn push(&mut self, direction: Direction, letter: u8) {
        if self.text.len() < LETTERS_KEPT {
            self.text.push(match direction {
                Direction::Orig => letter,
                Direction::Resp => letter.to_ascii_lowercase(),
            });
        }
    }

    /// The roles were flipped.
    pub fn flip(&mut self) {
        self.text.push(b'^');
    }

    /// The letters.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.iter().map(|letter| char::from(*letter)).collect()
    }
}

const fn is_power_of_ten(count: u32) -> bool {
    matches!(count, 1 | 10 | 100 | 1_000 | 10_000 | 100_000 | 1_000_000 | 10_000_000 | 100_000_000 | 1_000_000_000)
}
