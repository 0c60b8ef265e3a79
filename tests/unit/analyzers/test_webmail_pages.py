"""Mails out of the pages, sources and forms of web mailers.

The pages are written from what is publicly known of each product's markup (`products.py`); none is a captured one.
"""

from __future__ import annotations

import email
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunker.analyzers.webmail import webmail
from bunker.analyzers.webmail.letter import Letter, people
from bunker.analyzers.webmail.views import script_string, script_strings
from bunker.api import http

SOURCE = (
    "Received: from mx.example by mail.example; Tue, 14 Nov 2023 22:13:20 +0000\n"
    'From: "Ann Example" <ann@sender.example>\nTo: bob@other.example, "Carl, jr." <carl@other.example>\n'
    "Subject: 3 < 4 &amp; more\nDate: Tue, 14 Nov 2023 22:13:20 +0000\nMessage-ID: <1@sender.example>\n\nNoon?\n"
)


def transaction(**known: Any) -> Any:
    """A transaction with what a test says of it."""
    usual: dict[str, Any] = dict(
        ts=1_700_000_000 * 10**9, uid=7, orig_h="192.0.2.1", orig_p=40_000, resp_h="198.51.100.1", resp_p=80,
        trans_depth=1, method="GET", uri="/", status_code=200, resp_content_type="text/html; charset=utf-8",
        orig_content_type=None, req_body=None, resp_body=None, flags=0, gap=False,
    )  # fmt: skip
    body = known.pop("page", None)
    if isinstance(body, str):
        known["resp_body"] = body.encode()
    return SimpleNamespace(**usual | known)


def mails_in(**known: Any) -> list[Any]:
    found: list[Any] = []
    webmail.function(transaction(**known), found.append)
    return found


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


PAGES_AT = Path(__file__).with_name("pages")
CLASSIC = (PAGES_AT / "classic.html").read_text()
LIVE = (PAGES_AT / "live.html").read_text()
ROUNDCUBE = (PAGES_AT / "roundcube.html").read_text()
SQUIRREL = (PAGES_AT / "squirrelmail.html").read_text()
SOGO = {
    "subject": "Lunch",
    "from": [{"name": "Ann", "email": "ann@sender.example"}],
    "to": [{"email": "bob@other.example"}],
    "parts": [{"type": "UIxMailPartAlternativeViewer", "content": [{"content": "<p>Noon?</p>"}]}],
}
RAINLOOP = {
    "Result": {
        "@Object": "Object/Message",
        "Subject": "Lunch",
        "From": [{"Name": "Ann", "Email": "ann@sender.example"}],
        "To": [{"Name": "", "Email": "bob@other.example"}],
        "Html": "",
        "Plain": "Noon?",
    }
}
PAGES = {
    "classic hotmail": ("/cgi-bin/getmsg?msg=MSG974751368.20&start=308345&curmbox=F000000001", CLASSIC, "Noon?"),
    "windows live": ("/mail/ReadMessageLight.aspx?ReadMessageId=1&FolderID=2", LIVE, "It's on me"),
    "roundcube": ("/?_task=mail&_mbox=INBOX&_uid=7&_action=show", ROUNDCUBE, "<p>Noon?</p>"),
    "roundcube preview": ("/rc/?_task=mail&_uid=7-INBOX&_action=preview&_framed=1", ROUNDCUBE, "<p>Noon?</p>"),
    "squirrelmail": ("/webmail/src/read_body.php?mailbox=INBOX&passed_id=12&startMessage=1", SQUIRREL, "usual place"),
    "sogo": ("/SOGo/so/bob/Mail/0/folderINBOX/12/view", json.dumps(SOGO), "<p>Noon?</p>"),
    "rainloop": ("/?/Ajax/&q[]=/0/Message/&q[]=/abc", json.dumps(RAINLOOP), "Noon?"),
    "snappymail": ("/?/Json/&q[]=/0/Message/&q[]=/abc", json.dumps(RAINLOOP), "Noon?"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_shows_a_mail_is_one(name: str) -> None:
    uri, page, words = PAGES[name]
    (found,) = mails_in(uri=uri, page=page)
    assert (found.proto, found.command, found.subject) == ("webmail", "PAGE", "Lunch")
    assert "ann@sender.example" in found.from_
    assert any("bob@" in one for one in found.to)
    assert (found.uid, found.orig_h, found.size) == (7, "192.0.2.1", len(found.body))
    parsed = email.message_from_bytes(found.body)
    assert parsed["Subject"] == "Lunch"
    assert words in parsed.get_payload(decode=True).decode()


@pytest.mark.parametrize("name", PAGES)
def test_an_answer_that_is_none_or_another_page_of_the_product_is_no_mail(name: str) -> None:
    uri, page, _ = PAGES[name]
    assert mails_in(uri=uri, page=page, status_code=302) == []
    assert mails_in(uri=uri, page="") == []
    assert mails_in(uri=uri, page="<html><body>Session expired</body></html>", resp_body=None) == []
    assert mails_in(uri="/news/?id=7", page=page) == []


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("/cgi-bin/getmsg?msg=MSG1&raw=0&curmbox=1", f"<html><pre>\n{escaped(SOURCE)}</pre></html>"),
        ("/mail/GetMessageSource.aspx?msgid=1", f"<pre>{escaped(SOURCE)}</pr"),
        ("/?_task=mail&_uid=7&_mbox=INBOX&_action=viewsource", SOURCE),
        ("/horde/imp/view.php?actionID=view_source&index=1", SOURCE.replace("\n", "\r\n")),
        ("/SOGo/so/bob/Mail/0/folderINBOX/12/viewsource", SOURCE),
    ],
)
def test_a_source_is_the_mail_itself(uri: str, page: str) -> None:
    (found,) = mails_in(uri=uri, page=page)
    assert found.command == "SOURCE" and found.body.startswith(b"Received: from mx.example")
    assert found.from_addr == "ann@sender.example" and found.msg_id == "<1@sender.example>"
    assert found.to == ["bob@other.example", '"Carl, jr." <carl@other.example>']
    assert found.subject == "3 < 4 &amp; more", "what the mail itself has escaped stays so"


def test_what_is_sent_is_a_mail() -> None:
    fields = {"_from": "bob@other.example", "_to": "ann@sender.example", "_subject": "Re: Lunch", "_message": "Yes.\n"}
    kind = "application/x-www-form-urlencoded"
    (found,) = mails_in(
        method="POST", uri="/?_task=mail&_action=send", req_body=urlencode(fields).encode(), orig_content_type=kind
    )
    assert (found.command, found.subject, found.to) == ("SEND", "Re: Lunch", ["ann@sender.example"])
    assert found.body.endswith(b"\r\n\r\nYes.\r\n\r\n")


def test_a_multipart_form_is_read_without_its_files() -> None:
    form = (
        '--b\r\nContent-Disposition: form-data; name="fTo"\r\n\r\nann@sender.example\r\n'
        '--b\r\nContent-Disposition: form-data; name="fSubject"\r\n\r\nLunch\r\n'
        '--b\r\nContent-Disposition: form-data; name="fMessageBody"\r\n\r\n<p>Noon?</p>\r\n'
        '--b\r\nContent-Disposition: form-data; name="fMessageBody2"; filename="x.bin"\r\n\r\nsecret\r\n--b--\r\n'
    )
    (found,) = mails_in(
        method="POST", uri="/mail/SendMessageLight.aspx?n=1", req_body=form.encode(),
        orig_content_type="multipart/form-data; boundary=b",
    )  # fmt: skip
    assert found.content_type == "text/html" and b"<p>Noon?</p>" in found.body and b"secret" not in found.body


def test_a_page_without_its_body_is_counted_with_size_zero() -> None:
    page = ROUNDCUBE.replace("<p>Noon?</p>", "").replace('<div class="rcmBody"></div>', "")
    (found,) = mails_in(uri=PAGES["roundcube"][0], page=page.partition('<div id="messagebody">')[0])
    assert (found.size, found.body, found.subject) == (0, None, "Lunch")


def test_a_gap_in_the_page_is_a_gap_in_the_mail() -> None:
    uri, page, _ = PAGES["squirrelmail"]
    assert not mails_in(uri=uri, page=page)[0].gap
    assert mails_in(uri=uri, page=page, flags=int(http.Anomaly.GAP_IN_BODY))[0].gap


def test_a_windows_live_package_is_unpacked() -> None:
    package = (
        'new HM.FppReturnPackage(0,new HM.InboxUiData(null,null,"'
        + (
            LIVE.partition("<script>")[0].replace("\n", "\\r\\n").replace('"', '\\"')
            + "<div id='MsgContainer'>Noon?</div>"
        )
        + '"));'
    )
    (found,) = mails_in(method="POST", uri="/mail/mail.fpp?cnmn=x", page=package)
    assert found.subject == "Lunch" and b"Noon?" in found.body


def test_line_ends_of_a_field_make_no_other_header() -> None:
    letter = Letter(command="PAGE", subject="a\r\nBcc: evil@example\n\nbody", from_="ann@sender.example", body="b")
    parsed = email.message_from_bytes(letter.rfc822())
    assert parsed["Bcc"] is None and parsed.keys()[:2] == ["From", "Subject"]


@given(st.text(), st.text(), st.booleans())
def test_any_letter_is_a_mail_with_its_body(subject: str, body: str, html: bool) -> None:
    made = Letter(command="PAGE", subject=subject, body=body, html=html).rfc822()
    assert made.count(b"\r\n\r\n") >= 1
    head = made.partition(b"\r\n\r\n")[0]
    assert all(line[:1] in b" \t" or b":" in line for line in head.split(b"\r\n"))


@given(st.binary(max_size=600), st.sampled_from(sorted(PAGES)), st.integers(min_value=0, max_value=4000))
def test_hostile_pages_raise_nothing(noise: bytes, name: str, at: int) -> None:
    uri, page, _ = PAGES[name]
    content = page.encode()
    for body in (noise, content[:at] + noise, content[:at] + noise + content[at:]):
        assert len(mails_in(uri=uri, resp_body=body)) <= 1


@given(st.text(alphabet="ab'\"\\\n\u00e9<"))
def test_a_script_string_decodes_to_what_was_encoded(text: str) -> None:
    for quote in "'\"":
        coded = "".join(f"\\{c}" if c in "'\"\\" else "\\n" if c == "\n" else c for c in text)
        assert script_string(coded + quote + "tail", 0, quote) == (text, len(coded) + 1)


def test_a_script_that_is_no_package_has_no_strings() -> None:
    assert script_strings("alert('x')") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, []),
        ("a@b.example", ["a@b.example"]),
        (
            '"Last, First" <a@b.example>, c@d.example; e@f.example',
            ['"Last, First" <a@b.example>', "c@d.example", "e@f.example"],
        ),
    ],
)
def test_people_are_cut_at_commas_outside_of_quotes(text: str | None, expected: list[str]) -> None:
    assert people(text) == expected
