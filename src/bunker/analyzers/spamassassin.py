"""`spamassassin`: what Apache SpamAssassin makes of each mail, local tests alone.

Mails come from SMTP, POP3, IMAP, and with the analyzer `webmail` from web pages. Partial mails are left out. The
program beside this file (`programs/spamassassin.pl`) runs jailed as every external one; the engine and its rules are
the machine's (Debian package `spamassassin`), and the record `spam_engine` says which they were.

Source: section 5 of the paper (spam scores of webmail); measured facts in the project's notes on applications.
"""

from __future__ import annotations

from typing import Literal

from bunker.api import Address, Bytes, Count, Enum, Flag, MailAddress, Record, Score, Time
from bunker.model.analyzer import declare_external
from bunker.model.external import KNOWN_LIBRARIES, program_of

Protocol = Literal["smtp", "pop3", "imap", "webmail"]


class Spam(Record, frozen=True):
    """One scored mail. `partial`: bytes of it are missing, or it was longer than is scored."""

    ts: Time
    client: Address
    server: Address
    proto: Protocol
    sender: MailAddress | None
    size: Bytes
    score: Score
    required: Score
    """From which score on the engine calls a mail spam."""
    spam: Flag
    hits: Count
    """Rules that fired."""
    partial: Flag


class SpamRule(Record, frozen=True):
    """One rule that fired on one mail, and its share of the score."""

    client: Address
    server: Address
    proto: Protocol
    rule: Enum
    score: Score


class SpamEngine(Record, frozen=True):
    """One a lane, at the end: engine, SHA-256 over its rules (a policy lists those it expects), mails it scored."""

    version: Enum
    rules: Enum
    mails: Count


_PROGRAM = program_of(
    "perl programs/spamassassin.pl",
    files=(),
    libraries=(*KNOWN_LIBRARIES["perl"], *KNOWN_LIBRARIES["spamassassin"]),
    fields=(
        "ts", "orig_h", "resp_h", "proto", "from_addr", "mailfrom", "size", "command", "partial", "gap", "body",
    ),
    built_in=True,
)  # fmt: skip
spamassassin = declare_external(
    _PROGRAM, name="spamassassin", message="mail", emits=(Spam, SpamRule, SpamEngine), needs={"bodies"}
)
