//! Zeek's history letters: each once a direction, but for those that count (`C G T W`), which come again at 10, 100, 1,000, and
//! for `S H F R`, which come again when the sequence number is another one. At most [`LETTERS_KEPT`] are kept.
use crate::event::Direction;

/// Letters of one history. Resets with ever new sequence numbers would make it grow; Zeek has no bound.
pub const LETTERS_KEPT: usize = 128;
const COUNTED: [u8; 4] = *b"CTGW";

const INLINE: usize = 15;

/// The letters so far; few flows have more than fit in here.
#[derive(Clone, Debug, Default)]
pub struct History {
    text: [u8; INLINE],
    length: u8,
    once: [u32; 2],
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default)]
struct Rare {
    more: Vec<u8>,
    counts: [[u32; 4]; 2],
}

impl History {
    /// Note an event. `letter` is upper case; the direction decides the case that is written.
    pub fn note(&mut self, direction: Direction, letter: u8) {
        let side = direction.index();
        if let Some(counted) = COUNTED.iter().position(|known| *known == letter) {
            let counts = &mut self.rare.get_or_insert_default().counts;
            let Some(count) = counts.get_mut(side).and_then(|side| side.get_mut(counted)) else { return };
            *count = count.saturating_add(1);
            if !is_power_of_ten(*count) {
                return;
            }
        } else {
            let Some(seen) = self.once.get_mut(side) else { return };
            if *seen & bit(letter) != 0 {
                return;
            }
            *seen |= bit(letter);
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
        self.once.get(direction.index()).is_some_and(|seen| seen & bit(letter) != 0)
    }

    fn push(&mut self, direction: Direction, letter: u8) {
        self.append(match direction {
            Direction::Orig => letter,
            Direction::Resp => letter.to_ascii_lowercase(),
        });
    }

    fn append(&mut self, letter: u8) {
        let length = usize::from(self.length);
        if let Some(place) = self.text.get_mut(length) {
            *place = letter;
        } else if length < LETTERS_KEPT {
            self.rare.get_or_insert_default().more.push(letter);
        } else {
            return;
        }
        self.length = self.length.saturating_add(1);
    }

    /// The roles were flipped.
    pub fn flip(&mut self) {
        self.append(b'^');
    }

    /// The letters.
    #[must_use]
    pub fn text(&self) -> String {
        let inline = self.text.iter().take(usize::from(self.length));
        let more = self.rare.iter().flat_map(|rare| &rare.more);
        inline.chain(more).map(|letter| char::from(*letter)).collect()
    }
}

/// One bit a letter.
const fn bit(letter: u8) -> u32 {
    1_u32.wrapping_shl(letter.wrapping_sub(b'A') as u32)
}

const fn is_power_of_ten(count: u32) -> bool {
    matches!(count, 1 | 10 | 100 | 1_000 | 10_000 | 100_000 | 1_000_000 | 10_000_000 | 100_000_000 | 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_kept_up_to_their_limit() {
        for (events, kept) in
            [(LETTERS_KEPT - 1, LETTERS_KEPT - 1), (LETTERS_KEPT, LETTERS_KEPT), (LETTERS_KEPT + 1, LETTERS_KEPT)]
        {
            let mut history = History::default();
            for _ in 0..events {
                history.note_numbered(Direction::Orig, b'R', false);
            }
            assert_eq!(history.text(), "R".repeat(kept));
        }
    }
}
