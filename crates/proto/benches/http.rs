//! HTTP: heads alone, connections, and the whole engine from packets in memory to columns.
//!
//! `cargo bench -p bunker-proto --bench http`. With `BUNKER_SPIN=engine_keepalive` (or another name below) it only repeats that
//! one, 20 times or as `BUNKER_TURNS` says: something for a profiler to look at, or for callgrind to count instructions of.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::hint::black_box;

use bunker_proto::columns::MessageKind;
use bunker_proto::engine::{Engine, EngineConfig, Fed};
use bunker_proto::http::{Config, Connection, Transaction, TransactionSink, head};
use bunker_proto::parser::Wanted;
use bunker_wire::Direction::{Orig, Resp};
use bunker_wire::block::{BlockFormat, PACKED_MAGIC};
use bunker_wire::limits::Limits;
use bunker_wire::tracker::Checksums;
use criterion::{Criterion, Throughput};

const REQUEST: &[u8] = b"GET /news/2024/05/some-article-about-things.html?ref=front&id=123456 HTTP/1.1\r\n\
Host: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate\r\nReferer: http://www.example.com/news/\r\nConnection: keep-alive\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 27 May 2024 10:00:00 GMT\r\nServer: Apache/2.4.59 (Debian)\r\n\
Last-Modified: Sun, 26 May 2024 09:00:00 GMT\r\nETag: \"2d-432a5e4a73a80\"\r\nAccept-Ranges: bytes\r\n\
Content-Length: 128\r\nKeep-Alive: timeout=5, max=100\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n";

fn response() -> Vec<u8> {
    [HEAD, &[b'x'; 128]].concat()
}

#[derive(Default)]
struct Count(u64);

impl TransactionSink for Count {
    fn transaction(&mut self, transaction: &Transaction<'_>) {
        self.0 += u64::from(black_box(transaction).status.is_some());
    }
}

/// A block in the packed format: Ethernet, IPv4, TCP with the checksum left to the hardware (0 where nobody verifies).
#[derive(Default)]
struct Packer {
    bytes: Vec<u8>,
    count: u32,
}

impl Packer {
    fn segment(&mut self, client: u32, to_server: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) {
        let total = (40 + payload.len()) as u16;
        let hosts = [0x0A00_0000_u32 + (client >> 14), 0xC000_0201];
        let ports = [2_000 + (client & 0x3FFF) as u16, 80];
        let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        let (from, to) = if to_server { (0, 1) } else { (1, 0) };
        packet.extend(hosts[from].to_be_bytes());
        packet.extend(hosts[to].to_be_bytes());
        packet.extend(ports[from].to_be_bytes());
        packet.extend(ports[to].to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend(ack.to_be_bytes());
        packet.extend([0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
        packet.extend(payload);
        let ts_ns = 1_700_000_000_000_000_000_u64 + u64::from(self.count) * 1_000;
        let length = packet.len() as u32;
        self.bytes.extend(ts_ns.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend(&packet);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
    }

    /// The packed block (docs/formats/block.md).
    fn block(self) -> Vec<u8> {
        let mut block = PACKED_MAGIC.to_le_bytes().to_vec();
        block.extend([1, 0, 32, 0]);
        block.extend(self.count.to_le_bytes());
        block.extend((self.bytes.len() as u32 + 32).to_le_bytes());
        block.extend([0; 16]);
        block.extend(self.bytes);
        block
    }

    fn connection(&mut self, client: u32, requests: u32) {
        let answer = response();
        let (mut ours, mut theirs) = (1_000_u32, 5_000_u32);
        self.segment(client, true, ours, 0, 2, b"");
        ours += 1;
        self.segment(client, false, theirs, ours, 0x12, b"");
        theirs += 1;
        self.segment(client, true, ours, theirs, 0x10, b"");
        for _ in 0..requests {
            self.segment(client, true, ours, theirs, 0x18, REQUEST);
            ours += REQUEST.len() as u32;
            self.segment(client, false, theirs, ours, 0x18, &answer);
            theirs += answer.len() as u32;
        }
        self.segment(client, true, ours, theirs, 0x11, b"");
        self.segment(client, false, theirs, ours + 1, 0x11, b"");
        self.segment(client, true, ours + 1, theirs + 1, 0x10, b"");
    }
}

/// Blocks of `connections` connections of `requests` requests each, about a megabyte a block as the capturer makes them.
fn blocks(connections: u32, requests: u32) -> Vec<Vec<u8>> {
    let (mut made, mut packer) = (Vec::new(), Packer::default());
    for client in 0..connections {
        packer.connection(client, requests);
        if packer.bytes.len() > 1 << 20 {
            made.push(core::mem::take(&mut packer).block());
        }
    }
    made.push(packer.block());
    made
}

fn engine() -> Engine {
    Engine::new(EngineConfig {
        lane: 0,
        want: Wanted::of(&[MessageKind::Http]),
        limits: Limits::default(),
        seed: [7; 16],
        checksums: Checksums::Ignore,
        http: Config::default(),
    })
}

fn rows(engine: &mut Engine) -> usize {
    engine.take().unwrap().iter().map(|(_, batch)| batch.num_rows()).sum()
}

fn through_engine(blocks: &[Vec<u8>]) -> usize {
    let (mut engine, mut found) = (engine(), 0);
    for (number, block) in blocks.iter().enumerate() {
        while engine.feed(BlockFormat::Packed, block, number as u64).unwrap() == Fed::TakeFirst {
            found += rows(&mut engine);
        }
        found += rows(&mut engine);
    }
    engine.finish();
    found + rows(&mut engine)
}

fn through_connection(requests: u32) -> u64 {
    let (mut connection, mut count, config) = (Connection::new(), Count::default(), Config::default());
    let answer = response();
    for _ in 0..requests {
        connection.data(Orig, black_box(REQUEST), 1, &config, &mut count);
        connection.data(Resp, black_box(&answer), 2, &config, &mut count);
    }
    connection.closed(3, &config, &mut count);
    count.0
}

const REQUESTS: u32 = 50_000;

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Elements(1));
    group.bench_function("request", |bench| bench.iter(|| head::request(black_box(REQUEST), 1_024)));
    group.bench_function("response", |bench| bench.iter(|| head::response(black_box(HEAD), 1_024)));
    group.finish();
    let mut group = criterion.benchmark_group("connection");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("keepalive", |bench| bench.iter(|| through_connection(1_000)));
    group.finish();
    let mut group = criterion.benchmark_group("engine");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(REQUESTS)));
    let keepalive = blocks(REQUESTS / 100, 100);
    group.bench_function("keepalive", |bench| bench.iter(|| through_engine(&keepalive)));
    let close = blocks(REQUESTS, 1);
    group.bench_function("close", |bench| bench.iter(|| through_engine(&close)));
    group.finish();
}

fn spin(name: &str, turns: usize) {
    let made = match name {
        "engine_keepalive" => blocks(REQUESTS / 100, 100),
        "engine_close" => blocks(REQUESTS, 1),
        _ => Vec::new(),
    };
    let mut total = 0;
    for _ in 0..turns {
        total += if made.is_empty() { through_connection(REQUESTS) as usize } else { through_engine(&made) };
    }
    assert_eq!(total, turns * REQUESTS as usize);
}

fn main() {
    #[allow(clippy::disallowed_methods, reason = "a profiler starts one part of the benchmark by name")]
    if let Ok(name) = std::env::var("BUNKER_SPIN") {
        spin(&name, std::env::var("BUNKER_TURNS").map_or(20, |turns| turns.parse().unwrap()));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}
