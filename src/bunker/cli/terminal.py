"""The console that commands print their tables on."""

from __future__ import annotations

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 140
"""Columns of tables that go into a file or a pipe, where 80 would cut them for nobody's sake."""


def wide_console() -> Console:
    """As wide as the terminal; a fixed width where there is none."""
    found = Console()
    return found if found.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)
