"""The transforms: their settings, and what each still tells. The rules themselves are the core's (`crates/clear`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformKind:
    """One transform of the language.

    `learns` completes the sentence "Who has the output learns ...".
    """

    name: str
    settings: frozenset[str]
    required: frozenset[str]
    learns: str


def _kind(name: str, settings: str, required: str, learns: str) -> TransformKind:
    needed = frozenset(required.split())
    return TransformKind(name=name, settings=frozenset(settings.split()) | needed, required=needed, learns=learns)


_KINDS = (
    _kind("keep", "", "because", "the value itself"),
    _kind(
        "tag",
        "domain",
        "",
        "which rows of an epoch have the same value, not which value; a value that he caused himself he can find again",
    ),
    _kind(
        "pfx",
        "",
        "",
        "which addresses share a network, and how much of it; "
        "each address that he knows tells him the prefixes it shares",
    ),
    _kind(
        "cryptopan",
        "",
        "",
        "which addresses share a network, and how much of it, and nothing of which are special; "
        "each address that he knows tells him the prefixes it shares",
    ),
    _kind("truncate", "v4 v6", "", "the network, not the host"),
    _kind("role", "", "", "whether the address is of the sites, private, special, or anybody else's"),
    _kind("tag48", "", "", "which rows of an epoch are of one station, not which, nor who built it"),
    _kind("bucket", "", "edges", "the value's order of size"),
    _kind("allow", "other", "values", "one of the words of the list, or that it is another"),
    _kind(
        "shift+grain",
        "",
        "grain",
        "order and distance of times to the grain; the date only if he can recognise an event in the trace",
    ),
    _kind(
        "jitter",
        "",
        "span grain",
        "about when it was: order and distance of times that lie further apart than twice the span",
    ),
    _kind("round", "", "to", "the value to the nearest multiple"),
    _kind("present", "", "", "whether there is a value"),
    _kind("len", "", "", "the length, which may identify a page or a name"),
    _kind("count", "", "", "how many items or labels there are"),
    _kind(
        "etld1_tag",
        "domain",
        "",
        "which rows of an epoch name the same registrable domain, and its public suffix in clear (co.uk, edu)",
    ),
    _kind(
        "labels",
        "domain",
        "",
        "which names share an ending, how many labels they have, and the public suffix in clear; "
        "common names are recognised by how often they come",
    ),
    _kind(
        "chain",
        "domain with",
        "",
        "which paths share a beginning, and how deep they are; common paths are recognised by how often they come",
    ),
    _kind(
        "mail_tag",
        "domain",
        "",
        "which rows of an epoch are of one mailbox, which mailboxes share a domain, and its public suffix",
    ),
    _kind("depth", "", "", "how many parts the path has"),
    _kind("ext", "other", "values", "an extension of the list, or that it is another"),
    _kind("param_names", "", "values", "which parameters of the list the query has, never a value"),
    _kind("family_major", "k topk other", "", "which program in which major version, of a closed list"),
    _kind("class", "other", "list", "what the sealed list says of the value"),
    _kind(
        "topk",
        "k n list other domain because",
        "",
        "the value in clear, if enough different units share it in the window (and a public list names it)",
    ),
    _kind(
        "asn",
        "k other because",
        "list",
        "who operates the network of the address, if enough different units had to do with it in the window",
    ),
    _kind(
        "country",
        "k other because",
        "list",
        "the country of the address, if enough different units had to do with it in the window",
    ),
    _kind(
        "oui_top",
        "k n other because",
        "",
        "who made the interface, if enough different units have one of this maker in the window",
    ),
    _kind("service", "ports", "", "a port of the list, or none"),
    _kind("shuffle", "", "", "which rows of an epoch have the same port, and its class"),
    _kind("const", "", "value", "nothing: every row has the same"),
    _kind(
        "enum",
        "",
        "",
        "which rows of an epoch have the same value, and in which order values first appeared; "
        "of times the order alone",
    ),
    _kind(
        "rel", "", "grain", "order and distance of times to the grain, not the date; the first time of the run is zero"
    ),
    _kind(
        "noise",
        "",
        "scale",
        "about how large the value is; what differs by less than the scale he can hardly tell apart, "
        "but the mean of many rows with one value tells that value",
    ),
    _kind("ja4_a", "", "", "protocol, version and counts of the handshake: a family of clients, not a client"),
)

THRESHOLDS = frozenset({"topk", "asn", "country", "oui_top"})
"""Transforms that hold values back whatever their settings are."""
NETWORKS = {"asn": r"(AS)?\d{1,10}", "country": r"[A-Z]{2}"}
"""Transforms of addresses by a list of prefixes: what the list may call a network."""
TRANSFORMS: dict[str, TransformKind] = {kind.name: kind for kind in _KINDS}
