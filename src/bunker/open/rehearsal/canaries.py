"""Canaries: unique random values for every place of a capture, and the search for them in whatever came out.

    canaries = make_canaries("a seed")
    write_canary_capture(path, canaries)           # capture.py: a capture to trace
    assert search_tree(directory, canaries) == []  # nothing of them in any file or file name

Rules of this file:
1. A canary has one or more byte strings as they stand in the packets, the spellings a program would print, and numbers.
2. The search looks for all of them raw, reversed, hex (bare and with separators), base64 (three alignments, both
   alphabets), URL-encoded, UTF-16, decimal, as arpa name and EUI-64 identifier, in any letter case, inside gzip, zlib
   and zstd streams and Parquet columns.
3. It cannot see through encryption, raw deflate or a hash, and skips patterns of less than `shortest` bytes: noise
   holds those by chance, four bytes once in 4 GiB. So search small outputs with `shortest=4`, spools with 6.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import ipaddress
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WINDOW = 32 << 20
OVERLAP = 8192
MAX_INFLATED = 64 << 20
MAX_DEPTH = 3
CHANCE_DIGITS = 6
"""A decimal number of fewer digits stands in some pseudonym by chance; it counts if another run shows it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One planted value: `raws` as in packets, `texts` as a program prints it (lower case), `numbers` in decimal."""

    name: str
    raws: tuple[bytes, ...] = ()
    texts: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Where a canary was found. Holds no part of the value."""

    canary: str
    form: str
    where: str
    offset: int


TEXT_CANARIES = (
    "dns-query",
    "dns-text-answer",
    "url-path",
    "url-parameter",
    "host",
    "cookie",
    "set-cookie",
    "authorization",
    "user-agent",
    "referrer",
    "unknown-header",
    "request-body",
    "response-body-gzip",
    "response-body-chunked",
    "location",
    "tls-server-name",
    "icmp-payload",
    "udp-payload",
    "tcp-payload",
    "fragment-payload",
    "padding",
    "mail-user",
    "mail-password",
    "mail-from",
    "mail-to",
    "mail-subject",
    "mail-body",
    "pop3-user",
    "pop3-password",
    "pop3-from",
    "pop3-subject",
    "pop3-message-id",
    "pop3-file-name",
    "pop3-body",
    "imap-user",
    "imap-password",
    "imap-mailbox",
    "imap-from",
    "imap-subject",
    "imap-body",
    "ssh-software",
    "ssh-algorithm",
    "certificate-subject",
    "certificate-organisation",
    "certificate-mail",
    "certificate-issuer",
    "certificate-alternative",
    "dtls-server-name",
    "quic-server-name",
    "dhcp-host-name",
    "h2-host",
    "h2-path",
    "h2-cookie",
    "basic-user",
    "origin",
)
BINARY_CANARIES = {
    "tls-random": 32,
    "tls-session-id": 16,
    "ssh-cookie": 16,
    "certificate-key": 16,
    "certificate-serial": 15,
    "quic-connection-id": 12,
    "dhcp-client-id": 12,
}
OTHER_CANARIES = (
    "mac-orig",
    "mac-resp",
    "ipv4-orig",
    "ipv4-resp",
    "ipv6-orig",
    "ipv6-resp",
    "dns-answer-address",
    "forwarded-address",
    "dhcp-address",
    "ntp-reference",
    "port",
    "ip-id",
    "tcp-timestamp",
)


V4_CANARIES = ("ipv4-orig", "ipv4-resp", "dns-answer-address", "forwarded-address", "dhcp-address", "ntp-reference")


class Canaries:
    """All canaries of one seed; `values` are what the capture's builder plants, `all` what the search looks for."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self.values: dict[str, bytes] = {}
        found: list[Canary] = []
        for name in TEXT_CANARIES:
            text = "q" + base64.b32encode(self._draw(name, 10)).decode().lower()
            self.values[name] = text.encode()
            found.append(Canary(name=name, texts=(text,)))
        for name, length in BINARY_CANARIES.items():
            self.values[name] = self._draw(name, length)
            found.append(Canary(name=name, raws=(self.values[name], self.values[name][:12])))
        found += self._addresses()
        found += self._numbers()
        self.all = tuple(found)

    def _draw(self, name: str, length: int) -> bytes:
        return hashlib.shake_256(f"{self._seed}/{name}".encode()).digest(length)

    def _addresses(self) -> Iterator[Canary]:
        for name in ("mac-orig", "mac-resp"):
            mac = b"\x02" + self._draw(name, 5)
            self.values[name] = mac
            eui64 = bytes([mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]])  # as interface identifiers hold it
            yield Canary(name=name, raws=(mac, eui64), texts=(str(ipaddress.IPv6Address(bytes(8) + eui64))[2:],))
        for name in V4_CANARIES:  # raw they are sought with their neighbours too
            drawn = self._draw(name, 4)
            address = bytes([20 + drawn[0] % 100, drawn[1] | 1, drawn[2] | 1, 1 + drawn[3] % 250])
            self.values[name] = address
        orig, resp = self.values["ipv4-orig"], self.values["ipv4-resp"]
        beside: dict[str, tuple[bytes, ...]] = {
            "ipv4-orig": (orig + resp, resp + orig),
            "ipv4-resp": (orig + resp, resp + orig),
        }
        beside["dns-answer-address"] = (b"\x00\x04" + self.values["dns-answer-address"],)
        beside["forwarded-address"] = (b"\x01\x20\x00" + self.values["forwarded-address"],)
        beside["dhcp-address"] = (b"\x32\x04" + self.values["dhcp-address"],)
        beside["ntp-reference"] = (b"\x00\x01" + self.values["ntp-reference"],)
        for name, neighbours in beside.items():
            address = self.values[name]
            number = int.from_bytes(address, "big")
            yield Canary(
                name=name,
                raws=(address, b"\xff\xff" + address, *neighbours),
                texts=(".".join(map(str, address)), ".".join(map(str, address[::-1]))),
                numbers=(number, int.from_bytes(address, "little")),
            )
        for name in ("ipv6-orig", "ipv6-resp"):
            address = b"\x20\x01\x0d\xb8" + bytes(byte | 0x11 for byte in self._draw(name, 12))
            self.values[name] = address
            value = ipaddress.IPv6Address(address)
            texts = (str(value), value.exploded, value.reverse_pointer[:63])
            yield Canary(name=name, raws=(address, address[8:]), texts=texts, numbers=(int(value),))

    def _numbers(self) -> Iterator[Canary]:
        """Numbers of two and four bytes: raw they are sought with the header bytes around them."""
        drawn = self._draw("port", 2)
        port = 40_000 + int.from_bytes(drawn, "big") % 20_000
        self.values["port"] = struct.pack("!H", port)
        yield Canary(name="port", raws=(struct.pack("!HHI", port, 80, 1_000_000),), numbers=(port,))
        identification = self._draw("ip-id", 2)
        self.values["ip-id"] = identification
        yield Canary(name="ip-id", raws=(identification + b"\x40\x00\x40\x06",))
        stamp = struct.unpack("!I", self._draw("tcp-timestamp", 4))[0] | 0x81000000
        self.values["tcp-timestamp"] = struct.pack("!I", stamp)
        raw = b"\x08\x0a" + struct.pack("!I", stamp)
        yield Canary(name="tcp-timestamp", raws=(raw, struct.pack("!I", stamp)), numbers=(stamp,))

    def address(self, name: str) -> str:
        """An IPv4 canary as a program prints it."""
        return ".".join(map(str, self.values[name]))

    def text(self, name: str) -> str:
        """The value of a text canary."""
        return self.values[name].decode()


def make_canaries(seed: str) -> Canaries:
    """The canaries of a seed; another seed gives others."""
    return Canaries(seed)


def _base64_cores(value: bytes) -> Iterator[bytes]:
    """What is the same in base64 whatever stands around the value, at each of the three alignments."""
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + value + bytes(3))
        first, last = (0, 2, 3)[shift], (shift + len(value)) * 8 // 6
        core = encoded[first:last]
        yield core
        if (other := core.translate(bytes.maketrans(b"+/", b"-_"))) != core:
            yield other


def _forms(canary: Canary) -> Iterator[tuple[str, bytes, bool]]:
    """(form, pattern, letter case matters)."""
    for text in canary.texts:
        encoded = text.encode()
        yield "raw", encoded, False
        yield "reversed", encoded[::-1], False
        yield "utf-16-le", text.encode("utf-16-le"), False
        yield "utf-16-be", text.encode("utf-16-be"), False
    for value in (*canary.raws, *(text.encode() for text in canary.texts)):
        hexed = value.hex().encode()
        for separator in (b"", b":", b"-", b" "):
            yield "hex", separator.join(hexed[n : n + 2] for n in range(0, len(hexed), 2)), False
        yield "url-encoded", b"".join(b"%%%02x" % byte for byte in value), False
        yield "escaped", b"".join(b"\\x%02x" % byte for byte in value), False
        for between in (",", ", ", " "):
            yield "decimal-list", between.join(map(str, value)).encode(), True
        for core in _base64_cores(value):
            yield "base64", core, True
    for value in canary.raws:
        yield "raw", value, True
        yield "reversed", value[::-1], True
        url = "".join(chr(b) if chr(b).isalnum() and b < 128 else f"%{b:02x}" for b in value)
        yield "url-encoded", url.lower().encode(), False


class Search:
    """The patterns of all canaries, made once, used on many files.

    Args:
        shortest: Patterns of fewer bytes are left out, see rule 3 of this file.
    """

    def __init__(self, canaries: Canaries, *, shortest: int = 6) -> None:
        patterns = {(c.name, *form) for c in canaries.all for form in _forms(c) if len(form[1]) >= shortest}
        self._exact = sorted((name, form, value) for name, form, value, exact in patterns if exact)
        self._folded = sorted((name, form, value) for name, form, value, exact in patterns if not exact)
        self._decimals = [
            (c.name, str(n).encode(), re.compile(rb"(?<![\d.])" + str(n).encode() + rb"(?!\d)"))
            for c in canaries.all
            for n in c.numbers
        ]

    def spellings(self) -> Iterator[tuple[str, str]]:
        """(canary, form) of every pattern that is sought."""
        for patterns in (self._exact, self._folded):
            yield from ((name, form) for name, form, _ in patterns)
        yield from ((name, "decimal") for name, _, _ in self._decimals)

    def _plain(self, data: bytes, where: str, base: int) -> Iterator[Hit]:
        lowered = data.lower()
        for view, patterns in ((data, self._exact), (lowered, self._folded)):
            for name, form, value in patterns:
                at = view.find(value)
                if at >= 0:
                    yield Hit(canary=name, form=form, where=where, offset=base + at)
        for name, digits, pattern in self._decimals:
            if digits in data and (match := pattern.search(data)):
                yield Hit(canary=name, form="decimal", where=where, offset=base + match.start())

    def in_bytes(self, data: bytes, where: str = "", *, base: int = 0, depth: int = 0) -> list[Hit]:
        """First place of each canary in each form, also inside compressed streams."""
        if not data.strip(b"\0"):
            return []
        hits = list(self._plain(data, where, base))
        if depth < MAX_DEPTH:
            for form, at, inflated in _inflations(data):
                inside = f"{where}!{form}@{base + at}"
                hits += self.in_bytes(inflated, inside, depth=depth + 1)
            if data[:4] == b"PAR1" and depth == 0:
                hits += self.in_bytes(_parquet_cells(data), f"{where}!parquet", depth=depth + 1)
        return hits

    def in_file(self, path: Path, where: str) -> list[Hit]:
        """The same for a file of any size; a pattern across two windows is found."""
        hits: list[Hit] = []
        with path.open("rb") as file:
            base, kept = 0, b""
            while True:
                extent = _data_from(file.fileno(), base)
                if extent is None:
                    break
                start, end = extent
                if start > base:
                    base, kept = start, b""
                file.seek(base)
                window = file.read(min(WINDOW, end - base))
                if not window:
                    break
                hits += self.in_bytes(kept + window, where, base=base - len(kept))
                base += len(window)
                kept = window[-OVERLAP:]
        return list(dict.fromkeys(hits))

    def in_tree(self, root: Path) -> list[Hit]:
        """All regular files below `root` (or `root` itself), their contents and their names."""
        hits: list[Hit] = []
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix() if path != root else path.name
            hits += self.in_bytes(name.encode(errors="surrogateescape"), "file name")
            if path.is_file() and not path.is_symlink():
                hits += self.in_file(path, name)
        return hits


def may_be_chance(hit: Hit, canaries: Canaries) -> bool:
    """Whether a hit says nothing unless another run, with other keys, has one of the same canary."""
    numbers = next(canary.numbers for canary in canaries.all if canary.name == hit.canary)
    return hit.form == "decimal" and any(len(str(number)) < CHANCE_DIGITS for number in numbers)


def _data_from(fd: int, offset: int) -> tuple[int, int] | None:
    """Where the next bytes stand that are not of a hole, and where they end; None: there are none. The image of a disk
    is mostly holes."""
    try:
        start = max(os.lseek(fd, offset, os.SEEK_DATA), offset)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        return None if error.errno == errno.ENXIO else (offset, offset + WINDOW)


def search(data: bytes, canaries: Canaries, *, shortest: int = 4) -> list[Hit]:
    """Canaries in bytes; empty if there is nothing of them."""
    return Search(canaries, shortest=shortest).in_bytes(data)


def search_tree(root: Path, canaries: Canaries, *, shortest: int = 6) -> list[Hit]:
    """Canaries in all files and file names below `root`; empty if there is nothing of them."""
    return Search(canaries, shortest=shortest).in_tree(root)


def _inflations(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """What compressed streams anywhere in `data` hold, as far as it can be read."""
    view = memoryview(data)
    for match in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", data):
        form, bits = ("gzip", 31) if match[0][0] == 0x1F else ("zlib", 15)
        try:
            inflated = zlib.decompressobj(bits).decompress(view[match.start() :], MAX_INFLATED)
        except zlib.error:
            continue
        if inflated:
            yield form, match.start(), inflated
    for match in re.finditer(rb"\x28\xb5\x2f\xfd", data):
        if inflated := _zstd(view[match.start() :]):
            yield "zstd", match.start(), inflated


def _zstd(data: memoryview) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - the builder's users need no Arrow

    pieces: list[bytes] = []
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            while sum(map(len, pieces)) < MAX_INFLATED and (piece := stream.read(1 << 20)):
                pieces.append(piece)
    except (OSError, pa.ArrowException):
        pass  # what was read before the damage, or before the data behind the frame, counts
    return b"".join(pieces)


def _parquet_cells(data: bytes) -> bytes:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        columns = pq.read_table(pa.BufferReader(data)).columns
    except (OSError, pa.ArrowException):
        return b""
    cells: list[bytes] = []
    for column in columns:
        coarser = pa.types.is_duration(column.type) or pa.types.is_timestamp(column.type)  # than ns: Python's own types
        for cell in (column.cast(pa.int64()) if coarser else column).to_pylist():
            for value in cell if isinstance(cell, list) else [cell]:
                cells.append(value if isinstance(value, bytes) else str(value).encode())
    return b"\n".join(cells)
