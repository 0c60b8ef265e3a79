"""docs/limits.md is current: what tools/limits_page.py makes of the source stands in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "limits_page.py"


def test_page_is_current() -> None:
    checked = subprocess.run([sys.executable, str(TOOL), "--check"], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
