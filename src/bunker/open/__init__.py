"""The open box: receives, verifies, stores and shows what a closed box has released. It never sees raw traffic.

    ║▶ receive ─▶ Intake (StreamVerifier, Store) ─▶ envelopes/, records/, *.jsonl, manifest.json ─▶ verify, show, status

Rules of this package:
1. Nothing of `bunker.closed` is imported: the two sides share the formats (`bunker.model`), and nothing else.
2. Whatever arrives is hostile until a signature covers it: bounded, checked, and not parsed as Arrow before that.
3. The raw envelopes are kept; everything else in a directory is derived from them and can be made again.
"""
