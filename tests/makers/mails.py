"""Captures of mails on their way by SMTP, for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from bunker.open.rehearsal import packets

MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
HAM = (
    b"From: Ann <one@mail.example>\r\nTo: two@mail.example\r\nSubject: Minutes of Tuesday\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@mail.example>\r\n\r\n"
    b"Dear Ben,\r\n\r\nthe minutes are done.\r\n"
)


def write_mails(path: Path, mails: Sequence[bytes]) -> None:
    """One SMTP dialogue for each mail, each from a client of its own."""
    frames: list[bytes] = []
    for number, mail in enumerate(mails):
        hosts = (bytes([192, 0, 2, 1 + number]), bytes([198, 51, 100, 25]))
        talk = packets.Conversation(MACS, hosts, (30_000 + number, 25), timestamp=1, identification=1)
        talk.open()
        for side, line in (
            (1, b"220 mail.example ESMTP"),
            (0, b"EHLO client.example"),
            (1, b"250 mail.example"),
            (0, b"MAIL FROM:<one@mail.example>"),
            (1, b"250 ok"),
            (0, b"RCPT TO:<two@mail.example>"),
            (1, b"250 ok"),
            (0, b"DATA"),
            (1, b"354 go on"),
        ):
            talk.send(side, line + b"\r\n")
        text = mail + b".\r\n"
        talk.send(0, text)
        talk.send(1, b"250 queued\r\n")
        frames += talk.close()
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for number, frame in enumerate(frames):
            at = 1_700_000_000_000 + number
            file.write(struct.pack("<IIII", at // 1000, at % 1000 * 1000, len(frame), len(frame)) + frame)
