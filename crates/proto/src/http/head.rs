//! Heads of HTTP/1 messages: one pass over the lines, places instead of copies.
//!
//! Rules of this file:
//! 1. As lenient as servers are (bare line feeds, odd spaces, unknown methods), and each leniency sets a flag.
//! 2. Places are 32-bit offsets into the head; a head is at most `HttpLimits::head` bytes.
use memchr::memchr;

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

    /// Name of each bit, from the lowest.
    pub const NAMES: [&str; 27] = [
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
    ];
}

/// A place in a head.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Place {
    start: u32,
    end: u32,
}

impl Place {
    fn new(start: usize, end: usize) -> Self {
        Self { start: u32::try_from(start).unwrap_or(0), end: u32::try_from(end).unwrap_or(0) }
    }

    /// The bytes.
    #[must_use]
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.start as usize..self.end as usize).unwrap_or(&[])
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
    /// Transfer-Encoding: chunked.
    Chunked,
    /// A transfer coding that does not end in chunked: until the connection closes.
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
    /// Response: status code.
    pub status: u16,
    /// Header values.
    pub host: Option<Place>,
    /// Referer.
    pub referrer: Option<Place>,
    /// User-Agent (request).
    pub user_agent: Option<Place>,
    /// Origin.
    pub origin: Option<Place>,
    /// Location.
    pub location: Option<Place>,
    /// Content-Type.
    pub content_type: Option<Place>,
    /// Content-Encoding.
    pub content_encoding: Option<Place>,
    /// Authorization.
    pub authorization: Option<Place>,
    /// Upgrade.
    pub upgrade: Option<Place>,
    /// Cookie or Set-Cookie.
    pub cookie: bool,
    /// A header that names a proxy.
    pub proxied: bool,
    /// Number of headers.
    pub headers: u32,
    /// Body framing.
    pub framing: Framing,
    /// Flags.
    pub flags: u64,
}

/// Length of a head that starts at 0: up to and with its empty line. `scanned` tells where a former search stopped.
///
/// None if the empty line is not there yet.
#[must_use]
pub fn head_len(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    let mut at = *scanned;
    while let Some(found) = memchr(b'\n', bytes.get(at..)?) {
        let end = at.saturating_add(found).saturating_add(1);
        match bytes.get(end..) {
            Some([b'\n', ..]) => return Some(end.saturating_add(1)),
            Some([b'\r', b'\n', ..]) => return Some(end.saturating_add(2)),
            Some([] | [b'\r']) => break, // the next line has not begun
            _ => at = end,
        }
    }
    *scanned = at;
    None
}

/// Whether bytes may begin a request line: a token, a space, something.
#[must_use]
pub fn begins_request(bytes: &[u8]) -> bool {
    let Some(space) = memchr(b' ', bytes.get(..bytes.len().min(40)).unwrap_or(bytes)) else { return false };
    let method = bytes.get(..space).unwrap_or(&[]);
    !method.is_empty() && !method.starts_with(b"HTTP/") && method.iter().all(|byte| is_token(*byte))
}

/// Whether bytes begin a status line.
#[must_use]
pub fn begins_response(bytes: &[u8]) -> bool {
    bytes.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

/// A token's character (RFC 9110 section 5.6.2).
#[must_use]
pub const fn is_token(byte: u8) -> bool {
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

/// Parse the head of a request.
#[must_use]
pub fn request(head: &[u8], max_headers: u32) -> Head {
    let mut parsed = Head::default();
    let line_end = line(head, 0, &mut parsed.flags);
    let text = head.get(..line_end.text).unwrap_or(&[]);
    let space = memchr(b' ', text).or_else(|| memchr(b'\t', text)).unwrap_or(text.len());
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
    let rest = text.get(from..to).unwrap_or(&[]);
    let version = rest
        .iter()
        .rposition(u8::is_ascii_whitespace)
        .map(|at| at.saturating_add(1))
        .or((begins_response(rest)).then_some(0))
        .filter(|at| rest.get(*at..).is_some_and(begins_response));
    if let Some(at) = version {
        parsed.version = Place::new(from.saturating_add(at).saturating_add(5), to);
        let mut end = from.saturating_add(at);
        while end > from && text.get(end.saturating_sub(1)).is_some_and(u8::is_ascii_whitespace) {
            end = end.saturating_sub(1);
        }
        parsed.target = Place::new(from, end);
        if !matches!(parsed.version.of(head), b"1.1" | b"1.0") {
            parsed.flags |= flags::ODD_VERSION;
        }
    } else {
        parsed.target = Place::new(from, to);
        parsed.flags |= flags::VERSION_09;
    }
    if parsed.target.of(head).is_empty() {
        parsed.flags |= flags::NO_TARGET;
    }
    headers(head, line_end.next, &mut parsed, max_headers);
    if parsed.host.is_none() && parsed.version.of(head) == b"1.1" {
        parsed.flags |= flags::NO_HOST;
    }
    parsed
}

/// Parse the head of a response; the status is 0 if it is no number.
#[must_use]
pub fn response(head: &[u8], max_headers: u32) -> Head {
    let mut parsed = Head::default();
    let line_end = line(head, 0, &mut parsed.flags);
    let text = head.get(..line_end.text).unwrap_or(&[]);
    let space = memchr(b' ', text).unwrap_or(text.len());
    parsed.version = Place::new(5.min(space), space);
    if !matches!(parsed.version.of(head), b"1.1" | b"1.0") {
        parsed.flags |= flags::ODD_VERSION;
    }
    let mut from = space;
    while text.get(from) == Some(&b' ') {
        from = from.saturating_add(1);
    }
    let mut status = 0_u16;
    let mut to = from;
    while let Some(digit) = text.get(to).filter(|byte| byte.is_ascii_digit()) {
        status = status.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0')));
        to = to.saturating_add(1);
    }
    parsed.status = status;
    while text.get(to) == Some(&b' ') {
        to = to.saturating_add(1);
    }
    parsed.target = Place::new(to, text.len());
    headers(head, line_end.next, &mut parsed, max_headers);
    parsed
}

struct LineEnd {
    text: usize,
    next: usize,
}

fn line(head: &[u8], start: usize, found: &mut u64) -> LineEnd {
    let rest = head.get(start..).unwrap_or(&[]);
    match memchr(b'\n', rest) {
        Some(0) => {
            *found |= flags::BARE_LF;
            LineEnd { text: start, next: start.saturating_add(1) }
        }
        Some(at) => {
            let end = start.saturating_add(at);
            if head.get(end.saturating_sub(1)) == Some(&b'\r') {
                LineEnd { text: end.saturating_sub(1), next: end.saturating_add(1) }
            } else {
                *found |= flags::BARE_LF;
                LineEnd { text: end, next: end.saturating_add(1) }
            }
        }
        None => LineEnd { text: head.len(), next: head.len() },
    }
}

fn headers(head: &[u8], mut at: usize, parsed: &mut Head, max_headers: u32) {
    let mut coding = Coding::None;
    while at < head.len() {
        let mut found = parsed.flags;
        let end = line(head, at, &mut found);
        parsed.flags = found;
        let text = head.get(at..end.text).unwrap_or(&[]);
        if text.is_empty() {
            break;
        }
        let (mut value_end, mut next) = (end.text, end.next);
        // A line that begins with a space continues this one (RFC 9112 section 5.2).
        while matches!(head.get(next), Some(b' ' | b'\t')) {
            parsed.flags |= flags::FOLDED_HEADER;
            let mut found = parsed.flags;
            let more = line(head, next, &mut found);
            parsed.flags = found;
            if more.next <= next {
                break;
            }
            (value_end, next) = (more.text, more.next);
        }
        parsed.headers = parsed.headers.saturating_add(1);
        if parsed.headers > max_headers {
            parsed.flags |= flags::OVER_LIMIT;
            break;
        }
        match memchr(b':', text) {
            Some(colon) => {
                let name = text.get(..colon).unwrap_or(&[]);
                let trimmed = name.trim_ascii();
                if trimmed.len() != name.len() {
                    parsed.flags |= flags::STRAY_SPACE;
                }
                let start = at.saturating_add(colon).saturating_add(1);
                field(head, trimmed, trim(head, start, value_end), parsed, &mut coding);
            }
            None => parsed.flags |= flags::NO_COLON,
        }
        at = next;
    }
    if memchr(0, head).is_some() {
        parsed.flags |= flags::NUL;
    }
    match coding {
        Coding::None => {}
        Coding::Chunked | Coding::Other => {
            if matches!(parsed.framing, Framing::Length(_)) {
                parsed.flags |= flags::LENGTH_AND_CODING;
            }
            parsed.framing = if coding == Coding::Chunked { Framing::Chunked } else { Framing::UntilClose };
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
    Other,
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
fn field(head: &[u8], name: &[u8], value: Place, parsed: &mut Head, coding: &mut Coding) {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        3 if is(b"via") => parsed.proxied = true,
        4 if is(b"host") => {
            if parsed.host.is_some_and(|first| first.of(head) != value.of(head)) {
                parsed.flags |= flags::AMBIGUOUS_HOST;
            }
            parsed.host.get_or_insert(value);
        }
        6 if is(b"cookie") => parsed.cookie = true,
        6 if is(b"origin") => parsed.origin = Some(value),
        7 if is(b"referer") => parsed.referrer = Some(value),
        7 if is(b"upgrade") => parsed.upgrade = Some(value),
        8 if is(b"location") => parsed.location = Some(value),
        9 if is(b"forwarded") => parsed.proxied = true,
        10 if is(b"user-agent") => parsed.user_agent = Some(value),
        10 if is(b"set-cookie") => parsed.cookie = true,
        12 if is(b"content-type") => parsed.content_type = Some(value),
        13 if is(b"authorization") => parsed.authorization = Some(value),
        14 if is(b"content-length") => content_length(value.of(head), parsed),
        15 if is(b"x-forwarded-for") => parsed.proxied = true,
        16 if is(b"content-encoding") => parsed.content_encoding = Some(value),
        16 if is(b"proxy-connection") => parsed.proxied = true,
        17 if is(b"transfer-encoding") => transfer_encoding(value.of(head), parsed, coding),
        _ => {}
    }
}

fn content_length(value: &[u8], parsed: &mut Head) {
    // "5, 5" is the same length twice (RFC 9110 section 8.6).
    for part in value.split(|byte| *byte == b',') {
        let digits = part.trim_ascii();
        let number = core::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = number.and_then(|text| text.parse::<u64>().ok());
        match (length, parsed.framing) {
            (None, _) => parsed.flags |= flags::BAD_LENGTH,
            (Some(length), Framing::Length(known)) if known != length => parsed.flags |= flags::DIFFERENT_LENGTHS,
            (Some(_), Framing::Length(_)) => {}
            (Some(length), _) => parsed.framing = Framing::Length(length),
        }
    }
}

fn transfer_encoding(value: &[u8], parsed: &mut Head, coding: &mut Coding) {
    for part in value.split(|byte| *byte == b',') {
        let name = part.split(|byte| *byte == b';').next().unwrap_or(part).trim_ascii();
        if name.eq_ignore_ascii_case(b"chunked") {
            *coding = Coding::Chunked;
        } else if name.eq_ignore_ascii_case(b"identity") || name.is_empty() {
            parsed.flags |= flags::ODD_TRANSFER_CODING;
        } else {
            parsed.flags |= flags::ODD_TRANSFER_CODING;
            if *coding != Coding::Chunked {
                *coding = Coding::Other;
            }
        }
    }
}
