"""Canaries where addresses stand besides the IP header: ARP, NDP, quoted headers, tunnels, options, tags."""

from __future__ import annotations

import struct

from bunker.open.rehearsal import packets
from bunker.open.rehearsal.canaries import Canaries


def _icmp(kind: int, code: int, body: bytes, ends: tuple[bytes, bytes]) -> bytes:
    message = struct.pack("!BBH", kind, code, 0) + body
    pseudo = b"" if len(ends[0]) == 4 else b"".join(ends) + struct.pack("!IHBB", len(message), 0, 0, 58)
    return message[:2] + struct.pack("!H", packets.checksum(pseudo + message)) + message[4:]


def link_packets(canaries: Canaries) -> list[bytes]:
    """Ethernet frames, each well formed."""
    value = canaries.values
    one, other = value["mac-orig"], value["mac-resp"]
    v4, v6 = (value["ipv4-orig"], value["ipv4-resp"]), (value["ipv6-orig"], value["ipv6-resp"])
    secret = value["udp-payload"]
    out: list[bytes] = []

    def send(kind: int, packet: bytes, *, to: bytes = other) -> None:
        out.append(to + one + struct.pack("!H", kind) + packet)

    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + one + v4[0] + bytes(6) + v4[1]
    send(0x0806, arp + value["padding"], to=b"\xff" * 6)
    send(0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + other + v4[1] + one + v4[0] + value["padding"])
    # A host whose interface identifier is made of its MAC address (RFC 4291, appendix A) is asked for, and answers.
    eui64 = bytes([other[0] ^ 2, *other[1:3], 0xFF, 0xFE, *other[3:]])
    target = v6[0][:8] + eui64
    group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
    asked = bytes(4) + target + b"\x01\x01" + one
    send(
        0x86DD,
        packets.ip(v6[0], group, 58, _icmp(135, 0, asked, (v6[0], group))),
        to=b"\x33\x33\xff" + target[13:],
    )
    told = b"\x60\0\0\0" + target + b"\x02\x01" + other
    send(0x86DD, packets.ip(target, v6[0], 58, _icmp(136, 0, told, (target, v6[0]))))
    # Errors quote what they are about; a redirect names a gateway.
    quoted = packets.ip(*v4, 17, packets.udp(*v4, (40_001, 9999), secret), identification=7)
    for kind, code, rest in ((3, 3, bytes(4)), (11, 0, bytes(4)), (5, 1, v4[0])):
        send(0x0800, packets.ip(*v4[::-1], 1, _icmp(kind, code, rest + quoted, v4)))
    quoted = packets.ip(*v6, 17, packets.udp(*v6, (40_001, 9999), secret))
    send(0x86DD, packets.ip(*v6[::-1], 58, _icmp(1, 4, bytes(4) + quoted, v6[::-1])))
    # Tunnels.
    inner4 = packets.ip(*v4, 17, packets.udp(*v4, (40_002, 9999), secret))
    inner6 = packets.ip(*v6, 17, packets.udp(*v6, (40_002, 9999), secret))
    frame = packets.ethernet(one, other, inner4)
    send(0x0800, packets.ip(*v4, 41, inner6))
    send(0x0800, packets.ip(*v4, 4, inner4))
    send(0x0800, packets.ip(*v4, 47, struct.pack("!HH", 0x2000, 0x0800) + v4[0] + inner4))
    send(0x0800, packets.ip(*v4, 17, packets.udp(*v4, (40_003, 4789), b"\x08\0\0\0" + v4[1] + frame)))
    # A tag, options that record the route, a TCP option of an address's size, and bytes behind the packet.
    send(0x8100, struct.pack("!HH", 0x0ABC, 0x0800) + inner4)
    head = struct.pack("!BBHHHBBH", 0x48, 0, 32 + 8, 1, 0x4000, 64, 17, 0) + v4[0] + v4[1]
    head += b"\x07\x0b\x0c" + v4[0] + v4[1] + b"\0"
    head = head[:10] + struct.pack("!H", packets.checksum(head)) + head[12:]
    send(0x0800, head + packets.udp(*v4, (40_004, 9999), b""))
    options = b"\x1c\x0a" + v4[0] + v4[1] + b"\x01\x01"
    segment = packets.tcp(*v4, (40_005, 80), (1, 0), packets.SYN, options, b"")
    out.append(packets.ethernet(one, other, packets.ip(*v4, 6, segment), padding=value["padding"]))
    return out
