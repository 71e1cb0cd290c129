"""What proxies do by themselves: put right what others changed, and leave others' objects alone.

On the node's command line, as a person would.  Waits for a full sync (30 s by kube-proxy's
``syncPeriod``); only the third node's rules are touched, where no other claim looks at them.
"""

from __future__ import annotations

import time

from hairpin.claims.base import Text
from hairpin.claims.objects import CLIENT, N1, OUTSIDE, cluster_ip, node_port, web
from hairpin.claims.promises import Answered, Apply, Do, Finding, From, Promise, Try
from hairpin.claims.scene import Scene
from hairpin.lab.session import LabError

SYNC_PERIOD = 30.0
_WITHIN = SYNC_PERIOD + 15
_N3 = From("node", "n3")
_FOREIGN_VIP, _FOREIGN_CHAIN = "198.18.99.1:80", "NOT-KUBE"


def _endpoint(scene: Scene) -> str:
    address, port = scene.targets.resolve(cluster_ip())
    return f"{address}:{port}"


def _server_deleted(scene: Scene) -> Finding:
    """Somebody deletes the virtual server."""
    scene.run(N1, "ipvsadm", "-D", "-t", _endpoint(scene))
    return scene.finding(
        Try(
            client=CLIENT,
            to=cluster_ip(),
            expect=Answered(by=("n1-a",)),
            within=_WITHIN,
            label="after its virtual server was deleted",
        )
    )


def _server_added(scene: Scene) -> Finding:
    """Somebody adds a real server that is no endpoint."""
    stranger = scene.cast.members["n2-b"].ips[4]
    scene.run(N1, "ipvsadm", "-a", "-t", _endpoint(scene), "-r", f"{stranger}:8080", "-m")
    return scene.finding(
        Try(
            client=CLIENT,
            to=cluster_ip(),
            expect=Answered(by=("n1-a",)),
            times=4,
            within=_WITHIN,
            label="after a real server was added by hand",
        )
    )


def _rules_deleted(scene: Scene) -> Finding:
    """Somebody flushes the chain that says who is masqueraded."""
    scene.run(_N3, "iptables-legacy", "-t", "nat", "-F", "KUBE-SERVICES")
    return scene.finding(
        Try(
            client=OUTSIDE,
            to=node_port("n3"),
            expect=Answered(by=("n1-a",), sees="node"),
            within=_WITHIN,
            label="after KUBE-SERVICES was flushed on that node",
        )
    )


def _foreign(scene: Scene) -> Finding:
    """Others' objects outlive a full sync, which a deleted virtual server of ours shows."""
    scene.run(N1, "ipvsadm", "-A", "-t", _FOREIGN_VIP)
    scene.run(N1, "iptables-legacy", "-N", _FOREIGN_CHAIN)
    scene.run(N1, "ipset", "create", _FOREIGN_CHAIN, "hash:ip")
    try:
        synced = _server_deleted(scene)
        time.sleep(0.5)
        servers = scene.run(N1, "ipvsadm", "-Sn")
        left = [
            _FOREIGN_VIP in servers,
            _there(scene, "iptables-legacy", "-S", _FOREIGN_CHAIN),
            _there(scene, "ipset", "list", "-n", _FOREIGN_CHAIN),
        ]
    finally:
        scene.run(N1, "ipvsadm", "-D", "-t", _FOREIGN_VIP)
        scene.run(N1, "iptables-legacy", "-X", _FOREIGN_CHAIN)
        scene.run(N1, "ipset", "destroy", _FOREIGN_CHAIN)
    return Finding(
        what="a virtual server, a chain and a set of somebody else, after a full sync",
        held=synced.held and all(left),
        expected="all there",
        seen=f"{sum(left)} of 3 there" + ("" if synced.held else "; no sync was seen"),
    )


def _there(scene: Scene, *argv: str) -> bool:
    try:
        scene.run(N1, *argv)
    except LabError:
        return False
    return True


CLAIMS = (
    Promise(
        slow=True,
        id="services.proxy.server-deleted",
        says=Text(
            "a virtual server that somebody deletes is made again",
            "被人删除的虚拟服务器会被重建",
        ),
        source="kube-proxy syncPeriod; e2e Networking: should recreate its iptables rules if they "
        "are deleted",
        steps=(
            Apply(web("n1-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a",))),
            Do(_server_deleted),
        ),
    ),
    Promise(
        slow=True,
        id="services.proxy.server-added",
        says=Text(
            "a real server that somebody adds to a Service is taken out",
            "被人加到 Service 上的真实服务器会被移除",
        ),
        source="kube-proxy syncPeriod",
        steps=(Apply(web("n1-a")), Do(_server_added)),
    ),
    Promise(
        slow=True,
        id="services.proxy.rules-deleted",
        says=Text(
            "rules that somebody deletes are made again",
            "被人删除的规则会被重建",
        ),
        source="e2e Networking: should recreate its iptables rules if they are deleted",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", type="NodePort")),
            Try(client=OUTSIDE, to=node_port("n3"), expect=Answered(by=("n1-a",), sees="node")),
            Do(_rules_deleted),
        ),
    ),
    Promise(
        slow=True,
        id="services.proxy.others-left",
        says=Text(
            "virtual servers, chains and sets of others are left as they are",
            "其他程序的虚拟服务器, 链和集合保持不变",
        ),
        source="docs: design, own what you make; kube-proxy would delete the virtual server "
        "(ipvs.excludeCIDRs)",
        steps=(Apply(web("n1-a")), Do(_foreign)),
    ),
)
