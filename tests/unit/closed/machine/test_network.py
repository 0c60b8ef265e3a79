"""Interfaces are told apart, and the firewall says what it should (nft itself is asked, in a namespace)."""

from __future__ import annotations

import os
import subprocess

import pytest

from bunker.closed.machine.network import ruleset, sort_out
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
