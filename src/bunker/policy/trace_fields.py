"""The fields of a header trace: what each key of `[out.pcap.<layer>]` may say, what is learnt, how many bits it has.

A table and nothing else; `trace.py` reads policies by it, `crates/clear/src/trace/rules.rs` has the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ADDRESS = frozenset({"pfx", "cryptopan", "tag", "truncate"})
TUNNELS = ("ipip", "gre", "vxlan", "geneve", "gtp", "teredo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a key may say: transforms and the core's word for each."""

    words: Mapping[str, str]
    learns: str
    bits: float
    sizes: bool = False
    values: Mapping[str, int] | None = None
    numbers: int | None = None
    address: bool = False


_MAC = Kind(words={"tag48": "tag48"}, learns="which packets are of one interface, not whose", bits=48)
_V4 = Kind(words={}, address=True, bits=32, learns="")
_V6 = Kind(words={}, address=True, bits=128, learns="")
_LEN = Kind(words={"derived": "derived"}, learns="the released size again", bits=0)
_CHECKSUM = Kind(
    words={"validity": "validity"},
    learns="whether the checksum was right; it is computed anew over what is released",
    bits=1,
)
_CLASS = Kind(
    words={"ecn-only": "ecn-only", "keep": "keep"}, learns="congestion marks; with keep the class too", bits=8
)
_TTL = Kind(
    words={"hops": "hops", "keep": "keep", "const": "const"},
    learns="how many hops away the sender seems; with keep also its kind of system",
    bits=8,
)
_PORT = Kind(
    words={"service": "service", "shuffle": "shuffle", "keep": "keep"},
    learns="a port of [sites] services; any other as 49152 (service), as a stand-in that keeps flows apart (shuffle), "
    "or itself (keep)",
    bits=16,
)
SEQUENCE = Kind(
    words={"flow_offset": "flow_offset", "rel": "rel", "keep": "keep"},
    learns="order, retransmissions, and the exact number of bytes of each direction",
    bits=32,
)
FLAG = Kind(words={"keep": "keep"}, learns="the value itself", bits=16)
_ECHO_ID = Kind(words={"flow_tag16": "flow_tag16", "keep": "keep"}, learns="which echoes belong together", bits=16)
_ECHO_SEQUENCE = Kind(words={"rel": "rel", "keep": "keep"}, learns="order of the echoes", bits=16)
_TYPES = Kind(words={"allow": "allow"}, numbers=256, learns="type and code of messages of the list", bits=16)
_QUOTED = Kind(words={"recurse": "recurse"}, learns="the quoted headers, by the rules of their layers", bits=0)
SIZES = Kind(words={}, sizes=True, learns="the size's order", bits=16)

FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "eth": {
        "src": _MAC,
        "dst": _MAC,
        "type": Kind(
            words={"allow": "allow"}, values={"ipv4": 4, "ipv6": 6, "arp": 1}, learns="which protocol", bits=2
        ),
        "vlan": Kind(
            words={"tag": "tag", "keep": "keep"}, learns="which packets are of one VLAN; with keep which", bits=12
        ),
    },
    "arp": {
        "op": Kind(words={"allow": "allow"}, numbers=256, learns="request or reply", bits=8),
        "sha": _MAC,
        "tha": _MAC,
        "spa": _V4,
        "tpa": _V4,
    },
    "ipv4": {
        "src": _V4,
        "dst": _V4,
        "tos": _CLASS,
        "len": _LEN,
        "id": Kind(
            words={"if-fragment": "if-fragment", "keep": "keep"},
            learns="which fragments belong together; with keep also how busy a host is",
            bits=16,
        ),
        "flags": FLAG,
        "ttl": _TTL,
        "proto": _LEN,
        "checksum": _CHECKSUM,
    },
    "ipv6": {
        "src": _V6,
        "dst": _V6,
        "traffic_class": _CLASS,
        "len": _LEN,
        "next": _LEN,
        "flow_label": Kind(words={"tag": "tag", "keep": "keep"}, learns="which packets share a label", bits=20),
        "hop_limit": _TTL,
    },
    "tcp": {
        "sport": _PORT,
        "dport": _PORT,
        "seq": SEQUENCE,
        "ack": SEQUENCE,
        "flags": FLAG,
        "window": SIZES,
        "urg": FLAG,
        "checksum": _CHECKSUM,
    },
    "udp": {"sport": _PORT, "dport": _PORT, "len": _LEN, "checksum": _CHECKSUM},
    "icmp": {
        "types": _TYPES,
        "echo_id": _ECHO_ID,
        "echo_seq": _ECHO_SEQUENCE,
        "mtu": FLAG,
        "gateway": _V4,
        "quoted": _QUOTED,
        "checksum": _CHECKSUM,
    },
    "icmpv6": {
        "types": _TYPES,
        "echo_id": _ECHO_ID,
        "echo_seq": _ECHO_SEQUENCE,
        "mtu": FLAG,
        "quoted": _QUOTED,
        "nd_target": _V6,
        "nd_lladdr": _MAC,
        "checksum": _CHECKSUM,
    },
}
# Keys of [out.pcap] itself that choose between ways; the first is what holds when nothing is said.
WAYS: Mapping[str, tuple[str, ...]] = {
    "malformed": ("drop-packet", "emit-parsed-prefix"),
    "truncated": ("drop-packet", "emit-parsed-prefix"),
    "unknown_ethertype": ("drop-packet",),
    "unknown_ip_proto": ("drop-packet", "l3-only"),
    "fragments": ("drop", "first-only", "headers"),
}
TOP = ("file", "linktype", "blocks", "time", "wirelen", "tunnels", *WAYS, *FIELDS)
TCP_OPTIONS = {"eol": 0, "nop": 1, "sackperm": 4}
IP_OPTIONS = {"eol": 0, "nop": 1, "router_alert": 148}
SCANNER_MARKS = {"window": 20, "monotone": 16, "fanout": 256, "failed_ratio": 0.8}
STAMPS = Kind(
    words={"rank": "rank", "flow_rank": "flow_rank", "nop": "nop"},
    learns="the order of the sender's clock readings, not the clock",
    bits=64,
)
LENGTHS = Kind(words={}, sizes=True, learns="the packet's size to the edge below", bits=16)
