"""The manifest of an output directory: what its files are, how they were made, what the receiver concluded.

Rules of this file:
1. It is derived and not signed: `verify` compares it with the envelopes and believes those.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bunker.errors import ConfigurationError
from bunker.model.heartbeat import OutputSchema
from bunker.open.files import MANIFEST, Part, replace_file

FORMAT = 1


class ManifestPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Parquet file."""

    record: str
    file: str
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `show` and a reader of the directory need to know about it."""

    bunker_output: int
    state: str
    """"receiving" while more may come, else "finished"."""
    verdict: str
    findings: list[str]
    run: str
    fingerprint: str
    pinned: bool
    started_ns: int
    last_ns: int
    tier: str
    bundle: str
    image: str | None
    policy: str
    schemas: list[OutputSchema]
    envelopes: int
    attested: int
    rows: dict[str, int]
    counters: dict[str, int]
    parts: list[ManifestPart]
    heartbeats_sha256: str
    diagnostics_sha256: str
    refused: int
    """Connections that were dropped because an envelope did not continue the run."""


def listed(part: Part) -> ManifestPart:
    """A part as the manifest lists it."""
    return ManifestPart(record=part.record, file=part.file, rows=part.rows, sha256=part.sha256)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Put it in place, whole or not at all."""
    content = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)
    replace_file(directory / MANIFEST, content + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory.

    Raises:
        ConfigurationError: there is none, or it cannot be read.
    """
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ConfigurationError(str(directory), "has no manifest.json", "Give the -o directory of a run") from None
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read ({error.strerror})", "Check its permissions") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigurationError(
            str(path), "is no manifest of this version", "Make it again from envelopes/: bunker receive --from"
        ) from None
    if manifest.bunker_output != FORMAT:
        raise ConfigurationError(str(path), f"has format {manifest.bunker_output}", f"This version reads {FORMAT}")
    return manifest
