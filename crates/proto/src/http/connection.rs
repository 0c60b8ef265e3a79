//! A connection: which direction asks, which response answers which request, and when a transaction is complete.
//!
//! Rules of this file:
//! 1. The direction whose first bytes begin a request is the client's; begin a status line, the server's.
//! 2. Transactions are told in the order of their requests.
//! 3. When the connection has gone on in another protocol, nothing more is read here.
use std::collections::VecDeque;

use bunker_wire::Direction;

use super::head::{self, Framing, flags};
use super::message::{Half, Message, Step};
use super::{Config, Side, Transaction, TransactionSink};

/// What a connection became.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upgrade {
    /// A tunnel after CONNECT.
    Connect,
    /// WebSocket.
    WebSocket,
    /// HTTP/2 in clear text.
    H2c,
    /// Something else.
    Other,
}

#[derive(Default)]
struct Exchange {
    maybe_request: Option<Message>,
    request_ended: bool,
    maybe_response: Option<Message>,
    response_ended: bool,
    maybe_info: Option<(u16, Vec<u8>)>,
    flags: u64,
}

/// One TCP connection that speaks HTTP/1.
pub struct Connection {
    halves: Option<Box<[Half; 2]>>,
    exchanges: VecDeque<Exchange>,
    client: Direction,
    depth: u32,
    maybe_upgrade: Option<Upgrade>,
    /// A first chunk of one byte that may begin "HEAD" or "HTTP/".
    maybe_early: Option<(Direction, u8)>,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            halves: None,
            exchanges: VecDeque::new(),
            client: Direction::Orig,
            depth: 0,
            maybe_upgrade: None,
            maybe_early: None,
        }
    }

    /// What the connection became, if it left HTTP/1.
    #[must_use]
    pub const fn upgraded(&self) -> Option<Upgrade> {
        self.maybe_upgrade
    }

    /// The direction that carries requests.
    #[must_use]
    pub const fn client(&self) -> Direction {
        self.client
    }

    /// Transactions begun.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let halves = self
            .halves
            .iter()
            .flat_map(|halves| halves.iter())
            .fold(0usize, |sum, half| sum.saturating_add(half.live_bytes()).saturating_add(size_of::<Half>()));
        self.exchanges.iter().fold(halves, |sum, exchange| {
            [&exchange.maybe_request, &exchange.maybe_response]
                .into_iter()
                .flatten()
                .fold(sum.saturating_add(size_of::<Exchange>()), |sum, message| {
                    sum.saturating_add(message.live_bytes())
                })
        })
    }

    /// Take stream bytes.
    pub fn data(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        if let Some((early, byte)) = self.maybe_early.take() {
            let joined;
            let (start, rest) = if early == direction {
                joined = [&[byte], bytes].concat();
                (joined.as_slice(), &[][..])
            } else {
                joined = vec![byte];
                (joined.as_slice(), bytes)
            };
            self.begin(early, start);
            self.read(early, start, ts_ns, config, out);
            self.read(direction, rest, ts_ns, config, out);
            return;
        }
        if self.halves.is_none() {
            if let [byte @ (b'H' | b'h')] = bytes {
                self.maybe_early = Some((direction, *byte));
                return;
            }
            self.begin(direction, bytes);
        }
        self.read(direction, bytes, ts_ns, config, out);
    }

    fn begin(&mut self, direction: Direction, bytes: &[u8]) {
        if self.halves.is_none() {
            let response = matches!(bytes, [b'H' | b'h', b'T' | b't', ..]);
            self.client = match (response, direction) {
                (true, direction) => direction.other(),
                (false, direction) => direction,
            };
            self.halves = Some(Box::new([Half::new(true), Half::new(false)]));
        }
    }

    fn read(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let mut rest = bytes;
        if direction != self.client {
            self.flush_request_line(config);
        }
        while !rest.is_empty() && self.maybe_upgrade.is_none() {
            let is_request = direction == self.client;
            let Some(half) = self.half(is_request) else { return };
            match half.step(&mut rest, ts_ns, config) {
                Step::NeedMore => break,
                Step::Head(message) if is_request => self.request_head(message, config),
                Step::Head(message) => self.response_head(message, config),
                Step::End => self.message_ended(is_request),
            }
            self.tell_complete(config, out);
        }
    }

    /// Bytes of a direction are missing.
    pub fn gap(
        &mut self,
        direction: Direction,
        length: u64,
        _ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let is_request = direction == self.client;
        let Some(half) = self.half(is_request) else { return };
        if half.gap(length) {
            self.message_ended(is_request);
            self.tell_complete(config, out);
        }
    }

    fn flush_request_line(&mut self, config: &Config) {
        if let Some(message) = self.half(true).and_then(|half| half.flush_head(config)) {
            self.request_head(message, config);
        }
    }

    /// A direction sends no more.
    pub fn ended(&mut self, direction: Direction, _ts_ns: u64, config: &Config, out: &mut impl TransactionSink) {
        let is_request = direction == self.client;
        if is_request {
            self.flush_request_line(config);
        }
        let Some(half) = self.half(is_request) else { return };
        if half.in_body() {
            if !half.until_close() {
                half.body_flags |= flags::TRUNCATED;
            }
            self.message_ended(is_request);
        } else if half.has_partial_head()
            && let Some(exchange) = self.exchanges.back_mut()
        {
            exchange.flags |= flags::TRUNCATED;
        }
        self.tell_complete(config, out);
    }

    /// The flow is over: tell what is left.
    pub fn closed(&mut self, ts_ns: u64, config: &Config, out: &mut impl TransactionSink) {
        self.ended(self.client, ts_ns, config, out);
        self.ended(self.client.other(), ts_ns, config, out);
        for exchange in &mut self.exchanges {
            exchange.request_ended = true;
            exchange.response_ended = true;
        }
        self.tell_complete(config, out);
    }

    fn half(&mut self, is_request: bool) -> Option<&mut Half> {
        let [requests, responses] = self.halves.as_deref_mut()?;
        Some(if is_request { requests } else { responses })
    }

    fn request_head(&mut self, message: Message, config: &Config) {
        let pipelined = self.exchanges.back().is_some_and(|last| last.maybe_response.is_none());
        if self.exchanges.len() >= config.limits.pending
            && let Some(oldest) = self.exchanges.front_mut()
        {
            oldest.flags |= flags::OVER_LIMIT;
            oldest.request_ended = true;
            oldest.response_ended = true;
        }
        let parsed = message.parsed;
        let encoding = parsed.content_encoding.map(|place| place.of(&message.head).to_vec()).unwrap_or_default();
        // A request without length has no body (RFC 9112 section 6.3), whatever its transfer coding pretends to be.
        let framing = parsed.framing;
        let has_body = self.half(true).is_some_and(|half| half.begin_body(framing, &encoding, config));
        self.exchanges.push_back(Exchange {
            maybe_request: Some(message),
            request_ended: !has_body,
            flags: if pipelined { flags::PIPELINED } else { 0 },
            ..Exchange::default()
        });
        let is_connect = self
            .exchanges
            .back()
            .and_then(|exchange| exchange.maybe_request.as_ref())
            .is_some_and(|request| request.parsed.method.of(&request.head).eq_ignore_ascii_case(b"CONNECT"));
        if is_connect && let Some(half) = self.half(true) {
            // What follows belongs to the tunnel, or waits for an answer that refuses it.
            half.go_opaque();
        }
    }

    fn response_head(&mut self, message: Message, config: &Config) {
        let status = message.parsed.status;
        let place = self.exchanges.iter().position(|exchange| exchange.maybe_response.is_none());
        if (100..200).contains(&status) && status != 101 {
            let reason = message.parsed.target.of(&message.head).to_vec();
            if let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place)) {
                exchange.maybe_info = Some((status, reason));
            }
            if let Some(half) = self.half(false) {
                half.begin_body(Framing::Unsaid, b"", config);
            }
            return;
        }
        let method = place
            .and_then(|place| self.exchanges.get(place))
            .and_then(|exchange| exchange.maybe_request.as_ref())
            .map(|request| request.parsed.method.of(&request.head).to_ascii_uppercase());
        let is_head = method.as_deref() == Some(b"HEAD");
        let tunnel = method.as_deref() == Some(b"CONNECT") && (200..300).contains(&status);
        let framing = if is_head || tunnel || matches!(status, 101 | 204 | 304) {
            Framing::Unsaid
        } else if message.parsed.framing == Framing::Unsaid {
            Framing::UntilClose
        } else {
            message.parsed.framing
        };
        if status == 101 {
            let protocol = message.parsed.upgrade.map(|place| place.of(&message.head).to_ascii_lowercase());
            self.maybe_upgrade = Some(match protocol.as_deref() {
                Some(b"websocket") => Upgrade::WebSocket,
                Some(b"h2c") => Upgrade::H2c,
                _ => Upgrade::Other,
            });
        } else if tunnel {
            self.maybe_upgrade = Some(Upgrade::Connect);
        }
        let encoding =
            message.parsed.content_encoding.map(|place| place.of(&message.head).to_vec()).unwrap_or_default();
        let has_body = self.half(false).is_some_and(|half| half.begin_body(framing, &encoding, config));
        let upgraded = self.maybe_upgrade.is_some();
        let exchange = if let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place)) {
            exchange
        } else {
            self.exchanges.push_back(Exchange { request_ended: true, ..Exchange::default() });
            let Some(exchange) = self.exchanges.back_mut() else { return };
            exchange
        };
        exchange.response_ended = !has_body;
        exchange.maybe_response = Some(message);
        if upgraded {
            exchange.flags |= flags::UPGRADED;
            exchange.request_ended = true;
        }
    }

    fn message_ended(&mut self, is_request: bool) {
        let Some(half) = self.half(is_request) else { return };
        let maybe_body = half.end_body();
        let found = core::mem::take(&mut half.body_flags);
        let exchange = if is_request {
            self.exchanges.iter_mut().rev().find(|exchange| exchange.maybe_request.is_some() && !exchange.request_ended)
        } else {
            self.exchanges.iter_mut().find(|exchange| exchange.maybe_response.is_some() && !exchange.response_ended)
        };
        let Some(exchange) = exchange else { return };
        exchange.flags |= found;
        let message = if is_request {
            exchange.request_ended = true;
            exchange.maybe_request.as_mut()
        } else {
            exchange.response_ended = true;
            exchange.maybe_response.as_mut()
        };
        if let Some(message) = message {
            message.maybe_body = maybe_body;
        }
    }

    fn tell_complete(&mut self, config: &Config, out: &mut impl TransactionSink) {
        while self.exchanges.front().is_some_and(|exchange| exchange.request_ended && exchange.response_ended) {
            let Some(exchange) = self.exchanges.pop_front() else { return };
            self.depth = self.depth.saturating_add(1);
            tell(&exchange, self.depth, config, out);
        }
        // A response has come in full while its request's body is still being sent: the request will end later, or never.
    }
}

fn side<'a>(message: Option<&'a Message>, config: &Config) -> Side<'a> {
    let Some(message) = message else { return Side::default() };
    let body = message.maybe_body.as_ref();
    Side {
        head: if config.want_heads { &message.head } else { &[] },
        body_len: body.map_or(0, |body| body.decoded_len),
        coded_len: body.map_or(0, |body| body.coded_len),
        body: body.map_or(&[], |body| &body.kept),
        content_type: message.parsed.content_type.map(|place| place.of(&message.head)),
        content_encoding: message.parsed.content_encoding.map(|place| place.of(&message.head)),
        maybe_magic: body.and_then(|body| body.maybe_magic),
        maybe_digests: body.filter(|body| body.decoded_len > 0).and_then(|body| body.maybe_digests),
        headers: message.parsed.headers,
    }
}

fn tell(exchange: &Exchange, depth: u32, config: &Config, out: &mut impl TransactionSink) {
    let request = exchange.maybe_request.as_ref();
    let response = exchange.maybe_response.as_ref();
    let mut found = exchange.flags;
    for message in [request, response].into_iter().flatten() {
        found |= message.flags | message.parsed.flags;
    }
    if request.is_none() {
        found |= flags::NO_REQUEST;
    }
    if response.is_none() {
        found |= flags::NO_RESPONSE;
    }
    let uri = request.map(|message| message.parsed.target.of(&message.head)).filter(|uri| !uri.is_empty());
    let host = request
        .and_then(|message| message.parsed.host.map(|place| place.of(&message.head)))
        .or_else(|| uri.and_then(authority));
    let of_request = |place: fn(&head::Head) -> Option<head::Place>| {
        request.and_then(|message| place(&message.parsed).map(|place| place.of(&message.head)))
    };
    let version_of = |message: &'_ Message| message.parsed.version;
    let version = request
        .map(|message| (version_of(message), message))
        .filter(|(place, message)| !place.of(&message.head).is_empty())
        .or_else(|| response.map(|message| (version_of(message), message)))
        .map(|(place, message)| place.of(&message.head));
    let transaction = Transaction {
        ts_ns: request.or(response).map_or(0, |message| message.ts_ns),
        maybe_response_ts_ns: response.map(|message| message.ts_ns),
        depth,
        method: request.map(|message| message.parsed.method.of(&message.head)),
        host,
        uri,
        referrer: of_request(|parsed| parsed.referrer),
        version: if found & flags::VERSION_09 == 0 { version } else { Some(b"0.9") },
        user_agent: of_request(|parsed| parsed.user_agent),
        origin: of_request(|parsed| parsed.origin),
        authorization: of_request(|parsed| parsed.authorization),
        status: response.map(|message| message.parsed.status),
        reason: response.map(|message| message.parsed.target.of(&message.head)).filter(|reason| !reason.is_empty()),
        info_code: exchange.maybe_info.as_ref().map(|(code, _)| *code),
        info_reason: exchange.maybe_info.as_ref().map(|(_, reason)| reason.as_slice()),
        location: response.and_then(|message| message.parsed.location.map(|place| place.of(&message.head))),
        cookie: request.is_some_and(|message| message.parsed.cookie),
        set_cookie: response.is_some_and(|message| message.parsed.cookie),
        proxied: request.is_some_and(|message| message.parsed.proxied),
        request: side(request, config),
        response: side(response, config),
        flags: found,
    };
    out.transaction(&transaction);
}

/// The authority of an absolute target, or of CONNECT's.
fn authority(uri: &[u8]) -> Option<&[u8]> {
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
