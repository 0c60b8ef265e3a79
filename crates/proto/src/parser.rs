//! What a protocol parser is to the engine: fed by direction, answers with rows in the tables.
//!
//! Rules of this file:
//! 1. A parser lives as long as its flow, or until it answers something else than [`Step::More`].
//! 2. A parser that never confirmed its protocol leaves no trace in the flow's `service`.
//! 3. Everything a parser holds is bounded by a named limit and told by `live_bytes`.
use bunker_wire::{Direction, Flow};

use crate::columns::{MessageKind, Origin, Tables};

/// What a parser says after it was fed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Go on.
    More,
    /// Nothing more of interest follows; what comes is not parsed.
    Finished,
    /// This is not the protocol: give up.
    Violated,
    /// Another protocol begins after `used` bytes of this call (CONNECT, STARTTLS): detect again.
    Switched {
        /// Bytes of this call that still belonged to the old one.
        used: usize,
    },
}

/// A protocol that was recognised in a flow; the name is Zeek's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Service {
    /// HTTP/1.
    Http = 1,
    /// DNS.
    Dns,
    /// TLS.
    Ssl,
    /// DTLS.
    Dtls,
    /// QUIC.
    Quic,
    /// SSH.
    Ssh,
    /// SMTP.
    Smtp,
    /// POP3.
    Pop3,
    /// IMAP.
    Imap,
    /// FTP's control connection.
    Ftp,
    /// NTP.
    Ntp,
    /// DHCP.
    Dhcp,
}

impl Service {
    /// All of them, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::Http,
        Self::Dns,
        Self::Ssl,
        Self::Dtls,
        Self::Quic,
        Self::Ssh,
        Self::Smtp,
        Self::Pop3,
        Self::Imap,
        Self::Ftp,
        Self::Ntp,
        Self::Dhcp,
    ];

    /// The name in flow records and counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Ssl => "ssl",
            Self::Dtls => "dtls",
            Self::Quic => "quic",
            Self::Ssh => "ssh",
            Self::Smtp => "smtp",
            Self::Pop3 => "pop3",
            Self::Imap => "imap",
            Self::Ftp => "ftp",
            Self::Ntp => "ntp",
            Self::Dhcp => "dhcp",
        }
    }
}

/// The services of one flow, in the order in which they were confirmed; four at most.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Services([u8; 4]);

impl Services {
    /// Add one, once.
    pub fn add(&mut self, service: Service) {
        let number = service as u8;
        for place in &mut self.0 {
            if *place == number {
                return;
            }
            if *place == 0 {
                *place = number;
                return;
            }
        }
    }

    /// Those confirmed.
    pub fn iter(self) -> impl Iterator<Item = Service> {
        self.0.into_iter().filter_map(|number| Service::ALL.get(usize::from(number.checked_sub(1)?)).copied())
    }

    /// Comma separated, as in Zeek's conn.log.
    pub fn write(self, out: &mut Vec<u8>) {
        for service in self.iter() {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(service.name().as_bytes());
        }
    }
}

/// A set of message kinds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Wanted(u32);

impl Wanted {
    /// The set of these kinds.
    #[must_use]
    pub fn of(kinds: &[MessageKind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | 1u32.wrapping_shl(*kind as u32)))
    }

    /// Whether `kind` is in it.
    #[must_use]
    pub const fn has(self, kind: MessageKind) -> bool {
        self.0 & 1u32.wrapping_shl(kind as u32) != 0
    }
}

/// What a parser may see and write while it is fed.
pub struct Context<'a> {
    /// The flow in hand.
    pub flow: &'a Flow,
    /// Where rows go.
    pub tables: &'a mut Tables,
    /// Kinds that somebody subscribes to.
    pub wanted: Wanted,
    /// Services confirmed in this flow.
    pub services: &'a mut Services,
    /// What HTTP is asked for beyond the facts.
    pub http: &'a crate::http::Config,
    /// Time of the last packet of the flow's close, or of the call.
    pub now_ns: u64,
}

impl Context<'_> {
    /// The first columns of a row about something at `ts_ns`.
    #[must_use]
    pub const fn origin(&self, ts_ns: u64) -> Origin {
        Origin::of(self.flow, ts_ns)
    }

    /// The protocol is certain now.
    pub fn confirm(&mut self, service: Service) {
        self.services.add(service);
    }
}

/// A parser of one TCP flow.
pub trait StreamParser: Send + Sync {
    /// Bytes in order.
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step;
    /// Bytes that are missing.
    fn gap(&mut self, context: &mut Context<'_>, direction: Direction, length: u64, ts_ns: u64) -> Step;
    /// This direction sends nothing more.
    fn ended(&mut self, context: &mut Context<'_>, direction: Direction, ts_ns: u64);
    /// The flow is over: write what is left.
    fn closed(&mut self, context: &mut Context<'_>);
    /// Bytes held.
    fn live_bytes(&self) -> usize;
}

/// A parser of one flow of datagrams.
pub trait DatagramParser: Send + Sync {
    /// One payload; `wire_len` is its length before the snaplen cut it.
    fn datagram(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        payload: &[u8],
        wire_len: usize,
        ts_ns: u64,
    ) -> Step;
    /// The flow is over: write what is left.
    fn closed(&mut self, context: &mut Context<'_>);
    /// Bytes held.
    fn live_bytes(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_keep_their_order_and_stand_once() {
        let mut services = Services::default();
        for service in [Service::Smtp, Service::Ssl, Service::Smtp] {
            services.add(service);
        }
        let mut text = Vec::new();
        services.write(&mut text);
        assert_eq!(text, b"smtp,ssl");
        for (index, service) in Service::ALL.iter().enumerate() {
            assert_eq!(*service as usize, index + 1, "ALL is in the order of the numbers");
        }
    }

    #[test]
    fn wanted_knows_what_it_holds() {
        let wanted = Wanted::of(&[MessageKind::Dns, MessageKind::Flow]);
        assert!(wanted.has(MessageKind::Dns) && wanted.has(MessageKind::Flow) && !wanted.has(MessageKind::Http));
    }
}
