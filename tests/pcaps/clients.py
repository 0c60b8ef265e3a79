"""The client side of the example traffic: curl, wget, dig, openssl, ping, Python's own, and their ledger.

Each function is one use of one program, bound to the client's own address, and notes what it did in the ledger. What is
done in which order stands in `scenes.py`.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import servers
from ledger import Ledger

CLIENTS_V4 = tuple(f"198.51.100.{n}" for n in range(11, 21))
CLIENTS_V6 = tuple(f"2001:db8:c::{n}" for n in range(11, 15))
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


class Session:
    """One keep-alive connection of Python's http.client, each transaction noted."""

    def __init__(self, ledger: Ledger, client: str, host: str, server: str, port: int = 80) -> None:
        self._ledger, self._client, self._host, self._server, self._port = ledger, client, host, server, port
        self._connection = http.client.HTTPConnection(server, port, timeout=20, source_address=(client, 0))
        self._connection.connect()
        local_port = self._connection.sock.getsockname()[1]
        self._number = ledger.connection(client, local_port, server, port, "http")
        self._depth = 0
        self.cookie: str | None = None

    def do(
        self,
        method: str,
        uri: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        referrer: str | None = None,
        gzip: bool = False,
        **headers: str,
    ) -> http.client.HTTPResponse:
        """One transaction."""
        sent = {"Host": self._host if self._port == 80 else f"{self._host}:{self._port}", "User-Agent": BROWSER}
        sent["Accept-Encoding"] = "gzip" if gzip else "identity"
        if referrer:
            sent["Referer"] = referrer
        if self.cookie:
            sent["Cookie"] = self.cookie
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        pieces = None if body is None or isinstance(body, bytes) else list(body)
        length = len(body) if isinstance(body, bytes) else sum(map(len, pieces or []))
        payload = pieces if pieces is not None else body
        self._connection.request(method, uri, body=payload, headers=sent, encode_chunked=pieces is not None)
        response = self._connection.getresponse()
        content = response.read()
        if given := response.headers.get("Set-Cookie"):
            self.cookie = given.split(";")[0]
        self._depth += 1
        self._ledger.note(
            "http",
            _transaction(
                tool="http.client",
                connection=self._number,
                depth=self._depth,
                client=self._client,
                server=self._server,
                server_port=self._port,
                method=method,
                host=sent["Host"],
                uri=uri,
                status=response.status,
                user_agent=sent["User-Agent"],
                referrer=referrer,
                request_body_len=length,
                body=_decoded(response, content),
                wire_len=len(content),
                cookie="Cookie" in sent,
                set_cookie=given is not None,
            ),
        )
        return response

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _transaction(*, body: bytes | None, wire_len: int, **entry: Any) -> dict[str, Any]:
    """An entry: `body` is decoded, or None if the client threw it away; `wire_len` is without chunk framing."""
    entry["response_body_len"] = wire_len if body is None else len(body)
    entry["response_wire_len"] = wire_len
    entry["response_body_sha256"] = None if body is None else hashlib.sha256(body).hexdigest()
    return entry


def _decoded(response: http.client.HTTPResponse, content: bytes) -> bytes:
    return zlib.decompress(content, 31) if response.headers.get("Content-Encoding") == "gzip" and content else content


def curl(ledger: Ledger, folder: Path, client: str, host: str, uris: list[str], *options: str, **told: Any) -> None:
    """One curl process; all `uris` go over one connection where the server allows it.

    Args:
        told: method, request_body_len, referrer, server: what curl's own report does not say.
    """
    server = told.pop("server", None) or next(a for a in servers.HOSTS[host] if (":" in a) == (":" in client))
    bodies = [folder / f"body-{threading.get_ident()}-{n}" for n in range(len(uris))]
    command = ["curl", "--silent", "--globoff", "--interface", client, "--max-time", "20", "--write-out", "%{json}\n"]
    command += ["--resolve", f"{host}:80:{server}", *options]
    for uri, body in zip(uris, bodies, strict=True):
        command += ["--output", str(body), f"http://{host}{uri}"]
    reports = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    connections: dict[int, tuple[int, int]] = {}
    for uri, body, line in zip(uris, bodies, reports, strict=True):
        report = json.loads(line)
        port = int(report["local_port"])
        number, depth = connections.get(port) or (ledger.connection(client, port, server, 80, "http"), 0)
        connections[port] = (number, depth + 1)
        head = report["method"] == "HEAD"  # curl stores the head there
        content = body.read_bytes() if body.exists() and not head else b""
        body.unlink(missing_ok=True)
        ledger.note(
            "http",
            _transaction(
                tool="curl",
                connection=number,
                depth=depth + 1,
                client=client,
                server=server,
                server_port=80,
                method=report["method"],
                host=host,
                uri=uri,
                status=int(report["http_code"]),
                user_agent=f"curl/{report['curl_version'].split()[0].removeprefix('libcurl/')}",
                referrer=told.get("referrer"),
                request_body_len=told.get("request_body_len", 0),
                cookie=told.get("cookie", False),
                set_cookie=None,
                body=content,
                wire_len=0 if head else int(report["size_download"]),
            ),
        )


def wget(ledger: Ledger, client: str, host: str, port: int, uris: list[str], *, keep_alive: bool) -> None:
    """One wget process; it finds the server through DNS."""
    server = next(a for a in servers.HOSTS[host] if ":" not in a)
    urls = [f"http://{host}:{port}{uri}" if port != 80 else f"http://{host}{uri}" for uri in uris]
    command = [
        "wget",
        "--quiet",
        "-4",
        "--bind-address",
        client,
        "--server-response",
        "--output-document=/dev/null",
        "--tries=1",
    ]
    result = subprocess.run([*command, *urls], check=False, capture_output=True, text=True)
    statuses = [int(status) for status in re.findall(r"^\s+HTTP/1\.\d (\d{3})", result.stderr, re.MULTILINE)]
    lengths = [int(length) for length in re.findall(r"^\s+Content-Length: (\d+)", result.stderr, re.MULTILINE)]
    number = ledger.connection(client, None, server, port, "http") if keep_alive else -1
    for depth, (uri, status, length) in enumerate(zip(uris, statuses, lengths, strict=True), start=1):
        if not keep_alive:
            number = ledger.connection(client, None, server, port, "http")
        ledger.note(
            "http",
            _transaction(
                tool="wget",
                connection=number,
                depth=depth if keep_alive else 1,
                client=client,
                server=server,
                server_port=port,
                method="GET",
                host=host if port == 80 else f"{host}:{port}",
                uri=uri,
                status=status,
                user_agent=None,
                referrer=None,
                request_body_len=0,
                cookie=False,
                set_cookie=None,
                body=None,
                wire_len=length,
            ),
        )


def pipeline(ledger: Ledger, client: str, host: str, server: str, uris: list[str]) -> None:
    """All requests in one write, then all responses."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.bind((client, 0))
        sock.connect((server, 80))
        number = ledger.connection(client, sock.getsockname()[1], server, 80, "http")
        requests = [f"GET {uri} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pipeliner/1\r\n" for uri in uris]
        requests[-1] += "Connection: close\r\n"
        sock.sendall("\r\n".join([*requests, ""]).encode())
        reader = sock.makefile("rb")
        for depth, uri in enumerate(uris, start=1):
            response = http.client.HTTPResponse(_Shared(reader))  # type: ignore[arg-type]
            response.begin()
            content = response.read()
            ledger.note(
                "http",
                _transaction(
                    tool="pipeline",
                    connection=number,
                    depth=depth,
                    client=client,
                    server=server,
                    server_port=80,
                    method="GET",
                    host=host,
                    uri=uri,
                    status=response.status,
                    user_agent="pipeliner/1",
                    referrer=None,
                    request_body_len=0,
                    cookie=False,
                    set_cookie=False,
                    body=_decoded(response, content),
                    wire_len=len(content),
                ),
            )
        reader.close()


class _Shared:
    """Gives several HTTPResponses the same reader, which none of them may close."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> _Shared:
        return self

    def close(self) -> None:
        """The owner of the socket closes."""

    def flush(self) -> None:
        """Nothing is written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def dig(ledger: Ledger, client: str, name: str, qtype: str, *options: str, reverse: bool = False) -> None:
    """One question, its answer noted."""
    server = servers.DNS_V6 if ":" in client else servers.DNS_V4
    question = ["-x", name] if reverse else [name, qtype]
    command = ["dig", f"@{server}", "-b", client, "+tries=1", "+time=5", *options, *question]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    status, answers = re.search(r"status: (\w+)", text), re.search(r"ANSWER: (\d+)", text)
    assert status is not None and answers is not None
    over_tcp = "(TCP)" in text
    if over_tcp:
        ledger.connection(client, None, server, 53, "dns")
    ledger.note(
        "dig",
        {
            "client": client,
            "server": server,
            "name": name,
            "qtype": qtype,
            "reverse": reverse,
            "rcode": status[1],
            "answers": int(answers[1]),
            "tcp": over_tcp,
        },
    )


def python_tls(ledger: Ledger, client: str, host: str, server: str, alpn: list[str], newest: ssl.TLSVersion) -> None:
    """A handshake by Python's ssl, and one request inside if HTTP/1.1 was agreed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    context.set_alpn_protocols(alpn)
    raw = socket.create_connection((server, 443), timeout=20, source_address=(client, 0))
    ledger.connection(client, raw.getsockname()[1], server, 443, "tls")
    port = raw.getsockname()[1]
    with context.wrap_socket(raw, server_hostname=host) as sock:
        chosen, cipher = sock.selected_alpn_protocol(), sock.cipher()
        if chosen == "http/1.1":
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            while sock.recv(4096):
                pass
        ledger.note(
            "tls",
            {
                "tool": "ssl",
                "client": client,
                "client_port": port,
                "server": server,
                "sni": host,
                "alpn_offered": alpn,
                "alpn": chosen,
                "version": sock.version(),
                "cipher": cipher[0] if cipher else None,
                "established": True,
                "resumed": False,
            },
        )


def openssl_tls(ledger: Ledger, client: str, server: str, sni: str | None, *options: str) -> None:
    """A handshake by `openssl s_client`; may fail, which is noted."""
    command = ["openssl", "s_client", "-connect", f"{server}:443", "-bind", client, *options]
    command += ["-noservername"] if sni is None else ["-servername", sni]
    result = subprocess.run(command, input=b"Q\n", check=False, capture_output=True, timeout=20)
    text = result.stdout.decode(errors="replace")
    agreed = re.search(r"^(New|Reused), (\S+), Cipher is (\S+)$", text, re.MULTILINE)
    cipher = agreed[3] if agreed and agreed[3] != "(NONE)" else None
    alpn = re.search(r"^ALPN protocol: (\S+)$", text, re.MULTILINE)
    protocol = re.search(r"^\s+Protocol\s+: (\S+)$", text, re.MULTILINE)
    offered = options[options.index("-alpn") + 1].split(",") if "-alpn" in options else []
    ledger.connection(client, None, server, 443, "tls")
    ledger.note(
        "tls",
        {
            "tool": "openssl",
            "client": client,
            "client_port": None,
            "server": server,
            "sni": sni,
            "alpn_offered": offered,
            "alpn": alpn[1] if alpn else None,
            "cipher": cipher,
            "established": cipher is not None,
            "version": (protocol[1] if protocol else agreed[2] if agreed else None) if cipher else None,
            "resumed": bool(agreed and agreed[1] == "Reused"),
        },
    )


def ping(ledger: Ledger, client: str, server: str, count: int) -> None:
    """Echo requests and their replies."""
    command = ["ping", "-q", "-n", "-c", str(count), "-i", "0.2", "-s", "40", "-I", client, server]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    received = re.search(r"(\d+) received", text)
    assert received is not None
    ledger.note("icmp", {"client": client, "server": server, "sent": count, "received": int(received[1])})
