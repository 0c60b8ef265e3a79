"""Put the table of risks into docs/policy.md between its two marks; `--check` says whether it is there as it is."""

from __future__ import annotations

import sys
from pathlib import Path

from bunker.policy.risks import RISKS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "policy.md"
BEGIN, END = "<!-- risks: tools/risks_table.py -->\n", "<!-- end of risks -->\n"


def table() -> str:
    """One line for each risk."""
    lines = ["| risk | refused by | what an attacker does | instead |", "|---|---|---|---|"]
    for risk in RISKS.values():
        refused = ", ".join(sorted(risk.refused_by, reverse=True))
        lines.append(f"| `{risk.name}` | {refused} | {risk.attack} | {risk.remedy} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    made = before + BEGIN + table() + END + after
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made)
        return 0
    if made != text:
        sys.stderr.write("docs/policy.md has old risks: python tools/risks_table.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
