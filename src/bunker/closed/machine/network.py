"""Interfaces and firewall: one address out, a capture port that never says a word.

Rules of this file:
1. The firewall stands before the first interface is up, and names interfaces by what they are for.
2. The capture interface has no address and no ARP; what comes in ends after the packet sockets have seen it, and what
   would go out is dropped at the device, whoever sends it.
3. In: answers to what this machine began. Out: the open box. Nothing is forwarded, no IPv6.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

from bunker.closed.machine.orders import Way
from bunker.errors import BoxError

NFT = "/usr/sbin/nft"
_NETWORK = Path("/sys/class/net")
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCADDRT = 0x8916, 0x891C, 0x890B
_SIOCOUTQ = 0x5411
_TCP_INFO_BYTES = 136
_BYTES_RECEIVED = struct.Struct("=128xQ")
"""tcpi_bytes_received of struct tcp_info (include/uapi/linux/tcp.h)."""
_UP, _NO_ARP, _PROMISCUOUS = 0x1, 0x80, 0x100
_ROUTE_UP, _ROUTE_GATEWAY = 0x1, 0x2


def interfaces() -> dict[str, str]:
    """Hardware address by name, without the loopback."""
    return {
        path.name: (path / "address").read_text().strip()
        for path in sorted(_NETWORK.iterdir())
        if (path / "device").exists()
    }


def sort_out(found: dict[str, str], way: Way) -> tuple[str, str | None]:
    """(interface of the way out, capture interface). No other is ever up.

    Raises:
        BoxError: there is no such interface, or more than one to capture from.
    """
    link = [name for name, mac in found.items() if mac == way.mac]
    captures = [name for name, mac in found.items() if name not in link and way.capture in (None, mac)]
    if len(link) != 1 or len(captures) > 1 or (way.capture is not None and not captures):
        raise BoxError(
            "network",
            f"{len(link)} interfaces to the open box and {len(captures)} to capture from",
            "Name both in `bunker image write`: --mac the link, --capture-mac the port to capture from",
        )
    return link[0], captures[0] if captures else None


def ruleset(link: str, capture: str | None, way: Way) -> str:
    """The firewall, as nft reads it."""
    silent = ""
    if capture is not None:
        silent = f"""
table netdev capture {{
  chain in  {{ type filter hook ingress device "{capture}" priority 0; policy drop; }}
  chain out {{ type filter hook egress device "{capture}" priority 0; policy drop; }}
}}"""
    return f"""flush ruleset
table inet box {{
  chain in {{ type filter hook input priority 0; policy drop;
    iifname "{link}" ip saddr {way.target} tcp sport {way.port} ct state established accept
  }}
  chain out {{ type filter hook output priority 0; policy drop;
    oifname "{link}" ip daddr {way.target} tcp dport {way.port} accept
  }}
  chain through {{ type filter hook forward priority 0; policy drop; }}
}}
table arp box {{
  chain in {{ type filter hook input priority 0; policy drop; iifname "{link}" accept; }}
  chain out {{ type filter hook output priority 0; policy drop; oifname "{link}" accept; }}
}}{silent}
"""


def set_up(way: Way) -> str | None:
    """Firewall, then interfaces.

    Returns:
        The capture interface, if there is one.
    Raises:
        BoxError: any step failed.
    """
    link, capture = sort_out(interfaces(), way)
    _firewall(ruleset(link, capture, way))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as control:
        try:
            _request(control, _SIOCSIFADDR, link, _address(way.address))
            mask = socket.inet_ntoa(struct.pack("!I", (0xFFFFFFFF << (32 - way.prefix)) & 0xFFFFFFFF))
            _request(control, _SIOCSIFNETMASK, link, _address(mask))
            _flags(control, link, _UP)
            if way.gateway is not None:
                fcntl.ioctl(control, _SIOCADDRT, _default_route(way.gateway))
            if capture is not None:
                listen_on(capture)
        except OSError as error:
            raise BoxError("network", os.strerror(error.errno or 0), "The machine does not start without it") from None
    return capture


def listen_on(interface: str) -> None:
    """Bring up an interface that only hears.

    Raises:
        OSError: the kernel refuses.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as control:
        _flags(control, interface, _UP | _NO_ARP | _PROMISCUOUS)


def asked_to_end(link: socket.socket) -> bool:
    """Whether the open box has sent anything at all on the link that this machine opened: all that it can say.

    The kernel's count of bytes is looked at; no byte is read.
    """
    return bool(_BYTES_RECEIVED.unpack_from(link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES))[0])


def close_link(link: socket.socket, *, timeout_s: float) -> None:
    """Close the link once everything that was sent has been acknowledged, and throw away unseen what came in.

    A socket that is closed with unread bytes resets its connection, and what was still under way would be lost.
    """
    until = time.monotonic() + timeout_s
    with closing(link), suppress(OSError):
        while time.monotonic() < until and struct.unpack("i", fcntl.ioctl(link, _SIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.05)
        # MSG_TRUNC: the kernel drops the bytes, none is copied to here (tcp(7)).
        link.recv(1 << 20, socket.MSG_TRUNC | socket.MSG_DONTWAIT)


def delivered(way: Way) -> bool:
    """Whether everything that was sent to the open box has been acknowledged: no connection waits for that."""
    waiting = {"01", "02", "04", "09", "0B"}  # established, syn sent, fin wait 1, last ack, closing
    with suppress(OSError):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[2].endswith(f":{way.port:04X}") and fields[3] in waiting:
                return False
    return True


def _firewall(rules: str) -> None:
    found = subprocess.run([NFT, "-f", "-"], input=rules.encode(), capture_output=True, check=False, env={})
    if found.returncode != 0:
        raise BoxError("firewall", "nft does not take it", "The machine does not start without it")


def _address(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _request(control: socket.socket, code: int, name: str, argument: bytes) -> bytes:
    request = struct.pack("16s24s", name.encode(), argument)
    return fcntl.ioctl(control, code, request)


def _flags(control: socket.socket, name: str, wanted: int) -> None:
    (flags,) = struct.unpack_from("=H", _request(control, _SIOCGIFFLAGS, name, b""), 16)
    _request(control, _SIOCSIFFLAGS, name, struct.pack("=H", flags | wanted))


def _default_route(gateway: str) -> bytes:
    anywhere = _address("0.0.0.0")  # noqa: S104 - the default route's destination, nothing listens
    flags = _ROUTE_UP | _ROUTE_GATEWAY
    # struct rtentry: pad1, destination, gateway, mask, flags, the rest zero
    return struct.pack("=Q16s16s16sH", 0, anywhere, _address(gateway), anywhere, flags) + bytes(62)
