"""The ways in which web mailers show and send mails: as a page, as its source, as JSON, as a form.

Rules of this file:
1. Whether a request is one of a product is decided by its path and query alone: cheap, before any body is looked at.
2. Markup is read by a browser's parser; labels are looked up in a table of languages.
"""

from __future__ import annotations

import email.message
import email.parser
import html
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

from bunker.analyzers.webmail.letter import Letter, people
from bunker.api import http

_MOST_FIELDS = 256
_MOST_CELLS = 4000
_MOST_DEPTH = 16
_MOST_PIECES = 16
_QUOTE = re.compile(r"[\"']")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request by what tells a product: method, path, query (the first value of each name)."""

    method: str
    path: str
    query: Mapping[str, str]


def request_of(tx: http.Transaction, uri: str) -> Request | None:
    """What a request asks for; None if its target cannot be read."""
    try:
        parts = urlsplit(uri)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="replace")
    except ValueError:
        return None
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return Request(method=tx.method or "", path=unquote(parts.path, errors="replace"), query=query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a view stands: the path, and query fields that must be there and fit."""

    path: str
    query: Mapping[str, str] | None = None
    method: str = "GET"

    def fits(self, request: Request) -> bool:
        """Whether a request is for this."""
        if request.method != self.method or not re.search(self.path, request.path, re.IGNORECASE):
            return False
        wanted = self.query or {}
        return all(re.fullmatch(value, request.query.get(name, "\0")) for name, value in wanted.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class View(ABC):
    """One way to show or send a mail."""

    place: Place

    @abstractmethod
    def read(self, tx: http.Transaction) -> Letter | None:
        """The mail in a transaction whose request fits the place; None if there is none in it."""


def text_of(body: bytes | None, content_type: str | None) -> str:
    """A body as text: in the declared character set, else UTF-8, else what browsers take for none."""
    if not body:
        return ""
    declared = re.search(r"charset=[\"']?([\w.:-]{1,40})", content_type or "", re.IGNORECASE)
    for charset in (declared[1] if declared else None, "utf-8"):
        if charset is not None:
            try:
                return body.decode(charset)
            except (LookupError, UnicodeError):
                continue
    return body.decode("cp1252", "replace")


def _shown(tx: http.Transaction) -> bytes | None:
    return tx.resp_body if tx.status_code == 200 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView(View):
    """The mail itself, as plain text or inside `<pre>`."""

    def read(self, tx: http.Transaction) -> Letter | None:
        """See `View`. What stands in `<pre>` is unescaped once: twice would break what the mail itself has escaped."""
        body = _shown(tx)
        if not body:
            return None
        start = re.search(rb"<pre[^>]*>", body[:65_536], re.IGNORECASE)
        if start is not None:
            inner = text_of(body[start.end() :], tx.resp_content_type)
            inner = re.split(r"</(?:p(?:r(?:e.*)?)?)?$|</pre", inner, maxsplit=1, flags=re.IGNORECASE)[0]
            body = html.unescape(inner).encode("utf-8", "replace")
        raw = re.sub(rb"\r?\n", b"\r\n", body.lstrip())
        return Letter(command="SOURCE", raw=raw) if re.match(rb"[!-9;-~]{1,76}:", raw) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentView(View):
    """A form that sends a mail; `fields` says which of its fields is what."""

    fields: Mapping[str, str]

    def read(self, tx: http.Transaction) -> Letter | None:
        """See `View`."""
        sent = form_of(tx.req_body, tx.orig_content_type)
        known = {what: sent[name] for what, name in self.fields.items() if name in sent}
        if "body" not in known and "subject" not in known:
            return None
        body = known.get("body")
        flag = known.get("html", "")
        return Letter(
            command="SEND",
            from_=known.get("from"),
            to=people(known.get("to")),
            cc=[*people(known.get("cc")), *people(known.get("bcc"))],
            subject=known.get("subject"),
            body=body,
            html=flag not in ("", "0", "false") or bool(body and re.match(r"\s*<(?:html|div|p|body)\b", body, re.I)),
        )


def form_of(body: bytes | None, content_type: str | None) -> dict[str, str]:
    """Fields of a form that was sent, URL-encoded or multipart; the first value of each name."""
    if not body:
        return {}
    found: dict[str, str] = {}
    if "multipart/form-data" in (content_type or "").lower():
        head = f"Content-Type: {' '.join((content_type or '').split())}\r\n\r\n".encode("utf-8", "replace")
        for part in email.parser.BytesParser().parsebytes(head + body).walk():
            name = _parameter(part, "name")
            if name and not part.is_multipart() and _parameter(part, "filename") is None:
                content = part.get_payload(decode=True)
                found.setdefault(name, content.decode("utf-8", "replace") if isinstance(content, bytes) else "")
            if len(found) >= _MOST_FIELDS:
                break
        return found
    try:
        pairs = parse_qsl(
            body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="replace"
        )
    except ValueError:
        return {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _parameter(part: email.message.Message, name: str) -> str | None:
    try:
        value = part.get_param(name, header="content-disposition")
    except (ValueError, LookupError):
        return None
    return None if value is None else str(value)


_LABELS = {
    "from": "from", "von": "from", "de": "from", "da": "from", "fra": "from", "van": "from", "od": "from",
    "от": "from", "от кого": "from", "gönderen": "from", "från": "from", "sender": "from",
    "to": "to", "an": "to", "à": "to", "a": "to", "para": "to", "til": "to", "aan": "to", "do": "to", "komu": "to",
    "кому": "to", "till": "to", "kime": "to", "recipient": "to",
    "cc": "cc", "kopie": "cc", "копия": "cc",
    "subject": "subject", "betreff": "subject", "objet": "subject", "oggetto": "subject", "asunto": "subject",
    "assunto": "subject", "onderwerp": "subject", "temat": "subject", "emne": "subject", "ämne": "subject",
    "тема": "subject", "konu": "subject", "předmět": "subject",
    "date": "date", "sent": "date", "received": "date", "datum": "date", "gesendet": "date", "envoyé": "date",
    "inviato": "date", "enviado": "date", "data": "date", "fecha": "date", "dato": "date", "verzonden": "date",
    "дата": "date", "tarih": "date", "skickat": "date", "sendt": "date",
}  # fmt: skip


def labelled(tree: LexborHTMLParser) -> tuple[dict[str, str], LexborNode | None]:
    """Header fields that stand in a cell behind a cell with their label; and the table they stand in."""
    found: dict[str, str] = {}
    table: LexborNode | None = None
    for cell in tree.css("td, th, dt, span.header-title")[:_MOST_CELLS]:
        what = _LABELS.get(_label(cell.text(deep=True)[:80]))
        if what is None or what in found:
            continue
        value = _following(cell)
        if value is None:
            continue
        found[what] = _named(value)
        table = table or _around(cell, "table")
    return found, table


def _label(text: str) -> str:
    """What a label says, without its colon (the wide one of East Asian pages too)."""
    return " ".join(text.replace("\xa0", " ").split()).rstrip(" :\uff1a").lower()


def _following(node: LexborNode) -> LexborNode | None:
    following = node.next
    while following is not None and (following.tag is None or following.tag.startswith("-")):
        following = following.next
    return following


def _around(node: LexborNode, tag: str) -> LexborNode | None:
    around = node.parent
    while around is not None and around.tag != tag:
        around = around.parent
    return around


def _named(node: LexborNode) -> str:
    """Text of a value; where addresses hide behind names (`title`, `mailto:`), both."""
    links = node.css('[href^="mailto:"], [title*="@"]')
    if not links:
        return " ".join(node.text(deep=True, separator=" ").replace("\xa0", " ").split())
    people = []
    for link in links:
        target = link.attributes.get("href") or ""
        address = unquote(target[7:].partition("?")[0]) if target.startswith("mailto:") else ""
        address = link.attributes.get("title") or address
        name = " ".join(link.text(deep=True).split())
        people.append(address if not name or name == address else f'"{name}" <{address}>')
    return ", ".join(people)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView(View):
    """A page that shows a mail.

    Args:
        subject: Selectors of the subject, if it has no label.
        html: Selectors of a body that is HTML; `text`: of one that is text.
        after_table: The body is what follows the table of the header fields.
        unpack: Makes the page out of what was sent, if that is no page itself.
    """

    subject: tuple[str, ...] = ()
    html: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    after_table: bool = False
    unpack: Callable[[str], str | None] = lambda text: text

    def read(self, tx: http.Transaction) -> Letter | None:
        """See `View`."""
        page = self.unpack(text_of(_shown(tx), tx.resp_content_type))
        if not page:
            return None
        tree = LexborHTMLParser(page)
        fields, table = labelled(tree)
        letter = Letter(
            command="PAGE",
            from_=fields.get("from"),
            to=people(fields.get("to")),
            cc=people(fields.get("cc")),
            subject=fields.get("subject") or self._subject(tree),
            date=fields.get("date"),
        )
        self._fill_body(letter, tree, page, table)
        known = letter.from_ or letter.subject or letter.body
        return letter if known else None

    def _subject(self, tree: LexborHTMLParser) -> str | None:
        for selector in self.subject:
            node = tree.css_first(selector)
            if node is not None and (text := " ".join(node.text(deep=True).split())):
                return text
        return None

    def _fill_body(self, letter: Letter, tree: LexborHTMLParser, page: str, table: LexborNode | None) -> None:
        injected = _injected(page)
        if injected:
            letter.body, letter.html = injected, True
            return
        for selector in self.html:
            node = tree.css_first(selector)
            if node is not None and (inner := node.inner_html):
                letter.body, letter.html = inner, True
                return
        for selector in self.text:
            nodes = tree.css(selector)
            if nodes:
                for line_end in (end for node in nodes for end in node.css("br")):
                    line_end.replace_with("\n")
                letter.body = "\n".join(node.text(deep=True) for node in nodes[:_MOST_PIECES])
                return
        if self.after_table and table is not None and table.html:
            outermost = table
            while (above := _around(outermost, "table")) is not None:
                outermost = above
            following = (tree.html or "").partition(outermost.html or "\0")[2]
            if following.strip():
                letter.body, letter.html = following, True


_INJECTED = re.compile(
    r"""getElementById\(["'](?:MsgContainer|messagebody)["']\)\.innerHTML\s*=\s*(?P<quote>["'])""", re.IGNORECASE
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}


def _injected(page: str) -> str | None:
    """The body that a script would have put into the page."""
    match = _INJECTED.search(page)
    return None if match is None else script_string(page, match.end(), match["quote"])[0]


def script_string(text: str, start: int, quote: str) -> tuple[str, int]:
    """The string literal of a script that began at `start`, decoded, and where it ended."""
    out: list[str] = []
    at = start
    while at < len(text) and text[at] != quote:
        if text[at] != "\\":
            end = at
            while end < len(text) and text[end] not in (quote, "\\"):
                end += 1
            out.append(text[at:end])
            at = end
            continue
        letter = text[at + 1 : at + 2]
        width = {"x": 2, "u": 4}.get(letter, 0)
        digits = text[at + 2 : at + 2 + width]
        if width and re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
            out.append(chr(int(digits, 16)))
            at += 2 + width
        else:
            out.append(_ESCAPES.get(letter, letter))
            at += 2
    return "".join(out), at + 1


def script_strings(text: str) -> str | None:
    """All string literals of a script in a row: how Windows Live sent pieces of pages. None: no such script."""
    if "FppReturnPackage" not in text[:4096]:
        return None
    out: list[str] = []
    at = 0
    while (match := _QUOTE.search(text, at)) is not None:
        string, at = script_string(text, match.end(), match[0])
        out.append(string)
    return "".join(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonView(View):
    """A mail as JSON.

    Args:
        inside: Keys down to the mail.
        fields: What is under which key; several keys where a product has had several.
    """

    inside: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]]

    def read(self, tx: http.Transaction) -> Letter | None:
        """See `View`. Some products wrap their JSON into a comment, so that it is no script."""
        text = text_of(_shown(tx), tx.resp_content_type).strip()
        text = text.removeprefix("/*-secure-").removesuffix("*/")
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None
        for key in self.inside:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            return None
        known = {what: _first(value, keys) for what, keys in self.fields.items()}
        page = _content(known.get("html"))
        body = page or _content(known.get("text"))
        if body is None and not known.get("subject"):
            return None
        return Letter(
            command="PAGE",
            from_=", ".join(_people(known.get("from"))) or None,
            to=_people(known.get("to")),
            cc=_people(known.get("cc")),
            subject=_string(known.get("subject")),
            date=_string(known.get("date")),
            body=body,
            html=page is not None,
        )


def _first(value: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if value.get(key) not in (None, "", [])), None)


def _string(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) else None


def _people(value: Any) -> list[str]:
    """Addresses as text, or as objects with a name and an address."""
    if isinstance(value, str):
        return people(value)
    found = []
    for one in value if isinstance(value, list) else []:
        if isinstance(one, dict):
            lower = {str(key).lower(): item for key, item in one.items()}
            address, name = _string(lower.get("email")), _string(lower.get("name"))
            if address:
                found.append(f'"{name}" <{address}>' if name else address)
        elif isinstance(one, str):
            found.append(one)
    return found


def _content(value: Any) -> str | None:
    """The first text in a part, or in a tree of parts."""
    return next((text for text in _contents(value, 0)), None)


def _contents(value: Any, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, dict):
        yield from _contents(value.get("content"), depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _contents(one, depth + 1)
