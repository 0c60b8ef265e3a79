"""Opens the egress descriptor at set-up, outside the jail; the box keeps the descriptor and cannot open another.

Rules of this file:
1. A file is new and opened for writing alone; an existing one is never touched.
2. A socket's reading half is shut down before anything is written.
3. Addresses of the open box stand in messages: the operator typed them, they are not traffic.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from bunker.closed.egress.outlet import shut_reading
from bunker.errors import ConfigurationError

_CONNECT_S = 10
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTarget:
    """A new file."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixTarget:
    """A listening unix socket."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpTarget:
    """A listening TCP socket."""

    host: str
    port: int


Target = FileTarget | UnixTarget | TcpTarget


def parse_target(text: str) -> Target:
    """`unix:PATH`, `HOST:PORT` (`[::1]:9000` for IPv6), or else the path of a file; `file:PATH` is always a file.

    Raises:
        ConfigurationError: an empty text or a port out of range.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "unix" and rest:
        return UnixTarget(path=rest)
    if scheme == "file" and rest:
        return FileTarget(path=Path(rest))
    match = _HOST_PORT.fullmatch(text)
    if match:
        port = int(match["port"])
        if not 0 < port < 65536:
            raise ConfigurationError(f"target {text}", "the port is out of range", "Use 1 to 65535")
        return TcpTarget(host=match["v6"] or match["host"], port=port)
    if not text:
        raise ConfigurationError("target", "is empty", "Give a file, unix:PATH or HOST:PORT")
    return FileTarget(path=Path(text))


def open_egress(target: str) -> int:
    """A descriptor that can be written and not read.

    Raises:
        ConfigurationError: it cannot be opened; says why and what helps.
    """
    match parse_target(target):
        case FileTarget(path=path):
            try:
                return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                raise ConfigurationError(f"target {path}", "exists already", "Remove it or give another") from None
            except OSError as error:
                raise ConfigurationError(f"target {path}", f"cannot be made ({error.strerror})", "Check it") from None
        case UnixTarget(path=name):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            return _connected(end, name, f"target unix:{name}")
        case TcpTarget(host=host, port=port):
            return _tcp(host, port)


def _tcp(host: str, port: int) -> int:
    thing = f"target {host}:{port}"
    try:
        choices = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(thing, f"no such host ({error.strerror})", "Check the name") from None
    refused: ConfigurationError | None = None
    for family, kind, protocol, _, address in choices:
        try:
            return _connected(socket.socket(family, kind, protocol), address, thing)
        except ConfigurationError as error:
            refused = error
    assert refused is not None
    raise refused


def _connected(end: socket.socket, address: object, thing: str) -> int:
    with end:
        end.settimeout(_CONNECT_S)
        try:
            end.connect(address)  # type: ignore[arg-type]  # getaddrinfo's answer fits the family it came with
        except OSError as error:
            cause = error.strerror or "timed out"
            raise ConfigurationError(
                thing, f"does not answer ({cause})", "Start bunker receive there first, and check the address"
            ) from None
        end.settimeout(None)
        fd = end.detach()
    shut_reading(fd)
    return fd
