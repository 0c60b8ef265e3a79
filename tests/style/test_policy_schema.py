"""The JSON Schema for editors is as the code has it, takes each shipped policy, and refuses what is no policy."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "policy.schema.json").read_text())
POLICIES = sorted((ROOT / "examples").glob("*/policy.toml"))


@pytest.mark.parametrize("tool", ["policy_schema.py", "risks_table.py"])
def test_a_page_is_as_it_would_be_written(tool: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / tool), "--check"]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.parent.name)
def test_a_shipped_policy_fits(path: Path) -> None:
    jsonschema.validate(tomllib.loads(path.read_text()), SCHEMA)


@pytest.mark.parametrize(
    "line",
    ['host = "tags"', "host = 1", 'size = { do = "bucket" }', 'host = { do = "tag", edges = [1] }', 'Host = "tag"'],
)
def test_what_is_no_rule_is_refused(line: str) -> None:
    text = f'[policy]\nformat = 1\nname = "x"\npurpose = "x"\n[out.http]\n{line}\n'
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), SCHEMA)


@pytest.mark.parametrize("line", ['host = "tag"', 'size = { do = "bucket", edges = "log2" }', 'client = "id.client"'])
def test_a_rule_is_taken(line: str) -> None:
    text = f'[policy]\nformat = 1\nname = "x"\npurpose = "x"\n[out.http]\n{line}\n'
    jsonschema.validate(tomllib.loads(text), SCHEMA)
