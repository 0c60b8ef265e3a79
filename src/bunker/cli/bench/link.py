"""A veth pair between two namespaces of the bench's own, and the load on it.

Nothing outside the two namespaces is touched. Both are gone when the block ends, also after an error or Ctrl-C.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bunker.errors import ConfigurationError

SENDING, RECEIVING = "bsend0", "brecv0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a sender says of a burst."""

    packets: int
    seconds: float
    cpu_s: float
    way: str

    @property
    def rate(self) -> float:
        """Packets per second that were offered."""
        return self.packets / self.seconds if self.seconds else 0.0


class Pair:
    """Two namespaces and the veth pair between them; offloads are off at both ends."""

    def __init__(self, sender: str, receiver: str) -> None:
        self._sender, self._receiver, self._may_inject = sender, receiver, True

    def receiving(self, argv: list[str]) -> list[str]:
        """`argv` as it runs in the receiver's namespace (`ip netns exec` keeps the process id)."""
        return ["ip", "netns", "exec", self._receiver, *argv]

    def send(self, *, size: int, packets: int, rate: int = 0) -> Sent:
        """Send and wait; `rate` in packets per second, 0 for as fast as this kernel allows (`Sent.way` says how)."""
        if rate == 0 and self._may_inject:
            argv = [sys.executable, "-m", "bunker.cli.bench.inject", RECEIVING, str(size), str(packets)]
            result = subprocess.run(self.receiving(argv), check=False, capture_output=True, text=True)
            if result.returncode == 0:
                return Sent(**json.loads(result.stdout))
            self._may_inject = False
        argv = [sys.executable, "-m", "bunker.cli.bench.sender", SENDING, str(size), str(packets), str(rate)]
        command = ["ip", "netns", "exec", self._sender, *argv]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return Sent(**json.loads(result.stdout))

    def listeners(self, pid: int) -> int:
        """Packet sockets open in the namespace of `pid`."""
        try:
            return len(Path(f"/proc/{pid}/net/packet").read_text().splitlines()) - 1
        except OSError:
            return 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def pair() -> Iterator[Pair]:
    """Make the pair; take it away at the end.

    Raises:
        ConfigurationError: not root, or `ip` and `ethtool` are missing.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("bench capture", "network namespaces need root", "Run it with sudo")
    names = [f"bunker-bench-{os.getpid()}-{side}" for side in ("s", "r")]
    try:
        for name in names:
            _ip("netns", "add", name)
        sender, receiver = names
        _ip("link", "add", SENDING, "netns", sender, "type", "veth", "peer", "name", RECEIVING, "netns", receiver)
        for name, device in ((sender, SENDING), (receiver, RECEIVING)):
            offloads = ["tso", "off", "gso", "off", "gro", "off", "tx", "off"]
            command = ["ip", "netns", "exec", name, "ethtool", "-K", device, *offloads]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            # No address and no IPv6: the kernels of both ends stay silent, all packets are the bench's.
            silent = f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6"
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", silent], check=True)
            _ip("-n", name, "link", "set", device, "up")
        yield Pair(sender, receiver)
    except FileNotFoundError as error:
        raise ConfigurationError(
            "bench capture", f"{Path(str(error.filename)).name} is missing", "apt-get install iproute2 ethtool"
        ) from None
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def check_work(work: Path, needed: int) -> None:
    """Refuse to fill a disk.

    Raises:
        ConfigurationError: less than `needed` bytes are free where `work` stands.
    """
    work.mkdir(parents=True, exist_ok=True)
    place = os.statvfs(work)
    free = place.f_bavail * place.f_frsize
    if free < needed:
        raise ConfigurationError(
            "--work", f"{free >> 20} MiB are free, {needed >> 20} MiB may be needed", "Name a folder on another disk"
        )
