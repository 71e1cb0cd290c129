"""What a second examiner found the trace to be wrong about: DNS that works, and tunnels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from hairpin.claims import faults_runner
from hairpin.claims.faults_cast import OBJECTS, ask
from hairpin.claims.faults_made import TO_FAR
from hairpin.claims.tracing import traced
from hairpin.trace.values import Cause
from hairpin.world import lifecycle
from hairpin.world.client import Client
from tests.trace.conftest import typed

pytestmark = pytest.mark.host


_IN_THE_NODES_NETWORK = """
apiVersion: v1
kind: Pod
metadata: {name: shy, labels: {app: shy}}
spec:
  hostNetwork: true
  nodeName: n2
  containers:
  - name: http
    command: [python3, -m, http.server, "8282", --bind, 127.0.0.1]
    ports: [{containerPort: 8282}]
---
apiVersion: v1
kind: Service
metadata: {name: shy}
spec: {selector: {app: shy}, ports: [{port: 80, targetPort: 8282}]}
"""


@pytest.fixture(scope="module")
def tunnelled(runtime_folder: str) -> Iterator[Client]:
    """The cast with an overlay."""
    objects = copy.deepcopy(list(OBJECTS))
    for one in objects:
        if one["kind"] == "Node":
            one["metadata"]["annotations"] = {"hairpin.dev/overlay": "vxlan"}
    with lifecycle.ephemeral("second", "host", mode="nftables") as lab:
        faults_runner.apply(lab, objects, config={"mode": "nftables"})
        yield lab


def _run(lab: Client, line: str) -> None:
    code, output = typed(line, HAIRPIN_LAB=lab.name)
    assert code == 0, output


def _mended(lab: Client) -> list[Cause]:
    """The causes that are named one after the other, as each printed mend is done."""
    found: list[Cause] = []
    while (cause := traced(lab, TO_FAR).cause) is not None and len(found) < 5:
        found.append(cause)
        _run(lab, cause.mend.hairpin)
    return found


@pytest.mark.parametrize("port", ["dns", "dns-tcp"])
def test_a_server_of_dns_is_asked_what_it_answers(tunnelled: Client, port: str) -> None:
    trace = traced(tunnelled, ask("client", f"svc/kube-system/kube-dns:{port}"))
    assert (trace.disposition, trace.cause) == ("delivered", None)
    assert trace.answer.startswith("DNS: " if port == "dns" else "")


def test_a_rule_that_does_not_name_the_tunnels_port(tunnelled: Client) -> None:
    _run(tunnelled, "hairpin exec node/n2 -- iptables -I INPUT -i eth0 -p udp -j DROP")
    [cause] = _mended(tunnelled)
    assert cause.id == "tunnel-rule"
    assert "INPUT of node n2" in cause.because


def test_over_a_tunnel_a_neighbour_is_written_not_asked_for(tunnelled: Client) -> None:
    wrong = (
        "for a in $(ip neigh show dev vxlan0 | cut -d' ' -f1); do "
        "ip neigh replace $a lladdr 02:11:11:11:11:11 dev vxlan0 nud permanent; done"
    )
    _run(tunnelled, f'hairpin exec node/n1 -- sh -c "{wrong.replace("$", chr(92) + "$")}"')
    [cause] = _mended(tunnelled)
    assert cause.id == "wrong-neighbour"


def test_a_tunnel_that_was_down_comes_back_whole(tunnelled: Client) -> None:
    _run(tunnelled, "hairpin exec node/n2 -- ip link set vxlan0 down")
    causes = _mended(tunnelled)
    assert [one.id for one in causes] == ["link-down", "no-route-to-pods", "tunnel-entry"]
    assert causes[1].mend.shell.endswith("dev vxlan0 onlink")


def test_a_server_in_the_nodes_network_that_hears_only_itself(
    tunnelled: Client, tmp_path: Path
) -> None:
    (tmp_path / "shy.yaml").write_text(_IN_THE_NODES_NETWORK)
    # Until it listens apply waits in vain for the node's address, and says so.
    typed(f"hairpin apply --timeout 3s -f {tmp_path}/shy.yaml", HAIRPIN_LAB=tunnelled.name)
    cause = traced(tunnelled, ask("client", "svc/shy")).cause
    assert cause is not None
    assert cause.id == "listens-on-localhost"
    assert "node n2 listens on 127.0.0.1:8282" in cause.because
