"""The release report of a rehearsal: one page that a privacy officer reads and keeps.

Rules of this file:
1. It is made of our words, of numbers, and of what synthetic traffic became; all of it is escaped, nothing is loaded
   from elsewhere, nothing runs.
2. A value that was planted stands nowhere in it, found or not.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bunker.open.rehearsal.canaries import Hit

Row = Sequence[str]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #1c2530 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ccd }
table { border-collapse: collapse; margin: .6em 0 }
td, th { text-align: left; padding: .2em .9em .2em 0; vertical-align: top; overflow-wrap: anywhere }
th { border-bottom: 1px solid #99a } td { border-bottom: 1px solid #eef }
.good, .bad { padding: .8em 1em; font-weight: bold; border-left: .5em solid }
.good { background: #e7f4e8; border-color: #2d7a36 } .bad { background: #fae6e4; border-color: #b03030 }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """One place that was searched: what it is, how many bytes."""

    place: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything the page says.

    Args:
        facts: (name, value) of the run.
        leaving: (record, field, from, leaves as, who has the output learns) of every field that leaves.
        samples: For each record its columns and its first rows, as they came out.
        planted: (canary, number of its forms that were sought).
        hits: What was found, by canary and place; empty is good.
        control: What the control was, and whether it found what it had to.
        complaints: Why the rehearsal says nothing, or less than it could.
    """

    facts: Sequence[tuple[str, str]]
    leaving: Sequence[Row]
    samples: Sequence[tuple[str, Row, Sequence[Row]]]
    planted: Sequence[tuple[str, int]]
    searched: Sequence[Searched]
    hits: Sequence[Hit]
    control: Sequence[tuple[str, bool]]
    failures: Sequence[str]
    notes: Sequence[str]

    @property
    def good(self) -> bool:
        """Nothing was found, and the rehearsal can be believed."""
        return not self.hits and not self.failures and all(found for _, found in self.control)


def _table(head: Row, rows: Iterable[Row]) -> str:
    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _verdict(report: Report) -> str:
    if report.good:
        count = len(report.planted)
        return f'<p class="good">Of {count} planted values none came out, and none stayed behind.</p>'
    words = [f"{len({hit.canary for hit in report.hits})} planted values were found."] if report.hits else []
    words += [f"The control did not find what it had to: {what}." for what, found in report.control if not found]
    words += list(report.failures)
    return f'<p class="bad">{html.escape(" ".join(words))}</p>'


def page(report: Report) -> str:
    """The page, HTML, UTF-8."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Rehearsal</title>',
        f"<style>{_STYLE}</style><h1>Rehearsal: what would be released</h1>",
        "<p>The experiment was run whole, in the box it will run in, on synthetic traffic in which every kind of field "
        "holds a value that exists nowhere else. Then these values were sought in all that came out and all that "
        "stayed on disk: plain, reversed, in hex, base64, URL and UTF-16 spellings, as decimal numbers, inside "
        "compressed data and Parquet columns.</p>",
        _verdict(report),
        _table(("", ""), report.facts),
    ]
    if report.hits:
        parts += ["<h2>Found</h2>", "<p>Where a planted value stands; the value itself is not repeated here.</p>"]
        found = sorted({(hit.canary, hit.form, hit.where.split("!")[0]) for hit in report.hits})
        parts.append(_table(("planted as", "spelt", "in"), found))
    parts += ["<h2>What leaves, field by field</h2>"]
    parts.append(_table(("record", "field", "from", "leaves as", "who has the output learns"), report.leaving))
    parts += ["<h2>How it looks</h2>", "<p>The first rows that the synthetic traffic became.</p>"]
    for record, columns, rows in report.samples:
        parts += [f"<h3>{html.escape(record)}</h3>", _table(columns, rows) if rows else "<p>No rows.</p>"]
    parts += ["<h2>What was planted</h2>", _table(("planted as", "spellings sought"), _counts(report.planted))]
    parts += ["<h2>Where it was sought</h2>"]
    parts.append(_table(("place", "bytes"), [(one.place, f"{one.size:,}") for one in report.searched]))
    parts += ["<h2>The control</h2>", "<p>A search that finds nothing must show that it could.</p>"]
    parts.append(
        _table(("what had to be found", ""), [(what, "found" if ok else "NOT FOUND") for what, ok in report.control])
    )
    if report.notes:
        parts += ["<h2>Notes</h2><ul>", *(f"<li>{html.escape(note)}</li>" for note in report.notes), "</ul>"]
    return "\n".join([*parts, "</html>", ""])


def _counts(planted: Iterable[tuple[str, int]]) -> list[Row]:
    return [(name, str(count)) for name, count in planted]
