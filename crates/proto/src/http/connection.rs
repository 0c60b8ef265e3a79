//! A connection: which direction asks, which response answers which request, and when a transaction is complete.
//!
//! Rules of this file:
//! 1. The direction whose first bytes begin a request is the client's; begin a status line, the server's.
//! 2. Transactions are told in the order of their requests.
//! 3. When the connection has gone on in another protocol, nothing more is read here.
use std::collections::VecDeque;

use bunker_wire::Direction;

use super::forwarded;
use super::head::{self, Framing, Head, flags};
use super::message::{Gap, Half, Message, Step};
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

/// A request with its response, as far as either has come.
#[derive(Default)]
pub struct Exchange {
    pub(crate) request: Message,
    pub(crate) response: Message,
    pub(crate) maybe_info: Option<Box<(u16, Vec<u8>)>>,
    pub(crate) flags: u64,
    /// The response, or what was to be one, lies in a hole.
    response_lost: bool,
}

impl Exchange {
    /// Ready to be used again.
    pub fn clear(&mut self) {
        self.request.clear();
        self.response.clear();
        (self.maybe_info, self.flags, self.response_lost) = (None, 0, false);
    }

    pub(crate) fn live_bytes(&self) -> usize {
        size_of::<Self>().saturating_add(self.request.live_bytes()).saturating_add(self.response.live_bytes())
    }
}

/// One TCP connection that speaks HTTP/1.
pub struct Connection {
    requests: Half,
    responses: Half,
    exchanges: VecDeque<Box<Exchange>>,
    client: Direction,
    begun: bool,
    /// Requests came before the responses to those before them.
    pipelines: bool,
    depth: u32,
    maybe_upgrade: Option<Upgrade>,
    /// Settings of the client's HTTP/2 side, as it sent them with the upgrade (base64url).
    settings: Vec<u8>,
    /// A first piece of one byte that may begin "HEAD" or "HTTP/".
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
            requests: Half::new(true),
            responses: Half::new(false),
            exchanges: VecDeque::new(),
            client: Direction::Orig,
            begun: false,
            pipelines: false,
            depth: 0,
            maybe_upgrade: None,
            settings: Vec::new(),
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

    /// Transactions told.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// The first request carries these flags, too.
    pub const fn flag_first(&mut self, flags: u64) {
        self.requests.next_flags |= flags;
    }

    /// The exchange that an upgrade to HTTP/2 leaves open: its response comes as stream 1 (RFC 7540 section 3.2).
    pub fn take_upgraded(&mut self) -> Option<(Box<Exchange>, Vec<u8>)> {
        self.exchanges.pop_front().map(|exchange| (exchange, core::mem::take(&mut self.settings)))
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let halves = self.requests.live_bytes().saturating_add(self.responses.live_bytes());
        self.exchanges.iter().fold(halves, |sum, exchange| sum.saturating_add(exchange.live_bytes()))
    }

    /// Take stream bytes; how many of them were HTTP/1 (all, unless the connection goes on in another protocol).
    pub fn data(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) -> usize {
        if self.begun {
            return self.read(direction, bytes, ts_ns, config, out);
        }
        if let Some((early, byte)) = self.maybe_early.take() {
            if early == direction {
                let joined = [&[byte], bytes].concat();
                self.begin(early, &joined);
                return self.read(early, &joined, ts_ns, config, out).saturating_sub(1);
            }
            self.begin(early, &[byte]);
            self.read(early, &[byte], ts_ns, config, out);
            return self.read(direction, bytes, ts_ns, config, out);
        }
        let mut start = bytes;
        while let [b'\r' | b'\n', rest @ ..] = start {
            start = rest;
        }
        match start {
            [] => return bytes.len(),
            [byte @ (b'H' | b'h')] => {
                self.maybe_early = Some((direction, *byte));
                return bytes.len();
            }
            _ => {}
        }
        self.begin(direction, start);
        self.read(direction, bytes, ts_ns, config, out)
    }

    fn begin(&mut self, direction: Direction, start: &[u8]) {
        let response = matches!(start, [b'H' | b'h', b'T' | b't', ..]);
        self.client = match (response, direction) {
            (true, direction) => direction.other(),
            (false, direction) => direction,
        };
        self.begun = true;
    }

    fn read(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        ts_ns: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) -> usize {
        let mut rest = bytes;
        let is_request = direction == self.client;
        while !rest.is_empty() && self.maybe_upgrade.is_none() {
            let piece = rest;
            match self.half(is_request).step(&mut rest, ts_ns, config) {
                Step::NeedMore => break,
                Step::End => self.message_ended(is_request),
                Step::NoHead => self.no_head(ts_ns, config, out),
                Step::Head { parsed, maybe_len, ts_ns, flags } => {
                    let text = maybe_len.map(|length| piece_head(piece, length));
                    self.head(is_request, parsed, text, ts_ns, flags, config, out);
                }
            }
            self.tell_complete(config, out);
        }
        bytes.len().saturating_sub(if self.maybe_upgrade.is_some() { rest.len() } else { 0 })
    }

    #[allow(clippy::too_many_arguments)] // the parts of a step
    fn head(
        &mut self,
        is_request: bool,
        parsed: Head,
        text: Option<&[u8]>,
        ts_ns: u64,
        flags: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let held;
        let text = if let Some(text) = text {
            text
        } else {
            held = self.half(is_request).text().to_vec();
            self.half(is_request).forget_text();
            &held
        };
        if is_request {
            self.request_head(text, parsed, ts_ns, flags, config, out);
        } else {
            self.response_head(text, parsed, ts_ns, flags, config, out);
        }
    }

    /// The server sends something without a status line: the whole of an HTTP/0.9 reply, if one is due and nothing else was said.
    fn no_head(&mut self, ts_ns: u64, config: &Config, out: &mut impl TransactionSink) {
        self.flush_request(config, out);
        let due = self.exchanges.iter().position(|exchange| !exchange.response.seen);
        let Some(place) = due.filter(|_| !self.responses.has_spoken() && self.responses.next_flags == 0) else {
            self.responses.reject_head();
            return;
        };
        let flags = self.responses.begin_headless(config);
        if let Some(exchange) = self.exchanges.get_mut(place) {
            exchange.response.begin(b"", Head::default(), ts_ns, flags | flags::VERSION_09);
        }
        self.tell_complete(config, out);
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
        if !self.begun {
            return;
        }
        let is_request = direction == self.client;
        match self.half(is_request).gap(length, config) {
            Gap::Passed => {}
            Gap::Ended => self.message_ended(is_request),
            Gap::Beyond => {
                self.message_ended(is_request);
                self.response_lost(is_request);
            }
            Gap::Head => self.response_lost(is_request),
            Gap::Told(Step::Head { parsed, ts_ns, flags, .. }) => {
                self.head(is_request, parsed, None, ts_ns, flags, config, out);
            }
            Gap::Told(_) => {}
        }
        self.tell_complete(config, out);
    }

    /// A response that was due lies in a hole, unless it comes after it.
    fn response_lost(&mut self, is_request: bool) {
        if is_request {
            return;
        }
        let mut due = self.exchanges.iter_mut().filter(|exchange| !exchange.response.seen);
        if let (Some(exchange), None) = (due.next(), due.next()) {
            exchange.response_lost = true;
        }
    }

    /// The server answers, and no whole request waits for it: what the client has sent of one is all that it waited for.
    fn flush_request(&mut self, config: &Config, out: &mut impl TransactionSink) {
        if !self.requests.has_partial_head() || self.exchanges.iter().any(|exchange| !exchange.response.seen) {
            return;
        }
        let step = if self.requests.holds_simple_request() {
            self.requests.simple_request(config)
        } else {
            self.requests.partial(flags::TRUNCATED, config)
        };
        if let Some(Step::Head { parsed, ts_ns, flags, .. }) = step {
            self.head(true, parsed, None, ts_ns, flags, config, out);
        }
    }

    /// A direction sends no more.
    pub fn ended(&mut self, direction: Direction, ts_ns: u64, config: &Config, out: &mut impl TransactionSink) {
        if let Some((early, byte)) = self.maybe_early.take() {
            self.begin(early, &[byte]);
            self.read(early, &[byte], ts_ns, config, out);
        }
        if !self.begun {
            return;
        }
        let is_request = direction == self.client;
        if is_request && self.requests.has_partial_head() {
            self.flush_at_end(config, out);
        }
        let half = self.half(is_request);
        if half.in_body() {
            half.body_flags |= half.flags_at_end();
            self.message_ended(is_request);
        } else if half.has_partial_head()
            && let Some(exchange) = self.exchanges.back_mut()
        {
            exchange.flags |= flags::TRUNCATED;
        }
        self.tell_complete(config, out);
    }

    /// The client's last request is not complete: told as far as it came.
    fn flush_at_end(&mut self, config: &Config, out: &mut impl TransactionSink) {
        let step = if self.requests.holds_simple_request() {
            self.requests.simple_request(config)
        } else {
            self.requests.partial(flags::TRUNCATED, config)
        };
        if let Some(Step::Head { parsed, ts_ns, flags, .. }) = step {
            self.head(true, parsed, None, ts_ns, flags, config, out);
        }
    }

    /// The flow is over: tell what is left.
    pub fn closed(&mut self, ts_ns: u64, config: &Config, out: &mut impl TransactionSink) {
        self.ended(self.client, ts_ns, config, out);
        self.ended(self.client.other(), ts_ns, config, out);
        for exchange in &mut self.exchanges {
            exchange.request.ended = true;
            exchange.response.ended = true;
        }
        self.tell_complete(config, out);
    }

    const fn half(&mut self, is_request: bool) -> &mut Half {
        if is_request { &mut self.requests } else { &mut self.responses }
    }

    fn request_head(
        &mut self,
        text: &[u8],
        parsed: Head,
        ts_ns: u64,
        mut flags: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        if let Some(last) = self.exchanges.back_mut()
            && !last.response.seen
        {
            if last.response_lost && !self.pipelines {
                // Its response was in the hole: a client that does not pipeline has seen it.
                last.flags |= flags::GAP_IN_HEAD;
                last.request.ended = true;
                last.response.ended = true;
            } else {
                self.pipelines = true;
                flags |= flags::PIPELINED;
            }
        }
        if self.exchanges.len() >= config.limits.pending
            && let Some(oldest) = self.exchanges.front_mut()
        {
            oldest.flags |= flags::OVER_LIMIT;
            oldest.request.ended = true;
            oldest.response.ended = true;
        }
        // A request without length has no body (RFC 9112 section 6.3), whatever its transfer coding pretends to be.
        let has_body = begin_body(&mut self.requests, parsed.framing, &parsed, text, config);
        let mut exchange = out.spare();
        exchange.clear();
        exchange.request.begin(text, parsed, ts_ns, flags);
        exchange.request.ended = !has_body;
        self.exchanges.push_back(exchange);
        if parsed.method.of(text).eq_ignore_ascii_case(b"CONNECT") {
            // What follows belongs to the tunnel, or waits for an answer that refuses it.
            self.requests.go_opaque();
        }
        self.tell_complete(config, out);
    }

    fn response_head(
        &mut self,
        text: &[u8],
        parsed: Head,
        ts_ns: u64,
        flags: u64,
        config: &Config,
        out: &mut impl TransactionSink,
    ) {
        let status = parsed.status;
        self.flush_request(config, out);
        let place = self.exchanges.iter().position(|exchange| !exchange.response.seen && !exchange.response.ended);
        // An interim response has no body; one with a body is none (libhtp and browsers read it as the final one).
        let has_content = !matches!(parsed.framing, Framing::Unsaid | Framing::Length(0));
        if (100..200).contains(&status) && status != 101 && !has_content {
            if let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place)) {
                exchange.maybe_info = Some(Box::new((status, parsed.target.of(text).to_vec())));
                exchange.flags |= flags;
            }
            begin_body(&mut self.responses, Framing::Unsaid, &parsed, text, config);
            return;
        }
        let method = place
            .and_then(|place| self.exchanges.get(place))
            .map_or(&b""[..], |exchange| exchange.request.parsed.method.of(&exchange.request.head));
        let is_connect = method.eq_ignore_ascii_case(b"CONNECT");
        let tunnel = is_connect && (200..300).contains(&status);
        let framing = if method.eq_ignore_ascii_case(b"HEAD") || tunnel || matches!(status, 101 | 204 | 304) {
            Framing::Unsaid
        } else if parsed.framing == Framing::Unsaid {
            Framing::UntilClose
        } else {
            parsed.framing
        };
        if is_connect && !tunnel && self.requests.is_opaque() {
            self.requests.go_on();
        }
        let framing = if flags & (flags::GAP_IN_HEAD | flags::OVER_LIMIT) != 0 && parsed.framing == Framing::Unsaid {
            // The head is not whole: nothing is known of a body.
            Framing::Unsaid
        } else {
            framing
        };
        let has_body = begin_body(&mut self.responses, framing, &parsed, text, config);
        let place = place.unwrap_or_else(|| {
            let mut exchange = out.spare();
            exchange.clear();
            exchange.request.ended = true;
            self.exchanges.push_back(exchange);
            self.exchanges.len().saturating_sub(1)
        });
        let Some(exchange) = self.exchanges.get_mut(place) else { return };
        exchange.response.begin(text, parsed, ts_ns, flags);
        exchange.response.ended = !has_body;
        if status == 101 {
            let protocol = parsed.upgrade.of(text);
            let upgrade = match protocol {
                _ if protocol.eq_ignore_ascii_case(b"websocket") => Upgrade::WebSocket,
                _ if protocol.eq_ignore_ascii_case(b"h2c") => Upgrade::H2c,
                _ => Upgrade::Other,
            };
            self.maybe_upgrade = Some(upgrade);
            let asked = &exchange.request;
            exchange.maybe_info = Some(Box::new((status, parsed.target.of(text).to_vec())));
            exchange.flags |= flags::UPGRADED;
            if upgrade == Upgrade::H2c {
                self.settings = asked.parsed.http2_settings.of(&asked.head).to_vec();
                exchange.response.clear();
                exchange.response.ended = false;
                exchange.request.ended = true;
            } else {
                exchange.request.ended = true;
            }
        } else if tunnel {
            self.maybe_upgrade = Some(Upgrade::Connect);
            exchange.flags |= flags::UPGRADED;
            exchange.request.ended = true;
        }
    }

    fn message_ended(&mut self, is_request: bool) {
        let half = self.half(is_request);
        let body = half.end_body();
        let found = core::mem::take(&mut half.body_flags);
        let message = if is_request {
            self.exchanges
                .iter_mut()
                .rev()
                .map(|exchange| &mut exchange.request)
                .find(|request| request.seen && !request.ended)
        } else {
            self.exchanges
                .iter_mut()
                .map(|exchange| &mut exchange.response)
                .find(|response| response.seen && !response.ended)
        };
        let Some(message) = message else { return };
        message.flags |= found;
        message.ended = true;
        message.maybe_body = Some(body);
    }

    fn tell_complete(&mut self, config: &Config, out: &mut impl TransactionSink) {
        // A response that has come in full while its request's body is still being sent waits: the request will end later, or never.
        while self.exchanges.front().is_some_and(|exchange| exchange.request.ended && exchange.response.ended) {
            let Some(exchange) = self.exchanges.pop_front() else { return };
            self.depth = self.depth.saturating_add(1);
            tell(&exchange, self.depth, config, out);
            out.keep(exchange);
        }
    }
}

/// The head's bytes in the piece it was found in: `length` bytes after the blank lines in front.
fn piece_head(piece: &[u8], length: usize) -> &[u8] {
    let blank = piece.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    piece.get(blank..blank.saturating_add(length)).unwrap_or(&[])
}

/// Begin the body of a message with these codings.
fn begin_body(half: &mut Half, framing: Framing, parsed: &Head, text: &[u8], config: &Config) -> bool {
    if !parsed.more_codings && !parsed.transfer_coding.is_some() {
        return half.begin_body(framing, parsed.content_encoding.of(text), config);
    }
    let mut codings =
        if parsed.more_codings { head::all_codings(text) } else { parsed.content_encoding.of(text).to_vec() };
    // Transfer codings were applied last and are undone first; chunked is not one of bytes.
    for coding in parsed.transfer_coding.of(text).split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let known = [&b"gzip"[..], b"x-gzip", b"deflate"].iter().any(|word| word.eq_ignore_ascii_case(coding));
        if known {
            codings.push(b',');
            codings.extend_from_slice(coding);
        }
    }
    half.begin_body(framing, &codings, config)
}

/// A message as one side of a transaction.
fn side<'a>(message: &'a Message, config: &Config) -> Side<'a> {
    if !message.seen {
        return Side::default();
    }
    let (body, head) = (message.maybe_body.as_ref(), message.head.as_slice());
    Side {
        head: if config.want_heads { head } else { &[] },
        body_len: body.map_or(0, |body| body.decoded_len),
        coded_len: body.map_or(0, |body| body.coded_len),
        body: body.map_or(&[], |body| &body.kept),
        content_type: message.parsed.content_type.maybe_of(head),
        content_encoding: message.parsed.content_encoding.maybe_of(head),
        maybe_magic: body.and_then(|body| body.maybe_magic),
        maybe_digests: body.and_then(|body| body.maybe_digests.as_deref()),
        headers: message.parsed.headers,
    }
}

/// Tell a transaction.
pub(crate) fn tell(exchange: &Exchange, depth: u32, config: &Config, out: &mut impl TransactionSink) {
    let Exchange { request, response, maybe_info, .. } = exchange;
    let mut found = exchange.flags;
    for (message, missing) in [(request, flags::NO_REQUEST), (response, flags::NO_RESPONSE)] {
        found |= if message.seen { message.flags | message.parsed.flags } else { missing };
    }
    let (asked, answered) = (request.head.as_slice(), response.head.as_slice());
    let of_request = |place: head::Place| if request.seen { place.maybe_of(asked) } else { None };
    let uri = of_request(request.parsed.target).filter(|uri| !uri.is_empty());
    // The target's authority replaces Host (RFC 9112 section 3.2.2).
    let host = uri
        .filter(|uri| !uri.starts_with(b"/"))
        .and_then(head::authority)
        .or_else(|| of_request(request.parsed.host))
        .or_else(|| uri.filter(|_| request.parsed.method.of(asked).eq_ignore_ascii_case(b"CONNECT")));
    let version = |message: &'_ Message| message.parsed.version;
    let said = (response.seen && version(response).is_some()).then(|| version(response).of(answered));
    let simple =
        (request.flags | request.parsed.flags) & flags::VERSION_09 != 0 || response.flags & flags::VERSION_09 != 0;
    let status = response.parsed.status;
    let hops = if request.seen && request.parsed.proxied { forwarded::addresses(asked) } else { Vec::new() };
    let transaction = Transaction {
        ts_ns: if request.seen { request.ts_ns } else { response.ts_ns },
        maybe_response_ts_ns: response.seen.then_some(response.ts_ns),
        depth,
        method: of_request(request.parsed.method).filter(|method| !method.is_empty()),
        host,
        uri,
        referrer: of_request(request.parsed.referrer),
        version: if simple && said.is_none() {
            Some(b"0.9")
        } else {
            said.or_else(|| of_request(version(request))).filter(|version| !version.is_empty())
        },
        user_agent: of_request(request.parsed.user_agent),
        origin: of_request(request.parsed.origin),
        authorization: of_request(request.parsed.authorization),
        status: (response.seen && response.parsed.version.is_some()).then_some(status),
        reason: response.parsed.target.maybe_of(answered).filter(|reason| response.seen && !reason.is_empty()),
        info_code: maybe_info.as_ref().map(|info| info.0),
        info_reason: maybe_info.as_ref().map(|info| info.1.as_slice()).filter(|reason| !reason.is_empty()),
        location: response.parsed.location.maybe_of(answered).filter(|_| response.seen),
        cookie: request.seen && request.parsed.cookie,
        set_cookie: response.seen && response.parsed.cookie,
        forwarded: &hops,
        request: side(request, config),
        response: side(response, config),
        flags: found,
    };
    out.transaction(&transaction);
}
