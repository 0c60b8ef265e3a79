"""The closed vocabularies of messages are those that the core's source can write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bunker.analyzers
from bunker.model.messages import message_record

_CRATE = Path(__file__).resolve().parents[3] / "crates" / "proto" / "src"

_ANALYZER = Path(bunker.analyzers.__path__[0]) / "webmail"
_WEBMAIL = {word for path in _ANALYZER.glob("*.py") for word in re.findall(r'command="([A-Z]+)"', path.read_text())}


def _words(kind: str, column: str) -> set[str]:
    return set(next(field.words for field in message_record(kind).fields if field.name == column))


def _quoted(file: str, pattern: str) -> set[str]:
    text = (_CRATE / file).read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    return {word for found in re.findall(pattern, text, re.DOTALL) for word in re.findall(r'"([^"]+)"', found)}


@pytest.mark.parametrize(
    ("kind", "column", "sources"),
    [
        ("mail", "auth", [("mail/lines.rs", r"const KNOWN.*?= \[.*?\];"), ("mail/lines.rs", r"unwrap_or\(\S+\)"),
                          ("mail/pop3.rs", r"auth = Some\(\S+\)"), ("mail/imap.rs", r"auth = Some\(\S+\)")]),
        ("mail", "command", [(f"mail/{name}.rs", r"(?:Draft::new\(\S+ |with_letter\(ts_ns, |ts_ns, )\"[A-Z]+\"")
                             for name in ("smtp", "pop3", "imap")]),
        ("dhcp", "msg_type", [("dhcp.rs", r"fn message_word.*?\n\}"), ("dhcp.rs", r"map_or\(\"BOOTP\"")]),
        ("tls", "cert_key_type", [("tls/x509.rs", r"fn key_of.*?\n\}")]),
    ],
)  # fmt: skip
def test_vocabulary_is_what_the_source_says(kind: str, column: str, sources: list[tuple[str, str]]) -> None:
    said = set().union(*(_quoted(file, pattern) for file, pattern in sources))
    assert _words(kind, column) - (_WEBMAIL if (kind, column) == ("mail", "command") else set()) == said


def test_mails_in_web_pages_have_the_words_of_the_analyzer_that_finds_them() -> None:
    assert {"PAGE", "SOURCE", "SEND"} == _WEBMAIL <= _words("mail", "command")
    assert "webmail" in _words("mail", "proto")


def test_policies_of_certificates_are_those_of_the_source() -> None:
    said = _quoted("tls/x509.rs", r"fn policies.*?\n    \}") | {"self-signed", "none"}
    assert _words("tls", "cert_policy") == said
