//! Zeek's history letters: each once a direction, but for those that count (`C G T W`), which come again at 10, 100, 1,000.
use crate::event::Direction;

const LETTERS: [u8; 14] = *b"SHADFRCTGWIQ^X";
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
        self.text.push(match direction {
            Direction::Orig => letter,
            Direction::Resp => letter.to_ascii_lowercase(),
        });
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
