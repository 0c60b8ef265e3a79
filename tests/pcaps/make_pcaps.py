"""Make the example capture from real programs talking in network namespaces of its own.

    sudo python3 tests/pcaps/make_pcaps.py            # writes examples/web-study/traffic.pcapng and traffic.ledger.json
    sudo python3 tests/pcaps/make_pcaps.py -o DIR     # the same elsewhere

Needs root, Debian packages tcpdump ethtool nginx-light dnsmasq-base bind9-dnsutils iputils-ping curl wget openssl. Two
namespaces are joined by a veth pair whose offloads are off at both ends (else packets above the MTU and unfinished
checksums stand in the capture); tcpdump records on the servers' side. Namespaces, processes, temporary files are gone
afterwards, also after an error.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import clients
import pcapfile
import servers

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent.parent / "examples" / "web-study"
MAX_BYTES = 1_000_000
PROGRAMS = {
    "ip": "iproute2",
    "tcpdump": "tcpdump",
    "ethtool": "ethtool",
    "nginx": "nginx-light",
    "dnsmasq": "dnsmasq-base",
    "dig": "bind9-dnsutils",
    "ping": "iputils-ping",
    "curl": "curl",
    "wget": "wget",
    "openssl": "openssl",
}


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _inside(namespace: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


@contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """A namespace of servers and one of clients, joined by a veth pair (`srv0`, `cli0`) with all their addresses."""
    ours = f"bunker-pcap-{os.getpid()}"
    sides = {
        "srv": (f"{ours}-srv", servers.SERVERS_V4, servers.SERVERS_V6, "02:00:5e:00:53:01"),
        "cli": (f"{ours}-cli", clients.CLIENTS_V4, clients.CLIENTS_V6, "02:00:5e:00:53:02"),
    }
    try:
        for name, *_ in sides.values():
            _run("ip", "netns", "add", name)
        server_side, client_side = sides["srv"][0], sides["cli"][0]
        _run(
            "ip",
            "link",
            "add",
            "srv0",
            "netns",
            server_side,
            "type",
            "veth",
            "peer",
            "name",
            "cli0",
            "netns",
            client_side,
        )
        for side, (name, v4, v6, mac) in sides.items():
            device = f"{side}0"
            _run("ip", "-n", name, "link", "set", device, "address", mac)
            _run(*_inside(name, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off"))
            _run(*_inside(name, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{device}/accept_dad"))
            for address in v4:
                _run("ip", "-n", name, "addr", "add", f"{address}/32", "dev", device)
            for address in v6:
                _run("ip", "-n", name, "addr", "add", f"{address}/128", "dev", device, "nodad")
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", device, "up")
        for name in (server_side, client_side):
            device = "srv0" if name == server_side else "cli0"
            for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"):
                _run("ip", "-n", name, "route", "add", network, "dev", device)
            _run("ip", "-n", name, "-6", "route", "add", "2001:db8::/32", "dev", device)
        yield server_side, client_side
    finally:
        for name, *_ in sides.values():
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def started(command: list[str], *, stop: int, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs as long as the block; ends it with `stop` and waits."""
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.send_signal(stop)
        process.wait(timeout=20)


def _until(path: Path, process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{what} did not start")
        time.sleep(0.05)


def record(folder: Path) -> Path:
    """Let the servers and clients talk; returns tcpdump's file. The clients' ledger is `folder`/ledger.json."""
    pcap, messages = folder / "traffic.pcap", folder / "tcpdump.log"
    (folder / "resolv.conf").write_text(f"nameserver {servers.DNS_V4}\noptions timeout:5 attempts:1\n")
    with ExitStack() as stack:
        server_side, client_side = stack.enter_context(namespaces())
        serving = stack.enter_context(
            started(
                _inside(server_side, sys.executable, str(HERE / "servers.py"), str(folder)),
                stop=0,
                stdin=subprocess.PIPE,
            )
        )
        _until(folder / "ready", serving, "the servers")
        command = _inside(
            server_side,
            "tcpdump",
            "-Z",
            "root",
            "-i",
            "srv0",
            "-s",
            "0",
            "-U",
            "-n",
            "-B",
            "16384",
            "--time-stamp-precision=nano",
            "-w",
            str(pcap),
        )
        with messages.open("wb") as log, started(command, stop=signal.SIGINT, stderr=log) as dumping:
            _until(pcap, dumping, "tcpdump")
            # `ip netns exec` gives a mount namespace of its own: the other resolv.conf is seen by the clients alone.
            script = (
                f'mount --bind "$1/resolv.conf" /etc/resolv.conf && exec "{sys.executable}" "{HERE}/scenes.py" "$1"'
            )
            _run(*_inside(client_side, "sh", "-c", script, "clients", str(folder)))
            time.sleep(0.5)  # the last FINs
    lost = re.search(r"(\d+) packets? dropped by kernel", messages.read_text())
    if lost is None or lost[1] != "0":
        raise SystemExit("tcpdump lost packets or did not say: run it again on a quieter machine")
    return pcap


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", type=Path, default=EXAMPLE, help="folder for traffic.pcapng and traffic.ledger.json"
    )
    output = parser.parse_args().output
    if os.geteuid() != 0:
        raise SystemExit("network namespaces need root: run it with sudo")
    if missing := [
        f"{name} (apt-get install {package})" for name, package in PROGRAMS.items() if shutil.which(name) is None
    ]:
        raise SystemExit("missing: " + ", ".join(missing))
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bunker-pcap-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user
        pcap = record(folder)
        partial = output / "traffic.pcapng.partial"
        count = pcapfile.write_pcapng(partial, pcapfile.read_packets(pcap))
        if partial.stat().st_size > MAX_BYTES:
            raise SystemExit(f"{partial.stat().st_size} bytes are more than the {MAX_BYTES} that may be committed")
        shutil.copyfile(folder / "ledger.json", output / "traffic.ledger.json")
        partial.rename(output / "traffic.pcapng")
    print(f"{count} packets, {(output / 'traffic.pcapng').stat().st_size} bytes in {output}")


if __name__ == "__main__":
    main()
