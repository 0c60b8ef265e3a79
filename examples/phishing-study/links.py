"""What the links of a mail hide: an address in place of a name, a text that names another site than they go to."""

import email
import email.message
import re
from typing import Literal
from urllib.parse import urlsplit

from selectolax.lexbor import LexborHTMLParser

from bunker.api import Address, Count, Emit, Record, Time, analyzer, mail, registrable_domain

MOST_PARTS = 32
MOST_LINKS = 500
SHOWN = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,})(?:[/?:]\S*)?", re.IGNORECASE)
ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\]", re.IGNORECASE)


class MailLinks(Record):
    ts: Time
    client: Address
    proto: Literal["smtp", "pop3", "imap", "webmail"]
    links: Count
    misleading: Count
    to_addresses: Count


@analyzer(emits=MailLinks, needs={"bodies"})
def links(message: mail.Message, emit: Emit) -> None:
    if not message.body or message.partial:
        return
    found = [link for page in pages_of(message.body) for link in links_of(page)][:MOST_LINKS]
    emit(
        MailLinks(
            ts=message.ts,
            client=message.client,
            proto=message.proto,
            links=len(found),
            misleading=sum(misleads(host, text) for host, text in found),
            to_addresses=sum(ADDRESS.fullmatch(host) is not None for host, _ in found),
        )
    )


def pages_of(content: bytes) -> list[bytes]:
    """The HTML parts of a mail, decoded."""
    parts = [part for part in email.message_from_bytes(content).walk() if part.get_content_type() == "text/html"]
    bodies = (part.get_payload(decode=True) for part in parts[:MOST_PARTS])
    return [body for body in bodies if isinstance(body, bytes)]


def links_of(page: bytes) -> list[tuple[str, str]]:
    """(host, text) of each link to the web."""
    found = []
    for node in LexborHTMLParser(page).css('a[href^="http" i]')[:MOST_LINKS]:
        try:
            host = urlsplit(node.attributes.get("href") or "").hostname
        except ValueError:
            continue
        if host:
            found.append((host, " ".join(node.text(deep=True).split())))
    return found


def misleads(host: str, text: str) -> bool:
    """Whether the text is a site's name, and the link goes to another site."""
    shown = SHOWN.fullmatch(text)
    return shown is not None and registrable_domain(shown[1]) not in (None, registrable_domain(host))
