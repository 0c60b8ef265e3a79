"""One mail out of a page, a source or a form, and the message it becomes.

Rules of this file:
1. Every field is optional, and bounded: what a page says is hostile.
2. `rfc822` makes of it what a mail filter reads: the headers that are known, one body. Nothing is invented to please a
   rule (no Received, no Message-ID).
"""

from __future__ import annotations

import email.message
import email.parser
import email.utils
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.header import Header

from bunker.api import Record, http, mail, message_class

FOUND = message_class("mail")
_MOST_PARTS = 64
_MOST_TEXT = 4096
_MOST_PEOPLE = 256
_GAPS = http.Anomaly.GAP_IN_BODY | http.Anomaly.TRUNCATED


@dataclass(slots=True, kw_only=True)
class Letter:
    """What is known of a mail. `raw` is all of it where a source was shown; else the fields and one body."""

    command: str
    """"PAGE", "SOURCE" or "SEND"."""
    from_: str | None = None
    to: list[str] = field(default_factory=list)
    cc: list[str] = field(default_factory=list)
    subject: str | None = None
    date: str | None = None
    body: str | None = None
    html: bool = False
    raw: bytes | None = None

    def rfc822(self) -> bytes:
        """The mail as text; empty if there is neither source nor body."""
        if self.raw is not None:
            return self.raw
        if self.body is None:
            return b""
        kind = "text/html" if self.html else "text/plain"
        lines = [
            *_line("From", self.from_),
            *_line("To", ", ".join(self.to)),
            *_line("Cc", ", ".join(self.cc)),
            *_line("Subject", self.subject),
            *_line("Date", self.date),
            b"MIME-Version: 1.0",
            f"Content-Type: {kind}; charset=utf-8".encode(),
            b"Content-Transfer-Encoding: 8bit",
        ]
        body = self.body.encode("utf-8", "replace").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return b"\r\n".join(lines) + b"\r\n\r\n" + body + b"\r\n"


def _line(name: str, value: str | None) -> Iterator[bytes]:
    """A header line, folded; none for an empty value. Line ends of the value cannot make another header."""
    words = " ".join((value or "").split())[:_MOST_TEXT]
    if words:
        charset = "us-ascii" if words.isascii() else "utf-8"
        yield f"{name}: ".encode() + Header(words, charset, header_name=name).encode(linesep="\r\n").encode()


def people(text: str | None) -> list[str]:
    """A list of addresses, cut at commas and semicolons that separate them."""
    pieces = re.split(r"[;\n]|,(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", (text or "")[: 16 * _MOST_TEXT])
    return [cleaned for piece in pieces[:_MOST_PEOPLE] if (cleaned := " ".join(piece.split()))]


def address_in(text: str | None) -> str | None:
    """The address alone of a From field; None where there is none."""
    if not text:
        return None
    _, address = email.utils.parseaddr(text[:_MOST_TEXT])
    return address if "@" in address else None


def found(tx: http.Transaction, letter: Letter) -> Record:
    """The message for those who subscribe to mail: who, when and in which flow are the transaction's."""
    content = letter.rfc822()
    parsed = email.parser.BytesParser().parsebytes(content) if letter.raw is not None else None
    head = _headers(parsed) if parsed is not None else letter
    parts = list(_parts(parsed)) if parsed is not None else [("text/html" if letter.html else "text/plain", None)]
    gap = bool(tx.flags & _GAPS) or tx.gap
    return FOUND(
        ts=tx.ts,
        uid=tx.uid,
        orig_h=tx.orig_h,
        orig_p=tx.orig_p,
        resp_h=tx.resp_h,
        resp_p=tx.resp_p,
        proto="webmail",
        trans_depth=tx.trans_depth,
        command=letter.command,
        date=head.date,
        from_=head.from_,
        from_addr=address_in(head.from_),
        to=head.to or None,
        cc=head.cc or None,
        subject=head.subject,
        msg_id=_text(parsed, "Message-ID") if parsed is not None else None,
        tls=False,
        size=len(content),
        content_type=parsed.get_content_type() if parsed is not None else parts[0][0],
        parts=len(parts) if content else 0,
        part_types=[kind for kind, _ in parts] if content else None,
        file_names=[name for _, name in parts if name] or None,
        partial=False,
        flags=int(mail.Anomaly.GAP) if gap else 0,
        gap=gap,
        head=content.partition(b"\r\n\r\n")[0] or None,
        body=content or None,
    )


def _text(message: email.message.Message, name: str) -> str | None:
    value = message.get(name)
    return None if value is None else " ".join(str(value).split())[:_MOST_TEXT]


def _headers(message: email.message.Message) -> Letter:
    return Letter(
        command="SOURCE",
        from_=_text(message, "From"),
        to=people(_text(message, "To")),
        cc=people(_text(message, "Cc")),
        subject=_text(message, "Subject"),
        date=_text(message, "Date"),
    )


def _parts(message: email.message.Message) -> Iterator[tuple[str, str | None]]:
    """(type, file name) of what is no multipart, as many as are looked at."""
    count = 0
    for part in message.walk():
        if not part.is_multipart():
            count += 1
            if count > _MOST_PARTS:
                return
            try:
                name = part.get_filename()
            except (ValueError, LookupError):  # a name in a character set or coding that is none
                name = None
            yield part.get_content_type(), name
