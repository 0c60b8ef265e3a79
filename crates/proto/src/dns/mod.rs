//! DNS over UDP and TCP, mDNS, LLMNR and the NetBIOS name service: one row for a query with its reply.
//!
//! Rules of this file:
//! 1. A reply belongs to the oldest query of its identifier that has none; each direction of time is allowed (Zeek's rule).
//! 2. What has no partner when the flow ends, or when [`PENDING`] wait, is written alone.
//! 3. Columns that Zeek has are filled as Zeek fills them (AA and RA, for instance, only from a reply with answers).
mod exchange;
pub mod message;
pub mod name;
pub mod rdata;
mod tcp;
pub mod words;

pub use exchange::{Exchanges, PENDING};
pub use message::looks_like_dns;
pub use tcp::{DnsStream, looks_like_dns_stream};

use bunker_wire::Direction;

use crate::parser::{Context, DatagramParser, Service, Step};
use message::{Header, Message};

/// Bits of the `flags` column.
pub struct Anomaly;

impl Anomaly {
    /// A message ends before its records do.
    pub const CUT: u64 = 1;
    /// A compression pointer points forward.
    pub const FORWARD_POINTER: u64 = 2;
    /// A name longer than names may be, or with too many pointers.
    pub const LONG_NAME: u64 = 4;
    /// More questions, records or text than are read.
    pub const MANY: u64 = 8;
    /// A record whose data cannot be read.
    pub const BAD_RECORD: u64 = 16;
    /// The reply says that it is truncated.
    pub const REPLY_TRUNCATED: u64 = 32;
    /// Query and reply do not ask for the same name.
    pub const OTHER_QUESTION: u64 = 64;
}

/// Ports of DNS, mDNS, LLMNR and the NetBIOS name service.
#[must_use]
pub const fn is_dns_port(port: u16) -> bool {
    matches!(port, 53 | 137 | 5353 | 5355)
}

/// DNS in datagrams.
pub struct DnsDatagrams {
    exchanges: Exchanges,
    message: Message,
    confirmed: bool,
}

impl DnsDatagrams {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self { exchanges: Exchanges::new("udp"), message: Message::default(), confirmed: false }
    }
}

impl Default for DnsDatagrams {
    fn default() -> Self {
        Self::new()
    }
}

impl DatagramParser for DnsDatagrams {
    fn datagram(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        payload: &[u8],
        wire_len: usize,
        ts_ns: u64,
    ) -> Step {
        let step = self.exchanges.message(context, &mut self.message, direction, payload, wire_len, ts_ns);
        if step == Step::More {
            self.confirmed = true;
            context.confirm(Service::Dns);
            return step;
        }
        // Something else on the port of a flow that has spoken DNS before: one bad datagram does not end it.
        if self.confirmed { Step::More } else { step }
    }

    fn closed(&mut self, context: &mut Context<'_>) {
        self.exchanges.flush(context);
    }

    fn live_bytes(&self) -> usize {
        self.exchanges.live_bytes().saturating_add(self.message.live_bytes())
    }
}

fn header_of(payload: &[u8]) -> Option<Header> {
    Header::read(payload)
}
