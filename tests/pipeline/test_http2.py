"""HTTP/2 in clear text, made by the `h2` library: with prior knowledge and after an upgrade, as rows of `dissect`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
from boxes import bunker
from conversations import CLIENT, SERVER, write_conversations

BODY = b"<html>" + b"bytes of a page " * 500


def _exchange(client: h2.connection.H2Connection, server: h2.connection.H2Connection) -> list[tuple[int, bytes]]:
    """Let both sides talk until neither has anything to say."""
    turns: list[tuple[int, bytes]] = []
    while True:
        asked = client.data_to_send()
        if asked:
            turns.append((CLIENT, asked))
            server.receive_data(asked)
        answered = server.data_to_send()
        if answered:
            turns.append((SERVER, answered))
            client.receive_data(answered)
        if not asked and not answered:
            return turns


def _pair() -> tuple[h2.connection.H2Connection, h2.connection.H2Connection]:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    return client, server


def _request(path: str, method: str = "GET") -> list[tuple[str, str]]:
    return [
        (":method", method),
        (":scheme", "http"),
        (":authority", "www.example"),
        (":path", path),
        ("user-agent", "probe/1.0"),
    ]


def _rows(folder: Path, turns: list[tuple[int, bytes]], *, size: int) -> list[dict[str, Any]]:
    file = write_conversations(folder / f"{size}.pcap", [turns], size=size)
    shown = bunker("dissect", "--messages", "http", "--json", "--bodies", "--hashes", str(file))
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def test_prior_knowledge_streams_become_transactions(tmp_path: Path) -> None:
    client, server = _pair()
    client.initiate_connection()
    server.initiate_connection()
    turns = _exchange(client, server)
    client.send_headers(1, _request("/first"), end_stream=True)
    client.send_headers(3, _request("/second", "POST"))
    client.send_data(3, b"form=1", end_stream=True, pad_length=9)
    turns += _exchange(client, server)
    coded = gzip.compress(BODY)
    server.send_headers(3, [(":status", "201"), ("content-encoding", "gzip"), ("content-type", "text/html")])
    server.send_headers(1, [(":status", "404"), ("content-length", "0")], end_stream=True)
    server.send_data(3, coded, end_stream=True)
    turns += _exchange(client, server)
    for size in (1400, 11):
        first, second = _rows(tmp_path, turns, size=size)
        assert (first["uri"], first["status_code"], first["version"]) == ("/first", 404, "2")
        assert (second["method"], second["host"], second["user_agent"]) == ("POST", "www.example", "probe/1.0")
        assert (second["request_body_len"], second["response_body_len"]) == (6, len(BODY))
        assert second["resp_mime_type"] == "text/html"
        assert second["flags"] == 0


def test_upgrade_goes_on_with_the_request_as_stream_one(tmp_path: Path) -> None:
    client, server = _pair()
    settings = client.initiate_upgrade_connection()
    assert settings is not None
    server.initiate_upgrade_connection(settings)
    head = (
        b"GET /upgraded HTTP/1.1\r\nHost: www.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: " + settings + b"\r\n\r\n"
    )
    turns = [(CLIENT, head), (SERVER, b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")]
    server.send_headers(1, [(":status", "200"), ("server", "h2 library")])
    server.send_data(1, b"hello", end_stream=True)
    turns += _exchange(client, server)
    client.send_headers(3, _request("/next"), end_stream=True)
    turns += _exchange(client, server)
    for size in (1400, 7):
        first, second = _rows(tmp_path, turns, size=size)
        assert (first["uri"], first["status_code"], first["response_body_len"]) == ("/upgraded", 200, 5)
        assert first["info_code"] == 101
        assert (second["uri"], second.get("status_code")) == ("/next", None)
