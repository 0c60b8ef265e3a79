"""The tables of a policy beside its rules: sites, addresses, lists, gate, passes, privacy and aggregates."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from bunker import limits
from bunker.model.fields import FieldType, RecordSchema
from bunker.model.headers import PCAP
from bunker.native.clear import blake3_hex
from bunker.policy.rules import EPOCHS, Aggregate, Company, Rule, Scanners, Share
from bunker.policy.text import PolicyText, did_you_mean
from bunker.policy.trace_around import share_of

LITERALS = ("tag", "pfx", "cryptopan", "truncate")
_UNIT_TYPES = frozenset({FieldType.ADDRESS, FieldType.MAIL_ADDRESS, FieldType.FLOW_ID, FieldType.MAC})
_WORD_TYPES = frozenset(
    {FieldType.ENUM, FieldType.MIME, FieldType.CODE, FieldType.PORT, FieldType.FLAG, FieldType.VLAN}
)
_SUM_TYPES = frozenset({FieldType.BYTES, FieldType.COUNT})
VIOLATIONS = ("skip-record", "stop")
DELAYS = ("none", "window")
_DOMAIN = re.compile(r"^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)+$")
AGGREGATE_SETTINGS = (
    "of",
    "do",
    "field",
    "bounds",
    "by",
    "keys",
    "where",
    "epsilon",
    "unit",
    "rows_per_unit",
    "min_size",
)


class Tables:
    """What stands once for all rules."""

    def __init__(self, text: PolicyText, content: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.text, self.content = text, content
        self._gate = text.table(
            content,
            "gate",
            ("min_k", "unit", "window", "rows", "sample", "delay", "max_output_ratio", "on_violation"),
        )
        self.internal, self.services = self._sites()
        self.domains = self._domains()
        self.literals = self._literals()
        self.lists = {name: self._list(name, entry, files) for name, entry in content.get("lists", {}).items()}

    def _sites(self) -> tuple[tuple[tuple[bytes, int], ...], tuple[int, ...]]:
        sites = self.text.table(self.content, "sites", ("internal", "services", "domains"))
        networks: list[tuple[bytes, int]] = []
        for entry in sites.get("internal", []):
            try:
                network = ipaddress.ip_network(entry)
            except (ValueError, TypeError):
                raise self.text.refuse(
                    "sites", "internal", "has an entry that is no network", 'Write them as "192.0.2.0/24"'
                ) from None
            packed = network.network_address.packed
            mapped = bytes(10) + b"\xff\xff" + packed if network.version == 4 else packed
            networks.append((mapped, network.prefixlen + (96 if network.version == 4 else 0)))
        services = sites.get("services", [])
        if isinstance(services, dict):
            services = sorted({port for ports in services.values() for port in ports})
        if not isinstance(services, list) or not all(isinstance(port, int) and 0 <= port < 65536 for port in services):
            raise self.text.refuse(
                "sites", "services", "are no ports", "Write services = [53, 80, 443], or { tcp = [...], udp = [...] }"
            )
        return tuple(networks), tuple(services)

    def _domains(self) -> tuple[str, ...]:
        """Whose mail is the operator's own."""
        domains = self.content.get("sites", {}).get("domains", [])
        if not isinstance(domains, list) or not all(isinstance(one, str) and _DOMAIN.match(one) for one in domains):
            raise self.text.refuse("sites", "domains", "are no domains", 'Write domains = ["example.org"]')
        return tuple(domains)

    def _literals(self) -> tuple[str, int, int] | None:
        addresses = self.text.table(self.content, "addresses", ("names", "v4", "v6"))
        word = self.text.word("addresses", "names", addresses.get("names", "tag"), LITERALS)
        v4 = self.text.number("addresses", "v4", addresses.get("v4", 24), 0, 32)
        v6 = self.text.number("addresses", "v6", addresses.get("v6", 48), 0, 128)
        return None if word == "tag" else (word, v4, v6)

    def _list(self, name: str, entry: Any, files: Mapping[str, bytes]) -> dict[str, str]:
        refuse = self.text.refuse
        if not isinstance(entry, dict) or set(entry) not in ({"file", "sha256"}, {"file", "blake3"}):
            raise refuse(
                "lists", name, "is not a file and its hash", f'Write {name} = {{ file = "list.txt", sha256 = "..." }}'
            )
        content = files.get(str(entry["file"]))
        if content is None:
            raise refuse("lists", name, "its file was not sealed", "Paths start at the experiment's folder")
        if len(content) > limits.LIST_BYTES.default:
            raise refuse("lists", name, f"is larger than {limits.LIST_BYTES.default} bytes", "Shorten it")
        kind = "sha256" if "sha256" in entry else "blake3"
        found = hashlib.sha256(content).hexdigest() if kind == "sha256" else blake3_hex(content)
        if entry[kind] != found:
            raise refuse("lists", name, "its hash is another", f'If the file is the right one: {kind} = "{found}"')
        try:
            lines = content.decode().splitlines()
        except UnicodeDecodeError:
            raise refuse("lists", name, "is not UTF-8", "Write one entry a line") from None
        entries: dict[str, str] = {}
        for line in lines:
            words = line.split("#", 1)[0].split()
            if words:
                entries[words[0].lower() if "." in words[0] else words[0]] = words[1] if len(words) > 1 else "listed"
        if not entries:
            raise refuse("lists", name, "is empty", "Write one entry a line")
        if any(len(word.encode()) > limits.ENUM_WORD_BYTES.default for word in set(entries.values())):
            raise refuse("lists", name, "has a long class", f"Use at most {limits.ENUM_WORD_BYTES.default} bytes")
        return entries

    def default_k(self) -> int | None:
        """[gate] min_k."""
        if "min_k" not in self._gate:
            return None
        return int(self.text.number("gate", "min_k", self._gate["min_k"], 2, limits.THRESHOLD_K.default))

    def violation(self) -> str:
        """What a refused batch does to the run."""
        return self.text.word("gate", "on_violation", self._gate.get("on_violation", VIOLATIONS[0]), VIOLATIONS)

    def output_ratio(self) -> float | None:
        """Most bytes that leave for each captured byte."""
        if "max_output_ratio" not in self._gate:
            return None
        return float(self.text.number("gate", "max_output_ratio", self._gate["max_output_ratio"], 1e-6, 100.0))

    def window(self, epoch: str) -> str:
        """How long thresholds and aggregates count."""
        return self.text.word("gate", "window", self._gate.get("window", epoch), EPOCHS)

    def units(self, schemas: Mapping[str, RecordSchema], waiting: set[str]) -> dict[str, str]:
        """The field that says whose a row is, for records with thresholds."""
        unit = self._gate.get("unit", "orig_h")
        units: dict[str, str] = {}
        for record in sorted(waiting):
            field = schemas[record].field(str(unit))
            if field is None or field.type not in _UNIT_TYPES:
                fields = [field.name for field in schemas[record].fields if field.type in _UNIT_TYPES]
                raise self.text.refuse(
                    "gate",
                    "unit" if "unit" in self._gate else None,
                    f"record {record} has no field {unit!r} to count by",
                    "Set unit in [gate]. " + did_you_mean(str(unit), fields),
                )
            units[record] = field.name
        return units

    def company(self, rules: Mapping[str, tuple[Rule, ...]]) -> dict[str, Company]:
        """Rows that leave in company only."""
        found: dict[str, Company] = {}
        rows = self._gate.get("rows", {})
        if not isinstance(rows, dict):
            raise self.text.refuse(
                "gate", "rows", "is no table", 'Write rows = { http = { min_k = 20, by = ["site"] } }'
            )
        for record, entry in rows.items():
            if record not in rules:
                raise self.text.refuse("gate", "rows", f"{record} does not leave", did_you_mean(record, rules))
            columns = [rule.name for rule in rules[record]]
            if (
                not isinstance(entry, dict)
                or not set(entry) <= {"min_k", "by"}
                or not isinstance(entry.get("by"), list)
            ):
                raise self.text.refuse(
                    "gate", "rows", f"{record} needs by", f'Write {record} = {{ min_k = 20, by = ["{columns[0]}"] }}'
                )
            for name in entry["by"]:
                if name not in columns:
                    raise self.text.refuse(
                        "gate", "rows", f"{record} releases no {name!r}", did_you_mean(name, columns)
                    )
            k = entry.get("min_k", self._gate.get("min_k"))
            if k is None:
                raise self.text.refuse("gate", "rows", f"{record} needs min_k", "Write min_k = 20")
            k = self.text.number("gate", "rows", k, 2, limits.THRESHOLD_K.default)
            found[record] = Company(k=k, by=tuple(entry["by"]))
        return found

    def delay(self) -> bool:
        """Whether all rows wait for the end of their window."""
        return self.text.word("gate", "delay", self._gate.get("delay", "none"), DELAYS) == "window"

    def sample(self, rules: Mapping[str, tuple[Rule, ...]], schemas: Mapping[str, RecordSchema]) -> dict[str, Share]:
        """Records of which only a share of the units leaves. That of the header trace is `trace.py`'s."""
        found: dict[str, Share] = {}
        entries = self._gate.get("sample", {})
        if not isinstance(entries, dict):
            raise self.text.refuse("gate", "sample", "is no table", "Write sample = { http = { share = 0.1 } }")
        for record, entry in entries.items():
            if record == PCAP and PCAP in self.content.get("out", {}):
                continue
            if record not in rules:
                raise self.text.refuse("gate", "sample", f"{record} does not leave", did_you_mean(record, rules))
            if not isinstance(entry, dict) or not set(entry) <= {"share", "by"}:
                remedy = f"Write {record} = {{ share = 0.1 }}"
                raise self.text.refuse("gate", "sample", f"{record} is not a share and by", remedy)
            by = entry.get("by", self._gate.get("unit", "orig_h"))
            field = schemas[record].field(str(by))
            if field is None or field.type not in _UNIT_TYPES:
                fields = [field.name for field in schemas[record].fields if field.type in _UNIT_TYPES]
                cause = f"record {record} has no field {by!r} whose values could be drawn"
                raise self.text.refuse("gate", "sample", cause, did_you_mean(str(by), fields))
            found[record] = Share(share=share_of(self.text.refuse, record, entry.get("share")), by=field.name)
        return found

    def scanners(self) -> Scanners | None:
        """What becomes of scanners."""
        passes = self.text.table(self.content, "passes", ("scanners", "timestamps"))
        if "scanners" not in passes:
            return None
        known = ("do", "window", "monotone", "fanout", "failed_ratio")
        entry = self.text.table(self.content, "passes.scanners", known)
        number = self.text.number
        return Scanners(
            action=self.text.word("passes", "scanners", entry.get("do"), ("split", "drop")),
            window=number("passes", "scanners", entry.get("window", 20), 2, 256),
            monotone=number("passes", "scanners", entry.get("monotone", 16), 2, 256),
            fanout=number("passes", "scanners", entry.get("fanout", 256), 2, limits.THRESHOLD_K.default),
            failed_ratio=float(number("passes", "scanners", entry.get("failed_ratio", 0.8), 0.0, 1.0)),
        )

    def aggregates(self, schemas: Mapping[str, RecordSchema]) -> tuple[tuple[Aggregate, ...], float]:
        """Numbers with noise, and the budget of the run."""
        privacy = self.text.table(self.content, "privacy", ("epsilon", "unit", "rows_per_unit"))
        entries = self.content.get("aggregate", {})
        if bool(entries) != bool(privacy):
            table = "aggregate" if entries else "privacy"
            remedy = "Add [privacy] epsilon = ..." if entries else "Delete it, or add [aggregate.<name>]"
            raise self.text.refuse(table, None, "there is one without the other", remedy)
        if not entries:
            return (), 0.0
        epsilon = float(self.text.number("privacy", "epsilon", privacy.get("epsilon"), 1e-6, 100.0))
        found = tuple(self._aggregate(name, schemas, privacy) for name in entries)
        spent = sum(aggregate.epsilon for aggregate in found)
        if spent > epsilon * (1 + 1e-9):
            raise self.text.refuse(
                "privacy",
                "epsilon",
                f"is less than one window of all aggregates spends ({spent:g})",
                "Give the aggregates less, or accept that more is learnt",
            )
        return found, epsilon

    def _aggregate(self, name: str, schemas: Mapping[str, RecordSchema], privacy: Mapping[str, Any]) -> Aggregate:
        table, refuse, number = f"aggregate.{name}", self.text.refuse, self.text.number
        entry = self.text.table(self.content, table, AGGREGATE_SETTINGS)
        schema = schemas.get(str(entry.get("of")))
        if schema is None:
            raise refuse(table, "of", "no analyzer emits this record", did_you_mean(str(entry.get("of")), schemas))
        if name in schemas:
            raise refuse(table, None, "is the name of a record", "Choose another")

        def field(key: str, value: Any, types: frozenset[FieldType]) -> str:
            found = schema.field(str(value))
            if found is None or found.type not in types:
                fields = [field.name for field in schema.fields if field.type in types]
                raise refuse(table, key, f"{value!r} is no field that fits", did_you_mean(str(value), fields))
            return found.name

        do = self.text.word(table, "do", entry.get("do"), ("count", "sum"))
        summed, bounds = None, (0, 1)
        if do == "sum":
            summed = field("field", entry.get("field"), _SUM_TYPES)
            pair = entry.get("bounds")
            if not isinstance(pair, list) or len(pair) != 2:
                raise refuse(table, "bounds", "are not two numbers", "Write bounds = [0, 1000000]")
            low, high = (number(table, "bounds", value, 0, 1 << 40) for value in pair)
            if low >= high:
                raise refuse(table, "bounds", "do not grow", "Write the smaller one first")
            bounds = (low, high)
        elif "field" in entry or "bounds" in entry:
            raise refuse(table, "do", "a count has no field and no bounds", 'Use do = "sum", or delete them')
        by = field("by", entry["by"], _WORD_TYPES) if "by" in entry else None
        keys = entry.get("keys", [])
        if bool(keys) != (by is not None) or not isinstance(keys, list):
            raise refuse(
                table, "by", "needs keys, all that may come out", 'Write by = "method", keys = ["GET", "POST"]'
            )
        where = entry.get("where", {})
        if not isinstance(where, dict) or not all(isinstance(values, list) for values in where.values()):
            raise refuse(table, "where", "is no table of lists", 'Write where = { method = ["POST"] }')
        return Aggregate(
            name=name,
            of=schema.name,
            field=summed,
            bounds=bounds,
            by=by,
            keys=tuple(_word(key) for key in keys),
            where={
                field("where", key, _WORD_TYPES): tuple(_word(value) for value in values)
                for key, values in where.items()
            },
            unit=field("unit", entry.get("unit", privacy.get("unit", "orig_h")), _UNIT_TYPES),
            rows_per_unit=number(
                table, "rows_per_unit", entry.get("rows_per_unit", privacy.get("rows_per_unit")), 1, 1 << 20
            ),
            epsilon=float(number(table, "epsilon", entry.get("epsilon"), 1e-6, 100.0)),
            min_size=number(table, "min_size", entry.get("min_size", self._gate.get("min_k", 0)), 0, 1 << 32),
        )


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
