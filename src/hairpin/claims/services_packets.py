"""kube-proxy's packet rows: who may answer whom, and whether the server sees the client's address.

Four sources, four destinations, three traffic policies, three places of endpoints.  The expected
column is kube-proxy's own (TestInternalExternalMasquerade, TestNoEndpointsReject and the Local
policies' tests in pkg/proxy/iptables and pkg/proxy/nftables, which evaluate rules without
packets); where a mode differs, the row says so.  What clients of the first node may reach:
``n1-a`` is local, ``n2-a`` is on the second node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from hairpin.claims.base import Text
from hairpin.claims.differences import (
    NO_LOCALHOST,
    NO_ROUTE_LOCALNET,
    NOT_ON_THE_WAY_OUT,
)
from hairpin.claims.objects import (
    CLIENT,
    LOCALHOST,
    N1,
    cluster_ip,
    external_ip,
    load_balancer_ip,
    node_port,
    web,
)
from hairpin.claims.promises import (
    BY_FIRST_NODE,
    EXTERNAL_IP,
    REFUSED,
    TIMEOUT,
    Answered,
    Apply,
    Difference,
    Expect,
    From,
    Promise,
    Sees,
    To,
    Try,
)
from hairpin.claims.topics import Mode

Policy = Literal["default", "external-local", "internal-local"]
Place = Literal["local-endpoints", "none-local", "no-endpoints"]

LOCAL, REMOTE = "n1-a", "n2-a"
SOURCES: Mapping[str, From] = {
    "pod": CLIENT,
    "node": N1,
    "localhost": LOCALHOST,
    "outside": BY_FIRST_NODE,
}
DESTINATIONS: Mapping[str, To] = {
    "cluster-ip": cluster_ip(),
    "node-port": node_port(),
    "external-ip": external_ip(),
    "load-balancer-ip": load_balancer_ip(),
}
PLACES: Mapping[Place, tuple[str, ...]] = {
    "local-endpoints": (LOCAL, REMOTE),
    "none-local": (REMOTE,),
    "no-endpoints": (),
}
_SPEC: Mapping[Policy, dict[str, Any]] = {
    "default": {},
    "external-local": {"externalTrafficPolicy": "Local"},
    "internal-local": {"internalTrafficPolicy": "Local"},
}
_SOURCE = "kube-proxy TestInternalExternalMasquerade, TestNoEndpointsReject"

_ONE_SERVER = Text(
    "an IPVS virtual server is one for all clients: the node's own and its Pods' traffic is not "
    "short-circuited to all endpoints",
    "一个 IPVS 虚拟服务器对所有客户端都一样: 本节点和本节点 Pod 的流量不会绕过 Local 策略",
)
_ALL_INSTEAD = Text(
    "without a local endpoint the virtual server gets all endpoints, so that this node's own "
    "clients still reach the Service",
    "没有本地端点时虚拟服务器使用全部端点, 以便本节点的客户端仍可访问",
)
_OWN_ADDRESS = Text(
    "the node connects from the Service's address itself, which is not masqueraded; the endpoint "
    "on another node answers it, and that node holds the same address on kube-ipvs0",
    "节点以 Service 的地址本身作为源地址且不被伪装; 另一节点上的端点回答该地址, 而那个节点的 "
    "kube-ipvs0 上也有它",
)
_EXPOSED = Text(
    "a Service that can be reached from outside has all endpoints to fall back to, and without a "
    "local one its ClusterIP falls back to them too",
    "可从集群外访问的 Service 有全部端点可退回; 没有本地端点时它的 ClusterIP 也会退回",
)
_LOOPBACK = Text(
    "KUBE-SERVICES returns at once for 127.0.0.0/8: nothing is masqueraded, and no Pod can answer "
    "127.0.0.1",
    "KUBE-SERVICES 对 127.0.0.0/8 直接返回: 不做伪装, Pod 无法回答 127.0.0.1",
)
_NO_LOOPBACK = Text(
    "no virtual server is made for 127.0.0.1, and nothing else listens there",
    "不会为 127.0.0.1 创建虚拟服务器, 也没有别的程序在监听",
)


def _by(places: tuple[str, ...], sees: Sees | None) -> Expect:
    return Answered(by=places, sees=sees) if places else REFUSED


def documented(source: str, destination: str, policy: Policy, place: Place) -> Expect:
    """What kube-proxy's iptables mode does, the mode that the documentation describes; but that
    without endpoints everybody is refused, which it fails to do for the node itself."""
    endpoints = PLACES[place]
    if not endpoints:
        return REFUSED
    here = tuple(name for name in endpoints if name == LOCAL)
    masqueraded: Sees = "node"
    if destination == "cluster-ip":
        if policy == "internal-local":
            endpoints = here
        if not endpoints:
            return TIMEOUT
        return _by(endpoints, "kept" if source == "pod" else masqueraded)
    if policy == "external-local":
        if source == "outside":
            return _by(here, "kept") if here else TIMEOUT
        return _by(endpoints, "kept" if source == "pod" else masqueraded)
    return _by(endpoints, masqueraded)


def in_ipvs(source: str, destination: str, policy: Policy, place: Place) -> Difference | None:
    """How IPVS mode differs from that, if it does."""
    endpoints = PLACES[place]
    external = policy == "external-local" and destination != "cluster-ip"
    here = tuple(name for name in endpoints if name == LOCAL)
    if not endpoints:
        return None
    if source == "localhost" and destination == "node-port":
        return _differs(REFUSED, _NO_LOOPBACK, "k/k#96879, KEP-6032", "localhost-node-port")
    if source == "localhost":
        if documented(source, destination, policy, place) == TIMEOUT:
            return None
        source = "pkg/proxy/ipvs/proxier.go writeIptablesRules"
        return _differs(TIMEOUT, _LOOPBACK, source, "loopback-source")
    if destination == "cluster-ip" and policy == "internal-local" and not here:
        sees: Sees = "kept" if source == "pod" else "node"
        source = "k/k#97081, pkg/proxy/ipvs/proxier.go"
        return _differs(_by(endpoints, sees), _EXPOSED, source, "internal-local-fallback")
    if external and not here:
        # A Pod is documented to reach all of them, unmasqueraded.  A client outside is served
        # too, but its source is kept, the answer does not come back by this node, and so nothing
        # reaches it: as if its packets were dropped.
        if source != "node":
            return None
        if destination == "node-port":
            expect, issues = _by(endpoints, "kept"), "k/k#97081, k/k#121371"
            return _differs(expect, _ALL_INSTEAD, issues, "external-local-elsewhere")
        return _differs(TIMEOUT, _OWN_ADDRESS, "k/k#97081, k/k#65158", "external-local-elsewhere")
    if external and source != "outside":
        expect = _by(here, "kept")
        return _differs(expect, _ONE_SERVER, "k/k#75262, k/k#71596", "external-local-inside")
    return None


def in_iptables(source: str, destination: str, place: Place) -> Difference | None:
    """How iptables mode differs."""
    outward = destination in ("external-ip", "load-balancer-ip")
    if outward and source in ("node", "localhost") and not PLACES[place]:
        return NOT_ON_THE_WAY_OUT
    return None


def in_nftables(source: str, destination: str, place: Place) -> Difference | None:
    """How nftables mode differs: 127.0.0.1 is an address like others to it."""
    if source != "localhost":
        return None
    if destination == "node-port":
        return NO_LOCALHOST if PLACES[place] else None
    return NO_ROUTE_LOCALNET


def _differs(expect: Expect, reason: Text, source: str, topic: str) -> Difference:
    return Difference(expect=expect, reason=reason, source=source, topic=topic)


def _by_mode(
    source: str, destination: str, policy: Policy, place: Place
) -> Mapping[Mode, Difference]:
    found: Mapping[Mode, Difference | None] = {
        "ipvs": in_ipvs(source, destination, policy, place),
        "iptables": in_iptables(source, destination, place),
        "nftables": in_nftables(source, destination, place),
    }
    return {mode: one for mode, one in found.items() if one is not None}


def _rows(destination: str, policy: Policy, place: Place) -> Iterator[Try]:
    for source, client in SOURCES.items():
        to = DESTINATIONS[destination]
        if source == "localhost" and destination == "node-port":
            to = To(kind="localhost")
        yield Try(
            client=client,
            to=to,
            expect=documented(source, destination, policy, place),
            differs=_by_mode(source, destination, policy, place),
            label=f"{source} → {destination}",
            lane="in turn",  # they share a virtual server, and count on their turns
        )


_POLICIES: Mapping[Policy, Text] = {
    "default": Text("without a traffic policy", "默认策略"),
    "external-local": Text("externalTrafficPolicy Local", "externalTrafficPolicy Local"),
    "internal-local": Text("internalTrafficPolicy Local", "internalTrafficPolicy Local"),
}
_WHERE: Mapping[Place, Text] = {
    "local-endpoints": Text("endpoints here and on another node", "本节点和其他节点都有端点"),
    "none-local": Text("endpoints on another node only", "只有其他节点有端点"),
    "no-endpoints": Text("no endpoints", "没有端点"),
}


def _claim(destination: str, policy: Policy, place: Place) -> Promise:
    policies, where = _POLICIES[policy], _WHERE[place]
    objects = web(
        *PLACES[place],
        type="LoadBalancer",
        externalIPs=[EXTERNAL_IP],
        **_SPEC[policy],
    )
    return Promise(
        id=f"services.packets.{destination}.{policy}.{place}",
        says=Text(
            f"{destination}, {policies.en}, {where.en}: from a Pod, the node, 127.0.0.1, outside",
            f"{destination}, {policies.zh}, {where.zh}: 来自 Pod, 节点, 127.0.0.1, 集群外",
        ),
        source=_SOURCE,
        needs=frozenset({"nodes"}) if place == "none-local" else frozenset(),
        steps=(Apply(objects), *_rows(destination, policy, place)),
    )


CLAIMS = tuple(
    _claim(destination, policy, place)
    for destination in DESTINATIONS
    for policy in _POLICIES
    for place in PLACES
)
