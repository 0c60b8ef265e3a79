//! One direction of a connection: heads and bodies of its messages, from pieces.
use memchr::memchr;

use super::Config;
use super::head::{self, Framing, Head, flags};
use crate::body::{Body, BodyReader, Decoding};

/// A message's head and what is known of its body.
#[derive(Default)]
pub struct Message {
    /// Raw head.
    pub head: Vec<u8>,
    /// Parsed.
    pub parsed: Head,
    /// Capture time of its first byte.
    pub ts_ns: u64,
    /// Body, when it has ended.
    pub maybe_body: Option<Body>,
    /// Body bytes counted without a reader.
    pub counted: u64,
    /// Flags beyond the head's.
    pub flags: u64,
}

impl Message {
    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.head.capacity().saturating_add(self.maybe_body.as_ref().map_or(0, |body| body.kept.capacity()))
    }
}

/// Where a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// What a step yielded.
pub enum Step {
    /// Nothing until more bytes come.
    NeedMore,
    /// A head is complete: the owner says how its body is framed with `begin_body`.
    Head(Message),
    /// The message's body has ended.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(Place),
    /// Nothing more is understood in this direction; bytes are passed over.
    Opaque,
    /// Looking for the next head after a gap or nonsense.
    Resync,
}

/// One direction.
pub struct Half {
    is_request: bool,
    state: State,
    held: Vec<u8>,
    scanned: usize,
    head_ts_ns: u64,
    reader: Option<Box<BodyReader>>,
    counted: u64,
    /// Flags that the current body gathered.
    pub body_flags: u64,
    /// Flags for the next message.
    pub next_flags: u64,
    line: Vec<u8>,
}

impl Half {
    /// A direction that carries requests or responses.
    #[must_use]
    pub const fn new(is_request: bool) -> Self {
        Self {
            is_request,
            state: State::Head,
            held: Vec::new(),
            scanned: 0,
            head_ts_ns: 0,
            reader: None,
            counted: 0,
            body_flags: 0,
            next_flags: 0,
            line: Vec::new(),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.held
            .capacity()
            .saturating_add(self.line.capacity())
            .saturating_add(self.reader.as_ref().map_or(0, |reader| reader.live_bytes()))
    }

    /// Whether a body is being read.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Whether the body being read ends with the connection.
    #[must_use]
    pub fn until_close(&self) -> bool {
        self.state == State::Body(Place::UntilClose)
    }

    /// Pass over everything from here on.
    pub fn go_opaque(&mut self) {
        self.state = State::Opaque;
        self.held = Vec::new();
    }

    /// Bytes that wait for the rest of a head.
    #[must_use]
    pub fn has_partial_head(&self) -> bool {
        !self.held.is_empty()
    }

    /// Take bytes; what was used is cut off `bytes`.
    pub fn step(&mut self, bytes: &mut &[u8], ts_ns: u64, config: &Config) -> Step {
        loop {
            if bytes.is_empty() {
                return Step::NeedMore;
            }
            match self.state {
                State::Opaque => {
                    *bytes = &[];
                    return Step::NeedMore;
                }
                State::Resync => {
                    if !self.resync(bytes) {
                        return Step::NeedMore;
                    }
                    self.head_ts_ns = ts_ns;
                }
                State::Head => return self.head(bytes, ts_ns, config),
                State::Body(place) => {
                    if self.body(place, bytes) {
                        return Step::End;
                    }
                }
            }
        }
    }

    fn head(&mut self, bytes: &mut &[u8], ts_ns: u64, config: &Config) -> Step {
        if self.held.is_empty() {
            // Empty lines before a message are nothing (RFC 9112 section 2.2).
            while let [b'\r' | b'\n', rest @ ..] = *bytes {
                *bytes = rest;
            }
            if bytes.is_empty() {
                return Step::NeedMore;
            }
            self.head_ts_ns = ts_ns;
            self.scanned = 0;
            // The usual case: the whole head lies in one chunk and is copied once.
            if let Some(end) = memchr(b'\n', bytes)
                && self.is_first_line(bytes.get(..end).unwrap_or(&[]))
            {
                let mut scanned = 0;
                if let Some(length) = head::head_len(bytes, &mut scanned) {
                    let (head, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
                    *bytes = rest;
                    return Step::Head(self.message(head.to_vec(), config));
                }
            }
        }
        let first_line_done = memchr(b'\n', &self.held).is_some();
        if !first_line_done {
            // Line by line until the first is known to be one: what is rejected must not have swallowed what follows.
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1));
            let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            self.held.extend_from_slice(line);
            *bytes = rest;
            let complete = self.held.last() == Some(&b'\n');
            let text = self.held.strip_suffix(b"\n").unwrap_or(&self.held);
            let accepted = if complete { self.is_first_line(text) } else { self.may_begin(text) };
            if !accepted || self.held.len() > config.limits.head {
                self.reject(if accepted { flags::OVER_LIMIT } else { flags::TRAILING_BYTES }, complete);
            }
            return self.step(bytes, ts_ns, config);
        }
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        let mut scanned = self.scanned;
        let found = head::head_len(&self.held, &mut scanned);
        self.scanned = scanned;
        if let Some(length) = found {
            let used = length.saturating_sub(before);
            *bytes = bytes.get(used..).unwrap_or(&[]);
            let mut head = core::mem::take(&mut self.held);
            head.truncate(length);
            return Step::Head(self.message(head, config));
        }
        *bytes = &[];
        if self.held.len() > config.limits.head {
            self.reject(flags::OVER_LIMIT, false);
        }
        Step::NeedMore
    }

    /// What is held is no head: look for the next one.
    fn reject(&mut self, why: u64, at_line_start: bool) {
        self.next_flags |= why;
        self.held = Vec::new();
        self.resync_from(at_line_start);
    }

    fn resync_from(&mut self, at_line_start: bool) {
        self.state = State::Resync;
        self.line.clear();
        self.line.push(if at_line_start { b'\n' } else { b' ' });
    }

    /// The other side has spoken, or nothing more will come: a request line without version and headers was all of an
    /// HTTP/0.9 request.
    pub fn flush_head(&mut self, config: &Config) -> Option<Message> {
        if self.state != State::Head || !self.is_request {
            return None;
        }
        let line = self.held.strip_suffix(b"\n")?;
        if memchr(b'\n', line).is_some() || names_version(line) {
            return None;
        }
        let head = core::mem::take(&mut self.held);
        Some(self.message(head, config))
    }

    /// Whether a complete line may be the first of a message.
    fn is_first_line(&self, line: &[u8]) -> bool {
        self.may_begin(line)
            && (!self.is_request || names_version(line) || {
                let method = line.split(u8::is_ascii_whitespace).next().unwrap_or(&[]);
                head::METHODS.iter().any(|known| known.eq_ignore_ascii_case(method))
            })
    }

    /// Whether the begun line may become the first of a message.
    fn may_begin(&self, line: &[u8]) -> bool {
        if self.is_request {
            let method = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).next().unwrap_or(&[]);
            !method.is_empty() && method.len() <= 40 && method.iter().all(|byte| head::is_token(*byte))
        } else {
            let length = line.len().min(5);
            line.get(..length).zip(b"HTTP/".get(..length)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
        }
    }

    fn message(&mut self, head: Vec<u8>, config: &Config) -> Message {
        self.held = Vec::new();
        let parsed = if self.is_request {
            head::request(&head, config.limits.headers)
        } else {
            head::response(&head, config.limits.headers)
        };
        Message {
            head,
            parsed,
            ts_ns: self.head_ts_ns,
            flags: core::mem::take(&mut self.next_flags),
            ..Message::default()
        }
    }

    /// The head's owner says how long the body is.
    pub fn begin_body(&mut self, framing: Framing, encoding: &[u8], config: &Config) -> bool {
        self.counted = 0;
        self.body_flags = 0;
        self.state = match framing {
            Framing::Unsaid | Framing::Length(0) => {
                self.state = State::Head;
                self.reader = None;
                return false;
            }
            Framing::Length(length) => State::Body(Place::Length(length)),
            Framing::Chunked => State::Body(Place::ChunkSize),
            Framing::UntilClose => State::Body(Place::UntilClose),
        };
        self.line.clear();
        self.reader =
            Some(Box::new(BodyReader::new(encoding, &config.limits.body, config.want_bodies, config.want_hashes)));
        true
    }

    /// The body as it is now; the direction awaits the next head.
    pub fn end_body(&mut self) -> Option<Body> {
        if self.in_body() {
            self.state = State::Head;
        }
        let body = self.reader.take()?.finish();
        self.body_flags |= match body.decoding {
            Decoding::Whole => 0,
            Decoding::Damaged => flags::BAD_CODING,
            Decoding::OverLimit => flags::OVER_LIMIT,
            Decoding::Unknown => flags::UNKNOWN_CODING,
        };
        Some(body)
    }

    /// Read body bytes; true when the body has ended.
    fn body(&mut self, place: Place, bytes: &mut &[u8]) -> bool {
        let next = match place {
            Place::Length(left) => {
                let left = self.pass(left, bytes);
                if left == 0 {
                    return true;
                }
                Place::Length(left)
            }
            Place::UntilClose => {
                self.pass(u64::MAX, bytes);
                Place::UntilClose
            }
            Place::ChunkData(left) => match self.pass(left, bytes) {
                0 => Place::ChunkEnd,
                left => Place::ChunkData(left),
            },
            Place::ChunkSize => match self.take_line(bytes) {
                None => Place::ChunkSize,
                Some(line) => match chunk_size(&line) {
                    Some(0) => Place::Trailers,
                    Some(size) => Place::ChunkData(size),
                    None => {
                        self.body_flags |= flags::BAD_CHUNK;
                        self.state = State::Opaque;
                        return true;
                    }
                },
            },
            Place::ChunkEnd => match self.take_line(bytes) {
                None => Place::ChunkEnd,
                Some(line) if line.is_empty() => Place::ChunkSize,
                Some(_) => {
                    self.body_flags |= flags::BAD_CHUNK;
                    self.state = State::Opaque;
                    return true;
                }
            },
            Place::Trailers => match self.take_line(bytes) {
                None => Place::Trailers,
                Some(line) if line.is_empty() => return true,
                Some(_) => Place::Trailers,
            },
        };
        self.state = State::Body(next);
        false
    }

    /// Read up to `left` body bytes; what is left after them.
    fn pass(&mut self, left: u64, bytes: &mut &[u8]) -> u64 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (part, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        if let Some(reader) = &mut self.reader {
            reader.feed(part);
        }
        *bytes = rest;
        left.saturating_sub(part.len() as u64)
    }

    /// A line of chunked framing, without its end; longer than 4 KiB it is cut (and then no number).
    fn take_line(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        const LONGEST: usize = 4 << 10;
        let Some(end) = memchr(b'\n', bytes) else {
            let room = LONGEST.saturating_sub(self.line.len()).min(bytes.len());
            self.line.extend_from_slice(bytes.get(..room).unwrap_or(&[]));
            *bytes = &[];
            return None;
        };
        let mut line = core::mem::take(&mut self.line);
        line.extend_from_slice(bytes.get(..end).unwrap_or(&[]));
        *bytes = bytes.get(end.saturating_add(1)..).unwrap_or(&[]);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }

    /// Bytes are missing. True if the message in hand has ended by that.
    pub fn gap(&mut self, length: u64) -> bool {
        match self.state {
            State::Opaque => false,
            State::Resync => {
                self.resync_from(false);
                false
            }
            State::Head => {
                self.reject(flags::GAP_IN_HEAD, false);
                false
            }
            State::Body(place) => {
                self.body_flags |= flags::GAP_IN_BODY;
                match place {
                    Place::Length(left) | Place::ChunkData(left) if length <= left => {
                        let rest = left.saturating_sub(length);
                        self.state = match (place, rest) {
                            (Place::Length(_), 0) => return true,
                            (Place::Length(_), rest) => State::Body(Place::Length(rest)),
                            (_, 0) => State::Body(Place::ChunkEnd),
                            (_, rest) => State::Body(Place::ChunkData(rest)),
                        };
                    }
                    Place::UntilClose => {}
                    _ => {
                        self.reject(flags::GAP_IN_HEAD, false);
                        return true;
                    }
                }
                false
            }
        }
    }

    /// Find what begins a message; true if one has begun (its first bytes are held).
    fn resync(&mut self, bytes: &mut &[u8]) -> bool {
        const DECIDES: usize = 24; // longer than any known method and its space
        while !bytes.is_empty() {
            if self.line.last() == Some(&b'\n') {
                let room = DECIDES.saturating_sub(self.held.len()).max(1);
                let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1)).min(room);
                let (part, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
                self.held.extend_from_slice(part);
                *bytes = rest;
                let complete = self.held.last() == Some(&b'\n');
                if self.begins() {
                    self.state = State::Head;
                    self.scanned = 0;
                    return true;
                }
                if complete || self.held.len() >= DECIDES {
                    self.held.clear();
                    self.resync_from(complete);
                }
            } else if let Some(end) = memchr(b'\n', bytes) {
                *bytes = bytes.get(end.saturating_add(1)..).unwrap_or(&[]);
                self.resync_from(true);
            } else {
                *bytes = &[];
            }
        }
        false
    }

    fn begins(&self) -> bool {
        if self.is_request {
            head::METHODS
                .iter()
                .any(|method| self.held.strip_prefix(*method).is_some_and(|rest| rest.first() == Some(&b' ')))
        } else {
            self.held.starts_with(b"HTTP/1.") || self.held.starts_with(b"HTTP/0.")
        }
    }
}

/// Whether a request line says which version it is.
fn names_version(line: &[u8]) -> bool {
    line.windows(5).any(|part| part.eq_ignore_ascii_case(b"HTTP/"))
}

/// The number of a chunk's line: hexadecimal, extensions left out. None if it is none or too large.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let number = line.split(|byte| *byte == b';').next()?.trim_ascii();
    if number.is_empty() || !number.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(core::str::from_utf8(number).ok()?, 16).ok().filter(|size| *size < 1 << 62)
}
