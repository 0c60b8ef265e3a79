"""The message classes of `bunker.api` are the core's tables: a column that an analyzer's author cannot see is none."""

from __future__ import annotations

import typing

import pytest

from bunker.api import Address, dhcp, dns, flow, http, mail, ntp, packet, ssh, stream, tls, udp
from bunker.model.fields import FieldType
from bunker.native.wire import message_schema

CLASSES = (
    http.Transaction, dns.Exchange, tls.Handshake, mail.Message, ssh.Greeting, ntp.Message, dhcp.Message, flow.Flow,
    stream.Chunk, udp.Datagram, packet.Packet,
)  # fmt: skip
_TEXTS = (
    FieldType.HOST, FieldType.URL, FieldType.MAIL_ADDRESS, FieldType.USER_AGENT, FieldType.ENUM, FieldType.MIME,
    FieldType.FINGERPRINT, FieldType.DIGEST, FieldType.TEXT,
)  # fmt: skip
_PYTHON: dict[FieldType, object] = {
    **dict.fromkeys(_TEXTS, str),
    FieldType.ADDRESS: Address,
    FieldType.ADDRESS_LIST: list[Address],  # type: ignore[valid-type]
    FieldType.TEXT_LIST: list[str],
    FieldType.MAC: bytes,
    FieldType.CONTENT: bytes,
    FieldType.SCORE: float,
    FieldType.FLAG: bool,
}


@pytest.mark.parametrize("message", CLASSES, ids=lambda cls: cls.MESSAGE_KIND)
def test_a_class_has_every_column_with_its_type(message: type) -> None:
    declared = typing.get_type_hints(message, include_extras=True)
    for name, word, nullable in message_schema(message.MESSAGE_KIND):  # type: ignore[attr-defined]
        expected = _PYTHON.get(FieldType(word), int)
        assert declared.pop(name) == (expected | None if nullable else expected), name  # type: ignore[operator]
    assert declared.keys() <= {"MESSAGE_KIND", "client", "server"}
