"""The two families of errors, sorted by who must act, and those of configuration.

Rules of this file:
1. An error holds kinds, numbers and names of ours; never a byte, a name or an address from the traffic.
2. `TrafficError`: the traffic is bad. The flow ends with an outcome, its neighbours go on.
3. `BoxError`: the fault is ours or the machine's. The process ends, the supervisor decides.
4. `ConfigurationError`: the operator must act before the start. It names the thing, the cause and the remedy.
"""

from __future__ import annotations


class BunkerError(Exception):
    """Whatever this project raises on purpose."""


class TrafficError(BunkerError):
    """Bad traffic, counted by `kind`.

    Args:
        kind: One word of a closed vocabulary of the layer that raises it.
        layer: The layer, e.g. "spool", "capture-file".
        offset: Where, in bytes from the start of what the layer reads.
        needed: Bytes that were needed, if lengths are at fault.
        had: Bytes that were there.
    """

    def __init__(
        self, kind: str, *, layer: str, offset: int | None = None, needed: int | None = None, had: int | None = None
    ) -> None:
        self.kind, self.layer, self.offset, self.needed, self.had = kind, layer, offset, needed, had
        where = "" if offset is None else f" at byte {offset}"
        lengths = "" if needed is None else f" (needed {needed} bytes, had {had})"
        super().__init__(f"{layer}: {kind}{where}{lengths}")


class BoxError(BunkerError):
    """A fault of ours or of the machine: the process that meets it ends."""

    def __init__(self, thing: str, cause: str, remedy: str) -> None:
        self.thing, self.cause, self.remedy = thing, cause, remedy
        super().__init__(f"{thing}: {cause}. {remedy}")


class ConfigurationError(BunkerError):
    """What the operator wrote cannot be run (exit code 2)."""

    def __init__(self, thing: str, cause: str, remedy: str, *, line: int | None = None) -> None:
        self.thing, self.cause, self.remedy, self.line = thing, cause, remedy, line
        at = "" if line is None else f", line {line}"
        super().__init__(f"{thing}{at}: {cause}. {remedy}")


class VerificationError(BunkerError):
    """A recorded stream is not what a box wrote (exit code 1)."""


class GateRefusal(BunkerError):  # noqa: N818 - a refusal is the gate's answer, not a fault of it
    """The gate refused a batch: `kind` is one word of a closed vocabulary; nothing of the batch leaves."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"gate refused a batch: {kind}")
