"""The text of a policy: where things stand in it, and how to say that something is wrong with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bunker.errors import ConfigurationError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest known one, or all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(words) or 'none'}"


class PolicyText:
    """A policy's text and name, for messages."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name

    def line(self, table: str, key: str | None = None) -> int | None:
        """The line of a table, or of a key in it, where it can be found."""
        inside = table == ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            head = re.match(r"^\s*\[([^\[\]]+)\]", line)
            if head:
                inside = head[1].strip() == table
                if inside and key is None:
                    return number
            elif inside and key is not None and re.match(rf"^\s*{re.escape(key)}\s*=", line):
                return number
        return None

    def refuse(self, table: str, key: str | None, cause: str, remedy: str) -> ConfigurationError:
        """The error to raise."""
        thing = f"{self.name}, [{table}]" + (f" {key}" if key else "")
        return ConfigurationError(thing, cause, remedy, line=self.line(table, key) or self.line(table))

    def table(self, content: Mapping[str, Any], name: str, known: Iterable[str]) -> dict[str, Any]:
        """A table that has no other settings than these; empty if it is not there."""
        parts: Any = content
        for part in name.split("."):
            parts = parts.get(part, {})
            if not isinstance(parts, dict):
                raise self.refuse(name.rpartition(".")[0] or name, part, "is no table", f"Write [{name}]")
        for key in parts:
            if key not in known:
                raise self.refuse(name, key, "unknown setting", did_you_mean(key, known))
        return dict(parts)

    def number(self, table: str, key: str, value: Any, low: float, high: float) -> Any:
        """A number of a range; whole if the bounds are."""
        whole = isinstance(low, int)
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not low <= value <= high:
            what = "whole number" if whole else "number"
            raise self.refuse(table, key, f"is no {what} from {low} to {high}", f"Write {key} = {high}")
        return value

    def word(self, table: str, key: str, value: Any, known: Iterable[str]) -> str:
        """One of these words."""
        if not isinstance(value, str) or value not in known:
            raise self.refuse(table, key, f"is {value!r}", did_you_mean(str(value), known))
        return value
