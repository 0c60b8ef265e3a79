//! Makes packets and capture files, and a sink that writes down what it is told.
use bunker_wire::event::{Direction, Flow, FlowSummary, Outcome, Sink};
use bunker_wire::ip::sum;
use bunker_wire::limits::Limits;
use bunker_wire::packet::Packet;
use bunker_wire::tracker::overlap::{Overlap, Policy};
use bunker_wire::tracker::{Checksums, Tracker};

pub const RAW: u16 = 101;
pub const ETHERNET: u16 = 1;
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
pub const A: [u8; 4] = [192, 0, 2, 1];
pub const B: [u8; 4] = [198, 51, 100, 7];
pub const SECOND: u64 = 1_000_000_000;

/// Cases of a property: `PROPTEST_CASES` asks for more. What fails is printed, not kept in a file.
pub fn cases(number: u32) -> proptest::prelude::ProptestConfig {
    #[allow(clippy::disallowed_methods, reason = "how many cases a test tries is told by its environment")]
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    proptest::prelude::ProptestConfig {
        cases: asked.unwrap_or(number),
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    }
}

pub fn packet(bytes: &[u8], linktype: u16, ts_ns: u64) -> Packet<'_> {
    Packet { ts_ns, captured: bytes, wire_len: bytes.len() as u32, linktype, vlan: None, checksum_not_ready: false }
}

/// Fill in a checksum at `at` of `bytes`, the one's complement over `bytes` and `start`.
fn put_checksum(bytes: &mut [u8], at: usize, start: u32) {
    let value = !sum(bytes, start);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_fragment(source, destination, protocol, payload, 7, 0, false)
}

pub fn ipv4_fragment(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    payload: &[u8],
    identification: u16,
    offset: u16,
    more: bool,
) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&identification.to_be_bytes());
    bytes.extend_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    bytes.extend_from_slice(&[64, protocol, 0, 0]);
    bytes.extend_from_slice(&source);
    bytes.extend_from_slice(&destination);
    put_checksum(&mut bytes, 10, 0);
    bytes.extend_from_slice(payload);
    bytes
}

pub fn v6(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    address[15] = last;
    address
}

pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[next, 64]);
    bytes.extend_from_slice(&v6(1));
    bytes.extend_from_slice(&v6(2));
    bytes.extend_from_slice(payload);
    bytes
}

fn pseudo(source: &[u8], destination: &[u8], protocol: u8, length: usize) -> u32 {
    u32::from(sum(source, 0)) + u32::from(sum(destination, 0)) + u32::from(protocol) + length as u32
}

pub fn udp(source: &[u8], destination: &[u8], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&ports.0.to_be_bytes());
    bytes.extend_from_slice(&ports.1.to_be_bytes());
    bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    let start = pseudo(source, destination, 17, bytes.len());
    put_checksum(&mut bytes, 6, start);
    bytes
}

pub fn udp4(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ipv4(A, B, 17, &udp(&A, &B, ports, payload))
}

#[derive(Clone, Copy)]
pub struct Tcp<'a> {
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub payload: &'a [u8],
}

pub fn tcp(source: &[u8], destination: &[u8], head: Tcp<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&head.ports.0.to_be_bytes());
    bytes.extend_from_slice(&head.ports.1.to_be_bytes());
    bytes.extend_from_slice(&head.seq.to_be_bytes());
    bytes.extend_from_slice(&head.ack.to_be_bytes());
    bytes.extend_from_slice(&[0x50, head.flags]);
    bytes.extend_from_slice(&head.window.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes.extend_from_slice(head.payload);
    let start = pseudo(source, destination, 6, bytes.len());
    put_checksum(&mut bytes, 16, start);
    bytes
}

pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Opened,
    Flipped,
    Chunk(Direction, Vec<u8>, u64),
    Gap(Direction, u64),
    DirectionEnded(Direction),
    Datagram(Direction, Vec<u8>, usize),
    Closed(Outcome),
}

/// Writes down what the tracker says; refuses what breaks the rules of the dialogue.
#[derive(Default)]
pub struct Tape {
    pub events: Vec<(u64, Event)>,
    pub flows: Vec<Flow>,
    pub summaries: Vec<(Flow, FlowSummary, Outcome)>,
    alive: std::collections::HashMap<u64, [bool; 2]>,
}

impl Tape {
    pub fn plain(&self) -> Vec<Event> {
        self.events.iter().map(|(_, event)| event.clone()).collect()
    }

    /// A direction's stream as far as it was told: bytes, or None where a gap is.
    pub fn stream(&self, direction: Direction) -> Vec<Option<u8>> {
        let mut stream = Vec::new();
        for (_, event) in &self.events {
            match event {
                Event::Chunk(of, bytes, _) if *of == direction => stream.extend(bytes.iter().copied().map(Some)),
                Event::Gap(of, length) if *of == direction => stream.extend((0..*length).map(|_| None)),
                _ => {}
            }
        }
        stream
    }

    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        let found = self.events.iter().filter_map(|(_, event)| match event {
            Event::Datagram(_, bytes, _) => Some(bytes.clone()),
            _ => None,
        });
        found.collect()
    }

    fn note(&mut self, flow: &Flow, event: Event) {
        self.events.push((flow.uid, event));
    }

    fn live(&self, flow: &Flow, direction: Direction) {
        let ended = self.alive.get(&flow.uid).expect("told of a flow that is not open");
        assert!(!ended[direction.index()], "bytes after the direction's end");
    }
}

impl Sink for Tape {
    fn flow_opened(&mut self, flow: &Flow) {
        assert!(self.alive.insert(flow.uid, [false; 2]).is_none(), "opened twice");
        self.flows.push(*flow);
        self.note(flow, Event::Opened);
    }
    fn roles_flipped(&mut self, flow: &Flow) {
        self.note(flow, Event::Flipped);
    }
    fn chunk(&mut self, flow: &Flow, direction: Direction, payload: &[u8], ts_ns: u64) {
        self.live(flow, direction);
        assert!(!payload.is_empty(), "an empty chunk");
        self.note(flow, Event::Chunk(direction, payload.to_vec(), ts_ns));
    }
    fn gap(&mut self, flow: &Flow, direction: Direction, length: u64, _ts_ns: u64) {
        self.live(flow, direction);
        assert!(length > 0, "an empty gap");
        self.note(flow, Event::Gap(direction, length));
    }
    fn direction_ended(&mut self, flow: &Flow, direction: Direction, _ts_ns: u64) {
        self.live(flow, direction);
        self.alive.get_mut(&flow.uid).unwrap()[direction.index()] = true;
        self.note(flow, Event::DirectionEnded(direction));
    }
    fn datagram(&mut self, flow: &Flow, direction: Direction, payload: &[u8], wire_len: usize, _ts_ns: u64) {
        assert!(self.alive.contains_key(&flow.uid));
        self.note(flow, Event::Datagram(direction, payload.to_vec(), wire_len));
    }
    fn flow_closed(&mut self, flow: &Flow, summary: &FlowSummary, outcome: Outcome) {
        assert!(self.alive.remove(&flow.uid).is_some(), "closed without being open");
        self.summaries.push((*flow, summary.clone(), outcome));
        self.note(flow, Event::Closed(outcome));
    }
}

/// Two hosts and what a tracker makes of them.
pub struct Talk {
    pub tracker: Tracker,
    pub tape: Tape,
    pub now_ns: u64,
    pub ports: (u16, u16),
    pub window: u16,
}

impl Talk {
    pub fn new(limits: Limits) -> Self {
        Self {
            tracker: Tracker::new(limits, 0, [9; 16], Checksums::Verify).with_statistics(true),
            tape: Tape::default(),
            now_ns: SECOND,
            ports: (40_000, 8_000),
            window: 1_000,
        }
    }

    /// The same with one overlap policy for all hosts.
    pub fn with_policy(limits: Limits, policy: Policy) -> Self {
        let mut talk = Self::new(limits);
        talk.tracker = Tracker::new(limits, 0, [9; 16], Checksums::Verify).with_overlap(Overlap::all(policy));
        talk
    }

    /// Feed the bytes of an IP packet one millisecond later.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.raw_of(bytes, bytes.len() as u32);
    }

    /// The same, cut: `wire_len` is what it had been.
    pub fn raw_of(&mut self, bytes: &[u8], wire_len: u32) {
        self.now_ns += 1_000_000;
        let fed = Packet { wire_len, ..packet(bytes, RAW, self.now_ns) };
        self.tracker.feed(&fed, &mut self.tape);
        let counters = self.tracker.counters();
        assert_eq!(counters.by_fate(), counters.received, "each packet has one fate");
    }

    pub fn orig(&mut self, seq: u32, ack: u32, flags: u8, payload: &[u8]) {
        let bytes = self.segment(Direction::Orig, seq, ack, flags, payload);
        self.raw(&bytes);
    }

    pub fn resp(&mut self, seq: u32, ack: u32, flags: u8, payload: &[u8]) {
        let bytes = self.segment(Direction::Resp, seq, ack, flags, payload);
        self.raw(&bytes);
    }

    pub fn segment(&self, direction: Direction, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (ports, from, to) = match direction {
            Direction::Orig => (self.ports, A, B),
            Direction::Resp => ((self.ports.1, self.ports.0), B, A),
        };
        ipv4(from, to, 6, &tcp(&from, &to, Tcp { ports, seq, ack, flags, window: self.window, payload }))
    }

    /// SYN, SYN/ACK, ACK: the streams begin at `orig` and `resp`.
    pub fn handshake(&mut self, orig: u32, resp: u32) {
        self.orig(orig.wrapping_sub(1), 0, SYN, b"");
        self.resp(resp.wrapping_sub(1), orig, SYN | ACK, b"");
        self.orig(orig, resp, ACK, b"");
    }

    pub fn finish(&mut self) {
        self.tracker.finish(&mut self.tape);
        assert_eq!(self.tracker.held_bytes(), 0, "held after the end");
        assert_eq!(self.tracker.flows(), 0);
        let counters = self.tracker.counters();
        let ended = counters.flows_completed
            + counters.flows_timed_out
            + counters.flows_ended
            + counters.flows_evicted
            + counters.flows_erroneous;
        assert_eq!(ended, counters.flows_opened, "each flow has one outcome");
    }

    /// conn_state and history of the only flow, after the end.
    pub fn verdict(&mut self) -> (String, String) {
        self.finish();
        let [(_, summary, _)] = self.tape.summaries.as_slice() else { panic!("{} flows", self.tape.summaries.len()) };
        (summary.conn_state.to_owned(), summary.history.clone())
    }
}
