"""The status page and the metrics of a receiver, made from verified statements and nothing else.

Place in the flow: Receiver.views ▶ here ▶ a browser, Prometheus.

Rules of this file:
1. Only GET of three paths; the request's body and headers are not looked at, and nothing of the request is repeated.
2. Text is made of numbers, enum words and names that the grammar of a start statement allows; it is escaped even so.
"""

from __future__ import annotations

import html
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from bunker.errors import ConfigurationError
from bunker.model.counters import Counter
from bunker.open.receive import RunView
from bunker.open.verdict import Word, at
from bunker.open.watch import line_of, progress_of

Views = Callable[[], list[RunView]]
_REQUEST_S = 10
_STATEMENT_NUMBERS = ("live_raw_bytes", "oldest_raw_age_ns", "keys_created", "keys_destroyed")


def metrics(views: Iterable[RunView]) -> str:
    """Prometheus' text format, version 0.0.4."""
    runs = list(views)
    lines: list[str] = []

    def family(name: str, kind: str, text: str, values: Iterable[tuple[str, float]]) -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(f"{name}{{{labels}}} {value:.17g}" for labels, value in values)

    family("bunker_silence_seconds", "gauge", "Since the receiver heard of the run.", _each(runs, lambda v: v.heard_s))
    family("bunker_attested_envelopes", "counter", "Covered by signatures.", _each(runs, lambda v: v.verdict.attested))
    family(
        "bunker_verdict",
        "gauge",
        "1 for the word that holds now; truncated while more is to come.",
        [(f'run="{v.run}",word="{word.value}"', float(v.verdict.word is word)) for v in runs for word in Word],
    )
    family(
        "bunker_rows",
        "counter",
        "Attested rows by record.",
        [(f'run="{v.run}",record="{record}"', rows) for v in runs for record, rows in sorted(v.verdict.rows.items())],
    )
    for counter in Counter:
        meaning = counter.meaning
        values = [(f'run="{v.run}"', v.last.counters.get(counter.value, 0)) for v in runs if v.last is not None]
        family(
            f"bunker_{counter.value}",
            "counter" if meaning.grows else "gauge",
            f"{meaning.unit}: {meaning.text}",
            values,
        )
    return "\n".join(lines) + "\n"


def _each(runs: list[RunView], value: Callable[[RunView], float]) -> list[tuple[str, float]]:
    return [(f'run="{view.run}"', value(view)) for view in runs]


def page(views: Iterable[RunView]) -> str:
    """The status page: one static HTML page that reloads itself."""
    rows = "".join(_section(view) for view in views) or "<p>No run has been heard of.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        "<title>Bunker: receiver</title><style>"
        "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td{padding:.1em 1em .1em 0;vertical-align:top}"
        "h2{font-size:1.1em;margin-top:2em}</style></head>"
        f"<body><h1>Bunker receiver</h1>{rows}</body></html>\n"
    )


def _section(view: RunView) -> str:
    facts = {
        "verdict so far": _so_far(view),
        "key": view.verdict.fingerprint or "",
        "key pinned": "yes" if view.verdict.pinned else "no",
        "box": view.start.tier.value,
        "bundle": view.start.bundle,
        "started": at(view.start.started_ns),
        "heard": f"{view.heard_s:.0f} s ago",
        "attested": f"{view.verdict.attested} envelopes",
    }
    if view.last is not None:
        facts["last heartbeat"] = at(view.last.now_ns)
        facts["progress"] = line_of(progress_of(view.last, None))
        facts |= {name: str(getattr(view.last, name)) for name in _STATEMENT_NUMBERS}
    facts |= {f"rows of {record}": str(rows) for record, rows in sorted(view.verdict.rows.items())}
    facts |= {f"note {number}": note for number, note in enumerate(view.verdict.warnings, start=1)}
    if view.failure is not None:
        facts["failure"] = view.failure
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts.items()
    )
    return f"<h2>run {html.escape(view.run)}</h2><table>{body}</table>"


def _so_far(view: RunView) -> str:
    return "receiving" if view.verdict.word is Word.TRUNCATED else view.verdict.word.value


def status_json(views: Iterable[RunView]) -> bytes:
    """The same for programs."""
    return msgspec.json.encode(
        [
            {
                "run": view.run,
                "verdict": _so_far(view),
                "findings": [str(finding) for finding in view.verdict.findings if finding.word is not Word.TRUNCATED],
                "fingerprint": view.verdict.fingerprint,
                "pinned": view.verdict.pinned,
                "tier": view.start.tier.value,
                "bundle": view.start.bundle,
                "heard_s": round(view.heard_s, 1),
                "attested": view.verdict.attested,
                "rows": view.verdict.rows,
                "last": view.last,
                "failure": view.failure,
            }
            for view in views
        ],
        order="sorted",
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no event."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # passed on as it came


class _Server6(_Server):
    address_family = socket.AF_INET6


class StatusServer:
    """Serves the page until it is closed.

    Raises:
        ConfigurationError: the address cannot be had.
    """

    def __init__(self, address: str, views: Views) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ConfigurationError(f"status address {address}", "is none", "Write PORT, :PORT or HOST:PORT")
        kind = _Server6 if ":" in host.strip("[]") else _Server
        try:
            self._server = kind((host.strip("[]") or "127.0.0.1", int(port)), _handler(views))
        except OSError as error:
            raise ConfigurationError(
                f"status address {address}", f"cannot be had ({error.strerror})", "Choose another port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if self._server.address_family == socket.AF_INET6 else f"{host!s}"
        return f"http://{shown}:{port}/"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(views: Views) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S
        server_version = "bunker"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path == "/":
                self._answer("text/html; charset=utf-8", page(views()).encode())
            elif self.path == "/metrics":
                self._answer("text/plain; version=0.0.4; charset=utf-8", metrics(views()).encode())
            elif self.path == "/status.json":
                self._answer("application/json", status_json(views()))
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    return Handler
