"""The bundle: everything that decides what a run does, in one file whose digest names the run everywhere.

Rules of this file:
1. The bundle holds texts (experiment, policy, analyzers, lists) and the records' schemas: whoever has it can read
   what was run, and the releaser knows what may come without running an analyzer.
2. One experiment has one bundle: canonical JSON, keys sorted, nothing of time, machine or path in it.
3. A bundle of another format or with a field too many is refused.

Format: `docs/formats/bundle.md`.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bunker.errors import ConfigurationError
from bunker.experiment.file import Experiment, parse_experiment, read_experiment
from bunker.experiment.load import Source, load, read_sources
from bunker.model.analyzer import Analyzer
from bunker.model.fields import Field, FieldType, RecordSchema

FORMAT = 1


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    entry: str
    name: str
    text: str | None


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    fields: list[tuple[str, FieldType, bool]]


class _Sealed(msgspec.Struct, forbid_unknown_fields=True):
    bunker_bundle: int
    experiment: str
    experiment_name: str
    policy: str
    policy_name: str
    sources: list[_Source]
    records: list[_Record]
    lists: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A sealed experiment. `content` is the file; all else is parsed from it."""

    content: bytes
    experiment: Experiment
    experiment_name: str
    policy_text: str
    policy_name: str
    sources: tuple[Source, ...]
    schemas: dict[str, RecordSchema]
    lists: dict[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.content).hexdigest()

    def load_analyzers(self) -> tuple[Analyzer, ...]:
        """The analyzers; runs the module level of users' files.

        Raises:
            ConfigurationError: one cannot be loaded, or declares other records than were sealed.
        """
        analyzers = load(self.sources)
        if schemas_of(analyzers) != self.schemas:
            raise ConfigurationError(
                "analyzers", "they declare other records than were sealed", "Seal with the version of Bunker that runs"
            )
        return analyzers


def schemas_of(analyzers: tuple[Analyzer, ...]) -> dict[str, RecordSchema]:
    """Every record that the analyzers may emit, by name.

    Raises:
        ConfigurationError: two analyzers declare one name differently.
    """
    schemas: dict[str, RecordSchema] = {}
    for analyzer in analyzers:
        for schema in analyzer.emits:
            known = schemas.setdefault(schema.name, schema)
            if known != schema:
                raise ConfigurationError(
                    f"record {schema.name!r}", "two analyzers declare it with different fields", "Rename one"
                )
    return schemas


def _read(path: Path, *, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{what} {path.name}", f"cannot be read ({error.strerror})", "Paths start at the experiment's folder"
        ) from None


def seal(path: Path) -> Bundle:
    """Make the bundle of an experiment file.

    Raises:
        ConfigurationError: anything in it cannot be read or parsed.
    """
    experiment, text = read_experiment(path)
    folder = path.parent
    policy = _read(folder / experiment.policy_file, what="policy")
    try:
        policy_text = policy.decode()
        tables = tomllib.loads(policy_text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            experiment.policy_file, f"is not valid TOML ({error})", "Correct the line named"
        ) from None
    files = sorted(
        entry["file"]
        for entry in tables.get("lists", {}).values()
        if isinstance(entry, dict) and isinstance(entry.get("file"), str)
    )
    sources = read_sources(experiment.analyzers, folder)
    analyzers = load(sources)
    schemas = schemas_of(analyzers)
    _refuse_more_passes(experiment, analyzers)
    sealed = _Sealed(
        bunker_bundle=FORMAT,
        experiment=text,
        experiment_name=path.name,
        policy=policy_text,
        policy_name=experiment.policy_file,
        sources=[_Source(entry=source.entry, name=source.name, text=source.text) for source in sources],
        records=[
            _Record(name=name, fields=[(field.name, field.type, field.nullable) for field in schemas[name].fields])
            for name in sorted(schemas)
        ],
        lists={file: _read(folder / file, what="list") for file in files},
    )
    return open_bundle(msgspec.json.encode(sealed, order="sorted"))


def _refuse_more_passes(experiment: Experiment, analyzers: tuple[Analyzer, ...]) -> None:
    for analyzer in analyzers:
        if analyzer.passes > 1 and experiment.mode != "deferred":
            raise ConfigurationError(
                f"analyzer {analyzer.name}",
                f"reads the trace {analyzer.passes} times, and a continuous run keeps nothing",
                'Set experiment.mode = "deferred", or passes = 1',
            )


def open_bundle(content: bytes) -> Bundle:
    """Parse a bundle.

    Raises:
        ConfigurationError: not a bundle, another format, or an experiment that cannot be parsed.
    """
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
    except msgspec.DecodeError as error:
        raise ConfigurationError("bundle", f"is none ({error})", "Make one with bunker seal") from None
    if sealed.bunker_bundle != FORMAT:
        raise ConfigurationError("bundle", f"has format {sealed.bunker_bundle}", f"This version reads format {FORMAT}")
    return Bundle(
        content=content,
        experiment=parse_experiment(sealed.experiment, name=sealed.experiment_name),
        experiment_name=sealed.experiment_name,
        policy_text=sealed.policy,
        policy_name=sealed.policy_name,
        sources=tuple(Source(entry=s.entry, name=s.name, text=s.text) for s in sealed.sources),
        schemas={
            record.name: RecordSchema(
                name=record.name,
                fields=tuple(Field(name=name, type=kind, nullable=nullable) for name, kind, nullable in record.fields),
            )
            for record in sealed.records
        },
        lists=sealed.lists,
    )


def read_bundle(path: Path) -> Bundle:
    """The bundle in `path`, or the one that the experiment file `path` makes.

    Raises:
        ConfigurationError: what `seal` and `open_bundle` raise.
    """
    if path.suffix == ".toml":
        return seal(path)
    return open_bundle(_read(path, what="bundle"))
