"""Where a box may send to: a new file, a unix socket, a TCP socket; opened for writing alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bunker.closed.egress.target import FileTarget, TcpTarget, UnixTarget, open_egress, parse_target
from bunker.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("out.env", FileTarget(path=Path("out.env"))),
        ("/a/b:c", FileTarget(path=Path("/a/b:c"))),
        ("file:host:9000", FileTarget(path=Path("host:9000"))),
        ("unix:/run/open.sock", UnixTarget(path="/run/open.sock")),
        ("192.0.2.1:9000", TcpTarget(host="192.0.2.1", port=9000)),
        ("open.example:1", TcpTarget(host="open.example", port=1)),
        ("[2001:db8::1]:65535", TcpTarget(host="2001:db8::1", port=65535)),
    ],
)
def test_targets_are_told_apart(text: str, target: object) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "host:0", "host:65536", "host:99999"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_target(text)


def test_a_file_is_new_private_and_for_writing_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.env"
    fd = open_egress(str(path))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(fd, 1)
    os.close(fd)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="exists already"):
        open_egress(str(path))
    with pytest.raises(ConfigurationError, match="cannot be made"):
        open_egress(str(tmp_path / "none" / "out.env"))


def test_a_socket_cannot_be_read(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        fd = open_egress(f"unix:{tmp_path / 's'}")
        peer, _ = listener.accept()
        with peer:
            with pytest.raises(BrokenPipeError):
                peer.send(b"command")
            os.write(fd, b"envelope")
            assert peer.recv(100) == b"envelope"
            assert os.read(fd, 100) == b""
        os.close(fd)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_tcp_connection_is_one_way(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        fd = open_egress(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        peer, _ = listener.accept()
        with peer:
            os.write(fd, b"envelope")
            assert peer.recv(100) == b"envelope"
        os.close(fd)


def test_nobody_at_the_other_end_is_said_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for target in (f"127.0.0.1:{port}", f"unix:{tmp_path / 'nobody'}"):
        with pytest.raises(ConfigurationError, match="Start bunker receive"):
            open_egress(target)
    with pytest.raises(ConfigurationError, match="no such host"):
        open_egress("nobody.invalid:9000")
