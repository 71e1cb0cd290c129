"""SCTP end to end: associations in the embedded kernel, an INIT and its answer on this machine's,
which need not have sockets for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Hairpin

_PORT = {"name": "s", "port": 99, "targetPort": 9999, "protocol": "SCTP"}
OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "assoc", "labels": {"app": "assoc"}},
        "spec": {
            "containers": [{"name": "c", "ports": [{"containerPort": 9999, "protocol": "SCTP"}]}]
        },
    },
    *(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [_PORT]},
        }
        for name in ("assoc", "nobody")
    ),
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asks"},
        "spec": {"containers": [{"name": "c", "command": ["sleep", "infinity"]}]},
    },
]


def _traced(hairpin: Hairpin, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hairpin("trace", *words, "-o", "json").out)
    return found


def _said(found: dict[str, Any]) -> list[str]:
    return [step["says"] for leg in found["legs"] for hop in leg["hops"] for step in hop["steps"]]


def _answered(hairpin: Hairpin) -> dict[str, Any]:
    """The trace of the association to the Service."""
    found = _traced(hairpin, "asks", "svc/assoc")
    assert found["asked"]["protocol"] == "SCTP"
    assert found["disposition"] == "delivered"
    assert '"pod": "assoc"' in found["answer"]
    assert [leg["packet"] for leg in found["legs"]] == ["SCTP INIT", "SCTP INIT ACK"]
    assert all(leg["arrived"] for leg in found["legs"])
    assert {one["by"] for one in found["tracked"]} >= {"conntrack"}
    refused = _traced(hairpin, "asks", "svc/nobody")
    assert refused["disposition"] == "rejected"
    assert refused["cause"]["id"] == "selector-matches-nothing"
    return found


@pytest.mark.guest
def test_in_ipvs_mode(cast: Hairpin) -> None:
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS})
    cast.ok("apply", "-f", "-", stdin=objects)
    try:
        found = _answered(cast)
        assert any(one.startswith("IPVS sends it to ") for one in _said(found))
        closed = _traced(cast, "asks", "assoc", "--proto", "sctp", "--port", "1234")
        assert closed["disposition"] == "rejected"
        assert closed["cause"]["id"] == "nobody-listens"
        assert "it listens on 9999" in closed["cause"]["because"]
    finally:
        cast("delete", "-f", "-", stdin=objects)


@pytest.mark.host
@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_on_this_machine(mode: str, tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS})
    hairpin.ok("up", "--kernel", "host", "--mode", mode, "-f", "-", stdin=objects)
    try:
        assert "DNAT to " in " ".join(_said(_answered(hairpin)))
    finally:
        hairpin("down")
