"""What the scripts that make parts of the documentation share: a part between two marks, written or compared.

<!-- made by tools/NAME.py: begin -->   ...   <!-- made by tools/NAME.py: end -->
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def made(script: str, page: Path, part: str) -> int:
    """Put `part` between the page's marks; with `--check` as the argument only say whether it stands there already.

    Returns:
        The exit code: 0 written or current, 1 not current.
    """
    name = Path(script).name
    begin, end = f"<!-- made by tools/{name}: begin -->\n", f"<!-- made by tools/{name}: end -->"
    text = page.read_text(encoding="utf-8")
    head, begun, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        sys.stderr.write(f"{page.relative_to(ROOT)}: has no marks of tools/{name}\n")
        return 1
    wanted = head + begin + "\n" + part.strip("\n") + "\n\n" + end + tail
    if sys.argv[1:] == ["--check"]:
        if wanted == text:
            return 0
        sys.stderr.write(f"{page.relative_to(ROOT)}: is not current; run python tools/{name}\n")
        return 1
    page.write_text(wanted, encoding="utf-8")
    return 0
