"""Zeek's dns.log, ssl.log, x509.log, smtp.log and ssh.log beside our rows, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer
from zeeklog import read_log, unescaped

_ENDS = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")
_DNS = {
    "scalars": ("proto", "trans_id", "query", "qclass", "qclass_name", "qtype", "qtype_name", "rcode", "rcode_name",
                "Z", "opcode", "opcode_name"),
    "flags": ("AA", "TC", "RD", "RA", "rejected"),
    "lists": ("answers", "TTLs"),
}  # fmt: skip
_SSL = {
    "scalars": ("version", "cipher", "curve", "server_name", "last_alert", "next_protocol", "ssl_history"),
    "flags": ("resumed", "established", "sni_matches_cert"),
    "lists": ("cert_chain_fps", "client_cert_chain_fps"),
}
_SMTP = {
    "scalars": ("trans_depth", "helo", "mailfrom", "date", "from", "reply_to", "msg_id", "in_reply_to", "subject",
                "x_originating_ip", "first_received", "second_received", "last_reply", "user_agent"),
    "flags": ("tls",),
    "lists": ("path",),
    "sets": ("rcptto", "to", "cc"),
}  # fmt: skip
_SSH = {
    "scalars": ("version", "client", "server", "cipher_alg", "mac_alg", "compression_alg", "kex_alg", "host_key_alg")
}
_Fields = dict[str, tuple[str, ...]]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _plain(value: str | None) -> str | None:
    return None if value is None else unescaped(value).decode("utf-8", "backslashreplace")


def _facts(fields: _Fields, theirs: dict[str, str | None], ours: Row) -> Iterator[tuple[str, object, object]]:
    for name in fields.get("scalars", ()):
        if name in theirs:
            # The empty sender of a bounce is a sender to us; Zeek leaves the field unset.
            found = _text(ours.get(name))
            yield name, _plain(theirs[name]), None if name == "mailfrom" and found == "" else found
    for name in fields.get("flags", ()):
        # Zeek gives its TLS analyzer the Initial packets of QUIC alone: it cannot see that the handshake was completed.
        if name == "established" and ours.get("transport") == "quic":
            continue
        if theirs.get(name) is not None:
            yield name, theirs[name] == "T", ours.get(name, False)
    for name in (*fields.get("lists", ()), *fields.get("sets", ())):
        if name in theirs:
            value = theirs[name]
            wanted = [] if value in (None, "(empty)") else [_plain(item) for item in value.split(",")]
            found = list(ours.get(name, []))
            if name in fields.get("sets", ()):
                wanted, found = sorted(map(str, wanted)), sorted(set(found))
            yield name, wanted, found


def _ends(row: Row | dict[str, str | None]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _ENDS)


def _compared(case: Case, log: str, kind: str, fields: _Fields, keep: Callable[[Row], bool]) -> Iterator[Finding]:
    path = case.expected(log)
    assert path is not None
    rows = [row for row in dissected(case.path, verify=case.verifies_checksums).rows(kind) if keep(row)]
    lines = read_log(path)
    if len(lines) != len(rows):
        yield Mismatch(fact="rows", expected=len(lines), ours=len(rows))
        return
    # Zeek writes a line when it is complete, we when ours is: the order within one pair of ends is the same.
    theirs_sorted = sorted(lines, key=lambda line: _ends(line) if _ENDS[0] in line else ())
    ours_sorted = sorted(rows, key=_ends)
    for number, (theirs, ours) in enumerate(zip(theirs_sorted, ours_sorted, strict=True), 1):
        if _ENDS[0] in theirs and _ends(theirs) != _ends(ours):
            yield Mismatch(fact="ends", expected=_ends(theirs), ours=_ends(ours), where=f"row {number}")
            continue
        for name, wanted, found in _facts(fields, theirs, ours):
            if wanted != found:
                yield Mismatch(fact=name, expected=wanted, ours=found, where=f"row {number}")


@comparer("dns", "expected.dns.log", source="zeek")
def dns_log(case: Case) -> Iterator[Finding]:
    """Every exchange: names, types, codes, flags, answers and their times to live."""
    yield from _compared(case, "expected.dns.log", "dns", _DNS, lambda row: True)


@comparer("dns", "expected.dns.cut.log", source="zeek")
def dns_cut_log(case: Case) -> Iterator[Finding]:
    """The columns that Zeek's test cuts out."""
    yield from _compared(case, "expected.dns.cut.log", "dns", _DNS, lambda row: True)


@comparer("tls", "expected.ssl.log", source="zeek")
def ssl_log(case: Case) -> Iterator[Finding]:
    """Every handshake: version, suite, group, names, history, fingerprints of certificates."""
    yield from _compared(case, "expected.ssl.log", "tls", _SSL, lambda row: True)


@comparer("mail", "expected.smtp.log", source="zeek")
def smtp_log(case: Case) -> Iterator[Finding]:
    """Every message: envelope, header, reply."""
    yield from _compared(case, "expected.smtp.log", "mail", _SMTP, lambda row: row["proto"] == "smtp")


@comparer("ssh", "expected.ssh.log", source="zeek")
def ssh_log(case: Case) -> Iterator[Finding]:
    """Identifications and chosen algorithms."""
    yield from _compared(case, "expected.ssh.log", "ssh", _SSH, lambda row: True)


_X509 = {
    "certificate.serial": "cert_serial",
    "certificate.subject": "subject",
    "certificate.issuer": "issuer",
    "certificate.not_valid_before": "cert_not_before",
    "certificate.not_valid_after": "cert_not_after",
    "certificate.key_type": "cert_key_type",
    "certificate.key_length": "cert_key_length",
    "certificate.sig_alg": "cert_sig_alg",
}


def _line(value: object) -> str | None:
    return f"{value:.6f}" if isinstance(value, float) else _text(value)


@comparer("tls", "expected.x509.log", source="zeek")
def x509_log(case: Case) -> Iterator[Finding]:
    """The server's own certificate; of the others of its chain we keep the hash."""
    path = case.expected("expected.x509.log")
    assert path is not None
    lines = {line["fingerprint"]: line for line in read_log(path) if line["host_cert"] == "T"}
    for row in dissected(case.path, verify=case.verifies_checksums).rows("tls"):
        line = lines.get(row.get("cert_sha256"))
        if line is None:
            yield Mismatch(fact="certificate", expected=list(lines), ours=row.get("cert_sha256"))
            continue
        for theirs, ours in _X509.items():
            if _plain(line[theirs]) != _line(row.get(ours)):
                yield Mismatch(fact=ours, expected=line[theirs], ours=row.get(ours))
        wanted = (line["san.dns"] or "").split(",") if line["san.dns"] else []
        if wanted != row.get("san_dns", []):
            yield Mismatch(fact="san_dns", expected=wanted, ours=row.get("san_dns", []))


def _pop_requests(path: Path) -> int:
    return sum("pop3_request, T, RETR" in line for line in path.read_text(encoding="utf-8").splitlines())


@comparer("mail", "expected.out", source="zeek", applies=lambda case: "pop3" in case.words)
def pop3_messages(case: Case) -> Iterator[Finding]:
    """As many messages as RETR commands."""
    path = case.expected("expected.out")
    assert path is not None
    rows = [
        row for row in dissected(case.path, verify=case.verifies_checksums).rows("mail") if row["command"] == "RETR"
    ]
    if len(rows) != _pop_requests(path):
        yield Mismatch(fact="messages", expected=_pop_requests(path), ours=len(rows))


@comparer("mail", "expected.files.cut.log", source="zeek", applies=lambda case: "smtp" in case.words)
def smtp_files(case: Case) -> Iterator[Finding]:
    """Types and names of the parts."""
    path = case.expected("expected.files.cut.log")
    assert path is not None
    wanted = sorted((line["mime_type"] or "", line["filename"] or "") for line in read_log(path))
    rows = dissected(case.path, verify=case.verifies_checksums).rows("mail")
    types = sorted(kind for row in rows for kind in row.get("part_types", []))
    names = sorted(name for row in rows for name in row.get("file_names", []))
    if types != sorted(kind for kind, _ in wanted):
        yield Mismatch(fact="part_types", expected=[kind for kind, _ in wanted], ours=types)
    if names != sorted(name for _, name in wanted if name):
        yield Mismatch(fact="file_names", expected=[name for _, name in wanted], ours=names)
