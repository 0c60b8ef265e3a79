"""Makes the tables of messages in docs/analyzers.md: `python tools/message_tables.py`; `--check` compares."""

from __future__ import annotations

import re
import sys

from pages import ROOT, made

from bunker.native.wire import message_kinds, message_schema

_SOURCE = ROOT / "crates" / "proto" / "src" / "columns" / "tables.rs"
_TABLE = re.compile(r'^    \w+ "(\w+)" \w+ \w+ \{\n(.*?)^    \}', re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"((?:        /// .*\n)+)        (\w+): ")
_FIRST = {
    "ts": "When it began.",
    "uid": "Number of the flow in this run; 0: none.",
    "orig_h": "Address of the originator; also `client`.",
    "orig_p": "Its port.",
    "resp_h": "Address of the responder; also `server`.",
    "resp_p": "Its port.",
}
_CLASSES = {
    "flow": "flow.Flow",
    "http": "http.Transaction",
    "dns": "dns.Exchange",
    "tls": "tls.Handshake",
    "mail": "mail.Message",
    "ssh": "ssh.Greeting",
    "ntp": "ntp.Message",
    "dhcp": "dhcp.Message",
    "packet": "packet.Packet",
    "chunk": "stream.Chunk",
    "datagram": "udp.Datagram",
}


def meanings() -> dict[str, dict[str, str]]:
    """What the core's source says of each column, by kind."""
    found: dict[str, dict[str, str]] = {}
    for kind, body in _TABLE.findall(_SOURCE.read_text(encoding="utf-8")):
        found[kind] = {
            name: " ".join(line.strip().removeprefix("///").strip() for line in comment.splitlines())
            for comment, name in _FIELD.findall(body)
        }
    return found


def page() -> str:
    """One table a kind."""
    told = meanings()
    lines: list[str] = []
    for kind in message_kinds():
        subscription = f"`{_CLASSES[kind]}`" if kind in _CLASSES else "no class in `bunker.api` yet"
        lines += [f"### {kind}: {subscription}", "", "| column | type | empty | meaning |", "|---|---|---|---|"]
        for name, word, nullable in message_schema(kind):
            meaning = told.get(kind, {}).get(name, _FIRST.get(name, "")).replace("|", "\\|")
            lines.append(f"| `{name}` | {word} | {'may be' if nullable else ''} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(made(__file__, ROOT / "docs" / "analyzers.md", page()))
