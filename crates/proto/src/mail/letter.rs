//! One message as it passes: its header, its MIME parts, its size; bounded, whatever it says of itself.
//!
//! Rules of this file:
//! 1. Streaming: of a message only its header, the head of one part, and one line are held; its bytes only if somebody asked.
//! 2. Parts are decoded (base64, quoted-printable), counted, typed by their bytes, hashed if asked; their bytes are not kept.
//! 3. A boundary belongs to the innermost part that declared it; a line that is none is content.
//!
//! Limits: [`HEAD_BYTES`], [`PART_HEAD_BYTES`], [`PARTS`], [`NESTING`], [`KEEP_BYTES`].
use super::flags;
use super::header::{bare, fields, hex_pair, parameter};
use crate::body::{BodyLimits, BodyReader};
use crate::columns::{TextItems, push_hex};

/// Bytes of a message's header that are read. Postfix: 102,400 (`header_size_limit`), Exim 1 MiB; real ones 2 to 20 KiB.
pub const HEAD_BYTES: usize = 1 << 16;
/// Bytes of one part's header that are read.
pub const PART_HEAD_BYTES: usize = 1 << 13;
/// Parts that are described; all are counted. Real messages have below 50.
pub const PARTS: usize = 128;
/// Multiparts inside multiparts. Postfix: 100 (`mime_nesting_limit`); real ones below 6.
pub const NESTING: usize = 8;
/// Bytes of a message kept for an analyzer that asked for bodies. As HTTP's.
pub const KEEP_BYTES: usize = 1 << 20;
/// Bytes of one line that are looked at together: a boundary has at most 70 (RFC 2046 section 5.1.1).
const PIECE_BYTES: usize = 2_048;

/// What is asked for beyond the facts.
#[derive(Clone, Copy, Default)]
pub struct Asked {
    /// The header, raw.
    pub heads: bool,
    /// The message, raw.
    pub bodies: bool,
    /// Hashes of parts.
    pub hashes: bool,
}

/// A message that passes.
pub struct Letter {
    asked: Asked,
    /// Bytes so far, those missing included.
    pub size: u64,
    /// Anomalies, bits of `mail::flags`.
    pub flags: u64,
    /// The message's header, complete or so far.
    pub head: Vec<u8>,
    /// The first bytes of the message, if asked.
    pub kept: Vec<u8>,
    /// Leaf parts.
    pub parts: u64,
    /// Type of each part, as declared.
    pub part_types: TextItems,
    /// File names.
    pub file_names: TextItems,
    /// Type of each part by its bytes; empty: unknown.
    pub part_mimes: TextItems,
    /// SHA-256 of each part, decoded.
    pub part_sha256: TextItems,
    /// Bytes of each part, decoded.
    pub part_sizes: TextItems,
    /// Declared type of the whole.
    pub content_type: Vec<u8>,
    state: State,
    boundaries: Vec<Vec<u8>>,
    part_head: Vec<u8>,
    part: Option<Part>,
    line: Vec<u8>,
    line_begun: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    PartHead,
    Content,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Base64,
    Quoted,
}

struct Part {
    coding: Coding,
    reader: BodyReader,
    described: bool,
    /// The line end that belongs to a boundary if one follows.
    line_end: Vec<u8>,
    bits: u32,
    count: u32,
    pending: Vec<u8>,
}

impl Letter {
    /// A message that begins with its header; `content`: it is content alone.
    #[must_use]
    pub fn new(asked: Asked, content: bool) -> Self {
        let mut letter = Self {
            asked,
            size: 0,
            flags: 0,
            head: Vec::new(),
            kept: Vec::new(),
            parts: 0,
            part_types: TextItems::new(),
            file_names: TextItems::new(),
            part_mimes: TextItems::new(),
            part_sha256: TextItems::new(),
            part_sizes: TextItems::new(),
            content_type: Vec::new(),
            state: State::Head,
            boundaries: Vec::new(),
            part_head: Vec::new(),
            part: None,
            line: Vec::new(),
            line_begun: false,
        };
        if content {
            letter.state = State::Content;
            letter.begin_part(Coding::Plain, &[], &[]);
        }
        letter
    }

    /// Message bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.asked.bodies {
            let room = KEEP_BYTES.saturating_sub(self.kept.len());
            if bytes.len() > room {
                self.flags |= flags::BODY_CUT;
            }
            self.kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map(|end| end.saturating_add(1));
            let room = PIECE_BYTES.saturating_sub(self.line.len());
            let count = end.unwrap_or(rest.len()).min(room);
            let (now, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = after;
            self.line.extend_from_slice(now);
            let complete = end.is_some_and(|end| end <= count);
            if complete || self.line.len() >= PIECE_BYTES {
                let mut line = core::mem::take(&mut self.line);
                self.piece(&line, !self.line_begun);
                self.line_begun = !complete;
                line.clear();
                self.line = line;
            }
        }
    }

    /// Bytes are missing.
    pub fn gap(&mut self, length: u64) {
        self.flags |= flags::GAP;
        self.size = self.size.saturating_add(length);
        let line = core::mem::take(&mut self.line);
        self.piece(&line, !self.line_begun);
        self.line_begun = true;
    }

    /// The message is over.
    pub fn finish(&mut self) {
        let line = core::mem::take(&mut self.line);
        if !line.is_empty() {
            self.piece(&line, !self.line_begun);
        }
        match self.state {
            State::Head => self.head_ends(),
            State::PartHead => self.part_head_ends(),
            State::Content => {}
        }
        self.end_part(true);
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let lists = [&self.part_types, &self.file_names, &self.part_mimes, &self.part_sha256, &self.part_sizes];
        let lists = lists.iter().fold(0usize, |sum, list| sum.saturating_add(list.live_bytes()));
        let part = self.part.as_ref().map_or(0, |part| part.reader.live_bytes().saturating_add(size_of::<Part>()));
        [self.head.capacity(), self.kept.capacity(), self.part_head.capacity(), self.line.capacity(), part, lists]
            .iter()
            .fold(size_of::<Self>(), |sum, bytes| sum.saturating_add(*bytes))
    }

    /// A line with its end, or a piece of a longer one.
    fn piece(&mut self, piece: &[u8], begins: bool) {
        let is_blank = begins && matches!(piece, b"\r\n" | b"\n");
        if begins && piece.starts_with(b"--") && self.state != State::Head && self.boundary(piece) {
            return;
        }
        match self.state {
            State::Head => {
                push_bounded(&mut self.head, piece, HEAD_BYTES, &mut self.flags);
                if is_blank {
                    self.head_ends();
                }
            }
            State::PartHead => {
                push_bounded(&mut self.part_head, piece, PART_HEAD_BYTES, &mut self.flags);
                if is_blank {
                    self.part_head_ends();
                }
            }
            State::Content => {
                if let Some(part) = &mut self.part {
                    part.line(piece);
                }
            }
        }
    }

    /// Whether the line is a boundary; if so, a part ends and another may begin.
    fn boundary(&mut self, piece: &[u8]) -> bool {
        let line = piece.trim_ascii_end();
        let inner = line.get(2..).unwrap_or_default();
        let found = self.boundaries.iter().rposition(|boundary| {
            inner.strip_prefix(boundary.as_slice()).is_some_and(|tail| tail.is_empty() || tail == b"--")
        });
        let Some(index) = found else { return false };
        let closes = self.boundaries.get(index).is_some_and(|boundary| inner.len() > boundary.len());
        if self.state == State::PartHead {
            self.part_head_ends();
        }
        self.end_part(false);
        self.boundaries.truncate(if closes { index } else { index.saturating_add(1) });
        self.part_head.clear();
        self.state = if closes { State::Content } else { State::PartHead };
        true
    }

    fn head_ends(&mut self) {
        let head = core::mem::take(&mut self.head);
        self.enter(&head, true);
        self.head = head;
    }

    fn part_head_ends(&mut self) {
        let head = core::mem::take(&mut self.part_head);
        self.enter(&head, false);
    }

    /// What a header says of the content behind it.
    fn enter(&mut self, head: &[u8], is_top: bool) {
        self.state = State::Content;
        let (mut kind, mut coding, mut disposition) = (Vec::new(), Coding::Plain, Vec::new());
        for (name, value) in fields(head) {
            if name.eq_ignore_ascii_case(b"content-type") {
                kind = value;
            } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                coding = match bare(&value).as_slice() {
                    b"base64" => Coding::Base64,
                    b"quoted-printable" => Coding::Quoted,
                    _ => Coding::Plain,
                };
            } else if name.eq_ignore_ascii_case(b"content-disposition") {
                disposition = value;
            }
        }
        let media = bare(&kind);
        if is_top {
            self.content_type.clone_from(&media);
        }
        if media.starts_with(b"multipart/")
            && let Some(boundary) = parameter(&kind, b"boundary").filter(|boundary| !boundary.is_empty())
        {
            if self.boundaries.len() < NESTING {
                self.boundaries.push(boundary);
                return;
            }
            self.flags |= flags::NESTED;
        }
        if media == b"message/rfc822" && !is_top && coding == Coding::Plain {
            // The header of the message inside is read as a part's.
            self.state = State::PartHead;
            return;
        }
        let file = parameter(&disposition, b"filename").or_else(|| parameter(&kind, b"name")).unwrap_or_default();
        self.begin_part(coding, &media, &file);
    }

    fn begin_part(&mut self, coding: Coding, media: &[u8], file: &[u8]) {
        self.parts = self.parts.saturating_add(1);
        let described = self.part_types.len() < PARTS;
        if described {
            self.part_types.push(if media.is_empty() { b"text/plain" } else { media });
            if !file.is_empty() {
                self.file_names.push(file);
            }
        } else {
            self.flags |= flags::MANY_PARTS;
        }
        let mut reader = BodyReader::idle();
        reader.begin(b"", &BodyLimits::default(), false, self.asked.hashes && described);
        self.part =
            Some(Part { coding, reader, described, line_end: Vec::new(), bits: 0, count: 0, pending: Vec::new() });
    }

    fn end_part(&mut self, at_end: bool) {
        let Some(mut part) = self.part.take() else { return };
        if at_end {
            let line_end = core::mem::take(&mut part.line_end);
            part.reader.feed(&line_end, true);
        }
        if !part.described {
            return;
        }
        let body = part.reader.finish();
        self.part_mimes.push(body.maybe_magic.unwrap_or_default().as_bytes());
        self.part_sizes.push(body.decoded_len.to_string().as_bytes());
        if let Some(digests) = body.maybe_digests {
            self.part_sha256.push_with(|out| push_hex(out, &digests.sha256));
        }
    }
}

fn push_bounded(out: &mut Vec<u8>, piece: &[u8], limit: usize, flags: &mut u64) {
    let room = limit.saturating_sub(out.len());
    if piece.len() > room {
        *flags |= flags::HEAD_CUT;
    }
    out.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
}

impl Part {
    fn line(&mut self, piece: &[u8]) {
        match self.coding {
            Coding::Plain => {
                let end = if piece.ends_with(b"\r\n") { 2 } else { usize::from(piece.ends_with(b"\n")) };
                let (text, line_end) = piece.split_at_checked(piece.len().saturating_sub(end)).unwrap_or((piece, &[]));
                let before = core::mem::take(&mut self.line_end);
                self.reader.feed(&before, false);
                self.reader.feed(text, false);
                self.line_end = line_end.to_vec();
            }
            Coding::Base64 => self.base64(piece),
            Coding::Quoted => self.quoted(piece),
        }
    }

    /// RFC 2045 section 6.8: what is no letter of the alphabet is skipped, a pad ends a group.
    fn base64(&mut self, piece: &[u8]) {
        let mut out = Vec::with_capacity(piece.len());
        for byte in piece {
            let value = match byte {
                b'A'..=b'Z' => byte.wrapping_sub(b'A'),
                b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
                b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    (self.bits, self.count) = (0, 0);
                    continue;
                }
                _ => continue,
            };
            self.bits = (self.bits << 6) | u32::from(value);
            self.count = self.count.saturating_add(6);
            if self.count >= 8 {
                self.count = self.count.saturating_sub(8);
                out.push(((self.bits >> self.count) & 0xFF) as u8);
            }
        }
        self.reader.feed(&out, false);
    }

    /// RFC 2045 section 6.7.
    fn quoted(&mut self, piece: &[u8]) {
        let mut all = core::mem::take(&mut self.pending);
        all.extend_from_slice(piece);
        let mut out = core::mem::take(&mut self.line_end);
        let ends = all.ends_with(b"\n");
        let end = if all.ends_with(b"\r\n") { 2 } else { usize::from(ends) };
        let (text, line_end) = all.split_at_checked(all.len().saturating_sub(end)).unwrap_or((&all, &[]));
        let mut rest = if ends { text.trim_ascii_end() } else { text };
        let mut soft = false;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte != b'=' {
                out.push(*byte);
                continue;
            }
            match after.first_chunk::<2>() {
                Some(pair) => match hex_pair(pair) {
                    Some(value) => {
                        out.push(value);
                        rest = after.get(2..).unwrap_or_default();
                    }
                    None => out.push(b'='),
                },
                None if ends && after.is_empty() => soft = true,
                None if ends => out.push(b'='),
                None => {
                    self.pending.push(b'=');
                    self.pending.extend_from_slice(after);
                    break;
                }
            }
        }
        if ends && !soft {
            self.line_end = line_end.to_vec();
        }
        self.reader.feed(&out, false);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MESSAGE: &[u8] = b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=\"out\"\r\n\r\npreamble\r\n\
        --out\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\n\r\nplain\r\nlines\r\n--in\r\n\
        Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<b>=41 so=\r\nft</b>  \r\n\
        --in--\r\n--out\r\nContent-Type: image/png; name=x.png\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        iVBORw0K\r\nGgo=\r\n--out--\r\nepilogue\r\n";

    fn read(message: &[u8], piece: usize) -> Letter {
        let mut letter = Letter::new(Asked { hashes: true, ..Asked::default() }, false);
        message.chunks(piece).for_each(|part| letter.feed(part));
        letter.finish();
        letter
    }

    fn texts(items: &TextItems) -> Vec<String> {
        items.iter().map(|item| String::from_utf8(item.to_vec()).unwrap()).collect()
    }

    #[test]
    fn parts_are_found_decoded_and_named_however_the_bytes_are_cut() {
        for piece in [1, 2, 7, 100, usize::MAX] {
            let letter = read(MESSAGE, piece);
            assert_eq!(letter.parts, 3);
            assert_eq!(texts(&letter.part_types), ["text/plain", "text/html", "image/png"]);
            assert_eq!(texts(&letter.part_sizes), ["12", "13", "8"]);
            assert_eq!(texts(&letter.file_names), ["x.png"]);
            assert_eq!(texts(&letter.part_mimes).last().unwrap(), "image/png");
            assert_eq!(letter.part_sha256.len(), 3);
            assert_eq!((letter.flags, letter.size), (0, MESSAGE.len() as u64));
        }
    }

    #[test]
    fn header_nesting_and_parts_end_at_their_limits() {
        for (length, cut) in [(HEAD_BYTES - 4, false), (HEAD_BYTES - 3, true)] {
            let head = [b"X: ".to_vec(), vec![b'x'; length - 3], b"\r\n\r\n".to_vec()].concat();
            assert_eq!(read(&head, 1000).flags & flags::HEAD_CUT != 0, cut);
        }
        for (depth, nested) in [(NESTING, false), (NESTING + 1, true)] {
            let message: Vec<u8> = (0..depth)
                .flat_map(|level| {
                    format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n").into_bytes()
                })
                .collect();
            assert_eq!(read(&message, 50).flags & flags::NESTED != 0, nested);
        }
        for (parts, many) in [(PARTS, false), (PARTS + 1, true)] {
            let mut message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
            (0..parts).for_each(|_| message.extend_from_slice(b"--b\r\n\r\nx\r\n"));
            let letter = read(&message, 64);
            assert_eq!((letter.parts, letter.flags & flags::MANY_PARTS != 0), (parts as u64, many));
            assert_eq!(letter.part_sizes.len(), PARTS);
        }
    }

    #[test]
    fn header_of_a_part_ends_at_its_limit() {
        for (length, cut) in [(PART_HEAD_BYTES - 4, false), (PART_HEAD_BYTES - 3, true)] {
            let mut message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: ".to_vec();
            message.extend(vec![b'x'; length - 3]);
            message.extend_from_slice(b"\r\n\r\n");
            assert_eq!(read(&message, 1000).flags & flags::HEAD_CUT != 0, cut);
        }
    }

    #[test]
    fn what_is_kept_ends_at_its_limit() {
        for (size, cut) in [(KEEP_BYTES, false), (KEEP_BYTES + 1, true)] {
            let mut letter = Letter::new(Asked { bodies: true, ..Asked::default() }, true);
            letter.feed(&vec![b'x'; size]);
            assert_eq!((letter.kept.len(), letter.flags & flags::BODY_CUT != 0), (KEEP_BYTES, cut));
        }
    }

    #[test]
    fn a_message_cut_anywhere_gives_the_same_whole_and_byte_by_byte() {
        for end in 0..MESSAGE.len() {
            let cut = MESSAGE.get(..end).unwrap();
            let (one, many) = (read(cut, usize::MAX), read(cut, 1));
            assert_eq!(texts(&one.part_sizes), texts(&many.part_sizes));
        }
    }
}
