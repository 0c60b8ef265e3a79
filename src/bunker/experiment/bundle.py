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
from pathlib import Path, PurePosixPath

import msgspec

from bunker import limits
from bunker.errors import ConfigurationError
from bunker.experiment.file import Experiment, parse_experiment, read_experiment
from bunker.experiment.load import Source, load, read_sources
from bunker.model.analyzer import Analyzer
from bunker.model.external import Program, is_inside, program_of
from bunker.model.fields import Field, FieldType, RecordSchema

FORMAT = 1
_BUILT_IN = Path(__file__).resolve().parents[1] / "analyzers"
"""Where the programs of built-in analyzers stand."""


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    entry: str
    name: str
    text: str | None


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    fields: list[tuple[str, FieldType, bool]]
    words: dict[str, list[str]] = {}


class _Program(msgspec.Struct, forbid_unknown_fields=True):
    analyzer: str
    command: list[str]
    libraries: list[str]
    fields: list[str]


class _Sealed(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    bunker_bundle: int
    experiment: str
    experiment_name: str
    policy: str
    policy_name: str
    sources: list[_Source]
    records: list[_Record]
    lists: dict[str, bytes]
    programs: list[_Program] = msgspec.field(default_factory=list)
    """External analyzers. Left out where there are none, so that such a bundle is what it always was."""
    program_files: dict[str, bytes] = msgspec.field(default_factory=dict)


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
    programs: dict[str, Program]
    """External analyzers by name, in the experiment's order."""
    program_files: dict[str, bytes]
    """Their files, by path below the experiment's folder."""

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
        if [_sealed(analyzer) for analyzer in analyzers if analyzer.program] != list(
            map(_again, self.programs.items())
        ):
            raise ConfigurationError(
                "analyzers", "they name other programs than were sealed", "A declaration must not depend on the machine"
            )
        return analyzers


def schemas_of(analyzers: tuple[Analyzer, ...]) -> dict[str, RecordSchema]:
    """Every record that the analyzers may emit, by name.

    Raises:
        ConfigurationError: two analyzers declare one name differently.
    """
    schemas: dict[str, RecordSchema] = {}
    for analyzer in analyzers:
        for schema in () if analyzer.feeds else analyzer.emits:
            known = schemas.setdefault(schema.name, schema)
            if known != schema:
                raise ConfigurationError(
                    f"record {schema.name!r}", "two analyzers declare it with different fields", "Rename one"
                )
    return schemas


def _sealed(analyzer: Analyzer) -> _Program:
    assert analyzer.program is not None
    return _again((analyzer.name, analyzer.program))


def _again(named: tuple[str, Program]) -> _Program:
    name, program = named
    return _Program(
        analyzer=name,
        command=list(program.command),
        libraries=list(program.libraries),
        fields=list(program.fields),
    )


def _program_files(analyzers: tuple[Analyzer, ...], folder: Path) -> dict[str, bytes]:
    """Every file that a program's command or declaration names.

    Raises:
        ConfigurationError: one cannot be read, or they are larger together than EXTERNAL_FILES_BYTES.
    """
    found: dict[str, bytes] = {}
    for program in (analyzer.program for analyzer in analyzers if analyzer.program is not None):
        place = _BUILT_IN if program.built_in else folder
        words = [word for word in program.command if is_inside(word) and (place / word).is_file()]
        for path in (*words, *program.files):
            content = _read(place / path, what="program file")
            if found.setdefault(str(PurePosixPath(path)), content) != content:
                raise ConfigurationError(f"program file {path}", "is a built-in's as well", "Give yours another name")
    most = limits.EXTERNAL_FILES_BYTES.default
    if sum(map(len, found.values())) > most:
        raise ConfigurationError("program files", f"are larger than {most} bytes together", "Put less into them")
    return found


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
    external = [_sealed(analyzer) for analyzer in analyzers if analyzer.program]
    if len({program.analyzer for program in external}) < len(external):
        raise ConfigurationError("external analyzers", "two have one name", "Give each a name= of its own")
    _refuse_more_passes(experiment, analyzers)
    _refuse_idle_feeders(analyzers)
    sealed = _Sealed(
        bunker_bundle=FORMAT,
        experiment=text,
        experiment_name=path.name,
        policy=policy_text,
        policy_name=experiment.policy_file,
        sources=[_Source(entry=source.entry, name=source.name, text=source.text) for source in sources],
        records=[
            _Record(
                name=name,
                fields=[(field.name, field.type, field.nullable) for field in schemas[name].fields],
                words=schemas[name].words(),
            )
            for name in sorted(schemas)
        ],
        lists={file: _read(folder / file, what="list") for file in files},
        programs=external,
        program_files=_program_files(analyzers, folder),
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


def _refuse_idle_feeders(analyzers: tuple[Analyzer, ...]) -> None:
    for analyzer in analyzers:
        if analyzer.feeds is not None and all(other.message != analyzer.feeds for other in analyzers):
            raise ConfigurationError(
                f"analyzer {analyzer.name}",
                f"finds {analyzer.feeds} messages, and no other analyzer reads them",
                f'Name "{analyzer.feeds}" or another that subscribes to {analyzer.feeds} messages',
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
                fields=tuple(
                    Field(name=name, type=kind, nullable=nullable, words=tuple(record.words.get(name, ())))
                    for name, kind, nullable in record.fields
                ),
            )
            for record in sealed.records
        },
        lists=sealed.lists,
        programs={program.analyzer: _program(program) for program in sealed.programs},
        program_files={path: content for path, content in sealed.program_files.items() if _own(path)},
    )


def _own(path: str) -> bool:
    """A bundle may come from anywhere: its files stay below their folder.

    Raises:
        ConfigurationError: this path does not.
    """
    if not is_inside(path):
        raise ConfigurationError("bundle", "a program file's path leaves its folder", "Make one with bunker seal")
    return True


def _program(sealed: _Program) -> Program:
    return program_of(sealed.command, files=(), libraries=sealed.libraries, fields=sealed.fields)


def read_bundle(path: Path) -> Bundle:
    """The bundle in `path`, or the one that the experiment file `path` makes.

    Raises:
        ConfigurationError: what `seal` and `open_bundle` raise.
    """
    if path.suffix == ".toml":
        return seal(path)
    return open_bundle(_read(path, what="bundle"))
