"""What an attacker learns from the output of a policy, in sentences: `bunker check` prints them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bunker.model.fields import FieldType
from bunker.policy.rules import Policy

_PREFIXED = frozenset({"pfx", "cryptopan"})
_MAILBOX_TAGS = frozenset({"tag", "mail_tag", "etld1_tag"})
_STATION_TAGS = frozenset({"tag", "tag48", "enum"})
_NAMELESS = frozenset({"present", "depth", "class", "ext", "param_names", "role", "count", "len", "const"})


def attacker_lines(policy: Policy, *, injected: int, known: int) -> list[str]:
    """What an attacker learns who sends `injected` flows of his own into the trace, or knows `known` addresses in it.

    The numbers are of the mapping alone, as if he recognised every one of his flows; what makes that hard is grain,
    buckets and company.
    """
    lines: list[str] = []
    epoch = {"run": "the run", "day": "a day", "hour": "an hour"}[policy.epoch]
    tagged = [rule for rules in policy.rules.values() for rule in rules if rule.source.type is FieldType.ADDRESS]
    mapped = {rule.transform for rule in tagged}
    if mapped & {"tag", "enum", *_PREFIXED}:
        lines.append(
            f"with {injected} flows of his own, each recognised: the pseudonyms of up to {injected} addresses he sent "
            f"them to or from, for {epoch}, and with them every row of these addresses"
        )
    if mapped & _PREFIXED:
        lines.append(_prefix_line(known, epoch))
    if "truncate" in mapped:
        lines.append("truncated addresses are in clear to their prefix: nothing needs to be known")
    named = [
        rule
        for rules in policy.rules.values()
        for rule in rules
        if rule.source.type in (FieldType.HOST, FieldType.URL) and rule.transform not in _NAMELESS
    ]
    if named:
        lines.append(
            f"with {injected} names of his own looked up: their pseudonyms, hence who else used these domains in "
            f"{epoch}; common domains also by how often they come"
        )
    lines += _boxes_and_stations(policy, injected, epoch)
    if any(rule.waits for rules in policy.rules.values() for rule in rules) or policy.company:
        lines.append("with k addresses of his own he passes a threshold of k: it counts addresses, not people")
    for record, share in policy.sample.items():
        lines.append(
            f"of {record} only {share.share:g} of all {share.by} leave, by a draw that he cannot foresee: of "
            f"{injected} hosts of his own about {share.share * injected:.0f}"
        )
    if policy.delay:
        lines.append(f"when a row came he learns from its fields alone: all rows of {epoch} leave together at its end")
    for aggregate in policy.aggregates:
        lines.append(
            f"of {aggregate.name}, whoever he is: each window changes his odds about one {aggregate.unit} by a factor "
            f"of at most {math.exp(min(aggregate.epsilon, 50)):.2f} (epsilon {aggregate.epsilon:g}, "
            f"noise scale {aggregate.noise_scale:g})"
        )
    if policy.trace is not None:
        lines.append(
            f"of the header trace, with {injected} flows of his own: the mapped addresses of both ends of each, for "
            f"{epoch}, and what is in docs/attacks.md"
        )
        done = {rule.transform for rule in policy.trace.fields}
        if done & _PREFIXED:
            lines.append("of the header trace, " + _prefix_line(known, epoch))
        if "truncate" in done:
            lines.append("of the header trace, addresses are in clear to their prefix: nothing needs to be known")
    return lines or ["nothing by injection: no pseudonym leaves"]


def _prefix_line(known: int, epoch: str) -> str:
    bits = math.log2(known + 1) if known else 0.0
    return (
        f"with {known} known addresses under pfx: of any other address on average the first {bits + 1:.0f} bits "
        f"or more ({known} prefixes; up to 31 for the neighbours of a known one), for {epoch}"
    )


def _boxes_and_stations(policy: Policy, injected: int, epoch: str) -> Iterator[str]:
    """What pseudonyms of mailboxes and of interfaces tell who sends mail, or frames in the same network."""
    rules = [rule for rules in policy.rules.values() for rule in rules]
    if any(rule.source.type is FieldType.MAIL_ADDRESS and rule.transform in _MAILBOX_TAGS for rule in rules):
        yield (
            f"with {injected} mails of his own, each recognised: the pseudonyms of up to {injected} mailboxes or "
            f"domains that he used or wrote to, for {epoch}, and with them every row of these"
        )
    if any(rule.source.type is FieldType.MAC and rule.transform in _STATION_TAGS for rule in rules):
        yield (
            f"in the same network as {injected} stations, each recognised: their pseudonyms, for {epoch}, and with "
            "them every row of these"
        )
