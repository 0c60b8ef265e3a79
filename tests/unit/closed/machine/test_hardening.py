"""Switches are set and read back; what a kernel has although it should not is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from bunker.closed.machine import hardening
from bunker.errors import BoxError
from bunker.model.heartbeat import Start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, _, _ in hardening.SWITCHES:
        path = tmp_path / "proc/sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something else\n")
    (tmp_path / "sys/kernel/security").mkdir(parents=True)
    (tmp_path / "sys/kernel/security/lockdown").write_text("none integrity [confidentiality]\n")
    return tmp_path


def apply(root: Path) -> dict[str, str]:
    return hardening.apply(sysctl=root / "proc/sys", root=root)


def test_all_switches_are_set(root: Path) -> None:
    found = apply(root)
    for name, value, _ in hardening.SWITCHES:
        assert (root / "proc/sys" / name).read_text().strip() == value
    assert set(found.values()) == {"enforced"}


def test_a_switch_of_a_missing_feature_is_no_fault(root: Path) -> None:
    (root / "proc/sys/kernel/modules_disabled").unlink()
    apply(root)


def test_a_switch_that_cannot_be_set_stops_the_start(root: Path) -> None:
    path = root / "proc/sys/kernel/sysrq"
    path.unlink()
    path.mkdir()
    with pytest.raises(BoxError, match="sysrq"):
        apply(root)


def test_swap_in_use_stops_the_start(root: Path) -> None:
    (root / "proc/swaps").write_text("Filename Type Size\n/dev/vdb partition 1\n")
    with pytest.raises(BoxError, match="swap"):
        apply(root)


@pytest.mark.parametrize(("name", "path"), hardening.ABSENT)
def test_what_should_be_absent_and_is_there_is_said(name: str, path: str, root: Path) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    assert apply(root)[name].startswith("missing")


def test_a_kernel_without_lockdown_is_said(root: Path) -> None:
    (root / "sys/kernel/security/lockdown").write_text("[none] integrity confidentiality\n")
    assert apply(root)["lockdown_confidentiality"].startswith("missing")


def test_the_entries_fit_into_a_start_statement(root: Path) -> None:
    import msgspec  # noqa: PLC0415

    fields = {field.name: field.type for field in msgspec.structs.fields(Start)}
    msgspec.convert(apply(root), type=fields["enforcement"])
