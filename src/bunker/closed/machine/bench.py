"""Process 1 of the measuring image (`bunker bench capture --boxes`): the capture half of a box in a machine.

It takes no experiment and has no way out; it tells counters on the console once a second, and nobody can read what it
captured. The sealed image does not have this file.

Rules of this file:
1. `bench.` words of the kernel's command line say what to measure; there is nothing to protect from whoever gives them.
2. What is measured is what the sealed image does: the same ring, writer, file system and mapping, or the same without
   the two ciphers.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import NoReturn

from bunker.closed.machine import mapper, network, system
from bunker.closed.machine.disks import SPOOL, by_name, device_bytes
from bunker.closed.process.capture_bench import CaptureBench

_SPOOL = Path("/spool")
_POLL_S, _TELL_S = 0.2, 1.0
WORDS = "bench: "
"""What a line on the console begins with."""


def main() -> NoReturn:
    """Run as process 1. Whatever goes wrong is said and ends the machine by a panic."""
    try:
        _measure()
    except Exception as error:
        _say(f"{type(error).__name__}: {error}")
        raise


def _say(words: str) -> None:
    with Path("/dev/kmsg").open("wb", buffering=0) as log:
        log.write(f"<5>{words}".encode())


def _measure() -> NoReturn:
    for source, place, kind in (("proc", "/proc", "proc"), ("sys", "/sys", "sysfs"), ("tmp", "/tmp", "tmpfs")):  # noqa: S108
        system.mount(source, place, kind, system.SEALED_FLAGS)
    words = dict(word.split("=", 1) for word in Path("/proc/cmdline").read_text().split() if word.startswith("bench."))
    encrypted, sealed = (words[f"bench.{name}"] == "yes" for name in ("encrypted", "sealed"))
    disk = by_name()[SPOOL]
    node = str(disk)
    if encrypted:
        node = mapper.open_encrypted("spool", node, sectors=device_bytes(disk) // mapper.SECTOR)
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", node], check=True)
    system.mount(node, str(_SPOOL), "ext4", system.SEALED_FLAGS | system.MS_NOATIME)
    (interface,) = network.interfaces()
    network.listen_on(interface)
    bench = CaptureBench(
        interface=interface,
        block_bytes=int(words["bench.block"]),
        ring_bytes=int(words["bench.ring"]),
        spool=_SPOOL / "spool",
        spool_bytes=int(words["bench.spool"]),
        sealed=sealed,
    )
    next_word = 0.0
    while True:
        bench.take(_POLL_S)
        if time.monotonic() >= next_word:
            _say(WORDS + json.dumps(bench.told()))
            next_word = time.monotonic() + _TELL_S
