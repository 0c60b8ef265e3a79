"""What attacks recover of each header-trace policy: measured, with what we expect and say in `docs/attacks.md`."""

from __future__ import annotations

from pathlib import Path

import header_attacks as attacks
import pcapfile
import pytest

from bunker.cli.anonymize import make_trace
from bunker.policy.trace_file import read_trace

EXAMPLES = Path(__file__).parents[2] / "examples"
# A policy without structure in addresses and without exact numbers: what is left of each attack when that is given up.
TAGS = (
    (EXAMPLES / "header-trace" / "release.toml")
    .read_text()
    .replace('"pfx"', '"tag"')
    .replace('"flow_offset"', '"drop"')
    .replace('accept = ["pfx-with-service-ports", "seq-shows-sizes"]', "accept = []")
)
POLICIES = {
    "policy.toml": (EXAMPLES / "header-trace" / "policy.toml").read_text(),
    "release.toml": (EXAMPLES / "header-trace" / "release.toml").read_text(),
    "release.toml with tags, without sequence numbers": TAGS,
}
# (least, most) of the recovered share, by policy and attack.
ALL, NONE, LITTLE, ANY = (0.95, 1.0), (0.0, 0.02), (0.0, 0.2), (0.0, 1.0)
EXPECTED = {
    "policy.toml": {
        "1 known pair": (0.45, 0.55),
        "10 known pairs": ALL,
        "injection": ALL,
        "scan in order": ALL,
        "sizes of pages": (0.8, 1.0),
    },
    "release.toml": {
        "1 known pair": (0.45, 0.55),
        "10 known pairs": ALL,
        "injection": ALL,
        "scan in order": NONE,
        "sizes of pages": (0.8, 1.0),
    },
    "release.toml with tags, without sequence numbers": {
        "1 known pair": NONE,
        "10 known pairs": NONE,
        "injection": ALL,
        "scan in order": NONE,
        "sizes of pages": NONE,
    },
}


@pytest.fixture(scope="module")
def world() -> attacks.World:
    return attacks.make_world(3)


@pytest.fixture(scope="module")
def traces(world: attacks.World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[attacks.Seen]]:
    folder = tmp_path_factory.mktemp("attacks")
    raw = folder / "raw.pcap"
    pcapfile.write_pcap(raw, world.raw)
    made = {}
    for number, (name, text) in enumerate(POLICIES.items()):
        out = folder / f"{number}.pcapng"
        make_trace((raw,), out, read_trace(text, name=name))
        made[name] = attacks.released(out)
    made["the capture itself"] = attacks.released(raw)
    return made


@pytest.mark.parametrize("attack", attacks.ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_attack_recovers_what_the_page_says(
    policy: str, attack: attacks.Attack, world: attacks.World, traces: dict[str, list[attacks.Seen]]
) -> None:
    least, most = EXPECTED[policy][attack.name]
    recovered = attack.run(world, traces[policy], attack.strength)
    assert least <= recovered <= most, f"{recovered:.2f} recovered"


@pytest.mark.parametrize("attack", attacks.ATTACKS[2:], ids=lambda attack: attack.name)
def test_each_attack_works_where_nothing_is_hidden(
    attack: attacks.Attack, world: attacks.World, traces: dict[str, list[attacks.Seen]]
) -> None:
    """The control: against the capture itself an attack that finds nothing would be no attack."""
    assert attack.run(world, traces["the capture itself"], attack.strength) > 0.8
