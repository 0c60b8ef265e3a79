"""`bunker check`: bits, risks, what an attacker learns."""

from __future__ import annotations

import math

import pytest
from policies import SCHEMAS, WHOLE, out, read

from bunker.policy.report import bits_of, lines_of, row_bits
from bunker.policy.risks import RISKS, attacker_lines, findings


@pytest.mark.parametrize(
    ("line", "bits"),
    [
        ('kind = { do = "keep", because = "x" }', math.log2(3)),
        ('method = { do = "allow", values = ["a", "b"], other = "c" }', 2.0),
        ('status = { do = "allow", values = "100-599" }', math.log2(501)),
        ('body = "present"', 1.0),
        ('orig_h = "tag"', 128.0),
        ('orig_h = "role"', math.log2(5)),
        ('resp_p = { do = "service", ports = [80, 443, 22] }', 2.0),
        ('agent = "family_major"', math.log2(23 * 1001 + 1)),
    ],
)
def test_bits_of_a_cell_are_counted_from_the_schema(line: str, bits: float) -> None:
    policy = read(out(line))
    assert bits_of(policy.rules["visit"][0], policy) == pytest.approx(bits)


def test_no_cell_of_a_whole_policy_is_a_text_of_64_kib() -> None:
    policy = read(WHOLE)
    lines = [line for line in lines_of(policy) if line.bits is not None]
    wide = {line.field for line in lines if (line.bits or 0) > 4096}
    assert wide == {"notes"}, "a list of addresses is the one wide cell: as many as its text had"
    assert row_bits(policy, "visit") == pytest.approx(sum(line.bits or 0 for line in lines if line.record == "visit"))
    dropped = {line.field for line in lines_of(policy) if line.bits is None and line.record == "visit"}
    assert dropped == {"method"}


def test_every_risk_says_what_to_write_instead() -> None:
    for risk in RISKS.values():
        assert risk.attack and risk.remedy and risk.refused_by <= {"public", "partner", "internal"}
        assert "public" in risk.refused_by, "the public profile refuses all"


def test_what_an_attacker_learns_grows_with_what_he_knows() -> None:
    policy = read(out('orig_h = "pfx"'))
    few, many = attacker_lines(policy, injected=1, known=1), attacker_lines(policy, injected=9, known=1023)
    assert "the first 2 bits" in few[1] and "the first 11 bits" in many[1]
    assert attacker_lines(read(out('kind = "present"')), injected=9, known=9) == [
        "nothing by injection: no pseudonym leaves"
    ]
    assert any("epsilon 1" in line for line in attacker_lines(read(WHOLE), injected=1, known=1))


def test_findings_name_their_place() -> None:
    places = {finding.place for finding in findings(read(WHOLE))}
    assert {"visit", "visit.path"} <= places
    assert set(SCHEMAS) == {"visit", "timeless"}
