"""Header-trace rules: what is understood, what is refused and how, which risks must be accepted by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bunker.errors import ConfigurationError
from bunker.policy.trace_file import read_trace

EXAMPLES = Path(__file__).parents[3] / "examples" / "header-trace"
HEAD = """
[policy]
format = 1
name = "t"
purpose = "t"
accept = [{accept}]
[out.pcap]
time = {{ do = "rel", grain = "1ms" }}
wirelen = "bucket"
{top}
[out.pcap.eth]
type = {{ do = "allow", values = ["ipv4"] }}
{rest}
"""


def policy(*, top: str = "", rest: str = "", accept: str = "") -> str:
    return HEAD.format(top=top, rest=rest, accept=accept)


def words(text: str) -> dict[str, tuple[str, list[int]]]:
    return {key: (word, numbers) for key, word, numbers in read_trace(text, name="p").words}


def refused(text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read_trace(text, name="p.toml")
    return caught.value


@pytest.mark.parametrize(("name", "passes"), [("policy", False), ("release", True)])
def test_the_examples_are_understood(name: str, passes: bool) -> None:
    rules = read_trace((EXAMPLES / f"{name}.toml").read_text(), name=name)
    assert rules.two_passes is passes and rules.format == "pcapng"
    assert all(field.learns and field.bits >= 0 for field in rules.fields)


def test_rules_become_words_for_the_core() -> None:
    found = words(
        policy(
            rest='[out.pcap.ipv4]\nsrc = { do = "truncate", v4 = 16 }\n'
            'ttl = { do = "const", value = 9 }\ntos = "drop"\n'
            '[out.pcap.icmp]\ntypes = { do = "allow", values = [0, 8] }'
        )
    )
    assert found["addresses"] == ("truncate", [16, 48])
    assert found["ipv4.src"] == ("map", []) and found["ipv4.ttl"] == ("const", [9])
    assert found["icmp.types"] == ("allow", [0, 8])
    assert "ipv4.tos" not in found and "ipv6" not in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (policy(top="odd = 1"), "unknown setting"),
        (policy(top='fragments = "some"'), "is 'some'"),
        (policy(top='tunnels = ["ipsec"]'), "unknown tunnel"),
        (policy(top='linktype = "raw"'), "is not"),
        (policy(top='blocks = ["shb", "nrb"]'), "blocks"),
        (policy(rest='[out.pcap.ipv4]\nsrc = "sha1"'), "unknown transform"),
        (policy(rest='[out.pcap.ipv4]\nflags = "keep"'), "keep needs because"),
        (policy(rest='[out.pcap.ipv4]\nsrc = "pfx"\ndst = "tag"'), "another map"),
        (policy(rest='[out.pcap.ipv4]\ncolour = "drop"'), "unknown setting"),
        (policy(rest='[out.pcap.ipv4]\nttl = { do = "const", value = 300 }'), "const needs a value"),
        (policy(rest='[out.pcap.ipv4]\noptions = { allow = ["timestamp"] }'), "unknown option"),
        (policy(rest="[out.pcap.tcp]"), "has no rules"),
        (policy(rest='[out.pcap.tcp]\nwindow = { do = "bucket", edges = [9, 1] }'), "do not grow"),
        (policy(rest='[out.pcap.tcp]\noptions = { ts = "keep" }'), "unknown transform"),
        (policy(rest='[out.pcap.icmp]\ntypes = { do = "allow", values = [256] }'), "no list of numbers"),
        (policy(rest='[passes]\nscanners = { do = "split", window = 1 }'), "out of range"),
        (policy(rest="[sites]\nservices = { tcp = [70000] }"), "no list of ports"),
        (policy().replace("time =", "# time ="), "is missing"),
        (policy().replace('wirelen = "bucket"', 'wirelen = "drop"'), "is dropped"),
        (policy().replace("type =", 'vlan = "drop" #'), "is missing"),
        (policy().replace("[out.pcap]", "[out.flow]").replace("[out.pcap.eth]", "[out.flow.eth]"), "has no table"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_remedy(text: str, says: str) -> None:
    error = refused(text)
    assert says in str(error)


def test_a_refusal_names_the_line() -> None:
    error = refused(policy(rest='[out.pcap.ipv4]\nsrc = "pfx"\nttl = "hop"'))
    assert error.line == policy(rest='[out.pcap.ipv4]\nsrc = "pfx"\nttl = "hop"').splitlines().index('ttl = "hop"') + 1


@pytest.mark.parametrize(
    ("risk", "top", "rest"),
    [
        ("seq-shows-sizes", "", '[out.pcap.tcp]\nseq = "rel"'),
        ("exact-ports", "", '[out.pcap.udp]\nsport = { do = "keep", because = "t" }'),
        ("exact-numbers", "", '[out.pcap.ipv4]\nid = { do = "keep", because = "t" }'),
        (
            "os-fingerprint",
            "",
            '[out.pcap.ipv4]\nttl = { do = "keep", because = "t" }\n'
            '[out.pcap.tcp]\nwindow = { do = "keep", because = "t" }',
        ),
    ],
)
def test_a_known_risk_must_be_accepted_by_name(risk: str, top: str, rest: str) -> None:
    assert risk in str(refused(policy(top=top, rest=rest)))
    accepted = read_trace(policy(top=top, rest=rest, accept=f'"{risk}"'), name="p")
    assert [found.name for found in accepted.risks] == [risk]


def test_structure_in_addresses_is_a_risk_in_public_alone() -> None:
    rest = '[out.pcap.ipv4]\nsrc = "pfx"\ndst = "pfx"'
    assert read_trace(policy(rest=rest), name="p").risks == ()
    public = policy(rest=rest).replace('purpose = "t"', 'purpose = "t"\nprofile = "public"')
    assert "pfx-for-a-whole-run" in str(refused(public))


def test_a_sample_of_hosts_becomes_words_with_the_networks_of_the_site() -> None:
    gate = "[gate]\nsample = { pcap = { share = 0.25 } }\n"
    sites = '[sites]\ninternal = ["198.51.100.0/24", "2001:db8::/32"]\n'
    rules = read_trace(policy(rest=gate + sites), name="p")
    assert ("sample", "host", [1 << 62]) in rules.words
    assert [numbers for key, _, numbers in rules.words if key == "sites"] == [
        [0, 0xFFFF_C633_6400, 120],
        [0x2001_0DB8 << 32, 0, 32],
    ]
    assert any(field.name == "sample" and "0.25" in field.transform for field in rules.fields)
    assert "sample" not in words(policy(rest=sites))
    for bad in ("{ share = 0 }", "{ share = 1.0 }", '{ share = 0.5, by = "orig_h" }', "0.5", "{ p = 0.5 }"):
        message = str(refused(policy(rest=gate.replace("{ share = 0.25 }", bad))))
        assert "sample" in message and "share" in message
    assert "no network" in str(refused(policy(rest=gate + sites.replace("198.51.100.0", "198.51.100.1"))))
