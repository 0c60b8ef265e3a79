"""A directory that says something else than its envelopes is found; what is only left over does not change the word."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from enveloping import aborted, cut, other, stored_as, usual, without_end
from forging import Liar, dropped, duplicated, flipped, lying, replaced, swapped

from bunker import limits
from bunker.errors import ConfigurationError
from bunker.model.envelope import Kind, records_head
from bunker.open import files
from bunker.open.manifest import read_manifest, write_manifest
from bunker.open.receive import receive_stream
from bunker.open.verdict import Verdict, Word, told
from bunker.open.verify import runs_in, verify


def received(directory: Path, envelopes: Sequence[bytes], *, key: str | None = None) -> Verdict:
    """Store a stream as `run -o` does."""
    source = stored_as(directory.with_suffix(".env"), envelopes)
    fd = os.open(source, os.O_RDONLY)
    try:
        return receive_stream(fd, directory, key=key)
    finally:
        os.close(fd)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The usual run, stored."""
    assert received(tmp_path / "run", usual().envelopes).word is Word.WHOLE
    return tmp_path / "run"


def findings(verdict: Verdict) -> list[str]:
    return [str(finding) for finding in verdict.findings]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def test_what_was_received_is_what_the_box_released(run: Path) -> None:
    verdict = verify(run, (usual().fingerprint,))
    assert (verdict.word, verdict.exit_code, verdict.warnings) == (Word.WHOLE, 0, ())
    assert verdict.rows == {"visit": 9, "sighting": 3}
    assert (run / "envelopes" / "000000.env").read_bytes() == usual().whole
    assert sorted(path.name for path in run.iterdir()) == [
        "diagnostics.jsonl",
        "envelopes",
        "heartbeats.jsonl",
        "manifest.json",
        "records",
    ]
    assert pq.read_table(run / "records" / "visit").num_rows == 9
    # Their order is that of a hash under the run's key: it says nothing, and is another in each run.
    assert sorted(pq.read_table(run / "records" / "sighting").column("number").to_pylist()) == [0, 1, 2]
    lines = [json.loads(line) for line in (run / "heartbeats.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["start", "heartbeat", "heartbeat", "heartbeat", "end"]
    assert [line["number"] for line in lines] == [0, 1, 4, 6, 8]
    events = [json.loads(line)["kind"] for line in (run / "diagnostics.jsonl").read_text().splitlines()]
    assert events == ["analyzer_failed", "gap", "gate_refused"]


def _edit_row(run: Path) -> None:
    part = run / "records" / "sighting" / "part-000000.parquet"
    rewrite(part, lambda table: table.set_column(0, table.schema.field(0), pa.array([0, 1, 7], pa.uint64())))


def _drop_row(run: Path) -> None:
    rewrite(run / "records" / "visit" / "part-000000.parquet", lambda table: table.slice(0, 8))


def _add_row(run: Path) -> None:
    path = run / "records" / "visit" / "part-000000.parquet"
    rewrite(path, lambda table: pa.concat_tables([table, table.slice(0, 1)]))


def _swap_rows(run: Path) -> None:
    rewrite(run / "records" / "visit" / "part-000000.parquet", lambda table: table.take([1, 0, *range(2, 9)]))


def _add_part(run: Path) -> None:
    folder = run / "records" / "sighting"
    (folder / "part-000001.parquet").write_bytes((folder / "part-000000.parquet").read_bytes())


def _edit_line(run: Path) -> None:
    path = run / "heartbeats.jsonl"
    path.write_text(path.read_text().replace('"packets_received":100', '"packets_received":101'))


def _drop_line(run: Path) -> None:
    path = run / "heartbeats.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _add_line(run: Path) -> None:
    with (run / "diagnostics.jsonl").open("a") as file:
        file.write('{"at_ns":1,"kind":"interface_up"}\n')


def _manifest(**changes: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = run / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(content)

    return change


TAMPERING: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a cell is changed": ("records/sighting: other rows than envelope 3 has", _edit_row),
    "a row is dropped": ("records/visit: rows of envelope 7 are missing", _drop_row),
    "a row is added": ("records/visit: more rows than the envelopes have", _add_row),
    "rows are swapped": ("records/visit: other rows than envelope 2 has", _swap_rows),
    "a part is gone": (
        "records/visit: rows of envelope 2 are missing",
        _unlink("records/visit/part-000000.parquet"),
    ),
    "a part is added": ("records/sighting: more rows than the envelopes have", _add_part),
    "a part is no Parquet": (
        "records/visit: part-000000.parquet is no Parquet of this record",
        _write("records/visit/part-000000.parquet", b"PAR1 no"),
    ),
    "a part of another record": (
        "records/visit: part-000000.parquet is no Parquet of this record",
        lambda run: _write(
            "records/visit/part-000000.parquet", (run / "records/sighting/part-000000.parquet").read_bytes()
        )(run),
    ),
    "a record that was never declared": (
        "records/extra/part-000000.parquet: no envelope accounts for it",
        _write("records/extra/part-000000.parquet", b""),
    ),
    "a file among the parts": (
        "records/visit/notes.txt: no envelope accounts for it",
        _write("records/visit/notes.txt", b""),
    ),
    "a heartbeat is edited": ("heartbeats.jsonl: says something else than the envelopes", _edit_line),
    "a heartbeat is dropped": ("heartbeats.jsonl: says something else than the envelopes", _drop_line),
    "an event is added": ("diagnostics.jsonl: more lines than the envelopes give", _add_line),
    "the events are gone": ("diagnostics.jsonl: is not there", _unlink("diagnostics.jsonl")),
    "the manifest is gone": ("manifest.json: has no manifest.json", _unlink("manifest.json")),
    "the manifest is no JSON": ("manifest.json: is no manifest of this version", _write("manifest.json", b"{")),
    "a setting that no manifest has": ("manifest.json: is no manifest of this version", _manifest(more=1)),
    "a manifest of the future": ("manifest.json: has format 2", _manifest(bunker_output=2)),
    "another run": ("manifest.json: describes another run than the start statement", _manifest(run="00" * 16)),
    "another key": ("manifest.json: describes another run than the start statement", _manifest(fingerprint="x")),
    "another box": ("manifest.json: describes another run than the start statement", _manifest(tier="appliance")),
    "another start": ("manifest.json: describes another run than the start statement", _manifest(started_ns=0)),
    "another end": ("manifest.json: tells another end than the envelopes", _manifest(verdict="aborted")),
    "still receiving": ("manifest.json: tells another end than the envelopes", _manifest(state="receiving")),
    "other rows": (
        "manifest.json: counts other rows, packets or envelopes than the statements",
        _manifest(rows={"visit": 1, "sighting": 3}),
    ),
    "other packets": (
        "manifest.json: counts other rows, packets or envelopes than the statements",
        _manifest(counters={}),
    ),
    "other envelopes": (
        "manifest.json: counts other rows, packets or envelopes than the statements",
        _manifest(envelopes=99),
    ),
    "other hashes of lines": (
        "manifest.json: has other hashes of the lines than the envelopes give",
        _manifest(heartbeats_sha256="00"),
    ),
    "no parts listed": ("manifest.json: lists other parts than there are", _manifest(parts=[])),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_a_derived_file_that_says_something_else_is_altered(run: Path, name: str) -> None:
    text, change = TAMPERING[name]
    change(run)
    verdict = verify(run)
    assert (verdict.word, verdict.exit_code) == (Word.ALTERED, 1)
    assert f"altered: {text}" in findings(verdict)


def test_a_part_written_anew_with_the_same_rows_is_found_by_its_hash(run: Path) -> None:
    path = run / "records" / "visit" / "part-000000.parquet"
    pq.write_table(pq.read_table(path), path, compression="none")
    assert findings(verify(run)) == ["altered: manifest.json: lists a part that is not there as it was written"]


def test_a_listed_part_with_other_rows_is_found(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["parts"][0]["rows"] += 1
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert findings(verify(run)) == ["altered: manifest.json: lists a part that is not there as it was written"]


def test_what_a_receiver_is_still_writing_is_no_finding(run: Path) -> None:
    (run / "records" / "visit" / ".part-000001.tmp").write_bytes(b"half")
    assert verify(run).word is Word.WHOLE


@pytest.mark.parametrize(
    ("word", "change"),
    [
        (Word.TRUNCATED, lambda stream: stream[:-1]),
        (Word.TRUNCATED, lambda stream: stream[:3]),
        (Word.TRUNCATED, lambda stream: (*stream[:-1], stream[-1][:-1])),
        (Word.MISSING, lambda stream: dropped(stream, 3)),
        (Word.MISSING, lambda stream: dropped(stream, 0)),
        (Word.REPLAYED, lambda stream: duplicated(stream, 2, 5)),
        (Word.REORDERED, lambda stream: swapped(stream, 4, 6)),
        (Word.ALTERED, lambda stream: replaced(stream, 4, flipped(stream[4], 100))),
        (Word.SPLICED, lambda stream: (*stream[:5], *other().envelopes[5:])),
        (Word.REPLAYED, lambda stream: (*stream, stream[-1])),
    ],
)
def test_stored_envelopes_keep_their_word_whatever_was_derived_before(
    run: Path, word: Word, change: Callable[[Sequence[bytes]], Sequence[bytes]]
) -> None:
    (run / "envelopes" / "000000.env").write_bytes(b"".join(change(usual().envelopes)))
    verdict = verify(run)
    assert (verdict.word, verdict.exit_code) == (word, 1)
    if verdict.attested and verdict.word is not Word.REPLAYED:
        assert any("manifest.json: the receiver had 9 envelopes" in note for note in verdict.warnings)


def test_a_cut_stream_does_not_hide_an_edited_row(run: Path) -> None:
    _edit_row(run)
    (run / "envelopes" / "000000.env").write_bytes(b"".join(usual().envelopes[:-1]))
    verdict = verify(run)
    assert verdict.word is Word.ALTERED
    assert any("records/sighting: other rows" in finding for finding in findings(verdict))


def test_a_receiver_that_saw_the_end_cannot_be_made_up(tmp_path: Path) -> None:
    received(tmp_path / "run", without_end(usual()).envelopes)
    assert verify(tmp_path / "run").word is Word.TRUNCATED
    _manifest(verdict="whole")(tmp_path / "run")
    assert verify(tmp_path / "run").word is Word.ALTERED


def test_rows_that_nobody_attested_are_not_stored(tmp_path: Path) -> None:
    verdict = received(tmp_path / "run", without_end(usual()).envelopes)
    assert (verdict.word, verdict.attested, verdict.unattested) == (Word.TRUNCATED, 7, 1)
    assert pq.read_table(tmp_path / "run" / "records" / "visit").num_rows == 5
    again = verify(tmp_path / "run")
    assert (again.word, again.rows) == (Word.TRUNCATED, {"visit": 5, "sighting": 3})
    assert "attested     7 envelopes; 1 behind them attested by nobody" in told(again)


def test_an_aborted_run_ends_with_1(tmp_path: Path) -> None:
    received(tmp_path / "run", aborted().envelopes)
    verdict = verify(tmp_path / "run")
    assert (verdict.word, verdict.exit_code, verdict.findings) == (Word.ABORTED, 1, ())


@pytest.mark.parametrize("which", range(1, 9))
def test_a_receiver_stops_at_the_first_fault_and_keeps_what_was_good(tmp_path: Path, which: int) -> None:
    bad = replaced(usual().envelopes, which, flipped(usual().envelopes[which], 90))
    verdict = received(tmp_path / "run", bad)
    assert verdict.word is Word.ALTERED
    assert (tmp_path / "run" / "envelopes" / "000000.env").read_bytes() == b"".join(bad[:which])
    again = verify(tmp_path / "run")
    assert again.word is Word.TRUNCATED  # what was refused was not kept; the manifest remembers it
    assert any("the receiver found: altered" in note for note in again.warnings)


def test_a_stranger_gets_no_directory(tmp_path: Path) -> None:
    verdict = received(tmp_path / "run", usual().envelopes, key=other().fingerprint)
    assert verdict.word is Word.FORGED
    assert not (tmp_path / "run").exists()


def test_records_of_another_schema_are_found_once_a_signature_covers_them(tmp_path: Path) -> None:
    liar = Liar()
    story = cut(usual().whole)
    liar.tell(story[:2])
    liar.put(Kind.RECORDS, records_head(1, 3), bytes(story[3].body)[8:])  # a sighting, called a visit
    liar.put(Kind.RECORDS, records_head(0, 3), bytes(story[3].body)[8:])

    def admit(kind: Kind, fields: dict[str, object]) -> None:
        if kind is Kind.HEARTBEAT:
            fields["rows"] = {"sighting": 3, "visit": 3}

    liar._lie = admit
    liar.tell(story[4:5])
    verdict = received(tmp_path / "run", liar.out)
    assert verdict.word is Word.FORGED
    assert findings(verdict) == ["forged: envelope 2: its body breaks a rule"]
    assert verify(tmp_path / "run").word is Word.FORGED


def test_segments_and_parts_are_cut_at_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = limits.Limit(default=4, unit="rows", reason="test")
    monkeypatch.setattr(limits, "ROW_GROUP_ROWS", small)
    monkeypatch.setattr(limits, "PART_ROWS", small)
    monkeypatch.setattr(limits, "SEGMENT_BYTES", limits.Limit(default=4096, unit="bytes", reason="test"))
    run = tmp_path / "run"
    received(run, usual().envelopes)
    assert len(files.segments(run)) > 2
    assert b"".join(files.pieces(run)) == usual().whole
    assert len(files.parts(run, "visit")) == 2
    assert verify(run).word is Word.WHOLE
    files.segments(run)[1].unlink()
    assert verify(run).word is Word.MISSING


def test_a_directory_with_something_in_it_is_not_touched(run: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in run.rglob("*"))
    with pytest.raises(ConfigurationError, match="is not empty"):
        received(run, other().envelopes)
    assert sorted(path.stat().st_mtime_ns for path in run.rglob("*")) == before


def test_verify_names_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there"):
        verify(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="has no envelopes/"):
        verify(tmp_path)
    (tmp_path / "sealed").write_bytes(b"BNKS" + bytes(20))
    with pytest.raises(ConfigurationError, match="is sealed"):
        verify(tmp_path / "sealed")


def test_all_runs_of_a_directory_are_named(run: Path) -> None:
    assert runs_in(run) == [run]
    received(run / "second", other().envelopes)
    (run / "notes").mkdir()
    assert runs_in(run) == [run, run / "second"]
    assert runs_in(run / "notes") == [run / "notes"]
    assert verify(run).word is Word.WHOLE


def test_a_directory_by_another_key_is_forged_under_a_pin(tmp_path: Path) -> None:
    forged = lying()
    received(tmp_path / "run", forged.out)
    assert verify(tmp_path / "run").word is Word.WHOLE
    assert verify(tmp_path / "run", (forged.fingerprint,)).word is Word.WHOLE
    assert verify(tmp_path / "run", (usual().fingerprint,)).word is Word.FORGED


def test_a_manifest_cannot_write_to_the_terminal(run: Path) -> None:
    manifest = read_manifest(run)
    evil = json.loads((run / "manifest.json").read_text()) | {"findings": ["\x1b[2J"]}
    (run / "manifest.json").write_text(json.dumps(evil))
    notes = "".join(told(verify(run)))
    assert "\x1b" not in notes
    assert "\\x1b[2J" in notes
    write_manifest(run, manifest)
    assert verify(run).word is Word.WHOLE
