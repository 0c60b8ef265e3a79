//! HTTP/2 in clear text (RFC 9113), by prior knowledge or after an upgrade: frames of both directions to the transactions of `http`.
//!
//! Rules of this file:
//! 1. A stream is one transaction. Its header blocks are told as heads in HTTP/1's form with the version "2", so that everything
//!    that reads heads reads these, too; line ends inside a field become blanks.
//! 2. Header blocks are put together up to `HttpLimits::head` bytes over all their CONTINUATION frames; more is not held, and the
//!    direction's compression is in doubt from there on.
//! 3. A hole inside a DATA frame is jumped by its length; anywhere else the direction's framing is lost and nothing more of it is read.
mod hpack;
mod tables;

use std::collections::BTreeMap;

use bunker_wire::Direction;

pub use hpack::{Decoder, HpackFault, TABLE_BYTES};

use crate::body::BodyReader;
use crate::http::connection::{Exchange, tell};
use crate::http::head::{self, flags};
use crate::http::message::Message;
use crate::http::{Config, TransactionSink};

/// What the client begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// Bytes of a SETTINGS frame that are read: 64 settings; RFC 9113 knows six.
const SETTINGS_BYTES: usize = 6 * 64;

#[derive(Clone, Copy, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: u32,
    /// DATA: bytes of padding at its end; None while the byte that says so is not read.
    maybe_padding: Option<u32>,
}

/// One direction's framing.
#[derive(Default)]
struct Side {
    preface: usize,
    header: Vec<u8>,
    maybe_frame: Option<Frame>,
    frame_ts_ns: u64,
    /// Payload of a frame that is read whole.
    payload: Vec<u8>,
    /// A header block over several frames: its stream, its frame's flags, its bytes.
    maybe_block: Option<Block>,
    decoder: Decoder,
    lost: bool,
    ended: bool,
}

struct Block {
    stream: u32,
    promised: bool,
    ends_stream: bool,
    bytes: Vec<u8>,
    over: bool,
    ts_ns: u64,
}

struct Stream {
    exchange: Box<Exchange>,
    readers: [Option<Box<BodyReader>>; 2],
    flags: u64,
}

/// One TCP connection that speaks HTTP/2.
pub struct Connection {
    sides: [Side; 2],
    client: Direction,
    streams: BTreeMap<u32, Stream>,
    depth: u32,
}

impl Connection {
    /// `client` is about to send its preface.
    #[must_use]
    pub fn new(client: Direction) -> Self {
        let mut sides = [Side::default(), Side::default()];
        if let Some(side) = sides.get_mut(client.other().index()) {
            side.preface = PREFACE.len(); // the server has none
        }
        Self { sides, client, streams: BTreeMap::new(), depth: 0 }
    }

    /// After an upgrade: the request that asked for it is stream 1, and is whole. `depth` transactions came before it.
    #[must_use]
    pub fn upgraded(client: Direction, depth: u32, exchange: Box<Exchange>, settings: &[u8]) -> Self {
        let mut this = Self::new(client);
        this.depth = depth;
        let settings: Vec<u8> = crate::engine::base64(settings);
        this.settings(client, settings.get(..SETTINGS_BYTES).unwrap_or(&settings));
        this.streams.insert(1, Stream { exchange, readers: [None, None], flags: 0 });
        this
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let sides = self.sides.iter().fold(0usize, |sum, side| {
            sum.saturating_add(side.payload.capacity())
                .saturating_add(side.decoder.live_bytes())
                .saturating_add(side.maybe_block.as_ref().map_or(0, |block| block.bytes.capacity()))
        });
        self.streams.values().fold(sides, |sum, stream| {
            stream.readers.iter().flatten().fold(sum.saturating_add(stream.exchange.live_bytes()), |sum, reader| {
                sum.saturating_add(reader.live_bytes()).saturating_add(size_of::<BodyReader>())
            })
        })
    }

    /// Take stream bytes. False: this is no HTTP/2 after all.
    pub fn data(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(side) = self.sides.get_mut(direction.index()) else { return false };
            if side.lost {
                return true;
            }
            if side.preface < PREFACE.len() {
                let Some((byte, after)) = rest.split_first() else { break };
                if PREFACE.get(side.preface) != Some(byte) {
                    return false;
                }
                side.preface = side.preface.saturating_add(1);
                rest = after;
                continue;
            }
            let Some(frame) = side.maybe_frame else {
                self.frame_header(direction, &mut rest, ts_ns, config, out);
                continue;
            };
            let length = (frame.left as usize).min(rest.len());
            let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = after;
            self.payload(direction, frame, part, config, out);
        }
        true
    }

    fn frame_header(
        &mut self,
        direction: Direction,
        rest: &mut &[u8],
        ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let Some(side) = self.sides.get_mut(direction.index()) else { return };
        if side.header.is_empty() {
            side.frame_ts_ns = ts_ns;
        }
        let room = 9usize.saturating_sub(side.header.len()).min(rest.len());
        let (part, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        side.header.extend_from_slice(part);
        *rest = after;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = side.header.as_slice() else { return };
        let frame = Frame {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([s0 & 0x7F, *s1, *s2, *s3]),
            left: u32::from_be_bytes([0, *a, *b, *c]),
            maybe_padding: if *kind == DATA && flags & PADDED == 0 { Some(0) } else { None },
        };
        side.header.clear();
        side.payload.clear();
        // Between a block's frames nothing else may come (RFC 9113 section 6.10).
        let awaited = side.maybe_block.as_ref().map(|block| block.stream);
        let broken = match awaited {
            Some(stream) => frame.kind != CONTINUATION || frame.stream != stream,
            None => frame.kind == CONTINUATION,
        };
        if broken {
            self.lose(direction, flags::BAD_FRAME);
            return;
        }
        side.maybe_frame = Some(frame);
        if frame.left == 0 {
            self.payload(direction, frame, &[], config, out);
        }
    }

    /// Bytes of a frame's payload.
    fn payload(
        &mut self,
        direction: Direction,
        mut frame: Frame,
        part: &[u8],
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let Some(side) = self.sides.get_mut(direction.index()) else { return };
        frame.left = frame.left.saturating_sub(u32::try_from(part.len()).unwrap_or(u32::MAX));
        let whole = frame.left == 0;
        if frame.kind == DATA {
            let mut content = part;
            if frame.maybe_padding.is_none()
                && let Some((length, rest)) = part.split_first()
            {
                frame.maybe_padding = Some(u32::from(*length));
                content = rest;
            }
            side.maybe_frame = (!whole).then_some(frame);
            let padding = frame.maybe_padding.unwrap_or(0);
            // What stands in the last `padding` bytes of the frame is none of the body.
            let pad_here = (padding.saturating_sub(frame.left) as usize).min(content.len());
            let body = content.get(..content.len().saturating_sub(pad_here)).unwrap_or(&[]);
            self.body(direction, frame.stream, body, config);
            if whole && frame.flags & END_STREAM != 0 {
                self.end(direction, frame.stream, 0, config, out);
            }
            return;
        }
        let wanted = match frame.kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => config.limits.head,
            SETTINGS => SETTINGS_BYTES,
            RST_STREAM => 4,
            _ => 0,
        };
        let room = wanted.saturating_sub(side.payload.len()).min(part.len());
        side.payload.extend_from_slice(part.get(..room).unwrap_or(&[]));
        let cut = room < part.len();
        side.maybe_frame = (!whole).then_some(frame);
        if cut && matches!(frame.kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            side.payload.resize(config.limits.head.saturating_add(1), 0); // beyond the limit: told once the frame ends
        }
        if !whole {
            return;
        }
        let payload = core::mem::take(&mut side.payload);
        match frame.kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => self.block(direction, frame, &payload, config, out),
            SETTINGS if frame.flags & 1 == 0 => self.settings(direction, &payload),
            RST_STREAM => self.reset(frame.stream, config, out),
            _ => {}
        }
    }

    /// What one side sets bounds the other side's compression.
    fn settings(&mut self, direction: Direction, payload: &[u8]) {
        let Some(other) = self.sides.get_mut(direction.other().index()) else { return };
        for setting in payload.chunks_exact(6) {
            if let [0, 1, a, b, c, d] = setting {
                other.decoder.allow(u32::from_be_bytes([*a, *b, *c, *d]));
            }
        }
    }

    fn block(
        &mut self,
        direction: Direction,
        frame: Frame,
        payload: &[u8],
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let over = payload.len() > config.limits.head;
        let Some(side) = self.sides.get_mut(direction.index()) else { return };
        let fragment = if over { Some(&[][..]) } else { fragment(frame, payload) };
        let Some(fragment) = fragment else {
            self.lose(direction, flags::BAD_FRAME);
            return;
        };
        let mut block = match side.maybe_block.take() {
            Some(block) => block,
            None => Block {
                stream: frame.stream,
                promised: frame.kind == PUSH_PROMISE,
                ends_stream: frame.kind == HEADERS && frame.flags & END_STREAM != 0,
                bytes: Vec::new(),
                over: false,
                ts_ns: side.frame_ts_ns,
            },
        };
        if over || block.bytes.len().saturating_add(fragment.len()) > config.limits.head {
            block.over = true;
            block.bytes = Vec::new();
        } else if !block.over {
            block.bytes.extend_from_slice(fragment);
        }
        if frame.flags & END_HEADERS == 0 {
            side.maybe_block = Some(block);
            return;
        }
        let stream = match fragment_promise(payload, frame).filter(|_| block.promised) {
            Some(promised) => promised,
            None => block.stream,
        };
        self.headers(direction, stream, block, config, out);
    }

    /// A whole header block.
    fn headers(
        &mut self,
        direction: Direction,
        number: u32,
        block: Block,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let Some(side) = self.sides.get_mut(direction.index()) else { return };
        // A promise is a request in the server's direction.
        let is_request = (direction == self.client) != block.promised;
        let mut lines = Lines::default();
        let mut found = 0;
        if block.over {
            side.decoder.doubt();
            found |= flags::OVER_LIMIT;
        } else {
            match side.decoder.block(&block.bytes, config.limits.head, |name, value| lines.add(name, value)) {
                Ok(()) => {}
                Err(HpackFault::TooMuch) => found |= flags::OVER_LIMIT,
                Err(_) => found |= flags::BAD_FRAME,
            }
        }
        if number == 0 {
            self.lose(direction, flags::BAD_FRAME);
            return;
        }
        if !self.streams.contains_key(&number) {
            self.open(number, config, out);
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let Exchange { request, response, maybe_info, .. } = &mut *stream.exchange;
        let message = if is_request { request } else { response };
        stream.flags |= found;
        if !message.seen {
            let text = if is_request { lines.request() } else { lines.response() };
            begin(message, &text, is_request, block.ts_ns, config);
            if !is_request && (100..200).contains(&message.parsed.status) && message.parsed.status != 101 {
                *maybe_info = Some(Box::new((message.parsed.status, Vec::new())));
                message.clear();
            }
        }
        if block.ends_stream {
            self.end(direction, number, 0, config, out);
        }
    }

    fn open(&mut self, number: u32, config: &Config, out: &mut impl TransactionSink) {
        if self.streams.len() >= config.limits.pending
            && let Some((_, mut oldest)) = self.streams.pop_first()
        {
            oldest.flags |= flags::OVER_LIMIT | flags::TRUNCATED;
            self.tell(oldest, config, out);
        }
        let mut exchange = out.spare();
        exchange.clear();
        self.streams.insert(number, Stream { exchange, readers: [None, None], flags: 0 });
    }

    fn body(&mut self, direction: Direction, number: u32, bytes: &[u8], config: &Config) {
        let is_request = direction == self.client;
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let Exchange { request, response, .. } = &*stream.exchange;
        let message = if is_request { request } else { response };
        let encoding = message.parsed.content_encoding.of(&message.head);
        let Some(reader) = stream.readers.get_mut(usize::from(!is_request)) else { return };
        if !bytes.is_empty() {
            let reader = reader.get_or_insert_with(|| {
                let mut reader = Box::new(BodyReader::idle());
                reader.begin(encoding, &config.limits.body, config.want_bodies, config.want_hashes);
                reader
            });
            reader.feed(bytes, false);
        }
    }

    /// One direction of a stream has ended.
    fn end(&mut self, direction: Direction, number: u32, found: u64, config: &Config, out: &mut impl TransactionSink) {
        let is_request = direction == self.client;
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.flags |= found;
        let reader = stream.readers.get_mut(usize::from(!is_request)).and_then(Option::take);
        let Exchange { request, response, .. } = &mut *stream.exchange;
        finish_side(if is_request { request } else { response }, reader);
        if request.ended && response.ended {
            self.close(number, config, out);
        }
    }

    fn reset(&mut self, number: u32, config: &Config, out: &mut impl TransactionSink) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.flags |= flags::TRUNCATED;
        }
        self.close(number, config, out);
    }

    fn close(&mut self, number: u32, config: &Config, out: &mut impl TransactionSink) {
        if let Some(stream) = self.streams.remove(&number) {
            self.tell(stream, config, out);
        }
    }

    fn tell(&mut self, mut stream: Stream, config: &Config, out: &mut impl TransactionSink) {
        let [asked, answered] = stream.readers;
        finish_side(&mut stream.exchange.request, asked);
        finish_side(&mut stream.exchange.response, answered);
        stream.exchange.flags |= stream.flags;
        self.depth = self.depth.saturating_add(1);
        tell(&stream.exchange, self.depth, config, out);
        out.keep(stream.exchange);
    }

    /// The framing of a direction is lost: every stream that waits for it says so.
    fn lose(&mut self, direction: Direction, found: u64) {
        let Some(side) = self.sides.get_mut(direction.index()) else { return };
        side.lost = true;
        side.maybe_frame = None;
        side.maybe_block = None;
        side.decoder.doubt();
        for stream in self.streams.values_mut() {
            stream.flags |= found;
        }
    }

    /// Bytes are missing.
    pub fn gap(&mut self, direction: Direction, length: u64) {
        let Some(side) = self.sides.get_mut(direction.index()) else { return };
        if let Some(frame) =
            side.maybe_frame.as_mut().filter(|frame| frame.kind == DATA && frame.maybe_padding == Some(0))
            && length < u64::from(frame.left)
        {
            frame.left = frame.left.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
            let number = frame.stream;
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.flags |= flags::GAP_IN_BODY;
            }
            return;
        }
        self.lose(direction, flags::GAP_IN_HEAD);
    }

    /// A direction sends no more.
    pub fn ended(&mut self, direction: Direction) {
        if let Some(side) = self.sides.get_mut(direction.index()) {
            side.ended = true;
        }
    }

    /// The flow is over: tell what is left.
    pub fn closed(&mut self, config: &Config, out: &mut impl TransactionSink) {
        while let Some((_, mut stream)) = self.streams.pop_first() {
            stream.flags |= flags::TRUNCATED;
            self.tell(stream, config, out);
        }
    }
}

fn finish_side(message: &mut Message, reader: Option<Box<BodyReader>>) {
    message.ended = true;
    if let Some(mut reader) = reader {
        let body = reader.finish();
        message.flags |= body.flags();
        message.maybe_body = Some(body);
    }
}

fn begin(message: &mut Message, text: &[u8], is_request: bool, ts_ns: u64, config: &Config) {
    let parsed = if is_request {
        head::request(text, config.limits.headers)
    } else {
        head::response(text, config.limits.headers)
    };
    if let Some((mut parsed, _)) = parsed {
        // These are of the form that we gave it, not of what was sent.
        parsed.flags &= !(flags::ODD_VERSION | flags::CODING_BEFORE_1_1);
        message.begin(text, parsed, ts_ns, 0);
    }
}

/// The part of a frame's payload that belongs to the header block. None: the lengths do not add up.
fn fragment(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    if frame.kind == CONTINUATION {
        return Some(payload);
    }
    let (mut rest, mut padding) = (payload, 0);
    if frame.flags & PADDED != 0 {
        let (length, after) = payload.split_first()?;
        (rest, padding) = (after, usize::from(*length));
    }
    let fixed = match frame.kind {
        PUSH_PROMISE => 4,
        HEADERS if frame.flags & PRIORITY != 0 => 5,
        _ => 0,
    };
    let rest = rest.get(fixed..)?;
    rest.get(..rest.len().checked_sub(padding)?)
}

/// The stream that a PUSH_PROMISE promises.
fn fragment_promise(payload: &[u8], frame: Frame) -> Option<u32> {
    let start = usize::from(frame.kind == PUSH_PROMISE && frame.flags & PADDED != 0);
    match payload.get(start..start.saturating_add(4))? {
        [a, b, c, d] if frame.kind == PUSH_PROMISE => Some(u32::from_be_bytes([a & 0x7F, *b, *c, *d])),
        _ => None,
    }
}

/// A header block in HTTP/1's form.
#[derive(Default)]
struct Lines {
    method: Vec<u8>,
    path: Vec<u8>,
    authority: Vec<u8>,
    status: Vec<u8>,
    fields: Vec<u8>,
    has_host: bool,
}

fn push_clean(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

impl Lines {
    fn add(&mut self, name: &[u8], value: &[u8]) {
        let pseudo = match name {
            b":method" => &mut self.method,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":status" => &mut self.status,
            _ if name.starts_with(b":") => return,
            _ => {
                self.has_host |= name == b"host";
                push_clean(&mut self.fields, name);
                self.fields.extend_from_slice(b": ");
                push_clean(&mut self.fields, value);
                self.fields.extend_from_slice(b"\r\n");
                return;
            }
        };
        pseudo.clear();
        push_clean(pseudo, value);
    }

    fn request(&self) -> Vec<u8> {
        let target = if self.path.is_empty() { &self.authority } else { &self.path };
        let mut text = [self.method.as_slice(), b" ", target, b" HTTP/2\r\n"].concat();
        if !self.authority.is_empty() && !self.has_host {
            text.extend_from_slice(b"host: ");
            text.extend_from_slice(&self.authority);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(&self.fields);
        text.extend_from_slice(b"\r\n");
        text
    }

    fn response(&self) -> Vec<u8> {
        [b"HTTP/2 ".as_slice(), &self.status, b"\r\n", &self.fields, b"\r\n"].concat()
    }
}
