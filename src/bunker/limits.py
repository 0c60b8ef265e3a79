"""Every bound of Bunker: name, unit, default, and where the number comes from.

The Rust half is `crates/wire/src/limits.rs`; a test keeps the two equal. Reaching a bound is an outcome with a
counter, never a silent drop.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One bound: its default, the unit, and a precedent or a measurement for the number."""

    default: int
    unit: str
    reason: str


BLOCK_BYTES = Limit(
    default=4 << 20, unit="bytes", reason="4 MiB sealed whole costs least CPU (reference/capture.md, section 4)"
)
BLOCK_BYTES_MIN = Limit(
    default=1 << 20, unit="bytes", reason="below 1 MiB loss begins at 1500 B (reference/capture.md, section 4)"
)
BLOCK_BYTES_MAX = Limit(
    default=8 << 20, unit="bytes", reason="above 8 MiB a write takes > 20 ms (reference/capture.md, section 3)"
)
SNAPLEN = Limit(
    default=262_144, unit="bytes", reason="tcpdump's default; longer packets do not exist on any link we read"
)
LANES = Limit(
    default=61, unit="lanes", reason="a box has 64 uids: supervisor, releaser, capturer, and one for each worker"
)
RECORD_FRAME_BYTES = Limit(
    default=64 << 20, unit="bytes", reason="one batch of records on the pipe; a worker that claims more is refused"
)
RECORD_ROWS = Limit(default=1 << 20, unit="rows", reason="rows of one batch; the engine hands out at most 65536")
RECORD_TEXT_BYTES = Limit(default=65_536, unit="bytes", reason="one text cell; heads are bounded by 64 KiB too")
TURN_RECORD_BYTES = Limit(
    default=128 << 20,
    unit="bytes",
    reason="records of one turn: two frames; held by the releaser until the turn is committed",
)
TURN_FRAMES = Limit(
    default=1 << 20,
    unit="frames",
    reason="of one turn: a fault for each row of a full batch, 16 times over",
)
FLOW_TURN_RECORDS = Limit(
    default=65_536, unit="records", reason="of one flow and kind in one turn; a flow that makes more ends erroneous"
)
BATCH_RETRIES = Limit(
    default=128,
    unit="calls",
    reason="to find the guilty flows of a batch that an analyzer failed on: six halvings of a full batch take 16",
)
FLOWS_TIMED = Limit(default=4096, unit="flows", reason="whose time in analyzers is remembered")
LEDGER_BYTES = Limit(
    default=320 << 20,
    unit="bytes",
    reason="two halves, each takes FLOWS open flows of 40 bytes, 80 more if their blocks are gone; used pages only",
)
RESTART_SHARE = Limit(
    default=40,
    unit="percent",
    reason="of a lane's spool that analysed blocks may take because open flows began in them; the rest is for new ones",
)
RESTART_SHARE_FILES = Limit(
    default=80, unit="percent", reason="the same where capture files are read: they wait, and nothing is lost"
)
RESTARTS = Limit(
    default=32, unit="restarts", reason="of a lane's worker that are always granted; then one for RESTART_FLOWS flows"
)
RESTART_FLOWS = Limit(
    default=64, unit="flows", reason="the paper's bug hit 0.08 % of flows; a fault in more than 1.5 % is no accident"
)
RESTARTS_UNEXPLAINED = Limit(
    default=3, unit="restarts", reason="in a row without progress and without a flow to blame: it will not get better"
)
LEFT_OUT = Limit(default=4096, unit="flows", reason="and packets of a lane in quarantine; RESTARTS ends a run before")
ENUM_WORDS = Limit(default=256, unit="words", reason="a vocabulary; the most that one byte could say")
ENUM_WORD_BYTES = Limit(default=64, unit="bytes", reason="one word of it; the longest of Zeek's has 21")
WAITING_BYTES = Limit(
    default=128 << 20,
    unit="bytes",
    reason="records that wait, sealed, for a threshold; half of the egress queue, which takes them when they are freed",
)
OUTPUT_ALLOWANCE = Limit(
    default=1 << 20,
    unit="bytes",
    reason="that may leave whatever gate.max_output_ratio says: schemas, the first batches",
)
THRESHOLD_K = Limit(default=4096, unit="units", reason="largest min_k and k; a set of that many is kept for each value")
NUMBERED_VALUES = Limit(
    default=1 << 18,
    unit="values",
    reason="that enum numbers, over all fields and epochs at hand; later ones leave empty",
)
NOISE_SCALE = Limit(
    default=1 << 40, unit="", reason="largest scale of a cell's noise: what the core's whole numbers have room for"
)
LIST_BYTES = Limit(default=16 << 20, unit="bytes", reason="one sealed list; a million domains of Tranco have 13 MiB")
POLICY_VALUES = Limit(default=1024, unit="values", reason="words of one allow-list; longer ones are sealed lists")
CLOCK_STEP_MS = Limit(
    default=500,
    unit="ms",
    reason="a wall clock that is set by more is told; ntpd slews what is below 128 ms",
)
STAGING_BUFFERS = Limit(
    default=8,
    unit="blocks",
    reason="sealed blocks that wait for the disk, a lane: 32 MiB bridge 25 ms at 10 Gbit/s; the ring bridges more",
)
EGRESS_QUEUE_BYTES = Limit(default=256 << 20, unit="bytes", reason="cleared envelopes waiting for a slow open box")
EGRESS_RESEND_BYTES = Limit(
    default=32 << 20,
    unit="bytes",
    reason="more than Linux keeps in a TCP send buffer (tcp_wmem max 4-16 MiB), so a reconnect loses nothing",
)

# Egress and the open box (docs/formats/envelope.md).
ENVELOPE_RECORDS_BYTES = Limit(
    default=64 << 20, unit="bytes", reason="body of one envelope of records; as RECORD_FRAME_BYTES"
)
ENVELOPE_STATEMENT_BYTES = Limit(
    default=1 << 20, unit="bytes", reason="JSON body; a start with 256 records of 64 fields takes 1.3 KiB a record"
)
RELEASED_RECORDS = Limit(default=256, unit="records", reason="kinds of records one run may release")
RELEASED_FIELDS = Limit(default=512, unit="fields", reason="fields of one record; Zeek's widest log has below 40")
DIAGNOSTICS_EVENTS = Limit(default=1024, unit="events", reason="events of one envelope; more are counted, not listed")
EGRESS_RESERVE_BYTES = Limit(
    default=4 << 20, unit="bytes", reason="part of the queue that records may not use: hours of heartbeats, and the end"
)
RELAY_QUEUE_BYTES = Limit(
    default=160 << 20,
    unit="bytes",
    reason="envelopes that the command outside the box holds for a lost open box: two of the largest, and a third more",
)
RELAY_RETRY_S = Limit(default=15, unit="seconds", reason="longest pause between two tries to reach a lost open box")
RELAY_PATIENCE_S = Limit(
    default=7200, unit="seconds", reason="after the end of a run; twice the hour for which an open box may be gone"
)
RELAY_CLOSE_S = Limit(
    default=10, unit="seconds", reason="until the other end has closed after the last envelope; acknowledged at once"
)
EGRESS_DRAIN_S = Limit(
    default=7200, unit="seconds", reason="the releaser's last word may wait so long; keys are gone by then"
)
SEGMENT_BYTES = Limit(
    default=256 << 20, unit="bytes", reason="one file of stored envelopes; as one rotated pcap of dumpcap -b"
)
PART_ROWS = Limit(
    default=1 << 20, unit="rows", reason="rows of one Parquet part; DuckDB and Spark read parts in parallel"
)
PART_AGE_S = Limit(
    default=600, unit="seconds", reason="a part of a long run is closed at least this often, so that it can be read"
)
ROW_GROUP_ROWS = Limit(
    default=131_072, unit="rows", reason="rows held by the open box for one record; DuckDB's default is 122880"
)
ROW_GROUP_BYTES = Limit(default=32 << 20, unit="bytes", reason="Arrow bytes held by the open box for one record")
RECEIVER_CONNECTIONS = Limit(default=64, unit="connections", reason="boxes at one receiver at a time")
RECEIVER_FIRST_S = Limit(default=30, unit="seconds", reason="time to the first whole envelope of a connection")
RECEIVER_RUNS = Limit(
    default=1024, unit="runs", reason="runs one receiver keeps; each holds 32 bytes for an envelope that may come again"
)
# External analyzers.
EXTERNAL_FILES_BYTES = Limit(
    default=2 << 20, unit="bytes", reason="all program files of a bundle; half of the tmpfs that is the box's root"
)
EXTERNAL_WINDOW = Limit(
    default=256, unit="messages", reason="sent to a program and not yet answered; what a restart sends again"
)
EXTERNAL_WINDOW_BYTES = Limit(default=4 << 20, unit="bytes", reason="the same in bytes; a single longer message passes")
EXTERNAL_DATAGRAM_BYTES = Limit(
    default=64 << 10, unit="bytes", reason="one piece of the dialogue with a program: a pipe's default capacity"
)
EXTERNAL_LINE_BYTES = Limit(
    default=16 << 20, unit="bytes", reason="one message as JSON, bodies in base64; a longer one fails for its program"
)
EXTERNAL_OUTPUT_BYTES = Limit(
    default=1 << 20, unit="bytes", reason="what a program answers to one message; a record of 64 KiB text fits 16 times"
)
EXTERNAL_BARREN = Limit(
    default=32,
    unit="times",
    reason="a program that fails so often in a row without an answer works on no flow: the run ends",
)
EXTERNAL_START_S = Limit(
    default=30,
    unit="seconds",
    reason="until a program's process is there again, and until a program ends after its last",
)
MEASURED_HEARTBEATS = Limit(
    default=65_536,
    unit="heartbeats",
    reason="of a run that is drawn or planned from: a week of the default interval is 60480",
)

# The sealed image (docs/image.md).
RUN_DISK_HEAD_BYTES = Limit(default=65_536, unit="bytes", reason="an address, a digest and sizes of at most 16 files")
RUN_DISK_BUNDLE_BYTES = Limit(
    default=64 << 20, unit="bytes", reason="sources and lists of one experiment, read into memory before the start"
)
MACHINE_CONNECT_S = Limit(
    default=60, unit="seconds", reason="how long a machine that has started looks for its open box before it powers off"
)
MACHINE_LOOK_S = Limit(
    default=1, unit="seconds", reason="how often process 1 looks whether the open box asks for the end"
)
MACHINE_DELIVER_S = Limit(
    default=10,
    unit="seconds",
    reason="how long a machine whose run has ended waits for its last bytes to be acknowledged",
)
MACHINE_SPARE_BYTES = Limit(
    default=192 << 20, unit="bytes", reason="memory left alone when the rest is overwritten, so that process 1 survives"
)
TPM_ANSWER_BYTES = Limit(
    default=4096, unit="bytes", reason="the longest answer that TPM 2.0 allows (TPM2_MAX_RESPONSE_SIZE)"
)
TPM_RETRIES = Limit(default=100, unit="tries", reason="a TPM may ask for a command again (TPM_RC_RETRY); 20 ms apart")
TPM_LOG_BYTES = Limit(
    default=1 << 20, unit="bytes", reason="firmware's event log; EDK2 reserves 64 KiB, servers use more"
)
ATTESTED_EVENTS = Limit(
    default=32, unit="events", reason="what firmware starts before the kernel: drivers of cards, a boot manager"
)


def table() -> dict[str, Limit]:
    """All limits by name, for `docs/limits.md` and the test against the Rust twin."""
    return {name: value for name, value in globals().items() if isinstance(value, Limit)}


__all__ = ["Limit", "table"]
