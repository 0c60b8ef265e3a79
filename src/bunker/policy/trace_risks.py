"""What is known to be dangerous in a header trace's rules: each has a name, and a policy must accept it by that.

`docs/attacks.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """What a policy lets an attacker learn although it could be helped. `name` is what `accept` must list."""

    name: str
    sentence: str


PORTS_TELL = Risk(
    name="pfx-with-service-ports",
    sentence="servers are recognised by their ports, and each one known gives prefixes of its neighbours",
)
LONG_EPOCH = Risk(
    name="pfx-for-a-whole-run",
    sentence="one map for the whole run: what an attacker learns once holds to the end",
)
SCANS = Risk(
    name="scans-in-order",
    sentence="who scanned the network in order reads the map off the trace: split or drop scanners",
)
SEQUENCE_SIZES = Risk(
    name="seq-shows-sizes",
    sentence="sizes are in buckets, but sequence numbers still count the bytes of each connection",
)
EXACT_SIZES = Risk(name="exact-sizes", sentence="sizes of objects identify pages")
EXACT_PORTS = Risk(name="exact-ports", sentence="client ports link this trace with the logs of servers")
EXACT_NUMBERS = Risk(
    name="exact-numbers", sentence="sequence numbers or IP-IDs as they are link this trace with others"
)
SYSTEM = Risk(name="os-fingerprint", sentence="window, MSS, scale and TTL together tell the system")

_PORTS = ("tcp.sport", "tcp.dport", "udp.sport", "udp.dport")
_SYSTEM = ("tcp.window", "tcp.options.mss", "tcp.options.wscale", "ipv4.ttl", "ipv6.hop_limit")
_NUMBERS = ("tcp.seq", "tcp.ack", "tcp.options.sack", "ipv4.id")


def risks_of(transforms: Mapping[str, str], addresses: str | None, *, epoch: str, public: bool) -> tuple[Risk, ...]:
    """The risks of a combination.

    Args:
        transforms: What is done to each field that leaves, by its key.
        addresses: The transform of all addresses, None if none leaves.
        public: The trace is for everybody: attackers have all the time and all the help there is.
    """

    def kept(*keys: str) -> int:
        return sum(transforms.get(key) == "keep" for key in keys)

    structured = public and addresses in ("pfx", "cryptopan")
    counted = bool({"tcp.seq", "tcp.ack"} & transforms.keys())
    found = (
        (PORTS_TELL, structured and any(key in transforms for key in _PORTS)),
        (LONG_EPOCH, structured and epoch == "run"),
        (SCANS, structured and "scanners" not in transforms),
        (SEQUENCE_SIZES, transforms.get("wirelen") == "bucket" and counted),
        (EXACT_SIZES, kept("wirelen") > 0),
        (EXACT_PORTS, kept(*_PORTS) > 0),
        (EXACT_NUMBERS, kept(*_NUMBERS) > 0),
        (SYSTEM, kept(*_SYSTEM) > 1),
    )
    return tuple(risk for risk, holds in found if holds)
