"""A run on the terminal: packets, lag, spool, flows and drops, as heartbeats tell them.

Place in the flow: Intake's heartbeats ▶ here ▶ the operator.

Rules of this file:
1. Everything shown comes from a heartbeat whose signature holds.
2. On a terminal one live picture; elsewhere a plain line for each heartbeat that says something new, readable without
   colour.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bunker.model.counters import Counter
from bunker.model.heartbeat import Heartbeat, Start

_FLOWS_ENDED = (
    Counter.FLOWS_COMPLETED,
    Counter.FLOWS_TIMED_OUT,
    Counter.FLOWS_ENDED,
    Counter.FLOWS_EVICTED,
    Counter.FLOWS_ERRONEOUS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One heartbeat in the numbers an operator looks at; rates are since the heartbeat before."""

    seconds: float
    received: int
    analysed: int
    received_rate: float
    analysed_rate: float
    dropped_kernel: int
    dropped_spool: int
    destroyed: int
    lag_bytes: int
    lag_s: float
    spool_fill: float
    """0 to 1; 0 if the size of the spool is not told."""
    flows_open: int
    flows_ended: int
    flows_erroneous: int
    released: int
    refused: int
    faults: int
    restarts: int
    live_raw_bytes: int
    keys_created: int
    keys_destroyed: int


def progress_of(beat: Heartbeat, before: Heartbeat | None) -> Progress:
    """The numbers of a heartbeat."""

    def now(counter: Counter) -> int:
        return beat.counters.get(counter.value, 0)

    def rate(counter: Counter) -> float:
        if before is None or beat.monotonic_ns <= before.monotonic_ns:
            return 0.0
        grown = now(counter) - before.counters.get(counter.value, 0)
        return max(grown, 0) * 1e9 / (beat.monotonic_ns - before.monotonic_ns)

    size = now(Counter.SPOOL_BYTES)
    return Progress(
        seconds=max(beat.now_ns - beat.started_ns, 0) / 1e9,
        received=now(Counter.PACKETS_RECEIVED),
        analysed=now(Counter.PACKETS_ANALYSED),
        received_rate=rate(Counter.PACKETS_RECEIVED),
        analysed_rate=rate(Counter.PACKETS_ANALYSED),
        dropped_kernel=now(Counter.PACKETS_DROPPED_KERNEL),
        dropped_spool=now(Counter.PACKETS_DROPPED_SPOOL),
        destroyed=now(Counter.PACKETS_DESTROYED),
        lag_bytes=now(Counter.LAG_BYTES),
        lag_s=now(Counter.LAG_NS) / 1e9,
        spool_fill=max(size - now(Counter.SPOOL_FREE_BYTES), 0) / size if size else 0.0,
        flows_open=now(Counter.FLOWS_OPEN),
        flows_ended=sum(map(now, _FLOWS_ENDED)),
        flows_erroneous=now(Counter.FLOWS_ERRONEOUS),
        released=sum(beat.rows.values()),
        refused=now(Counter.RECORDS_REFUSED),
        faults=now(Counter.ANALYZER_FAULTS),
        restarts=now(Counter.WORKER_RESTARTS),
        live_raw_bytes=beat.live_raw_bytes,
        keys_created=beat.keys_created,
        keys_destroyed=beat.keys_destroyed,
    )


def size_text(size: float) -> str:
    """Bytes, readable."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def line_of(progress: Progress) -> str:
    """A heartbeat as one line."""
    return f"{_duration(progress.seconds)}  {_news_of(progress)}"


def _news_of(progress: Progress) -> str:
    """The line without the time."""
    dropped = progress.dropped_kernel + progress.dropped_spool
    parts = [
        f"packets {progress.received:,} ({progress.received_rate:,.0f}/s)",
        f"analysed {progress.analysed:,}",
        f"dropped {dropped:,}",
        f"lag {size_text(progress.lag_bytes)} {progress.lag_s:.1f} s",
        f"spool {progress.spool_fill:.0%}",
        f"flows {progress.flows_ended:,} (open {progress.flows_open:,}, erroneous {progress.flows_erroneous:,})",
        f"rows {progress.released:,}",
    ]
    if progress.faults or progress.refused or progress.restarts:
        parts.append(f"faults {progress.faults:,}, refused {progress.refused:,}, restarts {progress.restarts:,}")
    return "  ".join(parts)


def table_of(progress: Progress, start: Start) -> Table:
    """A heartbeat as a small table."""
    table = Table.grid(padding=(0, 2))
    table.add_row("box", f"{start.tier.value}, running {_duration(progress.seconds)}")
    table.add_row("packets", f"{progress.received:,} received, {progress.received_rate:,.0f}/s")
    table.add_row("analysed", f"{progress.analysed:,}, {progress.analysed_rate:,.0f}/s")
    table.add_row(
        "dropped",
        f"{progress.dropped_kernel:,} by the kernel, {progress.dropped_spool:,} by a full spool, "
        f"{progress.destroyed:,} destroyed",
    )
    table.add_row("lag", f"{size_text(progress.lag_bytes)}, {progress.lag_s:.1f} s")
    width = 30
    filled = round(min(progress.spool_fill, 1.0) * width)
    table.add_row("spool", f"[{'#' * filled}{'.' * (width - filled)}] {progress.spool_fill:.0%}".replace("[", r"\["))
    table.add_row(
        "flows",
        f"{progress.flows_ended:,} ended, {progress.flows_open:,} open, {progress.flows_erroneous:,} erroneous",
    )
    table.add_row("rows", f"{progress.released:,} released, {progress.refused:,} refused")
    table.add_row("faults", f"{progress.faults:,} of analyzers, {progress.restarts:,} workers started again")
    table.add_row(
        "raw data",
        f"{size_text(progress.live_raw_bytes)} alive, keys {progress.keys_destroyed:,} of "
        f"{progress.keys_created:,} destroyed",
    )
    return table


class Watch:
    """Shows heartbeats until it is left; `heartbeat` fits `on_heartbeat` of a receiver and may come from any thread."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._before: dict[str, Heartbeat] = {}
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Watch:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def heartbeat(self, beat: Heartbeat, start: Start) -> None:
        """Show a heartbeat."""
        with self._lock:
            progress = progress_of(beat, self._before.get(start.run))
            self._before[start.run] = beat
            if self._live is not None:
                self._live.update(table_of(progress, start), refresh=True)
            elif self._said.get(start.run) != (news := _news_of(progress)):
                self._said[start.run] = news
                self._console.print(line_of(progress), markup=False, highlight=False, soft_wrap=True)
