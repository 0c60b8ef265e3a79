"""The tables of docs/conformance.md, made of verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from corpus import Case
from known import differences
from verdicts import Verdict


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("\n", " ")


def explained(verdict: Verdict) -> str:
    """What stands in the table's last column."""
    if verdict.word == "not supported":
        return verdict.unsupported
    entry = differences().get((verdict.capability, verdict.case))
    if verdict.word == "differs":
        facts = ", ".join(sorted(verdict.facts))
        return f"{facts}: {entry.reason if entry else 'NOT EXPLAINED'}"
    return ""


def _summary(verdicts: list[Verdict]) -> Iterator[str]:
    yield "| capability | inputs | agrees | differs, explained | not supported |"
    yield "|---|---|---|---|---|"
    for capability in sorted({verdict.capability for verdict in verdicts}):
        words = Counter(verdict.word for verdict in verdicts if verdict.capability == capability)
        yield (
            f"| {capability} | {words.total()} | {words['agrees']} | {words['differs']} | {words['not supported']} |"
        )


def page(cases: Iterable[Case], verdicts: list[Verdict]) -> str:
    """The tables."""
    listed = list(cases)
    by_case: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_case.setdefault(verdict.case, []).append(verdict)
    lines = [f"{len(listed)} inputs.", "", *_summary(verdicts)]
    source = ""
    for case in listed:
        if case.source != source:
            source = case.source
            lines += [
                "",
                f"## {source}",
                "",
                "| input | exercises | capability | verdict | why |",
                "|---|---|---|---|---|",
            ]
        words = ", ".join(sorted(case.words))
        found = by_case.get(case.name, [])
        beyond = [verdict for verdict in found if verdict.capability != "capture"]
        for verdict in found:
            lines.append(
                f"| {case.path.name} | {words} | {verdict.capability} | {verdict.word} | {_cell(explained(verdict))} |"
            )
        if not beyond:
            lines.append(f"| {case.path.name} | {words} | - | not compared | |")
    return "\n".join(lines)
