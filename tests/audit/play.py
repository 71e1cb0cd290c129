"""One random change to what a healthy kernel holds, and whose the changed thing is.

Whose it is comes from the plan or from the thing that was copied, never from the audit.  Used by
the tests, and for a long run by ``bench/mutation.py``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hairpin.audit.case import Case
from hairpin.audit.dump import held
from hairpin.audit.held import FILES, Held
from hairpin.audit.judge import case_of
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load

RECORDED = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36"
MODES = ("ipvs", "iptables", "nftables")
ANY = "*"
"""Of a change whose thing is nobody's by what it says."""


class Mutant(NamedTuple):
    """What was done to what, the kernel after it, and who must be named; ``ANY`` for anybody."""

    kind: str
    verb: str
    text: str
    held: Held
    owners: frozenset[str]


def recorded(mode: str) -> Case:
    """The node that the real kube-proxy programmed in that mode."""
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    files = [str(RECORDED / "input" / name) for name in names]
    snapshot = Snapshot(load(files, whole=True).objects)
    folder = RECORDED / mode
    texts: dict[Any, Any] = {
        part: (folder / name).read_text()
        for part, name in FILES.items()
        if (folder / name).exists()
    }
    # Recorded without these, which are empty there.
    texts |= {"conntrack": ""}
    if mode != "nftables":
        texts |= {"nftables": '{"nftables": []}'}
    if mode == "nftables":
        texts |= {"iptables": "", "ip6tables": ""}
    if mode != "ipvs":
        texts |= {"ipvs": "", "ipset": ""}
    seen = held(texts)
    own = [one.ip for one in seen.addresses if one.link != "kube-ipvs0"]
    facts = node_facts("node1", snapshot.nodes["", "node1"], own)
    config = load_configuration(str(RECORDED / "input" / f"kube-proxy-config.{mode}.yaml"))
    return case_of(snapshot, config, facts, seen)


class Play:
    """One case, and the chance that chooses."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        self.case = case
        self.random = random.Random(seed)
        self.wanted = {one.object.key: one.owner for one in case.plan}

    def made(
        self, kind: str, verb: str, thing: object, owners: Sequence[str], **now: Any
    ) -> Mutant:
        """The kernel with ``now`` instead of what it held."""
        after = msgspec.structs.replace(self.case.held, **now)
        return Mutant(kind, verb, str(thing), after, frozenset(owners))

    def owner(self, thing: Any) -> list[str]:
        """Who planned it, and every Service of the same address."""
        owner = self.wanted.get(thing.key, ANY)
        ip = getattr(thing, "ip", None)
        users = (
            self.case.owners.users(ip) if ip is not None and thing.key[0] != "real-server" else ()
        )
        return [owner, *users]

    def pick(self, objects: Sequence[Any], *kinds: type) -> int | None:
        found = [at for at, one in enumerate(objects) if isinstance(one, kinds)]
        return self.random.choice(found) if found else None


def swap(objects: Sequence[Any], at: int, *instead: Any) -> tuple[Any, ...]:
    """With others in the place of one."""
    return (*objects[:at], *instead, *objects[at + 1 :])
