"""DNS, TLS and mail in Arkime's sessions and nDPI's flows, beside our rows and the flows' services."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer

Ends = frozenset[tuple[str, int]]


def _sessions(case: Case) -> list[dict[str, Any]]:
    path = case.expected("arkime.json")
    if path is None:
        return []
    return [session["body"] for session in json.loads(path.read_text(encoding="utf-8"))["sessions3"]]


def _ends(row: Row) -> Ends:
    return frozenset([(row["id.orig_h"], row["id.orig_p"]), (row["id.resp_h"], row["id.resp_p"])])


def _session_ends(session: dict[str, Any]) -> Ends:
    return frozenset((session[end]["ip"], session[end]["port"]) for end in ("source", "destination"))


def _by_ends(case: Case, kind: str) -> dict[Ends, list[Row]]:
    found: dict[Ends, list[Row]] = {}
    for row in dissected(case.path, verify=case.verifies_checksums).rows(kind):
        found.setdefault(_ends(row), []).append(row)
    return found


def _has(name: str) -> Any:
    return lambda case: any(name in session for session in _sessions(case))


def _missing(fact: str, wanted: set[Any], found: set[Any], where: str) -> Iterator[Mismatch]:
    if not wanted <= found:
        yield Mismatch(fact=fact, expected=sorted(wanted, key=str), ours=sorted(found, key=str), where=where)


_TYPES = {"ANY": "*"}  # Zeek's name of the type


@comparer("dns", "arkime.json", source="arkime", applies=_has("dns"))
def arkime_dns(case: Case) -> Iterator[Finding]:
    """By session: names asked for, type, status, operation, addresses."""
    ours = _by_ends(case, "dns")
    for number, session in enumerate(_sessions(case)):
        told = session.get("dns")
        for dns in told if isinstance(told, list) else [told] if told else []:
            rows = ours.get(_session_ends(session), [])
            where = f"session {number + 1}"
            if "queryHost" in dns:
                # Arkime shows names of other scripts in their own letters.
                name = dns["queryHost"].lower().encode("idna").decode()
                yield from _missing("query", {name}, {row.get("query") for row in rows}, where)
            if "qt" in dns:
                yield from _missing(
                    "qtype_name", {_TYPES.get(dns["qt"], dns["qt"])}, {row.get("qtype_name") for row in rows}, where
                )
            if "status" in dns:
                yield from _missing("rcode_name", {dns["status"]}, {row.get("rcode_name") for row in rows}, where)
            if "opcode" in dns:
                yield from _missing(
                    "opcode_name", {dns["opcode"].lower()}, {str(row.get("opcode_name")).lower() for row in rows}, where
                )
            wanted = {answer["ip"] for answer in dns.get("answers", []) if "ip" in answer}
            texts = {text for row in rows for name in ("answers", "auth", "addl") for text in row.get(name, [])}
            yield from _missing("addresses", wanted, texts, where)


@comparer("tls", "arkime.json", source="arkime", applies=_has("tls"))
def arkime_tls(case: Case) -> Iterator[Finding]:
    """By session: suite, JA3, JA3S, JA4, SHA-1 of the certificate, name, key's algorithm."""
    ours = _by_ends(case, "tls")
    for number, session in enumerate(_sessions(case)):
        if "tls" not in session:
            continue
        rows = ours.get(_session_ends(session), [])
        where = f"session {number + 1}"
        for theirs, name in (("cipher", "cipher"), ("ja3", "ja3"), ("ja3s", "ja3s"), ("ja4", "ja4")):
            yield from _missing(name, set(session["tls"].get(theirs, [])), {row.get(name) for row in rows}, where)
        # Arkime lists a chain in no order: the server's own is among them.
        hashes = {cert["hash"].replace(":", "") for cert in session.get("cert", []) if "hash" in cert}
        if hashes and not {row.get("cert_sha1") for row in rows} <= hashes:
            yield Mismatch(
                fact="cert_sha1", expected=sorted(hashes), ours=[row.get("cert_sha1") for row in rows], where=where
            )
        if hashes and {row.get("cert_count") for row in rows} != {session.get("certCnt")}:
            yield Mismatch(
                fact="cert_count",
                expected=session.get("certCnt"),
                ours=[row.get("cert_count") for row in rows],
                where=where,
            )


@comparer("mail", "arkime.json", source="arkime", applies=_has("email"))
def arkime_mail(case: Case) -> Iterator[Finding]:
    """By session: sender, recipients, program, identifier, names and hashes of attachments."""
    ours = _by_ends(case, "mail")
    for number, session in enumerate(_sessions(case)):
        mail = session.get("email")
        if mail is None:
            continue
        rows = ours.get(_session_ends(session), [])
        where = f"session {number + 1}"
        senders = {row[name].lower() for row in rows for name in ("mailfrom", "from_addr") if row.get(name)}
        yield from _missing("mailfrom", {sender.lower() for sender in mail.get("src", [])}, senders, where)
        targets = {
            item.lower().strip("<>") for row in rows for name in ("rcptto", "to", "cc") for item in row.get(name, [])
        }
        yield from _missing("rcptto", {target.lower() for target in mail.get("dst", [])}, targets, where)
        yield from _missing("helo", set(mail.get("smtpHello", [])), {row.get("helo") for row in rows}, where)
        yield from _missing(
            "user_agent", set(mail.get("useragent", [])), {row.get("user_agent") for row in rows}, where
        )
        ids = {(row.get("msg_id") or "").strip("<>") for row in rows}
        yield from _missing("msg_id", set(mail.get("id", [])), ids, where)
        names = {name for row in rows for name in row.get("file_names", [])}
        yield from _missing("file_names", set(mail.get("filename", [])), names, where)
        hashes = {digest for row in rows for digest in row.get("part_sha256", [])}
        yield from _missing("part_sha256", set(mail.get("sha256", [])), hashes, where)


_SERVICES = {
    "dns": "dns", "tls": "ssl", "smtp": "smtp", "pop3": "pop3", "imap": "imap", "ssh": "ssh", "quic": "quic",
    "dtls": "dtls", "ntp": "ntp", "dhcp": "dhcp", "mdns": "dns", "llmnr": "dns",
}  # fmt: skip


def _about_services(case: Case) -> bool:
    return any(set(session.get("protocol", [])) & set(_SERVICES) for session in _sessions(case))


@comparer("services", "arkime.json", source="arkime", applies=_about_services)
def arkime_services(case: Case) -> Iterator[Finding]:
    """By session: the protocols of this list that Arkime found."""
    ours = _by_ends(case, "flow")
    for number, session in enumerate(_sessions(case)):
        wanted = {_SERVICES[word] for word in session.get("protocol", []) if word in _SERVICES}
        if not wanted or "port" not in session.get("source", {}):
            continue
        found = {word for row in ours.get(_session_ends(session), []) for word in row.get("service", "").split(",")}
        yield from _missing("service", wanted, found, f"session {number + 1}")


_LINE = re.compile(r"^\s*\d+\s+(?:TCP|UDP) (\S+):(\d+) <?->? (\S+):(\d+) \[proto: [\d.]+/([^\]]*)\](.*)$")
_NDPI = {
    "DNS": "dns", "TLS": "ssl", "SMTP": "smtp", "POP3": "pop3", "IMAP": "imap", "SSH": "ssh", "NTP": "ntp",
    "DHCP": "dhcp", "DTLS": "dtls", "MDNS": "dns", "LLMNR": "dns", "QUIC": "quic",
}  # fmt: skip
# Of QUIC's versions those that were standardised, and the last drafts; Google's own came before.
_QUIC = re.compile(r"\[QUIC ver: (?:V-1|V-2|Draft-(?:29|3\d))\]")


def _ndpi_flows(case: Case) -> list[tuple[Ends, str, str]]:
    path = case.expected("ndpi.out")
    if path is None:
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.match(line)
        word = match[5].split(".")[0] if match else ""
        # What was guessed by a port or an address is not a fact about the bytes.
        if word == "QUIC" and not _QUIC.search(line):
            continue
        if match and word in _NDPI and "[Confidence: DPI]" in line:
            # nDPI shortens a single zero of an IPv6 address too.
            hosts = [str(ipaddress.ip_address(match[number].strip("[]"))) for number in (1, 3)]
            ends = frozenset([(hosts[0], int(match[2])), (hosts[1], int(match[4]))])
            found.append((ends, _NDPI[word], match[6]))
    return found


@comparer("services", "ndpi.out", source="ndpi", applies=lambda case: bool(_ndpi_flows(case)))
def ndpi_services(case: Case) -> Iterator[Finding]:
    """By flow: the protocol that nDPI found by its bytes, and the name in it."""
    flows, hellos, names = _by_ends(case, "flow"), _by_ends(case, "tls"), _by_ends(case, "dns")
    for ends, service, text in _ndpi_flows(case):
        where = str(sorted(ends))
        found = {word for row in flows.get(ends, []) for word in row.get("service", "").split(",")}
        yield from _missing("service", {service}, found, where)
        name = re.search(r"\[Hostname/SNI: ([^\]]*)\]", text)
        rows = (
            hellos.get(ends, [])
            if service in ("ssl", "quic", "dtls")
            else names.get(ends, [])
            if service == "dns"
            else []
        )
        if name and rows:
            ours = {(row.get("server_name") or row.get("query") or "").lower() for row in rows}
            yield from _missing("name", {name[1].lower()}, ours, where)
        fingerprint = re.search(r"\[JA3S: ([0-9a-f]{32})\]", text)
        if fingerprint and rows:
            yield from _missing("ja3s", {fingerprint[1]}, {row.get("ja3s") for row in rows}, where)
