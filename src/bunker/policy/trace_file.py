"""A policy file of which only the header trace is read: for `bunker anonymize`, which has no records."""

from __future__ import annotations

import tomllib

from bunker.errors import ConfigurationError
from bunker.model.headers import PCAP
from bunker.policy.text import PolicyText, did_you_mean
from bunker.policy.trace import TraceRules, trace_rules

_TABLES = ("policy", "keys", "sites", "passes", "gate", "lists", "id", "out")


def read_trace(text: str, *, name: str) -> TraceRules:
    """The header trace of a policy file; rules for other records are a box's and not looked at.

    Raises:
        ConfigurationError: no TOML, no `[out.pcap]`, or what `trace_rules` refuses.
    """
    refuse = PolicyText(text, name).refuse
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(name, f"is not valid TOML ({error})", "Correct the line that is named") from None
    for table in content:
        if table not in _TABLES:
            raise refuse(table, None, "unknown table", did_you_mean(table, _TABLES))
    head = content.get("policy")
    if not isinstance(head, dict):
        raise ConfigurationError(name, "has no table [policy]", "Add one with format, name and purpose")
    for key, expected in (("format", 1), ("default", "drop")):
        if head.get(key, expected) != expected or (key == "format" and key not in head):
            raise refuse("policy", key, f"is not {expected!r}", f"Write {key} = {expected!r}")
    rules = trace_rules(content, refuse)
    if rules is None:
        raise ConfigurationError(name, f"has no table [out.{PCAP}]", "It has no rules for a header trace")
    return rules
