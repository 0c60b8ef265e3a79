//! The gate: published vectors, properties, and workers that lie.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field as ArrowField, Schema};
use bunker_clear::gate::Limits;
use bunker_clear::pfx::Pfx;
use bunker_clear::transform::Edges;
use bunker_clear::{Field, FieldType, Gate, Keys, Policy, RecordSchema, Refusal, Rule, Transform};
use proptest::prelude::*;

fn bytes_of(text: &str) -> [u8; 16] {
    match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn schema() -> RecordSchema {
    let field = |name: &str, kind, nullable| Field { name: name.into(), kind, nullable, words: Vec::new() };
    RecordSchema {
        name: "visit".into(),
        fields: vec![
            field("ts", FieldType::Time, false),
            field("client", FieldType::Address, false),
            field("site", FieldType::Host, true),
            field("size", FieldType::Bytes, false),
            field("score", FieldType::Score, true),
        ],
    }
}

fn rule(name: &str, transform: Transform) -> Rule {
    Rule { name: name.into(), from: name.into(), transform }
}

fn all_rules() -> Vec<Rule> {
    vec![
        rule("ts", Transform::ShiftGrain { grain_ns: 1_000_000_000 }),
        rule("client", Transform::Pfx),
        rule("site", Transform::Etld1Tag { domain: String::new() }),
        rule("size", Transform::Bucket(Edges::Log2)),
        rule("score", Transform::Bucket(Edges::Declared(vec![-5.0, 0.0, 5.0]))),
    ]
}

fn gate_of(rules: Vec<Rule>, root: u8) -> Gate {
    let policy = Policy::of_rules(HashMap::from([("visit".into(), rules)]));
    Gate::new(vec![schema()], policy, Keys::new(&mut [root; 32]), Limits::default()).unwrap()
}

fn batch(rows: &[(i64, [u8; 16], Option<&str>, u64, Option<f64>)]) -> RecordBatch {
    let mut clients = FixedSizeBinaryBuilder::new(16);
    rows.iter().for_each(|row| clients.append_value(row.1).unwrap());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<TimestampNanosecondArray>().with_timezone("UTC")),
        Arc::new(clients.finish()),
        Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.3)).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.4).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema().arrow()), columns).unwrap()
}

fn ipc(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn read(ipc: &[u8]) -> RecordBatch {
    StreamReader::try_new(ipc, None).unwrap().next().unwrap().unwrap()
}

fn usual() -> RecordBatch {
    batch(&[
        (1_700_000_000_123_456_789, bytes_of("192.0.2.7"), Some("www.secret-name.co.uk"), 1_234, Some(4.0)),
        (1_700_000_001_000_000_000, bytes_of("192.0.2.8"), None, 0, None),
        (1_700_000_002_000_000_000, bytes_of("2001:db8::1"), Some("mail.secret-name.co.uk"), 5_000, Some(-99.0)),
    ])
}

#[test]
fn ipcrypt_pfx_agrees_with_the_published_vectors() {
    // draft-denis-ipcrypt-13, appendix "Prefix-preserving": key, address, result.
    let vectors = include_str!("ipcrypt-pfx.tsv");
    let mut seen = 0;
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let [key, address, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("bad line") };
        let key: Vec<u8> =
            (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect();
        let pfx = Pfx::new(&key.try_into().unwrap());
        assert_eq!(pfx.map(bytes_of(address)), bytes_of(expected), "{line}");
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[test]
fn a_field_without_a_rule_does_not_exist() {
    let mut gate = gate_of(vec![rule("size", Transform::Keep)], 1);
    let cleared = gate.clear("visit", &ipc(&usual())).unwrap().remove(0);
    let out = read(cleared.ipc());
    assert_eq!(out.num_columns(), 1);
    assert!(!cleared.ipc().windows(11).any(|part| part == b"secret-name"));
    assert!(gate_of(vec![], 1).clear("visit", &ipc(&usual())).unwrap().is_empty());
}

#[test]
fn values_are_transformed() {
    let mut gate = gate_of(all_rules(), 1);
    let cleared = gate.clear("visit", &ipc(&usual())).unwrap().remove(0);
    assert_eq!((cleared.record(), cleared.rows()), ("visit", 3));
    let out = read(cleared.ipc());
    let sizes: Vec<_> =
        out.column_by_name("size").unwrap().as_primitive::<arrow_array::types::UInt64Type>().iter().flatten().collect();
    let mut sorted = sizes.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1_024, 4_096]);
    let sites: Vec<_> = out.column_by_name("site").unwrap().as_string::<i32>().iter().flatten().collect();
    assert_eq!(sites.len(), 2);
    assert_eq!(sites[0], sites[1], "one registrable domain, one tag");
    assert!(sites[0].ends_with(".co.uk") && !sites[0].contains("secret"));
    let clients: Vec<_> = out.column_by_name("client").unwrap().as_string::<i32>().iter().flatten().collect();
    assert!(clients.iter().all(|client| client.parse::<IpAddr>().is_ok() && *client != "192.0.2.7"));
    let scores: Vec<_> = out
        .column_by_name("score")
        .unwrap()
        .as_primitive::<arrow_array::types::Float64Type>()
        .iter()
        .flatten()
        .collect();
    assert!(scores.contains(&0.0) && scores.contains(&-5.0));
}

#[test]
fn row_order_carries_nothing() {
    let rows = usual();
    let back = batch(&[
        (1_700_000_002_000_000_000, bytes_of("2001:db8::1"), Some("mail.secret-name.co.uk"), 5_000, Some(-99.0)),
        (1_700_000_001_000_000_000, bytes_of("192.0.2.8"), None, 0, None),
        (1_700_000_000_123_456_789, bytes_of("192.0.2.7"), Some("www.secret-name.co.uk"), 1_234, Some(4.0)),
    ]);
    let (mut one, mut other) = (gate_of(all_rules(), 1), gate_of(all_rules(), 1));
    assert_eq!(
        one.clear("visit", &ipc(&rows)).unwrap().remove(0).ipc(),
        other.clear("visit", &ipc(&back)).unwrap().remove(0).ipc()
    );
}

#[test]
fn runs_are_unlinkable() {
    let (mut one, mut other) = (gate_of(all_rules(), 1), gate_of(all_rules(), 2));
    let (one, other) = (
        read(one.clear("visit", &ipc(&usual())).unwrap().remove(0).ipc()),
        read(other.clear("visit", &ipc(&usual())).unwrap().remove(0).ipc()),
    );
    for name in ["ts", "client", "site"] {
        assert_ne!(one.column_by_name(name).unwrap(), other.column_by_name(name).unwrap(), "{name}");
    }
}

#[test]
fn other_schemas_are_refused() {
    let mut gate = gate_of(all_rules(), 1);
    let usual = usual();
    let with = |change: &dyn Fn(&mut Vec<ArrowField>, &mut Vec<ArrayRef>)| {
        let mut fields: Vec<ArrowField> = usual.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut columns = usual.columns().to_vec();
        change(&mut fields, &mut columns);
        ipc(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
    };
    let extra = with(&|fields, columns| {
        fields.push(ArrowField::new("covert", arrow_schema::DataType::Utf8, true));
        columns.push(Arc::new(StringArray::from(vec!["a", "b", "c"])));
    });
    let missing = with(&|fields, columns| {
        fields.pop();
        columns.pop();
    });
    let swapped = with(&|fields, columns| {
        fields.swap(0, 1);
        columns.swap(0, 1);
    });
    let renamed = with(&|fields, _| fields[3] = fields[3].clone().with_name("sizes"));
    let wider = with(&|fields, columns| {
        fields[3] = ArrowField::new("size", arrow_schema::DataType::Int64, false);
        columns[3] = Arc::new(Int64Array::from(vec![1, 2, 3]));
    });
    let noted = with(&|fields, _| {
        fields[0] = fields[0].clone().with_metadata(HashMap::from([("covert".into(), "channel".into())]));
    });
    let nullable = with(&|fields, _| fields[3] = fields[3].clone().with_nullable(true));
    for bad in [extra, missing, swapped, renamed, wider, noted, nullable] {
        assert_eq!(gate.clear("visit", &bad).err(), Some(Refusal::Schema));
    }
    assert_eq!(gate.clear("other", &ipc(&usual)).err(), Some(Refusal::UnknownRecord));
    assert!(gate.clear("visit", &ipc(&usual)).is_ok(), "the gate goes on after refusals");
}

#[test]
fn bad_values_are_refused() {
    let mut gate = gate_of(all_rules(), 1);
    let address = bytes_of("192.0.2.7");
    let row = (1_i64, address, Some("x"), 1_u64, Some(1.0));
    let long = "x".repeat(70_000);
    for (bad, why) in [
        ((1, address, Some("x"), 1, Some(f64::NAN)), Refusal::BadValue),
        ((1, address, Some("x"), 1, Some(f64::INFINITY)), Refusal::BadValue),
        ((-1, address, Some("x"), 1, None), Refusal::BadValue),
        ((i64::MAX, address, Some("x"), 1, None), Refusal::BadValue),
        ((1, address, Some(long.as_str()), 1, None), Refusal::CellTooLong),
    ] {
        assert_eq!(gate.clear("visit", &ipc(&batch(&[row, bad, row]))).err(), Some(why));
    }
}

#[test]
fn two_batches_trailing_bytes_and_size_are_refused() {
    let mut gate = gate_of(all_rules(), 1);
    let usual = usual();
    let mut two = Vec::new();
    let mut writer = StreamWriter::try_new(&mut two, &usual.schema()).unwrap();
    writer.write(&usual).unwrap();
    writer.write(&usual).unwrap();
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(gate.clear("visit", &two).err(), Some(Refusal::TrailingBytes));
    let mut trailing = ipc(&usual);
    trailing.extend_from_slice(b"covert");
    assert_eq!(gate.clear("visit", &trailing).err(), Some(Refusal::TrailingBytes));
    assert_eq!(gate.clear("visit", &vec![0; (64 << 20) + 1]).err(), Some(Refusal::TooLarge));
    assert_eq!(gate.clear("visit", b"GET / HTTP/1.1\r\n").err(), Some(Refusal::Malformed));
}

#[test]
fn nothing_is_cleared_after_forget() {
    let mut gate = gate_of(all_rules(), 1);
    gate.forget();
    assert_eq!(gate.clear("visit", &ipc(&usual())).err(), Some(Refusal::Forgotten));
}

#[test]
fn rules_that_do_not_fit_are_refused_at_load() {
    for (name, transform) in [
        ("size", Transform::Pfx),
        ("client", Transform::Bucket(Edges::Log2)),
        ("nothing", Transform::Keep),
        ("ts", Transform::Tag { domain: String::new() }),
        ("site", Transform::ShiftGrain { grain_ns: 1 }),
    ] {
        let rules = HashMap::from([("visit".to_owned(), vec![rule(name, transform)])]);
        assert!(
            Gate::new(vec![schema()], Policy::of_rules(rules), Keys::new(&mut [1; 32]), Limits::default()).is_err(),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn pfx_keeps_exactly_the_common_prefix(key in any::<[u8; 32]>(), one in any::<[u8; 16]>(), other in any::<[u8; 16]>(), share in 0_u32..=128) {
        prop_assume!(key[..16] != key[16..]);
        let one = u128::from_be_bytes(one);
        let mask = u128::MAX.checked_shl(128 - share).unwrap_or(0);
        let other = (one & mask) | (u128::from_be_bytes(other) & !mask);
        let pfx = Pfx::new(&key);
        let common = (one ^ other).leading_zeros();
        let v4 = |value: u128| value >> 32 == 0xFFFF;
        prop_assume!(v4(one) == v4(other));
        let mapped = u128::from_be_bytes(pfx.map(one.to_be_bytes())) ^ u128::from_be_bytes(pfx.map(other.to_be_bytes()));
        prop_assert_eq!(mapped.leading_zeros(), common);
    }

    #[test]
    fn damaged_frames_never_panic_and_never_leak(at in 0_usize..2_000, byte in any::<u8>(), cut in 0_usize..2_000) {
        let mut frame = ipc(&usual());
        let place = at % frame.len();
        frame[place] ^= byte;
        frame.truncate(frame.len() - cut % frame.len());
        let mut gate = gate_of(all_rules(), 1);
        for cleared in gate.clear("visit", &frame).unwrap_or_default() {
            prop_assert!(!cleared.ipc().windows(6).any(|part| part == b"secret"));
        }
    }
}
