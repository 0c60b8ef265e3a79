"""Pictures: what is drawn is what was given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bunker.errors import ConfigurationError
from bunker.open.picture import Line, Picture, amount, draw, in_characters


def picture(values: tuple[float, ...], level: tuple[str, float] | None = None) -> Picture:
    return Picture(
        title="one title", axis="hours", at=range(len(values)), lines=[Line(name="one", values=values)], level=level
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (2.5e12, "2.5 TB"),
        (5e15, "5,000 TB"),
    ],
)
def test_amounts_have_three_digits(value: float, words: str) -> None:
    assert amount(value) == words


def test_characters_rise_with_the_curve() -> None:
    lines = in_characters(picture((0, 50, 100, 1)), columns=4, rows=2)
    cut = [line[line.index("│") + 1 : -1] for line in lines[1:3]]
    assert cut == ["  █ ", " ██▁"]
    assert lines[1].startswith("100 B") and lines[0] == "one title"


def test_a_level_above_the_curve_is_the_top() -> None:
    lines = in_characters(picture((0, 50), level=("spool", 100)), columns=2, rows=2)
    assert lines[1].endswith("│  │") and lines[2].endswith("│ █│")
    assert lines[-1].endswith("the top is spool")


def test_a_narrow_picture_keeps_the_highest_points() -> None:
    curve = [0.0] * 1000
    curve[777] = 10.0
    lines = in_characters(picture(tuple(curve)), columns=10, rows=1)
    assert lines[1].endswith("│       █  │")


def test_time_is_what_the_columns_are_of() -> None:
    uneven = Picture(title="", axis="", at=(0, 9, 10), lines=[Line(name="one", values=(8, 0, 4))])
    assert in_characters(uneven, columns=10, rows=1)[1].endswith("│█████████▄│")
    single = Picture(title="", axis="", at=(5,), lines=[Line(name="one", values=(8,))])
    assert in_characters(single, columns=3, rows=1)[1].endswith("│███│")


def test_a_curve_of_nothing_is_drawn_empty() -> None:
    assert set(in_characters(picture((0.0, 0.0)), rows=1)[1]) <= set("0B │ ")


def test_files_hold_title_names_and_level(tmp_path: Path) -> None:
    drawn = picture((0, 5e6, 2e6), level=("spool", 6e6))
    draw(drawn, tmp_path / "a.svg")
    draw(drawn, tmp_path / "a.png")
    svg = (tmp_path / "a.svg").read_text()
    assert "<!-- one title -->" in svg and "<!-- spool: 6 MB -->" in svg and "<!-- one -->" in svg
    assert not re.search(r"<dc:date>", svg), "two pictures of one thing are one file"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a.jpg", "a", "no-such-folder/a.svg"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        draw(picture((0, 1)), tmp_path / name)
