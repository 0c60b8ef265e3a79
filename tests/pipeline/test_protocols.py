"""The built-in analyzers of mail, SSH, NTP and DHCP in a whole run: out comes what the policy names, no secret does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pcapfile
from boxes import POLICY, balanced, counters, rows, study
from packets import Conversation, ethernet, ip, udp

_MACS = (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")
_HOSTS = (bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2]))
_SECRET = "b3BlbnNlc2FtZS1jYW5hcnk="
_LETTER = "From: Alice <alice@sender.example>\r\nTo: bob@other.example\r\nSubject: canary-subject\r\n\r\nhello\r\n"
_SMTP = [
    (1, "220 mx.example ESMTP\r\n"),
    (0, "EHLO client.example\r\n"),
    (1, "250 AUTH PLAIN\r\n"),
    (0, f"AUTH PLAIN {_SECRET}\r\n"),
    (1, "235 ok\r\n"),
    (0, "MAIL FROM:<alice@sender.example>\r\nRCPT TO:<bob@other.example>\r\nDATA\r\n"),
    (1, "250 ok\r\n250 ok\r\n354 go\r\n"),
    (0, f"{_LETTER}.\r\nQUIT\r\n"),
    (1, "250 queued\r\n221 bye\r\n"),
]
_POP3 = [
    (1, "+OK ready\r\n"),
    (0, "USER alice\r\n"),
    (1, "+OK\r\n"),
    (0, f"PASS {_SECRET}\r\n"),
    (1, "+OK\r\n"),
    (0, "RETR 1\r\n"),
    (1, f"+OK\r\n{_LETTER}.\r\n"),
]
_IMAP = [
    (1, "* OK ready\r\n"),
    (0, f'a LOGIN alice "{_SECRET}"\r\n'),
    (1, "a OK\r\n"),
    (0, "b FETCH 1 BODY[]\r\n"),
    (1, f"* 1 FETCH (BODY[] {{{len(_LETTER)}}}\r\n{_LETTER})\r\nb OK\r\n"),
]
_SSH = [(1, "SSH-2.0-server_9\r\n"), (0, "SSH-2.0-client_9\r\n")]
_OUT = """
[out.mail]
proto = { do = "keep", because = "a word of ours" }
command = { do = "keep", because = "a word of ours" }
auth = { do = "keep", because = "a word of ours" }
from_addr = "tag"
size = { do = "keep", because = "needed here" }
[out.ssh]
version = { do = "keep", because = "a number" }
[out.ntp]
mode = { do = "keep", because = "a number" }
[out.dhcp]
msg_type = { do = "keep", because = "a word of ours" }
"""


def _talk(port: int, turns: Sequence[tuple[int, str]]) -> list[bytes]:
    conversation = Conversation(macs=_MACS, hosts=_HOSTS, ports=(40_000 + port % 1000, port))
    conversation.open()
    for side, text in turns:
        conversation.send(side, text.encode())
    return conversation.close()


def _datagram(ports: tuple[int, int], payload: bytes) -> bytes:
    return ethernet(*_MACS, ip(*_HOSTS, 17, udp(*_HOSTS, ports, payload)))


def _capture(path: Path) -> None:
    packets: list[bytes] = []
    # Not one of them on the port where it belongs.
    for port, turns in ((4025, _SMTP), (4110, _POP3), (4143, _IMAP), (4022, _SSH)):
        packets += _talk(port, turns)
    ntp = struct.pack("!BBBb", 0x23, 0, 6, -20) + bytes(36) + struct.pack("!II", 0xE0000001, 1)
    packets.append(_datagram((123, 123), ntp))
    dhcp = b"\x01\x01\x06\x00" + bytes(232) + b"\x63\x82\x53\x63\x35\x01\x01\xff"
    packets.append(_datagram((68, 67), dhcp))
    start = 1_700_000_000_000_000_000
    pcapfile.write_pcap(path, [(start + number * 10**6, one, len(one)) for number, one in enumerate(packets)])


def test_built_in_analyzers_emit_what_the_policy_names_and_no_secret(tmp_path: Path) -> None:
    _capture(tmp_path / "lab.pcap")
    names = ("mail", "ssh", "ntp", "dhcp")
    one = study(tmp_path / "s", analyzers=names, policy=POLICY + _OUT)
    done = one.run(tmp_path / "out", "--read", str(tmp_path / "lab.pcap"))
    assert done.returncode == 0, done.stderr
    assert balanced(counters(tmp_path / "out"))
    mails = rows(tmp_path / "out", "mail")
    found = sorted((row["proto"], row["command"], row["auth"], row["size"]) for row in mails)
    assert found == [
        ("imap", "FETCH", "LOGIN", len(_LETTER)),
        ("pop3", "RETR", "USER", len(_LETTER)),
        ("smtp", "DATA", "PLAIN", len(_LETTER)),
    ]
    assert len({row["from_addr"] for row in mails}) == 1, "the same sender has the same tag"
    assert [row["version"] for row in rows(tmp_path / "out", "ssh")] == [2]
    assert [row["mode"] for row in rows(tmp_path / "out", "ntp")] == [3]
    assert [row["msg_type"] for row in rows(tmp_path / "out", "dhcp")] == ["DISCOVER"]
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (_SECRET.encode(), b"canary-subject", b"sender.example"))
