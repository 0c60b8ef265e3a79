"""The examples in the machine: analyzers in Perl, SpamAssassin, Arrow (`make test-image`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from boxes import POLICY, ROOT, TRAFFIC, bunker, events, rows, study
from machines import log_of, started
from mails import HAM, write_mails
from phishing_traffic import PLACE

from bunker.image.launch import Image
from bunker.open.verdict import Word

ARROW = """
import pyarrow as pa
import pyarrow.compute as pc
from bunker.api import Bytes, Emit, Record, analyzer, http

class Sizes(Record):
    total: Bytes

@analyzer(emits=Sizes, batch=True)
def sizes(batch: http.Transaction, emit: Emit) -> None:
    total = pc.sum(pa.record_batch(batch)["response_body_len"]).as_py() or 0
    emit(pa.RecordBatch.from_arrays([pa.array([total], pa.uint64())], ["total"]))
"""


def test_the_phishing_study_finds_inside_what_it_finds_outside(image: Image, work: Path) -> None:
    experiment = ROOT / "examples" / "phishing-study" / "experiment.toml"
    with started(image, experiment, work / "s", files=(PLACE,), memory_mb=2048) as running:
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    assert Counter((row["proto"], row["spam"]) for row in rows(running.out, "spam"))["smtp", True] >= 1
    assert len(rows(running.out, "spam")) == 8
    assert len(rows(running.out, "phishing")) == 2
    assert not events(running.out)


@pytest.mark.parametrize("name", ["perl-score", "mail-study", "web-study"])
def test_an_example_releases_what_it_releases_outside(name: str, image: Image, work: Path) -> None:
    experiment = ROOT / "examples" / name / "experiment.toml"
    traffic = TRAFFIC
    if name == "mail-study":
        traffic = work / "many.pcap"
        write_mails(traffic, [HAM] * 8)
    with started(image, experiment, work / name, files=(traffic,), memory_mb=2048) as running:
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    outside = work / f"{name}-outside"
    done = bunker("run", str(experiment), "--read", str(traffic), "-o", str(outside))
    assert done.returncode == 0, done.stderr
    records = [path.name for path in sorted((outside / "records").iterdir())]
    counted = Counter({record: len(rows(outside, record)) for record in records})
    assert counted.total() > 0
    assert Counter({record: len(rows(running.out, record)) for record in records}) == counted


def test_an_analyzer_has_pyarrow_inside(image: Image, work: Path) -> None:
    out = '[out.sizes]\ntotal = { do = "keep", because = "a sum over everything" }\n'
    one = study(work / "arrow", analyzers=("./mine.py:sizes",), source=ARROW, policy=POLICY + out, lanes=1)
    with started(image, one.file, work / "p", files=(TRAFFIC,), memory_mb=2048) as running:
        running.wait_until_off()
    assert running.verdict is not None
    assert running.verdict.word is Word.WHOLE, log_of(running.line)
    assert not events(running.out)
    assert sum(row["total"] for row in rows(running.out, "sizes")) > 0
