//! zstd frames from pieces.
//!
//! Rules of this file:
//! 1. `ruzstd` reads from a reader; a block (at most 128 KiB compressed) is given to it only when all of it has arrived, so that
//!    nothing is ever half read and any cut of the input gives the same output.
//! 2. Bounded: the window by `MAX_WINDOW`, a skippable frame by `MAX_SKIP`.
//!
//! Source: RFC 8878.
use std::io::Read;

use crate::bytes::le32;

/// Largest window that is decoded. zstd's own default limit for decoders is 128 MiB.
pub const MAX_WINDOW: u64 = 128 << 20;
/// Longest skippable frame.
pub const MAX_SKIP: usize = 16 << 20;
const MAGIC: u32 = 0xFD2F_B528;

struct Frame {
    decoder: ruzstd::decoding::FrameDecoder,
    has_checksum: bool,
}

/// Frames one after another.
#[derive(Default)]
pub struct ZstdStream {
    held: Vec<u8>,
    frame: Option<Frame>,
    failed: bool,
}

impl ZstdStream {
    /// Decode what is complete, appended to `plain`; false if the stream is damaged (and stays so).
    pub fn feed(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> bool {
        if self.failed {
            return false;
        }
        self.held.extend_from_slice(bytes);
        loop {
            let before = self.held.len();
            let ok = if self.frame.is_none() { self.open() } else { self.block(plain) };
            if !ok {
                self.failed = true;
                return false;
            }
            if self.held.len() == before {
                return true;
            }
        }
    }

    /// Whether the input so far ends at the end of a frame.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.failed && self.held.is_empty() && self.frame.is_none()
    }

    /// The input has ended: whether at the end of a frame. If not, what the decoder held back as its window is appended to `plain`.
    pub fn finish(&mut self, plain: &mut Vec<u8>) -> bool {
        let done = self.is_done();
        if let (false, Some(mut frame)) = (self.failed, self.frame.take()) {
            // A decoder hands out its window at the end of the frame alone: an empty last block makes one.
            let mut end: &[u8] = &[1, 0, 0, 0, 0, 0, 0];
            let strategy = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
            if frame.decoder.decode_blocks(&mut end, strategy).is_ok()
                && let Some(tail) = frame.decoder.collect()
            {
                plain.extend_from_slice(&tail);
            }
        }
        self.failed |= !done;
        done
    }

    fn take(&mut self, rest: usize) {
        let used = self.held.len().saturating_sub(rest);
        self.held.drain(..used);
    }

    fn open(&mut self) -> bool {
        let Some(magic) = le32(&self.held, 0) else { return true };
        if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
            let Some(length) = le32(&self.held, 4) else { return true };
            let end = 8_usize.saturating_add(length as usize);
            if end > MAX_SKIP {
                return false;
            }
            if self.held.len() >= end {
                self.held.drain(..end);
            }
            return true;
        }
        if magic != MAGIC {
            return false;
        }
        let Some(descriptor) = self.held.get(4).copied() else { return true };
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
        let content = [usize::from(single), 2, 4, 8].get(usize::from(descriptor >> 6)).copied().unwrap_or(0);
        let header_len =
            5_usize.saturating_add(usize::from(!single)).saturating_add(dictionary).saturating_add(content);
        if self.held.len() < header_len {
            return true;
        }
        let mut decoder = ruzstd::decoding::FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        let mut reader = self.held.as_slice();
        if decoder.init(&mut reader).is_err() {
            return false;
        }
        let rest = reader.len();
        self.take(rest);
        self.frame = Some(Frame { decoder, has_checksum: descriptor & 0x04 != 0 });
        true
    }

    fn block(&mut self, plain: &mut Vec<u8>) -> bool {
        let Some(frame) = self.frame.as_mut() else { return true };
        let [first, second, third, ..] = self.held.as_slice() else { return true };
        let header = u32::from_le_bytes([*first, *second, *third, 0]);
        let (last, kind, size) = (header & 1 == 1, (header >> 1) & 3, (header >> 3) as usize);
        let body = if kind == 1 { 1 } else { size };
        if kind == 3 || body > (128 << 10) {
            return false;
        }
        let checksum = if last && frame.has_checksum { 4 } else { 0 };
        if self.held.len() < 3_usize.saturating_add(body).saturating_add(checksum) {
            return true;
        }
        let mut reader = self.held.as_slice();
        let strategy = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
        if frame.decoder.decode_blocks(&mut reader, strategy).is_err() {
            return false;
        }
        let rest = reader.len();
        let mut piece = vec![0_u8; frame.decoder.can_collect()];
        let length = frame.decoder.read(&mut piece).unwrap_or(0);
        plain.extend_from_slice(piece.get(..length).unwrap_or(&[]));
        let mut ok = true;
        if frame.decoder.is_finished() {
            if let Some(tail) = frame.decoder.collect() {
                plain.extend_from_slice(&tail);
            }
            // Of what was collected: so it can be compared only now.
            ok = !frame.has_checksum
                || frame.decoder.get_checksum_from_data() == frame.decoder.get_calculated_checksum();
            self.frame = None;
        }
        self.take(rest);
        ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(head: &[u8]) -> bool {
        ZstdStream::default().feed(head, &mut Vec::new())
    }

    #[test]
    fn skippable_frame_is_awaited_up_to_its_limit() {
        // The length that a frame claims does not count its own eight bytes.
        for (claimed, fine) in [(MAX_SKIP - 9, true), (MAX_SKIP - 8, true), (MAX_SKIP - 7, false)] {
            let length = u32::try_from(claimed).unwrap_or(0).to_le_bytes();
            assert_eq!(taken(&[[0x50, 0x2A, 0x4D, 0x18], length].concat()), fine, "{claimed}");
        }
    }

    #[test]
    fn window_is_taken_up_to_its_limit() {
        // A window descriptor: exponent above 10 and eighths (RFC 8878 section 3.1.1.1.2).
        let window = |descriptor: u8| {
            let base = 1_u64 << (10 + (descriptor >> 3));
            base + base / 8 * u64::from(descriptor & 7)
        };
        for (descriptor, fine) in [(0x87, true), (0x88, true), (0x89, false)] {
            assert_eq!(window(descriptor) <= MAX_WINDOW, fine);
            let head = [MAGIC.to_le_bytes().as_slice(), &[0, descriptor]].concat();
            assert_eq!(taken(&head), fine, "{descriptor:x}");
        }
        assert_eq!(window(0x88), MAX_WINDOW);
    }
}
