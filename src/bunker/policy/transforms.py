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


_KINDS = (
    TransformKind(
        name="keep", settings=frozenset({"because"}), required=frozenset({"because"}), learns="the value itself"
    ),
    TransformKind(
        name="tag",
        settings=frozenset({"domain"}),
        required=frozenset(),
        learns="which rows of this run have the same value, not which value; "
        "a value that he caused himself he can find again",
    ),
    TransformKind(
        name="pfx",
        settings=frozenset(),
        required=frozenset(),
        learns="which addresses share a network, and how much of it; "
        "each address that he knows tells him the prefixes it shares",
    ),
    TransformKind(
        name="truncate", settings=frozenset({"v4", "v6"}), required=frozenset(), learns="the network, not the host"
    ),
    TransformKind(
        name="bucket", settings=frozenset({"edges"}), required=frozenset({"edges"}), learns="the value's order of size"
    ),
    TransformKind(
        name="allow",
        settings=frozenset({"values", "other"}),
        required=frozenset({"values"}),
        learns="one of the words of the list, or that it is another",
    ),
    TransformKind(
        name="shift+grain",
        settings=frozenset({"grain"}),
        required=frozenset({"grain"}),
        learns="order and distance of times to the grain; the date only if he can recognise an event in the trace",
    ),
    TransformKind(name="present", settings=frozenset(), required=frozenset(), learns="whether there is a value"),
    TransformKind(
        name="len", settings=frozenset(), required=frozenset(), learns="the length, which may identify a page or a name"
    ),
    TransformKind(
        name="etld1_tag",
        settings=frozenset({"domain"}),
        required=frozenset(),
        learns="which rows of this run name the same registrable domain, and its public suffix in clear (co.uk, edu)",
    ),
    TransformKind(name="depth", settings=frozenset(), required=frozenset(), learns="how many parts the path has"),
    TransformKind(
        name="service",
        settings=frozenset({"ports"}),
        required=frozenset({"ports"}),
        learns="a port of the list, or none",
    ),
)

TRANSFORMS: dict[str, TransformKind] = {kind.name: kind for kind in _KINDS}
