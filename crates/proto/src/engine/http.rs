//! HTTP connections in the engine: transactions become rows.
use bunker_wire::Direction;

use crate::columns::{HttpRow, MessageKind, push_hex};
use crate::http::{Connection, Transaction, TransactionSink, Upgrade, flags};
use crate::parser::{Context, Service, Step, StreamParser};

/// HTTP/1 in a TCP flow.
#[derive(Default)]
pub struct HttpStream {
    connection: Connection,
}

struct Rows<'a, 'b> {
    context: &'a mut Context<'b>,
}

impl HttpStream {
    fn after(&self) -> Step {
        match self.connection.upgraded() {
            None => Step::More,
            // The tunnel's bytes come in later calls: the client waits for the answer.
            Some(Upgrade::Connect) => Step::Switched { used: usize::MAX },
            Some(Upgrade::WebSocket | Upgrade::H2c | Upgrade::Other) => Step::Finished,
        }
    }
}

impl StreamParser for HttpStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let config = context.http;
        self.connection.data(direction, bytes, ts_ns, config, &mut Rows { context });
        self.after()
    }

    fn gap(&mut self, context: &mut Context<'_>, direction: Direction, length: u64, ts_ns: u64) -> Step {
        let config = context.http;
        self.connection.gap(direction, length, ts_ns, config, &mut Rows { context });
        self.after()
    }

    fn ended(&mut self, context: &mut Context<'_>, direction: Direction, ts_ns: u64) {
        let config = context.http;
        self.connection.ended(direction, ts_ns, config, &mut Rows { context });
    }

    fn closed(&mut self, context: &mut Context<'_>) {
        let config = context.http;
        let now_ns = context.now_ns;
        self.connection.closed(now_ns, config, &mut Rows { context });
    }

    fn live_bytes(&self) -> usize {
        self.connection.live_bytes().saturating_add(size_of::<Self>())
    }
}

impl TransactionSink for Rows<'_, '_> {
    fn transaction(&mut self, transaction: &Transaction<'_>) {
        self.context.confirm(Service::Http);
        if !self.context.wanted.has(MessageKind::Http) {
            return;
        }
        let username = transaction.authorization.and_then(basic_user);
        let kept = |bytes: &'_ [u8]| !bytes.is_empty();
        let (request, response) = (&transaction.request, &transaction.response);
        let hexes = |digests: Option<crate::body::Digests>| {
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
                response_ts: transaction.maybe_response_ts_ns,
                orig_sha256: orig.as_ref().map(|(_, _, sha256)| sha256.as_slice()),
                resp_sha256: resp.as_ref().map(|(_, _, sha256)| sha256.as_slice()),
                orig_md5: orig.as_ref().map(|(md5, _, _)| md5.as_slice()),
                resp_md5: resp.as_ref().map(|(md5, _, _)| md5.as_slice()),
                orig_sha1: orig.as_ref().map(|(_, sha1, _)| sha1.as_slice()),
                resp_sha1: resp.as_ref().map(|(_, sha1, _)| sha1.as_slice()),
                flags: transaction.flags,
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

/// The user of `Authorization: Basic ...` (RFC 7617), up to the colon.
fn basic_user(header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = header.trim_ascii().split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    let mut plain = base64(rest.trim_ascii());
    if let Some(colon) = memchr::memchr(b':', &plain) {
        plain.truncate(colon);
    }
    Some(plain)
}

/// Decode base64 (RFC 4648) up to the first byte that is none.
fn base64(text: &[u8]) -> Vec<u8> {
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
        assert_eq!(basic_user(b"Basic YWxpY2U6c2VjcmV0").unwrap(), b"alice");
        assert_eq!(basic_user(b"basic   YWxpY2U6").unwrap(), b"alice");
        assert!(basic_user(b"Bearer YWxpY2U6").is_none());
        assert!(basic_user(b"Basi").is_none());
    }
}
