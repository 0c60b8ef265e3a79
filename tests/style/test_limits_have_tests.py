"""Every bound of the crates is named by a test: in its own file's tests, or in the crate's by module and name.

That the test stands at the boundary no program can say; that there is none can be said.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from limits_page import _CONSTANT, _FIELD, _NO_BOUNDS, _RUST  # noqa: E402 - the path to it is set above

_CRATES = ("clear", "jail", "proto", "py", "wire")
# How a thing is done, not how much of it is allowed: reaching them changes nothing but the time that it takes.
_TUNING = {"COLD_FLOWS", "AHEAD"}
_TESTS = re.compile(r"^(?:#\[cfg\(test\)\]|mod tests \{)", re.MULTILINE)


def code_of_tests(path: Path) -> str:
    """The part of a source file that is tests."""
    text = path.read_text(encoding="utf-8")
    found = _TESTS.search(text)
    return text[found.start() :] if found else ""


def _crate_tests(crate: Path) -> str:
    files = sorted([*(crate / "tests").glob("**/*.rs"), *(crate / "src").glob("**/tests/*.rs")])
    inside = [code_of_tests(path) for path in sorted((crate / "src").glob("**/*.rs"))]
    return "\n".join([path.read_text(encoding="utf-8") for path in files] + inside)


def bounds() -> Iterator[tuple[Path, str]]:
    """(file, name) of every public number that bounds something."""
    for path in sorted(path for crate in _CRATES for path in (ROOT / "crates" / crate / "src").glob("**/*.rs")):
        if path == _RUST:
            continue
        for _, name, _ in _CONSTANT.findall(path.read_text(encoding="utf-8")):
            if name not in _NO_BOUNDS | _TUNING:
                yield path, name


def is_tested(path: Path, name: str) -> bool:
    """Whether a test names the bound: in its own file, with its module elsewhere, or alone if no other has its name."""
    if re.search(rf"\b{name}\b", code_of_tests(path)):
        return True
    crate = ROOT / "crates" / path.relative_to(ROOT / "crates").parts[0]
    module = path.stem if path.stem != "mod" else path.parent.name
    parents = {module, path.parent.name} - {"src"}
    text = _crate_tests(crate)
    if any(re.search(rf"\b{parent}::(?:{name}\b|\{{[^}}]*\b{name}\b)", text) for parent in parents):
        return True
    alone = sum(other == name and place.is_relative_to(crate) for place, other in bounds()) == 1
    return alone and bool(re.search(rf"\b{name}\b", text))


@pytest.mark.parametrize(("path", "name"), list(bounds()), ids=lambda value: str(getattr(value, "stem", value)))
def test_bound_is_named_by_a_test(path: Path, name: str) -> None:
    assert is_tested(path, name), f"{path.relative_to(ROOT)}: no test names {name}"


def test_each_limit_of_the_wire_is_set_or_read_by_a_test() -> None:
    text = _crate_tests(ROOT / "crates" / "wire")
    fields = [name for _, name in _FIELD.findall(_RUST.read_text(encoding="utf-8"))]
    assert len(fields) > 10
    for name in fields:
        assert re.search(rf"\b{name}\b", text), f"no test names Limits::{name}"


def test_a_name_that_no_test_has_is_found_out() -> None:
    path = ROOT / "crates" / "proto" / "src" / "mail" / "mod.rs"
    assert not is_tested(path, "NO_SUCH_BOUND")
