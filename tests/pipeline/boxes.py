"""Runs of the real command over real traffic, for the tests in this folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "web-study"
TRAFFIC = EXAMPLE / "traffic.pcapng"
BUNKER = [sys.executable, "-c", "from bunker.cli.main import main; main()"]

POLICY = """
[policy]
format = 1
name = "test"
purpose = "tests"
"""
HTTP_OUT = """
[out.http]
host = "tag"
client = { do = "tag", from = "orig_h" }
status_code = { do = "keep", because = "a public number" }
method = { do = "allow", values = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"], other = "other" }
"""
FLOW_OUT = """
[out.flow]
resp_p = { do = "keep", because = "needed here" }
outcome = { do = "keep", because = "a word of ours" }
orig_pkts = { do = "keep", because = "needed here" }
resp_pkts = { do = "keep", because = "needed here" }
"""


def bunker(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run([*BUNKER, *words], check=False, capture_output=True, input=stdin, timeout=1500)


@dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment in a folder of its own."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "experiment.toml"

    def run(self, out: Path, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """`bunker run`, into `out`."""
        return bunker("run", str(self.file), "-o", str(out), *words, stdin=stdin)


def study(
    folder: Path,
    *,
    analyzers: Sequence[str] = ("flow", "http"),
    policy: str = POLICY + HTTP_OUT + FLOW_OUT,
    source: str | None = None,
    mode: str = "continuous",
    lanes: int = 2,
    spool: str = "64MB",
    capture: str = "",
    analysis: str = "",
) -> Study:
    """Write an experiment; `source` is the text of `mine.py`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(policy)
    if source is not None:
        (folder / "mine.py").write_text(source)
    names = ", ".join(f'"{name}"' for name in analyzers)
    (folder / "experiment.toml").write_text(
        f"""
[experiment]
name = "test"
purpose = "tests"
mode = "{mode}"
[capture]
lanes = {lanes}
block = "1MiB"
ring = "16MiB"
{capture}
[spool]
size = "{spool}"
[analysis]
analyzers = [{names}]
{analysis}
[policy]
file = "policy.toml"
[egress]
heartbeat = "200ms"
"""
    )
    return Study(folder=folder)


def rows(directory: Path, record: str) -> list[dict[str, Any]]:
    """What `bunker show --json` prints of a record."""
    shown = bunker("show", str(directory), record, "--json")
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def counters(directory: Path) -> dict[str, int]:
    """Counters of the last statement."""
    line = (directory / "heartbeats.jsonl").read_bytes().splitlines()[-1]
    statement = json.loads(line)["statement"]
    found: dict[str, int] = statement.get("last", statement)["counters"]
    return found


def events(directory: Path) -> list[dict[str, Any]]:
    """Diagnostics."""
    return [json.loads(line) for line in (directory / "diagnostics.jsonl").read_bytes().splitlines()]


def balanced(found: dict[str, int]) -> bool:
    """packets in = analysed + dropped + destroyed."""
    out = ("packets_analysed", "packets_dropped_kernel", "packets_dropped_spool", "packets_destroyed")
    return found["packets_received"] == sum(found[name] for name in out)
