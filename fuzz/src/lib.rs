//! Functions of bytes that must hold for all bytes: no panic, no hang, no growth beyond the limits, and the same rows however the
//! input was cut. `cargo fuzz run NAME` gives them bytes that reach new code; `smoke` gives them mutated captures, in bounded time.
//!
//! Rules of this file:
//! 1. A target panics when what it states does not hold; nothing else here may.
//! 2. Inputs are read as far as they go: each byte string is a valid input of each target.
#![allow(clippy::panic, clippy::missing_panics_doc)] // a target that does not hold panics: that is how fuzzers are told

mod packets;

use bunker_proto::body::{BodyLimits, BodyReader};
use bunker_proto::columns::MessageKind;
use bunker_proto::engine::{Engine, EngineConfig, Fed};
use bunker_proto::http::{self, Transaction, TransactionSink};
use bunker_proto::http2::{self, Decoder};
use bunker_proto::parser::Wanted;
use bunker_wire::Direction;
use bunker_wire::block::BlockFormat;
use bunker_wire::limits::Limits;
use bunker_wire::packer::Packer;
use bunker_wire::tracker::Checksums;

pub use packets::{Block, seeds};

/// A target.
pub type Target = fn(&[u8]);

/// All of them by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("capture_file", capture_file),
    ("packets", packets),
    ("conversation", conversation),
    ("datagrams", datagrams),
    ("http", http),
    ("http2", http2),
    ("body", body),
    ("hpack", hpack),
];

/// Bytes that an engine may hold of one small input, tables included: far above what it needs, far below a leak.
const HELD: u64 = 64 << 20;

fn engine() -> Engine {
    let limits = Limits { flows: 256, reassembly_bytes: 1 << 20, fragment_bytes: 1 << 20, ..Limits::default() };
    Engine::new(EngineConfig {
        lane: 0,
        want: Wanted::of(MessageKind::ALL),
        limits,
        seed: [3; 16],
        checksums: Checksums::Ignore,
        http: http::Config { want_heads: true, want_bodies: true, want_hashes: true, ..http::Config::default() },
    })
}

/// Rows of each kind that blocks give. Of the packets in them each is analysed, and a row.
fn rows(blocks: &[Vec<u8>], packets: Option<u64>) -> Vec<(MessageKind, usize)> {
    let mut engine = engine();
    let mut found: Vec<(MessageKind, usize)> = MessageKind::ALL.iter().map(|kind| (*kind, 0)).collect();
    let mut take = |engine: &mut Engine| {
        let Ok(batches) = engine.take() else { panic!("a table that Arrow refuses") };
        let Ok(flows) = engine.take_flows() else { panic!("a flow table that Arrow refuses") };
        let flows = flows.into_iter().map(|batch| (MessageKind::Flow, batch));
        for (kind, batch) in batches.into_iter().chain(flows) {
            for (known, count) in &mut found {
                if *known == kind {
                    *count = count.saturating_add(batch.num_rows());
                }
            }
        }
    };
    for (number, block) in blocks.iter().enumerate() {
        loop {
            match engine.feed(BlockFormat::Packed, block, number as u64) {
                Ok(Fed::Whole) => break,
                Ok(Fed::TakeFirst) => take(&mut engine),
                Err(_) => panic!("a block refused"),
            }
        }
        take(&mut engine);
        assert!(engine.live_bytes() < HELD, "held {} bytes", engine.live_bytes());
    }
    engine.finish();
    take(&mut engine);
    let counters = engine.counters();
    let count = |name: &str| counters.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count);
    assert!(count("panics") == 0, "a parser panicked");
    assert!(count("flows_open") == 0, "a flow is left after the end");
    if let Some(packets) = packets {
        let told = found.iter().find(|(kind, _)| *kind == MessageKind::Packet).map_or(0, |(_, rows)| *rows as u64);
        assert!((count("packets_analysed"), told) == (packets, packets), "{packets} packets are not accounted for");
    }
    found
}

/// The whole path: a capture file of any kind to rows.
pub fn capture_file(bytes: &[u8]) {
    let read = |piece: usize| {
        let mut packer = Packer::new(1, 1 << 20, 262_144, None, [5; 16]);
        let mut failed = false;
        for part in bytes.chunks(piece.max(1)) {
            failed = packer.feed(part).is_err();
            if failed {
                break;
            }
        }
        failed |= packer.end_file().is_err();
        let blocks: Vec<Vec<u8>> = packer.take_rest().into_iter().map(|(_, block)| block.bytes.clone()).collect();
        let counters = packer.counters();
        assert!(counters.filtered == 0, "nothing filters");
        (failed, counters.read.saturating_sub(counters.too_long), blocks)
    };
    let (failed, packets, blocks) = read(usize::MAX);
    let (failed_in_pieces, packets_in_pieces, _) = read(97);
    assert!((failed, packets) == (failed_in_pieces, packets_in_pieces), "pieces of the file matter");
    rows(&blocks, Some(packets));
}

/// Packets of every link type: a byte chooses it, two say how long the packet is.
pub fn packets(bytes: &[u8]) {
    let mut block = Block::default();
    let (mut rest, mut count) = (bytes, 0_u64);
    while let [link, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (packet, next) = after.split_at_checked(length).unwrap_or((after, &[]));
        block.packet(packets::linktype(*link), packet);
        count = count.saturating_add(1);
        rest = next;
    }
    rows(&[block.finish()], Some(count));
}

/// Turns of a conversation: a byte says who speaks and what follows, two how much of it. The same rows, whatever the segments.
pub fn conversation(bytes: &[u8]) {
    let told = |size: usize| rows(&[packets::conversation(bytes, size)], None);
    let (whole, cut) = (told(60_000), told(7));
    for ((kind, one), (_, other)) in whole.iter().zip(&cut) {
        // Chunks and packets are as many as there were segments.
        let by_segment = matches!(kind, MessageKind::Chunk | MessageKind::Packet);
        assert!(by_segment || one == other, "{}: {one} rows whole, {other} cut", kind.name());
    }
}

/// UDP payloads on the ports of the protocols that are read.
pub fn datagrams(bytes: &[u8]) {
    rows(&[packets::datagrams(bytes)], None);
}

#[derive(Default)]
struct Told(Vec<(Option<u16>, u64, u64, u64, u64)>);

impl TransactionSink for Told {
    fn transaction(&mut self, transaction: &Transaction<'_>) {
        let mut sum = 0_u64;
        for part in [transaction.method, transaction.host, transaction.uri, transaction.reason].into_iter().flatten() {
            sum = part.iter().fold(sum, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        }
        let (asked, answered) = (transaction.request.body_len, transaction.response.body_len);
        self.0.push((transaction.status, asked, answered, transaction.flags, sum));
    }
}

/// HTTP/1 connections with holes: the same transactions whole, in pieces and byte by byte.
pub fn http(bytes: &[u8]) {
    let told = |piece: usize| {
        let (mut connection, mut told, config) = (http::Connection::new(), Told::default(), http::Config::default());
        for (turn, direction, content) in packets::turns(bytes) {
            if turn == packets::GAP {
                connection.gap(direction, content.len() as u64, 1, &config, &mut told);
                continue;
            }
            for part in content.chunks(piece) {
                if connection.upgraded().is_none() {
                    connection.data(direction, part, 1, &config, &mut told);
                }
                assert!(connection.live_bytes() < 8 << 20, "a connection holds too much");
            }
        }
        connection.closed(2, &config, &mut told);
        told.0
    };
    let whole = told(usize::MAX);
    for piece in [1, 13] {
        assert!(whole == told(piece), "pieces of {piece} bytes matter");
    }
}

/// HTTP/2 connections with holes, likewise.
pub fn http2(bytes: &[u8]) {
    let told = |piece: usize| {
        let mut connection = http2::Connection::new(Direction::Orig);
        let (mut told, config) = (Told::default(), http::Config::default());
        connection.data(Direction::Orig, http2::PREFACE, 1, &config, &mut told);
        for (turn, direction, content) in packets::turns(bytes) {
            if turn == packets::GAP {
                connection.gap(direction, content.len() as u64);
                continue;
            }
            for part in content.chunks(piece) {
                connection.data(direction, part, 1, &config, &mut told);
                assert!(connection.live_bytes() < 8 << 20, "a connection holds too much");
            }
        }
        connection.closed(&config, &mut told);
        told.0
    };
    let whole = told(usize::MAX);
    for piece in [1, 13] {
        assert!(whole == told(piece), "pieces of {piece} bytes matter");
    }
}

/// Header blocks, one after the other: what they unfold to stays inside the room.
pub fn hpack(bytes: &[u8]) {
    const ROOM: usize = 16 << 10;
    let mut decoder = Decoder::default();
    for block in bytes.chunks(64) {
        let mut sum = 0usize;
        let _ = decoder.block(block, ROOM, |name, value| {
            sum = sum.saturating_add(name.len()).saturating_add(value.len());
        });
        assert!(sum <= ROOM, "a header block unfolded to {sum} bytes");
        assert!(decoder.live_bytes() <= http2::TABLE_BYTES.saturating_add(ROOM), "the table is over its bound");
    }
}

/// Coded bodies: the first byte chooses the codings.
pub fn body(bytes: &[u8]) {
    const CODINGS: [&[u8]; 8] = [
        b"gzip",
        b"deflate",
        b"br",
        b"zstd",
        b"gzip, deflate",
        b"br, gzip, zstd",
        b"deflate, deflate, gzip, br",
        b"lzma",
    ];
    let Some((first, content)) = bytes.split_first() else { return };
    let limits = BodyLimits { decoded: 1 << 20, keep: 1 << 16, ..BodyLimits::default() };
    let read = |piece: usize| {
        let mut reader = BodyReader::idle();
        reader.begin(CODINGS.get(usize::from(first & 7)).copied().unwrap_or_default(), &limits, true, true);
        for part in content.chunks(piece) {
            reader.feed(part, false);
        }
        let body = reader.finish();
        assert!(body.decoded_len <= limits.decoded && body.kept.len() <= limits.keep, "a body over its limits");
        (body.decoding, body.kept.first().copied())
    };
    let _ = (read(usize::MAX), read(11));
}
