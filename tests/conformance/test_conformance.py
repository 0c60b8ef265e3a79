"""Agreement with the peers, input by input: what differs is listed with a reason, and what is listed differs."""

from __future__ import annotations

import pytest
from corpus import ROOT, Case, cases, folder
from known import differences
from table import page
from verdicts import Mismatch, Unsupported, Verdict, comparer, judge, registered

ABSENT = "the peers' captures are not here: put them beside the tree (../shared/corpus) or set BUNKER_CORPUS"
needs_corpus = pytest.mark.skipif(folder() is None, reason=ABSENT)
_verdicts: dict[str, list[Verdict]] = {}


def verdicts_of(case: Case) -> list[Verdict]:
    """Judged once, for the test of the case and for the page."""
    if case.name not in _verdicts:
        _verdicts[case.name] = list(judge(case))
    return _verdicts[case.name]


@needs_corpus
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_input_agrees_or_differs_for_a_listed_reason(case: Case) -> None:
    complaints = []
    for verdict in verdicts_of(case):
        listed = differences().get((verdict.capability, verdict.case))
        allowed = frozenset(listed.facts) if listed else frozenset()
        complaints += [
            f"{verdict.capability}: {mismatch}" for mismatch in verdict.mismatches if mismatch.fact not in allowed
        ]
        if gone := allowed - verdict.facts:
            complaints.append(f"{verdict.capability}: listed as different and agrees now: {', '.join(sorted(gone))}")
    assert not complaints, "\n" + "\n".join(complaints)


@needs_corpus
def test_listed_differences_are_about_inputs_that_exist() -> None:
    names = {case.name for case in cases()}
    capabilities = {one.capability for one in registered()}
    for capability, case in differences():
        assert capability in capabilities, capability
        assert case in names, case


@needs_corpus
def test_page_is_what_the_run_says() -> None:
    verdicts = [verdict for case in cases() for verdict in verdicts_of(case)]
    written = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert page(cases(), verdicts) in written, "run `python tools/conformance.py`"


def test_differences_carry_reasons_and_facts() -> None:
    for entry in differences().values():
        assert len(entry.reason) > 20
        assert entry.facts
        assert entry.names()


def test_a_comparer_is_only_asked_about_its_own_inputs(tmp_path: pytest.TempPathFactory) -> None:
    assert all(one.compare.__doc__ for one in registered()), "each comparer says what it compares"


def test_a_mismatch_makes_a_verdict_differ_and_says_what_was_expected() -> None:
    case = Case(source="peer", path=ROOT / "x.pcap", words=frozenset(), exercises="", note="")
    mismatch = Mismatch(fact="host", expected="a", ours="b", where="row 1")
    assert str(mismatch) == "host at row 1: expected 'a', got 'b'"
    verdict = Verdict(case=case.name, capability="http", word="differs", mismatches=(mismatch,))
    assert verdict.facts == {"host"}
    assert Unsupported("LZMA").what == "LZMA"
    assert callable(comparer)
