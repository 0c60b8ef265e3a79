//! DHCP for IPv4 (RFC 2131, RFC 2132): one row a message. An exchange goes over several flows (0.0.0.0 to broadcast, server to
//! client), so that rows are not brought together here: `trans_id` and `mac` say what belongs together.
//!
//! Limits: [`OPTIONS`].
use bunker_wire::Direction;
use bunker_wire::bytes::be32;

use crate::columns::{DhcpRow, MessageKind, push_decimal};
use crate::parser::{Context, DatagramParser, Service, Step};

/// Options read in one message. A full message of 576 bytes holds at most 168 empty ones.
pub const OPTIONS: u32 = 256;

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const OPTIONS_AT: usize = 240;

/// Whether `payload` is a DHCP (or BOOTP with options) message.
#[must_use]
pub fn looks_like_dhcp(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(1 | 2))
        && payload.get(2).is_some_and(|length| *length <= 16)
        && payload.get(236..OPTIONS_AT) == Some(COOKIE.as_slice())
}

/// DHCP in datagrams.
#[derive(Default)]
pub struct DhcpDatagrams;

fn message_word(kind: u8) -> &'static str {
    match kind {
        1 => "DISCOVER",
        2 => "OFFER",
        3 => "REQUEST",
        4 => "DECLINE",
        5 => "ACK",
        6 => "NAK",
        7 => "RELEASE",
        8 => "INFORM",
        9 => "FORCERENEW",
        10 => "LEASEQUERY",
        11 => "LEASEUNASSIGNED",
        12 => "LEASEUNKNOWN",
        13 => "LEASEACTIVE",
        _ => "unknown",
    }
}

/// The options that become columns; the first of each kind counts.
#[derive(Default)]
struct Options<'a> {
    kind: Option<u8>,
    host_name: Option<&'a [u8]>,
    domain: Option<&'a [u8]>,
    requested: Option<[u8; 16]>,
    lease: Option<u32>,
    server: Option<[u8; 16]>,
    params: Option<&'a [u8]>,
    message: Option<&'a [u8]>,
    vendor: Option<&'a [u8]>,
    fqdn: Option<Vec<u8>>,
}

fn address(bytes: &[u8]) -> Option<[u8; 16]> {
    let four = *bytes.first_chunk::<4>()?;
    (four != [0; 4]).then(|| core::net::Ipv4Addr::from(four).to_ipv6_mapped().octets())
}

/// Text without the zero that some clients send behind it.
fn text(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}

/// The name of option 81 (RFC 4702): plain, or in labels if the E bit says so.
fn fqdn(bytes: &[u8]) -> Option<Vec<u8>> {
    let (flags, name) = (*bytes.first()?, bytes.get(3..)?);
    if flags & 4 == 0 {
        return Some(text(name).to_vec());
    }
    let mut out = Vec::new();
    let mut rest = name;
    while let Some((length, after)) = rest.split_first() {
        let (label, after) = after.split_at_checked(usize::from(*length)).unwrap_or((after, &[]));
        if label.is_empty() {
            break;
        }
        if !out.is_empty() {
            out.push(b'.');
        }
        out.extend_from_slice(label);
        rest = after;
    }
    Some(out)
}

fn options(bytes: &[u8]) -> Options<'_> {
    let mut found = Options::default();
    let mut rest = bytes;
    for _ in 0..OPTIONS {
        let Some((code, after)) = rest.split_first() else { break };
        if *code == 0 {
            rest = after;
            continue;
        }
        if *code == 255 {
            break;
        }
        let Some((length, after)) = after.split_first() else { break };
        let Some((value, after)) = after.split_at_checked(usize::from(*length)) else { break };
        rest = after;
        match code {
            12 => found.host_name = found.host_name.or(Some(text(value))),
            15 => found.domain = found.domain.or(Some(text(value))),
            50 => found.requested = found.requested.or(address(value)),
            51 => found.lease = found.lease.or(be32(value, 0)),
            53 => found.kind = found.kind.or(value.first().copied()),
            54 => found.server = found.server.or(address(value)),
            55 => found.params = found.params.or(Some(value)),
            56 => found.message = found.message.or(Some(text(value))),
            60 => found.vendor = found.vendor.or(Some(text(value))),
            81 if found.fqdn.is_none() => found.fqdn = fqdn(value),
            _ => {}
        }
    }
    found
}

impl DatagramParser for DhcpDatagrams {
    fn datagram(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        payload: &[u8],
        _wire_len: usize,
        ts_ns: u64,
    ) -> Step {
        if !looks_like_dhcp(payload) {
            return Step::More;
        }
        context.confirm(Service::Dhcp);
        if !context.wanted.has(MessageKind::Dhcp) {
            return Step::More;
        }
        let found = options(payload.get(OPTIONS_AT..).unwrap_or_default());
        let from_client = payload.first() == Some(&1);
        let mut params = Vec::new();
        for code in found.params.unwrap_or_default() {
            if !params.is_empty() {
                params.push(b',');
            }
            push_decimal(&mut params, u64::from(*code));
        }
        let mac = match payload {
            [_, 1, 6, ..] => payload.get(28..).and_then(|bytes| bytes.first_chunk::<6>()).copied(),
            _ => None,
        };
        let row = DhcpRow {
            trans_id: u64::from(be32(payload, 4).unwrap_or(0)),
            msg_type: found.kind.map_or("BOOTP", message_word).as_bytes(),
            client_addr: payload.get(12..).and_then(address),
            assigned_addr: payload.get(16..).and_then(address),
            requested_addr: found.requested,
            server_addr: found.server.or_else(|| payload.get(20..).and_then(address)),
            mac,
            host_name: found.host_name,
            client_fqdn: found.fqdn.as_deref(),
            domain: found.domain,
            lease_time: found.lease.map(|seconds| u64::from(seconds).saturating_mul(1_000_000_000)),
            client_message: found.message.filter(|_| from_client),
            server_message: found.message.filter(|_| !from_client),
            params: found.params.map(|_| params.as_slice()),
            vendor_class: found.vendor,
            is_orig: direction == Direction::Orig,
        };
        let origin = context.origin(ts_ns);
        context.tables.Dhcp.push(origin, row);
        Step::More
    }

    fn closed(&mut self, _context: &mut Context<'_>) {}

    fn live_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_read_and_a_cut_one_ends_them() {
        let bytes = b"\x35\x01\x03\x00\x0c\x04host\x33\x04\x00\x00\x0e\x10\x51\x0a\x04\x00\x00\x01a\x02bc\x00\x00\x37\x02\x01\x06\xff\x0f\x01x";
        let found = options(bytes);
        assert_eq!((found.kind, found.host_name.unwrap(), found.lease), (Some(3), &b"host"[..], Some(3600)));
        assert_eq!((found.fqdn.unwrap(), found.params.unwrap()), (b"a.bc".to_vec(), &[1u8, 6][..]));
        assert!(found.domain.is_none(), "behind the end");
        for end in 0..bytes.len() {
            let _ = options(bytes.get(..end).unwrap());
        }
    }

    #[test]
    fn options_end_at_their_limit() {
        for (before, found) in [(OPTIONS - 1, Some(5)), (OPTIONS, None)] {
            let bytes = [vec![0; before as usize], vec![53, 1, 5]].concat();
            assert_eq!(options(&bytes).kind, found);
        }
    }
}
