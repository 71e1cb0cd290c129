"""What the kernel holds for one owner, and why: for ``hairpin describe``."""

from __future__ import annotations

from typing import Any

import msgspec

from hairpin.lab import names
from hairpin.lab.lab import Lab
from hairpin.lab.rules import identity
from hairpin.model.address import to_builtin
from hairpin.state.change import Object


def owned(lab: Lab, owner: str) -> list[dict[str, Any]]:
    """Every kernel object that is there for ``owner`` (``service default/web``).

    ``held``: whether the kernel has it now, by its identity; None where that is not looked at.
    """
    wanted = lab.wanted_by(owner)
    held = {netns: _held(lab, netns) for netns in {one.netns for one in wanted}}
    return [
        {
            "netns": one.netns,
            "node": one.netns.removeprefix("node_") if one.netns.startswith("node_") else None,
            "object": msgspec.to_builtins(one.object, enc_hook=to_builtin),
            "owner": one.owner,
            "why": one.why,
            "held": _is_held(one.object, held[one.netns]),
        }
        for one in wanted
    ]


def _is_held(thing: Object, held: set[tuple[object, ...]]) -> bool | None:
    """Whether it is there; of a sysctl or policy, which always is, nothing is said."""
    if thing.key[0] in ("sysctl", "policy", "netns"):
        return None
    return identity(thing) in held


def _held(lab: Lab, netns: str) -> set[tuple[object, ...]]:
    """The identities of what a namespace has: all of it but sysctls and policies."""
    keys: set[tuple[object, ...]] = {one.key for one in lab.kernel.observe(netns)}
    if netns not in map(names.node_netns, (key[1] for key in lab.snapshot.nodes)):
        return keys
    keys |= {one.key for one in lab.kernel.observe_rules(netns)}
    if lab.proxies.unserved is not None:
        return keys
    proxy = dict(lab.proxies.by_node()).get(netns.removeprefix("node_"))
    if proxy is not None:
        keys |= {identity(one) for one in proxy.observe()}
    return keys
