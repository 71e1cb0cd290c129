"""docs/trace.schema.json is what traces are, and real ones fit it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hairpin.present.trace_json import as_json, schema
from hairpin.trace.reason import reason
from tests.trace.test_reason import recorded

FILE = Path(__file__).parents[2] / "docs" / "trace.schema.json"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
    "boolean": bool, "null": type(None),
}  # fmt: skip


def test_the_file_says_what_the_code_does() -> None:
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("HAIRPIN_WRITE_DOCS"):
        FILE.write_text(text)
    assert FILE.read_text() == text, "HAIRPIN_WRITE_DOCS=1 writes it anew"


@pytest.mark.parametrize("name", ["answered", "hairpin-off"])
def test_a_real_trace_fits_it(name: str) -> None:
    found, snapshot = recorded(name)
    shown = json.loads(as_json(reason(found, snapshot, "client", "svc/x")))
    rules = json.loads(FILE.read_text())
    assert list(_wrong(shown, rules, rules["$defs"], "")) == []
    for field, value in (("disposition", "vanished"), ("legs", {}), ("asked", None)):
        assert list(_wrong({**shown, field: value}, rules, rules["$defs"], "")), field
    assert list(_wrong({**shown, "new": 1}, rules, rules["$defs"], ""))


def _wrong(value: Any, rule: dict[str, Any], parts: dict[str, Any], path: str) -> list[str]:
    """Where it does not fit, by the part of JSON Schema that is used; unknown fields count too."""
    if "$ref" in rule:
        return _wrong(value, parts[rule["$ref"].rpartition("/")[2]], parts, path)
    if "anyOf" in rule:
        tries = [_wrong(value, one, parts, path) for one in rule["anyOf"]]
        return [] if [] in tries else tries[0]
    if "const" in rule and value != rule["const"]:
        return [path]
    if "enum" in rule and value not in rule["enum"]:
        return [path]
    if "type" in rule and not isinstance(value, _TYPES[rule["type"]]):
        return [path]
    found: list[str] = []
    if isinstance(value, dict):
        known = rule.get("properties", {})
        found += [f"{path}.{name}" for name in rule.get("required", ()) if name not in value]
        found += [f"{path}.{name}" for name in value if name not in known]
        for name in known.keys() & value.keys():
            found += _wrong(value[name], known[name], parts, f"{path}.{name}")
    if isinstance(value, list):
        for number, one in enumerate(value):
            found += _wrong(one, rule["items"], parts, f"{path}[{number}]")
    return found
