"""The phishing study over its own invented traffic, and the signs of single pages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from boxes import ROOT, balanced, bunker, counters, rows
from pcapfile import write_pcapng
from phishing_traffic import PLACE, packets

from bunker.analyzers.phishing import BRANDS, WEIGHTS, Brand, phishing

PLANTED = (
    b"campus.example", b"paypal-secure", b"GTUBE-STANDARD", b"Noon", b"URGENT", b"203.0.113.66", b"invented",
)  # fmt: skip
STUDY = ROOT / "examples" / "phishing-study"


def test_the_examples_traffic_is_what_its_maker_makes(tmp_path: Path) -> None:
    write_pcapng(tmp_path / "again.pcapng", packets())
    assert (tmp_path / "again.pcapng").read_bytes() == PLACE.read_bytes()


@pytest.mark.root
def test_the_study_finds_its_mails_and_its_trap_and_tells_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bunker("run", str(STUDY / "experiment.toml"), "-o", str(out), "--read", str(PLACE))
    assert done.returncode == 0, done.stderr
    assert balanced(counters(out))
    spam = rows(out, "spam")
    assert Counter(row["proto"] for row in spam) == {"smtp": 3, "pop3": 3, "webmail": 2}
    assert Counter(row["proto"] for row in spam if row["spam"]) >= Counter({"smtp": 1, "pop3": 1})
    assert len({row["sender"] for row in spam if row["proto"] == "smtp"}) == 3
    links = rows(out, "mail_links")
    assert Counter((row["proto"], row["misleading"], row["to_addresses"]) for row in links if row["links"]) == {
        (proto, 1, 1): 1 for proto in ("smtp", "pop3", "webmail")
    }
    pages = rows(out, "phishing")
    assert len(pages) == 2
    trap = max(pages, key=lambda row: int(row["score"]))
    assert (trap["brand"], trap["brand_elsewhere"], trap["card"], trap["at_address"]) == ("paypal", True, True, True)
    alice = {row["client"] for row in spam if row["proto"] == "webmail"}
    assert trap["client"] in alice, "who read the mail is who met the trap"
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in PLANTED)


def page(form: str, *, title: str = "Log in", host: str = "www.site.example") -> list[Any]:
    body = f"<!doctype html><title>{title}</title>{form}".encode()
    found: list[Any] = []
    tx = SimpleNamespace(ts=1, client="192.0.2.1", server="192.0.2.2", host=host, resp_body=body)
    phishing.function(tx, found.append)
    return found


def signs(row: Any) -> set[str]:
    return {name for name in WEIGHTS if getattr(row, name)}


SECRET = '<input type="PASSWORD" name="p">'


@pytest.mark.parametrize(
    ("form", "about", "expected"),
    [
        (f"<form>{SECRET}</form>", {}, set()),
        (f'<form action="/in">{SECRET}</form>', {}, set()),
        (
            f'<form action="https://login.site.example/in">{SECRET}</form>',
            {"host": "www.site.co.uk"},
            {"to_other_site"},
        ),
        (f'<form action="//other.com/in">{SECRET}</form>', {"host": "www.site.com"}, {"to_other_site"}),
        (f'<form action="//in.site.com/in">{SECRET}</form>', {"host": "www.site.com"}, set()),
        (f'<form action="http://203.0.113.9/in">{SECRET}</form>', {}, {"to_address", "to_other_site"}),
        (f'<form action="http://[2001:db8::1]:8/in">{SECRET}</form>', {}, {"to_address", "to_other_site"}),
        (f'<form action="mailto:x@y.example">{SECRET}</form>', {}, {"to_mail"}),
        (f"<form>{SECRET}</form>", {"title": "Your PayPal account"}, {"brand_elsewhere"}),
        (f"<form>{SECRET}</form>", {"title": "Your PayPal account", "host": "www.paypal.com"}, set()),
        (
            f"<form>{SECRET}</form>",
            {"title": "Your PayPal account", "host": "paypal.com.x.example"},
            {"brand_elsewhere"},
        ),
        (f"<form>{SECRET}</form>", {"host": "203.0.113.9"}, {"at_address"}),
        (f"<form>{SECRET}</form>", {"host": "xn--pypal-4ve.com"}, {"punycode"}),
        (f"<form>{SECRET}</form>", {"host": "a.b.c.d.site.com"}, {"many_labels"}),
        ('<form><input name="cardnumber"></form>', {}, {"card"}),
    ],
)
def test_a_sign_is_seen_where_it_is(form: str, about: dict[str, str], expected: set[str]) -> None:
    (row,) = page(form, **about)
    assert signs(row) == expected
    assert row.score == sum(WEIGHTS[sign] for sign in expected)


@pytest.mark.parametrize("form", ["", "<p>password</p>", '<form><input name="q"></form>', SECRET])
def test_a_page_that_asks_for_nothing_is_none(form: str) -> None:
    assert page(form) == []


@pytest.mark.parametrize(
    "action", ["http://[", "http://" + "a" * 5000, "\0", "javascript:x()", "http://host:99999999/"]
)
def test_a_broken_target_is_no_fault(action: str) -> None:
    assert len(page(f'<form action="{action}">{SECRET}</form>')) == 1


def test_brands_are_the_words_of_the_record() -> None:
    assert set(Brand.__args__) == set(BRANDS)  # type: ignore[attr-defined]
