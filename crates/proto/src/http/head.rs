//! Heads of HTTP/1 messages: one pass over the lines, places instead of copies.
//!
//! Rules of this file:
//! 1. As lenient as servers are (bare line feeds, odd spaces, unknown methods), and each leniency sets a flag.
//! 2. Places are 32-bit offsets into the head; a head is at most `HttpLimits::head` bytes.
use memchr::memchr;

use super::forwarded::names_addresses;

/// Anomalies and facts of a transaction, as bits. Names: `NAMES`.
pub mod flags {
    /// Both Content-Length and Transfer-Encoding.
    pub const LENGTH_AND_CODING: u64 = 1;
    /// Content-Length twice with different values.
    pub const DIFFERENT_LENGTHS: u64 = 1 << 1;
    /// Content-Length that is no number.
    pub const BAD_LENGTH: u64 = 1 << 2;
    /// Chunk size that is no number or too large.
    pub const BAD_CHUNK: u64 = 1 << 3;
    /// A header folded over lines.
    pub const FOLDED_HEADER: u64 = 1 << 4;
    /// Space before the first header's name or before a colon.
    pub const STRAY_SPACE: u64 = 1 << 5;
    /// NUL in a head.
    pub const NUL: u64 = 1 << 6;
    /// HTTP/1.1 request without Host.
    pub const NO_HOST: u64 = 1 << 7;
    /// Host twice, or different from the request line's.
    pub const AMBIGUOUS_HOST: u64 = 1 << 8;
    /// HTTP/0.9.
    pub const VERSION_09: u64 = 1 << 9;
    /// Bytes missing in a head.
    pub const GAP_IN_HEAD: u64 = 1 << 10;
    /// Bytes missing in a body.
    pub const GAP_IN_BODY: u64 = 1 << 11;
    /// The stream ended inside a message.
    pub const TRUNCATED: u64 = 1 << 12;
    /// No response was seen.
    pub const NO_RESPONSE: u64 = 1 << 13;
    /// No request was seen.
    pub const NO_REQUEST: u64 = 1 << 14;
    /// A body's coding is damaged.
    pub const BAD_CODING: u64 = 1 << 15;
    /// A limit was reached (decoded size, ratio, headers, pending).
    pub const OVER_LIMIT: u64 = 1 << 16;
    /// The request came before the response to the one before.
    pub const PIPELINED: u64 = 1 << 17;
    /// A transfer coding that is not "chunked".
    pub const ODD_TRANSFER_CODING: u64 = 1 << 18;
    /// A header line without a colon.
    pub const NO_COLON: u64 = 1 << 19;
    /// Lines that end without CR.
    pub const BARE_LF: u64 = 1 << 20;
    /// Method in lower case or not a token.
    pub const ODD_METHOD: u64 = 1 << 21;
    /// A version other than 1.0 and 1.1.
    pub const ODD_VERSION: u64 = 1 << 22;
    /// Bytes after the message that are none.
    pub const TRAILING_BYTES: u64 = 1 << 23;
    /// A content coding that is not known.
    pub const UNKNOWN_CODING: u64 = 1 << 24;
    /// The connection went on in another protocol.
    pub const UPGRADED: u64 = 1 << 25;
    /// The request line has no target.
    pub const NO_TARGET: u64 = 1 << 26;
    /// A Host that is no host name, address and port.
    pub const BAD_HOST: u64 = 1 << 27;
    /// A header's name that is no token.
    pub const BAD_HEADER_NAME: u64 = 1 << 28;
    /// Content-Length more than once, with one value.
    pub const REPEATED_LENGTH: u64 = 1 << 29;
    /// A message followed one that said it was the last (Connection: close).
    pub const AFTER_CLOSE: u64 = 1 << 30;
    /// A CR without LF in a head.
    pub const BARE_CR: u64 = 1 << 31;
    /// A control character in a head, or a DEL.
    pub const CONTROL: u64 = 1 << 32;
    /// A target that is none for its method: a space, a byte that is not ASCII, an authority without CONNECT.
    pub const BAD_TARGET: u64 = 1 << 33;
    /// Basic authentication that cannot be read.
    pub const BAD_AUTHORIZATION: u64 = 1 << 34;
    /// UTF-8 in the target that is longer than it need be: a way to hide a slash.
    pub const OVERLONG_UTF8: u64 = 1 << 35;
    /// A status that is not three digits.
    pub const BAD_STATUS: u64 = 1 << 36;
    /// A PROXY protocol header stood before the first request.
    pub const PREAMBLE: u64 = 1 << 37;
    /// Chunk framing that servers read differently: spaces, a sign, an odd extension, a line end missing.
    pub const ODD_CHUNK: u64 = 1 << 38;
    /// A trailer that may not be one: framing, routing, or without a colon.
    pub const BAD_TRAILER: u64 = 1 << 39;
    /// A transfer coding in HTTP/1.0.
    pub const CODING_BEFORE_1_1: u64 = 1 << 40;
    /// A body that is not coded as declared, read as it is.
    pub const WRONG_CODING: u64 = 1 << 41;
    /// A line longer than common servers take (8 KiB).
    pub const FIELD_LIMIT: u64 = 1 << 42;
    /// HTTP/2 frames or header blocks that cannot be read.
    pub const BAD_FRAME: u64 = 1 << 43;

    /// Name of each bit, from the lowest.
    pub const NAMES: [&str; 44] = [
        "length_and_coding",
        "different_lengths",
        "bad_length",
        "bad_chunk",
        "folded_header",
        "stray_space",
        "nul",
        "no_host",
        "ambiguous_host",
        "version_09",
        "gap_in_head",
        "gap_in_body",
        "truncated",
        "no_response",
        "no_request",
        "bad_coding",
        "over_limit",
        "pipelined",
        "odd_transfer_coding",
        "no_colon",
        "bare_lf",
        "odd_method",
        "odd_version",
        "trailing_bytes",
        "unknown_coding",
        "upgraded",
        "no_target",
        "bad_host",
        "bad_header_name",
        "repeated_length",
        "after_close",
        "bare_cr",
        "control",
        "bad_target",
        "bad_authorization",
        "overlong_utf8",
        "bad_status",
        "preamble",
        "odd_chunk",
        "bad_trailer",
        "coding_before_1_1",
        "wrong_coding",
        "field_limit",
        "bad_frame",
    ];
}

/// A place in a head; [`Place::NONE`] is nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    start: u32,
    end: u32,
}

impl Default for Place {
    fn default() -> Self {
        Self::NONE
    }
}

impl Place {
    /// Nowhere: the field is not there.
    pub const NONE: Self = Self { start: u32::MAX, end: u32::MAX };

    fn new(start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::NONE,
        }
    }

    /// The bytes; none for [`Place::NONE`].
    #[must_use]
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    /// The bytes, if the field is there.
    #[must_use]
    pub fn maybe_of(self, head: &[u8]) -> Option<&[u8]> {
        head.get(self.start as usize..self.end as usize)
    }

    /// Whether the field is there.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.start != u32::MAX
    }
}

/// How long a message's body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// Nothing said.
    #[default]
    Unsaid,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked. `maybe_length` stands beside it, against the RFC; what is not chunked after all is that long.
    Chunked {
        /// Content-Length.
        maybe_length: Option<u64>,
    },
    /// Until the connection closes.
    UntilClose,
}

/// What the head of a message says.
#[derive(Clone, Copy, Default, Debug)]
pub struct Head {
    /// Request: method.
    pub method: Place,
    /// Request: target. Response: reason phrase.
    pub target: Place,
    /// Version digits ("1.1").
    pub version: Place,
    /// Host.
    pub host: Place,
    /// Referer.
    pub referrer: Place,
    /// User-Agent (request).
    pub user_agent: Place,
    /// Origin.
    pub origin: Place,
    /// Location.
    pub location: Place,
    /// Content-Type.
    pub content_type: Place,
    /// Content-Encoding: the first; `more_codings` says that there are others.
    pub content_encoding: Place,
    /// Transfer-Encoding, if it names more than chunked.
    pub transfer_coding: Place,
    /// Authorization.
    pub authorization: Place,
    /// Upgrade.
    pub upgrade: Place,
    /// HTTP2-Settings (RFC 7540 section 3.2.1).
    pub http2_settings: Place,
    /// Flags.
    pub flags: u64,
    /// Body framing.
    pub framing: Framing,
    /// Number of headers.
    pub headers: u32,
    /// Response: status code; 0 if it is no number.
    pub status: u16,
    /// Cookie or Set-Cookie.
    pub cookie: bool,
    /// A header that names addresses of proxies or of who is behind them (`forwarded.rs`).
    pub proxied: bool,
    /// Content-Encoding stands more than once.
    pub more_codings: bool,
    /// This is the sender's last message.
    pub closes: bool,
    /// Expect: 100-continue.
    pub expects: bool,
}

/// Length of a head that starts at 0: up to and with its empty line. `scanned` tells where a former search stopped.
///
/// None if the empty line is not there yet.
#[must_use]
pub fn head_len(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    let mut at = *scanned;
    while let Some(found) = memchr(b'\n', bytes.get(at..)?) {
        let end = at.saturating_add(found).saturating_add(1);
        let mut next = end;
        while bytes.get(next) == Some(&b'\r') {
            next = next.saturating_add(1);
        }
        match bytes.get(next) {
            Some(b'\n') => return Some(next.saturating_add(1)),
            Some(_) => at = end,
            None => break, // the next line has not begun
        }
    }
    *scanned = at;
    None
}

/// Bytes of a method and its space at most. The longest registered one has 17.
pub const LONGEST_METHOD: usize = 40;

/// Whether bytes begin a status line.
#[must_use]
pub fn begins_response(bytes: &[u8]) -> bool {
    bytes.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

/// A token's character (RFC 9110 section 5.6.2).
#[must_use]
#[inline]
pub fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &mut [bool] = &mut table;
    let mut byte = 0u8;
    while let Some((place, after)) = rest.split_first_mut() {
        *place = in_token(byte);
        byte = byte.wrapping_add(1);
        rest = after;
    }
    table
};

const fn in_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
        | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Methods that servers know; an HTTP/0.9 or odd request line is believed only with one of these.
pub const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"NOTIFY",
    b"QUERY",
    b"POLL",
    b"BMOVE",
    b"BCOPY",
    b"BDELETE",
    b"BPROPFIND",
    b"BPROPPATCH",
    b"M-SEARCH",
    b"LINK",
    b"UNLINK",
    b"MERGE",
    b"MKACTIVITY",
    b"CHECKOUT",
    b"CHECKIN",
    b"UNCHECKOUT",
    b"VERSION-CONTROL",
    b"ORDERPATCH",
    b"ACL",
    b"BASELINE-CONTROL",
    b"LABEL",
    b"MKWORKSPACE",
    b"UPDATE",
    b"MKCALENDAR",
    b"REBIND",
    b"UNBIND",
    b"BIND",
    b"PURGE",
    b"SOURCE",
    b"DESCRIBE",
    b"ANNOUNCE",
    b"SETUP",
    b"PLAY",
    b"PAUSE",
    b"TEARDOWN",
    b"RECORD",
    b"RPC_IN_DATA",
    b"RPC_OUT_DATA",
    b"CCM_POST",
    b"SMS_POST",
    b"X-MS-ENUMATTS",
    b"PRI",
];

/// Whether a word is one of [`METHODS`], in any case.
#[must_use]
pub fn is_known_method(word: &[u8]) -> bool {
    match word.len() {
        3 if word == b"GET" => true,
        4 if word == b"POST" || word == b"HEAD" => true,
        0..=2 => false,
        _ => METHODS.iter().any(|known| known.eq_ignore_ascii_case(word)),
    }
}

/// Parse the head of a request that starts at 0: what it says and its length. None if its empty line is not there.
#[must_use]
pub fn request(bytes: &[u8], max_headers: u32) -> Option<(Head, usize)> {
    let mut parsed = Head::default();
    let line = Line::at(bytes, 0)?;
    parsed.flags |= line.flags;
    let text = bytes.get(..line.text)?;
    request_line(text, &mut parsed);
    let (end, framing) = headers(bytes, line.next, &mut parsed, max_headers)?;
    let version = parsed.version.of(bytes);
    if !parsed.host.is_some() && version == b"1.1" {
        parsed.flags |= flags::NO_HOST;
    }
    finish(bytes, end, &mut parsed, framing, true);
    Some((parsed, end))
}

fn request_line(text: &[u8], parsed: &mut Head) {
    let space = text.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    parsed.method = Place::new(0, space);
    if text.get(..space).is_some_and(|method| method.iter().any(|byte| !matches!(byte, b'A'..=b'Z' | b'-' | b'_'))) {
        parsed.flags |= flags::ODD_METHOD;
    }
    let (mut from, mut to) = (space, text.len());
    while text.get(from).is_some_and(u8::is_ascii_whitespace) {
        from = from.saturating_add(1);
    }
    while to > from && text.get(to.saturating_sub(1)).is_some_and(u8::is_ascii_whitespace) {
        to = to.saturating_sub(1);
    }
    if from > space.saturating_add(1) || to < text.len() {
        parsed.flags |= flags::STRAY_SPACE;
    }
    let rest = text.get(from..to).unwrap_or(&[]);
    let version = rest
        .iter()
        .rposition(u8::is_ascii_whitespace)
        .map(|at| at.saturating_add(1))
        .or((begins_response(rest)).then_some(0))
        .filter(|at| rest.get(*at..).is_some_and(begins_response));
    if let Some(at) = version {
        let begin = from.saturating_add(at);
        parsed.version = Place::new(begin.saturating_add(5), to);
        let mut end = begin;
        while end > from && text.get(end.saturating_sub(1)).is_some_and(u8::is_ascii_whitespace) {
            end = end.saturating_sub(1);
        }
        parsed.target = Place::new(from, end);
        if !matches!(parsed.version.of(text), b"1.1" | b"1.0")
            || text.get(begin..begin.saturating_add(4)) != Some(b"HTTP")
        {
            parsed.flags |= flags::ODD_VERSION;
        }
        if begin > end.saturating_add(1) && end > from {
            parsed.flags |= flags::STRAY_SPACE;
        }
    } else {
        parsed.target = Place::new(from, to);
        parsed.flags |= flags::VERSION_09;
    }
    let target = parsed.target.of(text);
    if target.is_empty() {
        parsed.flags |= flags::NO_TARGET;
    } else {
        parsed.flags |= target_flags(parsed.method.of(text), target);
    }
}

/// What is odd about a target (RFC 9112 section 3.2).
fn target_flags(method: &[u8], target: &[u8]) -> u64 {
    let mut found = 0;
    let odd = target.iter().fold(0u8, |seen, byte| seen | u8::from(*byte <= b' ') | u8::from(*byte >= 0x7F));
    if odd != 0 {
        found |= flags::BAD_TARGET;
        if has_overlong(target) {
            found |= flags::OVERLONG_UTF8;
        }
    }
    match target.first() {
        Some(b'/') => {}
        Some(b'*') if target.len() == 1 => {}
        _ if method == b"CONNECT" => {}
        _ if target.windows(3).any(|part| part == b"://") => {}
        _ => found |= flags::BAD_TARGET,
    }
    if memchr(b'%', target).is_some() && has_overlong(&unescaped(target)) {
        found |= flags::OVERLONG_UTF8;
    }
    found
}

/// Bytes behind `%XX`.
fn unescaped(target: &[u8]) -> Vec<u8> {
    let digit = |at: usize| target.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(target.len());
    let mut at = 0usize;
    while let Some(byte) = target.get(at) {
        let value = digit(at.saturating_add(1)).zip(digit(at.saturating_add(2)));
        match value.filter(|_| *byte == b'%') {
            Some((high, low)) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or(0));
                at = at.saturating_add(3);
            }
            None => {
                out.push(*byte);
                at = at.saturating_add(1);
            }
        }
    }
    out
}

/// A UTF-8 sequence that a shorter one could stand for (RFC 3629 section 10).
fn has_overlong(text: &[u8]) -> bool {
    text.windows(2).any(|pair| {
        matches!(pair, [0xC0 | 0xC1, 0x80..=0xBF] | [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F] | [0xF8, 0x80..=0x87])
    })
}

/// Parse the head of a response that starts at 0: what it says and its length. None if its empty line is not there.
#[must_use]
pub fn response(bytes: &[u8], max_headers: u32) -> Option<(Head, usize)> {
    let mut parsed = Head::default();
    let line = Line::at(bytes, 0)?;
    parsed.flags |= line.flags;
    let text = bytes.get(..line.text)?;
    status_line(text, &mut parsed);
    let (end, framing) = headers(bytes, line.next, &mut parsed, max_headers)?;
    finish(bytes, end, &mut parsed, framing, false);
    Some((parsed, end))
}

fn status_line(text: &[u8], parsed: &mut Head) {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let space = text.iter().position(blank).unwrap_or(text.len());
    parsed.version = Place::new(5.min(space), space);
    if !matches!(parsed.version.of(text), b"1.1" | b"1.0") || !text.starts_with(b"HTTP/") {
        parsed.flags |= flags::ODD_VERSION;
    }
    let mut from = space;
    while text.get(from).is_some_and(blank) {
        from = from.saturating_add(1);
    }
    if from > space.saturating_add(1) {
        parsed.flags |= flags::STRAY_SPACE;
    }
    let mut status = 0_u16;
    let mut to = from;
    while let Some(digit) = text.get(to).filter(|byte| byte.is_ascii_digit()) {
        status = status.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0')));
        to = to.saturating_add(1);
    }
    let delimited = text.get(to).is_none_or(|byte| byte.is_ascii_whitespace());
    if to.saturating_sub(from) != 3 || !delimited || !(100..600).contains(&status) {
        parsed.flags |= flags::BAD_STATUS;
    }
    parsed.status = status;
    while text.get(to).is_some_and(blank) {
        to = to.saturating_add(1);
    }
    let mut end = text.len();
    while end > to && text.get(end.saturating_sub(1)).is_some_and(blank) {
        end = end.saturating_sub(1);
    }
    parsed.target = Place::new(to, end);
}

/// One line: where its text ends and where the next begins.
struct Line {
    text: usize,
    next: usize,
    flags: u64,
}

impl Line {
    /// The line that starts at `start`; None if its end is not there.
    #[inline]
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let end = start.checked_add(memchr(b'\n', bytes.get(start..)?)?)?;
        let mut text = end;
        while text > start && bytes.get(text.wrapping_sub(1)) == Some(&b'\r') {
            text = text.wrapping_sub(1);
        }
        let flags = match end.wrapping_sub(text) {
            0 => flags::BARE_LF,
            1 => 0,
            _ => flags::BARE_CR,
        };
        Some(Self { text, next: end.saturating_add(1), flags })
    }
}

/// What the headers say of the body's length, before it is put together.
#[derive(Default)]
struct Said {
    maybe_length: Option<u64>,
    /// A Content-Length has more to it than a number: readers differ in what they make of it.
    doubtful: bool,
    coding: Coding,
    /// Lines of the head, the first and the empty one included.
    lines: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Coding {
    #[default]
    None,
    Chunked,
    /// Names chunked in a way that servers read differently.
    MaybeChunked,
    Other,
}

/// Read headers from `at` on; the head's length. None if the empty line is not there.
fn headers(bytes: &[u8], mut at: usize, parsed: &mut Head, max_headers: u32) -> Option<(usize, Said)> {
    let mut said = Said::default();
    let mut line = Line::at(bytes, at)?;
    said.lines = 2;
    while line.text > at {
        parsed.flags |= line.flags;
        said.lines = said.lines.saturating_add(1);
        if line.next.saturating_sub(at) > LONG_LINE {
            parsed.flags |= flags::FIELD_LIMIT;
        }
        let mut next = Line::at(bytes, line.next)?;
        let (mut value_end, mut begin) = (line.text, line.next);
        // A line that begins with a space continues this one (RFC 9112 section 5.2).
        while next.text > begin && matches!(bytes.get(begin), Some(b' ' | b'\t')) {
            parsed.flags |= flags::FOLDED_HEADER | next.flags;
            said.lines = said.lines.saturating_add(1);
            value_end = next.text;
            begin = next.next;
            next = Line::at(bytes, begin)?;
        }
        parsed.headers = parsed.headers.saturating_add(1);
        if parsed.headers > max_headers {
            parsed.flags |= flags::OVER_LIMIT;
        } else {
            header(bytes, at, line.text, value_end, parsed, &mut said);
        }
        (at, line) = (begin, next);
    }
    parsed.flags |= line.flags;
    Some((line.next, said))
}

/// A line longer than this is flagged. Apache's LimitRequestFieldSize and gunicorn's: 8,190.
const LONG_LINE: usize = 8_192;

fn header(bytes: &[u8], start: usize, text_end: usize, value_end: usize, parsed: &mut Head, said: &mut Said) {
    let text = bytes.get(start..text_end).unwrap_or(&[]);
    let token = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    let (name, colon) = if token > 0 && text.get(token) == Some(&b':') {
        (text.get(..token).unwrap_or(&[]), token)
    } else {
        let Some(colon) = memchr(b':', text) else {
            parsed.flags |= flags::NO_COLON;
            return;
        };
        let name = text.get(..colon).unwrap_or(&[]);
        let trimmed = name.trim_ascii();
        if trimmed.len() != name.len() {
            parsed.flags |= flags::STRAY_SPACE;
        }
        if trimmed.is_empty() || !trimmed.iter().all(|byte| is_token(*byte)) {
            parsed.flags |= flags::BAD_HEADER_NAME;
        }
        (trimmed, colon)
    };
    let value = trim(bytes, start.saturating_add(colon).saturating_add(1), value_end);
    field(bytes, name, value, parsed, said);
}

fn trim(head: &[u8], mut start: usize, mut end: usize) -> Place {
    while start < end && head.get(start).is_some_and(|byte| byte.is_ascii_whitespace()) {
        start = start.saturating_add(1);
    }
    while end > start && head.get(end.saturating_sub(1)).is_some_and(|byte| byte.is_ascii_whitespace()) {
        end = end.saturating_sub(1);
    }
    Place::new(start, end)
}

/// Dispatch on the name's length first: most headers are none of ours.
fn field(head: &[u8], name: &[u8], value: Place, parsed: &mut Head, said: &mut Said) {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        4 if is(b"host") => {
            if parsed.host.is_some() {
                parsed.flags |= flags::AMBIGUOUS_HOST;
            } else {
                parsed.host = value;
            }
        }
        6 if is(b"cookie") => parsed.cookie = true,
        6 if is(b"origin") => parsed.origin = value,
        6 if is(b"expect") => parsed.expects = value.of(head).eq_ignore_ascii_case(b"100-continue"),
        7 if is(b"referer") => parsed.referrer = value,
        7 if is(b"upgrade") => parsed.upgrade = value,
        8 if is(b"location") => parsed.location = value,
        10 if is(b"user-agent") => parsed.user_agent = value,
        10 if is(b"set-cookie") => parsed.cookie = true,
        10 if is(b"connection") => {
            let tokens = || value.of(head).split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            parsed.closes |= tokens().any(|token| token.eq_ignore_ascii_case(b"close"));
        }
        12 if is(b"content-type") => parsed.content_type = value,
        13 if is(b"authorization") => parsed.authorization = value,
        14 if is(b"content-length") => content_length(value.of(head), parsed, said),
        14 if is(b"http2-settings") => parsed.http2_settings = value,
        16 if is(b"content-encoding") => {
            if parsed.content_encoding.is_some() {
                parsed.more_codings = true;
            } else {
                parsed.content_encoding = value;
            }
        }
        17 if is(b"transfer-encoding") => transfer_encoding(head, value, parsed, said),
        _ => parsed.proxied |= names_addresses(name),
    }
}

/// Values of all Content-Encoding headers of a head, in order: for the rare message that has several.
#[must_use]
pub fn all_codings(head: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        if name.trim_ascii().eq_ignore_ascii_case(b"content-encoding") {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(value.get(1..).unwrap_or(&[]).trim_ascii());
        }
    }
    out
}

fn content_length(value: &[u8], parsed: &mut Head, said: &mut Said) {
    // "5, 5" is the same length twice (RFC 9110 section 8.6).
    for part in value.split(|byte| *byte == b',') {
        let digits = part.trim_ascii();
        let length = match number(digits) {
            Some(length) => length,
            None => {
                parsed.flags |= flags::BAD_LENGTH;
                // What a lenient server takes: the digits in front. A sign or a word is no length.
                let count = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
                match digits.get(..count).and_then(number) {
                    Some(length) => {
                        said.doubtful = true;
                        length
                    }
                    None => continue,
                }
            }
        };
        match said.maybe_length {
            Some(known) if known != length => parsed.flags |= flags::DIFFERENT_LENGTHS,
            Some(_) => parsed.flags |= flags::REPEATED_LENGTH,
            None => said.maybe_length = Some(length),
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn transfer_encoding(head: &[u8], value: Place, parsed: &mut Head, said: &mut Said) {
    let text = value.of(head);
    if said.coding == Coding::None && text.eq_ignore_ascii_case(b"chunked") {
        said.coding = Coding::Chunked;
        return;
    }
    parsed.flags |= flags::ODD_TRANSFER_CODING;
    parsed.transfer_coding = value;
    for part in text.split(|byte| *byte == b',') {
        let name = part.split(|byte| *byte == b';').next().unwrap_or(part).trim_ascii();
        if name.eq_ignore_ascii_case(b"chunked") {
            said.coding = Coding::Chunked;
        } else if name.to_ascii_lowercase().windows(7).any(|word| word == b"chunked") {
            said.coding = Coding::MaybeChunked;
        } else if said.coding == Coding::None {
            said.coding = Coding::Other;
        }
    }
}

/// Framing and the flags that need the whole head.
fn finish(bytes: &[u8], end: usize, parsed: &mut Head, said: Said, is_request: bool) {
    let head = bytes.get(..end).unwrap_or(bytes);
    parsed.framing = match (said.coding, said.maybe_length) {
        (Coding::None, None) => Framing::Unsaid,
        // A reply is read on until the close then: that sees what any of its readers does.
        (Coding::None, Some(_)) if said.doubtful && !is_request => Framing::UntilClose,
        (Coding::None, Some(length)) => Framing::Length(length),
        (Coding::Chunked | Coding::MaybeChunked, maybe_length) => Framing::Chunked { maybe_length },
        // A coding that is not chunked: a server that knows none takes the length; a client reads on until the close.
        (Coding::Other, Some(length)) => Framing::Length(length),
        (Coding::Other, None) if is_request => Framing::Unsaid,
        (Coding::Other, None) => Framing::UntilClose,
    };
    let version = parsed.version.of(head);
    if said.coding != Coding::None {
        if said.maybe_length.is_some() {
            parsed.flags |= flags::LENGTH_AND_CODING;
        }
        if version != b"1.1" {
            parsed.flags |= flags::CODING_BEFORE_1_1;
        }
    }
    if is_request {
        if let Some(host) = parsed.host.maybe_of(head)
            && !is_host(host)
        {
            parsed.flags |= flags::BAD_HOST;
        }
        let target = parsed.target.of(head);
        if !target.starts_with(b"/") && target.len() > 1 {
            authority_flags(head, parsed);
        }
    }
    // The usual head has the two control characters of each line's end and no other: one count tells.
    if controls(head) != said.lines.saturating_mul(2) || parsed.flags & (flags::BARE_LF | flags::BARE_CR) != 0 {
        parsed.flags |= control_flags(head);
    }
}

/// Control characters other than the tab, DEL included. Written so that it becomes vector instructions.
fn controls(head: &[u8]) -> usize {
    head.chunks(128).fold(0usize, |sum, part| {
        let count = part.iter().fold(0u8, |count, byte| {
            count.wrapping_add(u8::from(((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7F)))
        });
        sum.saturating_add(usize::from(count))
    })
}

fn control_flags(head: &[u8]) -> u64 {
    let mut found = 0;
    if head.iter().any(|byte| (*byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n')) || *byte == 0x7F) {
        found |= flags::CONTROL;
    }
    if memchr(0, head).is_some() {
        found |= flags::NUL;
    }
    if has_bare_cr(head) {
        found |= flags::BARE_CR;
    }
    found
}

/// A target that names a host: is it one, and the one of the Host header?
fn authority_flags(head: &[u8], parsed: &mut Head) {
    let target = parsed.target.of(head);
    let named = if parsed.method.of(head) == b"CONNECT" { Some(target) } else { authority(target) };
    let Some(named) = named else { return };
    if !is_host(named) {
        parsed.flags |= flags::BAD_HOST;
    }
    if let Some(host) = parsed.host.maybe_of(head)
        && !same_host(host, named)
    {
        parsed.flags |= flags::AMBIGUOUS_HOST;
    }
}

fn has_bare_cr(head: &[u8]) -> bool {
    let crs = head.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte == b'\r')));
    let pairs = head
        .iter()
        .zip(head.get(1..).unwrap_or(&[]))
        .fold(0u32, |sum, (one, other)| sum.wrapping_add(u32::from((*one == b'\r') & (*other == b'\n'))));
    crs != pairs
}

/// The authority of an absolute target.
#[must_use]
pub fn authority(uri: &[u8]) -> Option<&[u8]> {
    let start = uri.windows(3).position(|part| part == b"://")?.checked_add(3)?;
    let rest = uri.get(start..)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host = authority
        .iter()
        .rposition(|byte| *byte == b'@')
        .map_or(authority, |at| authority.get(at.saturating_add(1)..).unwrap_or(authority));
    (!host.is_empty()).then_some(host)
}

/// Without a port that says nothing (80, 443) and the root's dot.
fn plain_host(host: &[u8]) -> &[u8] {
    let host = host.strip_suffix(b":80").or_else(|| host.strip_suffix(b":443")).unwrap_or(host);
    host.strip_suffix(b".").unwrap_or(host)
}

fn same_host(one: &[u8], other: &[u8]) -> bool {
    plain_host(one).eq_ignore_ascii_case(plain_host(other))
}

/// A host name or an address, maybe with a port (RFC 9110 section 7.2); names as lenient as resolvers are: with underscores.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = if value.starts_with(b"[") {
        let Some(end) = memchr(b']', value) else { return false };
        let inside = value.get(1..end).unwrap_or(&[]);
        if !inside.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'%' | b'v')) {
            return false;
        }
        (inside, value.get(end.saturating_add(1)..).unwrap_or(&[]))
    } else {
        let colon = memchr(b':', value).unwrap_or(value.len());
        let (host, port) = value.split_at_checked(colon).unwrap_or((value, &[]));
        let labels = host.strip_suffix(b".").unwrap_or(host);
        let fine = labels.split(|byte| *byte == b'.').all(|label| {
            !label.is_empty()
                && label.len() < 64
                && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'%' | b'~'))
        });
        if !fine || host.len() > 254 {
            return false;
        }
        (host, port)
    };
    let port_fine = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.is_empty() || number(digits).is_some_and(|port| (1..65_536).contains(&port)),
        Some(_) => false,
    };
    port_fine && !host.is_empty()
}
