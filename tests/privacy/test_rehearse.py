"""`bunker rehearse`: says good where nothing leaks, and bad wherever something does or nothing could be seen."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

import pytest
from boxes import EXAMPLE, FLOW_OUT, HTTP_OUT, POLICY, bunker, study

from bunker.open.rehearsal.canaries import Hit, make_canaries, search_tree
from bunker.open.rehearsal.disk import Disk, spool_disk
from bunker.open.rehearsal.report import Report, Searched, page

SEED = "rehearsal test"
PLANTED = make_canaries(SEED)
LEAKING = (
    POLICY
    + FLOW_OUT
    + '\n[out.http]\nuri = { do = "allow", values = ["'
    + f"/a/{PLANTED.text('url-path')}?q={PLANTED.text('url-parameter')}"
    + '"] }\n'
)
WRITING = """
import os, tempfile
from bunker.api import Flag, Record, analyzer, http

class Post(Record):
    post: Flag

@analyzer(emits=Post)
def posts(tx: http.Transaction, emit):
    with open(os.path.join(tempfile.gettempdir(), "debug.log"), "a") as log:
        log.write(str(tx.host))
    emit(Post(post=tx.method == "POST"))
"""


def rehearsed(experiment: Path, out: Path, *words: str) -> tuple[int, str, str]:
    done = bunker("rehearse", str(experiment), "-o", str(out), "--seed", SEED, *words)
    report = out / "report.html"
    return done.returncode, done.stdout.decode(), report.read_text() if report.exists() else done.stderr.decode()


def no_value_in(text: str) -> bool:
    canaries = make_canaries(SEED)
    return not any(value in text for canary in canaries.all for value in canary.texts)


def test_the_example_is_good(tmp_path: Path) -> None:
    code, told, report = rehearsed(EXAMPLE / "experiment.toml", tmp_path / "out")
    assert code == 0, told
    assert "rehearsal    GOOD" in told and 'class="good"' in report
    assert "the spool&#x27;s disk, every byte that was written" in report, "root and loop devices: as in CI"
    assert (tmp_path / "out" / "run" / "manifest.json").exists()
    assert search_tree(tmp_path / "out", make_canaries(SEED), shortest=6) == []
    assert bunker("verify", str(tmp_path / "out" / "run")).returncode == 0


def test_a_policy_that_lets_something_out_is_bad(tmp_path: Path) -> None:
    code, told, report = rehearsed(study(tmp_path / "s", policy=LEAKING).file, tmp_path / "out", "--closed-box", "none")
    assert code == 1
    assert "FOUND        url-path in what came out: records/http" in told
    assert 'class="bad"' in report and "url-parameter" in report
    assert no_value_in(told) and no_value_in(re.sub(r"<h2>How it looks</h2>.*?<h2>", "", report, flags=re.DOTALL))


def test_what_an_analyzer_leaves_on_disk_is_found(tmp_path: Path) -> None:
    policy = POLICY + '\n[out.post]\npost = { do = "keep", because = "one bit" }\n'
    one = study(tmp_path / "s", policy=policy, source=WRITING, analyzers=("./mine.py:posts",))
    code, told, _ = rehearsed(one.file, tmp_path / "out", "--closed-box", "none")
    assert code == 1 and "FOUND        host in what the command said and left in temporary folders" in told
    inside, _, _ = rehearsed(one.file, tmp_path / "inside")
    assert inside == 0, "in the box it cannot"


def test_a_rehearsal_of_nothing_is_bad(tmp_path: Path) -> None:
    one = study(tmp_path / "s", policy=POLICY + HTTP_OUT + FLOW_OUT, capture='filter = "host 198.51.100.77"')
    code, told, report = rehearsed(one.file, tmp_path / "out", "--closed-box", "none")
    assert code == 1 and "nothing was rehearsed" in told and "nothing was rehearsed" in report


def test_what_cannot_be_rehearsed_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    assert bunker("rehearse", str(EXAMPLE / "experiment.toml"), "-o", str(tmp_path / "out")).returncode == 2


@pytest.mark.root
def test_what_was_on_the_spools_disk_is_found_without_a_name(tmp_path: Path) -> None:
    canaries = make_canaries(SEED)
    with spool_disk(tmp_path, 8 << 20) as disk:
        assert isinstance(disk, Disk)
        file = disk.mount / "file"
        with file.open("wb") as open_file:
            file.unlink()
            open_file.write(bytes(5000) + canaries.values["cookie"] + bytes(300_000))
            open_file.flush()
            os.fsync(open_file.fileno())
    assert {hit.canary for hit in search_tree(disk.image, canaries)} == {"cookie"}
    assert disk.written_bytes() > 300_000
    assert not disk.mount.exists()


def report_of(**changed: object) -> Report:
    words: dict[str, object] = {
        "facts": [("purpose", "<script>alert(1)</script>")],
        "leaving": [("http", "host", "host", "tag", "which rows have the same & which not")],
        "samples": [("http", ["host"], [["ab<b>"]])],
        "planted": [("host", 12)],
        "searched": [Searched(place="what came out", size=1000)],
        "hits": [],
        "control": [("one", True)],
        "failures": [],
        "notes": ["a < b"],
    }
    return Report(**(words | changed))  # type: ignore[arg-type]


def test_the_page_escapes_what_it_says() -> None:
    made = page(report_of())
    assert "<script>" not in made and "<b>" not in made and html.escape("<script>alert(1)</script>") in made
    assert not re.search(r"(src|href)=", made), "nothing is loaded"


@pytest.mark.parametrize(
    "changed",
    [
        {"hits": [Hit(canary="host", form="raw", where="what came out: x", offset=1)]},
        {"control": [("one", True), ("other", False)]},
        {"failures": ["The run ended with exit code 1."]},
    ],
)
def test_a_page_is_good_only_if_everything_is(changed: dict[str, object]) -> None:
    assert report_of().good and 'class="good"' in page(report_of())
    made = report_of(**changed)
    assert not made.good and 'class="bad"' in page(made) and 'class="good"' not in page(made)
