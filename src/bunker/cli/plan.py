"""`bunker plan`: does continuous tracing hold over a week, how large a spool does it take, how many lanes.

Exit code 0 if both conditions hold, 1 if not, 2 for settings that make no plan.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
from rich.table import Table

from bunker import limits
from bunker.cli.terminal import wide_console
from bunker.errors import ConfigurationError
from bunker.experiment.file import parse_size
from bunker.open.buffer import measured, samples
from bunker.open.picture import Line, Picture, amount, draw, in_characters, rate
from bunker.open.plan import DAY_HOURS, DAYS, HOUR_S, WEEK_HOURS, Plan, Week, plan, week_of

_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kKMGT]?)(bit|B)/s\s*$")
_POWERS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def parse_rate(text_: str, *, key: str) -> float:
    """Bytes a second of "100Mbit/s" or "12.5MB/s".

    Raises:
        ConfigurationError: no number with a unit.
    """
    match = _RATE.match(text_)
    if match is None:
        raise ConfigurationError(key, f"{text_!r} is no rate", 'Write a number with a unit, as "100Mbit/s" or "12MB/s"')
    return float(match[1]) * _POWERS[match[2]] / (8 if match[3] == "bit" else 1)


def read_profile(path: Path) -> Week:
    """A week from a file of 168 lines "hour,rate" or "rate", Monday 00:00 first; a line that begins with # is none.

    Raises:
        ConfigurationError: the file cannot be read, or is not of that form.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"--profile {path}", f"cannot be read ({type(error).__name__})", "Check the path"
        ) from None
    rates: list[float] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        hour, separator, value = line.rpartition(",")
        if separator and hour.strip() != str(len(rates)):
            raise ConfigurationError(
                f"--profile {path}",
                f"hour {len(rates)} is expected",
                f"Give hours 0 to {WEEK_HOURS - 1} in order",
                line=number,
            )
        rates.append(parse_rate(value, key=f"--profile {path}, line {number}"))
    return Week(rates=tuple(rates), source=f"from {path.name}")


def picture_of(made: Plan) -> Picture:
    """The buffer over the week, at the ends of its hours."""
    before = made.hours[0].buffered - made.hours[0].arrived + made.hours[0].analysed + made.hours[0].dropped
    lines = [Line(name="buffer", values=(before, *(level.buffered for level in made.hours)))]
    lines.append(Line(name="arrives in an hour", values=(made.hours[0].arrived, *(x.arrived for x in made.hours))))
    return Picture(
        title=f"buffer over a week: {made.lanes} lane(s) of {rate(made.lane_rate)}",
        axis="",
        at=tuple(range(WEEK_HOURS + 1)),
        lines=lines,
        level=None if made.size is None else ("spool", made.size),
        ticks=tuple((day * DAY_HOURS, name[:3]) for day, name in enumerate(DAYS)),
    )


def _table(made: Plan) -> Table:
    shown = Table(
        "day",
        "arrives",
        "analysed",
        "highest",
        "at",
        "left at its end",
        "dropped",
        title="a week",
        title_justify="left",
    )
    for number, name in enumerate(DAYS):
        day = made.hours[number * DAY_HOURS : (number + 1) * DAY_HOURS]
        highest = max(day, key=lambda level: level.buffered)
        hour = highest.hour % DAY_HOURS + 1
        shown.add_row(
            name,
            amount(sum(level.arrived for level in day)),
            amount(sum(level.analysed for level in day)),
            amount(highest.buffered),
            f"{hour}:00" if highest.buffered else "-",
            amount(day[-1].buffered),
            amount(sum(level.dropped for level in day)),
        )
    return shown


def _hourly(made: Plan) -> Table:
    shown = Table("day", "hour", "arrives", "buffer at its end", "lag", "dropped", title_justify="left")
    analysis = made.lane_rate * made.lanes
    for level in made.hours:
        hour = level.hour % WEEK_HOURS
        shown.add_row(
            DAYS[hour // DAY_HOURS][:3],
            f"{hour % DAY_HOURS}-{hour % DAY_HOURS + 1}",
            amount(level.arrived),
            amount(level.buffered),
            f"{level.buffered / analysis / HOUR_S:.2f} h",
            amount(level.dropped),
        )
    return shown


def _sentences(made: Plan) -> list[str]:
    found, size = made.conditions, made.size
    told = [
        f"rates        {made.week.source}",
        f"analysis     {rate(made.lane_rate * made.lanes)} ({made.lanes} lane(s) of {rate(made.lane_rate)})",
        f"p            {amount(found.peak)}: highest point of the buffer in 24 hours of a weekday that begin empty at "
        f"{found.begins}:00",
        f"Δ            {amount(found.delta)}: what the worst weekday leaves after 24 hours",
    ]
    if size is None:
        told.append(f"condition 1  the spool must be larger than 4·Δ + p = {amount(found.size_needed)}")
    else:
        word = "holds" if size > found.size_needed else "FAILS"
        told.append(
            f"condition 1  {word}: spool {amount(size)}, needed more than 4·Δ + p = {amount(found.size_needed)}"
        )
    word = "holds" if found.catches_up else "FAILS"
    told.append(
        f"condition 2  {word}: the weekend can catch up {amount(max(found.weekend, 0.0))}, "
        f"needed 5·Δ = {amount(5 * found.delta)}" + ("" if found.catches_up else f"; {amount(found.left)} stay")
    )
    if found.weekend_peak > 4 * found.delta + found.peak:
        told.append(
            f"weekend      its own highest point is {amount(found.weekend_peak)}: the spool must be larger than that"
        )
    if made.growth:
        told.append(
            f"without end  the buffer grows by {amount(made.growth)} from week to week: no spool is large enough"
        )
    if made.dropped:
        told.append(f"loss         {amount(made.dropped)} a week find no room in the spool")
    if made.lanes_needed is None:
        told.append(
            f"remedy       not even {limits.LANES.default} lanes hold: trace less (a filter, a shorter snaplen)"
        )
    elif not made.holds:
        told.append(f"remedy       {made.lanes_needed} lane(s), each on a core of its own, hold both conditions")
    told.append("continuous tracing " + ("HOLDS" if made.holds else "DOES NOT HOLD"))
    return told


def _as_json(made: Plan) -> str:
    found = made.conditions
    return json.dumps(
        {
            "source": made.week.source,
            "lanes": made.lanes,
            "lane_rate": made.lane_rate,
            "size": made.size,
            "peak": found.peak,
            "delta": found.delta,
            "size_needed": found.size_needed,
            "weekend": found.weekend,
            "left": found.left,
            "day_begins": found.begins,
            "catches_up": found.catches_up,
            "holds": made.holds,
            "growth": made.growth,
            "lanes_needed": made.lanes_needed,
            "hours": [[level.arrived, level.analysed, level.buffered, level.dropped] for level in made.hours],
        }
    )


def _week(
    directory: Path | None, given: str | None, profile: Path | None, shape: tuple[str, float, float], offset: int
) -> Week:
    if sum(source is not None for source in (directory, given, profile)) != 1:
        raise click.UsageError("give one of --rate, --profile and --from")
    if profile is not None:
        return read_profile(profile)
    if given is not None:
        hours, quiet, weekend = shape
        match = re.fullmatch(r"(\d{1,2})-(\d{1,2})", hours)
        if match is None:
            raise click.UsageError('--busy is two hours, as "8-20"')
        busy = parse_rate(given, key="--rate")
        return week_of(busy=busy, quiet=busy * quiet, weekend=weekend, begin=int(match[1]), end=int(match[2]))
    assert directory is not None
    return measured(samples(directory), utc_offset_h=offset).week


def _lane_rate(directory: Path | None, given: str | None, lanes: int) -> float:
    if given is not None:
        return parse_rate(given, key="--analysis-rate")
    if directory is None:
        raise click.UsageError("give --analysis-rate: what one lane analyses in a second")
    found = measured(samples(directory), lanes=lanes)
    if found.lane_rate is None:
        raise ConfigurationError(
            f"--from {directory}",
            f"the analysis was never busy, so its rate is not known (it was {rate(found.at_least)} or more)",
            "Give --analysis-rate, from bunker bench analysis or a run over a large capture file",
        )
    return found.lane_rate


@click.command("plan")
@click.option("--rate", "given", metavar="RATE", help='what arrives in a weekday\'s busy hours, as "200Mbit/s"')
@click.option("--busy", default="8-20", show_default=True, metavar="H-H", help="the busy hours")
@click.option(
    "--quiet",
    type=click.FloatRange(0),
    default=0.3,
    show_default=True,
    help="the other hours' share of --rate",
)
@click.option(
    "--weekend", type=click.FloatRange(0), default=0.5, show_default=True, help="a weekend's share of a weekday's rates"
)
@click.option(
    "--profile", type=click.Path(path_type=Path), metavar="FILE", help="168 lines of hour,rate instead, Monday first"
)
@click.option(
    "--from", "directory", type=click.Path(path_type=Path), metavar="DIR", help="rates as an earlier run counted them"
)
@click.option("--from-lanes", type=click.IntRange(1), default=1, show_default=True, help="lanes of that run")
@click.option("--utc-offset", type=click.IntRange(-14, 14), default=0, show_default=True, help="hours to add to UTC")
@click.option("--analysis-rate", metavar="RATE", help="what one lane analyses")
@click.option("--lanes", type=click.IntRange(1, limits.LANES.default), default=1, show_default=True)
@click.option("--size", metavar="SIZE", help='the spool, as "20GB"; without it: the size that is needed')
@click.option("--hours", is_flag=True, help="the week hour by hour")
@click.option("--json", "as_json", is_flag=True, help="everything as JSON")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="draw the buffer, .svg or .png")
@click.pass_context
def plan_command(  # noqa: PLR0917 - click passes options by name
    context: click.Context,
    given: str | None,
    busy: str,
    quiet: float,
    weekend: float,
    profile: Path | None,
    directory: Path | None,
    from_lanes: int,
    utc_offset: int,
    analysis_rate: str | None,
    lanes: int,
    size: str | None,
    hours: bool,
    as_json: bool,
    picture: Path | None,
) -> None:
    """Does continuous tracing hold over a week, and with which spool and how many lanes?"""
    week = _week(directory, given, profile, (busy, quiet, weekend), utc_offset)
    made = plan(
        week,
        lane_rate=_lane_rate(directory, analysis_rate, from_lanes),
        lanes=lanes,
        size=None if size is None else parse_size(size, key="--size"),
    )
    drawn = picture_of(made)
    if picture is not None:
        draw(drawn, picture)
    if as_json:
        click.echo(_as_json(made))
    else:
        console = wide_console()
        console.print(_hourly(made) if hours else _table(made), highlight=False)
        for line in (*in_characters(drawn), "", *_sentences(made)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    context.exit(0 if made.holds else 1)
