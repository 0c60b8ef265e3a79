"""[capture] checksums, overlap and overlap_by_host: what they become, and how a wrong one is refused."""

from __future__ import annotations

import pytest

from bunker.errors import ConfigurationError
from bunker.experiment.file import OVERLAP_POLICIES, Experiment, parse_experiment
from bunker.native.wire import overlap_policies


def experiment(capture: str) -> Experiment:
    """The smallest experiment with these settings of `[capture]`."""
    return parse_experiment(
        f"""
[experiment]
name = "study"
purpose = "a test"
[capture]
{capture}
[analysis]
analyzers = ["flow"]
[policy]
file = "policy.toml"
""",
        name="experiment.toml",
    )


def test_bytes_that_came_first_count_unless_something_else_is_said() -> None:
    assert experiment("").overlap == ((bytes(16), 0, "first"),)


def test_policies_by_host_have_prefixes_of_128_bits() -> None:
    found = experiment(
        'overlap = "linux"\noverlap_by_host = { "192.0.2.0/24" = "windows", "2001:db8::/32" = "solaris" }'
    ).overlap
    assert found == (
        (bytes(16), 0, "linux"),
        (bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 0]), 120, "windows"),
        (bytes.fromhex("20010db8") + bytes(12), 32, "solaris"),
    )


@pytest.mark.parametrize(
    ("capture", "thing", "remedy"),
    [
        ('overlap = "linx"', "capture.overlap", "linux"),
        ('overlap_by_host = { "192.0.2.0/24" = "beos" }', "capture.overlap_by_host", "Known"),
        ('overlap_by_host = { "192.0.2.1/24" = "last" }', "capture.overlap_by_host", "192.0.2.0/24"),
        ('overlap_by_host = { "example" = "last" }', "capture.overlap_by_host", "192.0.2.0/24"),
        ('checksums = "sometimes"', "capture.checksums", "auto"),
    ],
)
def test_wrong_settings_are_refused_with_their_remedy(capture: str, thing: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        experiment(capture)
    assert thing in str(refused.value)
    assert remedy in str(refused.value)


@pytest.mark.parametrize(
    ("word", "verify", "auto"), [("verify", True, False), ("auto", True, True), ("ignore", False, False)]
)
def test_checksums_are_verified_left_or_ignored(word: str, verify: bool, auto: bool) -> None:
    found = experiment(f'checksums = "{word}"')
    assert (found.verify_checksums, found.auto_checksums) == (verify, auto)


def test_names_of_policies_are_the_cores() -> None:
    assert sorted(OVERLAP_POLICIES) == sorted(overlap_policies())
