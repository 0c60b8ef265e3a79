#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
use bunker_wire::block::PackedWriter;

use super::*;

fn engine(kinds: &[MessageKind]) -> Engine {
    Engine::new(EngineConfig {
        lane: 0,
        want: Wanted::of(kinds),
        limits: Limits::default(),
        seed: [7; 16],
        checksums: Checksums::Ignore,
        http: crate::http::Config::default(),
    })
}

/// A block with one UDP datagram of each of `flows` flows; their numbers are 1, 2, 3, ...
fn datagrams(flows: u32) -> Vec<u8> {
    let mut writer = PackedWriter::new(1 << 20);
    for number in 0..flows {
        let mut bytes = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
        bytes.extend((0x0A00_0000 | number).to_be_bytes());
        bytes.extend([192, 0, 2, 1, 0x9C, 0x40, 0x23, 0x28, 0, 12, 0, 0, 1, 2, 3, 4]);
        let wire_len = bytes.len() as u32;
        let ts_ns = 1_000 + u64::from(number);
        let packet = Packet { ts_ns, captured: &bytes, wire_len, linktype: 101, vlan: None, checksum_not_ready: false };
        assert!(writer.push(&packet, 0));
    }
    writer.take().unwrap().bytes
}

fn count(engine: &Engine, name: &str) -> u64 {
    engine.counters().into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn a_flow_can_be_condemned_after_its_end_whether_or_not_its_record_is_wanted() {
    for kinds in [&[MessageKind::Http][..], &[MessageKind::Flow]] {
        let mut engine = engine(kinds);
        engine.feed(BlockFormat::Packed, &datagrams(3), 0).unwrap();
        engine.finish();
        assert_eq!((count(&engine, "flows_ended"), count(&engine, "flows_erroneous")), (3, 0));
        assert!(engine.condemn(2, Fault::Exception));
        assert!(engine.condemn(2, Fault::Time), "it is known, and already condemned");
        assert!(!engine.condemn(9, Fault::Exception), "there is no such flow");
        assert_eq!((count(&engine, "flows_ended"), count(&engine, "flows_erroneous")), (2, 1));
        let rows: usize = engine.take_flows().unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, if kinds == [MessageKind::Flow] { 3 } else { 0 });
        assert!(!engine.condemn(2, Fault::Exception), "its record is gone");
    }
}

#[test]
fn flows_are_found_to_be_condemned_while_others_come_and_go() {
    let mut engine = engine(&[MessageKind::Http]);
    engine.feed(BlockFormat::Packed, &datagrams(100), 0).unwrap();
    for uid in (1..=100).step_by(2) {
        assert!(engine.condemn(uid, Fault::Exception));
    }
    // The same flows again and a hundred more: what was found before must not be believed of them.
    engine.feed(BlockFormat::Packed, &datagrams(200), 1).unwrap();
    for uid in 101..=150 {
        assert!(engine.condemn(uid, Fault::Exception));
    }
    engine.expire(u64::MAX);
    assert_eq!(engine.tracker.flows(), 0);
    assert!(engine.condemn(2, Fault::Exception));
    engine.finish();
    assert_eq!(count(&engine, "flows_erroneous"), 101);
    assert_eq!(count(&engine, "flows_completed"), 99);
}

#[test]
fn looking_ahead_among_many_flows_changes_nothing() {
    // More flows than `COLD_FLOWS`, fed twice: the second time each packet is looked at before it comes.
    let flows = 6_000;
    let mut engine = engine(&[MessageKind::Flow]);
    for number in 0..2 {
        engine.feed(BlockFormat::Packed, &datagrams(flows), number).unwrap();
    }
    assert!(engine.tracker.flows() > COLD_FLOWS);
    engine.finish();
    let batches = engine.take_flows().unwrap();
    let mut packets = 0;
    for batch in &batches {
        let column = batch.column_by_name("orig_pkts").unwrap();
        let column = column.as_any().downcast_ref::<arrow_array::UInt64Array>().unwrap();
        assert!(column.iter().all(|count| count == Some(2)));
        packets += column.len();
    }
    assert_eq!(packets, flows as usize);
}

#[test]
fn chosen_columns_are_what_they_are_among_all_and_the_others_are_not_made() {
    let read = |wanted: Option<&[&str]>| {
        let mut engine = engine(&[MessageKind::Flow]);
        if let Some(wanted) = wanted {
            engine = engine.with_columns(MessageKind::Flow, &|name| wanted.contains(&name));
        }
        engine.feed(BlockFormat::Packed, &datagrams(5), 0).unwrap();
        engine.finish();
        assert!(engine.condemn(2, Fault::Time));
        engine.take_flows().unwrap().remove(0)
    };
    let whole = read(None);
    let chosen = read(Some(&["orig_pkts", "conn_state", "no such column"]));
    let names: Vec<_> = chosen.schema().fields().iter().map(|field| field.name().clone()).collect();
    let six = ["ts", "uid", "orig_h", "orig_p", "resp_h", "resp_p"];
    // How a flow ended is always told: it may still change.
    assert_eq!(names, [&six[..], &["conn_state", "orig_pkts", "fault", "outcome"]].concat());
    for name in &names {
        assert_eq!(chosen.column_by_name(name), whole.column_by_name(name), "{name}");
    }
    assert!(whole.num_columns() > chosen.num_columns());
}
