//! TLS over TCP (RFC 8446, RFC 5246): the handshake's facts, one row a connection. Nothing encrypted is kept.
//!
//! Rules of this file:
//! 1. Hello messages may be split over records, records over segments, and one record may hold several messages.
//! 2. The row is written once: when both sides encrypt, at a fatal alert, at a gap, or when the flow ends.
//! 3. After the row nothing more of the flow is parsed.
//!
//! Limits: [`HANDSHAKE_BYTES`] for one message of each side.
mod hello;
mod words;

use bunker_wire::Direction;
use bunker_wire::bytes::be16;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::columns::{MessageKind, TextItems, TlsRow};
use crate::parser::{Context, Service, Step, StreamParser};

pub use hello::{ClientHello, ServerHello, is_grease};

/// One handshake message at most. A chain of ten RSA-4096 certificates takes 20 KiB; Zeek stops at 64 KiB by default too.
pub const HANDSHAKE_BYTES: usize = 1 << 16;
/// Longest record: 2^14 and what encryption may add (RFC 5246 section 6.2.3).
const RECORD_BYTES: usize = (1 << 14) + 2048;
/// Letters of `ssl_history` kept.
const HISTORY: usize = 32;
/// A client's encrypted Finished of TLS 1.3 is at least this long; a shorter first record is an encrypted alert.
const FINISHED_RECORD: usize = 37;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;
const TLS13: u16 = 0x0304;

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
}

/// One direction: the record in hand and the handshake message in hand.
#[derive(Default)]
struct Side {
    header: [u8; 5],
    have: usize,
    kind: u8,
    left: usize,
    body: Vec<u8>,
    handshake: Vec<u8>,
    changed: bool,
    encrypted: bool,
}

/// TLS in a TCP flow.
#[derive(Default)]
pub struct TlsStream {
    sides: [Side; 2],
    started_ns: Option<u64>,
    client: Option<ClientHello>,
    /// The direction that sent the client's hello.
    client_side: Option<Direction>,
    server: Option<ServerHello>,
    group: Option<u16>,
    certificates: [Vec<Vec<u8>>; 2],
    last_alert: Option<u8>,
    fatal: bool,
    full: bool,
    flags: u64,
    history: Vec<u8>,
    written: bool,
}

struct NotTls;

impl TlsStream {
    fn side(&mut self, direction: Direction) -> &mut Side {
        let [orig, resp] = &mut self.sides;
        match direction {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }

    fn is_client(&self, direction: Direction) -> bool {
        self.client_side.unwrap_or(Direction::Orig) == direction
    }

    fn letter(&mut self, direction: Direction, letter: u8) {
        let letter = if self.is_client(direction) { letter } else { letter.to_ascii_lowercase() };
        if self.history.len() < HISTORY && self.history.last() != Some(&letter) {
            self.history.push(letter);
        }
    }

    /// Cut bytes into records.
    fn records(&mut self, direction: Direction, bytes: &[u8]) -> Result<(), NotTls> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.done() {
            let side = self.side(direction);
            if side.have < side.header.len() {
                let Some((byte, after)) = rest.split_first() else { return Ok(()) };
                if let Some(place) = side.header.get_mut(side.have) {
                    *place = *byte;
                }
                side.have = side.have.saturating_add(1);
                rest = after;
                if side.have == side.header.len() {
                    let [kind, major, _, high, low] = side.header;
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) || major != 3 || length > RECORD_BYTES {
                        return Err(NotTls);
                    }
                    (side.kind, side.left) = (kind, length);
                    side.body.clear();
                    if kind == APPLICATION_DATA {
                        self.application_data(direction, length);
                    }
                    if length == 0 {
                        self.record(direction)?;
                    }
                }
                continue;
            }
            let count = side.left.min(rest.len());
            let (now, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            if side.kind != APPLICATION_DATA {
                side.body.extend_from_slice(now);
            }
            side.left = side.left.saturating_sub(count);
            rest = after;
            if side.left == 0 {
                self.record(direction)?;
            }
        }
        Ok(())
    }

    /// A record is complete.
    fn record(&mut self, direction: Direction) -> Result<(), NotTls> {
        let side = self.side(direction);
        side.have = 0;
        let body = core::mem::take(&mut side.body);
        let (kind, changed) = (side.kind, side.changed);
        match kind {
            CHANGE_CIPHER_SPEC => {
                side.changed = true;
                self.letter(direction, b'I');
            }
            ALERT if !changed => {
                if let [level, description] = body.as_slice() {
                    self.last_alert = Some(*description);
                    self.fatal |= *level == 2;
                    self.letter(direction, b'L');
                }
            }
            HANDSHAKE if changed => side.encrypted = true, // Finished of TLS 1.2 and older
            HANDSHAKE => {
                side.handshake.extend_from_slice(&body);
                self.messages(direction)?;
            }
            _ => {}
        }
        let side = self.side(direction);
        if side.body.capacity() == 0 {
            side.body = body;
        }
        Ok(())
    }

    fn application_data(&mut self, direction: Direction, length: usize) {
        let client = self.is_client(direction);
        let is_13 = self.server.as_ref().is_some_and(|server| server.version == TLS13);
        if !client || length >= FINISHED_RECORD || !is_13 {
            self.side(direction).encrypted = true;
        }
        self.letter(direction, b'D');
    }

    /// Cut held bytes into handshake messages.
    fn messages(&mut self, direction: Direction) -> Result<(), NotTls> {
        let held = core::mem::take(&mut self.side(direction).handshake);
        let mut rest = held.as_slice();
        while let (Some([kind, high, middle, low]), Some(after)) = (rest.first_chunk::<4>(), rest.get(4..)) {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > HANDSHAKE_BYTES {
                self.flags |= flags::TOO_LONG;
                self.fatal = true;
                return Ok(());
            }
            let Some((body, next)) = after.split_at_checked(length) else { break };
            self.message(direction, *kind, body)?;
            rest = next;
        }
        self.side(direction).handshake = rest.to_vec();
        Ok(())
    }

    fn message(&mut self, direction: Direction, kind: u8, body: &[u8]) -> Result<(), NotTls> {
        match kind {
            1 => {
                let hello = ClientHello::read(body, false);
                if hello.is_none() {
                    self.flags |= flags::BAD_HELLO;
                }
                if self.client.is_none() {
                    self.client_side = Some(direction);
                    // Nothing of a connection that does not even begin with a hello is TLS.
                    self.client = Some(hello.ok_or(NotTls)?);
                }
                self.letter(direction, b'C');
            }
            2 => {
                if self.client_side.is_none() {
                    self.client_side = Some(direction.other());
                }
                let Some(hello) = ServerHello::read(body) else {
                    self.flags |= flags::BAD_HELLO;
                    return if self.client.is_some() { Ok(()) } else { Err(NotTls) };
                };
                self.letter(direction, if hello.is_retry { b'J' } else { b'S' });
                if hello.is_retry {
                    self.flags |= flags::RETRY;
                } else {
                    self.group = hello.group.or(self.group);
                    self.server = Some(hello);
                }
            }
            4 => self.letter(direction, b'T'),
            8 => self.letter(direction, b'O'),
            11 => {
                self.full = true;
                self.letter(direction, b'X');
                let mine = usize::from(self.is_client(direction));
                if let Some(list) = self.certificates.get_mut(mine)
                    && list.is_empty()
                {
                    *list = certificates(body);
                }
            }
            12 => {
                self.full = true;
                self.letter(direction, b'K');
                // ServerKeyExchange of ECDHE: curve type 3, named group (RFC 8422 section 5.4).
                if let [3, high, low, ..] = body {
                    self.group = Some(u16::from_be_bytes([*high, *low]));
                }
            }
            13 => self.letter(direction, b'R'),
            14 => {
                self.full = true;
                self.letter(direction, b'N');
            }
            15 => self.letter(direction, b'Y'),
            16 => self.letter(direction, b'G'),
            20 => self.letter(direction, b'F'),
            22 => self.letter(direction, b'U'),
            _ => self.letter(direction, b'Z'),
        }
        Ok(())
    }

    fn established(&self) -> bool {
        let [orig, resp] = &self.sides;
        self.server.is_some() && orig.encrypted && resp.encrypted
    }

    fn done(&self) -> bool {
        self.established() || self.fatal
    }

    fn resumed(&self) -> bool {
        let (Some(client), Some(server)) = (&self.client, &self.server) else { return false };
        if server.version == TLS13 {
            return server.resumed;
        }
        let [orig, resp] = &self.sides;
        let server_changed = if self.is_client(Direction::Orig) { resp.changed } else { orig.changed };
        // The server goes over to encryption without having shown a certificate or a key (RFC 5246 section 7.3).
        !self.full && server_changed && (client.session == server.session || !client.session.is_empty())
    }

    fn write(&mut self, context: &mut Context<'_>) {
        if self.written || (self.client.is_none() && self.server.is_none()) {
            return;
        }
        self.written = true;
        context.confirm(Service::Ssl);
        if !context.wanted.has(MessageKind::Tls) {
            return;
        }
        let origin = context.origin(self.started_ns.unwrap_or(context.now_ns));
        let (client, server) = (self.client.as_ref(), self.server.as_ref());
        let word = |text: Option<String>| text.map(String::into_bytes);
        let version = word(server.map(|server| words::version(server.version)));
        let cipher = word(server.map(|server| words::cipher(server.cipher)));
        let curve = word(self.group.map(words::group));
        let alert = word(self.last_alert.map(|alert| words::alert(u16::from(alert))));
        let client_version = word(client.map(|client| words::version(client.version)));
        let ja3 = word(client.map(ClientHello::ja3));
        let ja4 = word(client.map(|client| client.ja4('t')));
        let [servers, clients] = &self.certificates;
        let chain = fingerprints(servers);
        let client_chain = fingerprints(clients);
        let leaf = servers.first();
        let sha256 = word(leaf.map(|der| hello::hex(&Sha256::digest(der))));
        let sha1 = word(leaf.map(|der| hello::hex(&Sha1::digest(der))));
        let mut versions = TextItems::default();
        let mut alpn = TextItems::default();
        if let Some(client) = client {
            for version in client.versions.iter().filter(|version| !is_grease(**version)) {
                versions.push(words::version(*version).as_bytes());
            }
            for protocol in &client.alpn {
                alpn.push(protocol);
            }
        }
        let full = |items: &'_ TextItems| !items.is_empty();
        let ciphers = client.map(|client| client.ciphers.iter().filter(|cipher| !is_grease(**cipher)).count() as u64);
        let row = TlsRow {
            proto: b"tcp",
            version: version.as_deref(),
            cipher: cipher.as_deref(),
            curve: curve.as_deref(),
            server_name: client.and_then(|client| client.server_name.as_deref()),
            resumed: self.resumed(),
            last_alert: alert.as_deref(),
            next_protocol: server.and_then(|server| server.alpn.as_deref()),
            established: self.established(),
            ssl_history: (!self.history.is_empty()).then_some(self.history.as_slice()),
            cert_chain_fps: Some(&chain).filter(|items| full(items)),
            client_cert_chain_fps: Some(&client_chain).filter(|items| full(items)),
            sni_matches_cert: None,
            client_version: client_version.as_deref(),
            client_versions: Some(&versions).filter(|items| full(items)),
            client_alpn: Some(&alpn).filter(|items| full(items)),
            client_ciphers: ciphers,
            ech: client.is_some_and(|client| client.ech),
            ja3: ja3.as_deref(),
            ja4: ja4.as_deref(),
            subject: None,
            issuer: None,
            cert_serial: None,
            cert_not_before: None,
            cert_not_after: None,
            cert_self_signed: None,
            cert_key_type: None,
            cert_key_length: None,
            cert_sig_alg: None,
            san_dns: None,
            san_count: None,
            cert_sha256: sha256.as_deref(),
            cert_sha1: sha1.as_deref(),
            cert_count: (!servers.is_empty()).then_some(servers.len() as u64),
            flags: self.flags,
        };
        context.tables.Tls.push(origin, row);
    }
}

fn fingerprints(chain: &[Vec<u8>]) -> TextItems {
    let mut items = TextItems::default();
    for der in chain {
        items.push(hello::hex(&Sha256::digest(der)).as_bytes());
    }
    items
}

/// Certificates of a Certificate message of TLS 1.2 and older (RFC 5246 section 7.4.2).
fn certificates(body: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = body.get(3..).unwrap_or_default();
    while let (Some([high, middle, low]), Some(after)) = (rest.first_chunk::<3>(), rest.get(3..)) {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some((der, next)) = after.split_at_checked(length) else { break };
        found.push(der.to_vec());
        rest = next;
    }
    found
}

impl StreamParser for TlsStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        self.started_ns.get_or_insert(ts_ns);
        let outcome = self.records(direction, bytes);
        if outcome.is_err() {
            self.write(context);
            return if self.written { Step::Finished } else { Step::Violated };
        }
        if self.done() {
            self.write(context);
            return Step::Finished;
        }
        Step::More
    }

    fn gap(&mut self, context: &mut Context<'_>, _direction: Direction, _length: u64, _ts_ns: u64) -> Step {
        self.flags |= flags::GAP;
        self.write(context);
        Step::Finished
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        self.write(context);
    }

    fn live_bytes(&self) -> usize {
        let sides = self.sides.iter().fold(0usize, |sum, side| {
            sum.saturating_add(side.body.capacity()).saturating_add(side.handshake.capacity())
        });
        let certificates = self.certificates.iter().flatten().fold(0usize, |sum, der| sum.saturating_add(der.len()));
        let hello = self
            .client
            .as_ref()
            .map_or(0, |client| client.ciphers.len().saturating_add(client.extensions.len()).saturating_mul(4));
        size_of::<Self>().saturating_add(sides).saturating_add(certificates).saturating_add(hello)
    }
}

/// Whether a stream that begins with `bytes` is TLS: None while that cannot be said.
#[must_use]
pub fn looks_like_tls(bytes: &[u8]) -> Option<bool> {
    const HEAD: usize = 6;
    let expected = |index: usize, byte: u8| match index {
        0 => byte == HANDSHAKE,
        1 => byte == 3,
        2 => byte <= 4,
        5 => byte == 1 || byte == 2,
        _ => true,
    };
    if !bytes.iter().take(HEAD).enumerate().all(|(index, byte)| expected(index, *byte)) {
        return Some(false);
    }
    if bytes.len() < HEAD {
        return None;
    }
    Some(be16(bytes, 3).is_some_and(|length| length >= 4 && usize::from(length) <= RECORD_BYTES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A ClientHello with a server name, in records of at most `cut` bytes.
    fn client_hello(cut: usize) -> Vec<u8> {
        let mut extension = vec![0, 0, 0, 15, 0, 13, 0, 0, 10];
        extension.extend_from_slice(b"a.b.exampl");
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
        body.extend_from_slice(&u16::try_from(extension.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&extension);
        let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
        message.extend_from_slice(&body);
        message.chunks(cut).fold(Vec::new(), |mut stream, part| {
            stream.extend_from_slice(&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()]);
            stream.extend_from_slice(part);
            stream
        })
    }

    fn fed(stream: &[u8], pieces: usize) -> TlsStream {
        let mut tls = TlsStream::default();
        for piece in stream.chunks(pieces) {
            assert!(tls.records(Direction::Orig, piece).is_ok());
        }
        tls
    }

    #[test]
    fn records_and_segments_may_be_cut_anywhere() {
        let whole = fed(&client_hello(255), usize::MAX);
        let expected = whole.client.unwrap();
        assert_eq!(expected.server_name.as_deref(), Some(b"a.b.exampl".as_slice()));
        for cut in [1, 2, 3, 5, 40] {
            let stream = client_hello(cut);
            for pieces in [1, 2, 7, 64] {
                let found = fed(&stream, pieces);
                assert_eq!(found.client.unwrap().ja4('t'), expected.ja4('t'));
                assert_eq!(found.history, b"C");
            }
        }
    }

    #[test]
    fn a_hello_cut_at_any_byte_is_no_hello_and_no_panic() {
        let stream = client_hello(255);
        let body = stream.get(9..).unwrap();
        for end in 0..body.len() {
            // A hello may end before its extensions; nowhere else.
            let read = ClientHello::read(body.get(..end).unwrap(), false);
            assert_eq!(read.is_some(), end == 43, "cut at {end}");
        }
    }

    #[test]
    fn a_message_beyond_the_limit_ends_the_parse() {
        let mut tls = TlsStream::default();
        let too_long = u32::try_from(HANDSHAKE_BYTES + 1).unwrap().to_be_bytes();
        let head = [22, 3, 3, 0, 4, 11, too_long[1], too_long[2], too_long[3]];
        assert!(tls.records(Direction::Resp, &head).is_ok());
        assert!(tls.done());
        assert_eq!(tls.flags & flags::TOO_LONG, flags::TOO_LONG);
    }

    #[test]
    fn other_protocols_are_not_taken() {
        for other in [b"GET / HTTP/1.1\r\n".as_slice(), b"SSH-2.0-x\r\n", &[22, 3, 1, 0, 2, 9, 9], &[0x16, 2]] {
            assert_eq!(looks_like_tls(other), Some(false));
        }
        assert_eq!(looks_like_tls(&[22, 3]), None);
        assert_eq!(looks_like_tls(&client_hello(255)), Some(true));
        let mut tls = TlsStream::default();
        assert!(tls.records(Direction::Orig, b"GET / HTTP/1.1\r\n").is_err());
    }
}
