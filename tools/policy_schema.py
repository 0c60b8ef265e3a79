"""Make docs/policy.schema.json: the policy language for editors that complete and check TOML by JSON Schema.

`python tools/policy_schema.py` writes it, `--check` says whether it is as it would be written. An editor takes it by
the line `#:schema ../../docs/policy.schema.json` at the top of a policy (Taplo, Even Better TOML).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bunker.policy.schema import json_schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "policy.schema.json"


def main() -> int:
    text = json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"
    if "--check" in sys.argv[1:]:
        if PAGE.read_text() == text:
            return 0
        sys.stderr.write("docs/policy.schema.json is old: python tools/policy_schema.py\n")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
