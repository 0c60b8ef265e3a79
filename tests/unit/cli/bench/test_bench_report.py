"""Tables say the same on the terminal, in JSON and in Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rich.console

from bunker.cli.bench.report import Table, machine, markdown, median, show, spread, text, write


@pytest.mark.parametrize(
    ("cell", "printed"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (1234567, "1,234,567"),
        (1234.5, "1,234"),
        (0.01234, "0.0123"),
        ("x", "x"),
        (0.0, "0"),
    ],
)
def test_cells_are_printed_for_people(cell: str | int | float | None, printed: str) -> None:
    assert text(cell) == printed


def _table() -> Table:
    table = Table(title="speed", columns=("program", "rate"))
    table.add("ours", 2_000_000)
    table.add("theirs", None)
    table.notes.append("a note")
    return table


def test_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        _table().add("ours")


def test_markdown_has_each_cell_the_note_and_the_machine() -> None:
    made = markdown([_table()], machine())
    assert "| ours | 2,000,000 |" in made and "| theirs | - |" in made and "* a note" in made
    assert made.count("|---|---:|") == 1 and machine().cpu in made


def test_terminal_shows_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show([_table()], rich.console.Console(width=100))
    printed = capsys.readouterr().out
    assert "ours" in printed and "2,000,000" in printed and "a note" in printed


def test_json_keeps_numbers(tmp_path: Path) -> None:
    write([_table()], json_path=tmp_path / "r.json", markdown_path=tmp_path / "r.md")
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["tables"][0]["rows"] == [["ours", 2_000_000], ["theirs", None]]
    assert content["machine"]["cores"] >= 1 and (tmp_path / "r.md").read_text().startswith("### speed")


def test_median_and_spread_of_nothing() -> None:
    assert median([]) is None and spread([]) == "-"
    assert median([3, 1, 2]) == 2 and spread([3.0, 1.0]) == "1..3"
