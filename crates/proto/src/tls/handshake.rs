//! The facts of one handshake, whatever carries its messages: TLS records, DTLS records or QUIC CRYPTO frames.
//!
//! Rules of this file:
//! 1. Messages come whole; who cut and ordered them does not matter here.
//! 2. One row is written, once.
//! 3. Certificates become facts and hashes at once; their bytes are not kept.
use bunker_wire::Direction;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::hello::{self, ClientHello, ServerHello, is_grease};
use super::x509::Certificate;
use super::{flags, words};
use crate::columns::{MessageKind, TextItems, TlsRow};
use crate::parser::{Context, Service};

/// Letters of `ssl_history` kept. Zeek: 100 (`max_ssl_history_length`).
pub const HISTORY_LETTERS: usize = 100;
/// Certificates of one side that are hashed. Chains have below 10.
pub const CERTIFICATES: usize = 16;

/// What carries the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP.
    Dtls,
    /// QUIC over UDP, of this version.
    Quic(u32),
}

/// A hello that is none: nothing of the flow is believed.
pub struct NotTls;

/// What is known of a handshake so far.
#[derive(Default)]
pub struct Handshake {
    /// Time of the first message.
    pub started_ns: Option<u64>,
    /// What the client offers.
    pub client: Option<ClientHello>,
    /// What the server chose.
    pub server: Option<ServerHello>,
    /// The direction that sent the client's hello.
    pub client_side: Option<Direction>,
    /// Anomalies.
    pub flags: u64,
    /// A fatal alert, or a limit: nothing more follows.
    pub ended: bool,
    last_alert: Option<u8>,
    group: Option<u16>,
    chains: [Chain; 2],
    key_exchanged: bool,
    changed: [bool; 2],
    encrypted: [bool; 2],
    history: Vec<u8>,
    written: bool,
}

/// Certificates of one side.
#[derive(Default)]
struct Chain {
    count: u64,
    sha256: TextItems,
    first: Option<Box<First>>,
}

struct First {
    facts: Option<Certificate>,
    sha256: String,
    sha1: String,
}

impl Handshake {
    /// Whether `direction` is the client's.
    #[must_use]
    pub fn is_client(&self, direction: Direction) -> bool {
        self.client_side.unwrap_or(Direction::Orig) == direction
    }

    /// `direction` is the client's; Zeek tells a client that did not open the flow by a letter of its own.
    pub fn client_is(&mut self, direction: Direction) {
        if self.client_side != Some(direction) {
            self.client_side = Some(direction);
            if direction == Direction::Resp {
                self.history.push(b'^');
            }
        }
    }

    /// Append to `ssl_history`: upper case for the client.
    pub fn letter(&mut self, direction: Direction, letter: u8) {
        let letter = if self.is_client(direction) { letter } else { letter.to_ascii_lowercase() };
        if self.history.len() < HISTORY_LETTERS {
            self.history.push(letter);
        }
    }

    /// Whether `direction` has sent ChangeCipherSpec.
    #[must_use]
    pub fn has_changed(&self, direction: Direction) -> bool {
        self.changed.get(direction.index()).copied().unwrap_or_default()
    }

    /// `direction` sent ChangeCipherSpec.
    pub fn change(&mut self, direction: Direction) {
        if let Some(changed) = self.changed.get_mut(direction.index()) {
            *changed = true;
        }
        self.letter(direction, b'I');
    }

    /// `direction` sends encrypted data now.
    pub fn encrypt(&mut self, direction: Direction) {
        if let Some(encrypted) = self.encrypted.get_mut(direction.index()) {
            *encrypted = true;
        }
    }

    /// An alert in clear text: level and description.
    pub fn alert(&mut self, direction: Direction, body: &[u8]) {
        if let [level, description] = body {
            self.last_alert = Some(*description);
            self.ended |= *level == 2;
            self.letter(direction, b'L');
        }
    }

    /// A client's hello in the form of SSL 2, without its length.
    ///
    /// # Errors
    /// It is none.
    pub fn old_hello(&mut self, direction: Direction, message: &[u8]) -> Result<(), NotTls> {
        let hello = ClientHello::read_v2(message).ok_or(NotTls)?;
        self.client_is(direction);
        self.client.get_or_insert(hello);
        self.flags |= flags::OLD_HELLO;
        self.letter(direction, b'C');
        Ok(())
    }

    /// One handshake message.
    ///
    /// # Errors
    /// The first hello is none.
    pub fn message(&mut self, direction: Direction, kind: u8, body: &[u8], dtls: bool) -> Result<(), NotTls> {
        match kind {
            0 => self.letter(direction, b'H'),
            1 => {
                let hello = ClientHello::read(body, dtls);
                if hello.is_none() {
                    self.flags |= flags::BAD_HELLO;
                }
                if self.client.is_none() {
                    self.client_is(direction);
                    // Nothing of a connection that does not even begin with a hello is TLS.
                    self.client = Some(hello.ok_or(NotTls)?);
                }
                self.letter(direction, b'C');
            }
            2 | 6 => {
                if self.client_side.is_none() {
                    self.client_is(direction.other());
                }
                let Some(hello) = ServerHello::read(body) else {
                    self.flags |= flags::BAD_HELLO;
                    return if self.client.is_some() { Ok(()) } else { Err(NotTls) };
                };
                let is_retry = hello.is_retry || kind == 6;
                self.letter(direction, if is_retry { b'J' } else { b'S' });
                self.group = hello.group.or(self.group);
                if is_retry {
                    self.flags |= flags::RETRY;
                } else {
                    self.server = Some(hello);
                }
            }
            3 => {
                if self.client_side.is_none() {
                    self.client_is(direction.other());
                }
                self.letter(direction, b'V');
            }
            4 => self.letter(direction, b'T'),
            5 => self.letter(direction, b'E'),
            8 => self.letter(direction, b'O'),
            11 => {
                self.letter(direction, b'X');
                let is_client = usize::from(self.is_client(direction));
                if let Some(chain) = self.chains.get_mut(is_client)
                    && chain.count == 0
                {
                    chain.read(body);
                }
            }
            12 => {
                self.letter(direction, b'K');
                // ServerKeyExchange of ECDHE: curve type 3, named group (RFC 8422 section 5.4). Other exchanges begin with the
                // length of a prime, whose first byte is 0 or 1.
                if let [3, high, low, ..] = body {
                    self.group = Some(u16::from_be_bytes([*high, *low]));
                }
            }
            13 => self.letter(direction, b'R'),
            14 => self.letter(direction, b'N'),
            15 => self.letter(direction, b'Y'),
            16 => {
                self.key_exchanged = true;
                self.letter(direction, b'G');
            }
            20 => self.letter(direction, b'F'),
            21 => self.letter(direction, b'W'),
            22 => self.letter(direction, b'U'),
            23 => self.letter(direction, b'A'),
            24 => self.letter(direction, b'P'),
            254 => self.letter(direction, b'M'),
            _ => self.letter(direction, b'Z'),
        }
        Ok(())
    }

    /// Both sides encrypt.
    #[must_use]
    pub fn established(&self) -> bool {
        self.server.is_some() && self.encrypted == [true, true]
    }

    /// Nothing more of interest follows.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.established() || self.ended
    }

    /// The row was written.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.written
    }

    /// The server speaks TLS 1.3.
    #[must_use]
    pub fn is_13(&self) -> bool {
        self.server.as_ref().is_some_and(ServerHello::is_13)
    }

    /// Zeek's rules: TLS 1.3 by a pre-shared key that was taken; before, by a session id that comes back, or by a ticket after which
    /// the client exchanges no key.
    fn resumed(&self) -> bool {
        let (Some(client), Some(server)) = (&self.client, &self.server) else { return false };
        if server.is_13() {
            return server.resumed && client.psk;
        }
        let named = client.session.iter().any(|byte| *byte != 0);
        if named && client.session == server.session {
            return true;
        }
        let changed = self.has_changed(self.client_side.unwrap_or(Direction::Orig));
        client.ticket && client.session.is_empty() && changed && !self.key_exchanged
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let client = self.client.as_ref().map_or(0, ClientHello::live_bytes);
        let chains = self.chains.iter().fold(0usize, |sum, chain| {
            let first = chain.first.as_ref().map_or(0, |first| {
                first.facts.as_ref().map_or(0, Certificate::live_bytes).saturating_add(size_of::<First>())
            });
            sum.saturating_add(chain.sha256.live_bytes()).saturating_add(first)
        });
        client.saturating_add(chains).saturating_add(self.history.capacity())
    }

    /// Write the row, unless no hello was seen or it is written already.
    pub fn write(&mut self, context: &mut Context<'_>, transport: Transport) {
        if self.written || (self.client.is_none() && self.server.is_none()) {
            return;
        }
        self.written = true;
        match transport {
            Transport::Tls => context.confirm(Service::Ssl),
            Transport::Dtls => context.confirm(Service::Dtls),
            Transport::Quic(_) => context.confirm(Service::Quic),
        }
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
        let (proto, carrier, ja4_letter, quic) = match transport {
            Transport::Tls => ("tcp", "tls", 't', None),
            Transport::Dtls => ("udp", "dtls", 'd', None),
            Transport::Quic(version) => ("udp", "quic", 'q', Some(words::quic_version(version))),
        };
        let quic = word(quic);
        // Both fingerprints are defined for the present form of a hello alone.
        let client_now = client.filter(|_| self.flags & flags::OLD_HELLO == 0);
        let ja3 = word(client_now.map(ClientHello::ja3));
        let ja3s = word(server.map(ServerHello::ja3s));
        let ja4 = word(client_now.map(|client| client.ja4(ja4_letter)));
        let [servers, clients] = &self.chains;
        let first = servers.first.as_deref();
        let facts = first.and_then(|first| first.facts.as_ref());
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
        let server_name = client.and_then(|client| client.server_name.as_deref());
        let matches = server_name.and_then(|name| facts.map(|facts| facts.stands_for(name)));
        let row = TlsRow {
            proto: proto.as_bytes(),
            version: version.as_deref(),
            cipher: cipher.as_deref(),
            curve: curve.as_deref(),
            server_name,
            resumed: self.resumed(),
            last_alert: alert.as_deref(),
            next_protocol: server.and_then(|server| server.alpn.as_deref()),
            established: self.established(),
            ssl_history: (!self.history.is_empty()).then_some(self.history.as_slice()),
            cert_chain_fps: Some(&servers.sha256).filter(|items| full(items)),
            client_cert_chain_fps: Some(&clients.sha256).filter(|items| full(items)),
            sni_matches_cert: matches,
            client_version: client_version.as_deref(),
            client_versions: Some(&versions).filter(|items| full(items)),
            client_alpn: Some(&alpn).filter(|items| full(items)),
            client_ciphers: ciphers,
            ech: client.is_some_and(|client| client.ech),
            ja3: ja3.as_deref(),
            ja4: ja4.as_deref(),
            subject: facts.map(|facts| facts.subject.as_slice()),
            issuer: facts.map(|facts| facts.issuer.as_slice()),
            cert_serial: facts.map(|facts| facts.serial.as_slice()),
            cert_not_before: facts.and_then(|facts| facts.not_before_ns),
            cert_not_after: facts.and_then(|facts| facts.not_after_ns),
            cert_self_signed: facts.map(|facts| facts.self_signed),
            cert_key_type: facts.map(|facts| facts.key_type.as_bytes()),
            cert_key_length: facts.and_then(|facts| facts.key_bits),
            cert_sig_alg: facts.map(|facts| facts.signature.as_slice()),
            san_dns: facts.map(|facts| &facts.names).filter(|items| full(items)),
            san_count: facts.map(|facts| facts.name_count),
            cert_sha256: first.map(|first| first.sha256.as_bytes()),
            cert_sha1: first.map(|first| first.sha1.as_bytes()),
            cert_count: (servers.count > 0).then_some(servers.count),
            flags: self.flags,
            transport: carrier.as_bytes(),
            quic_version: quic.as_deref(),
            ja3s: ja3s.as_deref(),
            cert_policy: facts.map(|facts| match facts.policy {
                Some(policy) => policy.as_bytes(),
                None if facts.self_signed => b"self-signed",
                None => b"none",
            }),
        };
        context.tables.Tls.push(origin, row);
    }
}

impl Chain {
    /// A Certificate message of TLS 1.2 and older (RFC 5246 section 7.4.2).
    fn read(&mut self, body: &[u8]) {
        let mut rest = body.get(3..).unwrap_or_default();
        while let (Some([high, middle, low]), Some(after)) = (rest.first_chunk::<3>(), rest.get(3..)) {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            let Some((der, next)) = after.split_at_checked(length) else { break };
            rest = next;
            self.count = self.count.saturating_add(1);
            if self.sha256.len() >= CERTIFICATES {
                continue;
            }
            let sha256 = hello::hex(&Sha256::digest(der));
            self.sha256.push(sha256.as_bytes());
            if self.first.is_none() {
                let sha1 = hello::hex(&Sha1::digest(der));
                self.first = Some(Box::new(First { facts: Certificate::read(der), sha256, sha1 }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_beyond_the_limit_is_counted_and_not_hashed() {
        for (count, hashed) in [(0usize, 0), (1, 1), (CERTIFICATES, CERTIFICATES), (CERTIFICATES + 1, CERTIFICATES)] {
            let mut body = vec![0, 0, 0];
            for _ in 0..count {
                body.extend_from_slice(&[0, 0, 2, 0x30, 0]);
            }
            let mut chain = Chain::default();
            chain.read(&body);
            assert_eq!((chain.count, chain.sha256.len()), (count as u64, hashed));
        }
    }

    #[test]
    fn history_ends_at_its_limit() {
        let mut handshake = Handshake::default();
        for _ in 0..HISTORY_LETTERS + 3 {
            handshake.letter(Direction::Resp, b'T');
        }
        assert_eq!(handshake.history, vec![b't'; HISTORY_LETTERS]);
    }
}
