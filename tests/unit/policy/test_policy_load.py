"""The language: what is understood is compiled, what is not is refused with line and remedy."""

from __future__ import annotations

import hashlib
import re

import pytest
from policies import HEAD, NAMED, NAMES, SCHEMAS, WHOLE, out, read

from bunker.errors import ConfigurationError
from bunker.model.fields import FieldType
from bunker.native.clear import Gate, blake3_hex
from bunker.policy.load import fitting
from bunker.policy.transforms import TRANSFORMS


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD, None, "lets nothing out"),
        (HEAD + "[outs]\n", 5, "Did you mean 'out'?"),
        (HEAD + '[out.visits]\nts = "present"\n', 5, "Did you mean 'visit'?"),
        (out('hots = "tag"'), 6, "Did you mean 'host'?"),
        (out('host = "tags"'), 6, "Did you mean 'tag'?"),
        (out('host = { do = "tag", domian = "x" }'), 6, "Did you mean 'domain'?"),
        (out('host = "pfx"\nbody = "tag"'), 7, "does not fit a field of type Content"),
        (out('notes = "tag"'), 6, "does not fit a field of type TextList"),
        (out('host = { do = "keep", because = "no" }'), 6, "does not fit a field of type Host"),
        (out('uri = { do = "keep", because = "no" }'), 6, "does not fit a field of type Url"),
        (out('method = { do = "keep", because = "no" }'), 6, "words are declared"),
        (out('method = { do = "allow", values = ["*"] }'), 6, "which is all"),
        (out('method = { do = "allow", values = [1] }'), 6, "no list of words"),
        (out('status = { do = "allow", values = "599-100" }'), 6, "no range"),
        (out('status = { do = "allow", values = ["x"] }'), 6, "no list of numbers"),
        (out('size = "bucket"'), 6, "bucket needs edges"),
        (out('size = { do = "bucket", edges = [2, 1] }'), 6, "no growing list"),
        (out('score = { do = "bucket", edges = "log2" }'), 6, "no log2"),
        (out('ts = { do = "shift+grain", grain = "soon" }'), 6, "no duration"),
        (out('orig_h = { do = "truncate", v4 = 33 }'), 6, "Use 0 to 32"),
        (out('resp_p = "service"'), 6, "service needs ports"),
        (out('host = { do = "topk", list = "public" }'), 6, "topk needs k"),
        (out('host = { do = "topk", k = 1 }'), 6, "from 2 to"),
        (out('host = { do = "topk", k = 5, list = "secret" }'), 6, "no list 'secret'"),
        (out('uri = { do = "chain", with = "uri" }'), 6, "no field of type Host"),
        (out('ts = { do = "jitter", grain = "1s" }'), 6, "jitter needs span"),
        (out('ts = { do = "jitter", grain = "1s", span = "2" }'), 6, "span is no duration"),
        (out('size = "round"'), 6, "round needs to"),
        (out('size = { do = "round", to = 1 }'), 6, "no whole number from 2"),
        (out('size = { do = "round", to = "1s" }'), 6, "no whole number from 2"),
        (out('score = { do = "round", to = 5 }'), 6, "does not fit a field of type Score"),
        (out('size = "noise"'), 6, "noise needs scale"),
        (out('size = { do = "noise", scale = 0 }'), 6, "no whole number from 1"),
        (out('size = { do = "noise", scale = 1099511627777 }'), 6, "no whole number from 1"),
        (out('size = { do = "noise", scale = "1s" }'), 6, "Write scale = 1000"),
        (out('score = { do = "noise", scale = 5 }'), 6, "does not fit a field of type Score"),
        (
            out('size = { do = "noise", scale = 9 }\nagain = { do = "noise", from = "size", scale = 9 }'),
            6,
            "leaves with two noises",
        ),
        (out('host = "enum"'), 6, "does not fit a field of type Host"),
        (out('orig_h = { do = "enum", domain = "x" }'), 6, "enum has no setting 'domain'"),
        (out('ts = "rel"'), 6, "rel needs grain"),
        (out('size = { do = "rel", grain = "1s" }'), 6, "does not fit a field of type Bytes"),
        (out('host = "const"'), 6, "const needs value"),
        (out('host = { do = "const", value = 5 }'), 6, "value is no word"),
        (out('resp_p = { do = "const", value = 65536 }'), 6, "no whole number from 0 to 65535"),
        (out('size = { do = "const", value = "x" }'), 6, "no whole number from 0"),
        (out('agent = "ja4_a"'), 6, "does not fit a field of type UserAgent"),
        (out('orig_h = { do = "oui_top", k = 5 }'), 6, "does not fit a field of type Address"),
        (out('host = "tag"') + "[gate]\nsample = 0.1\n", 8, "Write sample = { http"),
        (out('host = "tag"') + "[gate]\nsample = { visits = { share = 0.1 } }\n", 8, "Did you mean 'visit'?"),
        (out('host = "tag"') + "[gate]\nsample = { visit = { share = 1 } }\n", 8, "between 0 and 1"),
        (out('host = "tag"') + "[gate]\nsample = { visit = { share = true } }\n", 8, "between 0 and 1"),
        (out('host = "tag"') + "[gate]\nsample = { visit = { p = 0.1 } }\n", 8, "not a share and by"),
        (out('host = "tag"') + '[gate]\nsample = { visit = { share = 0.1, by = "size" } }\n', 8, "could be drawn"),
        (out('host = "tag"') + "[gate]\ndelay = true\n", 8, "Known: none, window"),
        (out('host = "tag"') + '[sites]\ndomains = ["@example.org"]\n', 8, "are no domains"),
        (out('orig_h = "asn"'), 6, "asn needs k"),
        (out('orig_h = { do = "asn", k = 5 }'), 6, "asn needs list"),
        (out('host = { do = "country", k = 5 }'), 6, "does not fit a field of type Host"),
        (out('orig_h = { do = "asn", k = 5, list = "public" }') + NAMED, 6, "is no prefix"),
        (out('client = "id.client"'), 6, "there is no [id.client]"),
        (out('host = "tag"') + '[id.client]\ndo = "tag"\n', 7, "no rule uses it"),
        (out('host = "tag"') + '[keys]\nepoch = "year"\n', 8, "Known: day, hour, run"),
        (out('host = "tag"') + '[keys]\nroot = "0123"\n', 8, "drawn in the box"),
        (out('host = "tag"') + NAMED, 8, "no rule uses it"),
        (out('host = "tag"') + "[gate]\nmin_kk = 3\n", 8, "Did you mean 'min_k'?"),
        (out('host = "tag"') + '[gate]\nrows = { visit = { min_k = 3, by = ["uri"] } }\n', 8, "releases no 'uri'"),
        (
            out('host = "tag"') + '[gate]\nunit = "who"\nrows = { visit = { min_k = 3, by = ["host"] } }\n',
            8,
            "to count",
        ),
        (out('host = "tag"') + '[sites]\ninternal = ["192.0.2.7/24"]\n', 8, "no network"),
        (out('host = "tag"') + '[addresses]\nnames = "keep"\n', 8, "Known: cryptopan, pfx, tag, truncate"),
        (out('host = "tag"') + "[privacy]\nepsilon = 1.0\n", 7, "one without the other"),
        (HEAD + '[keys]\nepoch = "day"\n[out.timeless]\nsize = "present"\n', 7, "the record has no time"),
        (HEAD.replace("tests", "t") + 'profile = "secret"\n' + '[out.visit]\nhost = "tag"\n', 5, "Use one of"),
    ],
)
def test_what_is_not_understood_is_refused_with_line_and_remedy(text: str, line: int | None, said: str) -> None:
    message = refusal(text)
    assert said in message
    if line is not None:
        assert f", line {line}:" in message


def test_a_list_with_another_hash_is_refused() -> None:
    text = HEAD + NAMED + '[out.visit]\nhost = { do = "topk", k = 5, list = "public", other = "etld1_tag" }\n'
    assert read(text).lists == {"public": {"example.com": "listed", "example.org": "news"}}
    with pytest.raises(ConfigurationError, match="its hash is another"):
        read(text, {"names.txt": NAMES + b"x\n"})
    digest = blake3_hex(NAMES)
    assert read(re.sub('sha256 = "[0-9a-f]*"', f'blake3 = "{digest}"', text)).lists


def networks(lines: bytes, rule: str) -> str:
    return out(rule) + f'[lists]\nnets = {{ file = "nets.txt", sha256 = "{hashlib.sha256(lines).hexdigest()}" }}\n'


@pytest.mark.parametrize(
    ("lines", "do", "said"),
    [
        (b"192.0.2.0/24 AS64500\n2001:db8::/32 64501\n", "asn", None),
        (b"192.0.2.0/24 AT\n2001:db8::/32 DE\n", "country", None),
        (b"192.0.2.0/24 AS64500\n", "country", "calls a prefix 'AS64500'"),
        (b"192.0.2.0/24 example-net\n", "asn", "calls a prefix 'example-net'"),
        (b"192.0.2.0/24\n", "country", "calls a prefix 'listed'"),
        (b"192.0.2.7/24 DE\n", "country", "is no prefix"),
        (b"192.0.2.7 DE\n", "country", "is no prefix"),
    ],
)
def test_a_list_of_networks_says_nothing_but_what_its_transform_shows(lines: bytes, do: str, said: str | None) -> None:
    text = networks(lines, f'orig_h = {{ do = "{do}", k = 5, list = "nets", other = "other" }}')
    if said is None:
        policy = read(text, {"nets.txt": lines})
        assert policy.waits("visit") and policy.units == {"visit": "orig_h"}
        assert Gate(policy.compiled(), {"visit": SCHEMAS["visit"].described()}).outputs("visit") == [("orig_h", "text")]
    else:
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            read(text, {"nets.txt": lines})


def test_no_transform_lets_free_text_out() -> None:
    of_addresses = {"pfx", "cryptopan", "truncate", "role"}
    for kind in (FieldType.TEXT, FieldType.TEXT_LIST, FieldType.CONTENT):
        of_words = {"allow"} if kind is FieldType.TEXT_LIST else set()  # the words are the policy's
        assert set(fitting(kind)) <= {"drop", "present", "const", "len", "count", *of_addresses, *of_words}


def test_every_transform_fits_something_and_says_what_is_learnt() -> None:
    fits = {name for kind in FieldType for name in fitting(kind)}
    assert fits == {*TRANSFORMS, "drop"}
    assert all(kind.learns for kind in TRANSFORMS.values())


RISKY = [
    ("clear-address", 'orig_h = { do = "keep", because = "x" }'),
    ("exact-times", 'ts = { do = "keep", because = "x" }'),
    ("pfx-with-exact-sizes", 'orig_h = "pfx"\nsize = { do = "keep", because = "x" }'),
    ("pfx-with-exact-sizes", 'orig_h = "pfx"\nsize = { do = "round", to = 100 }'),
    ("path-without-host", 'uri = "chain"'),
    ("clear-names-without-list", 'host = { do = "topk", k = 5 }'),
    ("rare-fingerprint", 'ja4 = { do = "keep", because = "x" }'),
]


@pytest.mark.parametrize(("risk", "lines"), RISKY)
def test_a_known_bad_combination_is_refused_unless_accepted_by_name(risk: str, lines: str) -> None:
    assert f'accept = ["{risk}"]' in refusal(out(lines))
    accepted = out(lines).replace("[out.visit]", f'accept = ["{risk}"]\n[out.visit]')
    assert read(accepted).accept == {risk}
    internal = out(lines).replace("[out.visit]", 'profile = "internal"\n[out.visit]')
    assert read(internal).profile == "internal"


def test_profile_public_refuses_what_partner_lets_pass() -> None:
    text = out('host = "tag"')
    assert read(text)
    assert "whole-name-tags" in refusal(text.replace("[out.visit]", 'profile = "public"\n[out.visit]'))


def test_a_risk_that_is_not_run_cannot_be_accepted() -> None:
    text = out('host = "tag"').replace("[out.visit]", 'accept = ["exact-times"]\n[out.visit]')
    assert "does not run" in refusal(text)
    assert "there is no risk" in refusal(text.replace("exact-times", "everything"))


def test_a_whole_policy_makes_a_gate() -> None:
    policy = read(WHOLE)
    gate = Gate(policy.compiled(), {name: schema.described() for name, schema in SCHEMAS.items()})
    assert [name for name, _ in gate.outputs("visit")] == [rule.name for rule in policy.rules["visit"]]
    assert [name for name, _ in gate.outputs("posts")] == ["ts", "key", "value", "noise_scale"]
    assert policy.aggregates[1].noise_scale == 10 * 100000 / 0.5
    assert policy.waits("visit") and policy.units == {"visit": "orig_h"}


def test_a_budget_below_one_window_is_refused() -> None:
    assert "is less than one window" in refusal(WHOLE.replace("epsilon = 2.0", "epsilon = 1.2"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('of = "visit"\ndo = "count"', 'of = "vist"\ndo = "count"', "Did you mean 'visit'?"),
        ('do = "count"\nby', 'do = "mean"\nby', "Known: count, sum"),
        ('by = "method"\nkeys = ["GET", "POST"]', 'by = "method"', "needs keys"),
        ('by = "method"', 'by = "host"', "no field that fits"),
        ("bounds = [0, 100000]", "bounds = [5, 5]", "do not grow"),
        ("bounds = [0, 100000]\n", "", "are not two numbers"),
        ("rows_per_unit = 10\n", "", "rows_per_unit"),
        ("epsilon = 0.5", "", "epsilon"),
    ],
)
def test_an_aggregate_that_says_too_little_is_refused(old: str, new: str, said: str) -> None:
    assert old in WHOLE
    assert said in refusal(WHOLE.replace(old, new))
