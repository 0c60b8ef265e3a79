//! What may stand before a connection's first message: HAProxy's PROXY protocol, and HTTP/2's preface.
use super::Verdict;
use crate::http2::PREFACE;

const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// A line of version 1 at most (its specification, section 2.1).
const V1_LINE: usize = 107;

/// What a connection's first bytes begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preamble {
    /// HTTP/1 itself.
    None,
    /// HTTP/2.
    Http2,
    /// A PROXY header of this length, then HTTP.
    Proxy(usize),
    /// More bytes are needed.
    NeedMore,
}

/// What stands in front.
#[must_use]
pub fn preamble(bytes: &[u8]) -> Preamble {
    let shorter = |whole: &[u8]| bytes.len() < whole.len() && whole.starts_with(bytes);
    if bytes.starts_with(PREFACE) {
        return Preamble::Http2;
    }
    if let Some(rest) = bytes.strip_prefix(V2) {
        return match rest {
            [_, _, high, low, ..] => Preamble::Proxy(usize::from(u16::from_be_bytes([*high, *low])).saturating_add(16)),
            _ => Preamble::NeedMore,
        };
    }
    if bytes.starts_with(b"PROXY ") {
        let line = bytes.get(..V1_LINE).unwrap_or(bytes);
        return match memchr::memchr(b'\n', line) {
            Some(end) => Preamble::Proxy(end.saturating_add(1)),
            None if bytes.len() >= V1_LINE => Preamble::None,
            None => Preamble::NeedMore,
        };
    }
    if shorter(PREFACE) || shorter(V2) || shorter(b"PROXY ") { Preamble::NeedMore } else { Preamble::None }
}

/// Whether bytes after a PROXY header are HTTP; the header itself says nothing of what follows.
#[must_use]
pub fn looks_like_proxied_http(bytes: &[u8]) -> Verdict {
    match preamble(bytes) {
        Preamble::Proxy(length) => match bytes.get(length..) {
            None | Some([]) => Verdict::NeedMore,
            Some(rest) => super::looks_like_http(rest),
        },
        Preamble::NeedMore => Verdict::NeedMore,
        Preamble::Http2 => Verdict::Yes,
        Preamble::None => Verdict::No,
    }
}
