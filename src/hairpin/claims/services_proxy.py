"""What proxies do by themselves: put right what others changed, and leave others' objects alone.

On the node's command line, as a person would.  Waits for a full sync (30 s by kube-proxy's
``syncPeriod``); only the third node's rules are touched, where no other claim looks at them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from hairpin.claims.base import Text
from hairpin.claims.objects import CLIENT, N1, OUTSIDE, cluster_ip, node_port, web
from hairpin.claims.promises import Answered, Apply, Do, Finding, From, Promise, Try
from hairpin.claims.scene import Scene
from hairpin.claims.topics import Mode
from hairpin.lab.session import LabError

SYNC_PERIOD = 30.0
_WITHIN = SYNC_PERIOD + 15
_N3 = From("node", "n3")
_FOREIGN_VIP, _FOREIGN_CHAIN = "198.18.99.1:80", "NOT-KUBE"


def _chain(scene: Scene, kernel: str) -> str:
    """The chain of the claim's Service, by the word that its comment or name has."""
    word = f"{scene.namespace}/web"
    if scene.mode == "iptables":
        for line in kernel.splitlines():
            if line.startswith("-A KUBE-SVC") and f'"{word} -> ' in line:
                return line.split()[1]
    else:
        found = re.search(rf"chain (service-\S+-{word}/\S+) ", kernel)
        if found is not None:
            return found[1]
    raise LabError(f"no chain of Service {word} was found")


def delete_server(scene: Scene) -> None:
    """What leads to the endpoints: a virtual server, or what its Service's chain says."""
    address, port = scene.targets.resolve(cluster_ip())
    if scene.mode == "ipvs":
        scene.run(N1, "ipvsadm", "-D", "-t", f"{address}:{port}")
    elif scene.mode == "iptables":
        iptables = _iptables(scene, N1)
        chain = _chain(scene, scene.run(N1, f"{iptables}-save", "-t", "nat"))
        scene.run(N1, iptables, "-t", "nat", "-F", chain)
    else:
        element = f"{{ {address} . tcp . {port} }}"
        scene.run(N1, "nft", "delete", "element", "ip", "kube-proxy", "service-ips", element)


def _iptables(scene: Scene, who: From) -> str:
    """The variant that holds the proxy's chains on that node."""
    for name in ("iptables-legacy", "iptables-nft"):
        if _there(scene, who, name, "-t", "nat", "-n", "-L", "KUBE-POSTROUTING"):
            return name
    raise LabError(f"{who} has no KUBE-POSTROUTING")


def _server_deleted(scene: Scene) -> Finding:
    """Somebody deletes what leads to the Service's endpoints."""
    delete_server(scene)
    return scene.finding(
        Try(
            client=CLIENT,
            to=cluster_ip(),
            expect=Answered(by=("n1-a",)),
            within=_WITHIN,
            label="after its virtual server, rules or map element was deleted",
        )
    )


def _add_server(scene: Scene, stranger: str) -> None:
    """Leads a Service to what is no endpoint of it."""
    address, port = scene.targets.resolve(cluster_ip())
    if scene.mode == "ipvs":
        scene.run(N1, "ipvsadm", "-a", "-t", f"{address}:{port}", "-r", stranger, "-m")
    elif scene.mode == "iptables":
        iptables = _iptables(scene, N1)
        chain = _chain(scene, scene.run(N1, f"{iptables}-save", "-t", "nat"))
        rule = f"-p tcp -j DNAT --to-destination {stranger}"
        scene.run(N1, iptables, "-t", "nat", "-I", chain, *rule.split())
    else:
        chain = _chain(scene, scene.run(N1, "nft", "list", "table", "ip", "kube-proxy"))
        rule = f"insert rule ip kube-proxy {chain} meta l4proto tcp dnat to {stranger}"
        scene.run(N1, "nft", rule)


def _server_added(scene: Scene) -> Finding:
    """Somebody adds a server that is no endpoint."""
    _add_server(scene, f"{scene.cast.members['n2-b'].ips[4]}:8080")
    return scene.finding(
        Try(
            client=CLIENT,
            to=cluster_ip(),
            expect=Answered(by=("n1-a",)),
            times=4,
            within=_WITHIN,
            label="after another server was added by hand",
        )
    )


def _rules_deleted(scene: Scene) -> Finding:
    """Somebody deletes the rules of node ports: in IPVS mode, who is masqueraded."""
    if scene.mode == "nftables":
        scene.run(_N3, "nft", "flush map ip kube-proxy service-nodeports")
    elif scene.mode == "iptables":
        scene.run(_N3, _iptables(scene, _N3), "-t", "nat", "-F", "KUBE-NODEPORTS")
    else:
        scene.run(_N3, _iptables(scene, _N3), "-t", "nat", "-F", "KUBE-SERVICES")
    return scene.finding(
        Try(
            client=OUTSIDE,
            to=node_port("n3"),
            expect=Answered(by=("n1-a",), sees="node"),
            within=_WITHIN,
            label="after they were deleted on that node",
        )
    )


_FOREIGN: Mapping[Mode, tuple[tuple[str, str, str], ...]] = {
    "ipvs": (
        (
            f"ipvsadm -A -t {_FOREIGN_VIP}",
            f"ipvsadm -Sn | grep -q {_FOREIGN_VIP}",
            f"ipvsadm -D -t {_FOREIGN_VIP}",
        ),
        (
            f"iptables-legacy -N {_FOREIGN_CHAIN}",
            f"iptables-legacy -S {_FOREIGN_CHAIN}",
            f"iptables-legacy -X {_FOREIGN_CHAIN}",
        ),
        (
            f"ipset create {_FOREIGN_CHAIN} hash:ip",
            f"ipset list -n {_FOREIGN_CHAIN}",
            f"ipset destroy {_FOREIGN_CHAIN}",
        ),
    ),
    "iptables": (
        (
            f"IPTABLES -t nat -N {_FOREIGN_CHAIN}",
            f"IPTABLES -t nat -S {_FOREIGN_CHAIN}",
            f"IPTABLES -t nat -X {_FOREIGN_CHAIN}",
        ),
        (
            "IPTABLES -A FORWARD -s 198.18.99.1 -j ACCEPT",
            "IPTABLES -C FORWARD -s 198.18.99.1 -j ACCEPT",
            "IPTABLES -D FORWARD -s 198.18.99.1 -j ACCEPT",
        ),
    ),
    "nftables": (
        (
            f"nft add table ip {_FOREIGN_CHAIN}",
            f"nft list table ip {_FOREIGN_CHAIN}",
            f"nft delete table ip {_FOREIGN_CHAIN}",
        ),
        (
            "nft add table inet kube-proxy",
            "nft list table inet kube-proxy",
            "nft delete table inet kube-proxy",
        ),
    ),
}
"""Objects of somebody else beside each mode's own: how to make, find and remove them."""


def _foreign(scene: Scene) -> Finding:
    """Others' objects outlive a full sync, which a deleted server of ours shows."""
    variant = _iptables(scene, N1) if scene.mode == "iptables" else ""
    objects = [
        [command.replace("IPTABLES", variant) for command in commands]
        for commands in _FOREIGN[scene.mode]
    ]
    for make, _, _ in objects:
        scene.run(N1, "sh", "-c", make)
    try:
        synced = _server_deleted(scene)
        time.sleep(0.5)
        left = [_there(scene, N1, "sh", "-c", find) for _, find, _ in objects]
    finally:
        for _, _, remove in objects:
            scene.run(N1, "sh", "-c", remove)
    return Finding(
        what="objects of somebody else beside the proxy's, after a full sync",
        held=synced.held and all(left),
        expected="all there",
        seen=f"{sum(left)} of {len(left)} there" + ("" if synced.held else "; no sync was seen"),
    )


def _there(scene: Scene, who: From, *argv: str) -> bool:
    try:
        scene.run(who, *argv)
    except LabError:
        return False
    return True


_SERVED = Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a",)))

CLAIMS = (
    Promise(
        slow=True,
        id="services.proxy.server-deleted",
        says=Text(
            "what leads to a Service's endpoints is made again when somebody deletes it: a virtual "
            "server, the rules of its chain, its element in a map",
            "被人删除的虚拟服务器, 链中的规则或映射元素会被重建",
        ),
        source="kube-proxy syncPeriod; e2e Networking: should recreate its iptables rules if they "
        "are deleted",
        steps=(
            Apply(web("n1-a")),
            _SERVED,
            Do(_server_deleted),
        ),
    ),
    Promise(
        slow=True,
        id="services.proxy.server-added",
        says=Text(
            "a server that somebody adds to a Service by hand is taken out",
            "被人手工加到 Service 上的服务器会被移除",
        ),
        source="kube-proxy syncPeriod",
        steps=(Apply(web("n1-a")), _SERVED, Do(_server_added)),
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
            "virtual servers, chains, rules, sets and tables of others are left as they are",
            "其他程序的虚拟服务器, 链, 规则, 集合和表保持不变",
        ),
        source="docs: design, own what you make; kube-proxy would delete the virtual server "
        "(ipvs.excludeCIDRs)",
        steps=(Apply(web("n1-a")), _SERVED, Do(_foreign)),
    ),
)
