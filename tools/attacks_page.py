"""Makes docs/attacks.md out of a run of the attacks: `python tools/attacks_page.py`."""
# ruff: noqa: E501 - the paragraphs of the page

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pages import ROOT

sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("makers", "pcaps", "privacy", "pipeline")]

import header_attacks as attacks  # noqa: E402
import pcapfile  # noqa: E402
import test_header_attacks as expected  # noqa: E402

from bunker.cli.anonymize import make_trace  # noqa: E402
from bunker.policy.trace import read_trace  # noqa: E402

_HEAD = """# What attacks recover of header traces

Made by `python tools/attacks_page.py` (keys are random, so shares move by a few hundredths); `tests/privacy/test_header_attacks.py` holds
each to bounds. The world: two networks of 100 hosts, 200 others, 660 connections, one attacker who knows the policy and sent packets of his
own while it was captured. Code: `tests/makers/header_attacks.py`.

| attack | {heads} |
|---|{rule}
"""
_TAIL = """
What it says:

* **Every consistent map falls to injection.** Who can send packets into the traced network while it is traced, and recognises a pattern of
  sizes, order and time, learns the stand-in of each address that he sent to, whatever the map is: tags as well as prefixes. What helps: short
  epochs (`epoch = "hour"`), saying when was traced only afterwards, not releasing addresses (`truncate`).
* **Prefix-preserving maps give networks away.** Ten known pairs in two networks tell the network of every other host in them. Servers are
  known pairs: their ports stand in the trace. Where structure is not needed, use `tag` or `truncate`.
* **A scan in order reads the map** where scanners are treated as others (`policy.toml`, which reads once). With `scanners = "split"` the
  scanner's packets have a map of their own, and nothing of it is true of anybody else's.
* **Exact sequence numbers are exact sizes.** Buckets hide the size of a packet, not of a connection: with `seq` a page of a known server is told
  by its bytes. The policy must accept `seq-shows-sizes` by name; leaving `seq`, `ack` and `sack` out closes it, and takes loss analysis with it.
* Not tried here: fingerprints of hosts by degree and volume (Ribeiro et al. 2008, Coull et al. 2007), which need a second source about the same
  hosts; clock skew (time stamps leave as ranks or not at all); linking two traces (keys differ from run to run).
"""


def main() -> None:
    """Run all attacks against all policies and write the page."""
    world = attacks.make_world(3)
    rows: dict[str, list[float]] = {attack.name: [] for attack in attacks.ATTACKS}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.pcap"
        pcapfile.write_pcap(raw, world.raw)
        for number, (name, text) in enumerate(expected.POLICIES.items()):
            out = Path(folder) / f"{number}.pcapng"
            make_trace((raw,), out, read_trace(text, name=name))
            seen = attacks.released(out)
            for attack in attacks.ATTACKS:
                rows[attack.name].append(attack.run(world, seen, attack.strength))
    page = _HEAD.format(heads=" | ".join(expected.POLICIES), rule="---:|" * len(expected.POLICIES))
    for attack in attacks.ATTACKS:
        shares = " | ".join(f"{100 * recovered:.0f} %" for recovered in rows[attack.name])
        page += f"| {attack.name}: {attack.does} | {shares} |\n"
    (ROOT / "docs" / "attacks.md").write_text(page + _TAIL)


if __name__ == "__main__":
    main()
