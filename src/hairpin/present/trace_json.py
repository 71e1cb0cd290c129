"""A Trace as JSON and YAML; docs/trace.md says the schema."""

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
