"""Combinations that are known to be bad, each with a name: refused, or accepted by name, and always printed.

Rules of this file:
1. A risk says what an attacker does, and what to write instead; it says nothing that is not true of the policy at hand.
2. `profile` says from where on it is an error: "public" refuses all, "partner" the ones that undo a pseudonym,
   "internal" none. `bunker check` prints them all.
3. An accepted risk that the policy does not run is an error as well: what is accepted is what is there.

Source: reference/anonymization.md, section 4.5, with the papers it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bunker.model.fields import FieldType
from bunker.policy.rules import Policy, Rule
from bunker.policy.text import PolicyText, did_you_mean
from bunker.policy.transforms import NETWORKS

_PREFIXED = frozenset({"pfx", "cryptopan"})
_SIZES = frozenset({FieldType.BYTES, FieldType.COUNT})
_MILLISECOND_NS = 10**6
_COARSE = 512
"""Bytes from which on a rounded size stands for many pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskKind:
    """A risk by name: from which profile on it is refused, what an attacker does, what to do about it."""

    name: str
    refused_by: frozenset[str]
    attack: str
    remedy: str


def _risk(name: str, refused_by: str, attack: str, remedy: str) -> RiskKind:
    return RiskKind(name=name, refused_by=frozenset(refused_by.split()), attack=attack, remedy=remedy)


RISKS: dict[str, RiskKind] = {
    risk.name: risk
    for risk in (
        _risk(
            "pfx-with-exact-sizes",
            "public partner",
            "prefix-preserved addresses beside exact sizes: known servers are recognised by what they send, and each "
            "one gives away prefixes of its neighbours (Coull 2007, Ribeiro 2008)",
            'bucket the sizes, or use "tag" for addresses',
        ),
        _risk(
            "pfx-with-service-ports",
            "public",
            "prefix-preserved addresses beside ports: servers are recognised by what they offer",
            'use "tag" or "truncate" for addresses, or drop the port',
        ),
        _risk(
            "pfx-whole-run",
            "public",
            "one prefix-preserving map for the whole run: pairs that become known add up",
            'set epoch = "day" or "hour" in [keys]',
        ),
        _risk(
            "exact-times",
            "public partner",
            "times to less than a millisecond, or unshifted: flows that the attacker caused or saw elsewhere are found "
            "again",
            'use { do = "shift+grain", grain = "1s" }',
        ),
        _risk(
            "exact-sizes",
            "public",
            "exact sizes identify pages and files (Koukis 2006)",
            'use { do = "bucket", edges = "log2" }',
        ),
        _risk(
            "exact-lengths",
            "public",
            "the exact length of a name or URL identifies it",
            'use "present", or "depth" for a URL',
        ),
        _risk(
            "exact-ports",
            "public",
            "ports identify programs, and ephemeral ones single flows",
            'use { do = "service", ports = [...] }',
        ),
        _risk(
            "clear-address",
            "public partner",
            "addresses in clear",
            'use "pfx", "tag", "truncate" or "role"',
        ),
        _risk(
            "whole-name-tags",
            "public",
            "a tag for each whole name or URL: the common ones are recognised by how often they come (Kumar 2007)",
            'use "etld1_tag", or "topk"',
        ),
        _risk(
            "chained-names",
            "public",
            "chained tags show the tree of names or paths: common ones are recognised by their place and number",
            'use "etld1_tag" or "depth"',
        ),
        _risk(
            "path-without-host",
            "public partner",
            "path tags that do not depend on the host: /robots.txt has one tag everywhere",
            'write { do = "chain", with = "host" }',
        ),
        _risk(
            "clear-names-without-list",
            "public partner",
            "names in clear that enough clients share, without a public list: a name that is private to a company is "
            "shared by all of its clients",
            "name a sealed list of public names: list = ...",
        ),
        _risk(
            "rare-fingerprint",
            "public partner",
            "a fingerprint or user agent that only one client has is that client",
            'use { do = "topk", k = 50, other = "rare" }, or "family_major"',
        ),
        _risk(
            "fingerprint-tags",
            "public",
            "a tag of a whole fingerprint or user agent: that of a rare one links all rows of its client",
            'use { do = "topk", k = 50, other = "rare" }, "family_major" or "ja4_a"',
        ),
        _risk(
            "content-identity",
            "public partner",
            "a digest of content, even tagged, says who got the same thing; a known one says what",
            'use "present", or { do = "class", list = ... }',
        ),
        _risk(
            "linked-pseudonyms",
            "public",
            "one address leaves under two pseudonyms in one row: what is learnt of one is learnt of the other",
            "release one of them",
        ),
        _risk(
            "literal-addresses-mapped",
            "public",
            'addresses that stand in names go through another map than "tag": hosts that are addresses give known '
            "pairs, since their names are chosen by others",
            'leave [addresses] names = "tag"',
        ),
        _risk(
            "rows-without-company",
            "public",
            "rows of single clients leave, however rare what they did",
            "add [gate] rows = { <record> = { min_k = 10, by = [...] } }",
        ),
        _risk(
            "scanners-not-split",
            "public",
            "who scans gets answers in an order that he knows: his flows give away the map (Koukis 2006)",
            'add [passes] scanners = { do = "split" }',
        ),
        _risk(
            "pfx-beside-network",
            "public partner",
            "a prefix-preserved address beside its operator or country in clear: each row tells what a mapped prefix "
            "is",
            'release one of them, or the address as "tag"',
        ),
        _risk(
            "first-seen-order",
            "public",
            "numbers in the order of first appearance: who sends from addresses of his own now and then knows who came "
            "between them",
            'use "tag"',
        ),
        _risk(
            "noise-adds-up",
            "public",
            "each row has a noise of its own: the mean of many rows with one value, one page of one server, is that "
            "value",
            'use { do = "bucket", edges = "log2" }',
        ),
        _risk(
            "noise-beside-value",
            "public partner",
            "a number leaves with noise and once more without: the noise protects nothing that the other tells",
            "release one of them",
        ),
        _risk(
            "noise-beside-rows",
            "public partner",
            "the rows that an aggregate counts leave as well: its noise protects nothing",
            "release one of them",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A risk that the policy runs, and where."""

    risk: RiskKind
    record: str
    field: str | None

    @property
    def place(self) -> str:
        """Record, or record and field."""
        return self.record if self.field is None else f"{self.record}.{self.field}"


def _exact(rule: Rule) -> bool:
    coarse = rule.settings.get("to", rule.settings.get("scale", 0))
    return rule.transform == "keep" or (rule.transform in ("round", "noise") and coarse < _COARSE)


def _fields(rules: tuple[Rule, ...]) -> Iterator[tuple[str, str]]:  # noqa: C901, PLR0912 - one line for each risk
    for rule in rules:
        kind, do = rule.source.type, rule.transform
        if kind in (FieldType.ADDRESS, FieldType.ADDRESS_LIST) and do == "keep":
            yield "clear-address", rule.name
        if kind is FieldType.TIME and (do == "keep" or rule.settings.get("grain", _MILLISECOND_NS) < _MILLISECOND_NS):
            yield "exact-times", rule.name
        if kind in _SIZES and _exact(rule):
            yield "exact-sizes", rule.name
        if do == "len":
            yield "exact-lengths", rule.name
        if kind is FieldType.PORT and do in ("keep", "shuffle"):
            yield "exact-ports", rule.name
        if do == "tag" and kind in (FieldType.HOST, FieldType.URL):
            yield "whole-name-tags", rule.name
        if do in ("chain", "labels"):
            yield "chained-names", rule.name
        if do == "chain" and "with" not in rule.settings:
            yield "path-without-host", rule.name
        named = kind in (FieldType.HOST, FieldType.URL, FieldType.MAIL_ADDRESS)
        if do == "topk" and "list" not in rule.settings and named:
            yield "clear-names-without-list", rule.name
        if kind in (FieldType.FINGERPRINT, FieldType.USER_AGENT) and do in ("keep", "tag"):
            yield "rare-fingerprint" if do == "keep" else "fingerprint-tags", rule.name
        if do == "enum" and not rule.orders:
            yield "first-seen-order", rule.name
        if do == "noise":
            yield "noise-adds-up", rule.name
            again = (other for other in rules if other.source.name == rule.source.name and other is not rule)
            if any(other.transform not in ("present", "const") for other in again):
                yield "noise-beside-value", rule.name
        if kind is FieldType.DIGEST and do in ("keep", "tag"):
            yield "content-identity", rule.name


def _prefixed(policy: Policy, rules: tuple[Rule, ...]) -> Iterator[str]:
    if not any(rule.transform in _PREFIXED for rule in rules):
        return
    if any(rule.source.type is FieldType.BYTES and _exact(rule) for rule in rules):
        yield "pfx-with-exact-sizes"
    if any(rule.source.type is FieldType.PORT and rule.transform != "present" for rule in rules):
        yield "pfx-with-service-ports"
    if any(rule.transform in NETWORKS for rule in rules):
        yield "pfx-beside-network"
    if policy.epoch == "run":
        yield "pfx-whole-run"


def _rows(policy: Policy, record: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    sources = [rule.source.name for rule in rules if rule.source.type is FieldType.ADDRESS]
    kinds = {(rule.source.name, rule.transform) for rule in rules if rule.transform not in ("role", "present")}
    if any(sum(name == source for name, _ in kinds) > 1 for source in sources):
        yield "linked-pseudonyms"
    if record not in policy.company:
        yield "rows-without-company"
    if policy.scanners is None and sources:
        yield "scanners-not-split"
    if any(aggregate.of == record for aggregate in policy.aggregates):
        yield "noise-beside-rows"
    if policy.literals is not None and any(
        rule.source.type is FieldType.HOST and rule.transform in ("etld1_tag", "labels", "topk") for rule in rules
    ):
        yield "literal-addresses-mapped"


def findings(policy: Policy) -> list[Finding]:
    """Every risk that the policy runs, in the policy's order."""
    found: list[Finding] = []
    for record, rules in policy.rules.items():
        found += [Finding(risk=RISKS[name], record=record, field=field) for name, field in _fields(rules)]
        if rules:
            names = (*_prefixed(policy, rules), *_rows(policy, record, rules))
            found += [Finding(risk=RISKS[name], record=record, field=None) for name in names]
    return found


def check_risks(text: PolicyText, policy: Policy) -> None:
    """Refuse a risk that the profile refuses and the policy does not accept.

    Raises:
        ConfigurationError: with the name to accept, and what to write instead.
    """
    found = findings(policy)
    traced = set() if policy.trace is None else {risk.name for risk in policy.trace.risks}
    for name in sorted(policy.accept - traced):
        if name not in RISKS:
            raise text.refuse("policy", "accept", f"there is no risk {name!r}", did_you_mean(name, {*RISKS, *traced}))
        if not any(finding.risk.name == name for finding in found):
            raise text.refuse("policy", "accept", f"the policy does not run the risk {name!r}", "Delete it")
    for finding in found:
        risk = finding.risk
        if policy.profile in risk.refused_by and risk.name not in policy.accept:
            raise text.refuse(
                f"out.{finding.record}",
                finding.field,
                f"{risk.attack} (risk {risk.name}, refused by profile {policy.profile})",
                f'{risk.remedy[0].upper()}{risk.remedy[1:]}; or accept = ["{risk.name}"] in [policy]',
            )
