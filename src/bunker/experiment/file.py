"""The experiment file: TOML in, a value that cannot be wrong out.

Rules of this file:
1. Unknown settings are errors, with the nearest known name as the remedy.
2. Sizes and durations carry their unit ("20GB", "10s"); a bare number is refused where a unit is meant.
3. Paths are relative to the experiment file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec

from bunker import limits
from bunker.errors import ConfigurationError

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|[kKMGT]i?B)\s*$")
_SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*$")
_DURATION_UNITS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


def parse_size(text: str, *, key: str) -> int:
    """Bytes of "20GB" (10^9) or "4MiB" (2^20).

    Raises:
        ConfigurationError: no number with a unit.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ConfigurationError(key, f"{text!r} is no size", 'Write a number with a unit, as "20GB" or "512MiB"')
    return int(float(match[1]) * _SIZE_UNITS[match[2].upper()])


def parse_duration_ns(text: str, *, key: str) -> int:
    """Nanoseconds of "10s", "250ms", "20h".

    Raises:
        ConfigurationError: no number with a unit.
    """
    match = _DURATION.match(text)
    if match is None:
        raise ConfigurationError(key, f"{text!r} is no duration", 'Write a number with a unit, as "10s" or "20h"')
    return int(float(match[1]) * _DURATION_UNITS[match[2]])


class _Experiment(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    purpose: str
    mode: str = "continuous"
    max_age: str | None = None


class _Capture(msgspec.Struct, forbid_unknown_fields=True):
    filter: str = ""
    snaplen: int = limits.SNAPLEN.default
    lanes: int = 1
    duration: str | None = None
    block: str = "4MiB"
    ring: str = "64MiB"
    promiscuous: bool = True
    checksums: str = "verify"
    overlap: str = "first"
    overlap_by_host: dict[str, str] = {}


class _Spool(msgspec.Struct, forbid_unknown_fields=True):
    directory: str = "spool"
    size: str = "1GB"


class _Analysis(msgspec.Struct, forbid_unknown_fields=True):
    analyzers: list[str]
    memory: str = "1GB"
    time_per_call: str = "10s"
    time_per_flow: str = "60s"
    during_capture: bool = False


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    file: str


class _Egress(msgspec.Struct, forbid_unknown_fields=True):
    heartbeat: str = "10s"
    seal_to: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    experiment: _Experiment
    analysis: _Analysis
    policy: _Policy
    capture: _Capture = msgspec.field(default_factory=_Capture)
    spool: _Spool = msgspec.field(default_factory=_Spool)
    egress: _Egress = msgspec.field(default_factory=_Egress)


_TABLES: dict[str, type[msgspec.Struct]] = {
    "experiment": _Experiment,
    "capture": _Capture,
    "spool": _Spool,
    "analysis": _Analysis,
    "policy": _Policy,
    "egress": _Egress,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is to be recorded, how it is analysed, and where the policy stands. All units resolved.

    Invariants:
        mode is "continuous" or "deferred"; 1 <= lanes <= LANES; BLOCK_BYTES_MIN <= block_bytes <= BLOCK_BYTES_MAX.
        spool_bytes holds at least four blocks a lane; 64 <= snaplen <= SNAPLEN.
    """

    name: str
    purpose: str
    mode: str
    capture_filter: str
    snaplen: int
    lanes: int
    duration_ns: int | None
    block_bytes: int
    ring_bytes: int
    promiscuous: bool
    verify_checksums: bool
    auto_checksums: bool
    overlap: tuple[tuple[bytes, int, str], ...]
    spool_directory: str
    spool_bytes: int
    analyzers: tuple[str, ...]
    analysis_memory: int
    time_per_call_ns: int
    time_per_flow_ns: int
    during_capture: bool
    """Deferred: the first pass begins while capture goes on."""
    max_age_ns: int | None
    """After this time everything is destroyed, whatever is left."""
    policy_file: str
    heartbeat_ns: int
    seal_to: str | None
    """The open box's public key (X25519, hex) that every envelope is sealed to; None: they leave signed only."""


def line_of(text: str, table: str, key: str | None = None) -> int | None:
    """The line on which `key` of `[table]` stands (or the table's head), counted from 1, for messages."""
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"^\s*\[([^\[\]]+)\]", line)
        if head:
            inside = head[1].strip() == table
            if inside and key is None:
                return number
        elif inside and key is not None and re.match(rf"^\s*{re.escape(key)}\s*=", line):
            return number
    return None


def _refuse_unknown(content: dict[str, Any], text: str, name: str) -> None:
    for table, value in content.items():
        if table not in _TABLES:
            raise ConfigurationError(
                f"{name}, [{table}]", "unknown table", _did_you_mean(table, _TABLES), line=line_of(text, table)
            )
        if not isinstance(value, dict):
            raise ConfigurationError(f"{name}, {table}", "is not a table", f"Write [{table}] with settings below it")
        known = _TABLES[table].__struct_fields__
        for key in value:
            if key not in known:
                raise ConfigurationError(
                    f"{name}, {table}.{key}",
                    "unknown setting",
                    _did_you_mean(key, known),
                    line=line_of(text, table, key),
                )


def _did_you_mean(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}"


def _within(  # noqa: PLR0917 - a table of calls reads better without names
    key: str, value: int, low: int, high: int, unit: str, name: str, text: str
) -> None:
    if not low <= value <= high:
        table, _, setting = key.partition(".")
        raise ConfigurationError(
            f"{name}, {key}",
            f"{value} {unit} is out of range",
            f"Use {low} to {high} {unit}",
            line=line_of(text, table, setting),
        )


# Names of crates/wire/src/tracker/overlap.rs; a test keeps the two equal.
OVERLAP_POLICIES = (
    *("first", "last", "bsd", "bsd-right", "linux", "old-linux", "solaris"),
    *("hpux10", "hpux11", "irix", "macos", "windows", "windows2k3", "vista"),
)


def _overlap(capture: _Capture, text: str, name: str) -> tuple[tuple[bytes, int, str], ...]:
    """Prefix (sixteen bytes, IPv4 as ::ffff:a.b.c.d), its length in bits, policy; the first is that of all other hosts.

    Raises:
        ConfigurationError: no policy of that name, no network.
    """

    def known(policy: str, key: str) -> str:
        if policy not in OVERLAP_POLICIES:
            raise ConfigurationError(
                f"{name}, capture.{key}",
                f"{policy!r} is no overlap policy",
                _did_you_mean(policy, OVERLAP_POLICIES),
                line=line_of(text, "capture", key),
            )
        return policy

    found = [(bytes(16), 0, known(capture.overlap, "overlap"))]
    for prefix, policy in capture.overlap_by_host.items():
        try:
            network = ip_network(prefix)
        except ValueError:
            raise ConfigurationError(
                f"{name}, capture.overlap_by_host",
                f"{prefix!r} is no network",
                'Write a prefix whose host bits are 0, as "192.0.2.0/24"',
                line=line_of(text, "capture.overlap_by_host") or line_of(text, "capture", "overlap_by_host"),
            ) from None
        address, more = network.network_address.packed, 0
        if network.version == 4:
            address, more = bytes(10) + b"\xff\xff" + address, 96
        found.append((address, network.prefixlen + more, known(policy, "overlap_by_host")))
    return tuple(found)


def parse_experiment(text: str, *, name: str) -> Experiment:
    """Read an experiment from TOML.

    Args:
        text: The file's content.
        name: The file's name, for messages.
    Raises:
        ConfigurationError: bad TOML, an unknown or missing setting, a value of the wrong type or out of range.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(name, f"is not valid TOML ({error})", "Correct the line that is named") from None
    _refuse_unknown(content, text, name)
    try:
        parsed = msgspec.convert(content, _File)
    except msgspec.ValidationError as error:
        raise ConfigurationError(name, str(error), "Correct or add the setting that is named") from None
    if parsed.experiment.mode not in ("continuous", "deferred"):
        raise ConfigurationError(
            f"{name}, experiment.mode",
            f"{parsed.experiment.mode!r} is no mode",
            'Use "continuous" or "deferred"',
            line=line_of(text, "experiment", "mode"),
        )
    if parsed.capture.checksums not in ("verify", "auto", "ignore"):
        raise ConfigurationError(
            f"{name}, capture.checksums",
            f"{parsed.capture.checksums!r} is no choice",
            'Use "verify", "auto" or "ignore"',
            line=line_of(text, "capture", "checksums"),
        )
    if not parsed.analysis.analyzers:
        raise ConfigurationError(f"{name}, analysis.analyzers", "the list is empty", 'Name at least one, as "http"')
    block = parse_size(parsed.capture.block, key=f"{name}, capture.block")
    spool = parse_size(parsed.spool.size, key=f"{name}, spool.size")
    lanes = parsed.capture.lanes
    _within("capture.lanes", lanes, 1, limits.LANES.default, "lanes", name, text)
    _within("capture.snaplen", parsed.capture.snaplen, 64, limits.SNAPLEN.default, "bytes", name, text)
    _within("capture.block", block, limits.BLOCK_BYTES_MIN.default, limits.BLOCK_BYTES_MAX.default, "bytes", name, text)
    _within("spool.size", spool, 4 * lanes * (block + 4096), 1 << 50, "bytes", name, text)
    ring = parse_size(parsed.capture.ring, key=f"{name}, capture.ring")
    _within("capture.ring", ring, 4 * block, 1 << 34, "bytes", name, text)
    memory = parse_size(parsed.analysis.memory, key=f"{name}, analysis.memory")
    _within("analysis.memory", memory, 64_000_000, 1 << 40, "bytes", name, text)
    per_call = parse_duration_ns(parsed.analysis.time_per_call, key=f"{name}, analysis.time_per_call")
    _within("analysis.time_per_call", per_call, 10 * _DURATION_UNITS["ms"], _DURATION_UNITS["d"], "ns", name, text)
    heartbeat = parse_duration_ns(parsed.egress.heartbeat, key=f"{name}, egress.heartbeat")
    _within("egress.heartbeat", heartbeat, 10 * _DURATION_UNITS["ms"], _DURATION_UNITS["d"], "ns", name, text)
    if parsed.egress.seal_to is not None and not _PUBLIC_KEY.fullmatch(parsed.egress.seal_to):
        raise ConfigurationError(
            f"{name}, egress.seal_to",
            "is no public key",
            "Give the 64 hex digits that bunker receive --new-key FILE prints",
            line=line_of(text, "egress", "seal_to"),
        )
    duration, max_age = parsed.capture.duration, parsed.experiment.max_age
    return Experiment(
        name=parsed.experiment.name,
        purpose=parsed.experiment.purpose,
        mode=parsed.experiment.mode,
        capture_filter=parsed.capture.filter,
        snaplen=parsed.capture.snaplen,
        lanes=lanes,
        duration_ns=None if duration is None else parse_duration_ns(duration, key=f"{name}, capture.duration"),
        block_bytes=block,
        ring_bytes=ring,
        promiscuous=parsed.capture.promiscuous,
        verify_checksums=parsed.capture.checksums != "ignore",
        auto_checksums=parsed.capture.checksums == "auto",
        overlap=_overlap(parsed.capture, text, name),
        spool_directory=parsed.spool.directory,
        spool_bytes=spool,
        analyzers=tuple(parsed.analysis.analyzers),
        analysis_memory=memory,
        time_per_call_ns=per_call,
        time_per_flow_ns=parse_duration_ns(parsed.analysis.time_per_flow, key=f"{name}, analysis.time_per_flow"),
        during_capture=parsed.analysis.during_capture,
        max_age_ns=None if max_age is None else parse_duration_ns(max_age, key=f"{name}, experiment.max_age"),
        policy_file=parsed.policy.file,
        heartbeat_ns=heartbeat,
        seal_to=parsed.egress.seal_to,
    )


def read_experiment(path: Path) -> tuple[Experiment, str]:
    """The experiment in `path`, and its text.

    Raises:
        ConfigurationError: the file cannot be read, or what `parse_experiment` raises.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), f"cannot be read ({type(error).__name__})", "Check the path") from None
    return parse_experiment(text, name=path.name), text
