"""Web mailers by what their requests and pages look like: data, no code.

Classic Hotmail and Windows Live are those of the paper's time; the others are what campuses and providers run today,
as far as they are still met without TLS. To add one: a `Place` for each of its views, the selectors of its page, and a
word of its URLs in `MAYBE`.
"""

from __future__ import annotations

import re

from bunker.analyzers.webmail.views import JsonView, PageView, Place, SentView, SourceView, View, script_strings

MAYBE = re.compile(
    r"getmsg|/mail/(?:ReadMessage|GetMessageSource|SendMessage|mail\.fpp)|_task=mail|"
    r"/src/(?:read_body|compose|download)\.php|/imp/(?:message|view|compose|dynamic)\.php|/SOGo/so/|"
    r"\?/(?:Ajax|Json|Raw)/",
    re.IGNORECASE,
)
"""What the URLs of these have in common: all else is passed over at once."""

_LIVE_HTML = ("div#MsgContainer", "div.readMsgBodyContainer", "div.ReadMsgBody", "div.ReadMsgContainer")
_LIVE_SUBJECT = ("td.ReadMsgSubject", "div.ReadMsgSubject", "h2.ReadMsgSubject", ".ReadMsgSubject")

_HOTMAIL: tuple[View, ...] = (
    SourceView(place=Place(path=r"/cgi-bin/getmsg$", query={"msg": ".+", "raw": "[01]"})),
    PageView(
        place=Place(path=r"/cgi-bin/getmsg$", query={"msg": ".+"}),
        html=("div#MsgBody", "td#MsgBody"),
        after_table=True,
    ),
    SourceView(place=Place(path=r"/mail/GetMessageSource\.aspx$")),
    PageView(place=Place(path=r"/mail/ReadMessage(?:Light)?\.aspx$"), subject=_LIVE_SUBJECT, html=_LIVE_HTML),
    PageView(
        place=Place(path=r"/mail/mail\.fpp$", method="POST"),
        subject=_LIVE_SUBJECT,
        html=_LIVE_HTML,
        unpack=script_strings,
    ),
    SentView(
        place=Place(path=r"/mail/SendMessage(?:Light)?\.aspx$", method="POST"),
        fields={
            "from": "fFrom", "to": "fTo", "cc": "fCc", "bcc": "fBcc", "subject": "fSubject", "body": "fMessageBody",
        },
    ),
)  # fmt: skip

_ROUNDCUBE: tuple[View, ...] = (
    SourceView(place=Place(path="", query={"_task": "mail", "_action": "viewsource", "_uid": ".+"})),
    PageView(
        place=Place(path="", query={"_task": "mail", "_action": "show|preview", "_uid": ".+"}),
        subject=("#message-header h2.subject", "h2.subject", "td.subject", "title"),
        html=("#messagebody div.rcmBody", "#messagebody div.message-htmlpart"),
        text=("#messagebody div.message-part pre", "#messagebody div.message-part", "#messagebody div.pre"),
    ),
    SentView(
        place=Place(path="", query={"_task": "mail", "_action": "send"}, method="POST"),
        fields={
            "from": "_from", "to": "_to", "cc": "_cc", "bcc": "_bcc", "subject": "_subject", "body": "_message",
            "html": "_is_html",
        },
    ),
)  # fmt: skip

_SQUIRRELMAIL: tuple[View, ...] = (
    SourceView(
        place=Place(path=r"/src/download\.php$", query={"passed_id": ".+", "absolute_dl": "true", "ent_id": "0"})
    ),
    PageView(
        place=Place(path=r"/src/read_body\.php$", query={"passed_id": ".+"}),
        html=("div.bodyclass",),
        text=("div.readBody", "table pre", "pre"),
    ),
    SentView(
        place=Place(path=r"/src/compose\.php$", method="POST"),
        fields={"to": "send_to", "cc": "send_to_cc", "bcc": "send_to_bcc", "subject": "subject", "body": "body"},
    ),
)

_HORDE: tuple[View, ...] = (
    SourceView(place=Place(path=r"/imp/view\.php$", query={"actionID": "view_source"})),
    PageView(
        place=Place(path=r"/imp/(?:message|dynamic)\.php$"),
        html=("div#messageBody div.htmlMessage", "div.htmlMessage"),
        text=("div#messageBody", "div.messageBody", "div.fixed"),
    ),
    SentView(
        place=Place(path=r"/imp/compose\.php$", method="POST"),
        fields={
            "from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "subject": "subject", "body": "message",
            "html": "rtemode",
        },
    ),
)  # fmt: skip

_RAINLOOP = {
    "from": ("From", "from"), "to": ("To", "to"), "cc": ("Cc", "cc"), "subject": ("Subject", "subject"),
    "date": ("DateTimeStampInUTC", "dateTimestamp"), "html": ("Html", "html"), "text": ("Plain", "plain"),
}  # fmt: skip
_JSON: tuple[View, ...] = (
    SourceView(place=Place(path=r"/SOGo/so/.+/Mail/.+/(?:viewsource|viewRaw)$")),
    JsonView(
        place=Place(path=r"/SOGo/so/.+/Mail/.+/view$"),
        fields={
            "from": ("from",), "to": ("to",), "cc": ("cc",), "subject": ("subject",), "date": ("date",),
            "html": ("parts",), "text": (),
        },
    ),
    SourceView(place=Place(path="", query={"/Raw/": ""})),
    JsonView(place=Place(path="", query={"/Ajax/": ""}), inside=("Result",), fields=_RAINLOOP),
    JsonView(place=Place(path="", query={"/Json/": ""}), inside=("Result",), fields=_RAINLOOP),
)  # fmt: skip

PRODUCTS: tuple[View, ...] = (*_HOTMAIL, *_ROUNDCUBE, *_SQUIRRELMAIL, *_HORDE, *_JSON)
"""In the order in which they are asked; the views of one product from the most that is known to the least."""
