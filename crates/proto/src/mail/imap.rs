//! IMAP (RFC 9051, RFC 3501): messages in literals of FETCH answers and of APPEND, also under COMPRESS (RFC 4978).
//!
//! Rules of this file:
//! 1. A line that ends with `{n}` goes on behind n bytes (literal, literal+, literal8 alike); only those of FETCH and APPEND are
//!    read, the others are passed over.
//! 2. Pieces of one message fetched one after the other (`BODY[]<0>`, `<n>`) are one row as long as they join.
//! 3. LOGIN and AUTHENTICATE are dropped; behind STARTTLS the bytes are TLS's, behind COMPRESS they are inflated.
//!
//! Limits: [`TAGS`], [`INFLATE_RATIO`], those of `lines` and `letter`. The size of a literal bounds nothing that is held.
use std::collections::VecDeque;

use bunker_wire::Direction;
use flate2::{Decompress, FlushDecompress, Status};

use super::lines::{Lines, mechanism, word};
use super::{Draft, Session, asked, flags, write};
use crate::parser::{Context, Service, Step, StreamParser};

/// Commands whose answer matters (STARTTLS, COMPRESS, APPEND) that wait for it.
pub const TAGS: usize = 64;
/// Bytes that one compressed byte may become, checked above 1 MiB. Deflate cannot exceed 1,032; text stays below 20.
pub const INFLATE_RATIO: u64 = 200;
/// Inflated at once.
const INFLATE_BYTES: usize = 16 << 10;
/// Bytes of a tag that are kept. Real tags have below 10.
const TAG_BYTES: usize = 32;
/// Inflated bytes below which the ratio is not looked at.
const INFLATE_FREE: u64 = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    StartTls,
    Compress,
    Append,
}

/// Where one direction is.
#[derive(Default)]
struct Side {
    lines: Lines,
    /// Bytes left of a literal.
    literal: u64,
    /// The literal is a message.
    is_message: bool,
    /// The line goes on behind a literal.
    continues: bool,
    inflate: Option<Inflate>,
}

struct Inflate {
    stream: Box<Decompress>,
    given: u64,
    made: u64,
}

/// Which message a FETCH answer brings, and which piece of it.
#[derive(Clone, PartialEq, Eq, Default)]
struct Item {
    number: u64,
    section: Vec<u8>,
    start: Option<u64>,
}

/// IMAP in a TCP flow.
pub struct ImapStream {
    session: Session,
    client: Option<Direction>,
    sides: [Side; 2],
    tags: VecDeque<(Vec<u8>, Wants)>,
    /// The client's command in hand, over its literals.
    command: Option<(Vec<u8>, bool)>,
    /// The server's answer in hand: number of the message.
    fetch: Option<u64>,
    upload: Option<Box<Draft>>,
    download: Option<(Item, Box<Draft>)>,
    line: Vec<u8>,
}

impl Default for ImapStream {
    fn default() -> Self {
        Self {
            session: Session::new(Service::Imap),
            client: None,
            sides: [Side::default(), Side::default()],
            tags: VecDeque::new(),
            command: None,
            fetch: None,
            upload: None,
            download: None,
            line: Vec::new(),
        }
    }
}

/// The literal that a line announces at its end: its size, and the text before it.
fn literal(line: &[u8]) -> Option<(u64, &[u8])> {
    let inner = line.strip_suffix(b"}")?;
    let inner = inner.strip_suffix(b"+").unwrap_or(inner);
    let open = memchr::memrchr(b'{', inner)?;
    let digits = inner.get(open.saturating_add(1)..)?;
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = core::str::from_utf8(digits).ok()?.parse().ok()?;
    let before = inner.get(..open)?;
    Some((size, before.strip_suffix(b"~").unwrap_or(before)))
}

/// The data item that a literal of a FETCH answer belongs to: `BODY[...]<n>`, `RFC822` and their kin; None: no part of a message.
fn item(before: &[u8], number: u64) -> Option<Item> {
    let mut text = before.trim_ascii_end();
    let mut start = None;
    if let Some(inner) = text.strip_suffix(b">") {
        let open = memchr::memrchr(b'<', inner)?;
        start = Some(core::str::from_utf8(inner.get(open.saturating_add(1)..)?).ok()?.parse().ok()?);
        text = inner.get(..open)?;
    }
    let section = if let Some(inner) = text.strip_suffix(b"]") {
        let open = memchr::memrchr(b'[', inner)?;
        let name = inner.get(..open)?.to_ascii_uppercase();
        if !name.ends_with(b"BODY") && !name.ends_with(b"BINARY") {
            return None;
        }
        inner.get(open.saturating_add(1)..)?.to_ascii_uppercase()
    } else {
        let from = text.iter().rposition(|byte| matches!(byte, b' ' | b'(')).map_or(0, |at| at.saturating_add(1));
        match text.get(from..)?.to_ascii_uppercase().as_slice() {
            b"RFC822" => Vec::new(),
            b"RFC822.HEADER" => b"HEADER".to_vec(),
            b"RFC822.TEXT" => b"TEXT".to_vec(),
            _ => return None,
        }
    };
    Some(Item { number, section, start })
}

impl ImapStream {
    fn side(&mut self, direction: Direction) -> &mut Side {
        let [orig, resp] = &mut self.sides;
        match direction {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }

    /// Bytes of one direction, inflated.
    fn plain(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let mut rest = bytes;
        while !rest.is_empty() {
            let side = self.side(direction);
            if side.literal > 0 {
                let count = usize::try_from(side.literal).unwrap_or(usize::MAX).min(rest.len());
                let (now, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                side.literal = side.literal.saturating_sub(count as u64);
                let (is_message, ended) = (side.is_message, side.literal == 0);
                rest = after;
                if is_message {
                    self.letter(direction, |letter| letter.feed(now));
                    if ended {
                        self.literal_ended(context, direction);
                    }
                }
                continue;
            }
            let mut line = core::mem::take(&mut self.line);
            if !self.side(direction).lines.next(&mut rest, &mut line) {
                self.line = line;
                return Step::More;
            }
            let switch = if self.client == Some(direction) {
                self.client_said(context, &line, ts_ns);
                None
            } else {
                self.server_said(context, &line, ts_ns)
            };
            self.line = line;
            match switch {
                Some(Wants::StartTls) => return Step::Switched { used: bytes.len().saturating_sub(rest.len()) },
                // Compression twice is forbidden (RFC 4978 section 3).
                Some(Wants::Compress) if self.sides.iter().all(|side| side.inflate.is_none()) => {
                    for side in &mut self.sides {
                        side.inflate = Some(Inflate { stream: Box::new(Decompress::new(false)), given: 0, made: 0 });
                    }
                    return self.inflate(context, direction, rest, ts_ns);
                }
                Some(Wants::Append | Wants::Compress) | None => {}
            }
        }
        Step::More
    }

    /// Compressed bytes of one direction.
    fn inflate(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let mut rest = bytes;
        let mut out = vec![0u8; INFLATE_BYTES];
        loop {
            let Some(inflate) = &mut self.side(direction).inflate else { return Step::Finished };
            let (in_before, out_before) = (inflate.stream.total_in(), inflate.stream.total_out());
            // What was inflated before a damage counts; nothing behind it can be read.
            let status = inflate.stream.decompress(rest, &mut out, FlushDecompress::Sync);
            let used = usize::try_from(inflate.stream.total_in().saturating_sub(in_before)).unwrap_or(0);
            let made = usize::try_from(inflate.stream.total_out().saturating_sub(out_before)).unwrap_or(0);
            rest = rest.get(used..).unwrap_or_default();
            inflate.given = inflate.given.saturating_add(used as u64);
            inflate.made = inflate.made.saturating_add(made as u64);
            if inflate.made > INFLATE_FREE && inflate.made / inflate.given.max(1) > INFLATE_RATIO {
                self.mark(flags::OVER_LIMIT);
                return Step::Finished;
            }
            let step = self.plain(context, direction, out.get(..made).unwrap_or_default(), ts_ns);
            // TLS inside compression does not exist: a switch counts bytes that are no longer the stream's.
            if step != Step::More || status.is_err() {
                return Step::Finished;
            }
            if (used == 0 && made == 0)
                || (rest.is_empty() && made < INFLATE_BYTES)
                || matches!(status, Ok(Status::StreamEnd))
            {
                return Step::More;
            }
        }
    }

    fn mark(&mut self, flag: u64) {
        for draft in self.upload.iter_mut().chain(self.download.iter_mut().map(|(_, draft)| draft)) {
            draft.flags |= flag;
        }
    }

    fn letter(&mut self, direction: Direction, act: impl FnOnce(&mut super::letter::Letter)) {
        let draft = if self.client == Some(direction) {
            self.upload.as_mut()
        } else {
            self.download.as_mut().map(|(_, draft)| draft)
        };
        if let Some(letter) = draft.and_then(|draft| draft.letter.as_mut()) {
            act(letter);
        }
    }

    fn literal_ended(&mut self, context: &mut Context<'_>, direction: Direction) {
        if self.client == Some(direction)
            && let Some(draft) = self.upload.take()
        {
            self.write(context, *draft);
        }
    }

    fn write(&mut self, context: &mut Context<'_>, mut draft: Draft) {
        if self.sides.iter().any(|side| side.lines.cut) {
            draft.flags |= flags::LONG_LINE;
        }
        write(context, &mut self.session, draft, false);
    }

    fn client_said(&mut self, context: &mut Context<'_>, line: &[u8], ts_ns: u64) {
        let (is_append, tag) = match self.command.take() {
            // What follows a literal of the same command.
            Some((tag, is_append)) => (is_append, tag),
            None => {
                let (_, rest) = word(line);
                let tag = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                let tag = tag.get(..tag.len().min(TAG_BYTES)).unwrap_or_default().to_vec();
                let (verb, argument) = word(rest);
                let wants = match verb.as_slice() {
                    b"STARTTLS" => Some(Wants::StartTls),
                    b"COMPRESS" if argument.eq_ignore_ascii_case(b"DEFLATE") => Some(Wants::Compress),
                    b"APPEND" => Some(Wants::Append),
                    b"LOGIN" => {
                        self.session.auth = Some("LOGIN");
                        None
                    }
                    b"AUTHENTICATE" => {
                        self.session.auth = Some(mechanism(argument));
                        None
                    }
                    _ => None,
                };
                if let Some(wants) = wants {
                    if self.tags.len() >= TAGS {
                        self.tags.pop_front();
                    }
                    self.tags.push_back((tag.clone(), wants));
                }
                (wants == Some(Wants::Append), tag)
            }
        };
        let Some((size, before)) = literal(line) else { return };
        self.command = Some((tag, is_append));
        // The mailbox's name may be a literal too: the message comes behind a name, flags in brackets, or a quoted date.
        let is_message = is_append && !before.trim_ascii_end().to_ascii_uppercase().ends_with(b"APPEND");
        if is_message {
            let draft = Draft::with_letter(ts_ns, "APPEND", asked(context), false);
            self.upload = Some(Box::new(draft));
        }
        let Some(client) = self.client else { return };
        let side = self.side(client);
        (side.literal, side.is_message) = (size, is_message);
        if size == 0 && is_message {
            self.literal_ended(context, client);
        }
    }

    /// A line of the server; what begins behind it.
    fn server_said(&mut self, context: &mut Context<'_>, line: &[u8], ts_ns: u64) -> Option<Wants> {
        let announces = literal(line);
        let server = self.client?.other();
        let side = self.side(server);
        let continues = core::mem::replace(&mut side.continues, announces.is_some());
        if !continues {
            self.fetch = None;
            let (first, rest) = word(line);
            if first == b"*" {
                context.confirm(Service::Imap);
                let (number, rest) = word(rest);
                let number = core::str::from_utf8(&number).ok().and_then(|number| number.parse().ok());
                if word(rest).0 == b"FETCH" {
                    self.fetch = number;
                }
            } else if first != b"+" {
                return self.tagged(context, line);
            }
        }
        if let Some((size, before)) = announces {
            let item = self.fetch.and_then(|number| item(before, number));
            let side = self.side(server);
            (side.literal, side.is_message) = (size, item.is_some());
            if let Some(item) = item {
                self.fetched(context, item, ts_ns);
            }
        } else if self.download.as_ref().is_some_and(|(item, _)| item.start.is_none()) {
            self.download_ended(context); // the answer is complete
        }
        None
    }

    /// A literal of a message begins: it joins the one before, or that one is done.
    fn fetched(&mut self, context: &mut Context<'_>, item: Item, ts_ns: u64) {
        if let Some((before, draft)) = &mut self.download {
            let size = draft.letter.as_ref().map_or(0, |letter| letter.size);
            let same = before.number == item.number;
            let joins = same && before.section == item.section && before.start.is_some() && item.start == Some(size);
            if joins {
                return;
            }
            if same && before.section == b"HEADER" && item.section == b"TEXT" && item.start.is_none() {
                draft.partial = false;
                before.section.clone_from(&item.section);
                return;
            }
        }
        self.download_ended(context);
        let whole = item.section.is_empty();
        let content = !whole && !item.section.starts_with(b"HEADER") && !item.section.ends_with(b"MIME");
        let starts_late = item.start.is_some_and(|start| start > 0);
        let mut draft = Draft::with_letter(ts_ns, "FETCH", asked(context), content || starts_late);
        draft.partial = !whole || starts_late;
        self.download = Some((item, Box::new(draft)));
    }

    fn download_ended(&mut self, context: &mut Context<'_>) {
        if let Some((_, draft)) = self.download.take() {
            self.write(context, *draft);
        }
    }

    /// `tag OK ...`: what it lets begin.
    fn tagged(&mut self, context: &mut Context<'_>, line: &[u8]) -> Option<Wants> {
        let (_, rest) = word(line);
        let tag = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let tag = tag.get(..tag.len().min(TAG_BYTES)).unwrap_or_default();
        let (status, _) = word(rest);
        let good = status == b"OK";
        if !good && !matches!(status.as_slice(), b"NO" | b"BAD") {
            return None;
        }
        context.confirm(Service::Imap);
        if !good && self.command.as_ref().is_some_and(|(waiting, _)| waiting == tag) {
            // The server does not want the literal: the client will not send it, unless it has begun.
            let client = self.client?;
            let begun =
                self.upload.as_ref().and_then(|draft| draft.letter.as_ref()).is_some_and(|letter| letter.size > 0);
            if !begun {
                self.side(client).literal = 0;
                self.command = None;
                self.upload = None;
            }
        }
        let index = self.tags.iter().position(|(waiting, _)| waiting == tag)?;
        let (_, wants) = self.tags.remove(index)?;
        if !good {
            return None;
        }
        self.session.tls |= wants == Wants::StartTls;
        Some(wants)
    }
}

impl StreamParser for ImapStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        self.client.get_or_insert_with(|| {
            // Servers begin with a star; a client's tag is never one.
            if bytes.starts_with(b"* ") { direction.other() } else { direction }
        });
        if self.side(direction).inflate.is_some() {
            return self.inflate(context, direction, bytes, ts_ns);
        }
        self.plain(context, direction, bytes, ts_ns)
    }

    fn gap(&mut self, context: &mut Context<'_>, direction: Direction, length: u64, _ts_ns: u64) -> Step {
        if self.side(direction).inflate.is_some() {
            self.mark(flags::GAP);
            return Step::Finished; // the dictionary is lost
        }
        let side = self.side(direction);
        if side.literal >= length {
            side.literal = side.literal.saturating_sub(length);
            let (is_message, ended) = (side.is_message, side.literal == 0);
            if is_message {
                self.letter(direction, |letter| letter.gap(length));
                if ended {
                    self.literal_ended(context, direction);
                }
            }
            return Step::More;
        }
        side.literal = 0;
        side.continues = false;
        side.lines.lost();
        self.letter(direction, |letter| letter.gap(length));
        if self.client == Some(direction) {
            self.command = None;
            if let Some(draft) = self.upload.take() {
                self.write(context, *draft);
            }
        } else {
            self.fetch = None;
            self.download_ended(context);
        }
        Step::More
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        let open = self.sides.iter().any(|side| side.literal > 0 && side.is_message);
        if open {
            self.mark(flags::UNFINISHED);
        }
        if let Some(draft) = self.upload.take() {
            self.write(context, *draft);
        }
        self.download_ended(context);
    }

    fn live_bytes(&self) -> usize {
        let sides = self.sides.iter().fold(self.line.capacity(), |sum, side| {
            // 32 KiB of window and some of state, measured by miniz_oxide's own type sizes.
            let inflate = if side.inflate.is_some() { 48 << 10 } else { 0 };
            sum.saturating_add(side.lines.live_bytes()).saturating_add(inflate)
        });
        let drafts = self.upload.iter().chain(self.download.iter().map(|(_, draft)| draft));
        drafts
            .fold(sides, |sum, draft| sum.saturating_add(draft.live_bytes()))
            .saturating_add(size_of::<Self>())
            .saturating_add(self.tags.capacity().saturating_mul(64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn literals_of_every_kind_are_read() {
        for (line, size) in [
            (&b"a APPEND x {12}"[..], Some(12)),
            (b"a APPEND x {12+}", Some(12)),
            (b"a APPEND x ~{12}", Some(12)),
            (b"a APPEND x {}", None),
            (b"a APPEND x {1x}", None),
            (b"a APPEND x {99999999999999999999}", None),
            (b"* OK {no}", None),
        ] {
            assert_eq!(literal(line).map(|(size, _)| size), size);
        }
    }

    #[test]
    fn items_of_fetch_are_told_apart() {
        for (before, section, start) in [
            (&b"* 1 FETCH (UID 4 BODY[] "[..], Some(&b""[..]), None),
            (b"* 1 FETCH (BODY[HEADER.FIELDS (FROM TO)] ", Some(b"HEADER.FIELDS (FROM TO)"), None),
            (b"* 1 FETCH (BODY[1.2]<2048> ", Some(b"1.2"), Some(2048)),
            (b"* 1 FETCH (RFC822.HEADER ", Some(b"HEADER"), None),
            (b"* 1 FETCH (RFC822 ", Some(b""), None),
            (b"* 1 FETCH (ENVELOPE (\"date\" ", None, None),
        ] {
            let found = item(before, 1);
            assert_eq!(found.as_ref().map(|item| item.section.as_slice()), section);
            assert_eq!(found.and_then(|item| item.start), start);
        }
    }
}
