"""A capture in which each canary of `canaries.py` stands, in valid packets of some ten flows."""

from __future__ import annotations

import base64
import gzip
import struct
from pathlib import Path

from bunker.open.rehearsal import packets
from bunker.open.rehearsal.canaries import Canaries
from bunker.open.rehearsal.links import link_packets
from bunker.open.rehearsal.protocols import certificate, protocol_packets


def _dns(canaries: Canaries, identifier: int, kind: int, answer: bytes | None) -> bytes:
    labels = (canaries.values["dns-query"], b"example")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", kind, 1)
    head = struct.pack("!HHHHHH", identifier, 0x8180 if answer else 0x0100, 1, 1 if answer else 0, 0, 0)
    record = b"" if answer is None else b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 300, len(answer)) + answer
    return head + question + record


def _client_hello(canaries: Canaries) -> bytes:
    name = canaries.values["tls-server-name"] + b".example"
    server_name = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
    alpn = b"\x00\x10\x00\x0b\x00\x09\x08http/1.1"
    versions = b"\x00\x2b\x00\x03\x02\x03\x04"
    extensions = server_name + alpn + versions
    session = canaries.values["tls-session-id"]
    body = (
        b"\x03\x03"
        + canaries.values["tls-random"]
        + bytes([len(session)])
        + session
        + b"\x00\x04\x13\x01\xc0\x2f\x01\x00"
    )
    body += struct.pack("!H", len(extensions)) + extensions
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack("!H", len(handshake)) + handshake


def _http(canaries: Canaries) -> tuple[bytes, bytes]:
    text = canaries.text
    credentials = base64.b64encode(f"user:{text('authorization')}".encode()).decode()
    request = (
        f"GET /a/{text('url-path')}?q={text('url-parameter')} HTTP/1.1\r\nHost: {text('host')}.example\r\n"
        f"User-Agent: Agent/{text('user-agent')}\r\nReferer: http://ref.example/{text('referrer')}\r\n"
        f"Cookie: id={text('cookie')}\r\nAuthorization: Basic {credentials}\r\nX-Odd: {text('unknown-header')}\r\n\r\n"
    )
    body = gzip.compress(f"<p>{text('response-body-gzip')}</p>".encode() * 5, mtime=0)
    response = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n"
        f"Set-Cookie: s={text('set-cookie')}\r\nLocation: http://other.example/{text('location')}\r\n\r\n"
    )
    return request.encode(), response.encode() + body


def _form(canaries: Canaries) -> tuple[bytes, bytes]:
    form = f"field={canaries.text('request-body')}&other=1"
    request = f"POST /login HTTP/1.1\r\nHost: form.example\r\nContent-Length: {len(form)}\r\n\r\n{form}"
    piece = canaries.text("response-body-chunked")
    response = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(piece):x}\r\n{piece}\r\n0\r\n\r\n"
    return request.encode(), response.encode()


def _mail(canaries: Canaries) -> list[tuple[int, bytes]]:
    text = canaries.text
    login = base64.b64encode(f"\0{text('mail-user')}\0{text('mail-password')}".encode()).decode()
    message = (
        f"From: {text('mail-from')}@mail.example\r\nTo: {text('mail-to')}@mail.example\r\n"
        f"Subject: {text('mail-subject')}\r\n\r\n{text('mail-body')}\r\n.\r\n"
    )
    lines = (
        (1, "220 mail.example ESMTP"),
        (0, "EHLO client.example"),
        (1, "250-mail.example\r\n250 AUTH PLAIN LOGIN"),
        (0, f"AUTH PLAIN {login}"),
        (1, "235 ok"),
        (0, f"MAIL FROM:<{text('mail-from')}@mail.example>"),
        (1, "250 ok"),
        (0, f"RCPT TO:<{text('mail-to')}@mail.example>"),
        (1, "250 ok"),
        (0, "DATA"),
        (1, "354 go on"),
        (0, message.removesuffix("\r\n")),
        (1, "250 queued"),
        (0, f"VRFY {text('mail-user')} {text('mail-password')}"),
    )
    return [(side, f"{line}\r\n".encode()) for side, line in lines]


def canary_packets(canaries: Canaries, *, copies: int = 1) -> list[bytes]:
    """Ethernet packets of some ten flows in which each canary stands at least once.

    Args:
        copies: How often all flows are repeated, from other ports, to fill a spool.
    """
    value = canaries.values
    macs = (value["mac-orig"], value["mac-resp"])
    v4, v6 = (value["ipv4-orig"], value["ipv4-resp"]), (value["ipv6-orig"], value["ipv6-resp"])
    stamp, identification = (int.from_bytes(value[name], "big") for name in ("tcp-timestamp", "ip-id"))
    served = certificate(canaries)
    marked, out = int.from_bytes(value["port"], "big"), []
    for copy in range(copies):
        port = 20_000 + copy * 16 % 20_000
        tcp_flows = (
            (v4, (marked if copy == 0 else port, 80), _http(canaries)),
            (v6, (port + 1, 80), _form(canaries)),
            (v4, (port + 2, 443), (_client_hello(canaries), served)),
            (v4, (port + 3, 9000), (value["tcp-payload"], b"")),
        )
        for hosts, ports, (request, response) in tcp_flows:
            flow = packets.Conversation(
                macs, hosts, ports, timestamp=stamp, identification=identification, padding=value["padding"]
            )
            flow.open()
            flow.send(0, request)
            if response:
                flow.send(1, response)
            out += flow.close()
        mail = packets.Conversation(macs, v4, (port + 8, 25), timestamp=stamp, identification=identification)
        mail.open()
        for side, line in _mail(canaries):
            mail.send(side, line)
        out += mail.close()
        out += link_packets(canaries)
        out += protocol_packets(canaries, (macs, v4), port + 9)
        answer_text = bytes([len(value["dns-text-answer"])]) + value["dns-text-answer"]
        for number, (kind, answer) in enumerate(((1, value["dns-answer-address"]), (16, answer_text))):
            ports = (port + 4 + number, 53)
            query, reply = _dns(canaries, number + 1, kind, None), _dns(canaries, number + 1, kind, answer)
            out.append(packets.ethernet(*macs, packets.ip(*v4, 17, packets.udp(*v4, ports, query))))
            out.append(
                packets.ethernet(*macs[::-1], packets.ip(*v4[::-1], 17, packets.udp(*v4[::-1], ports[::-1], reply)))
            )
        out.append(
            packets.ethernet(*macs, packets.ip(*v6, 17, packets.udp(*v6, (port + 6, 9999), value["udp-payload"])))
        )
        for hosts, protocol in ((v4, 1), (v6, 58)):
            for back in (False, True):
                ends, sides = (hosts[::-1], macs[::-1]) if back else (hosts, macs)
                echo = packets.echo(*ends, value["icmp-payload"], reply=back)
                out.append(packets.ethernet(*sides, packets.ip(*ends, protocol, echo)))
        datagram = packets.udp(*v4, (port + 7, 9998), bytes(24) + value["fragment-payload"])
        for fragment, piece in (((0, True), datagram[:24]), ((24, False), datagram[24:])):
            packet = packets.ip(*v4, 17, piece, identification=copy + 1, fragment=fragment)
            out.append(packets.ethernet(*macs, packet))
    return out


def write_canary_capture(path: Path, canaries: Canaries, *, copies: int = 1) -> int:
    """Write the packets of `canary_packets` as a pcap, 1 ms apart; returns their number."""
    start = 1_700_000_000_000_000_000
    made = canary_packets(canaries, copies=copies)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
        for number, packet in enumerate(made):
            at = start + number * 10**6
            file.write(struct.pack("<IIII", at // 10**9, at % 10**9, len(packet), len(packet)) + packet)
    return len(made)
