"""Canaries in POP3, IMAP, SSH, certificates, DTLS, QUIC, DHCP, NTP, HTTP/2, and in what proxies and mail servers write.

The second half of `capture.py`: every protocol that the core reads has a message here or there, full of values of its
own.
"""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.x509.oid import NameOID

from bunker.open.rehearsal import packets
from bunker.open.rehearsal.canaries import Canaries

_QUIC_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
"""RFC 9001, section 5.2."""
Lines = list[tuple[int, bytes]]


def _lines(*lines: tuple[int, str]) -> Lines:
    return [(side, f"{line}\r\n".encode()) for side, line in lines]


def pop3(canaries: Canaries) -> Lines:
    """A mailbox is read (RFC 1939)."""
    text = canaries.text
    message = (
        f"Received: from [{canaries.address('forwarded-address')}] by mx.example\r\nFrom: {text('pop3-from')}@a.example"
        f"\r\nSubject: {text('pop3-subject')}\r\nMessage-ID: <{text('pop3-message-id')}@a.example>\r\n"
        f"Content-Type: application/pdf; name={text('pop3-file-name')}.pdf\r\n\r\n{text('pop3-body')}\r\n."
    )
    return _lines(
        (1, "+OK ready"),
        (0, f"USER {text('pop3-user')}"),
        (1, "+OK"),
        (0, f"PASS {text('pop3-password')}"),
        (1, "+OK"),
        (0, "RETR 1"),
        (1, f"+OK {len(message)} octets\r\n{message}"),
        (0, "QUIT"),
        (1, "+OK"),
    )


def imap(canaries: Canaries) -> Lines:
    """A mailbox is read (RFC 9051)."""
    text = canaries.text
    message = f"From: {text('imap-from')}@b.example\r\nSubject: {text('imap-subject')}\r\n\r\n{text('imap-body')}\r\n"
    return _lines(
        (1, "* OK IMAP4rev1 ready"),
        (0, f"a1 LOGIN {text('imap-user')} {text('imap-password')}"),
        (1, "a1 OK"),
        (0, f'a2 SELECT "{text("imap-mailbox")}"'),
        (1, "* 1 EXISTS\r\na2 OK"),
        (0, "a3 FETCH 1 (RFC822)"),
        (1, f"* 1 FETCH (RFC822 {{{len(message)}}}\r\n{message})\r\na3 OK"),
        (0, "a4 LOGOUT"),
        (1, "* BYE\r\na4 OK"),
    )


def ssh(canaries: Canaries) -> Lines:
    """Two versions and the client's key exchange (RFC 4253)."""

    def names(words: str) -> bytes:
        return struct.pack("!I", len(words)) + words.encode()

    lists = b"".join(names(words) for words in (f"{canaries.text('ssh-algorithm')},curve25519-sha256", *["none"] * 9))
    payload = b"\x14" + canaries.values["ssh-cookie"] + lists + bytes(5)
    padding = 16 - (5 + len(payload)) % 8
    packet = struct.pack("!IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)
    return [
        (0, f"SSH-2.0-{canaries.text('ssh-software')} comment\r\n".encode()),
        (1, b"SSH-2.0-server\r\n"),
        (0, packet),
    ]


def certificate(canaries: Canaries) -> bytes:
    """A ServerHello of TLS 1.2 and a certificate full of names, in one record."""
    key = Ed25519PrivateKey.from_private_bytes((canaries.values["certificate-key"] * 2)[:32])

    def name(common: str, organisation: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, common),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                x509.NameAttribute(NameOID.EMAIL_ADDRESS, f"{canaries.text('certificate-mail')}@c.example"),
            ]
        )

    text = canaries.text
    start = datetime.datetime(2023, 11, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name(f"{text('certificate-subject')}.example", text("certificate-organisation")))
        .issuer_name(name(text("certificate-issuer"), "issuer"))
        .public_key(key.public_key())
        .serial_number(int.from_bytes(b"\x01" + canaries.values["certificate-serial"], "big"))
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=90))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"{text('certificate-alternative')}.example")]), critical=False
        )
        .sign(key, None)
        .public_bytes(serialization.Encoding.DER)
    )
    listed = len(made).to_bytes(3, "big") + made
    body = len(listed).to_bytes(3, "big") + listed
    hello = b"\x03\x03" + bytes(32) + b"\x00\xc0\x2f\x00"
    messages = b"\x02" + len(hello).to_bytes(3, "big") + hello
    messages += b"\x0b" + len(body).to_bytes(3, "big") + body + b"\x0e\x00\x00\x00"
    return b"\x16\x03\x03" + struct.pack("!H", len(messages)) + messages


def _hello(server_name: bytes, version: bytes, more: bytes = b"", cookie: bytes = b"") -> bytes:
    """The body of a ClientHello."""
    named = server_name + b".example"
    extension = struct.pack("!HHHBH", 0, len(named) + 5, len(named) + 3, 0, len(named)) + named + more
    return (
        version
        + bytes(32)
        + b"\x00"
        + cookie
        + b"\x00\x02\x13\x01\x01\x00"
        + struct.pack("!H", len(extension))
        + extension
    )


def dtls(canaries: Canaries) -> bytes:
    """A ClientHello of DTLS 1.2 (RFC 6347)."""
    body = _hello(canaries.values["dtls-server-name"], b"\xfe\xfd", cookie=b"\x00")
    size = len(body).to_bytes(3, "big")
    handshake = b"\x01" + size + bytes(2) + bytes(3) + size + body
    return b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", len(handshake)) + handshake


def quic(canaries: Canaries) -> bytes:
    """A client's Initial packet with a ClientHello (RFC 9001), as everybody on the path can read it."""
    connection = canaries.values["quic-connection-id"]

    def expand(secret: bytes, label: bytes, length: int) -> bytes:
        info = struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
        return HKDFExpand(hashes.SHA256(), length, info).derive(secret)

    initial = HMAC(_QUIC_SALT, hashes.SHA256())
    initial.update(connection)
    secret = expand(initial.finalize(), b"client in", 32)
    key, vector, mask_key = (
        expand(secret, label, n) for label, n in ((b"quic key", 16), (b"quic iv", 12), (b"quic hp", 16))
    )
    versions = b"\x00\x2b\x00\x03\x02\x03\x04" + b"\x00\x10\x00\x05\x00\x03\x02h3"
    body = _hello(canaries.values["quic-server-name"], b"\x03\x03", more=versions)
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    plain = b"\x06\x00" + struct.pack("!H", 0x4000 | len(hello)) + hello
    plain += bytes(1162 - len(plain))
    header = b"\xc3\x00\x00\x00\x01\x0c" + connection + b"\x00\x00" + struct.pack("!H", 0x4000 | (4 + len(plain) + 16))
    packet = header + bytes(4)
    sealed = AESGCM(key).encrypt(vector, plain, packet)
    sample = sealed[:16]
    mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(sample)  # noqa: S305 - as the RFC has it
    first = bytes([packet[0] ^ (mask[0] & 0x0F)])
    number = bytes(byte ^ other for byte, other in zip(packet[-4:], mask[1:5], strict=True))
    return first + packet[1:-4] + number + sealed


def dhcp(canaries: Canaries) -> bytes:
    """A request for an address (RFC 2131)."""
    value = canaries.values
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x1234, 0, 0) + value["dhcp-address"] + bytes(12)
    head += value["mac-orig"] + bytes(10) + bytes(192) + b"\x63\x82\x53\x63"
    name = value["dhcp-host-name"]
    identifier = b"\0" + value["dhcp-client-id"]
    options = b"\x35\x01\x03" + bytes([12, len(name)]) + name + bytes([61, len(identifier)]) + identifier
    return head + options + b"\x32\x04" + value["dhcp-address"] + b"\xff"


def ntp(canaries: Canaries) -> bytes:
    """An answer of a server whose reference is an address (RFC 5905)."""
    return struct.pack("!BBbbII", 0x24, 2, 6, -20, 1, 1) + canaries.values["ntp-reference"] + bytes(32)


def http2(canaries: Canaries) -> bytes:
    """A preface and a request, its headers as literals (RFC 9113, RFC 7541)."""
    fields = (
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", f"h2.{canaries.text('h2-host')}.example"),
        (":path", f"/{canaries.text('h2-path')}"),
        ("cookie", canaries.text("h2-cookie")),
    )
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(text)]) + text.encode() for name, text in fields
    )
    frame = len(block).to_bytes(3, "big") + b"\x01\x05" + struct.pack("!I", 1) + block
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4) + frame


def proxied(canaries: Canaries) -> bytes:
    """A request with the addresses that proxies add, to a host that is an address."""
    address = canaries.address("forwarded-address")
    login = base64.b64encode(f"{canaries.text('basic-user')}:x".encode()).decode()
    return (
        f"GET /?u={canaries.text('basic-user')} HTTP/1.1\r\nHost: {address}:8080\r\n"
        f"X-Forwarded-For: {address}, {address}:99\r\nForwarded: for={address}\r\nVia: 1.1 {address} (squid)\r\n"
        f"Authorization: Basic {login}\r\nOrigin: http://{canaries.text('origin')}.example\r\n\r\n"
    ).encode()


def arpa_query(canaries: Canaries) -> bytes:
    """A question for the name of an address, with the network of who asks (RFC 7871)."""
    labels = [*canaries.address("forwarded-address").split(".")[::-1], "in-addr", "arpa"]
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    subnet = struct.pack("!HHHBB", 8, 8, 1, 32, 0) + canaries.values["forwarded-address"]
    option = struct.pack("!BHHIH", 0, 41, 1232, 0, len(subnet)) + subnet
    return struct.pack("!HHHHHH", 77, 0x0100, 1, 0, 0, 1) + name + struct.pack("!HH", 12, 1) + option


def streams(canaries: Canaries) -> Iterator[tuple[int, Lines]]:
    """(port of the server, what both sides send) of each connection."""
    yield 110, pop3(canaries)
    yield 143, imap(canaries)
    yield 22, ssh(canaries)
    yield 80, [(0, http2(canaries))]
    yield 8080, [(0, proxied(canaries)), (1, b"HTTP/1.1 204 No Content\r\n\r\n")]


def datagrams(canaries: Canaries) -> Iterator[tuple[int, int, bytes]]:
    """(port of the sender or 0 for any, port of the receiver, payload) of each datagram."""
    yield 0, 4433, dtls(canaries)
    yield 0, 443, quic(canaries)
    yield 68, 67, dhcp(canaries)
    yield 123, 0, ntp(canaries)
    yield 0, 53, arpa_query(canaries)
    # What is enciphered on the wire, also in clear, for the search's own control: it must find each canary somewhere.
    yield 0, 9997, canaries.values["quic-server-name"] + canaries.values["certificate-key"]


def protocol_packets(
    canaries: Canaries, ends: tuple[tuple[bytes, bytes], tuple[bytes, bytes]], port: int
) -> list[bytes]:
    """All of them as packets between `ends` (link-layer addresses, addresses), from ports beginning with `port`."""
    macs, hosts = ends
    out: list[bytes] = []
    stamp, identification = (int.from_bytes(canaries.values[name], "big") for name in ("tcp-timestamp", "ip-id"))
    for number, (server, lines) in enumerate(streams(canaries)):
        flow = packets.Conversation(
            macs, hosts, (port + number, server), timestamp=stamp, identification=identification
        )
        flow.open()
        for side, line in lines:
            flow.send(side, line)
        out += flow.close()
    for number, (source, target, payload) in enumerate(datagrams(canaries)):
        ports = (source or port + number, target or port + number)
        out.append(packets.ethernet(*macs, packets.ip(*hosts, 17, packets.udp(*hosts, ports, payload))))
    return out
