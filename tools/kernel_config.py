"""Writes `docs/kernel/VARIANT-KIND.config` from an image's `kernel.config`: what was set, without the command line.

python tools/kernel_config.py IMAGE_DIRECTORY
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bunker.image.manifest import read

PLACE = Path(__file__).resolve().parents[1] / "docs" / "kernel"


def published(config: str) -> str:
    """The options that are set, sorted; the command line differs with each root and is left out."""
    lines = (line for line in config.splitlines() if re.match(r"CONFIG_\w+=", line))
    return "".join(f"{line}\n" for line in sorted(lines) if not line.startswith("CONFIG_CMDLINE="))


def main() -> int:
    """Write the page."""
    directory = Path(sys.argv[1]).expanduser()
    identity = read(directory).identity
    PLACE.mkdir(exist_ok=True)
    page = PLACE / f"{identity.variant.value}-{identity.kind.value}.config"
    head = f"# {identity.kernel_source}, as built by `bunker image build`; made by tools/kernel_config.py\n"
    page.write_text(head + published((directory / "kernel.config").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
