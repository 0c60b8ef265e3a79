"""Where downloads and built kernels are kept between builds: `$XDG_CACHE_HOME/bunker`, else `~/.cache/bunker`.

Rules of this file:
1. An entry's name is a hash of everything that decides its content; a hit is as good as building it.
2. An entry appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_directory() -> Path:
    """The root of the cache; made if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home / "bunker"
    path.mkdir(parents=True, exist_ok=True)
    return path


def kept(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory of an entry; `make` fills a new one if there is none."""
    place = cache_directory() / kind / key
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        make(new)
        new.rename(place)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return place
