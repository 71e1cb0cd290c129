"""A plan for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hairpin.model.address import to_builtin
from hairpin.model.metadata import Key
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import HealthCheck
from hairpin.plan.whole import WholePlan
from hairpin.state.change import Change

API_VERSION = "hairpin.dev/v1"


def plan_json(
    found: WholePlan, node: NodeFacts, mode: str, problems: Sequence[str]
) -> dict[str, Any]:
    """What ``hairpin plan -o json`` prints (docs/json.md)."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Plan",
        "mode": mode,
        "node": _plain(node),
        "objects": [
            {"object": _plain(one.object), "owner": one.owner, "why": one.why} for one in found
        ],
        "health_checks": [
            _health(key, plan.health)
            for key, plan in found.plans.items()
            if plan.health is not None
        ],
        "problems": list(problems),
    }


def diff_json(
    changes: Sequence[Change],
    owners: Sequence[str],
    node: str,
    problems: Sequence[str],
    mode: str = "ipvs",
) -> dict[str, Any]:
    """What ``hairpin diff -o json`` prints (docs/json.md)."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Diff",
        "mode": mode,
        "node": node,
        "changes": [
            {
                "verb": one.verb,
                "object": _plain(one.object),
                "before": None if one.before is None else _plain(one.before),
                "owner": owner or None,
                "reason": one.reason,
            }
            for one, owner in zip(changes, owners, strict=True)
        ],
        "problems": list(problems),
    }


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=to_builtin)


def _health(key: Key, health: HealthCheck) -> dict[str, Any]:
    return {"service": "/".join(key), **_plain(health)}
