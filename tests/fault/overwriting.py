"""The module of a jailed process with a supervisor's rights that overwrites a key store; started by `test_abort.py`."""

from __future__ import annotations

import sys

from bunker.closed.process.supervisor import overwrite
from bunker.native.jail import lock_down


def main() -> int:
    """sys.argv[1]: the store's descriptor."""
    lock_down("supervisor")
    overwrite(int(sys.argv[1]))
    return 0
