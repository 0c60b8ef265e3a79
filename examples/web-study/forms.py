"""Forms that are posted, and whether they ask for secrets: an analyzer as a user of Bunker writes it.

It sees passwords. What it emits is one row for each form, and of that row the policy lets out what `policy.toml` names.
No name of a field and no value ever becomes part of a row, so no policy could release one by mistake.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from bunker.api import Address, Bytes, Code, Count, Emit, Enum, Flag, Host, Record, Time, analyzer, http

SECRETS = frozenset({"password", "passwd", "pwd", "pin", "card", "cvc", "iban", "token"})
URLENCODED = "application/x-www-form-urlencoded"


class Form(Record):
    """One posted form."""

    ts: Time
    client: Address
    site: Host | None
    kind: Enum
    fields: Count
    secret: Flag
    size: Bytes
    status: Code | None


def _content_type(head: bytes | None) -> str:
    """Media type of a request, from its raw head; "" if there is none."""
    for line in (head or b"").split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return value.split(b";")[0].strip().lower().decode("ascii", "replace")
    return ""


@analyzer(emits=Form, needs=("heads", "bodies"))
def forms(tx: http.Transaction, emit: Emit) -> None:
    """Called with each HTTP transaction; emits a row for each form."""
    if tx.method != "POST":
        return
    media, names = _content_type(tx.req_head), []
    if media == URLENCODED:
        names = [name.lower() for name, _ in parse_qsl((tx.req_body or b"").decode("utf-8", "replace"), True)]
        kind = "urlencoded"
    elif media == "multipart/form-data":
        kind = "multipart"
    else:
        return
    emit(
        Form(
            ts=tx.ts,
            client=tx.client,
            site=tx.host,
            kind=kind,
            fields=len(names),
            secret=not SECRETS.isdisjoint(names),
            size=tx.request_body_len,
            status=tx.status_code,
        )
    )
