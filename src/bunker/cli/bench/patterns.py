"""`bunker bench patterns`: one expression, and hundreds, over web pages: what an online tracer could not afford.

Method: pages are made from a seed (login pages among articles, one in a hundred with a sign); expressions are brands by
templates, as rules for phishing forms are. Megabits of pages a CPU second of one thread, by engine, beside PCRE2 (with
and without its compiler) if `pcre2` is installed. It and Python's `re` run one expression after the other, as a parser
without an automaton does. All must find the same.

Source: section 6 of the paper (matching one expression with libpcre ran below 50 Mbit/s).
"""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from bunker.api.patterns import ENGINES, Patterns
from bunker.cli.bench.report import Table, median, show, write
from bunker.errors import BoxError

Finder = Callable[[bytes], frozenset[int]]
"""Which expressions occur."""
Compiler = Callable[[Sequence[str]], Finder]
_MODULES = {"vectorscan": "hyperscan", "re2": "re2", "re": "re"}
COLUMNS = ("engine", "expressions", "compile s", "Mbit/CPU s", "x re", "pages with a sign")
_BRANDS = (
    "northbank", "payfriend", "mailhouse", "shopriver", "cloudfold", "parcelman", "cardunion", "photogram", "jobnet",
    "gamesteam", "airwing", "taxoffice", "telewave", "bookbox", "filmflux", "housebid", "coinsafe", "mapquestor",
    "musicbay", "healthnet", "postpack", "railpass", "carhire", "fundhouse", "webnotes", "chatter", "cityhall",
    "gridpower", "newsline", "fitclub", "petworld", "seedbank", "toolshed", "wineclub", "yardsale", "zipmail",
    "skyvault", "oldtown", "paperless", "quickloan", "riverbank", "sunfield", "treehouse", "ultrafast", "viewpoint",
    "westgate", "xpress", "yellowpage", "zenith", "alphabank", "betashop", "gammamail", "deltaair", "omegatel",
    "kiteshop", "lakebank", "mintcard", "nightowl", "opendoor", "peakgear",
)  # fmt: skip
_TEMPLATES = (
    "<title>[^<]{{0,40}}{0}[^<]{{0,40}}(?:log|sign).?in",
    "<form[^>]{{0,200}}action=[\"'][^\"'>]{{0,80}}{0}[^\"'>]{{0,80}}\\.php",
    "<input[^>]{{0,100}}name=[\"']{0}.?(?:pass|pin|user)",
    "{0}[^<>]{{0,60}}(?:verify|confirm|suspend)[^<>]{{0,60}}(?:account|card)",
    "href=[\"']https?://\\d{{1,3}}\\.\\d{{1,3}}\\.[^\"'>]{{0,60}}{0}",
)
_WORDS = (
    "the", "network", "course", "paper", "result", "table", "reader", "student", "library", "window", "garden", "river",
    "number", "order", "small", "large", "measure", "packet", "privacy", "harbour", "evening", "morning", "system",
    "letter", "people", "answer", "question", "market", "winter",
)  # fmt: skip


def expressions(count: int) -> list[str]:
    """The first so many rules."""
    every = [template.format(brand) for template in _TEMPLATES for brand in _BRANDS]
    if count > len(every):
        raise ValueError(f"{count} expressions: there are {len(every)}")
    return every[:count]


def pages(total_bytes: int, seed: int) -> list[bytes]:
    """Pages of together about this size; one in a hundred has a sign in it."""
    draw = random.Random(seed)  # noqa: S311 - a made load, not a secret
    made: list[bytes] = []
    size = 0
    while size < total_bytes:
        paragraphs = "".join(
            f'<p class="c{draw.randrange(9)}">{" ".join(draw.choices(_WORDS, k=40))} '
            f'<a href="https://www.{draw.choice(_WORDS)}.example/{draw.randrange(10**6)}">{draw.choice(_WORDS)}</a></p>\n'
            for _ in range(draw.randrange(5, 60))
        )
        brand = draw.choice(_BRANDS)
        sign = f"<p>{brand} asks you to verify this account</p>" if draw.random() < 0.01 else f"<p>{brand} news</p>"
        form = '<form method="post" action="/session"><input name="user"><input type="password" name="pass"></form>'
        head = f"<!DOCTYPE html><html><head><title>{draw.choice(_WORDS)}</title></head>"
        page = f"{head}<body>{paragraphs}{form}{sign}</body></html>"
        made.append(page.encode())
        size += len(page)
    return made


def _one_by_one_pcre2(jit: bool) -> Compiler:
    def compiled(rules: Sequence[str]) -> Finder:
        import pcre2  # noqa: PLC0415 - a peer, if it is installed

        flags = pcre2.IGNORECASE | pcre2.DOTALL
        patterns = [pcre2.compile(rule.encode(), flags=flags, jit=jit) for rule in rules]
        return lambda data: frozenset(number for number, one in enumerate(patterns) if one.search(data))

    return compiled


_PACKAGES = {"vectorscan": "hyperscan", "re2": "google-re2", "pcre2": "pcre2"}
"""What pip calls those that are not Python's own."""


def contenders() -> tuple[dict[str, Compiler], list[str]]:
    """What can be measured here, by name, and which packages would bring more."""
    found: dict[str, Compiler] = {
        engine: partial(_ours, engine) for engine in ENGINES if importlib.util.find_spec(_MODULES[engine])
    }
    missing = [engine for engine in ENGINES if engine not in found]
    if importlib.util.find_spec("pcre2"):
        found |= {"pcre2, interpreted": _one_by_one_pcre2(False), "pcre2, compiled": _one_by_one_pcre2(True)}
    else:
        missing.append("pcre2")
    return found, [f"{name} is not installed here: pip install {_PACKAGES[name]}" for name in missing]


def _ours(engine: str, rules: Sequence[str]) -> Finder:
    return Patterns(rules, engine=engine).found_in


def measure(corpus: Sequence[bytes], counts: Sequence[int], *, rounds: int, slow_s: float) -> Table:
    """Every engine over the corpus, rounds interleaved.

    Args:
        slow_s: An engine gets as many pages as it manages in about this CPU time a round; its rate is of those.
    Raises:
        BoxError: two engines found different pages among those that both read.
    """
    table = Table(title="patterns over web pages", columns=COLUMNS)
    known, missing = contenders()
    for count in counts:
        rules = expressions(count)
        built, compile_s = {}, {}
        for name, compiled in known.items():
            before = time.process_time()
            built[name] = compiled(rules)
            compile_s[name] = time.process_time() - before
        rates: dict[str, list[float]] = {name: [] for name in built}
        hits: dict[str, list[frozenset[int]]] = {}
        for _ in range(rounds):
            for name, find in built.items():
                found_rate, hits[name] = _timed(find, corpus, slow_s)
                rates[name].append(found_rate)
        longest = max(hits.values(), key=len)
        for name, found in hits.items():
            if found != longest[: len(found)]:
                raise BoxError(f"patterns, {name}", "finds other pages than the others", "This is a bug; say the seed")
        base = median(rates["re"])
        for name in built:
            rate = median(rates[name])
            signs = sum(map(bool, hits[name]))
            table.add(
                name,
                count,
                compile_s[name],
                rate,
                rate / base if rate and base else None,
                f"{signs} of {len(hits[name])}",
            )
    size = sum(map(len, corpus))
    table.notes.append(
        f"{len(corpus):,} made pages, {size / 1e6:.0f} MB; one thread; median of {rounds} interleaved rounds"
    )
    table.notes.append("slow engines read the pages that they manage in the time of a round")
    table.notes += missing
    return table


def _timed(find: Finder, corpus: Sequence[bytes], slow_s: float) -> tuple[float, list[frozenset[int]]]:
    """Megabits a CPU second, and what was found on each page that was read."""
    found: list[frozenset[int]] = []
    size, started = 0, time.process_time()
    for page in corpus:
        found.append(find(page))
        size += len(page)
        if len(found) % 64 == 0 and time.process_time() - started > slow_s:
            break
    return size * 8 / 1e6 / max(time.process_time() - started, 1e-9), found


@click.command("patterns")
@click.option(
    "--count", "counts", type=click.IntRange(1, 300), multiple=True, default=(1, 10, 100, 300), show_default=True
)
@click.option("--megabytes", type=click.IntRange(1, 1000), default=30, show_default=True, help="Of pages.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--slow", "slow_s", type=click.FloatRange(0.1), default=3.0, show_default=True, help="CPU s a round, at most."
)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the table as JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Also write it as Markdown.")
def measure_patterns(
    *,
    counts: tuple[int, ...],
    megabytes: int,
    rounds: int,
    slow_s: float,
    seed: int,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """Regular expressions over web pages: one, and hundreds, by engine."""
    tables = [measure(pages(megabytes * 1_000_000, seed), counts, rounds=rounds, slow_s=slow_s)]
    show(tables)
    write(tables, json_path=json_path, markdown_path=markdown_path)
