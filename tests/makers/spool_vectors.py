"""Makes docs/formats/spool-vectors.json from docs/formats/spool.md alone: nothing of the program is used here.

python tests/makers/spool_vectors.py > docs/formats/spool-vectors.json
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RUN = bytes(range(0x10, 0x20))
NAMES = (
    "number",
    "lane",
    "format",
    "file",
    "lap",
    "slot",
    "length",
    "packet_count",
    "status",
    "first_ts_ns",
    "last_ts_ns",
    "dropped",
    "captured",
)
SLOT_BYTES = 8192
CASES: dict[str, dict[str, int]] = {
    "empty": {"format": 2, "lap": 1},
    "one byte": {"format": 2, "lap": 1, "length": 1, "packet_count": 1, "first_ts_ns": 1_700_000_000_000_000_000},
    "a page with its tag": {
        "number": 2,
        "format": 1,
        "lap": 1,
        "slot": 1,
        "length": 4080,
        "packet_count": 3,
        "status": 0x20000001,
        "first_ts_ns": 1_700_000_000_000_000_000,
        "last_ts_ns": 1_700_000_000_999_999_999,
        "captured": 4,
    },
    "a byte more, after a gap": {
        "number": 3,
        "format": 2,
        "file": 1,
        "lap": 2,
        "length": 4081,
        "packet_count": 1,
        "dropped": 1_000_000,
        "captured": 7,
    },
    "another lane, high numbers": {
        "number": (1 << 40) + 5,
        "lane": 63,
        "format": 2,
        "file": 3,
        "lap": 1 << 20,
        "slot": 1,
        "length": SLOT_BYTES - 16,
        "packet_count": 9,
        "first_ts_ns": (1 << 63) - 1,
        "last_ts_ns": (1 << 63) - 1,
        "captured": 1 << 41,
    },
}
REFUSED: list[tuple[str, str, dict[str, int]]] = [
    ("a page with its tag", "wrong_lane", {"lane": 1}),
    ("a page with its tag", "no_such_place", {"file": 4}),
    ("a page with its tag", "no_such_place", {"slot": 2}),
    ("a page with its tag", "no_such_place", {"length": SLOT_BYTES - 15}),
    ("a page with its tag", "erased", {"file": 2}),
    ("a page with its tag", "not_authentic", {"number": 3}),
    ("a page with its tag", "not_authentic", {"lap": 2}),
    ("a page with its tag", "not_authentic", {"length": 4079}),
    ("a page with its tag", "not_authentic", {"dropped": 1}),
]


def draw(name: str, length: int) -> bytes:
    """Reproducible bytes."""
    return hashlib.shake_256(b"bunker spool vectors: " + name.encode()).digest(length)


def packed(fields: dict[str, int]) -> bytes:
    """A descriptor, 68 bytes."""
    return struct.pack("<QHHIIIIIIQQQQ", *(fields[name] for name in NAMES))


def vector(name: str, given: dict[str, int]) -> dict[str, Any]:
    """One sealed block."""
    fields = {**dict.fromkeys(NAMES, 0), **given}
    key, plaintext = draw(name + " key", 32), draw(name + " plaintext", fields["length"])
    nonce = fields["lane"].to_bytes(4, "big") + fields["number"].to_bytes(8, "big")
    associated = b"BNKSPL01" + RUN + packed(fields)
    return {
        "name": name,
        "key": key.hex(),
        "run": RUN.hex(),
        "fields": fields,
        "descriptor": packed(fields).hex(),
        "nonce": nonce.hex(),
        "associated_data": associated.hex(),
        "plaintext": plaintext.hex(),
        "sealed": AESGCM(key).encrypt(nonce, plaintext, associated).hex(),
    }


def vectors() -> dict[str, Any]:
    """The whole file."""
    made = {name: vector(name, given) for name, given in CASES.items()}
    refused = [
        {"of": name, "refusal": kind, "descriptor": packed({**made[name]["fields"], **change}).hex()}
        for name, kind, change in REFUSED
    ]
    return {"version": 1, "slot_bytes": SLOT_BYTES, "files": 4, "sealed": list(made.values()), "refused": refused}


def text() -> str:
    """As it stands in the file."""
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
