"""Suricata's dns, tls, smtp and pop3 records beside our rows: how many match all given fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from corpus import Case
from dissecting import Row, dissected
from surichecks import Filter, filters
from verdicts import Finding, Mismatch, Unsupported, comparer

_THEIRS = frozenset({"pcap_cnt", "app_proto", "proto", "ip_v", "email.status", "dns.tx_id", "dns.version", "dns.qr"})


_SMTP: dict[str, Callable[[Row], object]] = {
    "tx_id": lambda row: row["trans_depth"] - 1,
    "smtp.helo": lambda row: row.get("helo"),
    "smtp.mail_from": lambda row: f"<{row.get('mailfrom') or ''}>",
    "email.from": lambda row: row.get("from"),
    "src_ip": lambda row: row.get("id.orig_h"),
    "src_port": lambda row: row.get("id.orig_p"),
    "dest_ip": lambda row: row.get("id.resp_h"),
    "dest_port": lambda row: row.get("id.resp_p"),
}


def _item(row: Row, name: str) -> object:
    match = re.fullmatch(r"(smtp\.rcpt_to|email\.to)\[(\d+)\]", name)
    if match is None:
        return _SMTP[name](row)
    items = row.get("rcptto" if match[1] == "smtp.rcpt_to" else "to", [])
    if int(match[2]) >= len(items):
        return None
    return f"<{items[int(match[2])]}>" if match[1] == "smtp.rcpt_to" else items[int(match[2])]


def _has_smtp(case: Case) -> bool:
    path = case.expected("checks.yaml")
    return path is not None and next(filters(path, "smtp"), None) is not None


def _smtp_matches(one: Filter, row: Row) -> bool:
    for name, value in one.match.items():
        if name in _THEIRS:
            continue
        if name == "not-has-key":
            if any(_item(row, key) is not None for key in value):
                return False
        elif _item(row, name) != value:
            return False
    return True


@comparer("mail", "checks.yaml", source="suricata-verify", applies=_has_smtp)
def smtp_records(case: Case) -> Iterator[Finding]:
    """Number of messages with the given envelope and header."""
    path = case.expected("checks.yaml")
    assert path is not None
    rows = [row for row in dissected(case.path, verify=case.verifies_checksums).rows("mail") if row["proto"] == "smtp"]
    for one in filters(path, "smtp"):
        ours = sum(_smtp_matches(one, row) for row in rows)
        if ours != one.count:
            yield Mismatch(fact="smtp", expected=one.count, ours=ours, where=str(one.match))


def _has_mail_files(case: Case) -> bool:
    path = case.expected("checks.yaml")
    about = any(word.startswith(("smtp", "mime")) for word in case.words)
    return about and path is not None and next(filters(path, "fileinfo"), None) is not None


@comparer("mail", "checks.yaml", source="suricata-verify", applies=_has_mail_files)
def mail_files(case: Case) -> Iterator[Finding]:
    """Names, sizes and hashes of attachments."""
    path = case.expected("checks.yaml")
    assert path is not None
    rows = dissected(case.path, verify=case.verifies_checksums).rows("mail")
    for one in filters(path, "fileinfo"):
        name, size, digest = (one.match.get(f"fileinfo.{key}") for key in ("filename", "size", "sha256"))
        names = [item for row in rows for item in row.get("file_names", [])]
        # Suricata keeps 255 bytes of a name and ends a longer one with two dots.
        if name is not None and not any(
            item == name or item.startswith(str(name).removesuffix("..")) for item in names
        ):
            yield Mismatch(fact="filename", expected=name, ours=names)
        if size is not None and str(size) not in [item for row in rows for item in row.get("part_sizes", [])]:
            yield Mismatch(fact="size", expected=size, ours=[row.get("part_sizes") for row in rows])
        if digest is not None and digest not in [item for row in rows for item in row.get("part_sha256", [])]:
            yield Mismatch(fact="sha256", expected=digest, ours=[row.get("part_sha256") for row in rows])


_VERSIONS = {"TLSv10": "TLSv1", "TLSv11": "TLS 1.1", "TLSv12": "TLS 1.2", "TLSv13": "TLS 1.3"}


def _tls_version(row: Row) -> str:
    version = row.get("version") or ""
    draft = re.fullmatch(r"TLSv13-draft(\d+)", version)
    return f"TLS 1.3 draft-{draft[1]}" if draft else _VERSIONS.get(version, version)


_TLS: dict[str, Callable[[Row], object]] = {
    "tls.sni": lambda row: row.get("server_name"),
    "tls.version": _tls_version,
    "tls.ja3.hash": lambda row: row.get("ja3"),
    "tls.ja3s.hash": lambda row: row.get("ja3s"),
    "tls.subject": lambda row: row.get("subject"),
    "tls.serial": lambda row: row.get("cert_serial"),
    "dest_port": lambda row: row.get("id.resp_p"),
    "src_port": lambda row: row.get("id.orig_p"),
    "dest_ip": lambda row: row.get("id.resp_h"),
    "src_ip": lambda row: row.get("id.orig_h"),
}


def _has_tls(case: Case) -> bool:
    path = case.expected("checks.yaml")
    return path is not None and next(filters(path, "tls"), None) is not None


@comparer("tls", "checks.yaml", source="suricata-verify", applies=_has_tls)
def tls_records(case: Case) -> Iterator[Finding]:
    """Number of handshakes with the given name, version and fingerprint (the string behind a JA3 is in its hash)."""
    path = case.expected("checks.yaml")
    assert path is not None
    rows = dissected(case.path, verify=case.verifies_checksums).rows("tls")
    for one in filters(path, "tls"):
        wanted = {
            name: value for name, value in one.match.items() if name not in _THEIRS and not name.endswith("ja3.string")
        }
        unknown = [name for name in wanted if name not in _TLS]
        if unknown:
            yield Unsupported(", ".join(unknown))
            continue
        ours = sum(all(_TLS[name](row) == value for name, value in wanted.items()) for row in rows)
        if ours != one.count:
            yield Mismatch(fact="tls", expected=one.count, ours=ours, where=str(wanted))


def _dns_value(row: Row, name: str, *, reply: bool) -> object:
    """One field of Suricata's DNS record as our row says it; KeyError: a field that is not compared."""
    # Suricata 5 gives a reply over TCP the ends of its flow, its datagrams those of the packet.
    ends = ("resp", "orig") if reply and row.get("proto") == "udp" else ("orig", "resp")
    plain: dict[str, object] = {
        "dns.id": row.get("trans_id"),
        "dns.queries[0].rrname": row.get("query"),
        "dns.queries[0].rrtype": row.get("qtype_name"),
        "dns.rcode": row.get("rcode_name"),
        "dns.answers[0].rrname": row.get("query"),
        "src_ip": row.get(f"id.{ends[0]}_h"),
        "src_port": row.get(f"id.{ends[0]}_p"),
        "dest_ip": row.get(f"id.{ends[1]}_h"),
        "dest_port": row.get(f"id.{ends[1]}_p"),
    }
    return plain[name]


def _kinds(one: Filter) -> tuple[bool, ...]:
    """Whether a filter is about requests (False), replies (True), or both: our row is an exchange, theirs a message."""
    kind = one.match.get("dns.type")
    return (False, True) if kind is None else (kind in ("response", "answer"),)


def _dns_matches(one: Filter, row: Row, *, reply: bool) -> bool:
    if (row.get("rcode") is None) if reply else (row.get("query_bytes") is None):
        return False
    texts = " ".join(text for name in ("answers", "auth", "addl") for text in row.get(name, []))
    for name, value in one.match.items():
        if name.endswith(".rdata") and value:
            if str(value).lower() not in texts.lower():
                return False
            continue
        try:
            found = _dns_value(row, name, reply=reply)
        except KeyError:
            continue
        # Names are lower case in our rows, as in Zeek's.
        if str(found).lower() != str(value).lower():
            return False
    return True


def _has_dns(case: Case) -> bool:
    path = case.expected("checks.yaml")
    return path is not None and next(filters(path, "dns"), None) is not None


@comparer("dns", "checks.yaml", source="suricata-verify", applies=_has_dns)
def dns_records(case: Case) -> Iterator[Finding]:
    """Number of messages with the given identifier, names, types, code, ends and data."""
    path = case.expected("checks.yaml")
    assert path is not None
    rows = dissected(case.path, verify=case.verifies_checksums).rows("dns")
    for one in filters(path, "dns"):
        ours = sum(_dns_matches(one, row, reply=reply) for row in rows for reply in _kinds(one))
        if ours != one.count:
            yield Mismatch(fact="dns", expected=one.count, ours=ours, where=str(one.match))


@comparer("mail", "checks.yaml", source="suricata-verify", applies=lambda case: "pop3" in case.words)
def pop3_mechanism(case: Case) -> Iterator[Finding]:
    """That the dialogue is POP3; its commands are Suricata's records, ours are messages, and this one brings none."""
    flows = dissected(case.path, verify=case.verifies_checksums).rows("flow")
    if "pop3" not in {word for row in flows for word in row.get("service", "").split(",")}:
        yield Mismatch(fact="service", expected="pop3", ours=[row.get("service") for row in flows])
