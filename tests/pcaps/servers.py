"""The server side of the example traffic: real programs on invented names and documentation addresses.

Run by `make_pcaps.py` inside its server namespace (`python servers.py FOLDER`): starts nginx, Python's HTTP servers,
dnsmasq and two `openssl s_server`, writes `FOLDER/ready` when all listen, ends with its standard input.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

NGINX_V4, NGINX_V6 = "192.0.2.10", "2001:db8:5::10"
APP_V4, APP_V6 = "192.0.2.20", "2001:db8:5::20"
FILES_V4 = "203.0.113.30"
BANK_V4 = "203.0.113.40"
OLD_V4 = "203.0.113.41"
DNS_V4, DNS_V6 = "203.0.113.53", "2001:db8:5::53"
SERVERS_V4 = (NGINX_V4, APP_V4, FILES_V4, BANK_V4, OLD_V4, DNS_V4)
SERVERS_V6 = (NGINX_V6, APP_V6, DNS_V6)

HOSTS: dict[str, tuple[str, ...]] = {
    "news.example": (NGINX_V4, NGINX_V6),
    "www.news.example": (NGINX_V4, NGINX_V6),
    "shop.example": (NGINX_V4,),
    "mail.example": (APP_V4, APP_V6),
    "forum.example": (APP_V4, APP_V6),
    "files.example": (FILES_V4,),
    "bank.example": (BANK_V4,),
    "old.example": (OLD_V4,),
}
LARGE_BODY_BYTES = 60_000
TEXT = "The quick packet jumps over the lazy firewall. "

_NGINX_CONF = """
daemon off; worker_processes 1; error_log {folder}/nginx-error.log; pid {folder}/nginx.pid;
events {{ worker_connections 128; }}
http {{
  access_log {folder}/nginx-access.log;
  types {{ text/html html; text/css css; application/javascript js; image/png png; application/pdf pdf; }}
  default_type application/octet-stream;
  gzip on; gzip_min_length 400; gzip_types text/css application/javascript;
  keepalive_requests 1000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  server {{
    listen {v4}:80; listen [{v6}]:80; listen {v4}:443 ssl http2; listen [{v6}]:443 ssl http2;
    ssl_protocols TLSv1.2 TLSv1.3; server_name news.example www.news.example; root {folder}/news;
    location /old/ {{ return 301 /articles/1.html; }}
    location /private/ {{ return 403; }}
  }}
  server {{ listen {v4}:80; server_name shop.example; root {folder}/shop;
    location /cart {{
      add_header Set-Cookie "cart=3f9a61; Path=/"; default_type text/html; return 200 "<p>one item</p>"; }}
    location /buy {{ return 303 /thanks.html; }} }}
}}
"""


def page(title: str, links: int, paragraphs: int) -> bytes:
    """An HTML page whose bytes depend on the arguments only."""
    anchors = "".join(f'<li><a href="/articles/{n}.html">article {n}</a></li>' for n in range(1, links + 1))
    text = "".join(f"<p>{TEXT * 3}</p>\n" for _ in range(paragraphs))
    return f"<!doctype html><title>{title}</title><h1>{title}</h1>\n<ul>{anchors}</ul>\n{text}".encode()


def noise(name: str, length: int) -> bytes:
    """Incompressible bytes that depend on the name only (stands for images)."""
    return hashlib.shake_256(name.encode()).digest(length)


def make_sites(folder: Path) -> None:
    """The documents of nginx and of the file server."""
    news, shop, files = folder / "news", folder / "shop", folder / "files"
    for place in (news / "articles", shop, files / "reports"):
        place.mkdir(parents=True)
    (news / "index.html").write_bytes(page("The News", 5, 2))
    for number in range(1, 6):
        (news / "articles" / f"{number}.html").write_bytes(page(f"Article {number}", 2, number))
    (news / "style.css").write_bytes(b"body { font-family: serif; margin: 2em }\n" * 20)
    (news / "site.js").write_bytes(b"document.title = 'news';\n" * 10)
    (news / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + noise("logo", 700))
    (shop / "index.html").write_bytes(page("The Shop", 1, 1))
    (shop / "thanks.html").write_bytes(b"<p>thank you</p>")
    (shop / "catalogue.pdf").write_bytes(b"%PDF-1.4\n" + noise("catalogue", 9_000))
    (files / "readme.txt").write_text(TEXT * 4)
    (files / "reports" / "q3.csv").write_text("month,visits\n" + "".join(f"{m},{m * 911}\n" for m in range(1, 13)))


class App(http.server.BaseHTTPRequestHandler):
    """A small HTTP/1.1 application with the habits that parsers stumble over."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "app/1.0", ""

    def log_message(self, *_: Any) -> None:
        """Silence: the clients keep the ledger."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def _chunks(self, pieces: list[bytes], **headers: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        """Answer by path."""
        path = self.path.partition("?")[0]
        if path == "/inbox":
            self._answer(200, page("Inbox", 3, 2), Content_Type="text/html", Cache_Control="no-store")
        elif path == "/stream":
            self._chunks([TEXT.encode() * n for n in (1, 2, 3)], Content_Type="text/plain")
        elif path == "/packed":
            packed = gzip.compress(page("Packed", 2, 6), mtime=0)
            self._answer(200, packed, Content_Type="text/html", Content_Encoding="gzip")
        elif path == "/packed-stream":
            packed = gzip.compress(page("Packed stream", 2, 9), mtime=0)
            self._chunks([packed[:50], packed[50:]], Content_Type="text/html", Content_Encoding="gzip")
        elif path == "/until-close":
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(TEXT.encode() * 10)
        elif path == "/large":
            self._answer(200, noise("large", LARGE_BODY_BYTES), Content_Type="application/octet-stream")
        elif path == "/same":
            self._answer(304, ETag='"abc"')
        elif path == "/moved":
            self._answer(302, Location="/inbox")
        elif path == "/broken":
            self._answer(500, b"<p>broken</p>", Content_Type="text/html")
        else:
            self._answer(404, b"<p>not here</p>", Content_Type="text/html")

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def _request_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_POST(self) -> None:
        """Take a form; a login sets a cookie and redirects."""
        body = self._request_body()
        if self.path == "/login":
            self._answer(302, Location="/inbox", Set_Cookie="session=5e551; HttpOnly")
        elif self.path == "/api/items":
            self._answer(201, b'{"id": 17}', Content_Type="application/json")
        else:
            self._answer(200, f"<p>{len(body)} bytes taken</p>".encode(), Content_Type="text/html")

    def do_PUT(self) -> None:
        """Take a document."""
        self._request_body()
        self._answer(204)

    def do_DELETE(self) -> None:
        """Forget a document."""
        self._answer(204)

    def do_OPTIONS(self) -> None:
        """Say what is allowed."""
        self._answer(200, Allow="GET, HEAD, POST, PUT, DELETE, OPTIONS")


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        # HTTPServer's own would look the address up in DNS, which would then stand in the capture.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Silence."""


def _certificate(folder: Path, name: str, stem: str) -> None:
    alternative = "subjectAltName=" + ",".join(f"DNS:{host}" for host in HOSTS)
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            f"/CN={name}/O=Example",
            "-addext",
            alternative,
            "-keyout",
            f"{stem}key.pem",
            "-out",
            f"{stem}cert.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def _dnsmasq(folder: Path) -> list[str]:
    command = [
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-ping",
        "--user=root",
        f"--listen-address={DNS_V4}",
        f"--listen-address={DNS_V6}",
        "--bind-interfaces",
        "--local=/example/",
        "--local=/arpa/",
        "--log-queries=extra",
        f"--log-facility={folder}/dns.log",
        f"--pid-file={folder}/dnsmasq.pid",
        "--edns-packet-max=1232",
        "--mx-host=news.example,mail.example,10",
        "--mx-host=news.example,forum.example,20",
        "--txt-record=news.example,v=spf1 mx -all",
        "--cname=start.example,news.example",
        "--txt-record=long.example," + ",".join(f"piece {n} of a long text {'x' * 140}" for n in range(12)),
        "--srv-host=_imap._tcp.example,mail.example,143,10,5",
        "--max-ttl=300",
        "--local-ttl=300",
    ]
    return command + [f"--host-record={host},{','.join(addresses)}" for host, addresses in HOSTS.items()]


def _listening(address: str, port: int) -> bool:
    table = "/proc/net/tcp6" if ":" in address else "/proc/net/tcp"
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    words = [packed[n : n + 4][::-1].hex().upper() for n in range(0, len(packed), 4)]
    wanted = f"{''.join(words)}:{port:04X}"
    return any(
        line.split()[1] == wanted and line.split()[3] == "0A" for line in Path(table).read_text().splitlines()[1:]
    )


def main(folder: Path) -> None:
    """Start everything, say so, end with standard input."""
    make_sites(folder)
    _certificate(folder, "news.example", "")
    _certificate(folder, "bank.example", "bank-")
    (folder / "nginx.conf").write_text(_NGINX_CONF.format(folder=folder, v4=NGINX_V4, v6=NGINX_V6))
    files = functools.partial(_Files, directory=str(folder / "files"))
    servers: list[_Server] = [_Server((APP_V4, 80), App), _Server6((APP_V6, 80), App), _Server((FILES_V4, 8080), files)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    tls = ["openssl", "s_server", "-www", "-quiet", "-cert", "bank-cert.pem", "-key", "bank-key.pem"]
    commands = [
        _dnsmasq(folder),
        [*tls, "-accept", f"{BANK_V4}:443", "-alpn", "http/1.1"],
        [*tls, "-accept", f"{OLD_V4}:443", "-tls1_2"],
    ]
    expected = [
        (BANK_V4, 443),
        (OLD_V4, 443),
        (DNS_V4, 53),
        (DNS_V6, 53),
        (NGINX_V4, 80),
        (NGINX_V6, 80),
        (NGINX_V4, 443),
    ]
    if shutil.which("nginx") is None:
        raise SystemExit("nginx is missing. Install it: apt-get install nginx-light")
    commands.append(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    log = (folder / "servers.log").open("wb")
    children = [
        subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) for command in commands
    ]
    try:
        deadline = time.monotonic() + 20
        while missing := [place for place in expected if not _listening(*place)]:
            if time.monotonic() > deadline:
                raise SystemExit(f"servers did not start: {missing}, see {folder}/servers.log")
            time.sleep(0.05)
        (folder / "ready").touch()
        sys.stdin.read()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(timeout=10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
