//! One field at a time: what numbers, noise, samples, order and constants make of its cells, and that each refuses what does not fit it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    missing_docs
)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{DurationNanosecondType, Float64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{
    Array, ArrayRef, DurationNanosecondArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt16Array, UInt64Array,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bunker_clear::aggregate::{AGGREGATE_UNITS, Aggregate, Measure};
use bunker_clear::check::{DIGEST_BYTES, FINGERPRINT_BYTES};
use bunker_clear::names::{ja4_a, mail_role, oui};
use bunker_clear::noise::{NOISE_DRAWS, NOISE_SCALE, discrete_laplace};
use bunker_clear::policy::RuleFault;
use bunker_clear::sample::Share;
use bunker_clear::transform::{Other, Shown};
use bunker_clear::window::MinK;
use bunker_clear::{
    ClearedBatch, Field, FieldType, Gate, Keys, Limits, Policy, RecordSchema, Refusal, Rotation, Rule, Sites, Transform,
};
use proptest::prelude::*;

const START: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

/// `ts`, `orig_h` and one more field, `x`.
fn schema(kind: FieldType) -> RecordSchema {
    let field = |name: &str, kind, nullable| Field { name: name.into(), kind, nullable, words: Vec::new() };
    RecordSchema {
        name: "cell".into(),
        fields: vec![
            field("ts", FieldType::Time, false),
            field("orig_h", FieldType::Address, true),
            field("x", kind, true),
        ],
    }
}

fn host(number: u32) -> [u8; 16] {
    let [a, b, c, d] = (0xC633_0000 + number).to_be_bytes();
    std::net::Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets()
}

fn binaries<const N: usize>(values: &[Option<[u8; N]>]) -> ArrayRef {
    let mut out = FixedSizeBinaryBuilder::new(i32::try_from(N).unwrap());
    for value in values {
        match value {
            Some(value) => out.append_value(value).unwrap(),
            None => out.append_null(),
        }
    }
    Arc::new(out.finish())
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Rows at these times, of these hosts, with these cells.
fn frame_of(kind: FieldType, times: &[i64], hosts: &[Option<[u8; 16]>], cells: ArrayRef) -> Vec<u8> {
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times.to_vec()).with_timezone("UTC"));
    let batch = RecordBatch::try_new(Arc::new(schema(kind).arrow()), vec![times, binaries(hosts), cells]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// One row a second, each of a host of its own.
fn frame(kind: FieldType, cells: ArrayRef) -> Vec<u8> {
    let rows = i64::try_from(cells.len()).unwrap();
    let times: Vec<i64> = (0..rows).map(|row| START + row * 1_000_000_000).collect();
    let hosts: Vec<_> = (0..rows).map(|row| Some(host(u32::try_from(row).unwrap()))).collect();
    frame_of(kind, &times, &hosts, cells)
}

fn rule(name: &str, from: &str, transform: Transform) -> Rule {
    Rule { name: name.into(), from: from.into(), transform }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        units: HashMap::from([("cell".into(), "orig_h".into())]),
        ..Policy::of_rules(HashMap::from([("cell".into(), rules)]))
    }
}

fn maybe_gate(kind: FieldType, policy: Policy, key: u8) -> Result<Gate, RuleFault> {
    Gate::new(vec![schema(kind)], policy, Keys::new(&mut [key; 32]), Limits::default())
}

fn gate(kind: FieldType, policy: Policy) -> Gate {
    maybe_gate(kind, policy, 7).unwrap()
}

/// Rows that left: the text of each column, sorted, so that rows of two runs can be compared.
fn rows(cleared: &[ClearedBatch]) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for batch in cleared {
        let batch = StreamReader::try_new(batch.ipc(), None).unwrap().next().unwrap().unwrap();
        for row in 0..batch.num_rows() {
            out.push(batch.columns().iter().map(|column| cell(column, row)).collect());
        }
    }
    out
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "-".to_owned();
    }
    if let Some(column) = column.as_string_opt::<i32>() {
        return column.value(row).to_owned();
    }
    if let Some(column) = column.as_primitive_opt::<UInt64Type>() {
        return column.value(row).to_string();
    }
    if let Some(column) = column.as_primitive_opt::<DurationNanosecondType>() {
        return column.value(row).to_string();
    }
    if let Some(column) = column.as_primitive_opt::<TimestampNanosecondType>() {
        return column.value(row).to_string();
    }
    if let Some(column) = column.as_list_opt::<i32>() {
        let items = column.value(row);
        return (0..items.len()).map(|item| cell(&items, item)).collect::<Vec<_>>().join(" ");
    }
    column.as_primitive::<arrow_array::types::UInt16Type>().value(row).to_string()
}

/// One column, in the order of the input: `ts` leaves beside it and is sorted by.
fn column(kind: FieldType, transform: Transform, cells: ArrayRef) -> Vec<String> {
    let rules = vec![rule("ts", "ts", Transform::Keep), rule("out", "x", transform)];
    let mut gate = gate(kind, policy(rules));
    let mut cleared = gate.clear("cell", &frame(kind, cells)).unwrap();
    cleared.extend(gate.finish().unwrap());
    rows(&cleared).into_iter().map(|row| row[1].clone()).collect()
}

fn fits(kind: FieldType, transform: Transform) -> bool {
    maybe_gate(kind, policy(vec![rule("out", "x", transform)]), 7).is_ok()
}

// ---- enum ----

#[test]
fn values_are_numbered_as_they_first_appear() {
    let macs = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 5]];
    let cells = binaries(&[Some(macs[0]), Some(macs[1]), None, Some(macs[2]), Some(macs[3])]);
    assert_eq!(column(FieldType::Mac, Transform::Enumerate, cells), ["1", "2", "-", "1", "3"]);
    let vlans: ArrayRef = Arc::new(UInt16Array::from(vec![Some(40), Some(7), None, Some(40)]));
    assert_eq!(column(FieldType::Vlan, Transform::Enumerate, vlans), ["1", "2", "-", "1"]);
    for kind in [FieldType::Host, FieldType::Text, FieldType::Bytes, FieldType::Fingerprint, FieldType::Content] {
        assert!(!fits(kind, Transform::Enumerate), "{kind:?}");
    }
}

#[test]
fn numbers_last_an_epoch_over_batches_and_begin_anew_in_the_next() {
    let rules = || vec![rule("ts", "ts", Transform::Keep), rule("out", "x", Transform::Enumerate)];
    let mut gate = gate(FieldType::Vlan, Policy { rotation: Rotation::Hour, ..policy(rules()) });
    let mut ask = |ts: i64, vlan: u16| {
        let cells: ArrayRef = Arc::new(UInt16Array::from(vec![vlan]));
        rows(&gate.clear("cell", &frame_of(FieldType::Vlan, &[ts], &[None], cells)).unwrap())[0][1].clone()
    };
    assert_eq!([ask(START, 5), ask(START, 6), ask(START, 5)], ["1", "2", "1"]);
    // More epochs than have their keys at hand: the first one's numbers are still its numbers.
    for hour in 1..9 {
        assert_eq!(ask(START + hour * HOUR, 6), "1");
    }
    assert_eq!([ask(START, 6), ask(START, 9)], ["2", "3"]);
}

#[test]
fn of_times_the_order_leaves_and_nothing_else() {
    let times: ArrayRef = Arc::new(
        TimestampNanosecondArray::from(vec![Some(START + 9), Some(START), None, Some(START + 9), Some(START + HOUR)])
            .with_timezone("UTC"),
    );
    assert_eq!(column(FieldType::Time, Transform::Enumerate, times.clone()), ["2", "1", "-", "2", "3"]);
    let mut gate = gate(FieldType::Time, policy(vec![rule("out", "x", Transform::Enumerate)]));
    assert!(gate.clear("cell", &frame(FieldType::Time, times)).unwrap().is_empty(), "the order is known at the end");
    assert_eq!(gate.waiting_rows(), 5);
    gate.forget();
    assert!(gate.finish().is_err(), "after an abort it never leaves");
}

// ---- rel ----

#[test]
fn relative_times_begin_at_zero_and_are_cut_to_the_grain() {
    let at = |seconds: &[i64]| -> ArrayRef {
        let times: Vec<i64> = seconds.iter().map(|second| START + second * 1_000_000_000 + 999).collect();
        Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
    };
    let rel = Transform::Relative { grain_ns: 10_000_000_000 };
    let ten = 10_000_000_000_i64;
    let expected: Vec<String> = [0, 0, ten, 3 * ten, -ten].map(|ns| ns.to_string()).to_vec();
    assert_eq!(column(FieldType::Time, rel.clone(), at(&[0, 9, 10, 31, -1])), expected);
    assert!(!fits(FieldType::Duration, rel));
}

// ---- const ----

#[test]
fn a_constant_says_nothing_not_even_that_there_was_nothing() {
    let word = Transform::Const { value: "x".into() };
    let cells: ArrayRef = Arc::new(StringArray::from(vec![Some("secret"), None]));
    assert_eq!(column(FieldType::Host, word.clone(), cells), ["x", "x"]);
    let number = Transform::Const { value: "9".into() };
    let cells: ArrayRef = Arc::new(UInt64Array::from(vec![Some(7), None]));
    assert_eq!(column(FieldType::Bytes, number, cells), ["9", "9"]);
    assert!(!fits(FieldType::Bytes, word), "a number stays a number");
    assert!(!fits(FieldType::Port, Transform::Const { value: "65536".into() }));
    assert!(!fits(FieldType::Time, Transform::Const { value: "0".into() }));
}

// ---- noise ----

/// Pearson's statistic of draws against probabilities; the rest of the mass is one class.
fn chi_square(draws: &[i64], probability: impl Fn(i64) -> f64, reach: i64) -> (f64, usize) {
    let mut counts: HashMap<i64, f64> = HashMap::new();
    for draw in draws {
        *counts.entry((*draw).clamp(-reach - 1, reach + 1)).or_default() += 1.0;
    }
    let total = draws.len() as f64;
    let inner: f64 = (-reach..=reach).map(&probability).sum();
    let mut classes: Vec<(i64, f64)> = (-reach..=reach).map(|value| (value, probability(value))).collect();
    classes.extend([(-reach - 1, (1.0 - inner) / 2.0), (reach + 1, (1.0 - inner) / 2.0)]);
    let statistic = classes
        .iter()
        .map(|(value, probability)| {
            let expected = probability * total;
            assert!(expected > 5.0, "a class of {value} is too rare for the test");
            (counts.get(value).copied().unwrap_or(0.0) - expected).powi(2) / expected
        })
        .sum();
    (statistic, classes.len() - 1)
}

/// A bound that chi-square of so many degrees exceeds once in ten million times (Wilson and Hilferty 1931).
fn bound(degrees: usize) -> f64 {
    let degrees = degrees as f64;
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + 5.2 * spread.sqrt()).powi(3)
}

fn laplace(scale: f64) -> impl Fn(i64) -> f64 {
    let p = (-1.0 / scale).exp();
    move |value| (1.0 - p) / (1.0 + p) * p.powf(value.unsigned_abs() as f64)
}

#[test]
fn noise_of_cells_has_the_discrete_laplace_distribution() {
    let middle = 1_000_000_u64;
    for (scale, reach) in [(1, 5), (3, 12), (10, 40)] {
        let cells: ArrayRef = Arc::new(UInt64Array::from(vec![middle; 40_000]));
        let noisy = column(FieldType::Bytes, Transform::Noise { scale }, cells);
        let draws: Vec<i64> = noisy.iter().map(|text| text.parse::<i64>().unwrap() - middle as i64).collect();
        let (statistic, degrees) = chi_square(&draws, laplace(scale as f64), reach);
        assert!(statistic < bound(degrees), "scale {scale}: {statistic} over {degrees} degrees");
        let (wrong, degrees) = chi_square(&draws, laplace(scale as f64 * 1.1), reach);
        assert!(wrong > bound(degrees), "the test tells a scale that is a tenth larger: {wrong}");
        // Neighbours' noises are no help to each other.
        let product: f64 = draws.iter().zip(draws.iter().skip(1)).map(|(one, other)| (one * other) as f64).sum();
        let square: f64 = draws.iter().map(|draw| (draw * draw) as f64).sum();
        assert!((product / square).abs() < 0.03, "scale {scale}: correlation {}", product / square);
    }
}

#[test]
fn noise_never_goes_below_zero_and_large_numbers_do_not_turn_over() {
    let cells: ArrayRef =
        Arc::new(UInt64Array::from([vec![Some(0); 200], vec![Some(u64::MAX); 200], vec![None]].concat()));
    let noisy = column(FieldType::Count, Transform::Noise { scale: 1 << 30 }, cells);
    let numbers: Vec<u64> = noisy.iter().take(400).map(|text| text.parse().unwrap()).collect();
    assert!(numbers.iter().take(200).all(|number| *number < 1 << 40));
    assert!(numbers.iter().skip(200).all(|number| *number > u64::MAX >> 2 && *number <= i64::MAX as u64));
    assert_eq!(noisy[400], "-");
    let cells: ArrayRef = Arc::new(DurationNanosecondArray::from(vec![0; 50]));
    let noisy = column(FieldType::Duration, Transform::Noise { scale: 1_000 }, cells);
    assert!(noisy.iter().all(|text| text.parse::<i64>().unwrap() >= 0));
    assert!(
        !fits(FieldType::Score, Transform::Noise { scale: 1 }) && !fits(FieldType::Port, Transform::Noise { scale: 1 })
    );
}

#[test]
fn two_noises_of_one_number_are_refused_and_two_numbers_have_two() {
    let two = vec![rule("a", "x", Transform::Noise { scale: 9 }), rule("b", "x", Transform::Noise { scale: 5 })];
    let fault = maybe_gate(FieldType::Bytes, policy(two), 7).err().unwrap();
    assert_eq!(fault.rule, "b");
    // The same number twice in a row, in two fields: what one field's noise is says nothing of the other's.
    let field = |name: &str| Field { name: name.into(), kind: FieldType::Bytes, nullable: true, words: Vec::new() };
    let schema = RecordSchema { name: "pair".into(), fields: vec![field("a"), field("b")] };
    let noise = || Transform::Noise { scale: 100 };
    let rules = HashMap::from([("pair".into(), vec![rule("a", "a", noise()), rule("b", "b", noise())])]);
    let cells: ArrayRef = Arc::new((10_000..10_500_u64).collect::<UInt64Array>());
    let batch = RecordBatch::try_new(Arc::new(schema.arrow()), vec![cells.clone(), cells]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut gate =
        Gate::new(vec![schema], Policy::of_rules(rules), Keys::new(&mut [7; 32]), Limits::default()).unwrap();
    let equal = rows(&gate.clear("pair", &bytes).unwrap()).iter().filter(|row| row[0] == row[1]).count();
    assert!(equal < 25, "{equal} of 500 rows have the same noise in both fields");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A row's noise follows from the row and the key: not from its place, its batch or its neighbours.
    #[test]
    fn noise_depends_on_the_row_and_the_key_alone(sizes in prop::collection::vec(0_u64..1 << 20, 2..40), cut in 1_usize..39, key in 1_u8..255) {
        let cut = cut.min(sizes.len() - 1);
        let rules = || vec![rule("ts", "ts", Transform::Keep), rule("out", "x", Transform::Noise { scale: 50 })];
        let times: Vec<i64> = (0..sizes.len() as i64).map(|row| START + row).collect();
        let clear = |pieces: &[std::ops::Range<usize>], key: u8| {
            let mut gate = maybe_gate(FieldType::Bytes, policy(rules()), key).unwrap();
            let mut out = Vec::new();
            for piece in pieces {
                let cells: ArrayRef = Arc::new(UInt64Array::from(sizes[piece.clone()].to_vec()));
                let hosts = vec![Some(host(1)); piece.len()];
                out.extend(rows(&gate.clear("cell", &frame_of(FieldType::Bytes, &times[piece.clone()], &hosts, cells)).unwrap()));
            }
            out.sort();
            out
        };
        let whole = clear(&[0..sizes.len()], key);
        prop_assert_eq!(&whole, &clear(&[cut..sizes.len(), 0..cut], key));
        if sizes.len() > 8 {
            prop_assert_ne!(&whole, &clear(&[0..sizes.len()], key - 1));
        }
    }
}

#[test]
fn a_draw_that_would_not_end_ends() {
    let mut asked = 0;
    // Zeros make "true with probability 1/n" come true for every n.
    let endless = discrete_laplace(NOISE_SCALE, || {
        asked += 1;
        0
    });
    assert_eq!(endless, None);
    assert_eq!(asked, NOISE_DRAWS);
    let mut turn = 0_u64;
    let mut counted = 0_u32;
    let found = discrete_laplace(4, || {
        counted += 1;
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u128::from(turn) << 64 | u128::from(turn.rotate_left(17))
    });
    assert!(found.is_some() && counted < NOISE_DRAWS);
}

// ---- sample ----

fn shared(share: f64) -> Share {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Share { by: "orig_h".into(), below: (share * 2_f64.powi(64)) as u64 }
}

fn sampled(
    share: f64,
    key: u8,
    hosts: &[Option<[u8; 16]>],
    rotation: Rotation,
    times: &[i64],
) -> (HashSet<String>, u64) {
    let rules = vec![rule("host", "orig_h", Transform::Keep), rule("ts", "ts", Transform::Keep)];
    let policy = Policy { sample: HashMap::from([("cell".into(), shared(share))]), rotation, ..policy(rules) };
    let mut gate = maybe_gate(FieldType::Bytes, policy, key).unwrap();
    let cells: ArrayRef = Arc::new(UInt64Array::from(vec![1; hosts.len()]));
    let cleared = gate.clear("cell", &frame_of(FieldType::Bytes, times, hosts, cells)).unwrap();
    (rows(&cleared).into_iter().map(|row| format!("{} {}", row[0], row[1])).collect(), gate.sampled_out())
}

#[test]
fn a_sample_is_of_hosts_and_what_is_not_in_it_is_counted() {
    let hosts: Vec<_> = (0..40_000).map(|number| Some(host(number % 20_000))).collect();
    let times: Vec<i64> = (0..40_000).map(|row| START + i64::from(row / 20_000)).collect();
    for share in [0.1, 0.5] {
        let (all, out) = sampled(share, 7, &hosts, Rotation::Run, &times);
        assert_eq!(all.len() as u64 + out, 40_000, "every row left or was counted");
        let of = |time: i64| -> HashSet<String> {
            all.iter()
                .filter(|row| row.ends_with(&time.to_string()))
                .map(|row| row.split(' ').next().unwrap().to_owned())
                .collect()
        };
        assert_eq!(of(START), of(START + 1), "all rows of a host, or none");
        let hosts = of(START).len() as f64;
        // Binomial: in, out; one degree.
        let (expected, rest) = (20_000.0 * share, 20_000.0 * (1.0 - share));
        let statistic = (hosts - expected).powi(2) / expected + (hosts - expected).powi(2) / rest;
        assert!(statistic < 28.4, "share {share}: {hosts} hosts, chi-square {statistic}");
    }
    let some = |share, key| sampled(share, key, &hosts, Rotation::Run, &times).0;
    assert!(some(0.1, 7).is_subset(&some(0.5, 7)), "a smaller share is a part of a larger one");
    assert_eq!(some(0.1, 7), some(0.1, 7), "the key decides");
    // Of two runs: a tenth of a tenth is in both, as if nothing were common to them.
    let both = some(0.1, 7).intersection(&some(0.1, 8)).count() as f64 / 2.0;
    assert!((both - 200.0).abs() < 5.2 * 200.0_f64.sqrt(), "{both} hosts are in both runs' samples");
}

#[test]
fn a_sample_changes_with_the_epoch_and_rows_of_nobody_are_out() {
    let hosts: Vec<_> = (0..4_000).map(|number| Some(host(number % 2_000))).collect();
    let times: Vec<i64> = (0..4_000).map(|row| START + i64::from(row / 2_000) * 24 * HOUR).collect();
    let (all, _) = sampled(0.5, 7, &hosts, Rotation::Day, &times);
    let of = |time: i64| {
        all.iter()
            .filter(|row| row.ends_with(&time.to_string()))
            .map(|row| row.split(' ').next().unwrap())
            .collect::<HashSet<_>>()
    };
    let (first, second) = (of(START), of(START + 24 * HOUR));
    let both = first.intersection(&second).count() as f64;
    assert!((both - 500.0).abs() < 5.2 * (2_000.0 * 0.25 * 0.75_f64).sqrt(), "{both} hosts are in both days' samples");
    let (nobody, out) = sampled(0.999, 7, &[None, None], Rotation::Run, &[START, START]);
    assert_eq!((nobody.len(), out), (0, 2));
}

#[test]
fn who_is_not_in_the_sample_does_not_count_for_a_threshold() {
    let rules = vec![rule("out", "x", Transform::Allow { values: vec!["a".into()], other: None })];
    let with = |share: Option<f64>| {
        let sample = share.map(|share| ("cell".into(), shared(share))).into_iter().collect();
        let min_k = HashMap::from([("cell".into(), MinK { k: 10, by: vec!["out".into()] })]);
        let mut gate = gate(FieldType::Enum, Policy { sample, min_k, ..policy(rules.clone()) });
        gate.clear("cell", &frame(FieldType::Enum, texts(&["a"; 12]))).unwrap();
        let waiting = gate.waiting_rows();
        (waiting, gate.sampled_out(), rows(&gate.finish().unwrap()).len())
    };
    assert_eq!(with(None), (12, 0, 12));
    let (waiting, out, left) = with(Some(0.5));
    assert_eq!(waiting + out, 12);
    assert!(waiting < 10 && left == 0, "{waiting} hosts are too few");
    let fault = |by: &str| {
        let sample = HashMap::from([("cell".into(), Share { by: by.into(), below: 1 })]);
        maybe_gate(FieldType::Bytes, Policy { sample, ..policy(vec![rule("out", "x", Transform::Keep)]) }, 7)
            .err()
            .unwrap()
            .rule
    };
    assert_eq!(
        [fault("nothing"), fault("x")],
        ["sample", "sample"],
        "a unit is an address, a mailbox, a station or a flow"
    );
}

// ---- delay ----

#[test]
fn delayed_rows_leave_when_their_window_is_over() {
    let rules = || vec![rule("out", "x", Transform::Keep)];
    let mut gate = gate(FieldType::Count, Policy { delay: true, window: Rotation::Hour, ..policy(rules()) });
    let at = |ts: i64| frame_of(FieldType::Count, &[ts], &[None], Arc::new(UInt64Array::from(vec![1])));
    assert!(gate.clear("cell", &at(START)).unwrap().is_empty());
    assert!(gate.clear("cell", &at(START + 1)).unwrap().is_empty());
    let freed = gate.clear("cell", &at(START + HOUR)).unwrap();
    assert_eq!(rows(&freed).len(), 2);
    assert_eq!(gate.waiting_rows(), 1);
    gate.forget();
    assert!(gate.finish().is_err());
}

// ---- ja4_a, oui_top, role of mail, allow in lists ----

#[test]
fn only_the_first_part_of_a_fingerprint_leaves_and_only_if_it_is_one() {
    let cells =
        texts(&["t13d1516h2_8daaf6152771_e5627efa2ab1", "q13i0311h3_1_2", "d41d8cd98f00b204e9800998ecf8427e", ""]);
    assert_eq!(column(FieldType::Fingerprint, Transform::Ja4A, cells), ["t13d1516h2", "q13i0311h3", "-", "-"]);
    for bad in ["x13d1516h2", "t14d1516h2", "t13x1516h2", "t13d15a6h2", "t13d1516h!", "t13d1516h22", "t13d1516h"] {
        assert_eq!(ja4_a(bad), None, "{bad}");
    }
    assert!(!fits(FieldType::Digest, Transform::Ja4A));
}

#[test]
fn a_maker_is_shown_only_if_enough_units_have_it_and_never_of_a_made_up_address() {
    let top = || Transform::TopK { shown: Shown::Oui, k: 3, n: None, list: None, other: Other::Word("rare".into()) };
    let station = |oui: [u8; 3], last: u8| Some([oui[0], oui[1], oui[2], 0, 0, last]);
    let common: Vec<_> = (0..3).map(|last| station([0, 0x1b, 0x21], last)).collect();
    let rare: Vec<_> = (0..2).map(|last| station([0, 0x50, 0x56], last)).collect();
    let made_up: Vec<_> = (0..5).map(|last| station([0x0a, 1, 2], last)).collect();
    let shown = column(FieldType::Mac, top(), binaries(&[common, rare, made_up].concat()));
    assert_eq!(shown[..3], ["00:1b:21"; 3]);
    assert_eq!(shown[3..], ["rare"; 7]);
    assert_eq!([oui(&[1, 0, 0, 0, 0, 0]), oui(&[0; 5]), oui(&[0; 6])], [None, None, Some("00:00:00".into())]);
    assert!(!fits(FieldType::Address, top()));
}

#[test]
fn a_mailbox_is_told_by_whose_it_is() {
    let domains = ["example.org".to_owned()];
    for (address, role) in [
        ("Alice@Example.org", Some("internal")),
        ("<bob@mail.example.org>", Some("internal")),
        ("carol@notexample.org", Some("external")),
        ("postmaster@example.org", Some("postmaster")),
        ("MAILER-DAEMON@example.net", Some("postmaster")),
        ("dev-bounces+dave=example.com@example.net", Some("list")),
        ("owner-dev@example.net", Some("list")),
        ("dev@lists.example.net", Some("list")),
        ("no address", None),
        ("@example.org", None),
        ("x@", None),
    ] {
        assert_eq!(mail_role(address, &domains), role, "{address}");
    }
    let rules = vec![rule("ts", "ts", Transform::Keep), rule("out", "x", Transform::Role)];
    let sites = Sites { domains: domains.to_vec(), ..Sites::default() };
    let mut gate = gate(FieldType::MailAddress, Policy { sites, ..policy(rules) });
    let cleared =
        gate.clear("cell", &frame(FieldType::MailAddress, texts(&["a@example.org", "b@example.net"]))).unwrap();
    assert_eq!(rows(&cleared).into_iter().map(|row| row[1].clone()).collect::<Vec<_>>(), ["internal", "external"]);
}

#[test]
fn of_a_list_of_words_those_that_are_named_leave() {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for items in [&["SPF_PASS", "SECRET", "URIBL_X"][..], &[]] {
        items.iter().for_each(|item| lists.values().append_value(item));
        lists.append(true);
    }
    lists.append_null();
    let cells: ArrayRef = Arc::new(lists.finish());
    let allow = |other: Option<&str>| Transform::Allow {
        values: vec!["SPF_PASS".into(), "URIBL_*".into()],
        other: other.map(str::to_owned),
    };
    assert_eq!(column(FieldType::TextList, allow(None), cells.clone()), ["SPF_PASS URIBL_*", "", "-"]);
    assert_eq!(column(FieldType::TextList, allow(Some("other")), cells), ["SPF_PASS other URIBL_*", "", "-"]);
    assert!(!fits(FieldType::Text, allow(None)), "free text has no words");
}

// ---- bounds of cells and of aggregates ----

#[test]
fn digests_and_fingerprints_are_as_long_as_they_may_be_and_no_longer() {
    for (kind, most) in [(FieldType::Digest, DIGEST_BYTES), (FieldType::Fingerprint, FINGERPRINT_BYTES)] {
        let clear = |length: usize| {
            let mut gate = gate(kind, policy(vec![rule("out", "x", Transform::Keep)]));
            gate.clear("cell", &frame(kind, texts(&["a".repeat(length).as_str()]))).map(|cleared| rows(&cleared).len())
        };
        assert_eq!(clear(most), Ok(1), "{kind:?}");
        assert_eq!(clear(most + 1), Err(Refusal::BadValue), "{kind:?}");
    }
}

#[test]
fn units_beyond_the_bound_do_not_count_for_an_aggregate() {
    let aggregate = Aggregate {
        name: "units".into(),
        of: "cell".into(),
        measure: Measure::Count,
        by: None,
        filter: Vec::new(),
        unit: "x".into(),
        rows_per_unit: 1,
        epsilon: 1.0,
        min_size: 0,
    };
    let policy = Policy { aggregates: vec![aggregate], epsilon: 1.0, ..Policy::of_rules(HashMap::new()) };
    let mut gate = gate(FieldType::FlowId, policy);
    gate.set_noise(Box::new(|_| Some(0)));
    let units = AGGREGATE_UNITS as u64;
    for range in [0..units, units..units + 1] {
        let count = usize::try_from(range.end - range.start).unwrap();
        let cells: ArrayRef = Arc::new(range.collect::<UInt64Array>());
        let bytes = frame_of(FieldType::FlowId, &vec![START; count], &vec![None; count], cells);
        assert!(gate.clear("cell", &bytes).unwrap().is_empty());
    }
    assert_eq!(gate.waiting_rows(), units + 1, "an abort would destroy them");
    let cleared = gate.finish().unwrap();
    let batch = StreamReader::try_new(cleared[0].ipc(), None).unwrap().next().unwrap().unwrap();
    let value = batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().value(0);
    assert_eq!((value, gate.waiting_rows()), (units as f64, 0));
}

/// A cell that is no value of its type, and why it is refused. None: every value that Arrow can hold there is one.
fn bad_cell(kind: FieldType) -> Option<(ArrayRef, Refusal)> {
    let long = "x".repeat(Limits::default().text_bytes + 1);
    let times =
        |ns: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(vec![START, ns]).with_timezone("UTC")) };
    Some(match kind {
        FieldType::Address
        | FieldType::Mac
        | FieldType::Port
        | FieldType::Code
        | FieldType::FlowId
        | FieldType::Bytes
        | FieldType::Count
        | FieldType::Flag
        | FieldType::Flags => return None,
        // Its cells have no transform but presence and length; a frame's bytes bound it.
        FieldType::Content => return None,
        FieldType::AddressList => {
            let mut lists = ListBuilder::new(FixedSizeBinaryBuilder::new(16));
            lists.append(true);
            lists.values().append_null();
            lists.append(true);
            (Arc::new(lists.finish()), Refusal::BadValue)
        }
        FieldType::TextList => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            lists.append(true);
            lists.values().append_value(&long);
            lists.append(true);
            (Arc::new(lists.finish()), Refusal::CellTooLong)
        }
        FieldType::Vlan => (Arc::new(UInt16Array::from(vec![4_095, 4_096])), Refusal::BadValue),
        FieldType::Time => (times(-1), Refusal::BadValue),
        FieldType::Duration => (Arc::new(DurationNanosecondArray::from(vec![0, -1])), Refusal::BadValue),
        FieldType::Score => (Arc::new(Float64Array::from(vec![0.0, f64::NAN])), Refusal::BadValue),
        FieldType::Digest => (texts(&["ab", "no hex"]), Refusal::BadValue),
        FieldType::Fingerprint => (texts(&["t13", "t 13"]), Refusal::BadValue),
        FieldType::Host
        | FieldType::Url
        | FieldType::MailAddress
        | FieldType::UserAgent
        | FieldType::Enum
        | FieldType::Mime
        | FieldType::Text => (texts(&["", &long]), Refusal::CellTooLong),
    })
}

#[test]
fn one_bad_cell_of_any_type_refuses_the_batch_also_where_the_column_does_not_leave() {
    for kind in FieldType::ALL {
        let Some((cells, why)) = bad_cell(*kind) else { continue };
        for rules in [vec![rule("out", "x", Transform::Present)], vec![rule("out", "orig_h", Transform::Keep)]] {
            let mut gate = gate(*kind, policy(rules));
            let good = frame(*kind, cells.slice(0, 1));
            assert_eq!(gate.clear("cell", &good).map(|cleared| cleared[0].rows()), Ok(1), "{kind:?}");
            assert_eq!(gate.clear("cell", &frame(*kind, cells.clone())).err(), Some(why), "{kind:?}");
            assert_eq!(
                gate.clear("cell", &good).map(|cleared| cleared[0].rows()),
                Ok(1),
                "{kind:?}: and the next is taken"
            );
        }
    }
}

#[test]
fn lists_are_as_long_as_they_may_be_and_no_longer() {
    let most = Limits::default().list_items;
    for (items, refused) in [(most, None), (most + 1, Some(Refusal::CellTooLong))] {
        let mut lists = ListBuilder::new(StringBuilder::new());
        (0..items).for_each(|_| lists.values().append_value("x"));
        lists.append(true);
        let mut gate = gate(FieldType::TextList, policy(vec![rule("out", "x", Transform::Len)]));
        assert_eq!(gate.clear("cell", &frame(FieldType::TextList, Arc::new(lists.finish()))).err(), refused);
    }
}
