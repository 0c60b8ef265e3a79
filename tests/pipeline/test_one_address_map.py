"""One address map for every place where an address stands: headers, what proxies and mail servers write, names."""

from __future__ import annotations

from pathlib import Path

from boxes import POLICY, rows, study
from conversations import write_conversations

CLIENT, PROXY = "192.0.2.1", "203.0.113.77"
"""The client of every conversation of the maker; an address that stands in texts alone."""
RULES = """
[out.http]
orig = { do = "pfx", from = "orig_h" }
forwarded = "pfx"
host = "pfx"
[out.flow]
orig = { do = "pfx", from = "orig_h" }
[out.mail]
orig = { do = "pfx", from = "orig_h" }
path = "pfx"
first_received = "pfx"
"""
REQUEST = (
    f"GET / HTTP/1.1\r\nHost: {PROXY}:8080\r\nX-Forwarded-For: {CLIENT}, {PROXY}:99\r\n"
    f"Forwarded: for={PROXY}\r\nVia: 1.1 {CLIENT} (squid)\r\n\r\n"
)
MAIL = (
    (1, b"220 x ESMTP\r\n"),
    (0, b"HELO x\r\n"),
    (1, b"250 x\r\n"),
    (0, b"MAIL FROM:<a@b.example>\r\n"),
    (1, b"250 ok\r\n"),
    (0, b"RCPT TO:<c@d.example>\r\n"),
    (1, b"250 ok\r\n"),
    (0, b"DATA\r\n"),
    (1, b"354 go\r\n"),
    (0, f"Received: from [{PROXY}] by mx.example\r\nSubject: x\r\n\r\nx\r\n.\r\n".encode()),
    (1, b"250 ok\r\n"),
)


def test_an_address_is_the_same_wherever_it_stands(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    capture = write_conversations(tmp_path / "c.pcap", [[(0, REQUEST.encode()), (1, answer)]])
    mail = write_conversations(tmp_path / "m.pcap", [MAIL], port=25)
    one = study(tmp_path / "s", policy=POLICY + RULES, analyzers=("flow", "http", "mail"), lanes=2)
    out = tmp_path / "out"
    done = one.run(out, "--read", str(capture), "--read", str(mail))
    assert done.returncode == 0, done.stderr
    (http,), (message,) = rows(out, "http"), rows(out, "mail")
    client, proxy = http["orig"], http["host"]
    assert {CLIENT, PROXY}.isdisjoint({client, proxy}) and client != proxy
    assert http["forwarded"] == [client, proxy, proxy, client]
    assert {row["orig"] for row in rows(out, "flow")} == {client} == {message["orig"]}
    assert message["first_received"] == [proxy] and message["path"][-1] == proxy
