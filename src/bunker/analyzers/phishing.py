"""`phishing`: web pages that ask for secrets, and what about them is suspicious.

One record for each HTML page with a form that asks for a password or a payment card. Nothing is blocked and nothing
is certain: each sign is a column, `score` is their weighted sum, and whoever studies them can weigh them anew.

| sign | weight | why |
|---|---:|---|
| `to_address` | 3 | the form sends what is typed to a bare IP address |
| `to_mail` | 3 | ... or to a mail address |
| `brand_elsewhere` | 3 | the title names a brand that is often imitated; the page stands on none of its domains |
| `at_address` | 2 | the page itself stands on a bare IP address |
| `punycode` | 1 | its name has a label that may only look like another |
| `to_other_site` | 1 | the form sends to another registrable domain |
| `many_labels` | 1 | five labels or more: a name that begins like another's |
| `card` | 1 | it asks for a payment card |

Source: the paper's case study, which looked for such forms with regular expressions; the signs are those that
published phishing features share (forms, hosts, brands). Brands and their domains are public knowledge.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal
from urllib.parse import urljoin, urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

from bunker.api import Address, Count, Emit, Flag, Host, Record, Score, Time, analyzer, http, registrable_domain

BRANDS: dict[str, tuple[str, ...]] = {
    "adobe": ("adobe.com",),
    "amazon": ("amazon.com", "amazon.de", "amazon.co.uk", "amazon.fr", "amazon.it", "amazon.es", "amazon.co.jp"),
    "apple": ("apple.com", "icloud.com"),
    "bank of america": ("bankofamerica.com",),
    "chase": ("chase.com",),
    "dhl": ("dhl.com", "dhl.de"),
    "dropbox": ("dropbox.com",),
    "ebay": ("ebay.com", "ebay.de", "ebay.co.uk", "ebay.fr", "ebay.it"),
    "facebook": ("facebook.com", "meta.com"),
    "google": ("google.com", "gmail.com"),
    "instagram": ("instagram.com",),
    "linkedin": ("linkedin.com",),
    "microsoft": ("microsoft.com", "live.com", "office.com", "outlook.com", "microsoftonline.com", "hotmail.com"),
    "netflix": ("netflix.com",),
    "paypal": ("paypal.com",),
    "steam": ("steampowered.com", "steamcommunity.com"),
    "wells fargo": ("wellsfargo.com",),
    "whatsapp": ("whatsapp.com",),
    "yahoo": ("yahoo.com", "yahoo.co.jp"),
}
Brand = Literal[
    "adobe", "amazon", "apple", "bank of america", "chase", "dhl", "dropbox", "ebay", "facebook", "google", "instagram",
    "linkedin", "microsoft", "netflix", "paypal", "steam", "wells fargo", "whatsapp", "yahoo",
]  # fmt: skip
WEIGHTS = {
    "to_address": 3.0, "to_mail": 3.0, "brand_elsewhere": 3.0, "at_address": 2.0, "punycode": 1.0,
    "to_other_site": 1.0, "many_labels": 1.0, "card": 1.0,
}  # fmt: skip
_BRAND = re.compile(r"\b(" + "|".join(map(re.escape, BRANDS)) + r")\b", re.IGNORECASE)
_CARD = re.compile(r"card.?(?:num|no\b|holder)|cc.?num|cvv|cvc|security.?code|expir(?:y|ation)|\biban\b", re.IGNORECASE)
_MOST_FORMS = 64
_MOST_FIELDS = 256
_LABELS = 5
_LOOKS_LIKE_HTML = re.compile(rb"<(?:!doctype html|html|head|body|form)\b", re.IGNORECASE)


class Phishing(Record, frozen=True):
    """A page that asks for secrets. `passwords`: fields that hide what is typed; `brand`: the first in its title."""

    ts: Time
    client: Address
    server: Address
    site: Host | None
    forms: Count
    passwords: Count
    card: Flag
    brand: Brand | None
    brand_elsewhere: Flag
    to_address: Flag
    to_mail: Flag
    to_other_site: Flag
    at_address: Flag
    punycode: Flag
    many_labels: Flag
    score: Score


@analyzer(emits=Phishing, needs={"bodies"})
def phishing(tx: http.Transaction, emit: Emit) -> None:
    """Look at the forms of a page."""
    body = tx.resp_body
    if not body or b"<form" not in body.lower() or not _LOOKS_LIKE_HTML.search(body[:65_536]):
        return
    tree = LexborHTMLParser(body)
    looked_at = [(form, _passwords(form), _card(form)) for form in tree.css("form")[:_MOST_FORMS]]
    asking = [found for found in looked_at if found[1] or found[2]]
    if not asking:
        return
    site = tx.host
    title = tree.css_first("title")
    named = _BRAND.search(title.text(deep=True)[:1024]) if title is not None else None
    brand = None if named is None else named[1].lower()
    targets = [_target(form, site) for form, _, _ in asking]
    name = (site or "").lower()
    signs = {
        "card": any(card for _, _, card in asking),
        "brand_elsewhere": brand is not None and registrable_domain(name) not in BRANDS[brand],
        "to_address": any(is_address(host) and host != name for scheme, host in targets if scheme != "mailto"),
        "to_mail": any(scheme == "mailto" for scheme, _ in targets),
        "to_other_site": any(_other_site(host, name) for scheme, host in targets if scheme != "mailto"),
        "at_address": is_address(name),
        "punycode": any(label.startswith("xn--") for label in name.split(".")),
        "many_labels": not is_address(name) and name.count(".") + 1 >= _LABELS,
    }
    emit(
        Phishing(
            ts=tx.ts,
            client=tx.client,
            server=tx.server,
            site=site,
            forms=len(asking),
            passwords=sum(passwords for _, passwords, _ in asking),
            brand=brand,  # type: ignore[arg-type]  # a key of BRANDS, which are the words of Brand
            score=sum(WEIGHTS[sign] for sign, there in signs.items() if there),
            **signs,
        )
    )


def _passwords(form: LexborNode) -> int:
    return len(form.css('input[type="password" i]'))


def _card(form: LexborNode) -> bool:
    fields = form.css("input")[:_MOST_FIELDS]
    said = (
        field.attributes.get(name) or "" for field in fields for name in ("name", "id", "placeholder", "autocomplete")
    )
    return any(_CARD.search(text[:256]) for text in said)


def _target(form: LexborNode, site: str | None) -> tuple[str, str]:
    """Scheme and host of where a form sends."""
    action = (form.attributes.get("action") or "").strip()[:4096]
    try:
        parts = urlsplit(urljoin(f"http://{site or ''}/", action))
        return parts.scheme, (parts.hostname or "").lower()
    except ValueError:
        return "", ""


def is_address(host: str) -> bool:
    """Whether a host is a bare IP address."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _other_site(host: str, site: str) -> bool:
    if not host or host == site:
        return False
    theirs, ours = registrable_domain(host), registrable_domain(site)
    return theirs != ours or theirs is None
