//! DNS over TCP: messages behind a two-byte length (RFC 1035, section 4.2.2).
use bunker_wire::bytes::be16;
use bunker_wire::{Direction, Flow};

use super::message::{Header, Message};
use super::{Exchanges, is_dns_port};
use crate::parser::{Context, Service, Step, StreamParser};

/// One direction: bytes of a message that is not complete (at most 2 + 65,535).
#[derive(Default)]
struct Half {
    held: Vec<u8>,
    lost: bool,
}

/// DNS in a TCP flow.
pub struct DnsStream {
    exchanges: Exchanges,
    message: Message,
    halves: [Half; 2],
    confirmed: bool,
}

impl DnsStream {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            exchanges: Exchanges::new("tcp"),
            message: Message::default(),
            halves: [Half::default(), Half::default()],
            confirmed: false,
        }
    }

    fn take(&mut self, context: &mut Context<'_>, direction: Direction, message: &[u8], ts_ns: u64) -> Step {
        let step = self.exchanges.message(context, &mut self.message, direction, message, message.len(), ts_ns);
        if step == Step::More {
            self.confirmed = true;
            context.confirm(Service::Dns);
        }
        step
    }

    /// Take all complete messages of `bytes`; the bytes used, or None when they are no DNS.
    fn messages(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Option<usize> {
        let mut rest = bytes;
        while let Some((message, after)) = split(rest) {
            rest = after;
            if self.take(context, direction, message, ts_ns) != Step::More {
                return None;
            }
        }
        bytes.len().checked_sub(rest.len())
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        let [orig, resp] = &mut self.halves;
        match direction {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }
}

impl Default for DnsStream {
    fn default() -> Self {
        Self::new()
    }
}

/// The first message of `bytes` and what follows it, once it is complete.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(be16(bytes, 0)?);
    bytes.get(2..)?.split_at_checked(length)
}

impl StreamParser for DnsStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        if self.half(direction).lost {
            return Step::More;
        }
        let mut held = core::mem::take(&mut self.half(direction).held);
        if held.is_empty() {
            let Some(used) = self.messages(context, direction, bytes, ts_ns) else { return Step::Violated };
            held.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            held.extend_from_slice(bytes);
            let Some(used) = self.messages(context, direction, &held, ts_ns) else { return Step::Violated };
            held.drain(..used.min(held.len()));
        }
        self.half(direction).held = held;
        Step::More
    }

    fn gap(&mut self, _context: &mut Context<'_>, direction: Direction, _length: u64, _ts_ns: u64) -> Step {
        // Without its lengths this direction has no message boundaries any more.
        *self.half(direction) = Half { held: Vec::new(), lost: true };
        if self.halves.iter().all(|half| half.lost) { Step::Finished } else { Step::More }
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        self.exchanges.flush(context);
    }

    fn live_bytes(&self) -> usize {
        self.halves
            .iter()
            .fold(self.exchanges.live_bytes(), |sum, half| sum.saturating_add(half.held.capacity()))
            .saturating_add(self.message.live_bytes())
    }
}

/// Whether a stream that begins with `bytes` is DNS: None while that cannot be said.
#[must_use]
pub fn looks_like_dns_stream(flow: &Flow, bytes: &[u8]) -> Option<bool> {
    let Some(length) = be16(bytes, 0) else { return None };
    if length < 12 {
        return Some(false);
    }
    let Some(header) = Header::read(bytes.get(2..)?) else { return None };
    let sane = header.opcode() <= 6
        && header.questions <= 1
        && header.bits & 0x0040 == 0
        && (header.is_reply() || header.answers == 0);
    if !sane {
        return Some(false);
    }
    if is_dns_port(flow.resp.port) || is_dns_port(flow.orig.port) {
        return Some(true);
    }
    match split(bytes) {
        Some((message, _)) => Some(super::looks_like_dns(message)),
        None if bytes.len() > 1024 => Some(false),
        None => None,
    }
}
