"""`external`: what is wrong with a declaration is said when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bunker.api import Analyzer, Count, Host, Record, external, message_record
from bunker.errors import ConfigurationError
from bunker.experiment.bundle import open_bundle, seal


class Seen(Record):
    site: Host


class Sums(Record):
    count: Count


def test_a_declaration_is_an_analyzer() -> None:
    made = external("perl lib/my-score.pl --fast", message="http", emits=(Seen, Sums), fields=("host",))
    assert isinstance(made, Analyzer) and made.name == "my_score" and made.program is not None
    assert made.program.command == ("perl", "lib/my-score.pl", "--fast")
    assert [schema.name for schema in made.emits] == ["seen", "sums"]


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("", {}),
        ("perl 'unended", {}),
        ("perl a.pl", {"message": "mails"}),
        ("perl a.pl", {"emits": message_record("http")}),
        ("perl a.pl", {"emits": ()}),
        ("perl a.pl", {"emits": (Seen, Seen)}),
        ("perl a.pl", {"fields": ("hosts",)}),
        ("perl a.pl", {"needs": ("everything",)}),
        ("perl a.pl", {"files": ("../a",)}),
        ("perl a.pl", {"files": ("/etc/passwd",)}),
        ("perl a.pl", {"libraries": ("lib",)}),
        ("perl a.pl", {"libraries": ("/usr/../root",)}),
    ],
)
def test_mistakes_are_named(command: str, more: dict[str, object]) -> None:
    words: dict[str, object] = {"message": "http", "emits": Seen} | more
    with pytest.raises(ConfigurationError):
        external(command, **words)  # type: ignore[arg-type]


EXPERIMENT = """
[experiment]
name = "t"
purpose = "t"
[analysis]
analyzers = ["./mine.py:mine"]
[policy]
file = "policy.toml"
"""
MINE = """
from bunker.api import Count, Record, external
class Sums(Record):
    count: Count
mine = external("perl a.pl", message="http", emits=Sums, files=("words/b.txt",))
"""


def folder(place: Path, *, size: int = 1) -> Path:
    (place / "words").mkdir()
    (place / "experiment.toml").write_text(EXPERIMENT)
    (place / "policy.toml").write_text("[policy]\nformat = 1\nname = 't'\npurpose = 't'\n")
    (place / "mine.py").write_text(MINE)
    (place / "a.pl").write_text("print 1;")
    (place / "words" / "b.txt").write_text("b" * size)
    return place / "experiment.toml"


def test_a_bundle_holds_the_program_and_its_files(tmp_path: Path) -> None:
    bundle = open_bundle(seal(folder(tmp_path)).content)
    assert bundle.program_files == {"a.pl": b"print 1;", "words/b.txt": b"b"}
    assert bundle.programs["a"].command == ("perl", "a.pl")
    assert [analyzer.name for analyzer in bundle.load_analyzers()] == ["a"]


def test_files_have_a_size_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="larger than"):
        seal(folder(tmp_path, size=(2 << 20)))


def test_a_bundle_with_a_path_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    content = seal(folder(tmp_path)).content
    forged = content.replace(b'"words/b.txt":"Yg=="', b'"../words/b":"Yg=="')
    assert forged != content
    with pytest.raises(ConfigurationError, match="leaves its folder"):
        open_bundle(forged)


def test_other_programs_than_were_sealed_are_refused(tmp_path: Path) -> None:
    content = seal(folder(tmp_path)).content
    forged = content.replace(b'"command":["perl","a.pl"]', b'"command":["perl","b.pl"]')
    assert forged != content
    with pytest.raises(ConfigurationError, match="other programs"):
        open_bundle(forged).load_analyzers()


def test_a_bundle_without_programs_does_not_mention_them(tmp_path: Path) -> None:
    file = folder(tmp_path)
    file.write_text(EXPERIMENT.replace("./mine.py:mine", "http"))
    assert b"program" not in seal(file).content
