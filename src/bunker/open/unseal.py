"""Opens a sealed stream: cuts it into wrappings and decrypts each with the open box's private key.

Place in the flow: ║▶ here ▶ EnvelopeReader. The other half is `bunker.closed.egress.seal`.

Rules of this file:
1. A length is believed up to the longest envelope; authentication comes before use.
2. The private key lives in a file of the open box, mode 0600; it protects the way between the boxes and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bunker.errors import ConfigurationError
from bunker.model.envelope import EnvelopeRefused, Refusal
from bunker.model.sealing import HEAD_BYTES, INFO, Wrappings, suite


class Unsealer:
    """Cuts and opens the wrappings of one connection.

    Invariants: holds at most one wrapping and what one `feed` brought; after a refusal it stays refused.
    """

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key
        self._suite = suite()
        self._wrappings = Wrappings()
        self._refused: EnvelopeRefused | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The envelopes that can be opened now.

        Raises:
            EnvelopeRefused: MAGIC, VERSION, LENGTH; CHECK for a wrapping that was not made for this key or was altered.
        """
        if self._refused is not None:
            raise self._refused
        try:
            for whole in self._wrappings.feed(piece):
                yield self._opened(whole)
        except EnvelopeRefused as refused:
            self._refused = refused
            raise

    def _opened(self, whole: bytes) -> bytes:
        try:
            return self._suite.decrypt(whole[HEAD_BYTES:], self._key, INFO + whole[:8])
        except (InvalidTag, ValueError):
            raise EnvelopeRefused(Refusal.CHECK, number=self._wrappings.number - 1) from None


def read_private_key(path: Path) -> X25519PrivateKey:
    """The private key in a PEM file.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read ({error.strerror})", "Check the path") from None
    except (ValueError, TypeError):
        raise ConfigurationError(
            str(path), "is no private key", "Make one with bunker receive --new-key FILE"
        ) from None
    if not isinstance(key, X25519PrivateKey):
        raise ConfigurationError(str(path), "is no X25519 key", "Make one with bunker receive --new-key FILE")
    return key


def new_private_key(path: Path) -> str:
    """Make a private key in a new file; answers the public key in hex, which the box is given.

    Raises:
        ConfigurationError: the file exists or cannot be made.
    """
    key = X25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be made ({error.strerror})", "Give a new file") from None
    with os.fdopen(fd, "wb") as file:
        file.write(pem)
    return key.public_key().public_bytes_raw().hex()
