"""Every combination of the hairpin's ingredients, tried from the node, another Pod and itself.

One Service, one endpoint: foo.  Which of br_netfilter, the bridge's hairpin, IPVS conntrack and
masquerading does a connection to it need, depending on where it comes from?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Literal

import msgspec

from hairpin.claims.runner import Caller
from hairpin.lab.names import node_netns
from hairpin.lab.probe import Seen
from hairpin.model.address import from_builtin

TIMEOUT = 0.8
"""Seconds for a connection: less than a lost SYN takes to be sent again (1 s, RFC 6298)."""

From = Literal["node", "other", "self"]
Hairpin = Literal["off", "promisc", "port"]

OBJECTS: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node", "annotations": {"hairpin.dev/service-cidr": "172.23.0.0/16"}},
        "spec": {"podCIDR": "172.22.0.0/24"},
    },
    *(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"name": name},
                "annotations": {"hairpin.dev/ip": address},
            },
            "spec": {"containers": [{"name": "echo", "image": "echo"}]},
        }
        for name, address in (("foo", "172.22.0.2"), ("bar", "172.22.0.3"))
    ),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "clusterIP": "172.23.0.1",
            "selector": {"name": "foo"},
            "ports": [{"port": 8080}],
        },
    },
]
"""The lab of the matrix, as manifests."""

_SOURCES: dict[From, str] = {"node": node_netns("node"), "other": "bar", "self": "foo"}
_SWITCH = {True: "on", False: "off"}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One connection of the matrix, and what came of it."""

    br_netfilter: bool
    hairpin: Hairpin
    conntrack: bool
    masquerade: bool
    source: From = msgspec.field(name="from")
    works: bool
    server_saw: str | None


def run(lab: Caller, on_row: Callable[[list[Cell]], None] | None = None) -> list[Cell]:
    """Tries all combinations on a lab that holds ``OBJECTS``.

    ``on_row`` gets the three cells of each combination as they come.
    """
    cells: list[Cell] = []
    for row in _rows(lab):
        cells += row
        if on_row:
            on_row(row)
    return cells


def _rows(lab: Caller) -> Iterator[list[Cell]]:
    hairpins: tuple[Hairpin, ...] = ("off", "promisc", "port")
    for bridged, hairpin, tracked, masqueraded in product(
        (False, True), hairpins, (False, True), (False, True)
    ):
        ingredients = {
            "br-netfilter": _SWITCH[bridged],
            "hairpin": hairpin,
            "ipvs-conntrack": _SWITCH[tracked],
            "masquerade": _SWITCH[masqueraded],
        }
        lab.call("set", ingredients=ingredients)
        lab.call("flush-conntrack", node="node")
        probe = {"ip": "172.23.0.1", "port": 8080, "timeout": TIMEOUT}
        attempts = [{"netns": netns, "probe": probe} for netns in _SOURCES.values()]
        answers = msgspec.convert(
            lab.call("probe", attempts=attempts), list[list[Seen]], dec_hook=from_builtin
        )
        yield [
            Cell(
                br_netfilter=bridged,
                hairpin=hairpin,
                conntrack=tracked,
                masquerade=masqueraded,
                source=source,
                works=seen.outcome == "answered",
                server_saw=_client(seen),
            )
            for source, (seen,) in zip(_SOURCES, answers, strict=True)
        ]


def _client(seen: Seen) -> str | None:
    """The client's address in the echo server's answer."""
    return str(json.loads(seen.body)["client"]) if seen.outcome == "answered" else None
