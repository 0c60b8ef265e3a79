"""What the clients of the example traffic do, in the order they do it.

Run by `make_pcaps.py` inside its client namespace (`python scenes.py FOLDER`). Writes `FOLDER/ledger.json`.
"""

from __future__ import annotations

import concurrent.futures
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import servers
from clients import CLIENTS_V4, CLIENTS_V6, Session, curl, dig, openssl_tls, ping, pipeline, python_tls, wget
from ledger import Ledger

CLOSED_PORT = 81
FORM = "application/x-www-form-urlencoded"


def browse(ledger: Ledger, client: str, number: int) -> None:
    """Reads the news over one connection."""
    server = servers.NGINX_V6 if ":" in client else servers.NGINX_V4
    session = Session(ledger, client, "www.news.example" if number % 3 == 0 else "news.example", server)
    gzip = number % 2 == 0
    session.do("GET", "/", gzip=gzip)
    start = "http://news.example/"
    style = session.do("GET", "/style.css", gzip=gzip, referrer=start)
    session.do("GET", "/site.js", gzip=gzip, referrer=start)
    session.do("GET", "/logo.png", referrer=start)
    for article in range(1, 3 + number % 4):
        session.do("GET", f"/articles/{article}.html", gzip=gzip, referrer=start)
        session.do("GET", "/style.css", referrer=start, If_None_Match=style.headers["ETag"])
    session.do("GET", f"/search?q=packets+{number}&page=1", referrer=start)
    session.do("HEAD", "/logo.png")
    if number % 2:
        session.do("GET", "/old/page")
        session.do("GET", "/private/x")
    session.close()


def read_mail(ledger: Ledger, client: str, number: int) -> None:
    """Logs in through a form, reads and writes mail."""
    server = servers.APP_V6 if ":" in client else servers.APP_V4
    session = Session(ledger, client, "mail.example", server)
    session.do("GET", "/")
    session.do("POST", "/login", body=f"user=user{number}&password=secret{number}".encode(), Content_Type=FORM)
    session.do("GET", "/inbox", referrer="http://mail.example/login")
    session.do("GET", "/packed", gzip=True)
    session.do(
        "POST", "/send", body=f"to=friend{number}@example&subject=hello&text=see+you".encode(), Content_Type=FORM
    )
    session.do("GET", "/inbox")
    session.do("GET", "/packed-stream", gzip=True)
    session.do("GET", "/same", If_None_Match='"abc"')
    session.close()


def use_forum(ledger: Ledger, folder: Path, client: str, number: int) -> None:
    """curl with forms, uploads, redirects, a proxy that is none."""
    host = "forum.example"
    curl(ledger, folder, client, host, ["/", "/stream", "/inbox", "/missing"])
    text = f"thread={number}&text=first+post"
    curl(ledger, folder, client, host, ["/post"], "--data", text, request_body_len=len(text))
    curl(ledger, folder, client, host, ["/stream"], "--head")
    curl(ledger, folder, client, host, ["/until-close"])
    curl(ledger, folder, client, host, ["/packed"], "--compressed")
    document = b'{"title": "a document"}'
    upload = folder / f"upload-{number}"
    upload.write_bytes(document)
    length = len(document)
    curl(ledger, folder, client, host, ["/docs/1"], "--upload-file", str(upload), request_body_len=length)
    curl(ledger, folder, client, host, ["/docs/1"], "--request", "DELETE")
    json_ = ("--header", "Content-Type: application/json", "--data-binary", f"@{upload}")
    curl(
        ledger,
        folder,
        client,
        host,
        ["/api/items"],
        *json_,
        "--header",
        "Expect: 100-continue",
        request_body_len=length,
    )
    curl(
        ledger,
        folder,
        client,
        host,
        ["/api/items"],
        *json_,
        "--header",
        "Transfer-Encoding: chunked",
        request_body_len=length,
    )
    curl(ledger, folder, client, host, ["/moved"], "--cookie", "seen=1", cookie=True)
    upload.unlink()


def shop(ledger: Ledger, folder: Path, client: str, number: int) -> None:
    """Looks, puts something into the cart, buys through a form."""
    host = "shop.example"
    curl(ledger, folder, client, host, ["/", "/catalogue.pdf", "/cart"] if number % 3 == 0 else ["/", "/cart"])
    form = f"item=17&card=0000&name=user{number}"
    curl(
        ledger,
        folder,
        client,
        host,
        ["/buy"],
        "--data",
        form,
        "--cookie",
        "cart=3f9a61",
        request_body_len=len(form),
        cookie=True,
    )
    curl(
        ledger,
        folder,
        client,
        host,
        ["/thanks.html"],
        "--referer",
        "http://shop.example/buy",
        referrer="http://shop.example/buy",
    )


def odd_ends(ledger: Ledger, folder: Path, client: str) -> None:
    """What happens once: pipelining, large bodies, other methods, refused connections."""
    pipeline(ledger, client, "news.example", servers.NGINX_V4, [f"/articles/{n}.html" for n in (1, 2, 3, 4, 5)])
    pipeline(ledger, client, "forum.example", servers.APP_V4, ["/stream", "/missing", "/inbox"])
    pipeline(ledger, CLIENTS_V6[0], "news.example", servers.NGINX_V6, ["/", "/logo.png", "/none"])
    session = Session(ledger, client, "forum.example", servers.APP_V4)
    session.do("OPTIONS", "/")
    session.do("GET", "/large")
    session.do("POST", "/upload", body=(servers.TEXT.encode() for _ in range(4)), Transfer_Encoding="chunked")
    session.do("PUT", "/docs/2", body=servers.noise("document", 3000))
    session.do("GET", "/broken")
    session.do("GET", "/until-close")
    session.close()
    session = Session(ledger, CLIENTS_V6[1], "forum.example", servers.APP_V6)
    session.do("GET", "/large")
    session.close()
    for host, uris in (("files.example", ["/readme.txt", "/reports/q3.csv", "/reports/none.csv"]),):
        wget(ledger, client, host, 8080, uris, keep_alive=False)
    wget(ledger, client, "news.example", 80, ["/style.css", "/logo.png"], keep_alive=True)
    session = Session(ledger, client, "files.example", servers.FILES_V4, 8080)
    session.do("GET", "/reports/")
    session.close()
    refused = socket.socket()
    refused.bind((client, 0))
    number = ledger.connection(client, refused.getsockname()[1], servers.FILES_V4, CLOSED_PORT, "refused")
    assert number >= 0 and refused.connect_ex((servers.FILES_V4, CLOSED_PORT)) != 0
    refused.close()
    curl(
        ledger,
        folder,
        client,
        "forum.example",
        ["/upload"],
        "--form",
        "file=@/dev/null;filename=a.txt",
        "--form",
        "note=hi",
        request_body_len=None,
    )


def resolve(ledger: Ledger, client: str, number: int) -> None:
    """Questions of all kinds; the system's resolver asks too."""
    dig(ledger, client, "news.example", "A")
    dig(ledger, client, "news.example", "AAAA")
    dig(ledger, client, "start.example", "A")
    dig(ledger, client, f"nobody{number}.example", "A")
    dig(ledger, client, servers.NGINX_V4, "PTR", reverse=True)
    if number % 2 == 0:
        dig(ledger, client, "news.example", "MX")
        dig(ledger, client, "news.example", "TXT")
        dig(ledger, client, "_imap._tcp.example", "SRV")
        dig(ledger, client, servers.NGINX_V6, "PTR", reverse=True)
        dig(ledger, client, "shop.example", "AAAA")
    if number % 4 == 0:
        dig(ledger, client, "long.example", "TXT")
        dig(ledger, client, "mail.example", "A", "+tcp")
        dig(ledger, client, "outside.invalid", "A")
        for host in servers.HOSTS:
            socket.getaddrinfo(host, 80)


def handshakes(ledger: Ledger, folder: Path, client: str, number: int) -> None:
    """TLS of both versions, with and without names, resumed and refused."""
    v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    python_tls(ledger, client, "news.example", servers.NGINX_V4, ["h2", "http/1.1"], v13)
    python_tls(ledger, client, "www.news.example", servers.NGINX_V4, ["http/1.1"], v12 if number % 2 else v13)
    openssl_tls(ledger, client, servers.BANK_V4, "bank.example", "-alpn", "http/1.1")
    if number % 3 == 0:
        kept = folder / f"session-{number}"
        openssl_tls(ledger, client, servers.OLD_V4, "old.example", "-tls1_2", "-sess_out", str(kept))
        openssl_tls(ledger, client, servers.OLD_V4, "old.example", "-tls1_2", "-sess_in", str(kept))
        openssl_tls(ledger, client, servers.OLD_V4, "old.example", "-tls1_3")
        openssl_tls(ledger, client, servers.BANK_V4, None)


def main(folder: Path) -> None:
    """Let all clients act, a few at the same time, then write the ledger."""
    ledger = Ledger()
    jobs: list[tuple[Any, ...]] = []
    for number, client in enumerate((*CLIENTS_V4, *CLIENTS_V6)):
        jobs += [(browse, ledger, client, number), (read_mail, ledger, client, number)]
        if ":" not in client:
            jobs += [(shop, ledger, folder, client, number), (handshakes, ledger, folder, client, number)]
        if number % 2 == 0:
            jobs.append((use_forum, ledger, folder, client, number))
        jobs += [(resolve, ledger, client, number)]
    jobs.append((odd_ends, ledger, folder, CLIENTS_V4[3]))
    jobs += [(ping, ledger, CLIENTS_V4[0], servers.NGINX_V4, 3), (ping, ledger, CLIENTS_V6[0], servers.NGINX_V6, 3)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(*job) for job in jobs]:
            future.result()
    ledger.write(folder / "ledger.json", dns_log=folder / "dns.log")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
