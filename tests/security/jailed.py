"""The module of a jailed process that tries what is forbidden in its role, and answers through the pipe `answers`.

Started by `enter_box` in `test_roles.py`; runs where the role's own module would, after `lock_down`.
"""

from __future__ import annotations

import json
import os
import sys

import attacks

from bunker.native.jail import lock_down


def main() -> int:
    """Try all, or one hostile call; sys.argv[1] is JSON: role, answers (descriptor), hostile (name or null)."""
    order = json.loads(sys.argv[1])
    lock_down(order["role"])
    if order["hostile"] is not None:
        attacks.call(order["hostile"], *attacks.HOSTILE[order["hostile"]])
        said: dict[str, int] = {order["hostile"]: 0}
    else:
        said = {}
        for name, attempt in attacks.ATTEMPTS.items():
            try:
                said[name] = attempt.act()
            except AssertionError:
                continue  # this role was given nothing that the attempt is about
            except OSError as error:
                said[name] = error.errno or -1
    text = json.dumps(said).encode()
    while text:
        text = text[os.write(order["answers"], text) :]
    return 0
