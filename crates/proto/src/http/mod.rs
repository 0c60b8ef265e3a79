//! HTTP/1: the two directions of a connection to transactions.
//!
//! Rules of this file:
//! 1. Requests and responses are paired in order; a transaction is told when both of its messages have ended, or when nothing more
//!    can come of it.
//! 2. Bytes missing inside a body are jumped by its length; missing elsewhere, the direction looks for the next head.
//! 3. Any cut of the input gives the same transactions.
pub mod connection;
pub mod forwarded;
pub mod head;
pub(crate) mod message;
pub mod preamble;

pub use connection::{Connection, Exchange, Upgrade};
pub use head::flags;

use crate::body::{BodyLimits, Digests};

/// Bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a head. Apache: 8 KiB a line and 100 lines; Node: 16 KiB; Suricata's htp: 18 KB; 64 KiB takes what servers take.
    pub head: usize,
    /// Headers of a message. libhtp: 1,024.
    pub headers: u32,
    /// Requests that wait for their responses. libhtp: 512.
    pub pending: usize,
    /// Bounds of a body.
    pub body: BodyLimits,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head: 64 << 10, headers: 1_024, pending: 1_024, body: BodyLimits::default() }
    }
}

/// What is wanted beyond the facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Bounds.
    pub limits: HttpLimits,
    /// Raw heads.
    pub want_heads: bool,
    /// Decoded bodies, up to the limit.
    pub want_bodies: bool,
    /// Hashes of decoded bodies.
    pub want_hashes: bool,
}

/// One side of a transaction.
#[derive(Clone, Copy, Default, Debug)]
pub struct Side<'a> {
    /// The head, request line or status line included (empty if not wanted).
    pub head: &'a [u8],
    /// Length of the body after decoding.
    pub body_len: u64,
    /// Length of the body as sent, transfer coding undone.
    pub coded_len: u64,
    /// Decoded body (empty if not wanted).
    pub body: &'a [u8],
    /// Declared media type.
    pub content_type: Option<&'a [u8]>,
    /// Declared content coding.
    pub content_encoding: Option<&'a [u8]>,
    /// Media type by content.
    pub maybe_magic: Option<&'static str>,
    /// Hashes, if wanted and there is a body.
    pub maybe_digests: Option<&'a Digests>,
    /// Number of headers.
    pub headers: u32,
}

/// One request with its response, as far as either was seen. Slices live during the call.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// Capture time of the request's first byte (the response's, without one), ns.
    pub ts_ns: u64,
    /// Capture time of the response's first byte.
    pub maybe_response_ts_ns: Option<u64>,
    /// Number in the connection, from 1.
    pub depth: u32,
    /// Method.
    pub method: Option<&'a [u8]>,
    /// Host, from the target if it names one, else from the header.
    pub host: Option<&'a [u8]>,
    /// Target.
    pub uri: Option<&'a [u8]>,
    /// Referer.
    pub referrer: Option<&'a [u8]>,
    /// Version digits of the response, else of the request.
    pub version: Option<&'a [u8]>,
    /// User-Agent.
    pub user_agent: Option<&'a [u8]>,
    /// Origin.
    pub origin: Option<&'a [u8]>,
    /// Authorization.
    pub authorization: Option<&'a [u8]>,
    /// Status code.
    pub status: Option<u16>,
    /// Reason phrase.
    pub reason: Option<&'a [u8]>,
    /// Last interim status code (1xx).
    pub info_code: Option<u16>,
    /// Its reason phrase.
    pub info_reason: Option<&'a [u8]>,
    /// Location.
    pub location: Option<&'a [u8]>,
    /// The request had a Cookie header.
    pub cookie: bool,
    /// The response had a Set-Cookie header.
    pub set_cookie: bool,
    /// Addresses that headers of proxies name, in 16 bytes each.
    pub forwarded: &'a [[u8; 16]],
    /// The request.
    pub request: Side<'a>,
    /// The response.
    pub response: Side<'a>,
    /// Bits of [`flags`].
    pub flags: u64,
}

/// Who hears of transactions.
pub trait TransactionSink {
    /// A transaction is complete.
    fn transaction(&mut self, transaction: &Transaction<'_>);
    /// An exchange that was used before, if one is kept: saves its allocations.
    fn spare(&mut self) -> Box<Exchange> {
        Box::default()
    }
    /// An exchange that is not needed any more.
    fn keep(&mut self, _exchange: Box<Exchange>) {}
}

/// What first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is HTTP/1.
    Yes,
    /// It is not.
    No,
    /// More bytes are needed.
    NeedMore,
}

/// Whether a direction's first bytes are HTTP/1: a known method and a space, a status line, or any first line that names HTTP/1.
#[must_use]
pub fn looks_like_http(bytes: &[u8]) -> Verdict {
    if let [b'\r' | b'P', ..] = bytes {
        match preamble::looks_like_proxied_http(bytes) {
            Verdict::Yes => return Verdict::Yes,
            Verdict::NeedMore => return Verdict::NeedMore,
            Verdict::No => {}
        }
    }
    let mut start = bytes;
    while let [b'\r' | b'\n', rest @ ..] = start {
        start = rest;
    }
    if start.is_empty() {
        return if bytes.len() > 64 { Verdict::No } else { Verdict::NeedMore };
    }
    if start.starts_with(b"GET /") || start.starts_with(b"HTTP/1.") {
        return Verdict::Yes;
    }
    for method in head::METHODS {
        let length = method.len().min(start.len());
        if start.get(..length).zip(method.get(..length)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other)) {
            if let Some(b' ' | b'\t') = start.get(method.len()) {
                return Verdict::Yes;
            }
        }
    }
    let length = start.len().min(5);
    if start.get(..length).is_some_and(|begin| begin.eq_ignore_ascii_case(b"HTTP/".get(..length).unwrap_or(&[]))) {
        return if length == 5 { Verdict::Yes } else { Verdict::NeedMore };
    }
    // Anything else is believed when its whole first line says HTTP/1, as the nonsense that scanners send does. Until the line is
    // whole it is not ruled out, so that the cut of the stream does not decide.
    const LINE: usize = 2_048;
    let end = memchr::memchr(b'\n', start);
    let line = start.get(..end.unwrap_or(start.len()).min(LINE)).unwrap_or(start);
    let text = line.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b' '..=b'~' | 0x80..));
    match end {
        _ if !text => Verdict::No,
        None if start.len() < LINE => Verdict::NeedMore,
        Some(end) if end < LINE && memchr::memmem::find(line, b"HTTP/1").is_some() => Verdict::Yes,
        _ => Verdict::No,
    }
}
