"""Pictures of a buffer: a file for a report, or a few lines of text for the terminal.

Rules of this file:
1. A line that is drawn is explained in the picture itself, with its unit.
2. matplotlib is asked for when a file is to be drawn, never before: a receiver has no need of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bunker.errors import ConfigurationError

_BLOCKS = " ▁▂▃▄▅▆▇█"
FORMATS = (".svg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve: its name, and its values at the picture's points."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What is drawn: curves of bytes over time, and a level they are compared with.

    Args:
        at: The points, in the unit of `axis`.
        lines: Curves; the first is filled.
        level: (name, bytes) of a horizontal line, as the size of the spool.
        ticks: (point, word) of the axis; none: numbers.
    """

    title: str
    axis: str
    at: Sequence[float]
    lines: Sequence[Line]
    level: tuple[str, float] | None = None
    ticks: Sequence[tuple[float, str]] = field(default_factory=tuple)


def amount(value: float) -> str:
    """Bytes for people: "1.5 GB" (powers of ten, three digits)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}" if abs(value) < 999.5 else f"{value:,.0f} {unit}"


def rate(value: float) -> str:
    """Bytes a second for people."""
    return f"{amount(value)}/s"


def draw(picture: Picture, path: Path) -> None:
    """Write it as SVG or PNG, by the ending of the file's name.

    Raises:
        ConfigurationError: another ending, matplotlib is missing, or the file cannot be written.
    """
    with _canvas(path, height=4.2) as axes:
        first, *others = picture.lines
        axes.fill_between(picture.at, first.values, color="#4878a8", alpha=0.25, linewidth=0)
        axes.plot(picture.at, first.values, color="#2c5580", linewidth=1.6, label=first.name)
        for style, line in zip(("--", ":", "-."), others, strict=False):
            axes.plot(picture.at, line.values, color="#555555", linewidth=1.1, linestyle=style, label=line.name)
        if picture.level is not None:
            name, height = picture.level
            axes.axhline(height, color="#b03030", linewidth=1.2, label=f"{name}: {amount(height)}")
        if picture.ticks:
            axes.set_xticks([at for at, _ in picture.ticks], [word for _, word in picture.ticks])
        axes.yaxis.set_major_formatter(lambda value, _: amount(value))
        axes.set_ylim(bottom=0)
        axes.set_xlim(min(picture.at), max(picture.at))
        axes.set_title(picture.title, fontsize=11, loc="left")
        axes.set_xlabel(picture.axis)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.legend(loc="upper left", frameon=False, fontsize=9)


@contextmanager
def _canvas(path: Path, *, height: float) -> Iterator[Any]:
    """matplotlib's axes, and the file once they are drawn."""
    if path.suffix not in FORMATS:
        raise ConfigurationError(f"picture {path}", "ends in neither .svg nor .png", "Choose one of them")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - rule 2
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"picture {path}", "needs matplotlib", "Install it (pip install 'bunker[plot]'), or leave the picture out"
        ) from None
    figure = Figure(figsize=(10, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    yield axes
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise ConfigurationError(
            f"picture {path}", f"cannot be written ({error.strerror})", "Check its folder"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Horizontal bars: for each row a name and one value of each of the two series, stacked."""

    title: str
    axis: str
    series: tuple[str, str]
    rows: Sequence[tuple[str, float, float]]


def draw_bars(bars: Bars, path: Path) -> None:
    """Write it as SVG or PNG.

    Raises:
        ConfigurationError: as `draw`.
    """
    with _canvas(path, height=1.6 + 0.5 * len(bars.rows)) as axes:
        names = [name for name, _, _ in bars.rows]
        first, second = [one for _, one, _ in bars.rows], [other for _, _, other in bars.rows]
        axes.barh(names, first, color="#2c5580", label=bars.series[0])
        axes.barh(names, second, left=first, color="#d08060", label=bars.series[1])
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            axes.annotate(
                f" {one:.2f} % + {other:.2f} %", (one + other, place), va="center", fontsize=9, annotation_clip=False
            )
        axes.set_xlim(0, max(1e-9, *(one + other for one, other in zip(first, second, strict=True))) * 1.25)
        axes.invert_yaxis()
        axes.set_title(bars.title, fontsize=11, loc="left")
        axes.set_xlabel(bars.axis)
        axes.legend(loc="best", frameon=False, fontsize=9)


def in_characters(picture: Picture, *, columns: int = 84, rows: int = 8) -> list[str]:
    """The first curve in characters: the highest value of each column's points, and the words of the axis below."""
    curve = picture.lines[0].values
    top = max(*curve, picture.level[1] if picture.level else 0.0)
    cells = _highest(picture.at, curve, columns)
    eighths = [0 if top <= 0 else max(round(cell / top * rows * 8), 1 if cell > 0 else 0) for cell in cells]
    full = picture.level is not None
    scale = max(len(amount(top)), len("0 B"))
    drawn = []
    for row in range(rows - 1, -1, -1):
        label = amount(top) if row == rows - 1 else "0 B" if row == 0 else ""
        bars = "".join(_BLOCKS[min(max(height - row * 8, 0), 8)] for height in eighths)
        drawn.append(f"{label:>{scale}} │{bars}│")
    first, last = picture.at[0], picture.at[-1]
    below = [" "] * columns
    for at, word in picture.ticks:
        start = round((at - first) / (last - first) * columns) if last > first else 0
        room = word[: max(columns - start, 0)]
        below[start : start + len(room)] = room
    foot = "".join(below) if picture.ticks else f"{first:.3g} … {last:.3g} {picture.axis}".ljust(columns)
    name = f"{picture.lines[0].name}" + (
        f"; the top is {picture.level[0]}" if full and picture.level and top == picture.level[1] else ""
    )
    return [picture.title, *drawn, " " * (scale + 2) + foot.rstrip(), " " * (scale + 2) + name]


def _highest(at: Sequence[float], curve: Sequence[float], columns: int) -> list[float]:
    """The highest point within each of `columns` equal stretches of time; where none lies, the one before."""
    first, length = at[0], at[-1] - at[0]
    cells: list[float | None] = [None] * columns
    for moment, value in zip(at, curve, strict=True):
        column = min(int((moment - first) / length * columns), columns - 1) if length > 0 else 0
        known = cells[column]
        cells[column] = value if known is None else max(known, value)
    found: list[float] = []
    for cell in cells:
        found.append(cell if cell is not None else found[-1] if found else 0.0)
    return found
