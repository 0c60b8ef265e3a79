"""Zeek's http.log, files.log and what its tests print about bodies, beside our HTTP transactions."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from corpus import Case
from dissecting import Row, dissected
from verdicts import Finding, Mismatch, comparer
from zeeklog import read_log, unescaped

_IDS = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")
_TEXTS = (
    "method",
    "host",
    "uri",
    "referrer",
    "version",
    "user_agent",
    "origin",
    "status_msg",
    "info_msg",
    "username",
)
_NUMBERS = ("status_code", "info_code", "request_body_len", "response_body_len")
_LOGS = ("expected.http.log", "expected.http.cut.log", "expected.http.log.standard", "expected.http.log.tsv")


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _IDS if name in row)


def _text(value: str | None) -> bytes | None:
    """Zeek writes `<empty>` and `(empty)` for what is there and empty; we have no value then."""
    if value in (None, "", "<empty>", "(empty)"):
        return None
    return unescaped(value)


def _by_flow(rows: list[Any], *, with_ids: bool) -> dict[tuple[str, ...], list[Any]]:
    found: dict[tuple[str, ...], list[Any]] = {}
    for row in rows:
        found.setdefault(_key(row) if with_ids else (), []).append(row)
    return found


def _same_row(expected: dict[str, str | None], ours: Row, where: str) -> Iterator[Mismatch]:
    for name in _TEXTS:
        # Zeek shows targets with %XX resolved.
        shown = unquote_to_bytes if name == "uri" else bytes
        wanted_text, our_text = _text(expected.get(name)) or b"", _text(ours.get(name)) or b""
        if name in expected and shown(wanted_text) != shown(our_text):
            yield Mismatch(fact=name, expected=expected[name], ours=ours.get(name), where=where)
    for name in _NUMBERS:
        if name in expected:
            # Status 0 is Zeek's for a reply without a status line.
            wanted = int(expected[name] or 0)
            if wanted != int(ours.get(name) or 0):
                yield Mismatch(fact=name, expected=expected[name], ours=ours.get(name), where=where)
    wanted_types, our_type = expected.get("resp_mime_types"), ours.get("resp_mime_type")
    if wanted_types and our_type and "," not in wanted_types and wanted_types != our_type:
        yield Mismatch(fact="resp_mime_type", expected=wanted_types, ours=our_type, where=where)


def _is_nothing(row: dict[str, str | None]) -> bool:
    """A row of a transaction of which Zeek saw neither request nor reply (bytes after the last message)."""
    return all(row.get(name) is None for name in ("method", "uri", "status_code")) and "method" in row


def _compare_log(case: Case, path: Path) -> Iterator[Finding]:
    expected = [row for row in read_log(path) if not _is_nothing(row)]
    ours = dissected(case.path, verify=case.verifies_checksums).rows("http")
    with_ids = all(name in expected[0] for name in _IDS) if expected else True
    if expected and "trans_depth" in expected[0] and not with_ids:
        expected.sort(key=lambda row: int(row["trans_depth"] or 0))
    wanted, found = _by_flow(expected, with_ids=with_ids), _by_flow(ours, with_ids=with_ids)
    for key in dict.fromkeys([*wanted, *found]):
        theirs, mine = wanted.get(key, []), found.get(key, [])
        if "trans_depth" in (theirs[0] if theirs else {}):
            theirs = sorted(theirs, key=lambda row: int(row["trans_depth"] or 0))
        where = ":".join(key)
        if len(theirs) != len(mine):
            yield Mismatch(fact="transactions", expected=len(theirs), ours=len(mine), where=where)
        for number, (one, other) in enumerate(zip(theirs, mine, strict=False)):
            yield from _same_row(one, other, f"{where} {number + 1}")


for _suffix in _LOGS:

    def _log(case: Case, suffix: str = _suffix) -> Iterator[Finding]:
        """Rows of http.log by connection: every text, status and body length."""
        path = case.expected(suffix)
        assert path is not None
        yield from _compare_log(case, path)

    comparer("http", _suffix, source="zeek")(_log)


def _bodies(rows: list[Row]) -> Iterator[tuple[Row, str, bytes]]:
    """(row, side, decoded body) of all bodies, in order."""
    for row in rows:
        for side in ("req", "resp"):
            if f"{side}_body" in row:
                yield row, side, base64.b64decode(row[f"{side}_body"])


def ranges_joined(rows: list[Row]) -> bytes:
    """The file that replies with a Content-Range are parts of."""
    parts: dict[int, bytes] = {}
    for row, side, body in _bodies(rows):
        head = base64.b64decode(row.get(f"{side}_head", ""))
        boundary = re.search(rb"(?i)multipart/byteranges; *boundary=(\S+)", head)
        pieces = [(head, body)]
        if boundary:
            pieces = [tuple(part.partition(b"\r\n\r\n")[::2]) for part in body.split(b"\r\n--" + boundary[1])]
        for about, content in pieces:
            match = re.search(rb"(?im)^content-range:\s*bytes\s+(\d+)-", about)
            if match and len(content) > len(parts.get(int(match[1]), b"")):
                parts[int(match[1])] = content
    joined = b""
    for start, body in sorted(parts.items()):
        if start <= len(joined):
            joined += body[len(joined) - start :]
    return joined


def _hashes(body: bytes) -> dict[str, str]:
    return {name: hashlib.new(name, body, usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256")}


@comparer("http", source="zeek", applies=lambda case: case.path.name.startswith("http-") and bool(_outputs(case)))
def body_hashes(case: Case) -> Iterator[Finding]:
    """`total bytes` and SHA256 that Zeek printed for each body, or for a file fetched in ranges."""
    rows = dissected(case.path, verify=case.verifies_checksums).rows("http")
    ours = {(len(body), _hashes(body)["sha256"]) for _, _, body in _bodies(rows)}
    told = {row.get(f"{side}_sha256") for row in rows for side in ("orig", "resp")}
    joined = ranges_joined(rows)
    for path in _outputs(case):
        text = path.read_text(encoding="utf-8", errors="replace")
        found = re.findall(r"total bytes: (\d+)\n.*?\nSHA256: ([0-9a-f]{64})", text, re.DOTALL)
        for total, sha256 in found:
            if (int(total), sha256) in ours and sha256 in told:
                continue
            if joined and (len(joined), _hashes(joined)["sha256"]) == (int(total), sha256):
                continue
            yield Mismatch(fact="body_sha256", expected=(int(total), sha256), ours=sorted(ours), where=path.name)


def _outputs(case: Case) -> list[Path]:
    """Files in which Zeek printed hashes of bodies."""
    beside = case.path.parent.glob(f"{case.path.stem}.expected.*out")
    return [path for path in sorted(beside) if "SHA256: " in path.read_text(encoding="utf-8", errors="replace")]


@comparer("http", source="zeek", applies=lambda case: bool(_files(case)))
def body_files(case: Case) -> Iterator[Finding]:
    """The bodies that Zeek extracted to files: the same bytes in the same order."""
    bodies = [body for _, _, body in _bodies(dissected(case.path, verify=case.verifies_checksums).rows("http"))]
    for path in _files(case):
        content = path.read_bytes()
        if content.startswith(b"### BTest"):
            content = content.split(b"\n", 1)[1]
        if content not in bodies and content.removesuffix(b"\n") not in bodies:
            yield Mismatch(fact="body", expected=len(content), ours=[len(body) for body in bodies], where=path.name)


def _files(case: Case) -> list[Path]:
    beside = case.path.parent.glob(f"{case.path.stem}.expected.*-file")
    return sorted(beside) if case.path.name.startswith("http-") else []


@comparer("http", "expected.files.cut.log", source="zeek", applies=lambda case: case.path.name.startswith("http-"))
def files_log(case: Case) -> Iterator[Finding]:
    """SHA-1 and media type of bodies in files.log."""
    rows = dissected(case.path, verify=case.verifies_checksums).rows("http")
    path = case.expected("expected.files.cut.log")
    assert path is not None
    for expected in read_log(path):
        if (sha1 := expected.get("sha1")) and sha1 not in {row.get("resp_sha1") for row in rows}:
            yield Mismatch(fact="body_sha1", expected=sha1, ours=[row.get("resp_sha1") for row in rows])
        kinds = {row.get("resp_mime_type") for row in rows}
        if (kind := expected.get("mime_type")) and kind not in kinds:
            yield Mismatch(fact="resp_mime_type", expected=kind, ours=sorted(map(str, kinds)))


@comparer("http", "expected.entity_data", source="zeek")
def entity_data(case: Case) -> Iterator[Finding]:
    """What Zeek delivered of a body with a hole in it: the bytes on both sides of the hole."""
    path = case.expected("expected.entity_data")
    assert path is not None
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    wanted = b"".join(unescaped(line) for line in lines if line and not line.startswith("<"))
    rows = dissected(case.path, verify=case.verifies_checksums).rows("http")
    got = b"".join(body for _, _, body in _bodies(rows))
    if wanted != got:
        yield Mismatch(fact="body", expected=len(wanted), ours=len(got))
    if not any(row.get("gap") for row in rows):
        yield Mismatch(fact="gap", expected=True, ours=False)
