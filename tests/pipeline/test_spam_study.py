"""The example that gives each mail to SpamAssassin: its answers leave, nothing of the mails does."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes import ROOT, bunker, events, rows
from mails import HAM, SPAM, write_mails

pytestmark = pytest.mark.root

EXPERIMENT = ROOT / "examples" / "spam-study" / "experiment.toml"


def test_spam_and_no_spam_are_told_apart(tmp_path: Path) -> None:
    write_mails(tmp_path / "mails.pcap", [SPAM, HAM, HAM])
    done = bunker("run", str(EXPERIMENT), "--read", str(tmp_path / "mails.pcap"), "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    judged = rows(tmp_path / "out", "judged")
    assert sorted(row["spam"] for row in judged) == [False, False, True]
    assert len(rows(tmp_path / "out", "mail")) == 3
    assert not events(tmp_path / "out")
