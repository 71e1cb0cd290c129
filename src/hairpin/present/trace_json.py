"""A Trace as JSON and YAML, and the schema of both; docs/trace.md says what the fields mean."""

from __future__ import annotations

from typing import Any

import msgspec

from hairpin.model.address import to_builtin
from hairpin.trace.values import Trace

VERSION = "hairpin.dev/v1alpha1"


def as_builtin(trace: Trace) -> dict[str, Any]:
    """What both print: the Trace's own fields below apiVersion and kind."""
    own: dict[str, Any] = msgspec.to_builtins(trace, enc_hook=to_builtin)
    return {"apiVersion": VERSION, "kind": "Trace", **own}


def as_json(trace: Trace) -> str:
    """Indented, and a line's end after it."""
    return msgspec.json.format(msgspec.json.encode(as_builtin(trace)), indent=2).decode() + "\n"


def as_yaml(trace: Trace) -> str:
    """The same as YAML."""
    import yaml

    return yaml.safe_dump(as_builtin(trace), sort_keys=False, allow_unicode=True)


def schema() -> dict[str, Any]:
    """What ``as_builtin`` gives, as JSON Schema; docs/trace.schema.json is this."""

    def of_address(kind: type) -> dict[str, str]:
        return {"type": "string", "description": "an IPv4 or IPv6 address"}

    found = msgspec.json.schema(Trace, schema_hook=of_address)
    parts = found["$defs"]
    for part in parts.values():
        part["description"] = part["description"].replace("``", "`")
    trace = parts.pop("Trace")
    trace["properties"] = {
        "apiVersion": {"const": VERSION},
        "kind": {"const": "Trace"},
        **trace["properties"],
    }
    trace["required"] = ["apiVersion", "kind", *trace["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**head, **trace, "$defs": parts}
