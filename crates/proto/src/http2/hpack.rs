//! HPACK (RFC 7541): header blocks to names and values.
//!
//! Own code instead of a crate: a watcher must go on where an endpoint gives up. After bytes were lost the dynamic table is not the
//! encoder's any more; fields that refer to it are left out then, and the rest is still told.
//!
//! Rules of this file:
//! 1. What a block unfolds to is bounded by the caller's `room`, the table by [`TABLE_BYTES`].
//! 2. A block that cannot be read leaves the decoder in doubt, not the program.
use std::collections::VecDeque;
use std::sync::LazyLock;

use super::tables::{HUFFMAN, STATIC};

/// Bytes of a dynamic table at most, whatever the peers agree on. Chromium and nginx: 64 KiB, 4 KiB.
pub const TABLE_BYTES: usize = 64 << 10;
/// What an entry costs besides its bytes (RFC 7541 section 4.1).
const ENTRY: usize = 32;
const DEFAULT_TABLE: usize = 4_096;

/// A header block that cannot be read, or unfolds to too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HpackFault {
    /// It ends inside a field.
    Short,
    /// A number that is too large.
    Number,
    /// An index that stands for nothing.
    Index,
    /// Huffman code that is none.
    Huffman,
    /// More than the caller has room for.
    TooMuch,
}

/// One direction's dynamic table.
pub struct Decoder {
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    used: usize,
    size: usize,
    allowed: usize,
    doubtful: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), used: 0, size: DEFAULT_TABLE, allowed: DEFAULT_TABLE, doubtful: false }
    }
}

impl Decoder {
    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.used
    }

    /// A block was lost: the table is not the encoder's any more.
    pub fn doubt(&mut self) {
        self.doubtful = true;
        self.table.clear();
        self.used = 0;
    }

    /// The peer allows a table of this size (SETTINGS_HEADER_TABLE_SIZE).
    pub fn allow(&mut self, bytes: u32) {
        self.allowed = (bytes as usize).min(TABLE_BYTES);
    }

    /// Read a whole header block; `field` hears of each name and value, `room` bounds their bytes.
    ///
    /// # Errors
    /// The block cannot be read; what came before is told, the table is in doubt from now on.
    pub fn block(&mut self, block: &[u8], room: usize, mut field: impl FnMut(&[u8], &[u8])) -> Result<(), HpackFault> {
        let read = self.fields(block, room, &mut field);
        if read.is_err() {
            self.doubt();
        }
        read
    }

    fn fields(
        &mut self,
        block: &[u8],
        mut room: usize,
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackFault> {
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            let (name, value, keep) = match first {
                0x80.. => {
                    let index = number(&mut rest, 7)?;
                    match self.entry(index)? {
                        Some((name, value)) => (name.to_vec(), value.to_vec(), false),
                        None => continue,
                    }
                }
                0x20..=0x3F => {
                    self.resize(number(&mut rest, 5)?)?;
                    continue;
                }
                _ => {
                    let keep = first & 0x40 != 0;
                    let index = number(&mut rest, if keep { 6 } else { 4 })?;
                    let name = if index == 0 {
                        Some(string(&mut rest, room)?)
                    } else {
                        self.entry(index)?.map(|(name, _)| name.to_vec())
                    };
                    let value = string(&mut rest, room)?;
                    let Some(name) = name else {
                        // An entry whose name is lost still takes its place in the table.
                        if keep {
                            self.insert(Vec::new(), value);
                        }
                        continue;
                    };
                    (name, value, keep)
                }
            };
            room = room
                .checked_sub(name.len().saturating_add(value.len()).saturating_add(ENTRY))
                .ok_or(HpackFault::TooMuch)?;
            field(&name, &value);
            if keep {
                self.insert(name, value);
            }
        }
        Ok(())
    }

    /// An entry of the static or dynamic table; None: it is one that was lost.
    fn entry(&self, index: usize) -> Result<Option<(&[u8], &[u8])>, HpackFault> {
        let place = index.checked_sub(1).ok_or(HpackFault::Index)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok(Some((name, value)));
        }
        match self.table.get(place.saturating_sub(STATIC.len())) {
            Some((name, _)) if name.is_empty() => Ok(None),
            Some((name, value)) => Ok(Some((name, value))),
            None if self.doubtful => Ok(None),
            None => Err(HpackFault::Index),
        }
    }

    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let cost = name.len().saturating_add(value.len()).saturating_add(ENTRY);
        self.used = self.used.saturating_add(cost);
        self.table.push_front((name, value));
        self.evict();
    }

    fn evict(&mut self) {
        while self.used > self.size {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.used = self.used.saturating_sub(name.len().saturating_add(value.len()).saturating_add(ENTRY));
        }
    }

    fn resize(&mut self, size: usize) -> Result<(), HpackFault> {
        if size > self.allowed.max(DEFAULT_TABLE) {
            return Err(HpackFault::Number);
        }
        self.size = size;
        self.evict();
        Ok(())
    }
}

/// An integer with a prefix of `bits` (RFC 7541 section 5.1).
fn number(rest: &mut &[u8], bits: u32) -> Result<usize, HpackFault> {
    let (first, after) = rest.split_first().ok_or(HpackFault::Short)?;
    *rest = after;
    let mask = 0xFFu8 >> 8u32.saturating_sub(bits);
    let mut value = usize::from(first & mask);
    if value < usize::from(mask) {
        return Ok(value);
    }
    for shift in [0u32, 7, 14, 21] {
        let (byte, after) = rest.split_first().ok_or(HpackFault::Short)?;
        *rest = after;
        value = value.saturating_add(usize::from(byte & 0x7F) << shift);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackFault::Number)
}

/// A string literal (RFC 7541 section 5.2).
fn string(rest: &mut &[u8], room: usize) -> Result<Vec<u8>, HpackFault> {
    let coded = rest.first().ok_or(HpackFault::Short)? & 0x80 != 0;
    let length = number(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or(HpackFault::Short)?;
    *rest = after;
    if !coded {
        return if text.len() > room { Err(HpackFault::TooMuch) } else { Ok(text.to_vec()) };
    }
    unfold(text, room)
}

/// The Huffman tree: for each node the two that follow, or a byte (as `LEAF + byte`).
static TREE: LazyLock<Vec<[u16; 2]>> = LazyLock::new(tree);
const LEAF: u16 = 0x8000;
const NOWHERE: u16 = 0;

fn tree() -> Vec<[u16; 2]> {
    let mut nodes: Vec<[u16; 2]> = vec![[NOWHERE; 2]];
    for (symbol, (code, bits)) in HUFFMAN.iter().enumerate() {
        let mut node = 0usize;
        for shift in (0..*bits).rev() {
            let bit = (code >> shift & 1) as usize;
            let fresh = u16::try_from(nodes.len()).unwrap_or(NOWHERE);
            let Some(place) = nodes.get_mut(node).and_then(|pair| pair.get_mut(bit)) else { break };
            if shift == 0 {
                *place = LEAF | u16::try_from(symbol).unwrap_or(0);
            } else if *place == NOWHERE {
                *place = fresh;
                node = usize::from(fresh);
                nodes.push([NOWHERE; 2]);
            } else {
                node = usize::from(*place);
            }
        }
    }
    nodes
}

fn unfold(coded: &[u8], room: usize) -> Result<Vec<u8>, HpackFault> {
    let mut out = Vec::with_capacity(coded.len().saturating_mul(8) / 5);
    // `padding`: bits since the last symbol; all ones and fewer than 8 they are padding.
    let (mut node, mut padding, mut ones) = (0usize, 0u32, true);
    for byte in coded {
        for shift in (0..8u32).rev() {
            let bit = usize::from(byte >> shift & 1);
            let next = TREE.get(node).and_then(|pair| pair.get(bit)).copied().unwrap_or(NOWHERE);
            padding = padding.saturating_add(1);
            ones &= bit == 1;
            if next & LEAF != 0 {
                let symbol = u8::try_from(next & !LEAF).map_err(|_| HpackFault::Huffman)?; // 256 ends the string: not allowed
                if out.len() >= room {
                    return Err(HpackFault::TooMuch);
                }
                out.push(symbol);
                (node, padding, ones) = (0, 0, true);
            } else if next == NOWHERE {
                return Err(HpackFault::Huffman);
            } else {
                node = usize::from(next);
            }
        }
    }
    if padding < 8 && ones { Ok(out) } else { Err(HpackFault::Huffman) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    fn read(decoder: &mut Decoder, hex: &str) -> Vec<String> {
        let mut found = Vec::new();
        decoder
            .block(&bytes(hex), 65_536, |name, value| {
                found.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
            })
            .unwrap();
        found
    }

    #[test]
    fn the_examples_of_the_standard_read_as_it_says() {
        // RFC 7541, appendix C.4: three requests with Huffman coding on one connection.
        let mut decoder = Decoder::default();
        let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        assert_eq!(read(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff"), first);
        let second = [&first[..], &["cache-control: no-cache"]].concat();
        assert_eq!(read(&mut decoder, "828684be5886a8eb10649cbf"), second);
        let third = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        assert_eq!(read(&mut decoder, "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"), third);
    }

    #[test]
    fn the_table_evicts_as_the_standard_says() {
        // Appendix C.6: a table of 256 bytes.
        let mut decoder = Decoder::default();
        decoder.size = 256;
        let first = read(
            &mut decoder,
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        );
        assert_eq!(first[0], ":status: 302");
        assert_eq!(first[3], "location: https://www.example.com");
        assert_eq!(read(&mut decoder, "4883640effc1c0bf")[0], ":status: 307");
        assert!(decoder.used <= 256);
    }

    #[test]
    fn what_is_no_block_is_refused_and_bounded() {
        let refused = |hex: &str, room: usize| Decoder::default().block(&bytes(hex), room, |_, _| {}).unwrap_err();
        assert_eq!(refused("80", 100), HpackFault::Index);
        assert_eq!(refused("be", 100), HpackFault::Index);
        assert_eq!(refused("ffffffffffff", 100), HpackFault::Number);
        assert_eq!(refused("40", 100), HpackFault::Short);
        assert_eq!(refused("3fffffff7f", 100), HpackFault::Number);
        assert_eq!(refused("82848684", 60), HpackFault::TooMuch);
        assert_eq!(refused("0081ff00", 100), HpackFault::Huffman);
    }

    #[test]
    fn after_a_loss_what_is_known_is_still_told() {
        let mut decoder = Decoder::default();
        decoder.doubt();
        assert_eq!(read(&mut decoder, "82be84"), [":method: GET", ":path: /"]);
    }

    #[test]
    fn a_table_grows_up_to_its_bound_whatever_the_peer_allows() {
        let resized = |allowed: u32, size: usize| {
            let mut decoder = Decoder::default();
            decoder.allow(allowed);
            decoder.resize(size).is_ok()
        };
        for (size, fine) in [(TABLE_BYTES - 1, true), (TABLE_BYTES, true), (TABLE_BYTES + 1, false)] {
            assert_eq!(resized(u32::MAX, size), fine, "{size}");
        }
        assert!(!resized(DEFAULT_TABLE as u32, DEFAULT_TABLE + 1), "more than was allowed");
    }
}
