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
import record_attacks as records  # noqa: E402
import test_header_attacks as expected  # noqa: E402
import test_record_attacks as expected_records  # noqa: E402

from bunker.cli.anonymize import make_trace  # noqa: E402
from bunker.policy.trace_file import read_trace  # noqa: E402

_HEAD = """# What attacks recover

Made by `python tools/attacks_page.py` out of runs (keys are random, so shares move by a few hundredths). An attacker knows the policy, has the
whole output, and did something beforehand. Each share is held to bounds: `tests/privacy/test_header_attacks.py`, `test_record_attacks.py`.

## Header traces

The world: two networks of 100 hosts, 200 others, 660 connections, one attacker who knows the policy and sent packets of his
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
"""
_RECORDS = """
## Records

The world: 80 clients in two networks, 50 sites asked for 10 to 110 times each, 300 visits to a site of 200 known pages, a scanner, and an attacker
whose answers every client gets. Every event is a row of each record of the policy; the best record counts. Code: `tests/makers/record_attacks.py`.

| attack | {heads} |
|---|{rule}
"""
_RECORDS_TAIL = """
*Hardened* is the web study with `truncate` and `tag` for addresses, scanners split off, no pseudonym of clients and no names
(the edits stand in `tests/privacy/test_record_attacks.py`); *exact sizes* is the web study with `keep` for the size of replies.

What it says:

* **A pseudonym is found by whoever can mark it.** The attacker answers each client a number of times with answers of four sizes: buckets keep the
  four apart, and neither time nor order nor the name is needed. Only a policy without a pseudonym of the client, or without anything that the
  attacker can vary, is closed to it. What limits the harm is how long the pseudonym lasts: `epoch = "hour"`.
* **Common names are told by how common they are.** A keyed tag hides rare names; the ranking of popular ones is public. What is common may then as
  well be shown (`topk` with a public list), and what is not should not be tagged for the public (`other = "rare"`).
* **Buckets hold against sizes**: of 200 pages none is alone in its power of two, with exact sizes nearly every one is alone.
* **Scans** are told by the order of times, in records as in packets, where addresses keep their order (`pfx`) or are tagged alike for all; scanners
  split off get pseudonyms that say nothing of anybody else's.
* **Thresholds** are no attack here: rows that they hold back are not in the output (`mail-study` shows no domain of fewer than five hosts), and k
  addresses of one person pass a threshold of k.

## Not tried

Fingerprints of hosts by degree and volume (Ribeiro et al. 2008, Coull et al. 2007), which need a second source about the same hosts; clock skew (time
stamps leave as ranks or not at all); linking two outputs (keys differ from run to run); what free text of an analyzer of one's own may hide in words
that a policy allows (`bunker check --bits` bounds it).
"""


def _table(head: str, names: list[str], rows: dict[str, list[float]]) -> str:
    text = head.format(heads=" | ".join(names), rule="---:|" * len(names))
    for name, shares in rows.items():
        text += f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |\n"
    return text


def _headers() -> str:
    world = attacks.make_world(3)
    rows: dict[str, list[float]] = {f"{attack.name}: {attack.does}": [] for attack in attacks.ATTACKS}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.pcap"
        pcapfile.write_pcap(raw, world.raw)
        for number, (name, text) in enumerate(expected.POLICIES.items()):
            out = Path(folder) / f"{number}.pcapng"
            make_trace((raw,), out, read_trace(text, name=name))
            seen = attacks.released(out)
            for attack in attacks.ATTACKS:
                rows[f"{attack.name}: {attack.does}"].append(attack.run(world, seen, attack.strength))
    return _table(_HEAD, list(expected.POLICIES), rows) + _TAIL


def _records() -> str:
    rows: dict[str, list[float]] = {f"{attack.name}: {attack.does}": [] for attack in records.ATTACKS}
    for policy in expected_records.POLICIES:
        released = expected_records.released(policy, 0)
        for attack in records.ATTACKS:
            shares = rows[f"{attack.name}: {attack.does}"]
            shares.append(records.recovered(attack, expected_records.WORLD, released))
    return _table(_RECORDS, list(expected_records.POLICIES), rows) + _RECORDS_TAIL


def main() -> None:
    """Run all attacks against all policies and write the page."""
    (ROOT / "docs" / "attacks.md").write_text(_headers() + _records())


if __name__ == "__main__":
    main()
