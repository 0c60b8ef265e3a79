//! Queries and replies of one flow, brought together.
use std::collections::VecDeque;

use bunker_wire::Direction;

use super::message::{Header, Message};
use super::words::{push_class, push_netbios_opcode, push_opcode, push_rcode, push_type};
use super::{Anomaly, header_of};
use crate::columns::{DnsRow, MessageKind, Origin, TextItems};
use crate::parser::{Context, Step};

/// Queries (and replies) of one flow that wait for their partner. Zeek: 50.
pub const PENDING: usize = 50;

/// What is known of an exchange while its other half is missing.
#[derive(Default, Clone)]
struct Half {
    id: u16,
    ts_ns: u64,
    opcode: u16,
    anomalies: u64,
    query: Vec<u8>,
    has_query: bool,
    question: Option<(u16, u16)>,
    request: Option<Request>,
    reply: Option<Box<Reply>>,
}

#[derive(Clone, Copy)]
struct Request {
    rd: bool,
    tc: bool,
    z: u16,
    bytes: u64,
    edns: Option<(u16, bool)>,
}

#[derive(Clone)]
struct Reply {
    ts_ns: u64,
    rcode: u16,
    aa: bool,
    ra: bool,
    answered: bool,
    rejected: bool,
    answer_count: u16,
    answers: TextItems,
    ttls: TextItems,
    auth: TextItems,
    addl: TextItems,
    addresses: Vec<[u8; 16]>,
    ttl_min: Option<u32>,
    bytes: u64,
    edns: Option<(u16, bool)>,
}

impl Reply {
    fn of(header: Header, message: &mut Message, bytes: usize, ts_ns: u64) -> Self {
        Self {
            ts_ns,
            rcode: message.extended_rcode | header.rcode(),
            aa: header.aa(),
            ra: header.ra(),
            answered: message.answered,
            rejected: (header.answers == 0 && header.authority == 0 && header.additional == 0 && header.questions > 0)
                || (header.rcode() != 0 && header.questions == 0),
            answer_count: header.answers,
            answers: core::mem::take(&mut message.answers),
            ttls: core::mem::take(&mut message.ttls),
            auth: core::mem::take(&mut message.auth),
            addl: core::mem::take(&mut message.addl),
            addresses: core::mem::take(&mut message.addresses),
            ttl_min: message.ttl_min,
            bytes: bytes as u64,
            edns: message.edns,
        }
    }

    fn live_bytes(&self) -> usize {
        [&self.answers, &self.ttls, &self.auth, &self.addl]
            .iter()
            .fold(self.addresses.capacity().saturating_mul(16), |sum, items| sum.saturating_add(items.live_bytes()))
            .saturating_add(size_of::<Self>())
    }
}

/// The exchanges of one flow.
pub struct Exchanges {
    proto: &'static str,
    queries: VecDeque<Half>,
    replies: VecDeque<Half>,
    /// The first message was a reply of the originator: who asks is who answers the flow.
    flipped: bool,
    started: bool,
    words: Vec<u8>,
}

impl Exchanges {
    /// None yet; `proto` is "udp" or "tcp".
    #[must_use]
    pub const fn new(proto: &'static str) -> Self {
        Self {
            proto,
            queries: VecDeque::new(),
            replies: VecDeque::new(),
            flipped: false,
            started: false,
            words: Vec::new(),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.queries.iter().chain(&self.replies).fold(self.words.capacity(), |sum, half| {
            sum.saturating_add(size_of::<Half>())
                .saturating_add(half.query.capacity())
                .saturating_add(half.reply.as_ref().map_or(0, |reply| reply.live_bytes()))
        })
    }

    /// Take one message. [`Step::Violated`]: it is none.
    pub fn message(
        &mut self,
        context: &mut Context<'_>,
        message: &mut Message,
        direction: Direction,
        payload: &[u8],
        wire_len: usize,
        ts_ns: u64,
    ) -> Step {
        let Some(header) = header_of(payload) else { return Step::Violated };
        let netbios = context.flow.resp.port == 137;
        message.read(header, payload, netbios);
        let claimed = header.questions.max(header.answers).max(header.authority).max(header.additional);
        if header.questions > 25
            || (claimed > 0 && message.question.is_none() && !message.answered && !message.complete)
        {
            return Step::Violated;
        }
        if !self.started {
            self.started = true;
            self.flipped = header.is_reply() && direction == Direction::Orig && !is_multicast(context);
        }
        if header.is_reply() {
            self.reply(context, header, message, wire_len, ts_ns);
        } else {
            self.query(context, header, message, wire_len, ts_ns);
        }
        Step::More
    }

    fn query(&mut self, context: &mut Context<'_>, header: Header, message: &mut Message, bytes: usize, ts_ns: u64) {
        let request =
            Request { rd: header.rd(), tc: header.tc(), z: header.z(), bytes: bytes as u64, edns: message.edns };
        let early = self.replies.iter().position(|half| half.id == header.id);
        if let Some(mut half) = early.and_then(|index| self.replies.remove(index)) {
            half.anomalies |= message.anomalies;
            half.query = core::mem::take(&mut message.query);
            half.has_query = message.question.is_some();
            half.question = message.question;
            half.request = Some(request);
            self.write(context, &half);
            return;
        }
        let half = Half {
            id: header.id,
            ts_ns,
            opcode: header.opcode(),
            anomalies: message.anomalies,
            query: core::mem::take(&mut message.query),
            has_query: message.question.is_some(),
            question: message.question,
            request: Some(request),
            reply: None,
        };
        self.queries.push_back(half);
        if self.queries.len() > PENDING
            && let Some(oldest) = self.queries.pop_front()
        {
            self.write(context, &oldest);
        }
    }

    fn reply(&mut self, context: &mut Context<'_>, header: Header, message: &mut Message, bytes: usize, ts_ns: u64) {
        let truncated = if header.tc() { Anomaly::REPLY_TRUNCATED } else { 0 };
        let reply = Box::new(Reply::of(header, message, bytes, ts_ns));
        let asked = self.queries.iter().position(|half| half.id == header.id);
        if let Some(mut half) = asked.and_then(|index| self.queries.remove(index)) {
            half.anomalies |= message.anomalies | truncated;
            if message.question.is_some() && half.question.is_some() && message.query != half.query {
                half.anomalies |= Anomaly::OTHER_QUESTION;
            }
            half.reply = Some(reply);
            self.write(context, &half);
            return;
        }
        let half = Half {
            id: header.id,
            ts_ns,
            opcode: header.opcode(),
            anomalies: message.anomalies | truncated,
            has_query: message.answered,
            query: core::mem::take(&mut message.first_owner),
            question: None,
            request: None,
            reply: Some(reply),
        };
        self.replies.push_back(half);
        if self.replies.len() > PENDING
            && let Some(oldest) = self.replies.pop_front()
        {
            self.write(context, &oldest);
        }
    }

    /// Write what has no partner.
    pub fn flush(&mut self, context: &mut Context<'_>) {
        while let Some(half) = self.queries.pop_front() {
            self.write(context, &half);
        }
        while let Some(half) = self.replies.pop_front() {
            self.write(context, &half);
        }
    }

    fn write(&mut self, context: &mut Context<'_>, half: &Half) {
        if !context.wanted.has(MessageKind::Dns) {
            return;
        }
        let netbios = context.flow.resp.port == 137;
        let mut origin = context.origin(half.ts_ns);
        if self.flipped {
            origin = flip(origin);
        }
        let words = &mut self.words;
        words.clear();
        let mut word = |write: &dyn Fn(&mut Vec<u8>)| {
            let start = words.len();
            write(words);
            (start, words.len())
        };
        let class_name = half.question.map(|(_, class)| word(&|out| push_class(out, class)));
        let type_name = half.question.map(|(qtype, _)| {
            word(&|out| match qtype {
                33 if netbios => out.extend_from_slice(b"NBSTAT"),
                32 if netbios => out.extend_from_slice(b"NB"),
                _ => push_type(out, qtype),
            })
        });
        let reply = half.reply.as_deref();
        let rcode_name = reply.map(|reply| word(&|out| push_rcode(out, reply.rcode)));
        let opcode_name =
            word(&|out| if netbios { push_netbios_opcode(out, half.opcode) } else { push_opcode(out, half.opcode) });
        let text = |(start, end): (usize, usize)| words.get(start..end).unwrap_or_default();
        let answered = reply.is_some_and(|reply| reply.answered);
        let items = |items: &'_ TextItems| !items.is_empty();
        let rtt = reply
            .filter(|reply| reply.answered && half.request.is_some())
            .map(|reply| reply.ts_ns.saturating_sub(half.ts_ns))
            .filter(|rtt| *rtt > 0);
        let edns = half.request.and_then(|request| request.edns).or(reply.and_then(|reply| reply.edns));
        context.tables.Dns.push(
            origin,
            DnsRow {
                proto: self.proto.as_bytes(),
                trans_id: u64::from(half.id),
                rtt,
                query: half.has_query.then_some(half.query.as_slice()),
                qclass: half.question.map(|(_, class)| class),
                qclass_name: class_name.map(text),
                qtype: half.question.map(|(qtype, _)| qtype),
                qtype_name: type_name.map(text),
                rcode: reply.map(|reply| reply.rcode),
                rcode_name: rcode_name.map(text),
                AA: answered && reply.is_some_and(|reply| reply.aa),
                TC: half.request.is_some_and(|request| request.tc),
                RD: half.request.is_some_and(|request| request.rd),
                RA: answered && reply.is_some_and(|reply| reply.ra),
                Z: half.request.map_or(0, |request| u64::from(request.z)),
                answers: reply.map(|reply| &reply.answers).filter(|list| items(list)),
                TTLs: reply.map(|reply| &reply.ttls).filter(|list| items(list)),
                rejected: reply.is_some_and(|reply| reply.rejected),
                opcode: half.opcode,
                opcode_name: text(opcode_name),
                auth: reply.map(|reply| &reply.auth).filter(|list| items(list)),
                addl: reply.map(|reply| &reply.addl).filter(|list| items(list)),
                addresses: reply.map(|reply| reply.addresses.as_slice()).filter(|list| !list.is_empty()),
                ttl_min: reply
                    .and_then(|reply| reply.ttl_min)
                    .map(|seconds| u64::from(seconds).saturating_mul(1_000_000_000)),
                answer_count: reply.map(|reply| u64::from(reply.answer_count)),
                edns_size: edns.map(|(size, _)| u64::from(size)),
                edns_do: edns.is_some_and(|(_, wanted)| wanted),
                query_bytes: half.request.map(|request| request.bytes),
                reply_bytes: reply.map(|reply| reply.bytes),
                flags: half.anomalies,
            },
        );
    }
}

const fn flip(origin: Origin) -> Origin {
    Origin { orig_h: origin.resp_h, orig_p: origin.resp_p, resp_h: origin.orig_h, resp_p: origin.orig_p, ..origin }
}

fn is_multicast(context: &Context<'_>) -> bool {
    let address = context.flow.resp.address;
    match address.maybe_v4() {
        Some([first, ..]) => first & 0xF0 == 0xE0,
        None => address.0.first() == Some(&0xFF),
    }
}
