"""Deleting any rule of any example policy only ever takes away: never a row, a column, a distinction or a byte more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import record_attacks as attacks
from canary import make_canaries
from canary_capture import write_canary_capture

from bunker.errors import ConfigurationError
from bunker.experiment.bundle import Bundle, seal
from bunker.model.fields import FieldType
from bunker.native.trace import trace_provenance
from bunker.policy.load import Policy, policy_of
from bunker.policy.report import row_bits
from bunker.policy.trace import TraceRules
from bunker.policy.trace_file import read_trace

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDIES = sorted(path.parent.name for path in EXAMPLES.glob("*/experiment.toml") if path.parent.name != "header-trace")
HEADER_TRACES = [
    path for path in sorted(EXAMPLES.glob("*/*.toml")) if "pcap" in tomllib.loads(path.read_text()).get("out", {})
]
# What the loader says where a policy needs the rule for another's sake: then nothing leaves at all.
NEEDED = re.compile(
    "no rule uses it|has no rules|releases no|does not run|lets nothing out|wirelen|needs |is missing|there is no"
)
# Within a third of a second, which next to never meets the end of an epoch.
EVENTS = [replace(event, at_s=event.at_s / 1000) for event in attacks.make_world(5).events[::40]]


def without_each(text: str) -> Iterator[tuple[str, str]]:
    """(the rule's line, the policy without it) for each rule of each `[out...]` table."""
    lines, inside = text.splitlines(keepends=True), False
    for number, line in enumerate(lines):
        if line.startswith("["):
            inside = line.startswith("[out.")
        elif inside and re.match(r"[A-Za-z_]\w* = ", line):
            end = number + 1
            while "".join(lines[number:end]).count("[") > "".join(lines[number:end]).count("]"):
                end += 1  # a list over several lines
            yield line.strip(), "".join(lines[:number] + lines[end:])


@cache
def bundle_of(study: str) -> Bundle:
    return seal(EXAMPLES / study / "experiment.toml")


def read(study: str, text: str) -> Policy | None:
    """The policy, None if it refuses to do without the rule."""
    bundle = bundle_of(study)
    try:
        return policy_of(text, bundle.schemas, bundle.lists, name=study)
    except ConfigurationError as error:
        assert NEEDED.search(str(error)), error
        return None


def alike(rows: Sequence[attacks.Row], columns: Sequence[str]) -> list[tuple[int, ...]]:
    """For each row and column the number of the first row with the same value: what can be told apart."""
    first: dict[tuple[str, str], int] = {}
    return [
        tuple(first.setdefault((column, repr(row[column])), number) for column in columns)
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("study", STUDIES)
def test_a_record_policy_without_a_rule_tells_less(study: str) -> None:
    text = bundle_of(study).policy_text
    whole = read(study, text)
    assert whole is not None
    events = {record: attacks.in_company(whole, record, EVENTS) for record in whole.rules}
    released = {record: attacks.release_record(whole, record, events[record]) for record in whole.rules}
    tried = 0
    for line, shorter in without_each(text):
        less = read(study, shorter)
        if less is None:
            continue
        tried += 1
        assert set(less.rules) <= set(whole.rules)
        for record, rules in less.rules.items():
            names = [rule.name for rule in rules]
            if rules == whole.rules[record]:
                continue
            assert set(names) < {rule.name for rule in whole.rules[record]}, line
            assert row_bits(less, record) < row_bits(whole, record), line
            seen = attacks.release_record(less, record, events[record])
            assert [list(row) for _, row in seen.rows] == [names] * len(released[record].rows), line
            # Where in a grain a time lies is the shift's doing, which is drawn for each run.
            timeless = [rule.name for rule in rules if rule.source.type is not FieldType.TIME]
            before = alike([row for _, row in released[record].rows], timeless)
            assert alike([row for _, row in seen.rows], timeless) == before, line
    assert tried >= 3


def provenance(rules: TraceRules, data: bytes) -> tuple[int, set[str]]:
    made = trace_provenance(list(rules.words), data)
    return len(made), {key for _, keys in made for key in keys}


@pytest.mark.parametrize("policy", HEADER_TRACES, ids=lambda path: path.stem)
def test_a_header_trace_without_a_rule_has_no_more_packets_and_no_byte_of_another_rule(
    policy: Path, tmp_path: Path
) -> None:
    """What a single byte may say without a rule is a property of the core: `crates/clear/tests/trace.rs`."""
    capture = tmp_path / "c.pcap"
    write_canary_capture(capture, make_canaries("fewer"))
    data, text = capture.read_bytes(), policy.read_text()
    packets, keys = provenance(read_trace(text, name="whole"), data)
    tried = gone = 0
    for line, shorter in without_each(text):
        try:
            less = read_trace(shorter, name="less")
        except ConfigurationError as error:
            assert NEEDED.search(str(error)), error
            continue
        left, kept = provenance(less, data)
        assert left <= packets and kept <= keys, line
        tried += 1
        gone += left < packets or kept < keys
    assert tried >= 30 and gone >= 15
