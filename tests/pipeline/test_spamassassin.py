"""The analyzer `spamassassin` in a whole run: the scores are the engine's own, and nothing of a mail comes out."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from boxes import POLICY, balanced, counters, rows, study
from conversations import CLIENT, SERVER, write_conversations

import bunker.analyzers

# The engine's test string (Apache SpamAssassin documents it); the rest is invented here.
_GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
_MAILS = [
    "From: Ann <ann@sender.example>\r\nTo: bob@other.example\r\nSubject: Lunch\r\n"
    "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\nNoon, at the usual place?\r\n",
    f"From: ann@sender.example\r\nTo: bob@other.example\r\nSubject: Test\r\n\r\n{_GTUBE}\r\n",
    'From: "Account Team" <team@bank.example>\r\nTo: bob@other.example\r\n'
    "Subject: URGENT!!! Verify your account NOW\r\nContent-Type: text/html\r\n\r\n"
    '<html><body>Dear customer, click <a href="http://192.0.2.7/login">https://bank.example</a>'
    " and confirm your credit card number and password. You won $1,000,000.00</body></html>\r\n",
]
OUT = """
[out.spam]
proto = { do = "keep", because = "a word of ours" }
score = { do = "bucket", edges = [-5, 0, 2, 5, 10, 20] }
spam = { do = "keep", because = "one bit" }
hits = { do = "keep", because = "needed here" }
size = { do = "keep", because = "needed here" }
sender = "mail_tag"
[out.spam_rule]
rule = { do = "allow", values = ["GTUBE", "MISSING_MID", "NO_RELAYS"], other = "other" }
[out.spam_engine]
version = { do = "allow", values = ["SpamAssassin 4.0.1", "SpamAssassin 4.0.2"], other = "other" }
rules = { do = "allow", values = ["RULES"], other = "other" }
mails = { do = "keep", because = "needed here" }
"""
SAMPLES = Path(os.environ.get("BUNKER_MAILS", Path(__file__).resolve().parents[3] / "shared" / "mail-samples"))


def by_smtp(path: Path, mails: list[bytes]) -> Path:
    """A capture in which each mail goes its way over a connection of its own."""
    talks = []
    for mail in mails:
        stuffed = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in mail.split(b"\r\n"))
        talks.append(
            [
                (SERVER, b"220 mx.example ESMTP\r\n"),
                (CLIENT, b"HELO client.example\r\n"),
                (SERVER, b"250 ok\r\n"),
                (CLIENT, b"MAIL FROM:<envelope@sender.example>\r\nRCPT TO:<bob@other.example>\r\nDATA\r\n"),
                (SERVER, b"250 ok\r\n250 ok\r\n354 go\r\n"),
                (CLIENT, stuffed + b".\r\nQUIT\r\n"),
                (SERVER, b"250 queued\r\n221 bye\r\n"),
            ]
        )
    return write_conversations(path, talks, port=25)


def rules_here() -> str:
    """What the program calls the rules of this machine when it has nothing to score."""
    program = Path(bunker.analyzers.__path__[0]) / "programs" / "spamassassin.pl"
    done = subprocess.run(["perl", program], input=b"", capture_output=True, check=True, timeout=120)
    return str(json.loads(done.stdout)["rules"])


def score_of(mail: bytes, folder: Path) -> tuple[float, set[str]]:
    """What the engine's own command says: score and rules."""
    (folder / "none.cf").write_text("use_bayes 0\nreport_safe 0\ndns_available no\n")
    done = subprocess.run(
        ["spamassassin", "-x", "-L", "-t", "--prefspath", str(folder / "none.cf")],
        input=mail,
        capture_output=True,
        check=True,
        timeout=120,
    )
    text = done.stdout.replace(b"\r\n", b"\n")
    head = text.partition(b"\n\n")[0].replace(b"\n\t", b"").decode(errors="replace")
    line = next(line for line in head.splitlines() if line.startswith("X-Spam-Status:"))
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    tests = set(words["tests"].split(",")) - {"none"}
    return float(words["score"]), tests


@pytest.mark.root
def test_mails_are_scored_and_only_what_the_policy_names_comes_out(tmp_path: Path) -> None:
    mails = [mail.encode() for mail in _MAILS]
    by_smtp(tmp_path / "mail.pcap", mails)
    policy = POLICY + OUT.replace("RULES", rules_here())
    one = study(tmp_path / "s", analyzers=("spamassassin",), policy=policy, lanes=1)
    done = one.run(tmp_path / "out", "--read", str(tmp_path / "mail.pcap"))
    assert done.returncode == 0, done.stderr
    assert balanced(counters(tmp_path / "out"))
    found = {row["size"]: row for row in rows(tmp_path / "out", "spam")}
    assert sorted(found) == sorted(len(mail) for mail in mails)
    for mail in mails:
        score, tests = score_of(mail, tmp_path)
        row = found[len(mail)]
        assert (row["spam"], row["hits"]) == (score >= 5, len(tests)), sorted(tests)
    assert found[len(mails[1])]["spam"] and not found[len(mails[0])]["spam"]
    assert "GTUBE" in {row["rule"] for row in rows(tmp_path / "out", "spam_rule")}
    (engine,) = rows(tmp_path / "out", "spam_engine")
    assert (
        engine["mails"] == len(mails)
        and engine["rules"] == rules_here()
        and engine["version"].startswith("SpamAssassin 4")
    )
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (b"sender.example", b"GTUBE-STANDARD", b"Lunch", b"credit card"))


@pytest.mark.root
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="labelled mails are not here (BUNKER_MAILS)")
def test_scores_of_labelled_mails_are_those_of_the_engines_own_command(tmp_path: Path) -> None:
    paths = sorted(path for path in SAMPLES.rglob("*") if path.is_file() and path.parent.name in ("spam", "nice"))[::8]
    assert len(paths) >= 4
    mails = {}
    for path in paths:
        mail = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        mails.setdefault(len(mail), mail if mail.endswith(b"\r\n") else mail + b"\r\n")
    by_smtp(tmp_path / "mail.pcap", list(mails.values()))
    one = study(tmp_path / "s", analyzers=("spamassassin",), policy=POLICY + OUT, lanes=1)
    done = one.run(tmp_path / "out", "--read", str(tmp_path / "mail.pcap"))
    assert done.returncode == 0, done.stderr
    found = {row["size"]: row for row in rows(tmp_path / "out", "spam")}
    for mail in mails.values():
        score, tests = score_of(mail, tmp_path)
        assert (found[len(mail)]["spam"], found[len(mail)]["hits"]) == (score >= 5, len(tests)), sorted(tests)
