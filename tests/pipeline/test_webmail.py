"""Mails in web pages go to whoever reads mails; nothing of them comes out but what the policy names."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes import POLICY, balanced, counters, rows, study
from conversations import CLIENT, SERVER, write_conversations
from test_spamassassin import OUT as SPAM_OUT

PAGES = Path(__file__).resolve().parents[1] / "unit" / "analyzers" / "pages"
MAIL_OUT = """
[out.mail]
proto = { do = "keep", because = "a word of ours" }
command = { do = "keep", because = "a word of ours" }
from_addr = "mail_tag"
subject = "present"
size = { do = "bucket", edges = [0, 1, 1000, 100000] }
"""
COUNTING = """
from bunker.api import Count, Emit, Record, analyzer, mail

class Counted(Record):
    depth: Count

@analyzer(emits=Counted, needs={"bodies"})
def counted(message: mail.Message, emit: Emit) -> None:
    if b"boom" in (message.body or b""):
        raise RuntimeError
    emit(Counted(depth=message.trans_depth))
"""
COUNTED_OUT = """
[out.counted]
depth = { do = "keep", because = "a small number" }
[out.flow]
outcome = { do = "keep", because = "a word of ours" }
"""


def page(name: str, uri: str, *, extra: bytes = b"") -> list[tuple[int, bytes]]:
    """A request and the page that answers it."""
    body = (PAGES / name).read_bytes().replace(b"<p>Noon?</p>", b"<p>Noon?</p>" + extra)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return [
        (CLIENT, f"GET {uri} HTTP/1.1\r\nHost: mail.example\r\n\r\n".encode()),
        (SERVER, head.encode() + body),
    ]


ROUNDCUBE = "/?_task=mail&_mbox=INBOX&_uid={}&_action=show"


@pytest.mark.root
def test_mails_in_pages_are_read_like_others_and_scored(tmp_path: Path) -> None:
    talks = [
        page("roundcube.html", ROUNDCUBE.format(1)) + page("roundcube.html", ROUNDCUBE.format(2)),
        page("squirrelmail.html", "/src/read_body.php?passed_id=12&mailbox=INBOX"),
        page("roundcube.html", "/?_task=mail&_mbox=INBOX"),  # the list: shows no mail
    ]
    write_conversations(tmp_path / "web.pcap", talks)
    names = ("webmail", "mail", "spamassassin")
    one = study(tmp_path / "s", analyzers=names, policy=POLICY + MAIL_OUT + SPAM_OUT.replace("RULES", "0"))
    done = one.run(tmp_path / "out", "--read", str(tmp_path / "web.pcap"))
    assert done.returncode == 0, done.stderr
    assert balanced(counters(tmp_path / "out"))
    mails = rows(tmp_path / "out", "mail")
    assert [(row["proto"], row["command"], row["subject"]) for row in mails] == [("webmail", "PAGE", True)] * 3
    assert len({row["from_addr"] for row in mails}) == 1, "the same sender has the same tag"
    spam = rows(tmp_path / "out", "spam")
    assert [row["proto"] for row in spam] == ["webmail"] * 3
    rules = {row["rule"] for row in rows(tmp_path / "out", "spam_rule")}
    assert not rules & {"MISSING_MID", "NO_RELAYS"}, "what a page cannot have is held against no mail"
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (b"sender.example", b"mail.example", b"Noon", b"Lunch"))


@pytest.mark.root
@pytest.mark.parametrize("box", ["process", "none"])
def test_a_fault_of_a_reader_of_mails_costs_the_web_flow_that_the_mail_stood_in(box: str, tmp_path: Path) -> None:
    talks = [
        page("roundcube.html", ROUNDCUBE.format(1)),
        page("roundcube.html", ROUNDCUBE.format(2)) + page("roundcube.html", ROUNDCUBE.format(3), extra=b"boom"),
        page("roundcube.html", ROUNDCUBE.format(4)) + page("roundcube.html", ROUNDCUBE.format(5)),
    ]
    write_conversations(tmp_path / "web.pcap", talks)
    one = study(
        tmp_path / "s",
        analyzers=("webmail", "./mine.py:counted", "flow"),
        policy=POLICY + COUNTED_OUT,
        source=COUNTING,
        lanes=1,
    )
    done = one.run(tmp_path / "out", "--read", str(tmp_path / "web.pcap"), "--closed-box", box)
    assert done.returncode == 0, done.stderr
    assert sorted(row["depth"] for row in rows(tmp_path / "out", "counted")) == [1, 1, 2]
    outcomes = [row["outcome"] for row in rows(tmp_path / "out", "flow")]
    assert len(outcomes) == 3 and outcomes.count("erroneous") == 1


def test_finding_mails_that_nobody_reads_is_a_mistake(tmp_path: Path) -> None:
    one = study(tmp_path / "s", analyzers=("webmail", "flow"), policy=POLICY + COUNTED_OUT.partition("[out.flow]")[2])
    done = one.run(tmp_path / "out", "--read", "/dev/null")
    assert done.returncode == 2 and b"webmail" in done.stderr and b"mail" in done.stderr
