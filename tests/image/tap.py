"""A cable to a machine, with the host's end in our hands, and a scan over it."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Tap:
    """A tap device with an address; or, as a control, a veth pair whose peer is an ordinary machine's (a namespace)."""

    def __init__(self, name: str, address: str, *, peer: str | None = None) -> None:
        self.name, self._address, self._peer = name, address, peer
        self.peer_mac = ""

    def __enter__(self) -> Tap:
        if self._peer is None:
            _ip("tuntap", "add", "dev", self.name, "mode", "tap")
        else:
            _ip("netns", "add", self.name)
            _ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("-n", self.name, "addr", "add", self._peer, "dev", "eth0")
            _ip("-n", self.name, "link", "set", "eth0", "up")
            shown = subprocess.run(
                ["ip", "-n", self.name, "-br", "link", "show", "eth0"], check=True, capture_output=True, text=True
            )
            self.peer_mac = shown.stdout.split()[2]
        _ip("addr", "add", self._address, "dev", self.name)
        _ip("link", "set", self.name, "up")
        if self._peer is not None:
            self._wait_for_ipv6()
        return self

    def _wait_for_ipv6(self) -> None:
        """Until the peer's own IPv6 address is one that it answers for."""
        until = time.monotonic() + 10
        shown = ["ip", "-n", self.name, "-6", "-o", "addr", "show", "dev", "eth0"]
        while time.monotonic() < until:
            lines = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
            if "fe80" in lines and "tentative" not in lines:
                return
            time.sleep(0.1)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        subprocess.run(["ip", "link", "del", self.name], check=False, capture_output=True)
        if self._peer is not None:
            subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    @property
    def mac(self) -> bytes:
        return bytes.fromhex(Path("/sys/class/net", self.name, "address").read_text().strip().replace(":", ""))


class Macvtap:
    """A cable (veth) whose far end is the card, and a macvtap in mode passthru over it."""

    def __init__(self, near: str, far: str) -> None:
        self._near, self._far = near, far
        self.over = f"{far}m"

    def __enter__(self) -> Macvtap:
        _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far)
        for name in (self._near, self._far):
            # No IPv6: this host would greet on the cable by itself.
            Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6").write_text("1")
        _ip("link", "add", "link", self._far, "name", self.over, "type", "macvtap", "mode", "passthru")
        Path("/proc/sys/net/ipv6/conf", self.over, "disable_ipv6").write_text("1")
        for name in (self._near, self._far, self.over):
            _ip("link", "set", name, "up")
        _ip("link", "set", self.over, "allmulticast", "on")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        subprocess.run(["ip", "link", "del", self._near], check=False, capture_output=True)

    def send(self, frames: list[bytes]) -> None:
        """Onto the cable, towards the card; slowly, because a macvtap's queue is short and makes nobody wait."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((self._near, 0))
            for at in range(0, len(frames), 40):
                for frame in frames[at : at + 40]:
                    _send(wire, frame)
                time.sleep(0.1)

    def heard(self) -> int:
        """Packets that came from the card's side so far."""
        return int(Path("/sys/class/net", self._near, "statistics/rx_packets").read_text())


def scan(tap: Tap, *, target: str, mac: str, ports: Iterable[int] = range(1, 65536)) -> list[str]:
    """Send a SYN and a datagram to each port over IPv4, a SYN over IPv6, and echo requests.

    Returns:
        What came back: kinds of frames, without ARP and without what the target says to port 9000 by itself.
    """
    there = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.bind((tap.name, 0))
        v4, v6 = there + tap.mac + b"\x08\x00", there + tap.mac + b"\x86\xdd"
        ours = socket.inet_aton(tap._address.split("/")[0])
        ours6, theirs6 = link_local(tap.mac), link_local(there)
        found: set[str] = set()
        for number, port in enumerate(ports):
            for protocol, payload in ((6, syn(ours, target, port)), (17, struct.pack("!HHHH", 40001, port, 8, 0))):
                _send(wire, v4 + ipv4(protocol, ours, target, payload))
            _send(wire, v6 + ipv6(6, ours6, theirs6, syn6(ours6, theirs6, port)))
            if number % 64 == 0:
                found |= _answers(wire, there, 0)
        _send(wire, v4 + ipv4(1, ours, target, b"\x08\0\xf7\xfe\0\x01\0\0"))
        # An echo request, and the question who has the address that belongs to the hardware address.
        asked = b"\x87\0\0\0" + bytes(4) + theirs6 + b"\x01\x01" + tap.mac
        for destination in (socket.inet_pton(socket.AF_INET6, "ff02::1"), theirs6):
            for message in (b"\x80\0\0\0\0\x01\0\0", asked):
                _send(wire, v6 + ipv6(58, ours6, destination, _summed6(ours6, destination, 58, message, 2)))
        return sorted(found | _answers(wire, there, 5))


def link_local(mac: bytes) -> bytes:
    """The IPv6 address that an interface gives itself (RFC 4291, appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def ipv6(kind: int, ours: bytes, target: bytes, payload: bytes) -> bytes:
    """A packet; hop limit 255, as neighbours' questions must have."""
    return struct.pack("!IHBB", 6 << 28, len(payload), kind, 255) + ours + target + payload


def syn6(ours: bytes, target: bytes, port: int) -> bytes:
    """A segment that asks for a connection."""
    segment = struct.pack("!HHIIHHHH", 40000, port, os.getpid(), 0, 0x5002, 1024, 0, 0)
    return _summed6(ours, target, 6, segment, 16)


def _summed6(ours: bytes, target: bytes, kind: int, payload: bytes, at: int) -> bytes:
    pseudo = ours + target + struct.pack("!IHBB", len(payload), 0, 0, kind)
    return payload[:at] + struct.pack("!H", _sum(pseudo + payload)) + payload[at + 2 :]


def _send(wire: socket.socket, frame: bytes) -> None:
    while True:
        try:
            wire.send(frame)
            return
        except OSError:  # the queue is full
            time.sleep(0.005)


def _answers(wire: socket.socket, there: bytes, seconds: float) -> set[str]:
    found: set[str] = set()
    until = time.monotonic() + seconds
    while select.select([wire], [], [], max(0, until - time.monotonic()))[0]:
        frame = wire.recv(65536)
        if frame[6:12] == there:
            found |= _kind(frame)
    return found


def _kind(frame: bytes) -> set[str]:
    kind = frame[12:14]
    if kind == b"\x08\x06":
        return set()
    if kind == b"\x86\xdd":
        return {f"ipv6 protocol {frame[20]}"}
    if kind != b"\x08\x00":
        return {f"ethertype {kind.hex()}"}
    at = 14 + (frame[14] & 15) * 4
    if frame[23] == 6 and struct.unpack_from("!H", frame, at + 2)[0] == 9000:
        return set()
    return {f"ip protocol {frame[23]}"}


def ipv4(protocol: int, ours: bytes, target: str, payload: bytes) -> bytes:
    """A packet."""
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, ours, socket.inet_aton(target)
    )
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + payload


def syn(ours: bytes, target: str, port: int) -> bytes:
    """A segment that asks for a connection."""
    segment = struct.pack("!HHIIHHHH", 40000, port, os.getpid(), 0, 0x5002, 1024, 0, 0)
    pseudo = ours + socket.inet_aton(target) + struct.pack("!HH", 6, len(segment))
    return segment[:16] + struct.pack("!H", _sum(pseudo + segment)) + segment[18:]


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
