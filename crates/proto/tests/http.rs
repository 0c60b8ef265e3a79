//! HTTP/1 connections: what goes in as bytes of two directions comes out as transactions, however the bytes are cut.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::io::Write as _;

use bunker_proto::http::{Config, Connection, Transaction, TransactionSink, Verdict, flags, looks_like_http};
use bunker_wire::Direction::{self, Orig, Resp};
use proptest::prelude::*;

#[derive(Default)]
struct Seen(Vec<String>);

impl TransactionSink for Seen {
    fn transaction(&mut self, tx: &Transaction<'_>) {
        let text =
            |bytes: Option<&[u8]>| bytes.map_or("-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let names: Vec<_> =
            (0..flags::NAMES.len()).filter(|bit| tx.flags >> bit & 1 == 1).map(|bit| flags::NAMES[bit]).collect();
        self.0.push(format!(
            "{} {} {} {} {}/{} {}",
            text(tx.method),
            text(tx.host),
            text(tx.uri),
            tx.status.map_or("-".to_owned(), |status| status.to_string()),
            tx.request.body_len,
            tx.response.body_len,
            names.join(",")
        ));
    }
}

enum Event<'a> {
    Data(Direction, &'a [u8]),
    Gap(Direction, u64),
    End(Direction),
}
use Event::{Data, End, Gap};

fn run(events: &[Event<'_>], piece: usize) -> Vec<String> {
    let (mut connection, mut seen, config) = (Connection::new(), Seen::default(), Config::default());
    for event in events {
        match event {
            Data(direction, bytes) => {
                for part in bytes.chunks(piece) {
                    connection.data(*direction, part, 7, &config, &mut seen);
                }
            }
            Gap(direction, length) => connection.gap(*direction, *length, 7, &config, &mut seen),
            End(direction) => connection.ended(*direction, 7, &config, &mut seen),
        }
    }
    connection.closed(9, &config, &mut seen);
    seen.0
}

fn check(events: &[Event<'_>], expected: &[&str]) {
    for piece in [usize::MAX, 1, 2, 3, 7, 64] {
        assert_eq!(run(events, piece), expected, "in pieces of {piece}");
    }
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h.example\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn one_request_one_response() {
    check(&[Data(Orig, GET), Data(Resp, OK5)], &["GET h.example /a 200 0/5 "]);
}

#[test]
fn pipelined_requests_pair_in_order() {
    let two = [GET, GET].concat();
    let answers = [OK5, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".as_slice()].concat();
    check(
        &[Data(Orig, &two), Data(Resp, &answers)],
        &["GET h.example /a 200 0/5 ", "GET h.example /a 404 0/0 pipelined"],
    );
}

#[test]
fn chunked_with_extension_and_trailer() {
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: v\r\n\r\n";
    check(
        &[Data(Orig, GET), Data(Resp, answer), Data(Orig, GET), Data(Resp, OK5)],
        &["GET h.example /a 200 0/11 ", "GET h.example /a 200 0/5 "],
    );
}

#[test]
fn chunk_size_of_two_to_the_64_does_not_wrap() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n";
    check(&[Data(Orig, GET), Data(Resp, answer)], &["GET h.example /a 200 0/31 bad_chunk"]);
}

#[test]
fn head_and_204_and_304_have_no_body() {
    let head = b"HEAD /a HTTP/1.1\r\nHost: h.example\r\n\r\n";
    let long = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    check(
        &[Data(Orig, head), Data(Resp, long), Data(Orig, GET), Data(Resp, OK5)],
        &["HEAD h.example /a 200 0/0 ", "GET h.example /a 200 0/5 "],
    );
    let none = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n";
    check(
        &[Data(Orig, GET), Data(Resp, none), Data(Orig, GET), Data(Resp, OK5)],
        &["GET h.example /a 304 0/0 ", "GET h.example /a 200 0/5 "],
    );
}

#[test]
fn continue_is_not_the_answer() {
    let post = b"POST /p HTTP/1.1\r\nHost: h.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    check(
        &[Data(Orig, post), Data(Resp, b"HTTP/1.1 100 Continue\r\n\r\n"), Data(Orig, b"abc"), Data(Resp, OK5)],
        &["POST h.example /p 200 3/5 "],
    );
}

#[test]
fn close_ends_a_body_without_length() {
    let answer = b"HTTP/1.0 200 OK\r\n\r\nall of this";
    check(&[Data(Orig, GET), Data(Resp, answer), End(Resp)], &["GET h.example /a 200 0/11 "]);
}

#[test]
fn gzip_counts_decoded_bytes() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&[b'x'; 10_000]).unwrap();
    let body = encoder.finish().unwrap();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(&body);
    check(&[Data(Orig, GET), Data(Resp, &answer)], &["GET h.example /a 200 0/10000 "]);
    let cut = answer.len() - 8; // gzip's checksum and length
    check(
        &[Data(Orig, GET), Data(Resp, &answer[..cut]), End(Resp)],
        &["GET h.example /a 200 0/10000 truncated,bad_coding"],
    );
}

#[test]
fn bomb_stops_at_the_limit() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let body = encoder.finish().unwrap();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(&body);
    let (mut connection, mut seen, mut config) = (Connection::new(), Seen::default(), Config::default());
    config.limits.body.decoded = 4 << 20;
    connection.data(Orig, GET, 1, &config, &mut seen);
    connection.data(Resp, &answer, 1, &config, &mut seen);
    assert_eq!(seen.0.len(), 1);
    assert!(seen.0[0].ends_with("over_limit"), "{}", seen.0[0]);
}

#[test]
fn gap_in_a_body_is_jumped_and_the_next_transaction_survives() {
    let start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789";
    check(
        &[
            Data(Orig, GET),
            Data(Resp, start),
            Gap(Resp, 80),
            Data(Resp, b"0123456789"),
            Data(Orig, GET),
            Data(Resp, OK5),
        ],
        &["GET h.example /a 200 0/20 gap_in_body", "GET h.example /a 200 0/5 "],
    );
}

#[test]
fn gap_in_a_head_resynchronises_at_the_next() {
    check(
        &[Data(Orig, &GET[..10]), Gap(Orig, 50), Data(Orig, b"t of it\r\n\r\n"), Data(Orig, GET), Data(Resp, OK5)],
        &["GET h.example /a 200 0/5 gap_in_head"],
    );
}

#[test]
fn connect_and_upgrade_end_http() {
    let connect = b"CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n";
    check(
        &[Data(Orig, connect), Data(Resp, b"HTTP/1.1 200 Connection established\r\n\r\n"), Data(Orig, b"\x16\x03\x01")],
        &["CONNECT h.example:443 h.example:443 200 0/0 upgraded"],
    );
    let switch = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x05hello";
    check(&[Data(Orig, GET), Data(Resp, switch)], &["GET h.example /a 101 0/0 upgraded"]);
}

#[test]
fn either_side_alone_is_told() {
    check(&[Data(Orig, GET)], &["GET h.example /a - 0/0 no_response"]);
    check(&[Data(Resp, OK5)], &["- - - 200 0/5 no_request"]);
}

#[test]
fn the_client_may_be_the_responder() {
    check(&[Data(Resp, GET), Data(Orig, OK5)], &["GET h.example /a 200 0/5 "]);
}

#[test]
fn smuggling_shapes_are_flagged() {
    let both = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(&[Data(Orig, both), Data(Resp, OK5)], &["POST h /p 200 0/5 length_and_coding"]);
    let twice = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc";
    check(&[Data(Orig, twice), Data(Resp, OK5)], &["POST h /p 200 3/5 different_lengths"]);
    let negative = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n";
    check(&[Data(Orig, negative), Data(Resp, OK5)], &["POST h /p 200 0/5 bad_length"]);
}

#[test]
fn detection_by_content() {
    assert_eq!(looks_like_http(b"GET / HTTP/1.1\r\n"), Verdict::Yes);
    assert_eq!(looks_like_http(b"GE"), Verdict::NeedMore);
    assert_eq!(looks_like_http(b"HTTP/1.1 200"), Verdict::Yes);
    assert_eq!(looks_like_http(b"\x16\x03\x01\x00\x10"), Verdict::No);
    assert_eq!(looks_like_http(b"SSH-2.0-x\r\n"), Verdict::No);
    assert_eq!(looks_like_http(b"FOO /x HTTP/1.1\r\n"), Verdict::Yes);
}

proptest! {
    #[test]
    fn nothing_panics_and_cuts_do_not_matter(
        requests in proptest::collection::vec(any::<u8>(), 0..300),
        responses in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1_usize..20,
    ) {
        let mut asked = GET.to_vec();
        asked.extend_from_slice(&requests);
        let mut answered = OK5.to_vec();
        answered.extend_from_slice(&responses);
        let events = [Data(Orig, &asked), Data(Resp, &answered)];
        prop_assert_eq!(run(&events, usize::MAX), run(&events, piece));
    }

    #[test]
    fn mutated_heads_cut_anywhere(at in 0_usize..80, byte in any::<u8>(), piece in 1_usize..9) {
        let mut asked = b"POST /p?q=1 HTTP/1.1\r\nHost: h.example\r\nContent-Length: 4\r\n\r\nabcdGET /b HTTP/1.1\r\n\r\n".to_vec();
        let place = at.min(asked.len() - 1);
        asked[place] = byte;
        let events = [Data(Orig, &asked), Data(Resp, OK5), Data(Resp, OK5)];
        prop_assert_eq!(run(&events, usize::MAX), run(&events, piece));
    }
}

#[test]
fn a_response_that_was_never_chunked_is_read_as_it_is() {
    let plain = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\nhello";
    check(
        &[Data(Orig, GET), Data(Resp, plain), Data(Orig, GET), Data(Resp, OK5)],
        &["GET h.example /a 200 0/5 length_and_coding,bad_chunk,odd_transfer_coding", "GET h.example /a 200 0/5 "],
    );
}

#[test]
fn chunk_lines_are_read_as_lenient_clients_do() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 0005 junk\r\nhello\r\n00\r\n\r\n";
    check(&[Data(Orig, GET), Data(Resp, answer)], &["GET h.example /a 200 0/5 odd_chunk"]);
    let glued = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello1\r\n!\r\n0\r\n\r\n";
    check(&[Data(Orig, GET), Data(Resp, glued)], &["GET h.example /a 200 0/6 bad_chunk"]);
    let mut long = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;".to_vec();
    long.extend(vec![b'x'; 10_000]);
    long.extend_from_slice(b"\r\nhello\r\n0\r\n\r\n");
    check(&[Data(Orig, GET), Data(Resp, &long)], &["GET h.example /a 200 0/5 "]);
}

#[test]
fn trailers_that_frame_or_route_are_flagged() {
    let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    for (trailer, flag) in [("X: y", ""), ("Content-Length: 5", "bad_trailer"), ("no colon", "bad_trailer")] {
        let answer = format!("{start}{trailer}\r\n\r\n");
        let expected = format!("GET h.example /a 200 0/0 {flag}");
        check(&[Data(Orig, GET), Data(Resp, answer.as_bytes())], &[&expected]);
    }
}

#[test]
fn a_smuggled_request_after_a_bad_chunk_is_seen() {
    let asked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    check(&[Data(Orig, asked)], &["POST h / - 0/0 bad_chunk,no_response", "GET h /x - 0/0 no_response,pipelined"]);
}

#[test]
fn a_body_that_is_not_coded_as_declared_is_read_as_it_is() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 26\r\n\r\n{{\"plain\": \"as it is, really\"}}"
        );
        let answer = &answer.as_bytes()[..answer.len() - 3];
        check(&[Data(Orig, GET), Data(Resp, answer)], &["GET h.example /a 200 0/26 wrong_coding"]);
    }
}

#[test]
fn codings_are_told_apart_by_content_and_undone_in_order() {
    let zlib = |bytes: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let raw = |bytes: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let text = b"twelve bytes and some more of the same bytes";
    for (header, body) in [
        ("Content-Encoding: gzip", zlib(text)),
        ("Content-Encoding: deflate", gzip(text)),
        ("Content-Encoding: deflate", raw(text)),
        ("Content-Encoding: gzip\r\nContent-Encoding: gzip", gzip(&gzip(text))),
        ("Content-Encoding: deflate, gzip", gzip(&zlib(text))),
    ] {
        let mut answer = format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        check(&[Data(Orig, GET), Data(Resp, &answer)], &["GET h.example /a 200 0/44 "]);
    }
}

#[test]
fn a_reply_without_a_status_line_is_a_body() {
    let asked = b"GET /old\r\n";
    check(&[Data(Orig, asked), Data(Resp, b"<p>hello")], &["GET - /old - 0/8 version_09"]);
}

#[test]
fn a_server_that_answers_early_ends_the_request_line() {
    let answer = b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n";
    check(&[Data(Orig, b"GET /slow"), Data(Resp, answer)], &["GET - /slow 408 0/0 version_09,truncated"]);
}

#[test]
fn a_response_lost_in_a_hole_does_not_shift_the_others() {
    check(
        &[Data(Orig, GET), Gap(Resp, 500), Data(Orig, b"GET /b HTTP/1.1\r\nHost: h.example\r\n\r\n"), Data(Resp, OK5)],
        &["GET h.example /a - 0/0 gap_in_head,no_response", "GET h.example /b 200 0/5 gap_in_head"],
    );
}

#[test]
fn an_interim_response_with_a_body_is_the_answer() {
    let odd = b"HTTP/1.1 100 ok\r\nContent-Length: 4\r\n\r\nbody";
    check(&[Data(Orig, GET), Data(Resp, odd)], &["GET h.example /a 100 0/4 "]);
}

#[test]
fn what_only_lenient_servers_take_is_flagged() {
    for (asked, flags) in [
        ("GET /a HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n", "bad_header_name"),
        ("GET /a HTTP/1.1\r\nHost : h\r\n\r\n", "stray_space"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "repeated_length"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\x01b\r\n\r\n", "control"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", "bare_cr"),
        ("GET /a HTTP/1.1\r\nHost: h..x\r\n\r\n", "bad_host"),
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", "bad_target"),
        ("GET /%c0%af HTTP/1.1\r\nHost: h\r\n\r\n", "overlong_utf8"),
        ("POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "coding_before_1_1"),
        ("GET http://x/a HTTP/1.1\r\nHost: h\r\n\r\n", "ambiguous_host"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "ambiguous_host"),
    ] {
        let rows = run(&[Data(Orig, asked.as_bytes()), Data(Resp, OK5)], 1);
        assert_eq!(rows.len(), 1, "{asked:?}");
        assert!(rows[0].ends_with(&format!(" {flags}")), "{asked:?}: {}", rows[0]);
    }
}
