"""Session affinity: one client's connections go to one endpoint, for a time."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import PODS, PORT
from hairpin.claims.objects import (
    BOTH,
    CLIENT,
    N1,
    N2,
    OUTSIDE,
    UDP,
    backends,
    cluster_ip,
    external_ip,
    load_balancer_ip,
    node_port,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
    BY_FIRST_NODE,
    EXTERNAL_IP,
    Answered,
    Apply,
    Difference,
    Do,
    Finding,
    From,
    Promise,
    Try,
)
from hairpin.claims.scene import Scene

_STICKY: dict[str, Any] = {"sessionAffinity": "ClientIP"}
_ONE = Answered(by=("n1-a", "n2-a"), same=True)
_SECONDS = 2


def _timed() -> dict[str, Any]:
    config = {"clientIP": {"timeoutSeconds": _SECONDS}}
    return {**_STICKY, "sessionAffinityConfig": config}


_LATE = Difference(
    expect=_ONE,
    reason=Text(
        "a persistence template lives on while a connection under it does, and closed TCP "
        "connections stay for two minutes (TIME_WAIT)",
        "持久模板在其下的连接消失之前一直存在, 而已关闭的 TCP 连接还会保留两分钟 (TIME_WAIT)",
    ),
    source="k/k#89358; e2e service.go, workaround in the affinity timeout test",
    topic="affinity-timeout",
)
_APART = Difference(
    expect=_ONE,
    reason=Text(
        "each virtual server has persistence of its own, and a client may get another endpoint at "
        "each",
        "每个虚拟服务器各有持久性, 客户端在不同地址可能得到不同端点",
    ),
    source="ipvsadm(8), --persistent; pkg/proxy/ipvs/proxier.go",
    topic="affinity-frontends",
)
_MANY = [*map(pod, PODS[:-1]), N1, N2, OUTSIDE, BY_FIRST_NODE]
"""Clients of two nodes: chance leads them all to one of two endpoints once in 256 times."""
_TWO_PORTS = (("a", "TCP", 80, PORT), ("b", "TCP", 81, PORT))


def _expires(scene: Scene) -> Finding:
    """Whether clients that paused for longer than the timeout may get another endpoint."""
    tries = [Try(client=one, to=cluster_ip(), expect=Answered(), times=1) for one in _MANY]
    rounds: list[list[str]] = []
    for _ in range(4):
        seen = [judge.answer_of(one[0]) for one in scene.connect(tries)]
        rounds.append(["nobody" if answer is None else answer.pod for answer in seen])
        time.sleep(_SECONDS + 0.8)
    each = list(zip(*rounds, strict=True))  # what came of each client
    moved = sum(len(set(by)) > 1 for by in each)
    late = scene.differs
    return Finding(
        what=f"{len(each)} clients, four connections each, {_SECONDS + 0.8} s between them, "
        f"timeout {_SECONDS} s",
        held="nobody" not in chain.from_iterable(each) and (moved == 0) == late,
        expected="one endpoint all the time" if late else "not the same endpoint all the time",
        seen=f"{moved} of {len(each)} got another endpoint",
    )


def _together(scene: Scene) -> Finding:
    """Clients at the ClusterIP, then at the node port in another order: always one endpoint?"""
    clients = [pod("n1-a"), pod("n1-b"), pod("n1-c"), N1]  # of one node: each has its own memory
    found: dict[From, set[str]] = {client: set() for client in clients}
    for to, order in ((cluster_ip(), clients), (node_port(), clients[1:] + clients[:1])):
        for client in order:
            tried = Try(client=client, to=to, expect=BOTH, times=3)
            for seen in scene.connect([tried])[0]:
                answer = judge.answer_of(seen)
                found[client].add("nobody" if answer is None else answer.pod)
    together = all(len(names) == 1 for names in found.values())
    apart = scene.differs
    return Finding(
        what="four clients at the ClusterIP and at the node port",
        held=together != apart and not any("nobody" in names for names in found.values()),
        expected="some by another endpoint there" if apart else "each by one endpoint",
        seen="; ".join(f"{client} by {', '.join(sorted(by))}" for client, by in found.items()),
    )


def _moves_on(scene: Scene) -> Finding:
    """The endpoint that a client sticks to goes away."""
    one = Try(client=CLIENT, to=cluster_ip(), expect=_ONE, times=4)
    first = judge.answer_of(scene.connect([one])[0][0])
    left = "n2-a" if first is not None and first.pod == "n1-a" else "n1-a"
    scene.apply(backends(left))
    found = scene.findings(
        [Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=(left,)), times=4)]
    )[0]
    return Finding(
        what=f"after {first.pod if first else '?'} is gone",
        held=first is not None and found.held,
        expected=found.expected,
        seen=found.seen,
    )


def _clients(scene: Scene) -> Finding:
    """Different clients may have different endpoints, each its own."""
    tries = [
        Try(client=one, to=cluster_ip(port=port), expect=_ONE, times=4, lane=port)
        for port in ("a", "b")
        for one in _MANY
    ]
    by = []
    for seen in scene.connect(tries):
        answers = [judge.answer_of(one) for one in seen]
        by.append({"nobody" if answer is None else answer.pod for answer in answers})
    return Finding(
        what=f"{len(_MANY)} clients at two ports, four connections each",
        held=all(len(names) == 1 for names in by) and set.union(*by) == {"n1-a", "n2-a"},
        expected="each by one endpoint, and not all by the same",
        seen="; ".join(", ".join(sorted(names)) for names in by),
    )


CLAIMS = (
    Promise(
        id="services.affinity.clusterip",
        says=Text(
            "sessionAffinity ClientIP: a client's connections all go to one endpoint",
            "sessionAffinity ClientIP: 同一客户端的连接都到同一端点",
        ),
        source="e2e Services: should have session affinity work for service with type clusterIP "
        "[Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a", **_STICKY)),
            Try(client=CLIENT, to=cluster_ip(), expect=_ONE),
            Try(client=N1, to=cluster_ip(), expect=_ONE),
        ),
    ),
    Promise(
        id="services.affinity.clients",
        says=Text(
            "other clients may stick to another endpoint",
            "其他客户端可以固定到另一端点",
        ),
        source="docs: Session affinity; IPVS persistence by address (ipvs mode)",
        steps=(Apply(web("n1-a", "n2-a", ports=_TWO_PORTS, **_STICKY)), Do(_clients)),
    ),
    Promise(
        id="services.affinity.udp",
        says=Text("session affinity holds for UDP", "会话亲和性对 UDP 同样有效"),
        source="e2e Networking: should function for client IP based session affinity: udp",
        steps=(
            Apply(web("n1-a", "n2-a", ports=(UDP,), **_STICKY)),
            Try(client=CLIENT, to=cluster_ip(), protocol="UDP", expect=_ONE),
        ),
    ),
    Promise(
        id="services.affinity.nodeport",
        says=Text("session affinity holds at node ports", "会话亲和性对节点端口有效"),
        source="e2e Services: should have session affinity work for NodePort service [Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort", **_STICKY)),
            Try(client=OUTSIDE, to=node_port(), expect=_ONE),
            Try(client=CLIENT, to=node_port(), expect=_ONE),
        ),
    ),
    Promise(
        id="services.affinity.load-balancer",
        says=Text(
            "session affinity holds at load balancer and external IPs",
            "会话亲和性对负载均衡 IP 和外部 IP 有效",
        ),
        source="e2e LoadBalancers: should have session affinity work for LoadBalancer service with "
        "ESIPP off",
        steps=(
            Apply(web("n1-a", "n2-a", type="LoadBalancer", externalIPs=[EXTERNAL_IP], **_STICKY)),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=_ONE),
            Try(client=OUTSIDE, to=external_ip(), expect=_ONE),
        ),
    ),
    Promise(
        id="services.affinity.local-policy",
        says=Text(
            "session affinity holds among the endpoints of a node (externalTrafficPolicy Local)",
            "会话亲和性在一个节点的端点之间有效 (externalTrafficPolicy Local)",
        ),
        source="e2e LoadBalancers: should have session affinity work for LoadBalancer service with "
        "ESIPP on",
        steps=(
            Apply(
                web(
                    "n1-a",
                    "n1-b",
                    "n2-a",
                    type="LoadBalancer",
                    externalTrafficPolicy="Local",
                    **_STICKY,
                )
            ),
            Try(
                client=OUTSIDE,
                to=load_balancer_ip(),
                expect=Answered(by=("n1-a", "n1-b"), same=True, sees="kept"),
            ),
        ),
    ),
    Promise(
        id="services.affinity.frontends",
        says=Text(
            "a client gets the same endpoint at the ClusterIP and at the node port",
            "客户端在 ClusterIP 和节点端口得到同一端点",
        ),
        source="pkg/proxy/iptables and nftables: affinity is kept with each endpoint",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort", **_STICKY)),
            Do(_together, {"ipvs": _APART}),
        ),
    ),
    Promise(
        id="services.affinity.switch",
        says=Text(
            "session affinity can be switched on and off",
            "会话亲和性可以打开和关闭",
        ),
        source="e2e Services: should be able to switch session affinity for service with type "
        "clusterIP [Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=BOTH, label="off"),
            Apply((service(**_STICKY),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_ONE, label="on"),
            Apply((service(sessionAffinity="None"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=BOTH, within=3.0, label="off again"),
        ),
    ),
    Promise(
        id="services.affinity.switch-nodeport",
        says=Text(
            "at node ports too",
            "节点端口也可以",
        ),
        source="e2e Services: should be able to switch session affinity for NodePort service "
        "[Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a", type="NodePort", **_STICKY)),
            Try(client=OUTSIDE, to=node_port(), expect=_ONE, label="on"),
            Apply((service(type="NodePort", sessionAffinity="None"),)),
            Try(client=OUTSIDE, to=node_port(), expect=BOTH, within=3.0, label="off"),
        ),
    ),
    Promise(
        id="services.affinity.timeout",
        says=Text(
            "after timeoutSeconds without a connection a client may get another endpoint",
            "客户端超过 timeoutSeconds 没有连接后, 可能得到另一端点",
        ),
        source="e2e Services: should have session affinity timeout work for service with type "
        "clusterIP",
        steps=(Apply(web("n1-a", "n2-a", **_timed())), Do(_expires, {"ipvs": _LATE})),
    ),
    Promise(
        id="services.affinity.endpoint-gone",
        says=Text(
            "when its endpoint goes away, a client gets another at once",
            "所固定的端点消失后, 客户端立即得到另一端点",
        ),
        source="k/k#71809; kube-proxy sets net.ipv4.vs.expire_quiescent_template",
        steps=(Apply(web("n1-a", "n2-a", **_STICKY)), Do(_moves_on)),
    ),
    Promise(
        id="services.affinity.ports-apart",
        says=Text(
            "each port of a Service has its own affinity, and both hold",
            "Service 的每个端口各有亲和性, 且都有效",
        ),
        source="docs: Session affinity",
        steps=(
            Apply(
                web(
                    "n1-a",
                    "n2-a",
                    ports=(("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, PORT)),
                    **_STICKY,
                )
            ),
            Try(client=CLIENT, to=cluster_ip(), expect=_ONE),
            Try(client=CLIENT, to=cluster_ip(port="udp"), protocol="UDP", expect=_ONE),
        ),
    ),
)
