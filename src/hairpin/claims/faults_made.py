"""What the faults that are made by hand have in common: how they are written down."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.claims.base import Text
from hairpin.claims.faults_base import Act, Fault, Manifest, Mode, Objects, Shell
from hairpin.claims.faults_cast import ask, service
from hairpin.claims.tracing import Question

ALL: tuple[Mode, ...] = ("ipvs", "iptables", "nftables")
HOST: tuple[Mode, ...] = ("iptables", "nftables")
"""What only a kernel with nf_tables can have: the embedded one has it for no IP family."""
IPVS: tuple[Mode, ...] = ("ipvs",)
IPTABLES: tuple[Mode, ...] = ("iptables",)
NFTABLES: tuple[Mode, ...] = ("nftables",)

VIP = "10.96.0.130"
NODE_PORT = 30091
TO_FAR = ask("client", "svc/far:http")
TO_BAR = ask("client", "svc/bar:http")
TO_FAR6 = ask("client", "svc/far:http", ipv6=True)
POD_FAR = ask("client", "far:8080")
POD_BAR = ask("client", "bar:8080")
SELF = ask("foo", "svc/foo:http")
TO_FAULT = ask("client", "svc/fault:http")
TO_NODE_PORT = ask("outside", f"192.168.100.2:{NODE_PORT}")
GONE = Objects(delete=("Service default/fault",))

Line = tuple[str, str]
"""A namespace, and what is typed there."""


def by_hand(
    id_: str,
    says: tuple[str, str],
    made: Iterable[Line | Act],
    question: Question,
    *causes: str,
    undo: Iterable[Line | Act] = (),
    modes: tuple[Mode, ...] = ALL,
    mends: bool = True,
    note: str = "",
) -> Fault:
    """A Fault; ``says`` in English and Chinese.  Lines that put back may find nothing to do."""
    return Fault(
        id=id_,
        says=Text(*says),
        acts=tuple(Shell(*one) if isinstance(one, tuple) else one for one in made),
        ask=question,
        causes=causes,
        undo=tuple(
            Shell(one[0], f"({one[1]}) 2>/dev/null || true") if isinstance(one, tuple) else one
            for one in undo
        ),
        modes=modes,
        mends=mends,
        note=note,
    )


def inserted(
    id_: str,
    says: tuple[str, str],
    netns: str,
    rule: str,
    question: Question,
    *causes: str,
    modes: tuple[Mode, ...] = ALL,
    program: str = "iptables",
) -> Fault:
    """A rule put in front of a chain: ``rule`` is the table, the chain, and the rest."""
    table, chain, spec = rule.split(" ", 2)
    return by_hand(
        id_,
        says,
        [(netns, f"{program} -t {table} -I {chain} {spec}")],
        question,
        *causes,
        undo=[(netns, f"{program} -t {table} -D {chain} {spec}")],
        modes=modes,
    )


def node_port(**spec: object) -> Manifest:
    """Service ``fault`` of Pod ``far``, on a node port."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT}]
    own = {"selector": {"app": "far"}, "type": "NodePort", "ports": ports, **spec}
    return service("fault", VIP, **own)
