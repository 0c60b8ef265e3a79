//! One direction of a connection: heads and bodies of its messages, from pieces.
//!
//! Rules of this file:
//! 1. What is decided, is decided at a byte's place in the stream, never at the end of a piece.
//! 2. Nothing is held but an unfinished head or line (bounded) and what a body's decoder needs.
//! 3. What a server would refuse is read as far as it makes sense, and flagged.
use memchr::memchr;

use super::Config;
use super::head::{self, Framing, Head, flags};
use crate::body::{Body, BodyReader};

/// A line of chunked framing at most; what is longer is an extension, and passed over. Apache: 8 KiB, Go: 4 KiB.
const LONGEST_LINE: usize = 4 << 10;

/// A message's head and what is known of its body.
#[derive(Default)]
pub struct Message {
    /// Whether there is one.
    pub seen: bool,
    /// Whether nothing more of it will come.
    pub ended: bool,
    /// Raw head.
    pub head: Vec<u8>,
    /// Parsed.
    pub parsed: Head,
    /// Capture time of its first byte.
    pub ts_ns: u64,
    /// Body, when it has ended.
    pub maybe_body: Option<Body>,
    /// Flags beyond the head's.
    pub flags: u64,
}

impl Message {
    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.head.capacity().saturating_add(self.maybe_body.as_ref().map_or(0, Body::live_bytes))
    }

    /// Forget it, keep a little memory.
    pub fn clear(&mut self) {
        const KEPT: usize = 4 << 10;
        self.head.clear();
        if self.head.capacity() > KEPT {
            self.head = Vec::new();
        }
        (self.seen, self.ended, self.flags, self.maybe_body) = (false, false, 0, None);
    }

    /// It has begun with this head.
    pub fn begin(&mut self, text: &[u8], parsed: Head, ts_ns: u64, flags: u64) {
        self.head.clear();
        self.head.extend_from_slice(text);
        (self.seen, self.parsed, self.ts_ns, self.flags) = (true, parsed, ts_ns, flags);
    }
}

/// Where a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Length(u64),
    ChunkSize,
    /// The rest of a chunk's line, then its data.
    ChunkExtension(u64),
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// What a step yielded.
pub enum Step {
    /// Nothing until more bytes come.
    NeedMore,
    /// A head is complete; its bytes stand in [`Half::text`] or, if `Some`, in the first so many bytes of the piece that was given.
    /// The owner says how its body is framed with [`Half::begin_body`].
    Head {
        /// What it says.
        parsed: Head,
        /// Its length in the piece, if it lay there whole.
        maybe_len: Option<usize>,
        /// Capture time of its first byte.
        ts_ns: u64,
        /// Flags of what stood before it.
        flags: u64,
    },
    /// The message's body has ended.
    End,
    /// What comes is no response: a body without a head (HTTP/0.9), if the owner agrees; else call [`Half::reject_head`].
    NoHead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    Body(Place),
    /// Nothing more is understood in this direction; bytes are passed over.
    Opaque,
    /// Looking for the next head after a gap or nonsense; true at the start of a line.
    Resync(bool),
}

/// One direction.
pub struct Half {
    is_request: bool,
    state: State,
    /// A head was found in this direction before.
    spoke: bool,
    /// A message said that it was the last.
    closing: bool,
    first_chunk: bool,
    held: Vec<u8>,
    scanned: usize,
    head_ts_ns: u64,
    reader: BodyReader,
    maybe_length: Option<u64>,
    /// Flags that the current body gathered.
    pub body_flags: u64,
    /// Flags for the next message.
    pub next_flags: u64,
}

impl Half {
    /// A direction that carries requests or responses.
    #[must_use]
    pub const fn new(is_request: bool) -> Self {
        Self {
            is_request,
            state: State::Head,
            spoke: false,
            closing: false,
            first_chunk: false,
            held: Vec::new(),
            scanned: 0,
            head_ts_ns: 0,
            reader: BodyReader::idle(),
            maybe_length: None,
            body_flags: 0,
            next_flags: 0,
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.held.capacity().saturating_add(self.reader.live_bytes())
    }

    /// The last head's bytes, if it came in pieces.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.held
    }

    /// The head's bytes were taken over.
    pub fn forget_text(&mut self) {
        self.held = Vec::new();
    }

    /// Whether a body is being read.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Whether a message stood in this direction.
    #[must_use]
    pub const fn has_spoken(&self) -> bool {
        self.spoke
    }

    /// Flags that the end of the direction puts on the body being read.
    #[must_use]
    pub const fn flags_at_end(&self) -> u64 {
        match self.state {
            State::Body(Place::UntilClose) => 0,
            // The last chunk is there, the empty line after it is not: all of the body was seen.
            State::Body(Place::Trailers) => flags::ODD_CHUNK,
            _ => flags::TRUNCATED,
        }
    }

    /// Pass over everything from here on.
    pub fn go_opaque(&mut self) {
        self.state = State::Opaque;
        self.held = Vec::new();
    }

    /// Whether everything is passed over.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        matches!(self.state, State::Opaque)
    }

    /// Read messages again, from here on.
    pub const fn go_on(&mut self) {
        self.state = State::Head;
    }

    /// Bytes that wait for the rest of a head.
    #[must_use]
    pub fn has_partial_head(&self) -> bool {
        matches!(self.state, State::Head) && !self.held.is_empty()
    }

    /// Take bytes; what was used is cut off `bytes`.
    pub fn step(&mut self, bytes: &mut &[u8], ts_ns: u64, config: &Config) -> Step {
        loop {
            match self.state {
                _ if bytes.is_empty() => return Step::NeedMore,
                State::Opaque => {
                    *bytes = &[];
                    return Step::NeedMore;
                }
                State::Resync(at_line_start) => self.resync(bytes, at_line_start, ts_ns),
                State::Head => {
                    if let Some(step) = self.head(bytes, ts_ns, config) {
                        return step;
                    }
                }
                State::Body(place) => {
                    if self.body(place, bytes) {
                        return Step::End;
                    }
                }
            }
        }
    }

    fn parse(&self, bytes: &[u8], config: &Config) -> Option<(Head, usize)> {
        if self.is_request {
            head::request(bytes, config.limits.headers)
        } else {
            head::response(bytes, config.limits.headers)
        }
    }

    fn found(&mut self, parsed: Head, maybe_len: Option<usize>) -> Step {
        let mut flags = core::mem::take(&mut self.next_flags);
        if self.closing {
            flags |= flags::AFTER_CLOSE;
        }
        self.closing |= parsed.closes;
        self.spoke = true;
        Step::Head { parsed, maybe_len, ts_ns: self.head_ts_ns, flags }
    }

    /// In a head. None: go on with the state as it is now.
    fn head(&mut self, bytes: &mut &[u8], ts_ns: u64, config: &Config) -> Option<Step> {
        if self.held.is_empty() {
            // Empty lines before a message are nothing (RFC 9112 section 2.2).
            while let [b'\r' | b'\n', rest @ ..] = *bytes {
                *bytes = rest;
            }
            if bytes.is_empty() {
                return Some(Step::NeedMore);
            }
            self.head_ts_ns = ts_ns;
            self.scanned = 0;
            // The usual case: the whole head lies in one piece.
            if self.begins_plainly(bytes)
                && let Some((parsed, length)) = self.parse(bytes, config)
                && length <= config.limits.head
            {
                *bytes = bytes.get(length..).unwrap_or(&[]);
                return Some(self.found(parsed, Some(length)));
            }
        }
        if self.scanned == 0 { self.first_line(bytes, config) } else { self.rest_of_head(bytes, config) }
    }

    /// First words that need no closer look.
    fn begins_plainly(&self, bytes: &[u8]) -> bool {
        if self.is_request {
            bytes.starts_with(b"GET /") || bytes.starts_with(b"POST /") || bytes.starts_with(b"HEAD /")
        } else {
            bytes.starts_with(b"HTTP/1.")
        }
    }

    /// Line by line until the first is known to be one: what is rejected must not have swallowed what follows.
    fn first_line(&mut self, bytes: &mut &[u8], config: &Config) -> Option<Step> {
        if !self.is_request && self.held.len() < 5 {
            return self.first_word_of_response(bytes);
        }
        let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1));
        let room = config.limits.head.saturating_sub(self.held.len()).saturating_add(1);
        let (line, rest) = bytes.split_at_checked(end.min(room)).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(line);
        *bytes = rest;
        let complete = self.held.last() == Some(&b'\n');
        let text = self.held.strip_suffix(b"\n").unwrap_or(&self.held);
        let accepted = if complete { self.is_first_line(text) } else { self.may_begin(text) };
        if !accepted {
            self.reject(flags::TRAILING_BYTES, complete);
        } else if self.held.len() > config.limits.head {
            return self.partial(flags::OVER_LIMIT, config);
        } else if complete {
            self.scanned = self.held.len().saturating_sub(1);
        }
        None
    }

    /// Five bytes tell a status line from what is none.
    fn first_word_of_response(&mut self, bytes: &mut &[u8]) -> Option<Step> {
        while self.held.len() < 5 {
            let Some((byte, rest)) = bytes.split_first() else { return Some(Step::NeedMore) };
            self.held.push(*byte);
            *bytes = rest;
            if !self.may_begin(&self.held) {
                return Some(Step::NoHead);
            }
        }
        None
    }

    fn rest_of_head(&mut self, bytes: &mut &[u8], config: &Config) -> Option<Step> {
        let before = self.held.len();
        let room = config.limits.head.saturating_sub(before).saturating_add(1).min(bytes.len());
        let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(part);
        let mut scanned = self.scanned;
        let found = head::head_len(&self.held, &mut scanned);
        self.scanned = scanned.max(1);
        if let Some(length) = found
            && length <= config.limits.head
            && let Some((parsed, _)) = self.parse(self.held.get(..length).unwrap_or(&[]), config)
        {
            let used = length.saturating_sub(before);
            *bytes = bytes.get(used..).unwrap_or(&[]);
            self.held.truncate(length);
            return Some(self.found(parsed, None));
        }
        *bytes = rest;
        if self.held.len() > config.limits.head {
            // What stands in its first lines is told, its body is not known.
            return self.partial(flags::OVER_LIMIT, config);
        }
        None
    }

    /// What is held is no head: look for the next one.
    fn reject(&mut self, why: u64, at_line_start: bool) {
        self.next_flags |= why;
        self.held = Vec::new();
        self.scanned = 0;
        self.state = State::Resync(at_line_start);
    }

    /// What was answered with [`Step::NoHead`] is nonsense.
    pub fn reject_head(&mut self) {
        let at_line_start = self.held.last() == Some(&b'\n');
        self.reject(flags::TRAILING_BYTES, at_line_start);
    }

    /// What was answered with [`Step::NoHead`] is a body without a head.
    pub fn begin_headless(&mut self, config: &Config) -> u64 {
        let start = core::mem::take(&mut self.held);
        self.spoke = true;
        self.begin_body(Framing::UntilClose, b"", config);
        self.reader.feed(&start, false);
        core::mem::take(&mut self.next_flags)
    }

    /// The unfinished head as a message of its own, with a flag: the rest of it will not come, or is not waited for. None if there
    /// is not even a first line.
    pub fn partial(&mut self, why: u64, config: &Config) -> Option<Step> {
        let mut text = core::mem::take(&mut self.held);
        let line_end = memchr(b'\n', &text);
        let first = text.get(..line_end.unwrap_or(text.len())).unwrap_or(&[]);
        let plausible = match line_end {
            Some(_) => self.is_first_line(first),
            None => {
                self.is_request
                    && why == flags::TRUNCATED
                    && first.split(|byte| *byte == b' ').next().is_some_and(head::is_known_method)
            }
        };
        if !plausible {
            self.reject(why, true);
            return None;
        }
        // The last line may be cut: it says nothing.
        let kept = text.iter().rposition(|byte| *byte == b'\n').map_or(text.len(), |at| at.saturating_add(1));
        text.truncate(kept);
        text.extend_from_slice(if line_end.is_some() { b"\r\n" } else { b"\r\n\r\n" });
        let (mut parsed, _) = self.parse(&text, config)?;
        parsed.framing = Framing::Unsaid;
        self.reject(0, true);
        self.next_flags |= why;
        self.held = text;
        Some(self.found(parsed, None))
    }

    /// Whether all of an HTTP/0.9 request is held: a line without version and headers.
    #[must_use]
    pub fn holds_simple_request(&self) -> bool {
        self.is_request
            && self.state == State::Head
            && self.held.strip_suffix(b"\n").is_some_and(|line| memchr(b'\n', line).is_none() && !names_version(line))
    }

    /// That request.
    pub fn simple_request(&mut self, config: &Config) -> Option<Step> {
        self.held.extend_from_slice(b"\r\n");
        let (parsed, _) = self.parse(&self.held, config)?;
        self.scanned = 0;
        Some(self.found(parsed, None))
    }

    /// Whether a complete line may be the first of a message.
    fn is_first_line(&self, line: &[u8]) -> bool {
        self.may_begin(line)
            && (!self.is_request || names_version(line) || {
                let method = line.split(u8::is_ascii_whitespace).next().unwrap_or(&[]);
                head::is_known_method(method)
            })
    }

    /// Whether the begun line may become the first of a message.
    fn may_begin(&self, line: &[u8]) -> bool {
        if self.is_request {
            let method = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).next().unwrap_or(&[]);
            !method.is_empty()
                && method.len() <= head::LONGEST_METHOD
                && method.iter().all(|byte| head::is_token(*byte))
        } else {
            let length = line.len().min(5);
            line.get(..length).zip(b"HTTP/".get(..length)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
        }
    }

    /// The head's owner says how long the body is. False: there is none.
    pub fn begin_body(&mut self, framing: Framing, encoding: &[u8], config: &Config) -> bool {
        self.body_flags = 0;
        self.first_chunk = true;
        self.maybe_length = None;
        self.scanned = 0;
        let resyncs = matches!(self.state, State::Resync(_));
        self.state = match framing {
            Framing::Unsaid | Framing::Length(0) => {
                if !resyncs {
                    self.state = State::Head;
                }
                return false;
            }
            Framing::Length(length) => State::Body(Place::Length(length)),
            Framing::Chunked { maybe_length } => {
                self.maybe_length = maybe_length;
                State::Body(Place::ChunkSize)
            }
            Framing::UntilClose => State::Body(Place::UntilClose),
        };
        self.reader.begin(encoding, &config.limits.body, config.want_bodies, config.want_hashes);
        true
    }

    /// The body as it is now; the direction awaits the next head.
    pub fn end_body(&mut self) -> Body {
        if self.in_body() {
            self.state = State::Head;
            self.held = Vec::new();
        }
        let body = self.reader.finish();
        self.body_flags |= body.flags();
        body
    }

    /// Read body bytes; true when the body has ended.
    fn body(&mut self, place: Place, bytes: &mut &[u8]) -> bool {
        let next = match place {
            Place::Length(left) => match self.pass(left, bytes) {
                0 => return true,
                left => Place::Length(left),
            },
            Place::UntilClose => {
                self.pass(u64::MAX, bytes);
                Place::UntilClose
            }
            Place::ChunkData(left) => match self.pass(left, bytes) {
                0 => Place::ChunkEnd,
                left => Place::ChunkData(left),
            },
            Place::ChunkSize => return self.chunk_size(bytes),
            Place::ChunkExtension(size) => {
                let end = memchr(b'\n', bytes);
                *bytes = end.and_then(|end| bytes.get(end.saturating_add(1)..)).unwrap_or(&[]);
                if end.is_some() { after_size(size) } else { place }
            }
            Place::ChunkEnd => {
                // CRLF; a bare LF or stray CRs are taken, anything else is the next chunk's size without a line end before it.
                match *bytes {
                    [b'\r', b'\n', rest @ ..] if self.held.is_empty() => {
                        *bytes = rest;
                        Place::ChunkSize
                    }
                    [b'\n', rest @ ..] => {
                        if self.held.len() != 1 {
                            self.body_flags |= flags::ODD_CHUNK;
                        }
                        self.held.clear();
                        *bytes = rest;
                        Place::ChunkSize
                    }
                    [b'\r', rest @ ..] if self.held.len() < 16 => {
                        self.held.push(b'\r');
                        *bytes = rest;
                        Place::ChunkEnd
                    }
                    _ => {
                        self.held.clear();
                        self.body_flags |= flags::BAD_CHUNK;
                        Place::ChunkSize
                    }
                }
            }
            Place::Trailers => match self.take_line(bytes) {
                Taken::More => Place::Trailers,
                Taken::TooLong => {
                    self.body_flags |= flags::BAD_TRAILER;
                    Place::Trailers
                }
                Taken::Line => {
                    let line = core::mem::take(&mut self.held);
                    let text = line.trim_ascii_end();
                    if text.is_empty() {
                        return true;
                    }
                    self.body_flags |= trailer_flags(text);
                    Place::Trailers
                }
            },
        };
        self.state = State::Body(next);
        false
    }

    fn chunk_size(&mut self, bytes: &mut &[u8]) -> bool {
        // Nonsense is seen at its first byte, so that it can still be read as what it is.
        if self.held.is_empty()
            && let Some(byte) = bytes.first()
            && !(byte.is_ascii_hexdigit() || byte.is_ascii_whitespace())
        {
            return self.no_chunk();
        }
        let (size, whole) = match self.take_line(bytes) {
            Taken::More => return false,
            Taken::Line => (chunk_size(&self.held), true),
            Taken::TooLong => (chunk_size(&self.held), false),
        };
        if size.is_none() && self.held.iter().all(u8::is_ascii_whitespace) && whole {
            // An empty line before the size.
            self.held.clear();
            self.body_flags |= flags::ODD_CHUNK;
            return false;
        }
        let Some((size, odd)) = size else { return self.no_chunk() };
        self.held.clear();
        self.first_chunk = false;
        if odd {
            self.body_flags |= flags::ODD_CHUNK;
        }
        self.state = State::Body(if whole { after_size(size) } else { Place::ChunkExtension(size) });
        false
    }

    /// What should be a chunk is none. A response that was never chunked is read as it is; of everything else no end is known.
    fn no_chunk(&mut self) -> bool {
        let start = core::mem::take(&mut self.held);
        self.body_flags |= flags::BAD_CHUNK;
        if self.is_request {
            self.state = State::Resync(start.last().is_none_or(|byte| *byte == b'\n'));
            return true;
        }
        self.reader.feed(&start, false);
        self.state = State::Body(match self.maybe_length.filter(|_| self.first_chunk) {
            Some(length) => match length.saturating_sub(start.len() as u64) {
                0 => return true,
                left => Place::Length(left),
            },
            None => Place::UntilClose,
        });
        false
    }

    /// Read up to `left` body bytes; what is left after them.
    fn pass(&mut self, left: u64, bytes: &mut &[u8]) -> u64 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (part, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        let left = left.saturating_sub(part.len() as u64);
        self.reader.feed(part, left == 0 && matches!(self.state, State::Body(Place::Length(_))));
        *bytes = rest;
        left
    }

    /// A line of chunked framing, with its end, into `held`; what is beyond [`LONGEST_LINE`] stays in `bytes`.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Taken {
        let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1));
        let room = LONGEST_LINE.saturating_sub(self.held.len());
        let (line, rest) = bytes.split_at_checked(end.min(room)).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(line);
        *bytes = rest;
        if self.held.last() == Some(&b'\n') {
            Taken::Line
        } else if self.held.len() >= LONGEST_LINE {
            if matches!(self.state, State::Body(Place::Trailers)) {
                self.held.clear();
                self.held.push(b'-'); // the rest of the line is not an empty one
            }
            Taken::TooLong
        } else {
            Taken::More
        }
    }

    /// Bytes are missing. `Some(true)` if the message in hand has ended by that; a step if an unfinished head was told.
    pub fn gap(&mut self, length: u64, config: &Config) -> Gap {
        match self.state {
            State::Opaque => Gap::Passed,
            State::Resync(_) => {
                self.next_flags |= flags::GAP_IN_HEAD;
                self.held = Vec::new();
                // A message may begin right behind the hole.
                self.state = State::Resync(true);
                Gap::Head
            }
            State::Head => match self.partial(flags::GAP_IN_HEAD, config) {
                Some(step) => Gap::Told(step),
                None => Gap::Head,
            },
            State::Body(place) => {
                self.body_flags |= flags::GAP_IN_BODY;
                let rest = match place {
                    Place::Length(left) | Place::ChunkData(left) => left.checked_sub(length),
                    Place::UntilClose => return Gap::Passed,
                    _ => None,
                };
                match (place, rest) {
                    (Place::Length(_), Some(0)) => return Gap::Ended,
                    (Place::Length(_), Some(rest)) => self.state = State::Body(Place::Length(rest)),
                    (_, Some(0)) => self.state = State::Body(Place::ChunkEnd),
                    (_, Some(rest)) => self.state = State::Body(Place::ChunkData(rest)),
                    (_, None) => {
                        // The hole reaches beyond the message: what began in it is lost.
                        self.reject(flags::GAP_IN_HEAD, true);
                        return Gap::Beyond;
                    }
                }
                Gap::Passed
            }
        }
    }

    /// Find what begins a message; then its first bytes are held and the state is the head's.
    fn resync(&mut self, bytes: &mut &[u8], at_line_start: bool, ts_ns: u64) {
        if !at_line_start {
            match memchr(b'\n', bytes) {
                Some(end) => {
                    *bytes = bytes.get(end.saturating_add(1)..).unwrap_or(&[]);
                    self.state = State::Resync(true);
                }
                None => *bytes = &[],
            }
            return;
        }
        // Byte by byte: what decides is the place, not the piece.
        while let Some((byte, rest)) = bytes.split_first() {
            if self.held.is_empty() {
                self.head_ts_ns = ts_ns;
            }
            self.held.push(*byte);
            *bytes = rest;
            if self.begins() {
                self.state = State::Head;
                self.scanned = 0;
                return;
            }
            if !self.may_resync() {
                let complete = *byte == b'\n';
                self.held = Vec::new();
                self.state = State::Resync(complete);
                return;
            }
        }
    }

    /// Whether what is held may still begin a message that is believed after nonsense.
    fn may_resync(&self) -> bool {
        if self.is_request {
            head::METHODS.iter().any(|method| method.starts_with(&self.held))
        } else {
            let length = self.held.len().min(7);
            [b"HTTP/1.", b"HTTP/0."].iter().any(|start| start.get(..length) == Some(&self.held))
        }
    }

    fn begins(&self) -> bool {
        if self.is_request {
            self.held.strip_suffix(b" ").is_some_and(|word| head::METHODS.contains(&word))
        } else {
            self.held == b"HTTP/1." || self.held == b"HTTP/0."
        }
    }
}

/// What a gap did.
pub enum Gap {
    /// It lies in a body, or in what nobody reads.
    Passed,
    /// The body ends with it.
    Ended,
    /// The body ends in it, and so does whatever follows.
    Beyond,
    /// It lies where a head was or should be.
    Head,
    /// The same, and the head's first lines are known.
    Told(Step),
}

enum Taken {
    More,
    Line,
    TooLong,
}

const fn after_size(size: u64) -> Place {
    if size == 0 { Place::Trailers } else { Place::ChunkData(size) }
}

/// Whether a request line says which version it is.
fn names_version(line: &[u8]) -> bool {
    memchr::memchr_iter(b'/', line).any(|at| {
        at.checked_sub(4).and_then(|start| line.get(start..at)).is_some_and(|word| word.eq_ignore_ascii_case(b"HTTP"))
    })
}

/// What is odd about a trailer (RFC 9110 section 6.5.1).
fn trailer_flags(line: &[u8]) -> u64 {
    const FORBIDDEN: [&[u8]; 8] = [
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"trailer",
        b"authorization",
    ];
    let Some(colon) = memchr(b':', line) else { return flags::BAD_TRAILER };
    let name = line.get(..colon).unwrap_or(&[]);
    let token = !name.is_empty() && name.iter().all(|byte| head::is_token(*byte));
    let forbidden = FORBIDDEN.iter().any(|one| one.eq_ignore_ascii_case(name));
    let control = line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7F);
    if token && !forbidden && !control { 0 } else { flags::BAD_TRAILER }
}

/// The number in front of a chunk's line and whether anything about the line is odd. None if there is no number, or too large a one.
fn chunk_size(line: &[u8]) -> Option<(u64, bool)> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let clean = text.strip_suffix(b"\r").unwrap_or(text);
    let start = clean.trim_ascii_start();
    let digits = start.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(start.len());
    let (number, after) = start.split_at_checked(digits)?;
    if number.is_empty() {
        return None;
    }
    let size = number.iter().try_fold(0u64, |size, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(digit))
    });
    let size = size.filter(|size| *size < 1 << 62)?;
    let blank_first = start.len() != clean.len();
    let extension_fine = after.is_empty()
        || (after.first() == Some(&b';')
            && after.get(1..).is_some_and(|rest| {
                rest.trim_ascii().first().is_some_and(|byte| head::is_token(*byte))
                    && rest.iter().all(|byte| (*byte >= b' ' && *byte != 0x7F) || *byte == b'\t')
            }));
    let bare_lf = text.len() == clean.len() && line.len() != text.len();
    Some((size, blank_first || !extension_fine || bare_lf))
}
