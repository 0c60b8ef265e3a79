//! Dialogues of every protocol, through detection, as the engine feeds them: rows, however the bytes are cut, lost or bent.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::io::Write as _;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch};
use bunker_proto::columns::MessageKind;
use bunker_proto::detect::ByContent;
use bunker_proto::engine::Messages;
use bunker_proto::http::Config;
use bunker_proto::parser::Wanted;
use bunker_wire::Direction::{Orig, Resp};
use bunker_wire::{Address, Direction, Endpoint, Flow, FlowSummary, Outcome, Sink as _};
use proptest::prelude::*;

/// One turn: who, and what; `Gap`: so many bytes are missing.
enum Turn {
    Says(Direction, Vec<u8>),
    Gap(Direction, u64),
}

fn c(text: &str) -> Turn {
    Turn::Says(Orig, text.as_bytes().to_vec())
}

fn s(text: &str) -> Turn {
    Turn::Says(Resp, text.as_bytes().to_vec())
}

struct Seen {
    batches: Vec<(MessageKind, RecordBatch)>,
    service: String,
    panics: u64,
    held: usize,
}

const KINDS: [MessageKind; 7] = [
    MessageKind::Mail,
    MessageKind::Tls,
    MessageKind::Dns,
    MessageKind::Ssh,
    MessageKind::Http,
    MessageKind::Ntp,
    MessageKind::Dhcp,
];

fn flow(protocol: u8, ports: (u16, u16)) -> Flow {
    let end = |last, port| Endpoint { address: Address::v4([192, 0, 2, last]), port };
    Flow { uid: 7, slot: 0, orig: end(1, ports.0), resp: end(2, ports.1), protocol, first_ts_ns: 5, maybe_outer: None }
}

/// Ports that promise nothing: detection has the bytes alone.
const ODD_PORTS: (u16, u16) = (40_001, 40_002);

fn played(turns: &[Turn], piece: usize, protocol: u8, ports: (u16, u16)) -> Seen {
    let flow = flow(protocol, ports);
    let config = Config { want_heads: true, want_bodies: true, want_hashes: true, ..Config::default() };
    let wanted = Wanted::of(&[KINDS.as_slice(), &[MessageKind::Flow]].concat());
    let mut messages = Messages::new(ByContent, wanted, config);
    messages.flow_opened(&flow);
    let mut held = 0;
    for turn in turns {
        match turn {
            Turn::Says(direction, bytes) if protocol == 6 => {
                for part in bytes.chunks(piece) {
                    messages.chunk(&flow, *direction, part, 9);
                    held = held.max(messages.live_bytes());
                }
            }
            Turn::Says(direction, bytes) => messages.datagram(&flow, *direction, bytes, bytes.len(), 9),
            Turn::Gap(direction, length) => messages.gap(&flow, *direction, *length, 9),
        }
    }
    let summary = FlowSummary { last_ts_ns: 9, ..FlowSummary::default() };
    messages.flow_closed(&flow, &summary, Outcome::Completed);
    let mut batches = Vec::new();
    for kind in KINDS {
        if let Some(batch) = messages.tables.finish(kind).unwrap() {
            batches.push((kind, batch));
        }
    }
    let flows = messages.tables.finish(MessageKind::Flow).unwrap().unwrap();
    let service = text(&flows, "service", 0);
    Seen { batches, service, panics: messages.counters.panics, held }
}

fn tcp(turns: &[Turn]) -> Seen {
    played(turns, usize::MAX, 6, ODD_PORTS)
}

/// A cell as text; empty: null.
fn text(batch: &RecordBatch, name: &str, row: usize) -> String {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    if column.is_null(row) {
        return String::new();
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return texts.value(row).to_owned();
    }
    if let Some(flags) = column.as_boolean_opt() {
        return flags.value(row).to_string();
    }
    if let Some(numbers) = column.as_primitive_opt::<arrow_array::types::UInt64Type>() {
        return numbers.value(row).to_string();
    }
    if let Some(numbers) = column.as_primitive_opt::<arrow_array::types::UInt16Type>() {
        return numbers.value(row).to_string();
    }
    if let Some(blob) = column.as_binary_opt::<i32>() {
        return String::from_utf8_lossy(blob.value(row)).into_owned();
    }
    let list = column.as_list::<i32>().value(row);
    let items = list.as_string::<i32>();
    (0..items.len()).map(|index| items.value(index)).collect::<Vec<_>>().join(",")
}

impl Seen {
    fn batch(&self, kind: MessageKind) -> &RecordBatch {
        &self.batches.iter().find(|(found, _)| *found == kind).expect("no row of this kind").1
    }

    /// One line a row with these columns.
    fn rows(&self, kind: MessageKind, columns: &[&str]) -> Vec<String> {
        let Some((_, batch)) = self.batches.iter().find(|(found, _)| *found == kind) else { return Vec::new() };
        (0..batch.num_rows())
            .map(|row| columns.iter().map(|name| text(batch, name, row)).collect::<Vec<_>>().join(" "))
            .collect()
    }
}

const MAIL: &str = "From: Alice <alice@sender.example>\r\nTo: bob@other.example, \"C, D\" <cd@other.example>\r\n\
    Subject: hello\r\nMessage-ID: <1@sender.example>\r\nReceived: from relay.example ([198.51.100.7])\r\n\tby mx\r\n\
    X-Mailer: Pen 1\r\n\r\nfirst\r\n..dot\r\n";
const SECRET: &str = "b3BlbnNlc2FtZQ==";

fn smtp(pipelined: bool) -> Vec<Turn> {
    let mail = |n: u32| format!("MAIL FROM:<a{n}@sender.example> SIZE=9\r\nRCPT TO:<b{n}@other.example>\r\nDATA\r\n");
    let mut turns = vec![
        s("220-mx.example ESMTP\r\n220 go\r\n"),
        c("EHLO client.example\r\n"),
        s("250-mx.example\r\n250-PIPELINING\r\n250 AUTH LOGIN\r\n"),
        c("AUTH LOGIN\r\n"),
        s("334 VXNlcm5hbWU6\r\n"),
        c(&format!("{SECRET}\r\n")),
        s("334 UGFzc3dvcmQ6\r\n"),
        c(&format!("{SECRET}\r\n")),
        s("235 ok\r\n"),
    ];
    turns.extend([c(&mail(1)), s("250 ok\r\n250 ok\r\n354 go\r\n")]);
    if pipelined {
        turns.extend([c(&format!("{MAIL}.\r\n{}", mail(2))), s("250 queued as 1\r\n250 ok\r\n250 ok\r\n354 go\r\n")]);
    } else {
        turns.extend([c(&format!("{MAIL}.\r\n")), s("250 queued as 1\r\n"), c(&mail(2))]);
        turns.push(s("250 ok\r\n250 ok\r\n354 go\r\n"));
    }
    turns.extend([c("Subject: two\r\n\r\nx\r\n.\r\nQUIT\r\n"), s("250 queued as 2\r\n221 bye\r\n")]);
    turns
}

fn pop3() -> Vec<Turn> {
    vec![
        s("+OK ready\r\n"),
        c("USER alice\r\n"),
        s("+OK\r\n"),
        c(&format!("PASS {SECRET}\r\n")),
        s("+OK 1 message\r\n"),
        c("LIST\r\nUIDL 1\r\n"),
        s("+OK\r\n1 100\r\n.\r\n+OK 1 x\r\n"),
        c("TOP 1 0\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\n"),
        s(&format!("+OK\r\nSubject: hello\r\n\r\n.\r\n+OK 200 octets\r\n{MAIL}.\r\n+OK\r\n-ERR no such\r\n")),
        c("QUIT\r\n"),
        s("+OK\r\n"),
    ]
}

fn imap() -> Vec<Turn> {
    let mail = MAIL.replace("..dot", ".dot");
    let (front, back) = mail.split_at(40);
    vec![
        s("* OK ready\r\n"),
        c("a1 LOGIN {5}\r\n"),
        s("+ go\r\n"),
        c(&format!("alice {{{}}}\r\n", SECRET.len())),
        s("+ go\r\n"),
        c(&format!("{SECRET}\r\n")),
        s("a1 OK in\r\n"),
        c("a2 FETCH 1 (FLAGS BODY.PEEK[])\r\n"),
        s(&format!("* 1 FETCH (FLAGS () BODY[] {{{}}}\r\n{mail} UID 4)\r\na2 OK done\r\n", mail.len())),
        c("a3 FETCH 2 (BODY[]<0.40>)\r\n"),
        s(&format!("* 2 FETCH (BODY[]<0> {{40}}\r\n{front})\r\na3 OK\r\n")),
        c("a4 FETCH 2 (BODY[]<40.9999>)\r\n"),
        s(&format!("* 2 FETCH (BODY[]<40> {{{}}}\r\n{back})\r\na4 OK\r\n", back.len())),
        c("a5 FETCH 3 (BODY[HEADER] BODY[TEXT])\r\n"),
        s(
            "* 3 FETCH (BODY[HEADER] {16}\r\nSubject: three\r\n BODY[TEXT] {4}\r\nbody)\r\n* 4 FETCH (BODY[1] {3}\r\nabc)\r\na5 OK\r\n",
        ),
        c(&format!("a6 APPEND Drafts (\\Seen) {{{}+}}\r\n{mail}\r\n", mail.len())),
        s("a6 OK\r\n"),
        c("a7 APPEND Drafts {9}\r\n"),
        s("a7 NO full\r\n"),
        c("a8 LOGOUT\r\n"),
        s("* BYE\r\na8 OK\r\n"),
    ]
}

fn deflated(text: &str) -> Vec<u8> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(text.as_bytes()).unwrap();
    out.flush().unwrap();
    out.get_ref().clone()
}

fn imap_compressed() -> Vec<Turn> {
    let mail = MAIL.replace("..dot", ".dot");
    vec![
        s("* OK ready\r\n"),
        c("a COMPRESS DEFLATE\r\n"),
        s("a OK\r\n"),
        Turn::Says(Orig, deflated("b FETCH 1 BODY[]\r\n")),
        Turn::Says(Resp, deflated(&format!("* 1 FETCH (BODY[] {{{}}}\r\n{mail})\r\nb OK\r\n", mail.len()))),
    ]
}

fn ssh() -> Vec<Turn> {
    let offer = |lists: [&str; 10]| {
        let mut payload = vec![20u8];
        payload.extend_from_slice(&[1; 16]);
        for list in lists {
            payload.extend_from_slice(&(list.len() as u32).to_be_bytes());
            payload.extend_from_slice(list.as_bytes());
        }
        payload.extend_from_slice(&[0; 5]);
        [(payload.len() as u32 + 5).to_be_bytes().to_vec(), vec![4], payload, vec![0; 4]].concat()
    };
    let both = ["curve25519-sha256", "ssh-ed25519", "aes128-ctr", "aes128-ctr", "m", "m", "none", "none", "", ""];
    vec![
        s("SSH-2.0-server_1\r\n"),
        c("SSH-2.0-client_1\r\n"),
        Turn::Says(Orig, offer(both)),
        Turn::Says(Resp, offer(both)),
        Turn::Says(Orig, vec![0xAA; 300]),
    ]
}

fn tls_hello(name: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes().to_vec();
    let host = [vec![0], length(name.as_bytes()), name.as_bytes().to_vec()].concat();
    let list = [length(&host), host].concat();
    let extensions = [vec![0, 0], length(&list), list].concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[5; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xC0, 0x2F, 1, 0]);
    body.extend_from_slice(&length(&extensions));
    body.extend_from_slice(&extensions);
    let message = [vec![1, 0], length(&body), body].concat();
    [vec![22, 3, 1], length(&message), message].concat()
}

fn tls() -> Vec<Turn> {
    let mut hello = vec![2, 0, 0, 38, 3, 3];
    hello.extend_from_slice(&[6; 32]);
    hello.extend_from_slice(&[0, 0xC0, 0x2F, 0]);
    let answer = [vec![22, 3, 3, 0, hello.len() as u8], hello, vec![21, 3, 3, 0, 2, 2, 40]].concat();
    vec![Turn::Says(Orig, tls_hello("site.example")), Turn::Says(Resp, answer)]
}

fn dns_tcp() -> Vec<Turn> {
    let question = b"\x01a\x07example\x00\x00\x01\x00\x01";
    let message = |id: u8, flags: u8, answer: bool| {
        let mut bytes = vec![0, id, flags, 0, 0, 1, 0, u8::from(answer), 0, 0, 0, 0];
        bytes.extend_from_slice(question);
        if answer {
            bytes.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x09");
        }
        [(bytes.len() as u16).to_be_bytes().to_vec(), bytes].concat()
    };
    vec![
        Turn::Says(Orig, [message(1, 1, false), message(2, 1, false)].concat()),
        Turn::Says(Resp, [message(2, 0x81, true), message(1, 0x81, true)].concat()),
    ]
}

fn all() -> Vec<(&'static str, Vec<Turn>)> {
    vec![
        ("smtp", smtp(false)),
        ("smtp", smtp(true)),
        ("pop3", pop3()),
        ("imap", imap()),
        ("imap", imap_compressed()),
        ("ssh", ssh()),
        ("ssl", tls()),
        ("dns", dns_tcp()),
    ]
}

#[test]
fn every_protocol_is_found_by_its_bytes_on_either_side_and_cut_anywhere() {
    for (service, turns) in all() {
        let whole = tcp(&turns);
        assert_eq!(whole.service, service);
        assert!(!whole.batches.is_empty());
        for piece in [1, 2, 3, 7, 64, 1000] {
            let cut = played(&turns, piece, 6, ODD_PORTS);
            assert_eq!(cut.service, service, "{piece}");
            assert!(cut.batches == whole.batches, "{service} in pieces of {piece}");
        }
        // Who took up the flow, and on which port, does not matter.
        let flipped: Vec<Turn> = turns
            .into_iter()
            .map(|turn| match turn {
                Turn::Says(direction, bytes) => Turn::Says(direction.other(), bytes),
                Turn::Gap(direction, length) => Turn::Gap(direction.other(), length),
            })
            .collect();
        for ports in [ODD_PORTS, (53, 443), (25, 80)] {
            let seen = played(&flipped, usize::MAX, 6, ports);
            assert_eq!(seen.service, service, "{ports:?}");
            for ((kind, one), (_, other)) in whole.batches.iter().zip(&seen.batches) {
                assert_eq!(one.num_rows(), other.num_rows(), "{kind:?}");
            }
        }
    }
}

#[test]
fn smtp_gives_one_row_a_message_with_its_own_reply() {
    for pipelined in [false, true] {
        let seen = tcp(&smtp(pipelined));
        let columns =
            ["trans_depth", "helo", "mailfrom", "rcptto", "subject", "last_reply", "reply_code", "auth", "command"];
        assert_eq!(
            seen.rows(MessageKind::Mail, &columns),
            [
                "1 client.example a1@sender.example b1@other.example hello 250 queued as 1 250 LOGIN DATA",
                "2 client.example a2@sender.example b2@other.example two 250 queued as 2 250 LOGIN DATA",
            ]
        );
        let batch = seen.batch(MessageKind::Mail);
        assert_eq!(text(batch, "to", 0), "bob@other.example,\"C, D\" <cd@other.example>");
        assert_eq!(text(batch, "from_addr", 0), "alice@sender.example");
        assert_eq!(text(batch, "body", 0), MAIL.replace("..dot", ".dot"));
        assert_eq!(text(batch, "size", 0), (MAIL.len() - 1).to_string());
        assert_eq!(batch.column_by_name("path").unwrap().as_list::<i32>().value(0).len(), 3);
    }
}

#[test]
fn bdat_chunks_are_one_message_and_a_dot_ends_nothing() {
    let seen = tcp(&[
        s("220 mx ESMTP\r\n"),
        c(
            "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 12\r\nSubject: s\r\nBDAT 7 LAST\r\n\r\n\r\n.\r\n",
        ),
        s("250 hi\r\n250 ok\r\n250 ok\r\n250 12 more\r\n250 done\r\n"),
        c("BDAT 0 LAST\r\nQUIT\r\n"),
        s("503 no\r\n221 bye\r\n"),
    ]);
    let rows = seen.rows(MessageKind::Mail, &["command", "size", "subject", "last_reply"]);
    assert_eq!(rows[0], "BDAT 19 s 250 done");
}

#[test]
fn starttls_hands_the_stream_to_tls() {
    let tail = tls();
    let mut turns = vec![s("220 mx ESMTP\r\n"), c("EHLO x\r\n"), s("250 ok\r\n"), c("STARTTLS\r\n"), s("220 go\r\n")];
    turns.extend(tail);
    let seen = tcp(&turns);
    assert_eq!(seen.service, "smtp,ssl");
    assert_eq!(seen.rows(MessageKind::Mail, &["command", "tls", "last_reply"]), ["STARTTLS true 220 go"]);
    assert_eq!(seen.rows(MessageKind::Tls, &["server_name", "last_alert"]), ["site.example handshake_failure"]);

    for (start, ask, answer) in
        [("+OK hi\r\n", "CAPA\r\nSTLS\r\n", "+OK\r\n.\r\n+OK go\r\n"), ("* OK hi\r\n", "a STARTTLS\r\n", "a OK go\r\n")]
    {
        let mut turns = vec![s(start), c(ask), s(answer)];
        turns.extend(tls());
        let seen = tcp(&turns);
        assert!(seen.service.ends_with(",ssl"), "{}", seen.service);
        assert_eq!(seen.rows(MessageKind::Tls, &["server_name"]), ["site.example"]);
    }
}

#[test]
fn rejected_data_leaves_commands_to_be_commands() {
    let seen = tcp(&[
        s("220 mx ESMTP\r\n"),
        c("EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"),
        s("250 hi\r\n250 ok\r\n550 nobody\r\n554 no\r\n"),
        c("RSET\r\nMAIL FROM:<e@f.example>\r\n"),
        s("250 ok\r\n250 ok\r\n"),
    ]);
    assert_eq!(
        seen.rows(MessageKind::Mail, &["mailfrom", "command", "size"]),
        ["a@b.example DATA 0", "e@f.example MAIL 0"]
    );
}

#[test]
fn pop3_gives_messages_and_marks_parts() {
    let seen = tcp(&pop3());
    assert_eq!(
        seen.rows(MessageKind::Mail, &["command", "partial", "subject", "auth"]),
        ["TOP true hello USER", "RETR false hello USER"]
    );
    assert_eq!(text(seen.batch(MessageKind::Mail), "body", 1), MAIL.replace("..dot", ".dot"));
}

#[test]
fn imap_gives_messages_joins_pieces_and_keeps_uploads_apart() {
    let seen = tcp(&imap());
    assert_eq!(
        seen.rows(MessageKind::Mail, &["command", "partial", "subject", "auth"]),
        [
            "FETCH false hello LOGIN",
            "FETCH false hello LOGIN",
            "FETCH false three LOGIN",
            "FETCH true  LOGIN",
            "APPEND false hello LOGIN",
        ]
    );
    let batch = seen.batch(MessageKind::Mail);
    for row in [0, 1, 4] {
        assert_eq!(text(batch, "body", row), MAIL.replace("..dot", ".dot"));
    }
    let inflated = tcp(&imap_compressed());
    assert_eq!(text(inflated.batch(MessageKind::Mail), "body", 0), MAIL.replace("..dot", ".dot"));
}

#[test]
fn compression_that_unfolds_beyond_the_limit_is_not_followed() {
    let bomb = format!("* 1 FETCH (BODY[] {{99999999}}\r\n{}", "x".repeat(40 << 20));
    let mut turns = imap_compressed();
    turns.truncate(4);
    turns.push(Turn::Says(Resp, deflated(&bomb)));
    let seen = tcp(&turns);
    let size: u64 = text(seen.batch(MessageKind::Mail), "size", 0).parse().unwrap();
    let flags: u64 = text(seen.batch(MessageKind::Mail), "flags", 0).parse().unwrap();
    assert!(size < 2 << 20, "{size}");
    assert_ne!(flags & bunker_proto::mail::flags::OVER_LIMIT, 0);
    assert!(seen.held < 8 << 20, "{}", seen.held);
}

#[test]
fn one_side_alone_tells_what_it_can() {
    for (service, turns) in all() {
        for side in [Orig, Resp] {
            let alone: Vec<Turn> = turns
                .iter()
                .filter_map(|turn| match turn {
                    Turn::Says(direction, bytes) if *direction == side => Some(Turn::Says(side, bytes.clone())),
                    _ => None,
                })
                .collect();
            let seen = tcp(&alone);
            assert_eq!(seen.panics, 0);
            if service == "smtp" && side == Orig {
                assert_eq!(seen.rows(MessageKind::Mail, &["mailfrom", "subject"]).len(), 2);
            }
        }
    }
}

#[test]
fn a_gap_costs_its_message_and_the_next_one_is_whole() {
    let seen = tcp(&[
        s("220 mx ESMTP\r\n"),
        c("EHLO x\r\n"),
        s("250 hi\r\n"),
        c("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"),
        s("250 ok\r\n250 ok\r\n354 go\r\n"),
        c("Subject: one\r\n\r\nbody "),
        Turn::Gap(Orig, 500),
        c(" rest\r\n.\r\n"),
        s("250 queued\r\n"),
        c("MAIL FROM:<e@f.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"),
        s("250 ok\r\n250 ok\r\n354 go\r\n"),
        c("Subject: two\r\n\r\nx\r\n.\r\n"),
        s("250 queued\r\n"),
    ]);
    assert_eq!(seen.rows(MessageKind::Mail, &["subject", "gap", "size"]), ["one true 528", "two false 19"]);
}

#[test]
fn gaps_cuts_and_bent_bits_anywhere_do_not_panic() {
    for (_, turns) in all() {
        for at in 0..turns.len() {
            for side in [Orig, Resp] {
                for length in [1, 100, u64::MAX] {
                    let mut broken: Vec<Turn> = Vec::new();
                    for (index, turn) in turns.iter().enumerate() {
                        if index == at {
                            broken.push(Turn::Gap(side, length));
                        }
                        if let Turn::Says(direction, bytes) = turn {
                            broken.push(Turn::Says(*direction, bytes.clone()));
                        }
                    }
                    assert_eq!(tcp(&broken).panics, 0);
                }
            }
        }
        let total: usize = turns.iter().map(|turn| if let Turn::Says(_, bytes) = turn { bytes.len() } else { 0 }).sum();
        for at in (0..total * 8).step_by(13) {
            let mut place = at / 8;
            let bent: Vec<Turn> = turns
                .iter()
                .filter_map(|turn| {
                    let Turn::Says(direction, bytes) = turn else { return None };
                    let mut bytes = bytes.clone();
                    if place < bytes.len() {
                        bytes[place] ^= 1 << (at % 8);
                        place = usize::MAX;
                    } else if place != usize::MAX {
                        place -= bytes.len();
                    }
                    Some(Turn::Says(*direction, bytes))
                })
                .collect();
            assert_eq!(tcp(&bent).panics, 0);
        }
        for cut in (0..total).step_by(7) {
            let mut left = cut;
            let short: Vec<Turn> = turns
                .iter()
                .filter_map(|turn| {
                    let Turn::Says(direction, bytes) = turn else { return None };
                    let count = left.min(bytes.len());
                    left -= count;
                    Some(Turn::Says(*direction, bytes[..count].to_vec()))
                })
                .collect();
            assert_eq!(tcp(&short).panics, 0);
        }
    }
}

/// What is done to one turn: bytes changed, removed, doubled, put in.
fn mutated(turns: &[Turn], changes: &[(usize, usize, u8, u8)]) -> Vec<Turn> {
    let mut out: Vec<Turn> = turns
        .iter()
        .map(|turn| match turn {
            Turn::Says(direction, bytes) => Turn::Says(*direction, bytes.clone()),
            Turn::Gap(direction, length) => Turn::Gap(*direction, *length),
        })
        .collect();
    for (turn, at, act, byte) in changes {
        let index = turn % out.len();
        match &mut out[index] {
            Turn::Says(direction, bytes) if !bytes.is_empty() => {
                let at = at % bytes.len();
                match act % 8 {
                    0 | 1 => bytes[at] = *byte,
                    2 => bytes[at] ^= 1 << (byte % 8),
                    3 => drop(bytes.drain(at..(at + usize::from(*byte)).min(bytes.len()))),
                    4 => {
                        let copy = bytes[at..(at + usize::from(*byte)).min(bytes.len())].to_vec();
                        bytes.splice(at..at, copy);
                    }
                    5 => drop(bytes.splice(at..at, b"\r\n".iter().copied())),
                    6 => *direction = direction.other(),
                    _ => {
                        let rest = bytes.split_off(at);
                        let (side, length) = (*direction, u64::from(*byte) + 1);
                        out.insert(index + 1, Turn::Gap(side, length));
                        out.insert(index + 2, Turn::Says(side, rest));
                    }
                }
            }
            _ => {}
        }
    }
    out
}

proptest! {
    #[test]
    fn mutated_dialogues_give_the_same_rows_however_they_are_cut(
        number in any::<usize>(),
        changes in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<u8>(), any::<u8>()), 1..6),
        piece in 1usize..50,
    ) {
        let all = all();
        let (_, turns) = &all[number % all.len()];
        let turns = mutated(turns, &changes);
        let (whole, cut) = (tcp(&turns), played(&turns, piece, 6, ODD_PORTS));
        prop_assert_eq!(whole.panics + cut.panics, 0);
        prop_assert_eq!(&whole.service, &cut.service);
        let kinds = |seen: &Seen| seen.batches.iter().map(|(kind, batch)| (*kind, batch.num_rows())).collect::<Vec<_>>();
        prop_assert_eq!(kinds(&whole), kinds(&cut));
        prop_assert!(whole.batches == cut.batches);
        prop_assert!(whole.held < 1 << 20 && cut.held < 1 << 20);
    }
}

#[test]
fn what_authenticates_is_in_no_column() {
    for (service, turns) in all() {
        let seen = tcp(&turns);
        for (kind, batch) in &seen.batches {
            for field in batch.schema().fields() {
                for row in 0..batch.num_rows() {
                    if matches!(field.data_type(), arrow_schema::DataType::Utf8 | arrow_schema::DataType::Binary) {
                        let cell = text(batch, field.name(), row);
                        assert!(!cell.contains(SECRET) && !cell.contains("opensesame"), "{service} {kind:?} {field}");
                    }
                }
            }
        }
    }
}

#[test]
fn ssh_tells_what_both_would_choose() {
    let seen = tcp(&ssh());
    let columns = ["version", "client", "server", "kex_alg", "host_key_alg", "cipher_alg", "flags"];
    assert_eq!(
        seen.rows(MessageKind::Ssh, &columns),
        ["2 SSH-2.0-client_1 SSH-2.0-server_1 curve25519-sha256 ssh-ed25519 aes128-ctr 0"]
    );
    assert!(!text(seen.batch(MessageKind::Ssh), "hassh", 0).is_empty());
}

#[test]
fn ftp_is_not_taken_for_mail() {
    let seen = tcp(&[s("220 files.example\r\n"), c("USER x\r\n"), s("331 pass\r\n"), c("PASS y\r\n"), s("230 in\r\n")]);
    assert_eq!((seen.service.as_str(), seen.batches.len()), ("", 0));
}

#[test]
fn ntp_and_dhcp_are_found_off_their_ports() {
    let mut ntp = vec![0x23, 0, 6, 0xE9];
    ntp.extend_from_slice(&[0; 36]);
    ntp.extend_from_slice(&[0xE0, 0, 0, 1, 0, 0, 0, 0]);
    let mut answer = ntp.clone();
    answer[0] = 0x24;
    answer[1] = 2;
    answer[12..16].copy_from_slice(&[192, 0, 2, 99]);
    let turns = [Turn::Says(Orig, ntp), Turn::Says(Resp, answer)];
    for ports in [(123, 123), ODD_PORTS] {
        let seen = played(&turns, usize::MAX, 17, ports);
        assert_eq!(seen.service, "ntp");
        assert_eq!(
            seen.rows(MessageKind::Ntp, &["version", "mode", "stratum", "ref_id", "is_orig"]),
            ["4 3 0  true", "4 4 2 192.0.2.99 false"]
        );
    }
    let mut dhcp = vec![1, 1, 6, 0, 9, 9, 9, 9];
    dhcp.resize(236, 0);
    dhcp[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    dhcp.extend_from_slice(b"\x63\x82\x53\x63\x35\x01\x01\x0c\x04host\x37\x03\x01\x03\x06\xff");
    let seen = played(&[Turn::Says(Orig, dhcp)], usize::MAX, 17, ODD_PORTS);
    assert_eq!(seen.service, "dhcp");
    assert_eq!(seen.rows(MessageKind::Dhcp, &["msg_type", "host_name", "params"]), ["DISCOVER host 1,3,6"]);
}

/// A DNS message: identifier, flag bits, sections as numbers of records, the bytes behind the header.
fn dns(id: u16, bits: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = [id, bits, counts[0], counts[1], counts[2], counts[3]]
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect::<Vec<_>>();
    bytes.extend_from_slice(rest);
    bytes
}

const QUESTION: &[u8] = b"\x01a\x07example\x00\x00\x01\x00\x01";

fn udp_dns(messages: Vec<(Direction, Vec<u8>)>, ports: (u16, u16)) -> Seen {
    let turns: Vec<Turn> = messages.into_iter().map(|(direction, bytes)| Turn::Says(direction, bytes)).collect();
    played(&turns, usize::MAX, 17, ports)
}

#[test]
fn dns_is_found_off_its_port_and_its_kin_on_theirs() {
    let edns = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";
    let query = dns(9, 0x0100, [1, 0, 0, 1], &[QUESTION, edns].concat());
    let reply =
        dns(9, 0x8180, [1, 1, 0, 0], &[QUESTION, b"\xc0\x0c\x00\x01\x00\x01\0\0\0\x3c\x00\x04\xc0\0\x02\x09"].concat());
    let columns = ["query", "qtype_name", "answers", "edns_size", "edns_do", "opcode_name", "flags"];
    for ports in [ODD_PORTS, (40_000, 53), (40_000, 5355)] {
        let seen = udp_dns(vec![(Orig, query.clone()), (Resp, reply.clone())], ports);
        assert_eq!(seen.service, "dns");
        assert_eq!(seen.rows(MessageKind::Dns, &columns), ["a.example A 192.0.2.9 1232 true query 0"]);
    }
    // mDNS: question and reply of identifier 0, both sent to the group; an update; a notify.
    let ask = dns(0, 0, [1, 0, 0, 0], QUESTION);
    let tell = dns(0, 0x8400, [0, 1, 0, 0], b"\x01a\x07example\x00\x00\x01\x80\x01\0\0\0\x3c\x00\x04\xc0\0\x02\x09");
    let seen = udp_dns(vec![(Orig, ask), (Orig, tell)], (5353, 5353));
    assert_eq!(seen.rows(MessageKind::Dns, &["query", "answers", "rcode_name"]), ["a.example 192.0.2.9 NOERROR"]);
    for (opcode, word) in [(4u16, "notify"), (5, "dynamic-update")] {
        let seen = udp_dns(vec![(Orig, dns(3, opcode << 11, [1, 0, 0, 0], QUESTION))], (40_000, 53));
        assert_eq!(seen.rows(MessageKind::Dns, &["query", "opcode_name"]), [format!("a.example {word}")]);
    }
}

#[test]
fn dns_that_unfolds_loops_or_never_ends_stays_within_its_limits() {
    use bunker_proto::dns::message::{QUESTIONS, RECORDS, TEXT_BYTES};
    use bunker_proto::dns::{Anomaly, PENDING};
    let flags = |seen: &Seen| text(seen.batch(MessageKind::Dns), "flags", 0).parse::<u64>().unwrap();
    // A name of 250 bytes behind every record's pointer: 16 KB on the wire would be 250 KB of text.
    let long: Vec<u8> = [vec![[vec![49u8], vec![b'x'; 49]].concat(); 5].concat(), vec![0]].concat();
    let question = [long.as_slice(), &[0, 1, 0, 1]].concat();
    let record = b"\xc0\x0c\x00\x05\x00\x01\0\0\0\x01\x00\x02\xc0\x0c";
    for (count, many) in [
        (TEXT_BYTES / 249, false),
        (TEXT_BYTES / 249 + 1, true),
        (RECORDS as usize, true),
        (RECORDS as usize + 1, true),
    ] {
        let message = dns(1, 0x8180, [1, count as u16, 0, 0], &[question.clone(), record.repeat(count)].concat());
        let seen = udp_dns(vec![(Resp, message)], (40_000, 53));
        assert_eq!(flags(&seen) & Anomaly::MANY != 0, many, "{count}");
        assert!(text(seen.batch(MessageKind::Dns), "answers", 0).len() <= TEXT_BYTES + count);
        assert!(seen.held < 1 << 20);
    }
    let looped = dns(1, 0x0100, [1, 0, 0, 0], b"\x01a\xc0\x0c\x00\x01\x00\x01");
    assert_ne!(flags(&udp_dns(vec![(Orig, looped)], (40_000, 53))) & Anomaly::LONG_NAME, 0);
    for (count, many) in [(QUESTIONS, false), (QUESTIONS + 1, true)] {
        let message = dns(1, 0x0100, [count, 0, 0, 0], &QUESTION.repeat(usize::from(count)));
        assert_eq!(flags(&udp_dns(vec![(Orig, message)], (40_000, 53))) & Anomaly::MANY != 0, many);
    }
    // Queries that nobody answers: the oldest is written when one more than fits comes.
    for (count, early) in [(PENDING, 0), (PENDING + 1, 1), (PENDING + 7, 7)] {
        let flow = flow(17, (40_000, 53));
        let mut messages = Messages::new(ByContent, Wanted::of(&[MessageKind::Dns]), Config::default());
        messages.flow_opened(&flow);
        for id in 0..count {
            let bytes = dns(id as u16, 0x0100, [1, 0, 0, 0], QUESTION);
            messages.datagram(&flow, Orig, &bytes, bytes.len(), 9);
        }
        assert_eq!(messages.tables.rows_of(MessageKind::Dns), early);
    }
}

#[test]
fn bent_and_cut_datagrams_do_not_panic() {
    let whole = dns(
        9,
        0x8180,
        [1, 1, 0, 1],
        &[QUESTION, b"\xc0\x0c\x00\x10\x00\x01\0\0\0\x3c\x00\x04\x03abc", b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"].concat(),
    );
    for end in 0..=whole.len() {
        assert_eq!(udp_dns(vec![(Orig, whole[..end].to_vec())], (40_000, 53)).panics, 0);
    }
    for bit in 0..whole.len() * 8 {
        let mut bent = whole.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(udp_dns(vec![(Orig, bent)], (40_000, 53)).panics, 0);
    }
}

#[test]
fn random_datagrams_are_nothing() {
    let mut state = 1u64;
    for length in (0..300).step_by(3) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let seen = played(&[Turn::Says(Orig, bytes)], usize::MAX, 17, ODD_PORTS);
        assert_eq!((seen.service.as_str(), seen.batches.len(), seen.panics), ("", 0, 0));
    }
}

/// A mail dialogue from the client's side, fed as far as `turns` go: rows so far, and bytes held.
fn fed(service: u8, kind: MessageKind, turns: &[Turn]) -> (usize, usize, u64) {
    let flow = flow(service, ODD_PORTS);
    let mut messages = Messages::new(ByContent, Wanted::of(&[kind]), Config::default());
    messages.flow_opened(&flow);
    for turn in turns {
        match turn {
            Turn::Says(direction, bytes) if service == 6 => messages.chunk(&flow, *direction, bytes, 9),
            Turn::Says(direction, bytes) => messages.datagram(&flow, *direction, bytes, bytes.len(), 9),
            Turn::Gap(direction, length) => messages.gap(&flow, *direction, *length, 9),
        }
    }
    (messages.tables.rows_of(kind), messages.live_bytes(), messages.counters.unrecognised)
}

#[test]
fn recipients_are_kept_up_to_their_limit() {
    use bunker_proto::mail::{RECIPIENTS, flags};
    for (count, kept, many) in
        [(RECIPIENTS - 1, RECIPIENTS - 1, false), (RECIPIENTS, RECIPIENTS, false), (RECIPIENTS + 1, RECIPIENTS, true)]
    {
        let rcpt: String = (0..count).map(|number| format!("RCPT TO:<r{number}@x.example>\r\n")).collect();
        let to = format!("To: a@x.example{}\r\n", ", b@x.example".repeat(count - 1));
        let seen = tcp(&[
            s("220 mx ESMTP\r\n"),
            c(&format!("EHLO c\r\nMAIL FROM:<a@x.example>\r\n{rcpt}DATA\r\n")),
            s(&format!("250 ok\r\n250 ok\r\n{}354 go\r\n", "250 ok\r\n".repeat(count))),
            c(&format!("{to}\r\nx\r\n.\r\n")),
            s("250 done\r\n"),
        ]);
        let batch = seen.batch(MessageKind::Mail);
        assert_eq!(text(batch, "rcptto", 0).split(',').count(), kept, "{count} in the envelope");
        assert_eq!(text(batch, "flags", 0).parse::<u64>().unwrap() & flags::MANY_RECIPIENTS != 0, many, "{count}");
        assert!(text(batch, "to", 0).split(',').count() <= RECIPIENTS, "{count} in the header");
    }
}

#[test]
fn commands_without_an_answer_are_remembered_up_to_their_limit() {
    // The first command asks for TLS. Its answer is understood as long as the command is remembered.
    for (before, ask, other, answer) in [
        ("220 mx ESMTP\r\n", "STARTTLS\r\n", "NOOP\r\n", "220 go\r\n"),
        ("+OK hi\r\n", "STLS\r\n", "NOOP\r\n", "+OK go\r\n"),
    ] {
        let with = |count: usize| {
            let mut turns = vec![s(before), c(&format!("{ask}{}", other.repeat(count))), s(answer)];
            turns.extend(tls());
            tcp(&turns)
        };
        use bunker_proto::mail::PENDING;
        assert!(with(PENDING - 1).service.ends_with(",ssl"), "{ask}");
        assert!(!with(PENDING).service.ends_with(",ssl"), "{ask}");
        assert!(with(PENDING * 8).held <= with(PENDING * 2).held, "{ask}");
    }
}

#[test]
fn tagged_commands_are_remembered_up_to_their_limit() {
    use bunker_proto::mail::imap::TAGS;
    for (count, understood) in [(TAGS - 1, true), (TAGS, true), (TAGS + 1, false)] {
        let asked: String = (0..count).map(|number| format!("t{number} COMPRESS DEFLATE\r\n")).collect();
        let mail = MAIL.replace("..dot", ".dot");
        let fetched = format!("* 1 FETCH (BODY[] {{{}}}\r\n{mail})\r\nb OK\r\n", mail.len());
        let seen = tcp(&[
            s("* OK ready\r\n"),
            c(&asked),
            s("t0 OK\r\n"),
            Turn::Says(Orig, deflated("b FETCH 1 BODY[]\r\n")),
            Turn::Says(Resp, deflated(&fetched)),
        ]);
        assert_eq!(!seen.rows(MessageKind::Mail, &["size"]).is_empty(), understood, "{count}");
    }
}

#[test]
fn messages_wait_for_their_reply_up_to_a_limit() {
    use bunker_proto::mail::smtp::WAITING;
    for (count, written) in [(WAITING - 1, 0), (WAITING, 0), (WAITING + 1, 1), (WAITING + 3, 3)] {
        let mail = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nBDAT 3 LAST\r\nx\r\n";
        let turns = [s("220 mx ESMTP\r\n"), c(&format!("EHLO c\r\n{}", mail.repeat(count)))];
        assert_eq!(fed(6, MessageKind::Mail, &turns).0, written, "{count}");
    }
}

#[test]
fn compression_is_followed_up_to_its_ratio() {
    use bunker_proto::mail::{flags, imap::INFLATE_RATIO};
    // Blocks that repeat, with some bytes that do not: as good a compression as wanted.
    let body = |noise: usize| {
        let mut state = 1_u32;
        let mut text = String::new();
        while text.len() < 3 << 20 {
            for _ in 0..noise {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text.push(char::from(b'a' + (state >> 24) as u8 % 26));
            }
            text.push_str(&"x".repeat(4_096));
        }
        text
    };
    for (noise, over) in [(60, false), (0, true)] {
        let fetched = format!("* 1 FETCH (BODY[] {{99999999}}\r\n{}", body(noise));
        let coded = deflated(&fetched);
        let ratio = (fetched.len() / coded.len()) as u64;
        assert_eq!(ratio > INFLATE_RATIO, over, "{ratio}");
        let mut turns = imap_compressed();
        turns.truncate(4);
        turns.push(Turn::Says(Resp, coded));
        let seen = tcp(&turns);
        let told = text(seen.batch(MessageKind::Mail), "flags", 0).parse::<u64>().unwrap();
        assert_eq!(told & flags::OVER_LIMIT != 0, over, "{ratio}");
    }
}

#[test]
fn handshake_over_datagrams_ends_at_its_limit() {
    use bunker_proto::dtls;
    let mut body = vec![0xFE, 0xFD];
    body.extend_from_slice(&[9; 32]);
    body.extend_from_slice(&[0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
    let length = body.len() as u8;
    let message = [&[1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length][..], &body].concat();
    let hello = [&[22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, message.len() as u8][..], &message].concat();
    for (count, rows) in [(dtls::DATAGRAMS - 1, 0), (dtls::DATAGRAMS, 1), (dtls::DATAGRAMS + 1, 1)] {
        let turns: Vec<Turn> = (0..count).map(|_| Turn::Says(Orig, hello.clone())).collect();
        assert_eq!(fed(17, MessageKind::Tls, &turns).0, rows, "{count}");
    }
}

#[test]
fn what_is_not_known_yet_waits_up_to_its_limit() {
    use bunker_proto::detect::DETECT_BYTES;
    // A greeting without an end may still become a mail dialogue.
    for (length, given_up) in [(DETECT_BYTES - 1, 0), (DETECT_BYTES, 0), (DETECT_BYTES + 1, 1)] {
        let greeting = format!("220 {}", "x".repeat(length - 4));
        let (_, held, unrecognised) = fed(6, MessageKind::Mail, &[s(&greeting)]);
        assert_eq!(unrecognised, given_up, "{length}");
        assert_eq!(held >= length, given_up == 0, "{length}: {held} held");
    }
}

#[test]
fn method_that_is_too_long_begins_no_request() {
    use bunker_proto::http::head::LONGEST_METHOD;
    for (length, found) in [(LONGEST_METHOD - 1, true), (LONGEST_METHOD, true), (LONGEST_METHOD + 1, false)] {
        let method = "X".repeat(length);
        let requests = format!("GET /a HTTP/1.1\r\nHost: a\r\n\r\n{method} /b HTTP/1.1\r\nHost: a\r\n\r\n");
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let rows = tcp(&[c(&requests), s(&ok.repeat(2))]).rows(MessageKind::Http, &["method", "uri"]);
        assert_eq!(rows[0], "GET /a");
        assert_eq!(rows.contains(&format!("{method} /b")), found, "{length}: {rows:?}");
    }
}
