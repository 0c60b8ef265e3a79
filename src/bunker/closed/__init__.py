"""The closed box: whatever is in here may touch raw traffic.

    capture ▶ spool ┄disk┄ spool ▶ (core: wire ▶ proto) ▶ analyze ▶ clear ▶ egress

The stages do not know each other; `process` is the only place where they meet.
"""
