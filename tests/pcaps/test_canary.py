"""The canary capture is valid and holds each canary; the search finds each form, and nothing where nothing is."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import shutil
import struct
import subprocess
import urllib.parse
import zlib
from collections.abc import Callable
from pathlib import Path

import canary
import canary_capture
import packets
import pcapfile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bunker.open.rehearsal import canaries

CANARIES = canary.make_canaries("test")
OTHERS = canary.make_canaries("another test")
TOKEN = CANARIES.values["cookie"]
ADDRESS = CANARIES.values["ipv4-orig"]
NOISE = hashlib.shake_256(b"noise").digest(4 << 20)


def found(data: bytes) -> set[tuple[str, str]]:
    return {(hit.canary, hit.form) for hit in canary.search(data, CANARIES)}


def test_capture_holds_each_canary(tmp_path: Path) -> None:
    path = tmp_path / "canaries.pcap"
    count = canary_capture.write_canary_capture(path, CANARIES)
    assert count == len(list(pcapfile.read_packets(path))) > 40
    assert {hit.canary for hit in canary.search_tree(path, CANARIES)} == {c.name for c in CANARIES.all}
    assert len(CANARIES.all) >= 16


def test_another_seed_finds_nothing_in_it(tmp_path: Path) -> None:
    path = tmp_path / "canaries.pcap"
    canary_capture.write_canary_capture(path, CANARIES)
    assert canary.search_tree(path, OTHERS) == []


def test_nothing_is_found_in_noise() -> None:
    assert canary.Search(CANARIES).in_bytes(NOISE) == []


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "upper": bytes.upper,
    "hex": lambda v: v.hex().encode(),
    "HEX": lambda v: v.hex().upper().encode(),
    "colons": lambda v: v.hex(":").encode(),
    "reversed": lambda v: v[::-1],
    "base64-0": base64.b64encode,
    "base64-1": lambda v: base64.b64encode(b"x" + v + b"yz"),
    "base64-2": lambda v: base64.urlsafe_b64encode(b"\xff\xfe" + v + b"y"),
    "url": lambda v: "".join(f"%{byte:02X}" for byte in v).encode(),
    "utf-16": lambda v: v.decode("latin-1").encode("utf-16-le"),
    "decimal-list": lambda v: repr(list(v)).encode(),
    "escaped": lambda v: "".join(f"\\x{byte:02x}" for byte in v).encode(),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "gzip twice": lambda v: gzip.compress(b"a" + gzip.compress(v)),
    "base64 in gzip": lambda v: gzip.compress(base64.b64encode(b"x" + v)),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("around", [(b"", b""), (b"before", b"behind"), (NOISE[:999], NOISE[999:2000])])
def test_each_form_of_a_text_is_found(encoding: str, around: tuple[bytes, bytes]) -> None:
    hits = found(around[0] + ENCODINGS[encoding](TOKEN) + around[1])
    assert {name for name, _ in hits} == {"cookie"}


@pytest.mark.parametrize(
    "name", ["tls-random", "mac-orig", "ipv4-orig", "ipv6-resp", "tls-session-id", "tcp-timestamp"]
)
@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e not in ("upper", "utf-16")])
def test_each_form_of_bytes_is_found(name: str, encoding: str) -> None:
    assert name in {hit for hit, _ in found(b"<" + ENCODINGS[encoding](CANARIES.values[name]) + b">")}


def test_percent_encoding_that_keeps_letters_is_found() -> None:
    value = CANARIES.values["tls-session-id"]
    assert ("tls-session-id", "url-encoded") in found(urllib.parse.quote_from_bytes(value, safe="").encode())


@pytest.mark.parametrize(
    "text",
    [
        ".".join(map(str, ADDRESS)),
        str(int.from_bytes(ADDRESS, "big")),
        str(int.from_bytes(ADDRESS, "little")),
        "::ffff:" + ".".join(map(str, ADDRESS)),
        ".".join(map(str, ADDRESS[::-1])) + ".in-addr.arpa",
    ],
)
def test_each_spelling_of_an_address_is_found(text: str) -> None:
    assert "ipv4-orig" in {name for name, _ in found(f"[{text}]".encode())}


def test_a_port_is_found_as_a_number_of_its_own_only() -> None:
    port = int.from_bytes(CANARIES.values["port"], "big")
    assert ("port", "decimal") in found(f"client,{port},80".encode())
    assert not found(f"1{port}".encode()) and not found(f"{port}1".encode())


def test_a_form_cut_by_one_byte_is_not_found() -> None:
    assert not found(TOKEN[1:]) and not found(TOKEN[:-1]) and not found(TOKEN.hex()[2:].encode())


def test_short_patterns_are_left_out_unless_asked_for() -> None:
    assert not canary.Search(CANARIES, shortest=6).in_bytes(b"<" + ADDRESS + b">")
    assert canary.Search(CANARIES, shortest=4).in_bytes(b"<" + ADDRESS + b">")


def test_the_search_sees_parquet_cells_and_zstd(tmp_path: Path) -> None:
    port = int.from_bytes(CANARIES.values["port"], "big")
    table = pa.table({"name": ["a", TOKEN.decode()], "port": pa.array([1, port], pa.uint16()), "list": [["x"], ["y"]]})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    assert {hit.canary for hit in canary.search_tree(tmp_path, CANARIES)} == {"cookie", "port"}
    (tmp_path / "t.parquet").write_bytes(b"ab" + pa.compress(b"x" * 99 + TOKEN, "zstd", asbytes=True))
    assert {hit.canary for hit in canary.search_tree(tmp_path, CANARIES)} == {"cookie"}


def test_file_names_and_window_borders_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"log-{TOKEN.decode()}.txt").write_bytes(b"empty")
    hits = canary.search_tree(tmp_path, CANARIES)
    assert {(hit.canary, hit.where) for hit in hits} == {("cookie", "file name")}
    monkeypatch.setattr(canaries, "WINDOW", 1 << 14)
    for cut in (1, len(TOKEN) // 2, len(TOKEN) - 1):
        content = bytes((1 << 14) - cut) + TOKEN + bytes(100)
        path = tmp_path / "file"
        path.write_bytes(content)
        assert {hit.offset for hit in canary.search_tree(path, CANARIES) if hit.form == "raw"} == {(1 << 14) - cut}


def test_holes_are_skipped_and_what_follows_them_is_found(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        for place in (0, 3 << 30, 5 << 30):
            file.seek(place)
            file.write(bytes(10) + TOKEN)
        file.truncate(9 << 30)
    raw = sorted(hit.offset for hit in canary.search_tree(path, CANARIES) if hit.form == "raw")
    assert raw == [10, (3 << 30) + 10, (5 << 30) + 10]


def test_a_hit_prints_nothing_of_the_value() -> None:
    hits = canary.search(b"-" + TOKEN, CANARIES)
    assert hits and TOKEN.decode() not in repr(hits)


def test_what_the_search_cannot_see_is_known() -> None:
    assert not found(bz2.compress(TOKEN)) and not found(hashlib.sha256(TOKEN).hexdigest().encode())


def test_checksums_of_the_builder_are_right() -> None:
    for packet in canary_capture.canary_packets(CANARIES):
        if packet[12:14] == b"\x08\x00":
            assert packets.checksum(packet[14 : 14 + (packet[14] & 15) * 4]) == 0
            total = struct.unpack_from("!H", packet, 16)[0]
            if packet[23] == 6:
                segment = packet[34 : 14 + total]
                pseudo = packet[26:34] + struct.pack("!BBH", 0, 6, len(segment))
                assert packets.checksum(pseudo + segment) == 0


@pytest.mark.skipif(shutil.which("tshark") is None, reason="an oracle for the builder, where it is installed")
def test_tshark_finds_the_messages_and_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "canaries.pcap"
    canary_capture.write_canary_capture(path, CANARIES, copies=2)
    checks = ["-o", "tcp.check_checksum:true", "-o", "udp.check_checksum:true", "-o", "ip.check_checksum:true"]

    def count(expression: str) -> int:
        command = ["tshark", "-r", str(path), *checks, "-Y", expression]
        return len(subprocess.run(command, capture_output=True, check=True).stdout.splitlines())

    assert count("_ws.malformed || tcp.checksum.status==0 || udp.checksum.status==0 || ip.checksum.status==0") == 0
    assert count("icmpv6.checksum.status==0 || icmp.checksum.status==0") == 0
    assert count("http.request") == 6 and count("http.response") == 6 and count("http2") == 2
    assert count("tls.handshake.type==11") == 2 and count("dtls") == 2 and count("quic") == 2 and count("ssh") == 6
    assert count("pop") == 18 and count("imap") == 18 and count("dhcp") == 2 and count("ntp") == 2
    assert count("dns") == 10 and count("icmp || icmpv6") == 20
    assert count("ip.fragments") == 2
