"""Seals envelopes to the public key of a remote open box: no handshake, nothing read.

Place in the flow: Envelopes ▶ here, in the Outlet, if `egress.seal_to` names a key ▶║.
The other half is `bunker.open.unseal`.

Rules of this file:
1. The public key comes from the operator at set-up; the box learns nothing from the network.
2. Each envelope is wrapped under an ephemeral key of its own that is forgotten at once.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from bunker.errors import ConfigurationError
from bunker.model.sealing import INFO, head, suite


class Sealer:
    """Wraps envelopes for one open box.

    Args:
        public_key: 32 bytes in hex, as `bunker receive --new-key` printed it.
    Raises:
        ConfigurationError: it is no key.
    """

    def __init__(self, public_key: str) -> None:
        try:
            self._key = X25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        except ValueError:
            raise ConfigurationError(
                "public key of the open box", "is none", "Give the 64 hex digits of bunker receive --new-key"
            ) from None
        self._suite = suite()

    def seal(self, envelope: bytes) -> bytes:
        """One wrapping."""
        start = head(0)[:8]
        sealed = self._suite.encrypt(envelope, self._key, INFO + start)
        return head(len(sealed)) + sealed


def sealer_for(public_key: str | None) -> Sealer | None:
    """The experiment's `egress.seal_to` made usable; None when it names no key."""
    return None if public_key is None else Sealer(public_key)
