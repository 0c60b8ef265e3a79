"""Ledger: what the clients of the example traffic did, written down by those who did it.

Rules of this file:
1. An entry is made from what a client sent and got, or from a server's own log; never from the capture.
2. `null` means: this client could not know (wget does not tell its port).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
_QUERY = re.compile(r"\b(\d+) (\S+)/(\d+) query\[(\S+)\] (\S+) from ")


class Ledger:
    """Lists of plain entries, safe to write from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: list[dict[str, Any]] = []
        self._lists: dict[str, list[dict[str, Any]]] = {name: [] for name in ("http", "tls", "dig", "icmp")}

    def connection(self, client: str, client_port: int | None, server: str, server_port: int, kind: str) -> int:
        """Note a TCP connection; its number is what transactions refer to."""
        with self._lock:
            number = len(self._connections)
            self._connections.append(
                {
                    "id": number,
                    "client": client,
                    "client_port": client_port,
                    "server": server,
                    "server_port": server_port,
                    "kind": kind,
                }
            )
        return number

    def note(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Add an entry to the list `kind`."""
        with self._lock:
            self._lists[kind].append(dict(entry))

    def write(self, path: Path, *, dns_log: Path) -> None:
        """Write everything, with the DNS queries as the server's log has them."""
        dns = [
            {"client": match[2], "client_port": int(match[3]), "qtype": match[4], "name": match[5]}
            for match in map(_QUERY.search, dns_log.read_text().splitlines())
            if match
        ]
        content = {"format": FORMAT, "connections": self._connections, **self._lists, "dns": dns}
        lines = [f'"{name}": {_rows(value)}' for name, value in content.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _rows(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in value) + "\n]"
