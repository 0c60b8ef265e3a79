//! HTTP connections in the engine: transactions become rows.
use bunker_wire::Direction;

use crate::columns::{HttpRow, MessageKind, push_hex};
use crate::http::preamble::{Preamble, preamble};
use crate::http::{Connection, Exchange, Transaction, TransactionSink, Upgrade, flags};
use crate::http2;
use crate::parser::{Context, Service, Step, StreamParser};

/// Exchanges kept for the next requests, with the memory of their heads: at most 8 KiB each.
const SPARE: usize = 64;

/// Bytes held while it is not known what stands before the first message: the longest PROXY header of version 1, and some.
const START: usize = 128;

enum State {
    /// The first bytes may be a preamble: direction and bytes of the one that spoke first.
    Start(Option<(Direction, Vec<u8>)>),
    /// The rest of a PROXY header.
    Skip(Direction, usize),
    One(Box<Connection>),
    Two(Box<http2::Connection>),
}

/// HTTP in a TCP flow: version 1, or 2 in clear text.
pub struct HttpStream {
    state: State,
}

impl Default for HttpStream {
    fn default() -> Self {
        Self { state: State::Start(None) }
    }
}

struct Rows<'a, 'b> {
    context: &'a mut Context<'b>,
}

impl HttpStream {
    /// What stands before the first message, byte by byte as it comes; then the rest goes to the right reader.
    fn start(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let State::Start(held) = &mut self.state else { return Step::More };
        let (first, joined) = match held.take() {
            Some((first, mut held)) if first == direction => {
                held.extend_from_slice(bytes);
                (first, held)
            }
            // The other side speaks while this one has only begun: no preamble is that slow.
            Some((first, held)) => {
                self.state = State::One(Box::default());
                let step = self.data(context, first, &held, ts_ns);
                return if step == Step::More { self.data(context, direction, bytes, ts_ns) } else { step };
            }
            None => (direction, bytes.to_vec()),
        };
        self.state = match preamble(&joined) {
            Preamble::NeedMore if joined.len() < START => {
                *held = Some((first, joined));
                return Step::More;
            }
            Preamble::Http2 => State::Two(Box::new(http2::Connection::new(first))),
            Preamble::Proxy(length) => State::Skip(first, length),
            Preamble::NeedMore | Preamble::None => State::One(Box::default()),
        };
        self.data(context, first, &joined, ts_ns)
    }

    fn one(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let State::One(connection) = &mut self.state else { return Step::More };
        let config = context.http;
        let used = connection.data(direction, bytes, ts_ns, config, &mut Rows { context });
        match connection.upgraded() {
            None => Step::More,
            Some(Upgrade::Connect) => Step::Switched { used },
            Some(Upgrade::WebSocket | Upgrade::Other) => Step::Finished,
            Some(Upgrade::H2c) => {
                let (client, depth) = (connection.client(), connection.depth());
                let Some((exchange, settings)) = connection.take_upgraded() else { return Step::Finished };
                self.state = State::Two(Box::new(http2::Connection::upgraded(client, depth, exchange, &settings)));
                self.data(context, direction, bytes.get(used..).unwrap_or(&[]), ts_ns)
            }
        }
    }
}

impl StreamParser for HttpStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let config = context.http;
        match &mut self.state {
            State::One(_) => self.one(context, direction, bytes, ts_ns),
            State::Start(None) if !matches!(bytes, [b'P' | b'\r', ..] | []) => {
                self.state = State::One(Box::default());
                self.one(context, direction, bytes, ts_ns)
            }
            State::Start(_) => self.start(context, direction, bytes, ts_ns),
            State::Skip(first, left) if *first == direction => {
                let (_, rest) = bytes.split_at_checked(*left).unwrap_or((bytes, &[]));
                *left = left.saturating_sub(bytes.len());
                if *left > 0 {
                    return Step::More;
                }
                let mut connection = Box::<Connection>::default();
                connection.flag_first(flags::PREAMBLE);
                self.state = State::One(connection);
                self.one(context, direction, rest, ts_ns)
            }
            State::Skip(..) => Step::Violated,
            State::Two(connection) => {
                if connection.data(direction, bytes, ts_ns, config, &mut Rows { context }) {
                    Step::More
                } else {
                    Step::Violated
                }
            }
        }
    }

    fn gap(&mut self, context: &mut Context<'_>, direction: Direction, length: u64, ts_ns: u64) -> Step {
        let config = context.http;
        match &mut self.state {
            State::One(connection) => {
                connection.gap(direction, length, ts_ns, config, &mut Rows { context });
                Step::More
            }
            State::Two(connection) => {
                connection.gap(direction, length);
                Step::More
            }
            State::Start(_) => {
                self.state = State::Start(None);
                Step::More
            }
            State::Skip(..) => Step::Violated,
        }
    }

    fn ended(&mut self, context: &mut Context<'_>, direction: Direction, ts_ns: u64) {
        let config = context.http;
        match &mut self.state {
            State::One(connection) => connection.ended(direction, ts_ns, config, &mut Rows { context }),
            State::Two(connection) => connection.ended(direction),
            State::Start(_) | State::Skip(..) => {}
        }
    }

    fn closed(&mut self, context: &mut Context<'_>) {
        let config = context.http;
        let now_ns = context.now_ns;
        match &mut self.state {
            State::One(connection) => connection.closed(now_ns, config, &mut Rows { context }),
            State::Two(connection) => connection.closed(config, &mut Rows { context }),
            State::Start(_) | State::Skip(..) => {}
        }
    }

    fn live_bytes(&self) -> usize {
        let held = match &self.state {
            State::One(connection) => connection.live_bytes().saturating_add(size_of::<Connection>()),
            State::Two(connection) => connection.live_bytes().saturating_add(size_of::<http2::Connection>()),
            State::Start(held) => held.as_ref().map_or(0, |(_, bytes)| bytes.capacity()),
            State::Skip(..) => 0,
        };
        held.saturating_add(size_of::<Self>())
    }
}

impl TransactionSink for Rows<'_, '_> {
    fn spare(&mut self) -> Box<Exchange> {
        self.context.tables.spare_exchanges.pop().unwrap_or_default()
    }

    fn keep(&mut self, exchange: Box<Exchange>) {
        if self.context.tables.spare_exchanges.len() < SPARE {
            self.context.tables.spare_exchanges.push(exchange);
        }
    }

    fn transaction(&mut self, transaction: &Transaction<'_>) {
        self.context.confirm(Service::Http);
        if !self.context.wanted.has(MessageKind::Http) {
            return;
        }
        let credentials = transaction.authorization.map_or(Credentials::Other, basic_user);
        let (username, found) = match credentials {
            Credentials::Basic(user) => (Some(user), transaction.flags),
            Credentials::Damaged => (None, transaction.flags | flags::BAD_AUTHORIZATION),
            Credentials::Other => (None, transaction.flags),
        };
        let kept = |bytes: &'_ [u8]| !bytes.is_empty();
        let (request, response) = (&transaction.request, &transaction.response);
        let hexes = |digests: Option<&crate::body::Digests>| {
            digests.map(|digests| (hex(&digests.md5), hex(&digests.sha1), hex(&digests.sha256)))
        };
        let (orig, resp) = (hexes(request.maybe_digests), hexes(response.maybe_digests));
        let origin = self.context.origin(transaction.ts_ns);
        let content = [request.head, response.head, request.body, response.body]
            .iter()
            .fold(0usize, |sum, part| sum.saturating_add(part.len()));
        self.context.tables.content_bytes = self.context.tables.content_bytes.saturating_add(content);
        self.context.tables.Http.push(
            origin,
            HttpRow {
                trans_depth: u64::from(transaction.depth),
                method: transaction.method,
                host: transaction.host,
                uri: transaction.uri,
                referrer: transaction.referrer,
                version: transaction.version,
                user_agent: transaction.user_agent,
                origin: transaction.origin,
                request_body_len: request.body_len,
                response_body_len: response.body_len,
                status_code: transaction.status,
                status_msg: transaction.reason,
                info_code: transaction.info_code,
                info_msg: transaction.info_reason,
                username: username.as_deref(),
                orig_mime_type: request.maybe_magic.map(str::as_bytes),
                resp_mime_type: response.maybe_magic.map(str::as_bytes),
                orig_content_type: request.content_type,
                resp_content_type: response.content_type,
                orig_content_encoding: request.content_encoding,
                resp_content_encoding: response.content_encoding,
                location: transaction.location,
                cookie: transaction.cookie,
                set_cookie: transaction.set_cookie,
                forwarded: Some(transaction.forwarded).filter(|addresses| !addresses.is_empty()),
                response_ts: transaction.maybe_response_ts_ns,
                orig_sha256: orig.as_ref().map(|(_, _, sha256)| sha256.as_slice()),
                resp_sha256: resp.as_ref().map(|(_, _, sha256)| sha256.as_slice()),
                orig_md5: orig.as_ref().map(|(md5, _, _)| md5.as_slice()),
                resp_md5: resp.as_ref().map(|(md5, _, _)| md5.as_slice()),
                orig_sha1: orig.as_ref().map(|(_, sha1, _)| sha1.as_slice()),
                resp_sha1: resp.as_ref().map(|(_, sha1, _)| sha1.as_slice()),
                flags: found,
                gap: transaction.flags & (flags::GAP_IN_HEAD | flags::GAP_IN_BODY) != 0,
                req_head: Some(request.head).filter(|head| kept(head)),
                resp_head: Some(response.head).filter(|head| kept(head)),
                req_body: Some(request.body).filter(|body| kept(body)),
                resp_body: Some(response.body).filter(|body| kept(body)),
            },
        );
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    push_hex(&mut out, bytes);
    out
}

enum Credentials {
    /// The user of Basic authentication.
    Basic(Vec<u8>),
    /// Basic authentication that cannot be read.
    Damaged,
    /// Another scheme, or none.
    Other,
}

/// `Authorization: Basic ...` (RFC 7617): base64 of a user, a colon and a password.
fn basic_user(header: &[u8]) -> Credentials {
    let Some((scheme, rest)) = header.trim_ascii().split_at_checked(5) else { return Credentials::Other };
    if !scheme.eq_ignore_ascii_case(b"basic") || !rest.first().is_none_or(u8::is_ascii_whitespace) {
        return Credentials::Other;
    }
    let text = rest.trim_ascii();
    let whole =
        text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'/' | b'_' | b'='));
    let mut plain = base64(text);
    match memchr::memchr(b':', &plain) {
        Some(colon) if whole => {
            plain.truncate(colon);
            Credentials::Basic(plain)
        }
        _ => Credentials::Damaged,
    }
}

/// Decode base64 (RFC 4648) up to the first byte that is none.
pub fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        bits = (bits << 6) | u32::from(value);
        count = count.saturating_add(6);
        if count >= 8 {
            count = count.saturating_sub(8);
            out.push(((bits >> count) & 0xFF) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn basic_user_is_what_stands_before_the_colon() {
        let user = |header: &[u8]| match basic_user(header) {
            Credentials::Basic(user) => String::from_utf8(user).unwrap(),
            Credentials::Damaged => "damaged".to_owned(),
            Credentials::Other => "other".to_owned(),
        };
        assert_eq!(user(b"Basic YWxpY2U6c2VjcmV0"), "alice");
        assert_eq!(user(b"basic   YWxpY2U6"), "alice");
        assert_eq!(user(b"Bearer YWxpY2U6"), "other");
        assert_eq!(user(b"Basi"), "other");
        assert_eq!(user(b"Basic notBase64:Encoded"), "damaged");
        assert_eq!(user(b"Basic YWxpY2U"), "damaged");
    }
}
