//! HTTP/2 connections: frames of two directions to transactions, however they are cut.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, missing_docs)]

use bunker_proto::http::{Config, Transaction, TransactionSink, flags};
use bunker_proto::http2::{Connection, PREFACE};
use bunker_wire::Direction::{self, Orig, Resp};

#[derive(Default)]
struct Seen(Vec<String>);

impl TransactionSink for Seen {
    fn transaction(&mut self, tx: &Transaction<'_>) {
        let text =
            |bytes: Option<&[u8]>| bytes.map_or("-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let names: Vec<_> =
            (0..flags::NAMES.len()).filter(|bit| tx.flags >> bit & 1 == 1).map(|bit| flags::NAMES[bit]).collect();
        let status = tx.status.map_or("-".to_owned(), |status| status.to_string());
        self.0.push(format!(
            "{} {} {} {} {}/{} {}",
            text(tx.method),
            text(tx.host),
            text(tx.uri),
            status,
            tx.request.body_len,
            tx.response.body_len,
            names.join(",")
        ));
        if tx.request.body_len + tx.response.body_len > 0 || tx.status.is_some() {
            assert_eq!(tx.version, Some(&b"2"[..]));
        }
    }
}

enum Event {
    Data(Direction, Vec<u8>),
    Gap(Direction, u64),
}

fn run(events: &[Event], piece: usize) -> Vec<String> {
    let (mut connection, mut seen, config) = (Connection::new(Orig), Seen::default(), Config::default());
    assert!(connection.data(Orig, PREFACE, 1, &config, &mut seen));
    for event in events {
        match event {
            Event::Data(direction, bytes) => {
                for part in bytes.chunks(piece) {
                    assert!(connection.data(*direction, part, 1, &config, &mut seen));
                }
            }
            Event::Gap(direction, length) => connection.gap(*direction, *length),
        }
    }
    connection.closed(&config, &mut seen);
    seen.0
}

fn check(events: &[Event], expected: &[&str]) {
    for piece in [usize::MAX, 1, 5, 64] {
        assert_eq!(run(events, piece), expected, "in pieces of {piece}");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// GET http /, and a literal authority without indexing.
fn get() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 9];
    block.extend(b"h.example");
    block
}

const OK: &[u8] = &[0x88];

#[test]
fn streams_interleave_and_each_is_a_transaction() {
    let asked = [frame(4, 0, 0, &[]), frame(1, 5, 1, &get()), frame(1, 5, 3, &get())].concat();
    let answered = [
        frame(1, 4, 3, OK),
        frame(1, 4, 1, OK),
        frame(0, 0, 1, b"he"),
        frame(0, 1, 3, b"other"),
        frame(0, 1, 1, b"llo!"),
    ]
    .concat();
    check(
        &[Event::Data(Orig, asked), Event::Data(Resp, answered)],
        &["GET h.example / 200 0/5 ", "GET h.example / 200 0/6 "],
    );
}

#[test]
fn blocks_go_on_in_continuations_and_padding_is_no_body() {
    let block = get();
    let asked = [frame(1, 1, 1, &block[..3]), frame(9, 0, 1, &block[3..6]), frame(9, 4, 1, &block[6..])].concat();
    let mut padded = vec![3];
    padded.extend(b"body\0\0\0");
    let mut head = vec![2, 0, 0, 0, 0, 16];
    head.extend(OK);
    head.extend([0, 0]);
    let answered = [frame(1, 0x2C, 1, &head), frame(0, 9, 1, &padded)].concat();
    check(&[Event::Data(Orig, asked), Event::Data(Resp, answered)], &["GET h.example / 200 0/4 "]);
}

#[test]
fn a_flood_of_continuations_is_bounded_and_flagged() {
    let mut asked = frame(1, 1, 1, &get());
    for _ in 0..2_000 {
        asked.extend(frame(9, 0, 1, &[0x82; 1_000]));
    }
    asked.extend(frame(9, 4, 1, &[]));
    let (mut connection, mut seen, config) = (Connection::new(Orig), Seen::default(), Config::default());
    connection.data(Orig, PREFACE, 1, &config, &mut seen);
    for part in asked.chunks(1_400) {
        connection.data(Orig, part, 1, &config, &mut seen);
        assert!(connection.live_bytes() < 256 << 10);
    }
    connection.closed(&config, &mut seen);
    assert!(seen.0[0].contains("over_limit"), "{:?}", seen.0);
}

#[test]
fn streams_beyond_the_limit_push_out_the_oldest() {
    let mut asked = Vec::new();
    for number in 0..1_030_u32 {
        asked.extend(frame(1, 5, number * 2 + 1, &get()));
    }
    let rows = run(&[Event::Data(Orig, asked)], 1_000);
    assert_eq!(rows.len(), 1_030);
    assert!(rows[0].ends_with("truncated,no_response,over_limit"), "{}", rows[0]);
    assert!(rows[1_029].ends_with("truncated,no_response"), "{}", rows[1_029]);
}

#[test]
fn a_hole_in_a_body_is_jumped_and_elsewhere_ends_the_direction() {
    let answer = [frame(1, 4, 1, OK), frame(0, 1, 1, b"0123456789")].concat();
    let (before, after) = answer.split_at(answer.len() - 6);
    let next = [frame(1, 4, 3, OK), frame(0, 1, 3, b"ok")].concat();
    let asked = [frame(1, 5, 1, &get()), frame(1, 5, 3, &get())].concat();
    check(
        &[
            Event::Data(Orig, asked.clone()),
            Event::Data(Resp, before.to_vec()),
            Event::Gap(Resp, 4),
            Event::Data(Resp, after[4..].to_vec()),
            Event::Data(Resp, next.clone()),
        ],
        &["GET h.example / 200 0/6 gap_in_body", "GET h.example / 200 0/2 "],
    );
    check(
        &[Event::Data(Orig, asked), Event::Gap(Resp, 4), Event::Data(Resp, next)],
        &[
            "GET h.example / - 0/0 gap_in_head,truncated,no_response",
            "GET h.example / - 0/0 gap_in_head,truncated,no_response",
        ],
    );
}

#[test]
fn resets_and_broken_frames_are_told() {
    let asked = [frame(1, 5, 1, &get()), frame(3, 0, 1, &[0, 0, 0, 8])].concat();
    check(&[Event::Data(Orig, asked)], &["GET h.example / - 0/0 truncated,no_response"]);
    let astray = [frame(1, 5, 1, &get()), frame(9, 4, 7, &[])].concat();
    check(&[Event::Data(Orig, astray)], &["GET h.example / - 0/0 truncated,no_response,bad_frame"]);
}

#[test]
fn line_ends_in_a_field_do_not_make_another_header() {
    let mut block = get();
    block.extend([0x00, 1, b'x', 21]);
    block.extend(b"a\r\nhost: evil.example\0");
    let rows = run(&[Event::Data(Orig, frame(1, 5, 1, &block))], usize::MAX);
    assert!(rows[0].starts_with("GET h.example / "), "{}", rows[0]);
}
