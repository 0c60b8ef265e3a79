"""Tables of the bench: terminal, JSON, Markdown for `docs/benchmarks.md`, with the machine they were made on."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rich.box
import rich.console
import rich.table

from bunker.cli.terminal import wide_console


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a reader needs to judge a number."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load: tuple[float, float, float]

    def sentence(self) -> str:
        """One line for the foot of a table."""
        load = " ".join(f"{value:.1f}" for value in self.load)
        size = f"{self.cores} cores of {self.cpu}, {self.memory_gib:.0f} GiB"
        return f"{size}, Linux {self.kernel}, Python {self.python}, load {load}"


def machine() -> Machine:
    """This machine, now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model", "CPU part"))]
    memory = int(
        next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")).split()[1]
    )
    return Machine(
        cpu=models[0] if models else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=memory / (1 << 20),
        kernel=platform.release(),
        python=platform.python_version(),
        load=os.getloadavg(),
    )


Cell = str | int | float | None


@dataclass(slots=True, kw_only=True)
class Table:
    """Rows under columns, with notes; None prints as a dash."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """A row, one cell for each column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)


def text(cell: Cell) -> str:
    """A cell for people: three significant digits, thousands apart."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        if math.isnan(cell):
            return "-"
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def show(tables: Sequence[Table], console: rich.console.Console | None = None) -> None:
    """On the terminal."""
    if console is None:
        console = wide_console()
    for table in tables:
        drawn = rich.table.Table(title=table.title, box=rich.box.SIMPLE_HEAD, title_justify="left")
        for number, column in enumerate(table.columns):
            drawn.add_column(column, justify="left" if number == 0 else "right")
        for row in table.rows:
            drawn.add_row(*map(text, row))
        console.print(drawn)
        for note in table.notes:
            console.print(f"  {note}", highlight=False)
    console.print(f"  {machine().sentence()}", highlight=False)


def markdown(tables: Sequence[Table], described: Machine) -> str:
    """For the documentation."""
    parts: list[str] = []
    for table in tables:
        parts += [f"### {table.title}", ""]
        parts.append("| " + " | ".join(table.columns) + " |")
        parts.append("|---|" + "---:|" * (len(table.columns) - 1))
        parts += ["| " + " | ".join(map(text, row)) + " |" for row in table.rows]
        parts += ["", *(f"* {note}" for note in table.notes), ""]
    parts += [f"Machine: {described.sentence()}.", ""]
    return "\n".join(parts)


def write(tables: Sequence[Table], *, json_path: Path | None, markdown_path: Path | None) -> None:
    """Both files, if asked for."""
    described = machine()
    if json_path is not None:
        content = {"machine": asdict(described), "tables": [asdict(table) for table in tables]}
        json_path.write_text(json.dumps(content, indent=1) + "\n")
    if markdown_path is not None:
        markdown_path.write_text(markdown(tables, described))


def median(values: Sequence[float]) -> float | None:
    """Median, or None of nothing."""
    return statistics.median(values) if values else None


def spread(values: Sequence[float]) -> str:
    """Smallest and largest, for the doubting reader."""
    return f"{text(min(values))}..{text(max(values))}" if values else "-"
