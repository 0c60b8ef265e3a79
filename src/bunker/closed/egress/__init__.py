"""Egress: cleared batches become signed, chained envelopes, and leave through one descriptor that is never read.

    ClearedBatch, heartbeat fields, diagnostics ─▶ Envelopes ─▶ [Sealer] ─▶ Outlet ─▶║ the open box

The releaser alone has these objects. Format: `docs/formats/envelope.md`.
"""
