"""What the gate reads of a record crosses, and nothing else does; the output is the same with it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from policies import HEAD, SCHEMAS, VISIT, WHOLE, out, read

from bunker.experiment.bundle import seal
from bunker.model.fields import RecordSchema
from bunker.model.messages import message_record
from bunker.native.clear import Gate
from bunker.native.wire import Batch, RecordBuilder
from bunker.policy.load import Policy, policy_of
from bunker.policy.needed import crossing, needed

STUDIES = sorted((Path(__file__).parents[3] / "examples").glob("*/experiment.toml"))


def gate(policy: Policy, schemas: dict[str, RecordSchema]) -> Gate:
    return Gate(policy.compiled(), {name: schema.described() for name, schema in schemas.items()}, policy.packets())


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ('host = "present"', {"ts", "host"}),
        ('where = { do = "present", from = "uri" }', {"ts", "uri"}),
        ('uri = { do = "chain", with = "host" }', {"ts", "uri", "host"}),
        ('size = "present"\n[passes]\nscanners = { do = "drop" }', {"ts", "size", "orig_h"}),
        ('host = "present"\n[gate]\nsample = { visit = { share = 0.5, by = "orig_h" } }', {"ts", "host", "orig_h"}),
        ('host = "present"\n[gate]\nunit = "orig_h"\nrows = { visit = { min_k = 3, by = ["host"] } }', None),
    ],
)
def test_needed_are_sources_partners_units_and_what_scanners_are_told_by(lines: str, names: set[str] | None) -> None:
    policy = read(out(lines))
    assert needed(policy, "visit") == (names or {"ts", "host", "orig_h"})


def test_an_aggregate_needs_its_fields_without_any_rule() -> None:
    text = (
        HEAD
        + '[privacy]\nepsilon = 1.0\nunit = "orig_h"\nrows_per_unit = 1\n'
        + '[aggregate.sizes]\nof = "visit"\ndo = "sum"\nfield = "size"\nbounds = [0, 9]\nby = "kind"\nkeys = ["one"]\n'
        + 'where = { method = ["GET"] }\nepsilon = 1.0\n'
    )
    policy = read(text)
    assert needed(policy, "visit") == {"ts", "orig_h", "size", "kind", "method"}
    assert needed(policy, "timeless") == {"size"}, "its rows are still counted"


def test_scanners_are_found_by_the_states_of_flows() -> None:
    schemas = {"flow": message_record("flow")}
    text = HEAD + '[out.flow]\nproto = "present"\n[passes]\nscanners = { do = "split" }\n'
    policy = policy_of(text, schemas, {}, name="p.toml")
    assert needed(policy, "flow") == {"ts", "orig_h", "resp_h", "conn_state", "proto"}


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.parent.name)
def test_every_example_fits_a_gate_that_knows_only_what_crosses(study: Path) -> None:
    bundle = seal(study)
    policy = policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name="p.toml")
    whole, narrow = gate(policy, dict(bundle.schemas)), gate(policy, dict(crossing(policy)))
    for record in bundle.schemas:
        assert narrow.outputs(record) == whole.outputs(record)


def test_a_gate_refuses_a_record_without_a_column_that_a_rule_needs() -> None:
    policy = read(WHOLE)
    crosses = dict(crossing(policy))
    gate(policy, crosses)
    for name in {rule.source.name for rule in policy.rules["visit"]}:
        fields = tuple(field for field in crosses["visit"].fields if field.name != name)
        with pytest.raises(ValueError, match="visit"):
            gate(policy, {**crosses, "visit": RecordSchema(name="visit", fields=fields)})


def test_rows_leave_as_they_would_with_every_column() -> None:
    policy = read(out('host = "len"\nstatus = { do = "bucket", edges = [200, 300] }\nnotes = "count"'))
    builder = RecordBuilder(VISIT.described())
    for number in range(20):
        values = {
            "ts": 1_700_000_000_000_000_000 + number, "orig_h": "192.0.2.1", "resp_p": 80, "host": "a" * number,
            "notes": ["x"] * (number % 3), "kind": "one", "method": "GET", "status": 190 + 10 * number, "size": number,
            "score": 0.5,
        }  # fmt: skip
        builder.append(tuple(values.get(field.name) for field in VISIT.fields))
    batch = builder.finish()
    released = []
    for schemas in (SCHEMAS, crossing(policy)):
        kept = batch.select([field.name for field in schemas["visit"].fields])
        rows = gate(policy, dict(schemas)).clear("visit", kept.ipc())
        tables = [pa.ipc.open_stream(one.ipc()).read_all() for one in rows]
        released.append(sorted(str(row) for table in tables for row in table.to_pylist()))
    assert released[0] == released[1]
    assert len(released[0]) == 20
    assert batch.num_rows == 20


def test_a_worker_that_sends_more_than_crosses_is_refused() -> None:
    policy = read(out('host = "len"'))
    builder = RecordBuilder(SCHEMAS["timeless"].described())
    builder.append((1,))
    batch: Batch = builder.finish()
    assert gate(policy, dict(crossing(policy))).clear("timeless", batch.ipc()) == []
    wide = RecordBuilder([*SCHEMAS["timeless"].described(), ("more", "Count", False)])
    wide.append((1, 2))
    with pytest.raises(Exception, match="schema"):
        gate(policy, dict(crossing(policy))).clear("timeless", wide.finish().ipc())
