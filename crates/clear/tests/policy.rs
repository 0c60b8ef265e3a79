//! What a whole policy does to rows: names, epochs, thresholds, scanners, aggregates; and that rules only ever take away.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt16Array, UInt64Array};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bunker_clear::aggregate::{Aggregate, Measure};
use bunker_clear::gate::Limits;
use bunker_clear::names;
use bunker_clear::transform::{Edges, Other, Shown};
use bunker_clear::window::{MinK, Scanners};
use bunker_clear::{
    ClearedBatch, Field, FieldType, Gate, Keys, List, Method, Policy, RecordSchema, Refusal, Rotation, Rule, Sites,
    Transform,
};
use proptest::prelude::*;

const START: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

fn bytes_of(text: &str) -> [u8; 16] {
    match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn schema() -> RecordSchema {
    let field =
        |name: &str, kind| Field { name: name.into(), kind, nullable: kind != FieldType::Time, words: Vec::new() };
    RecordSchema {
        name: "flow".into(),
        fields: vec![
            field("ts", FieldType::Time),
            field("orig_h", FieldType::Address),
            field("resp_h", FieldType::Address),
            field("host", FieldType::Host),
            field("uri", FieldType::Url),
            Field { words: ["SF", "S0", "REJ"].map(str::to_owned).to_vec(), ..field("conn_state", FieldType::Enum) },
            field("size", FieldType::Bytes),
            field("port", FieldType::Port),
        ],
    }
}

#[derive(Clone, Debug)]
struct Row {
    ts: i64,
    orig: [u8; 16],
    resp: [u8; 16],
    host: Option<String>,
    uri: Option<String>,
    state: &'static str,
    size: u64,
    port: u16,
}

fn row(ts: i64, orig: &str, host: &str) -> Row {
    Row {
        ts,
        orig: bytes_of(orig),
        resp: bytes_of("203.0.113.5"),
        host: Some(host.to_owned()),
        uri: Some("/a/b/page.html?q=1".to_owned()),
        state: "SF",
        size: 1_000,
        port: 443,
    }
}

fn frame(rows: &[Row]) -> Vec<u8> {
    let mut origins = FixedSizeBinaryBuilder::new(16);
    let mut responders = FixedSizeBinaryBuilder::new(16);
    rows.iter().for_each(|row| origins.append_value(row.orig).unwrap());
    rows.iter().for_each(|row| responders.append_value(row.resp).unwrap());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.ts)).collect::<TimestampNanosecondArray>().with_timezone("UTC")),
        Arc::new(origins.finish()),
        Arc::new(responders.finish()),
        Arc::new(rows.iter().map(|row| row.host.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.uri.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.state)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.size)).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.port)).collect::<UInt16Array>()),
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

fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        units: HashMap::from([("flow".into(), "orig_h".into())]),
        ..Policy::of_rules(HashMap::from([("flow".into(), rules)]))
    }
}

fn gate(policy: Policy) -> Gate {
    Gate::new(vec![schema()], policy, Keys::new(&mut [7; 32]), Limits::default()).unwrap()
}

fn batches(cleared: &[ClearedBatch], record: &str) -> Vec<RecordBatch> {
    let of = cleared.iter().filter(|batch| batch.record() == record);
    of.map(|batch| StreamReader::try_new(batch.ipc(), None).unwrap().next().unwrap().unwrap()).collect()
}

/// Rows of one column as text, null as "-".
fn column(cleared: &[ClearedBatch], name: &str) -> Vec<String> {
    let mut out = Vec::new();
    for batch in batches(cleared, "flow") {
        let column = batch.column_by_name(name).unwrap();
        for row in 0..column.len() {
            out.push(if column.is_null(row) {
                "-".to_owned()
            } else if let Some(texts) = column.as_string_opt::<i32>() {
                texts.value(row).to_owned()
            } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
                numbers.value(row).to_string()
            } else {
                column.as_primitive::<UInt16Type>().value(row).to_string()
            });
        }
    }
    out
}

fn one(transform: Transform, from: &str, row: Row) -> String {
    let mut gate = gate(policy(vec![rule("out", from, transform)]));
    column(&gate.clear("flow", &frame(&[row])).unwrap(), "out").remove(0)
}

fn etld1() -> Transform {
    Transform::Etld1Tag { domain: String::new() }
}

fn host(name: &str) -> Row {
    row(START, "198.51.100.1", name)
}

#[test]
fn names_keep_their_suffix_and_nothing_else() {
    let tagged = one(etld1(), "host", host("www.Secret.co.uk:8080"));
    assert!(tagged.ends_with(".co.uk") && tagged.len() == 32 + 6);
    assert_eq!(tagged, one(etld1(), "host", host("mail.secret.co.uk.")));
    assert_eq!(one(etld1(), "host", host("secret")).len(), 32, "no suffix, no clear part");
    let labels = Transform::Labels { domain: String::new() };
    let [deep, other] = ["a.b.secret.co.uk", "c.b.secret.co.uk"].map(|name| one(labels.clone(), "host", host(name)));
    assert_eq!(deep.split('.').count(), 5);
    assert_eq!(deep.split_once('.').unwrap().1, other.split_once('.').unwrap().1, "a shared ending is shared");
    assert_ne!(deep, other);
    let elsewhere = one(labels, "host", host("b.other.co.uk"));
    assert_ne!(elsewhere.split('.').next(), deep.split('.').nth(1), "the same label elsewhere is another tag");
}

#[test]
fn addresses_in_names_go_through_the_one_map() {
    let pfx = one(Transform::Pfx, "orig_h", host("x"));
    let with = |literals| {
        let rules = vec![rule("out", "host", etld1())];
        move |name: &str| {
            let mut gate = gate(Policy { literals, ..policy(rules.clone()) });
            column(&gate.clear("flow", &frame(&[host(name)])).unwrap(), "out").remove(0)
        }
    };
    let mapped = with(Some(Method::Pfx));
    assert_eq!(mapped("198.51.100.1"), pfx);
    assert_eq!(mapped("198.51.100.1:8080"), pfx);
    let reversed = pfx.split('.').rev().collect::<Vec<_>>().join(".");
    assert_eq!(mapped("1.100.51.198.in-addr.arpa"), format!("{reversed}.in-addr.arpa"));
    let network = mapped("100.51.198.in-addr.arpa");
    assert!(format!("{reversed}.in-addr.arpa").ends_with(&network), "a part of the name is a part of the address");
    let v6 = mapped("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    let text = mapped("[2001:db8::1]");
    let (address, labels, is_v6) = names::arpa(&v6).unwrap();
    assert_eq!((address, labels, is_v6), (bytes_of(&text), 32, true));
    let tagged = with(None);
    let tag = one(Transform::Tag { domain: String::new() }, "orig_h", host("x"));
    assert_eq!(tagged("198.51.100.1"), tag, "the tag of the address, wherever it stands");
    assert_eq!(tagged("1.100.51.198.in-addr.arpa"), format!("{tag}.in-addr.arpa"));
    assert_eq!(one(Transform::Pfx, "host", host("www.example.com")), "-", "no address, nothing");
}

#[test]
fn addresses_are_found_in_texts() {
    let found = |text: &str| names::addresses_in(text).map(|address| address.to_vec()).collect::<Vec<_>>();
    let expected: Vec<Vec<u8>> =
        ["192.0.2.1", "2001:db8::7", "198.51.100.2"].map(|text| bytes_of(text).to_vec()).to_vec();
    assert_eq!(
        found("from mx (mx.example [192.0.2.1]) by IPv6:2001:db8::7; via 198.51.100.2:25, face. 1.2.3"),
        expected
    );
    assert_eq!(found("203.0.113.9, 10.1.1.1").len(), 2);
    assert!(found("no address, dead beef, 12:34").is_empty());
}

#[test]
fn paths_are_chained_from_their_host() {
    let chain = Transform::Chain { domain: String::new(), with: Some("host".into()) };
    let path = |host_name: &str, uri: &str| one(chain.clone(), "uri", Row { uri: Some(uri.into()), ..host(host_name) });
    let (page, sibling) = (path("a.example", "/x/y?secret=1"), path("a.example", "/x/z"));
    assert_eq!(page, path("a.example", "/x/y"), "the query is not in it");
    assert_eq!(page.split('/').nth(1), sibling.split('/').nth(1));
    assert_ne!(page, sibling);
    assert_ne!(
        page.split('/').nth(1),
        path("b.example", "/x/y").split('/').nth(1),
        "/robots.txt is not the same everywhere"
    );
    let html = |uri: &str| {
        let ext = Transform::Ext { values: vec!["html".into()], other: Some("other".into()) };
        one(ext, "uri", Row { uri: Some(uri.into()), ..host("a") })
    };
    assert_eq!([html("/a.HTML?x"), html("/a.secret"), html("/a")], ["html", "other", "-"]);
    assert_eq!(names::parameters("/a?q=1&token=2#f").collect::<Vec<_>>(), ["q", "token"]);
}

#[test]
fn families_of_user_agents_are_a_closed_list() {
    for (agent, family) in [
        ("Mozilla/5.0 (X11; rv:128.0) Gecko/20100101 Firefox/128.0", "firefox/128"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36 Edg/126.0", "edge/126"),
        ("curl/8.5.0", "curl/8"),
        ("curl/123456789", "curl"),
        ("my secret agent/9", "other"),
    ] {
        assert_eq!(names::family_major(agent), family);
    }
}

#[test]
fn words_outside_of_the_vocabulary_refuse_the_batch() {
    let mut gate = gate(policy(vec![rule("out", "conn_state", Transform::Keep)]));
    assert_eq!(column(&gate.clear("flow", &frame(&[host("x")])).unwrap(), "out"), ["SF"]);
    let smuggled = Row { state: "a covert text", ..host("x") };
    assert_eq!(gate.clear("flow", &frame(&[host("x"), smuggled])).err(), Some(Refusal::BadValue));
    let mut wordless = schema();
    wordless.fields[5].words.clear();
    let rules = policy(vec![rule("out", "conn_state", Transform::Keep)]);
    assert!(Gate::new(vec![wordless], rules, Keys::new(&mut [7; 32]), Limits::default()).is_err());
}

#[test]
fn pseudonyms_change_with_the_epoch() {
    for rotation in [Rotation::Day, Rotation::Hour, Rotation::Run] {
        let rules = vec![
            rule("tag", "orig_h", Transform::Tag { domain: String::new() }),
            rule("pfx", "orig_h", Transform::Pfx),
        ];
        let mut gate = gate(Policy { rotation, ..policy(rules) });
        let rows: Vec<Row> = (0..50).map(|hour| row(START + hour * HOUR, "198.51.100.1", "x")).collect();
        let cleared = gate.clear("flow", &frame(&rows)).unwrap();
        for name in ["tag", "pfx"] {
            let distinct: HashSet<String> = column(&cleared, name).into_iter().collect();
            let expected = match rotation {
                Rotation::Run => 1..=1,
                Rotation::Day => 3..=4,
                Rotation::Hour => 50..=50,
            };
            assert!(expected.contains(&distinct.len()), "{rotation:?} {}", distinct.len());
        }
        assert_eq!(column(&cleared, "tag").len(), 50);
    }
}

fn top(k: usize, n: Option<usize>, list: Option<usize>, other: Other) -> Transform {
    Transform::TopK { shown: Shown::Domain, k, n, list, other }
}

fn visits(name: &str, clients: std::ops::Range<u8>) -> Vec<Row> {
    clients.map(|client| row(START, &format!("198.51.100.{client}"), name)).collect()
}

#[test]
fn a_name_is_shown_only_if_enough_clients_share_it() {
    let listed: Vec<List> = vec![HashMap::from([("example.org".to_owned(), "listed".to_owned())]).into()];
    let rows =
        [visits("www.example.org", 1..6), visits("private.test.com", 1..9), visits("rare.example.net", 1..3)].concat();
    let mut all = gate(policy(vec![rule("out", "host", top(5, None, None, Other::Word("rare".into())))]));
    assert!(all.clear("flow", &frame(&rows)).unwrap().is_empty(), "rows wait");
    assert!(all.waiting_bytes() > 0);
    assert_eq!(all.waiting_rows(), rows.len() as u64);
    let count = |texts: Vec<String>| {
        texts.into_iter().fold(HashMap::new(), |mut counts: HashMap<String, usize>, text| {
            *counts.entry(text).or_default() += 1;
            counts
        })
    };
    let shown = count(column(&all.finish().unwrap(), "out"));
    assert_eq!(shown, HashMap::from([("example.org".into(), 5), ("test.com".into(), 8), ("rare".into(), 2)]));
    let mut public =
        gate(Policy { lists: listed, ..policy(vec![rule("out", "host", top(5, None, Some(0), Other::Etld1Tag))]) });
    public.clear("flow", &frame(&rows)).unwrap();
    let shown = count(column(&public.finish().unwrap(), "out"));
    assert_eq!(shown.get("example.org"), Some(&5));
    assert!(!shown.keys().any(|text| text.contains("test")), "what the list does not name stays a tag");
    let mut most = gate(policy(vec![rule("out", "host", top(2, Some(1), None, Other::Null))]));
    most.clear("flow", &frame(&rows)).unwrap();
    assert_eq!(count(column(&most.finish().unwrap(), "out")), HashMap::from([("test.com".into(), 8), ("-".into(), 7)]));
}

#[test]
fn one_client_never_passes_a_threshold_however_often_he_asks() {
    let mut gate = gate(policy(vec![rule("out", "host", top(2, None, None, Other::Null))]));
    for _ in 0..3 {
        gate.clear("flow", &frame(&vec![host("example.org"); 100])).unwrap();
    }
    assert!(column(&gate.finish().unwrap(), "out").iter().all(|text| text == "-"));
}

#[test]
fn a_window_closes_when_time_passes_its_end() {
    let rules = vec![rule("out", "host", top(5, None, None, Other::Word("rare".into())))];
    let mut gate = gate(Policy { window: Rotation::Hour, ..policy(rules) });
    assert!(gate.clear("flow", &frame(&visits("example.org", 1..6))).unwrap().is_empty());
    let later: Vec<Row> =
        visits("example.org", 1..4).into_iter().map(|row| Row { ts: row.ts + 2 * HOUR, ..row }).collect();
    let first = gate.clear("flow", &frame(&later)).unwrap();
    assert_eq!(column(&first, "out"), vec!["example.org"; 5]);
    assert_eq!(column(&gate.finish().unwrap(), "out"), vec!["rare"; 3], "the count began anew");
    assert!(gate.finish().unwrap().is_empty());
}

#[test]
fn what_waits_is_forgotten_with_the_keys() {
    let mut gate = gate(policy(vec![rule("out", "host", top(2, None, None, Other::Null))]));
    gate.clear("flow", &frame(&visits("example.org", 1..6))).unwrap();
    gate.forget();
    assert_eq!(gate.waiting_bytes(), 0);
    assert_eq!(gate.finish().err(), Some(Refusal::Forgotten));
}

#[test]
fn rows_without_company_do_not_leave() {
    let rules = vec![rule("site", "host", etld1()), rule("size", "size", Transform::Bucket(Edges::Log2))];
    let min_k = HashMap::from([("flow".to_owned(), MinK { k: 3, by: vec!["site".into()] })]);
    let mut gate = gate(Policy { min_k, ..policy(rules) });
    // In two frames, so that a group is counted over the window and not over a frame.
    gate.clear("flow", &frame(&[visits("example.org", 1..3), visits("rare.com", 1..3)].concat())).unwrap();
    gate.clear("flow", &frame(&[visits("example.org", 3..4), visits("rare.com", 1..3)].concat())).unwrap();
    let sites = column(&gate.finish().unwrap(), "site");
    assert_eq!(sites.len(), 3);
    assert!(sites.iter().all(|site| site.ends_with(".org")));
}

#[test]
fn scanners_get_pseudonyms_of_their_own_or_none() {
    let scan = |step: u32| Row {
        resp: (0xFFFF_0000_0000_u128 | u128::from(0xCB00_7100 + step)).to_be_bytes(),
        state: "S0",
        ..row(START, "198.51.100.66", "x")
    };
    let rows = [visits("example.org", 1..4), (0..40).map(scan).collect()].concat();
    for drop in [false, true] {
        let scanners = Scanners { drop, fanout: 256, failed: 0.8, window: 20, monotone: 16 };
        let rules = vec![rule("orig", "orig_h", Transform::Pfx), rule("resp", "resp_h", Transform::Pfx)];
        let mut with = gate(Policy { scanners: Some(scanners), ..policy(rules.clone()) });
        assert!(with.clear("flow", &frame(&rows)).unwrap().is_empty());
        let cleared = with.finish().unwrap();
        assert_eq!(column(&cleared, "orig").len(), if drop { 3 } else { 43 });
        let plain = column(&gate(policy(rules)).clear("flow", &frame(&rows)).unwrap(), "orig");
        let kept: HashSet<String> = plain.into_iter().collect();
        let now: HashSet<String> = column(&cleared, "orig").into_iter().collect();
        assert_eq!(now.intersection(&kept).count(), 3, "clients keep theirs, the scanner does not");
    }
}

fn aggregate(measure: Measure) -> Aggregate {
    Aggregate {
        name: "numbers".into(),
        of: "flow".into(),
        measure,
        by: Some(("conn_state".into(), vec!["SF".into(), "REJ".into()])),
        filter: Vec::new(),
        unit: "orig_h".into(),
        rows_per_unit: 2,
        epsilon: 1.0,
        min_size: 0,
    }
}

fn numbers(gate: &mut Gate) -> Vec<Vec<Option<f64>>> {
    let cleared = gate.finish().unwrap();
    batches(&cleared, "numbers")
        .iter()
        .map(|batch| batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().iter().collect())
        .collect()
}

#[test]
fn an_aggregate_bounds_what_one_unit_adds_and_spends_its_budget() {
    let with = |aggregate: Aggregate, epsilon: f64| {
        let mut gate = gate(Policy { aggregates: vec![aggregate], epsilon, ..policy(Vec::new()) });
        gate.set_noise(Box::new(|_| Some(0)));
        gate
    };
    let rows = [vec![host("x"); 100], visits("x", 10..13)].concat();
    let mut counts = with(aggregate(Measure::Count), 2.0);
    assert!(counts.clear("flow", &frame(&rows)).unwrap().is_empty());
    assert_eq!(numbers(&mut counts), [[Some(5.0), Some(0.0)]], "two of the one, one each of three; no row is told too");
    assert_eq!(numbers(&mut counts).len(), 1, "the second window spends the rest");
    assert_eq!(counts.aggregates_refused(), 0);
    assert!(numbers(&mut counts).is_empty(), "the budget is spent");
    assert_eq!(counts.aggregates_refused(), 1, "and that is counted");
    let sum = Measure::Sum { field: "size".into(), low: 0, high: 10 };
    let mut sums = with(aggregate(sum), 1.0);
    sums.clear("flow", &frame(&rows)).unwrap();
    assert_eq!(numbers(&mut sums), [[Some(50.0), Some(0.0)]], "cut to the bound");
    let mut small = with(Aggregate { min_size: 6, ..aggregate(Measure::Count) }, 1.0);
    small.clear("flow", &frame(&rows)).unwrap();
    assert_eq!(numbers(&mut small), [[None, None]]);
    let mut silent = gate(Policy { aggregates: vec![aggregate(Measure::Count)], epsilon: 1.0, ..policy(Vec::new()) });
    silent.clear("flow", &frame(&rows)).unwrap();
    assert!(numbers(&mut silent).is_empty(), "no noise, no number");
}

#[test]
fn noise_has_the_scale_of_sensitivity_through_epsilon() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sum = Measure::Sum { field: "size".into(), low: 0, high: 500 };
    let mut gate = gate(Policy {
        aggregates: vec![Aggregate { epsilon: 0.5, ..aggregate(sum) }],
        epsilon: 0.5,
        ..policy(Vec::new())
    });
    let noted = Arc::clone(&seen);
    gate.set_noise(Box::new(move |scale| {
        noted.lock().unwrap().push(scale);
        Some(-7)
    }));
    gate.clear("flow", &frame(&[host("x")])).unwrap();
    assert_eq!(numbers(&mut gate), [[Some(493.0), Some(-7.0)]]);
    assert_eq!(*seen.lock().unwrap(), [2.0 * 500.0 / 0.5; 2]);
}

fn every_rule() -> Vec<Rule> {
    vec![
        rule("ts", "ts", Transform::ShiftGrain { grain_ns: 1_000_000_000 }),
        rule("client", "orig_h", Transform::Tag { domain: String::new() }),
        rule("server", "resp_h", Transform::Pfx),
        rule("role", "resp_h", Transform::Role),
        rule("site", "host", etld1()),
        rule("depth", "uri", Transform::Depth),
        rule("path", "uri", Transform::Chain { domain: String::new(), with: Some("host".into()) }),
        rule("state", "conn_state", Transform::Keep),
        rule("size", "size", Transform::Bucket(Edges::Log2)),
        rule("about", "size", Transform::Round { to: 100 }),
        rule("when", "ts", Transform::Jitter { span_ns: 60_000_000_000, grain_ns: 1_000_000_000 }),
        rule("port", "port", Transform::Service { ports: vec![80, 443] }),
        rule("shuffled", "port", Transform::Shuffle),
    ]
}

/// Rows of the columns named, sorted: a multiset.
fn rows_of(cleared: &[ClearedBatch], names: &[String]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in batches(cleared, "flow") {
        for row in 0..batch.num_rows() {
            rows.push(
                names.iter().map(|name| format!("{:?}", batch.column_by_name(name).unwrap().slice(row, 1))).collect(),
            );
        }
    }
    rows.sort();
    rows
}

fn some_rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (
        0_i64..100,
        1_u8..9,
        prop::sample::select(vec!["a.example.org", "b.example.org", "c.com", "198.51.100.3", "x"]),
        0_u64..5_000,
        any::<u16>(),
    );
    proptest::collection::vec(
        one.prop_map(|(second, client, name, size, port)| Row {
            size,
            port,
            state: if size % 2 == 0 { "SF" } else { "REJ" },
            ..row(START + second * 1_000_000_000, &format!("198.51.100.{client}"), name)
        }),
        1..30,
    )
}

#[test]
fn a_network_is_told_only_if_enough_units_had_to_do_with_it() {
    let networks = [("192.0.2.0/24", "AS64500"), ("192.0.0.0/16", "AS64501"), ("203.0.113.0/24", "AS64502")];
    let list: List = networks
        .map(|(prefix, operator)| (prefix.to_owned(), operator.to_owned()))
        .into_iter()
        .collect::<HashMap<_, _>>()
        .into();
    let to = |server: &str, clients: std::ops::Range<u8>| -> Vec<Row> {
        visits("x", clients).into_iter().map(|row| Row { resp: bytes_of(server), ..row }).collect()
    };
    let rows = [to("192.0.2.7", 1..4), to("192.0.2.8", 4..7), to("192.0.9.9", 1..5), to("198.51.100.9", 1..9)].concat();
    let operator =
        Transform::TopK { shown: Shown::Network, k: 5, n: None, list: Some(0), other: Other::Word("other".into()) };
    let mut gate = gate(Policy { lists: vec![list], ..policy(vec![rule("out", "resp_h", operator.clone())]) });
    assert!(gate.clear("flow", &frame(&rows)).unwrap().is_empty(), "rows wait");
    let shown = column(&gate.finish().unwrap(), "out");
    let count = |word: &str| shown.iter().filter(|text| *text == word).count();
    assert_eq!(count("AS64500"), 6, "two servers of one operator, six clients together");
    assert_eq!(count("other"), 12, "four clients are too few; an address of no list is another");
    assert_eq!(operator.output_type(FieldType::Host), None);
    let listless = Transform::TopK { shown: Shown::Network, k: 5, n: None, list: None, other: Other::Null };
    let policy = policy(vec![rule("out", "resp_h", listless)]);
    assert!(Gate::new(vec![schema()], policy, Keys::new(&mut [7; 32]), Limits::default()).is_err());
}

#[test]
fn a_jittered_time_stays_near_and_equal_times_stay_equal() {
    let moved = |transform: &Transform, ts: i64| {
        let mut gate = gate(policy(vec![rule("out", "ts", transform.clone())]));
        let cleared = gate.clear("flow", &frame(&[row(ts, "198.51.100.1", "x")])).unwrap();
        let batch = batches(&cleared, "flow").remove(0);
        batch.column(0).as_primitive::<arrow_array::types::TimestampNanosecondType>().value(0)
    };
    let span = 3_600_000_000_000_u64;
    let jitter = Transform::Jitter { span_ns: span, grain_ns: 1 };
    let plain = Transform::ShiftGrain { grain_ns: 1 };
    let distances: Vec<i64> = (0..400)
        .map(|second| {
            let ts = START + second * 1_000_000_000;
            assert_eq!(moved(&jitter, ts), moved(&jitter, ts), "one instant is one time");
            moved(&jitter, ts) - moved(&plain, ts)
        })
        .collect();
    assert!(distances.iter().all(|distance| distance.unsigned_abs() <= span));
    // Uniform over the span: a quarter lies in each quarter of it; five standard deviations of 400 draws are 43.
    let half = i64::try_from(span / 2).unwrap();
    for (from, to) in [(-2 * half, -half), (-half, 0), (0, half), (half, 2 * half)] {
        let inside = distances.iter().filter(|distance| (from..to).contains(distance)).count();
        assert!((57..=143).contains(&inside), "{inside} of 400");
    }
}

#[test]
fn a_number_is_rounded_to_the_nearest_multiple() {
    let round = |size: u64, to: u64| one(Transform::Round { to }, "size", Row { size, ..host("x") });
    for (size, to, expected) in [
        (0, 100, "0"),
        (49, 100, "0"),
        (50, 100, "100"),
        (149, 100, "100"),
        (150, 100, "200"),
        (7, 2, "8"),
        (5, 3, "6"),
        (4, 3, "3"),
    ] {
        assert_eq!(round(size, to), expected, "{size} to {to}");
    }
    assert_eq!(round(u64::MAX, 1000), (u64::MAX - u64::MAX % 1000).to_string(), "what does not fit stays below");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn deleting_a_rule_takes_its_column_away_and_changes_nothing_else(rows in some_rows(), number in 0_usize..13) {
        let whole = gate(policy(every_rule())).clear("flow", &frame(&rows)).unwrap();
        let mut rules = every_rule();
        rules.remove(number);
        let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        let less = gate(policy(rules)).clear("flow", &frame(&rows)).unwrap();
        prop_assert_eq!(batches(&less, "flow")[0].num_columns(), names.len());
        prop_assert_eq!(rows_of(&less, &names), rows_of(&whole, &names));
    }

    #[test]
    fn rows_leave_in_an_order_that_does_not_depend_on_how_they_came(rows in some_rows(), turn in any::<usize>()) {
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        turned.reverse();
        let (one, other) = (gate(policy(every_rule())).clear("flow", &frame(&rows)).unwrap(), gate(policy(every_rule())).clear("flow", &frame(&turned)).unwrap());
        prop_assert_eq!(one[0].ipc(), other[0].ipc());
    }

    #[test]
    fn equal_values_stay_equal_and_others_differ(rows in some_rows()) {
        let mut one = gate(policy(vec![rule("out", "orig_h", Transform::Tag { domain: String::new() })]));
        let tags: HashSet<String> = column(&one.clear("flow", &frame(&rows)).unwrap(), "out").into_iter().collect();
        let raw: HashSet<[u8; 16]> = rows.iter().map(|row| row.orig).collect();
        prop_assert_eq!(tags.len(), raw.len());
        let _ = Sites::default();
    }
}
