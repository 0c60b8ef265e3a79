//! TLS (RFC 8446, RFC 5246), DTLS (RFC 6347, RFC 9147) and what QUIC needs of it: the handshake's facts, one row a connection.
//! Nothing encrypted is kept.
//!
//! Rules of this module:
//! 1. Hello messages may be split over records, records over segments, and one record may hold several messages.
//! 2. The row is written once: when both sides encrypt, at a fatal alert, at a gap, or when the flow ends.
//! 3. After the row nothing more of the flow is parsed.
//!
//! Limits: [`HANDSHAKE_BYTES`] for one message of each side, [`CERTIFICATES`], those of `x509`.
mod handshake;
mod hello;
mod stream;
pub mod words;
pub mod x509;

pub use handshake::{CERTIFICATES, HISTORY_LETTERS, Handshake, NotTls, Transport};
pub use hello::{ClientHello, ServerHello, is_grease};
pub use stream::{TlsStream, looks_like_tls};

/// One handshake message at most. A chain of ten RSA-4096 certificates takes 20 KiB; Zeek stops at 64 KiB by default too.
pub const HANDSHAKE_BYTES: usize = 1 << 16;
/// Longest record: 2^14 and what encryption may add (RFC 5246 section 6.2.3).
const RECORD_BYTES: usize = (1 << 14) + 2048;

/// Anomalies of a handshake: bits of the column `flags`.
pub mod flags {
    /// A handshake message was longer than [`super::HANDSHAKE_BYTES`].
    pub const TOO_LONG: u64 = 1;
    /// Bytes of the handshake were never captured.
    pub const GAP: u64 = 1 << 1;
    /// A hello broke its own lengths.
    pub const BAD_HELLO: u64 = 1 << 2;
    /// The server asked for another hello.
    pub const RETRY: u64 = 1 << 3;
    /// The client's hello has the form of SSL 2.
    pub const OLD_HELLO: u64 = 1 << 4;
}
