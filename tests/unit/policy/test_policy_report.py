"""`bunker check`: bits, risks, what an attacker learns."""

from __future__ import annotations

import math

import pytest
from policies import HEAD, SCHEMAS, WHOLE, out, read

from bunker.policy.attacker import attacker_lines
from bunker.policy.report import bits_of, lines_of, row_bits
from bunker.policy.risks import RISKS, findings


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
        ('size = { do = "const", value = 0 }', 0.0),
        ('orig_h = "enum"', math.log2(2**18 + 1)),
        ('ts = "enum"', math.log2(2**20 + 1)),
        ('size = { do = "noise", scale = 9 }', 64.0),
        ('ja4 = "ja4_a"', math.log2(3 * 10 * 2 * 10**4 * 62**2 + 1)),
        ('sender = "role"', math.log2(5)),
        ('mac = { do = "oui_top", k = 5 }', math.log2(2**22 + 2)),
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
    assert wide == {"notes", "hits"}, "lists are the wide cells: as many items as there were"
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


@pytest.mark.parametrize(
    ("lines", "risks"),
    [
        ('orig_h = "enum"', {"first-seen-order"}),
        ('order = { do = "enum", from = "ts" }', set()),
        ('size = { do = "noise", scale = 1000 }', {"noise-adds-up"}),
        ('size = { do = "noise", scale = 9 }', {"noise-adds-up", "exact-sizes"}),
        (
            'size = { do = "noise", scale = 1000 }\nagain = { do = "bucket", from = "size", edges = "log2" }',
            {"noise-adds-up", "noise-beside-value"},
        ),
        ('size = { do = "noise", scale = 1000 }\nthere = { do = "present", from = "size" }', {"noise-adds-up"}),
        ('ts = { do = "rel", grain = "1s" }', set()),
    ],
)
def test_what_is_known_to_be_bad_about_numbers_is_named(lines: str, risks: set[str]) -> None:
    accept = "accept = " + str(sorted(risks & {"noise-beside-value"})).replace("'", '"') + "\n"
    policy = read(HEAD + accept + f"[out.visit]\n{lines}\n")
    named = {"first-seen-order", "noise-adds-up", "noise-beside-value", "exact-sizes", "exact-times"}
    assert {finding.risk.name for finding in findings(policy)} & named == risks


def test_an_attacker_is_told_what_a_sample_and_a_delay_leave_him() -> None:
    lines = " ".join(attacker_lines(read(WHOLE), injected=100, known=1))
    assert "of 100 hosts of his own about 25" in lines and "leave together at its end" in lines
    plain = " ".join(attacker_lines(read(out('orig_h = "tag"')), injected=100, known=1))
    assert "about 25" not in plain and "leave together" not in plain


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('sender = "mail_tag"', "with 7 mails of his own"),
        ('sender = "etld1_tag"', "mailboxes or domains"),
        ('mac = "tag48"', "in the same network as 7 stations"),
        ('orig_h = "enum"', "with 7 flows of his own"),
    ],
)
def test_every_pseudonym_is_told_of(line: str, said: str) -> None:
    assert said in " ".join(attacker_lines(read(out(line)), injected=7, known=1))
    assert attacker_lines(read(out(line.split(" ", maxsplit=1)[0] + ' = "present"')), injected=7, known=1) == [
        "nothing by injection: no pseudonym leaves"
    ]


def test_a_tag_of_a_whole_fingerprint_is_a_risk_and_its_first_part_is_none() -> None:
    named = {one.risk.name for one in findings(read(out('ja4 = "tag"\nagent = "tag"'))) if one.record == "visit"}
    assert "fingerprint-tags" in named and "rare-fingerprint" not in named
    assert "fingerprint-tags" not in {one.risk.name for one in findings(read(out('ja4 = "ja4_a"')))}
