//! Rows a second of a typical HTTP policy, from the worker's frame to the cleared batch; and of its parts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt16Array, UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use bunker_clear::gate::Limits;
use bunker_clear::transform::Edges;
use bunker_clear::{Field, FieldType, Gate, Keys, Policy, RecordSchema, Rule, Transform};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 65_536;

fn schema() -> RecordSchema {
    let field = |name: &str, kind| Field { name: name.into(), kind, nullable: false, words: Vec::new() };
    RecordSchema {
        name: "http".into(),
        fields: vec![
            field("ts", FieldType::Time),
            field("orig_h", FieldType::Address),
            field("resp_h", FieldType::Address),
            field("host", FieldType::Host),
            field("uri", FieldType::Url),
            field("method", FieldType::Enum),
            field("status", FieldType::Code),
            field("mime", FieldType::Mime),
            field("request", FieldType::Bytes),
            field("response", FieldType::Bytes),
            field("agent", FieldType::UserAgent),
            field("cookie", FieldType::Flag),
        ],
    }
}

/// 65,536 transactions: 2,000 clients, 500 servers, 3,000 hosts of which few are common, distinct paths.
fn frame() -> Vec<u8> {
    let mut state = 1_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let address = |base: u32, number: u64| {
        let mut bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0];
        bytes[12..].copy_from_slice(&(base + number as u32).to_be_bytes());
        bytes
    };
    let (mut clients, mut servers) = (FixedSizeBinaryBuilder::new(16), FixedSizeBinaryBuilder::new(16));
    for _ in 0..ROWS {
        clients.append_value(address(0xC633_6400, draw(2_000))).unwrap();
        servers.append_value(address(0xCB00_7100, draw(500))).unwrap();
    }
    let mut column = |make: &mut dyn FnMut(&mut dyn FnMut(u64) -> u64) -> String| -> ArrayRef {
        Arc::new((0..ROWS).map(|_| Some(make(&mut draw))).collect::<StringArray>())
    };
    let hosts = column(&mut |draw| {
        let number = draw(3_000);
        format!("www{}.site{}.example.com", number % 3, draw(number + 1))
    });
    let uris = column(&mut |draw| format!("/articles/{}/{}.html?session={}", draw(100), draw(1_000), draw(1 << 30)));
    let methods = column(&mut |draw| ["GET", "GET", "GET", "POST", "HEAD"][draw(5) as usize].to_owned());
    let mimes =
        column(&mut |draw| ["text/html", "image/png", "application/json", "font/woff2"][draw(4) as usize].to_owned());
    let agents =
        column(&mut |draw| format!("Mozilla/5.0 (X11; rv:{0}.0) Gecko/20100101 Firefox/{0}.0", 100 + draw(30)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            (0..ROWS as i64)
                .map(|row| Some(1_700_000_000_000_000_000 + row * 50_000))
                .collect::<TimestampNanosecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(clients.finish()),
        Arc::new(servers.finish()),
        hosts,
        uris,
        methods,
        Arc::new((0..ROWS).map(|_| Some([200_u16, 200, 304, 404][draw(4) as usize])).collect::<UInt16Array>()),
        mimes,
        Arc::new((0..ROWS).map(|_| Some(draw(2_000))).collect::<UInt64Array>()),
        Arc::new((0..ROWS).map(|_| Some(draw(1 << 20))).collect::<UInt64Array>()),
        agents,
        Arc::new((0..ROWS).map(|_| Some(draw(2) == 1)).collect::<BooleanArray>()),
    ];
    let batch = RecordBatch::try_new(Arc::new(schema().arrow()), columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn rule(name: &str, from: &str, transform: Transform) -> Rule {
    Rule { name: name.into(), from: from.into(), transform }
}

fn rules() -> Vec<Rule> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let allow = |values: &[&str]| Transform::Allow { values: words(values), other: Some("other".into()) };
    vec![
        rule("ts", "ts", Transform::ShiftGrain { grain_ns: 1_000_000_000 }),
        rule("client", "orig_h", Transform::Tag { domain: String::new() }),
        rule("server", "resp_h", Transform::Pfx),
        rule("site", "host", Transform::Etld1Tag { domain: String::new() }),
        rule("depth", "uri", Transform::Depth),
        rule("method", "method", allow(&["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])),
        rule("status", "status", Transform::Keep),
        rule("mime", "mime", allow(&["text/html", "application/json", "image/*"])),
        rule("request", "request", Transform::Bucket(Edges::Log2)),
        rule("response", "response", Transform::Bucket(Edges::Log2)),
        rule("agent", "agent", Transform::FamilyMajor),
        rule("cookie", "cookie", Transform::Keep),
    ]
}

fn gate(rules: Vec<Rule>) -> Gate {
    let policy = Policy::of_rules(HashMap::from([("http".to_owned(), rules)]));
    Gate::new(vec![schema()], policy, Keys::new(&mut [1; 32]), Limits::default()).unwrap()
}

fn clear(criterion: &mut Criterion) {
    let frame = frame();
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    let mut whole = gate(rules());
    group.bench_function("http policy, 12 columns", |bencher| bencher.iter(|| whole.clear("http", &frame).unwrap()));
    let mut checked = gate(vec![rule("cookie", "cookie", Transform::Keep)]);
    group.bench_function("decode and check, 1 column", |bencher| {
        bencher.iter(|| checked.clear("http", &frame).unwrap())
    });
    for one in rules() {
        let mut single = gate(vec![one.clone()]);
        group.bench_function(format!("column {}", one.name), |bencher| {
            bencher.iter(|| single.clear("http", &frame).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, clear);
criterion_main!(benches);
