"""Makes docs/conformance.md out of a run over the peers' captures: `python tools/conformance.py`; `--check` compares.

python tools/conformance.py --show [WORD ...]   what differs unlisted, of inputs whose names contain a word
"""

from __future__ import annotations

import sys

from pages import ROOT, made

sys.path[:0] = [str(ROOT / "tests" / part) for part in ("conformance", "makers", "pcaps")]

from corpus import cases, folder  # noqa: E402 - the path to it is set above
from known import differences  # noqa: E402
from table import page  # noqa: E402
from verdicts import judge  # noqa: E402


def show(words: list[str]) -> None:
    """Print what differs and is not listed."""
    for case in cases():
        if words and not any(word in case.name for word in words):
            continue
        for verdict in judge(case):
            listed = differences().get((verdict.capability, verdict.case))
            for mismatch in verdict.mismatches:
                if listed is None or mismatch.fact not in listed.facts:
                    sys.stdout.write(f"{case.name} [{verdict.capability}] {mismatch}\n")


def main() -> int:
    """The command."""
    if folder() is None:
        sys.stderr.write("conformance: the corpus is not here; set BUNKER_CORPUS\n")
        return 2
    if "--show" in sys.argv:
        show([word for word in sys.argv[1:] if not word.startswith("--")])
        return 0
    part = page(cases(), [verdict for case in cases() for verdict in judge(case)])
    return made(__file__, ROOT / "docs" / "conformance.md", part)


if __name__ == "__main__":
    sys.exit(main())
