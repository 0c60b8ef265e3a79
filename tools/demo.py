"""The demo: the example traffic through a closed box, first from its capture file, then live over a veth pair.

    make demo

Everything it prints comes from the commands that a user types, or from what those wrote. Live capture needs root;
the namespaces
are the demo's own and are gone at its end. Exit code 0 only if both runs are whole and nothing of the traffic is
found in what came out.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bunker.closed.capture.files import FileReader
from bunker.native.capture import block_packets
from bunker.open.manifest import read_manifest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "web-study"
EXPERIMENT, TRAFFIC, LEDGER = (EXAMPLE / name for name in ("experiment.toml", "traffic.pcapng", "traffic.ledger.json"))
OUT = ROOT / "out"
BUNKER = Path(sys.executable).parent / "bunker"
BLOCK_BYTES = 1 << 20
READY_S = 30.0
REPLAY_S = 4.0


def say(text: str = "") -> None:
    """A line of the demo's own."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def title(text: str) -> None:
    """What comes next."""
    say(f"\n=== {text}")


def bunker(*words: str) -> None:
    """Run a command as the user would, and show it."""
    say(f"$ bunker {' '.join(words)}")
    wide = {} if sys.stdout.isatty() else {"COLUMNS": "150"}
    subprocess.run([str(BUNKER), *words], check=True, cwd=ROOT, env=os.environ | wide)


def packets_of(path: Path) -> list[tuple[int, bytes]]:
    """(time in ns, frame) of a capture file."""
    fd = os.open(path, os.O_RDONLY)
    reader = FileReader([fd], lanes=1, block_bytes=BLOCK_BYTES, snaplen=262_144, filters=None, seed=bytes(16))
    found = [
        (ts_ns, frame)
        for block in reader.blocks()
        for ts_ns, _, _, _, frame in block_packets(block.format, block.plaintext)
    ]
    os.close(fd)
    return found


def private_words() -> dict[str, list[str]]:
    """What must not come out, by kind, from the ledger that the talking programs wrote themselves."""
    ledger = json.loads(LEDGER.read_text())
    uris = {entry["uri"] for entry in ledger["http"] if len(entry.get("uri") or "") >= 8}
    return {
        "host names": sorted({entry["host"] for entry in ledger["http"] if entry.get("host")}),
        "addresses": sorted({entry["client"] for entry in ledger["connections"]}),
        "paths and queries": sorted(uris),
        "looked-up names": sorted({entry["name"] for entry in ledger["dns"]}),
    }


def search(directory: Path) -> int:
    """Look for all of them in every file, and in the rows that `show` prints; how many were found."""
    texts = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    for record in read_manifest(directory).schemas:
        shown = subprocess.run(
            [str(BUNKER), "show", str(directory), record.record, "--json"], check=True, capture_output=True
        )
        texts.append(shown.stdout)
    whole = b"\n".join(texts).lower()
    found = 0
    for kind, words in private_words().items():
        hits = [word for word in words if word.lower().encode() in whole]
        found += len(hits)
        say(f"  {len(words):4} {kind:18} searched in what came out: {len(hits)} found")
    return found


def report(directory: Path) -> int:
    """Show what came out, check it, search it."""
    bunker("show", str(directory.relative_to(ROOT)), "http", "--limit", "6")
    bunker("show", str(directory.relative_to(ROOT)), "form", "--limit", "4")
    bunker("verify", str(directory.relative_to(ROOT)))
    title("does anything of the traffic stand in it?")
    return search(directory)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def veth() -> Iterator[tuple[str, str]]:
    """Two namespaces of our own, joined by a veth pair `tap0`-`replay0`; yields (box's, replaying) namespace."""
    names = (f"bunker-demo-{os.getpid()}-box", f"bunker-demo-{os.getpid()}-net")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "tap0", "netns", names[0], "type", "veth", "peer", "name", "replay0", "netns", names[1])
        for name, device in zip(names, ("tap0", "replay0"), strict=True):
            silent = f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6"
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", silent], check=True)
            _ip("-n", name, "link", "set", device, "mtu", "9000", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def replay(device: str, path: Path) -> None:
    """Send the frames of a capture file in their rhythm, fast enough to take REPLAY_S seconds. Runs in the
    namespace.
    """
    packets = packets_of(path)
    first, last = packets[0][0], packets[-1][0]
    scale = REPLAY_S / max((last - first) / 1e9, REPLAY_S)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, 0))
        started = time.monotonic()
        for ts_ns, frame in packets:
            wait = (ts_ns - first) / 1e9 * scale - (time.monotonic() - started)
            if wait > 0:
                time.sleep(wait)
            sender.send(frame)
    arp = sum(frame[12:14] == b"\x08\x06" for _, frame in packets)
    say(
        f"  replayed {len(packets):,} packets in {time.monotonic() - started:.1f} s, "
        f"{len(packets) - arp:,} of them IP: the experiment's filter takes nothing else"
    )


def live(directory: Path) -> None:
    """Capture the same packets from an interface; Ctrl-C (SIGINT) ends the run in order."""
    with veth() as (box, network):
        words = [
            "run",
            str(EXPERIMENT.relative_to(ROOT)),
            "--interface",
            "tap0",
            "-o",
            str(directory.relative_to(ROOT)),
        ]
        say(f"$ bunker {' '.join(words)}")
        process = subprocess.Popen(["ip", "netns", "exec", box, str(BUNKER), *words], cwd=ROOT)
        try:
            wait_for_heartbeat(directory, process)
            inside = ["ip", "netns", "exec", network, sys.executable, __file__, "--replay", "replay0"]
            subprocess.run(inside, check=True)
            time.sleep(1.0)
        finally:
            say("  (Ctrl-C)")
            process.send_signal(signal.SIGINT)
            status = process.wait(timeout=120)
        if status:
            raise subprocess.CalledProcessError(status, "bunker run")


def wait_for_heartbeat(directory: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the box has said its first word: from then on it captures."""
    until = time.monotonic() + READY_S
    beats = directory / "heartbeats.jsonl"
    while time.monotonic() < until and process.poll() is None:
        if beats.exists() and len(beats.read_bytes().splitlines()) > 1:
            time.sleep(0.3)
            return
        time.sleep(0.05)
    raise TimeoutError("the box did not start")


def lossless(directory: Path) -> str:
    """Packets in and out, as the last statement of the run says (model/heartbeat.py)."""
    line = (directory / "heartbeats.jsonl").read_bytes().splitlines()[-1]
    counters: dict[str, int] = json.loads(line)["statement"]["last"]["counters"]
    return (
        f"packets {counters['packets_received']:,} in = {counters['packets_analysed']:,} analysed "
        f"+ {counters['packets_dropped_kernel'] + counters['packets_dropped_spool']:,} dropped "
        f"+ {counters['packets_destroyed']:,} destroyed; "
        f"keys {counters['keys_created']} made, {counters['keys_destroyed']} destroyed"
    )


def main() -> int:
    """The demo."""
    if sys.argv[1:2] == ["--replay"]:
        replay(sys.argv[2], TRAFFIC)
        return 0
    title("1. what would leave: `bunker check` prints it field by field; here the policy's own words")
    for line in (EXAMPLE / "policy.toml").read_text().splitlines():
        if line.startswith(("[out.http]", "client", "host", "status_code")):
            say(f"  {line}")
    title("2. from a capture file: real programs talking (curl, wget, dig, openssl and their servers)")
    from_file, from_wire = OUT / "demo-file", OUT / "demo-live"
    for directory in (from_file, from_wire):
        shutil.rmtree(directory, ignore_errors=True)
    bunker("run", str(EXPERIMENT.relative_to(ROOT)), "--read", str(TRAFFIC.relative_to(ROOT)), "-o", "out/demo-file")
    found = report(from_file)
    say(f"  {lossless(from_file)}")
    title("3. live: the same packets over a veth pair, captured, sealed, analysed while they come")
    if os.geteuid() != 0:
        say("  skipped: live capture and namespaces need root. Run `sudo make demo` to see it.")
    else:
        live(from_wire)
        found += report(from_wire)
        say(f"  {lossless(from_wire)}")
    title("look further")
    for command in (
        "source .venv/bin/activate",
        "bunker check examples/web-study/experiment.toml     # what leaves, and what an attacker could learn from it",
        "bunker show out/demo-file                           # the run: box, key, bundle, counters",
        "bunker show out/demo-file flow --csv                # or --json; Parquet in out/demo-file/records",
        "bunker verify out/demo-file                         # change a byte in out/demo-file/envelopes, try again",
        "less out/demo-file/heartbeats.jsonl                 # what the box signed about itself",
    ):
        say(f"  {command}")
    say()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
