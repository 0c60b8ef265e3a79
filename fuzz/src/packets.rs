//! Bytes to packets: what targets feed an engine with.
use bunker_wire::Direction;
use bunker_wire::block::PACKED_MAGIC;

/// A turn that is a hole.
pub const GAP: u8 = 1;

/// Link types by a byte: the common ones more often.
pub const fn linktype(byte: u8) -> u16 {
    const KNOWN: [u16; 48] = [
        1, 1, 1, 1, 101, 101, 113, 276, 0, 108, 9, 104, 105, 127, 228, 229, // what is met
        6, 8, 10, 12, 50, 51, 99, 100, 107, 109, 117, 119, 123, 138, 163, 166, // what is rare
        192, 197, 204, 226, 239, 242, 258, 274, 281, 282, 283, 284, 147, 1, 1, 1,
    ];
    match KNOWN.split_at((byte % 48) as usize).1 {
        [kind, ..] => *kind,
        [] => 1,
    }
}

/// A block in the packed format (docs/formats/block.md).
#[derive(Default)]
pub struct Block {
    bytes: Vec<u8>,
    count: u32,
}

impl Block {
    /// Add a packet, a millisecond after the one before.
    pub fn packet(&mut self, linktype: u16, packet: &[u8]) {
        let ts_ns = 1_700_000_000_000_000_000_u64.saturating_add(u64::from(self.count).saturating_mul(1_000_000));
        let length = u32::try_from(packet.len()).unwrap_or(0);
        self.bytes.extend(ts_ns.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(linktype.to_le_bytes());
        self.bytes.extend([0; 14]);
        self.bytes.extend(packet);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count = self.count.saturating_add(1);
    }

    /// The block.
    pub fn finish(self) -> Vec<u8> {
        let mut block = PACKED_MAGIC.to_le_bytes().to_vec();
        block.extend([1, 0, 32, 0]);
        block.extend(self.count.to_le_bytes());
        block.extend(u32::try_from(self.bytes.len()).unwrap_or(0).saturating_add(32).to_le_bytes());
        block.extend([0; 16]);
        block.extend(self.bytes);
        block
    }

    fn ip(&mut self, protocol: u8, to_server: bool, segment: &[u8]) {
        let total = u16::try_from(segment.len().saturating_add(20)).unwrap_or(u16::MAX);
        let [high, low] = total.to_be_bytes();
        let mut packet = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        let (client, server) = ([192, 0, 2, 1], [198, 51, 100, 1]);
        let (from, to) = if to_server { (client, server) } else { (server, client) };
        packet.extend(from);
        packet.extend(to);
        packet.extend(segment);
        self.packet(101, &packet);
    }

    fn tcp(&mut self, ports: [u16; 2], to_server: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) {
        let [client, server] = ports;
        let (from, to) = if to_server { (client, server) } else { (server, client) };
        let mut segment = Vec::with_capacity(payload.len().saturating_add(20));
        segment.extend(from.to_be_bytes());
        segment.extend(to.to_be_bytes());
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.extend([0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
        segment.extend(payload);
        self.ip(6, to_server, &segment);
    }
}

/// Turns in a target's bytes: (kind, direction, content). Each begins with a byte (bit 0 direction, bits 6-7 all set: a hole) and a
/// length of two.
pub fn turns(bytes: &[u8]) -> impl Iterator<Item = (u8, Direction, &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let [first, high, low, after @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x3FFF).min(after.len());
        let (content, next) = after.split_at_checked(length)?;
        rest = next;
        let direction = if first & 1 == 0 { Direction::Orig } else { Direction::Resp };
        Some((u8::from(first & 0xC0 == 0xC0), direction, content))
    })
}

/// Turns as bytes of a target.
pub fn encode(turns: &[(bool, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (is_resp, content) in turns {
        out.push(u8::from(*is_resp));
        out.extend(u16::try_from(content.len()).unwrap_or(0).to_be_bytes());
        out.extend(*content);
    }
    out
}

const PORTS: [u16; 12] = [80, 53, 443, 25, 110, 143, 22, 21, 8080, 587, 993, 4444];

/// A TCP connection: the first byte chooses the server's port, turns follow; segments of at most `size` bytes.
pub fn conversation(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut block = Block::default();
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let ports = [40_000, PORTS.get(usize::from(first % 12)).copied().unwrap_or(80)];
    let mut next = [1_001_u32, 5_001_u32];
    block.tcp(ports, true, 1_000, 0, 2, &[]);
    block.tcp(ports, false, 5_000, 1_001, 0x12, &[]);
    block.tcp(ports, true, 1_001, 5_001, 0x10, &[]);
    for (turn, direction, content) in turns(rest) {
        let [client, server] = next;
        let to_server = direction == Direction::Orig;
        let (mut seq, ack) = if to_server { (client, server) } else { (server, client) };
        for part in content.chunks(size) {
            if turn != GAP {
                block.tcp(ports, to_server, seq, ack, 0x18, part);
            }
            seq = seq.wrapping_add(u32::try_from(part.len()).unwrap_or(0));
        }
        next = if to_server { [seq, server] } else { [client, seq] };
    }
    let [client, server] = next;
    block.tcp(ports, true, client, server, 0x11, &[]);
    block.tcp(ports, false, server, client.wrapping_add(1), 0x11, &[]);
    block.tcp(ports, true, client.wrapping_add(1), server.wrapping_add(1), 0x10, &[]);
    block.finish()
}

/// UDP datagrams: each turn's first byte chooses the port, too.
pub fn datagrams(bytes: &[u8]) -> Vec<u8> {
    const PORTS: [u16; 8] = [53, 443, 123, 67, 5353, 5355, 4433, 9999];
    let mut block = Block::default();
    let mut rest = bytes;
    while let [first, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x3FFF).min(after.len());
        let (content, next) = after.split_at_checked(length).unwrap_or((after, &[]));
        rest = next;
        let to_server = first & 1 == 0;
        let port = PORTS.get(usize::from(first >> 1 & 7)).copied().unwrap_or(53);
        let (from, to) = if to_server { (40_000, port) } else { (port, 40_000) };
        let mut segment = Vec::with_capacity(content.len().saturating_add(8));
        segment.extend(u16::to_be_bytes(from));
        segment.extend(u16::to_be_bytes(to));
        segment.extend(u16::try_from(content.len().saturating_add(8)).unwrap_or(0).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(content);
        block.ip(17, to_server, &segment);
    }
    block.finish()
}

/// Inputs to begin with, for the targets that take turns: one of each shape that is read.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let request = b"POST /p?q HTTP/1.1\r\nHost: h.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody";
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n5;x\r\nhello\r\n0\r\nT: v\r\n\r\n";
    let connect = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
    let web = [
        encode(&[(false, request), (true, b"HTTP/1.1 100 Continue\r\n\r\n"), (true, answer)]),
        encode(&[(false, b"GET /\r\n"), (true, b"<p>old")]),
        encode(&[(false, connect), (true, b"HTTP/1.1 200 OK\r\n\r\n"), (false, request), (true, answer)]),
        encode(&[(false, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), (true, answer)]),
        encode(&[(true, answer), (false, request)]),
    ];
    let settings: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 16, 0];
    let headers: &[u8] = &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86];
    let reply: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88, 0, 0, 5, 0, 9, 0, 0, 0, 1, 2, b'h', b'i', 0, 0];
    let frames = [settings, headers].concat();
    let mail = encode(&[
        (true, b"220 h ESMTP\r\n"),
        (false, b"EHLO c\r\n"),
        (true, b"250 STARTTLS\r\n"),
        (false, b"QUIT\r\n"),
    ]);
    let query = b"\0\x1d\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01h\x07example\0\0\x01\0\x01";
    match target {
        "http" => web.to_vec(),
        "http2" => vec![encode(&[(false, &frames), (true, reply)])],
        "hpack" => vec![b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff".to_vec()],
        "conversation" => {
            let preface = [crate::http2::PREFACE.as_slice(), &frames].concat();
            let mut made: Vec<Vec<u8>> = web.iter().map(|turns| [&[0], turns.as_slice()].concat()).collect();
            made.push([&[0], encode(&[(false, &preface), (true, reply)]).as_slice()].concat());
            made.push([&[3], mail.as_slice()].concat());
            made.push([&[1], encode(&[(false, query)]).as_slice()].concat());
            made.push([&[2], encode(&[(false, b"\x16\x03\x01\0\x05\x01\0\0\x01\x03")]).as_slice()].concat());
            made
        }
        "datagrams" => {
            let name = query.get(2..).unwrap_or_default();
            vec![[&[0, 0, u8::try_from(name.len()).unwrap_or(0)], name].concat()]
        }
        "body" => vec![
            b"\0\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0".to_vec(),
            b"\x01x\x9c\xcbH\xcd\xc9\xc9\x07\0\x06,\x02\x15".to_vec(),
            b"\x02\x0b\x02\x80hello\x03".to_vec(),
            b"\x03\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello".to_vec(),
        ],
        "packets" => {
            let mut ethernet =
                vec![0, 0, 62, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 48, 0, 0, 0x20, 0, 64, 47];
            ethernet.extend([0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 8, 0, 0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0]);
            ethernet.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, 53, 0, 53, 0, 12]);
            vec![ethernet]
        }
        _ => vec![],
    }
}
