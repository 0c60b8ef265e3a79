"""`bunker bench`: the paper's experiments, beside what is installed on this machine.

Rules of this folder:
1. A number stands beside its peer's from the same run on the same machine, or it is not printed.
2. CPU time is the measure, wall time the aside: machines are shared. Rounds are interleaved, medians reported.
3. What is missing is said with the command that installs it; what was measured on less input says so.
"""

from __future__ import annotations

import click

from bunker.cli.bench.analysis import measure_analysis
from bunker.cli.bench.capture import measure_capture
from bunker.cli.bench.clear import measure_clear
from bunker.cli.bench.faults import measure_faults
from bunker.cli.bench.patterns import measure_patterns
from bunker.cli.bench.peers import list_peers
from bunker.cli.bench.traffic import make_traffic


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure Bunker beside today's tools: capture, analysis, clearing, faults, patterns. Peers, traces."""


for _command in (
    measure_capture,
    measure_analysis,
    measure_clear,
    measure_faults,
    measure_patterns,
    make_traffic,
    list_peers,
):
    bench.add_command(_command)

__all__ = ["bench"]
