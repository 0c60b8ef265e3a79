"""From the names in an experiment to analyzers: built-in ones by name, a user's as FILE:NAME.

Rules of this file:
1. `read_sources` runs before the start and may read files; `load` gets text and reads none, so that the box can call
   it.
2. A user's module gets a name of ours (`bunker_experiment_<n>`), never a path.
"""

from __future__ import annotations

import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from bunker.errors import BunkerError, ConfigurationError
from bunker.model.analyzer import Analyzer

BUILT_IN = (
    "flow",
    "http",
    "dns",
    "tls",
    "mail",
    "ssh",
    "ntp",
    "dhcp",
    "packets",
    "spamassassin",
    "webmail",
    "phishing",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One entry of `analysis.analyzers`: a built-in's name, or a user's text."""

    entry: str
    name: str
    text: str | None


def read_sources(entries: tuple[str, ...], folder: Path) -> tuple[Source, ...]:
    """What the experiment names, with the text of users' files.

    Raises:
        ConfigurationError: neither a built-in nor FILE.py:NAME, a file that cannot be read, an analyzer named twice.
    """
    sources: list[Source] = []
    for entry in entries:
        file, separator, name = entry.rpartition(":")
        if not separator:
            if entry not in BUILT_IN:
                raise ConfigurationError(
                    f"analyzer {entry!r}", "is not built in", f"Use one of {', '.join(BUILT_IN)}, or ./file.py:function"
                )
            sources.append(Source(entry=entry, name=entry, text=None))
            continue
        try:
            text = (folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"analyzer {entry!r}",
                f"its file cannot be read ({type(error).__name__})",
                "Paths start at the experiment's folder",
            ) from None
        sources.append(Source(entry=entry, name=name, text=text))
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"analyzer {name!r}", "is named twice", "Give each function a name of its own")
    return tuple(sources)


def _module_of(text: str, number: int, entry: str) -> types.ModuleType:
    module = types.ModuleType(f"bunker_experiment_{number}")
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, module.__name__, "exec"), module.__dict__)  # noqa: S102 - the operator's own sealed source
    except BunkerError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a user's file raises, its message may quote anything
        traceback, line = error.__traceback__, 0
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == module.__name__:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        line = line or getattr(error, "lineno", 0) or 0
        raise ConfigurationError(
            f"analyzer {entry!r}", f"its file cannot be loaded ({type(error).__name__}, line {line})", "Correct it"
        ) from None
    return module


def load(sources: tuple[Source, ...]) -> tuple[Analyzer, ...]:
    """The analyzers. Runs the module level of users' files.

    Raises:
        ConfigurationError: the module fails, or its name is no analyzer.
    """
    modules: dict[str, types.ModuleType] = {}
    found: list[Analyzer] = []
    for number, source in enumerate(sources):
        if source.text is None:
            module = importlib.import_module(f"bunker.analyzers.{source.name}")
        elif source.text in modules:
            module = modules[source.text]
        else:
            module = modules[source.text] = _module_of(source.text, number, source.entry)
        candidate = getattr(module, source.name, None)
        if not isinstance(candidate, Analyzer):
            raise ConfigurationError(
                f"analyzer {source.entry!r}",
                "there is no analyzer of that name in the file",
                "Decorate it with @analyzer",
            )
        found.append(candidate)
    return tuple(found)
