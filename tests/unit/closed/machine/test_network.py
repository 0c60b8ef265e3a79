"""Interfaces are told apart, and the firewall says what it should (nft itself is asked, in a namespace)."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

import msgspec
import pytest

from bunker.closed.egress.target import open_egress
from bunker.closed.machine.network import asked_to_end, close_link, ruleset, sort_out
from bunker.closed.machine.orders import Way
from bunker.errors import BoxError

WAY = Way(mac="02:62:75:6e:6b:01", address="10.0.2.15", prefix=24, target="10.0.2.100", port=9000)
OTHER = "02:62:75:6e:6b:02"


def test_the_link_is_the_named_one_and_the_rest_captures() -> None:
    assert sort_out({"eth0": OTHER, "eth1": WAY.mac}, WAY) == ("eth1", "eth0")
    assert sort_out({"eth0": WAY.mac}, WAY) == ("eth0", None)


@pytest.mark.parametrize("found", [{}, {"eth0": OTHER}, {"eth0": WAY.mac, "eth1": OTHER, "eth2": OTHER}])
def test_any_other_set_of_interfaces_stops_the_start(found: dict[str, str]) -> None:
    with pytest.raises(BoxError):
        sort_out(found, WAY)


def test_of_many_interfaces_the_named_one_captures() -> None:
    third = "02:62:75:6e:6b:03"
    found = {"eth0": third, "eth1": WAY.mac, "eth2": OTHER, "eth3": "02:62:75:6e:6b:04"}
    assert sort_out(found, msgspec.structs.replace(WAY, capture=third)) == ("eth1", "eth0")
    for wrong in ("02:62:75:6e:6b:05", WAY.mac):
        with pytest.raises(BoxError, match="0 to capture from"):
            sort_out(found, msgspec.structs.replace(WAY, capture=wrong))
    with pytest.raises(BoxError, match="2 to capture from"):
        sort_out({**found, "eth4": third}, msgspec.structs.replace(WAY, capture=third))


def test_every_chain_drops_what_it_does_not_name() -> None:
    rules = ruleset("eth0", "eth1", WAY)
    assert rules.count("policy drop") == 7
    assert rules.count("accept") == 4
    assert "policy accept" not in rules


@pytest.mark.root
def test_the_firewall_lets_one_connection_out_and_nothing_in() -> None:
    """In a namespace of its own: nft takes the rules, the kernel shows them."""
    name = f"image-nft-{os.getpid()}"
    words = ["ip", "netns", "exec", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run([*words, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"], check=True)
        rules = ruleset("eth0", "eth1", WAY).encode()
        subprocess.run([*words, "/usr/sbin/nft", "-f", "-"], input=rules, check=True)
        shown = subprocess.run([*words, "/usr/sbin/nft", "list", "ruleset"], check=True, capture_output=True).stdout
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
    for chain in (b"hook ingress device", b"hook egress device", b"hook input", b"hook output", b"hook forward"):
        assert chain in shown
    assert b"ip daddr 10.0.2.100 tcp dport 9000 accept" in shown
    assert shown.count(b"policy drop") == 7


def _linked() -> tuple[socket.socket, socket.socket]:
    """(the machine's end, opened as it opens it; the open box's)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = socket.socket(fileno=open_egress("{}:{}".format(*listener.getsockname())))
        return link, listener.accept()[0]


def test_a_byte_of_the_open_box_is_seen_and_not_read() -> None:
    link, open_box = _linked()
    with link, open_box:
        link.sendall(b"statement")
        assert not asked_to_end(link)
        open_box.sendall(b"x")
        while not asked_to_end(link):
            pass
        # It still waits in the kernel.
        assert link.recv(10, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"x"


@pytest.mark.parametrize("said", [b"", b"x", bytes(100_000)], ids=["nothing", "a-byte", "a-flood"])
def test_what_was_sent_arrives_whatever_the_open_box_said(said: bytes) -> None:
    link, open_box = _linked()
    content = os.urandom(4 << 20)
    with open_box:
        writer = threading.Thread(target=lambda: (link.sendall(content), close_link(link, timeout_s=20)))
        open_box.sendall(said)
        writer.start()
        got = b""
        while piece := open_box.recv(1 << 16):
            got += piece
        writer.join()
    assert got == content


def test_without_that_care_a_byte_would_cost_what_was_sent() -> None:
    """The control: closed with an unread byte, the connection is reset."""
    link, open_box = _linked()
    with open_box:
        link.sendall(bytes(1 << 20))
        open_box.sendall(b"x")
        while not asked_to_end(link):
            pass
        link.close()
        with pytest.raises(ConnectionResetError):
            while open_box.recv(1 << 16):
                pass
