"""Session affinity: one client's connections go to one endpoint, for a time."""

from __future__ import annotations

import time
from typing import Any

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import PORT
from hairpin.claims.objects import (
    CLIENT,
    N1,
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
    EXTERNAL_IP,
    Answered,
    Apply,
    Difference,
    Do,
    Finding,
    Promise,
    Try,
)
from hairpin.claims.scene import Scene

_STICKY: dict[str, Any] = {"sessionAffinity": "ClientIP"}
_BOTH = Answered(by=("n1-a", "n2-a"))
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
)


def _expires(scene: Scene) -> Finding:
    """Whether a client that paused for longer than the timeout may get another endpoint."""
    one = Try(client=CLIENT, to=cluster_ip(), expect=Answered(), times=1)
    by = []
    for _ in range(4):
        answer = judge.answer_of(scene.connect([one])[0][0])
        by.append("nobody" if answer is None else answer.pod)
        time.sleep(_SECONDS + 0.8)
    moved = len(set(by)) > 1
    differs = _LATE if scene.mode == "ipvs" else None
    return Finding(
        what=f"four connections, {_SECONDS + 0.8} s between them, timeout {_SECONDS} s",
        held="nobody" not in by and moved != (differs is not None),
        differs=differs,
        expected="one endpoint all the time" if differs else "not the same endpoint all the time",
        seen=", ".join(by),
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
    clients = [pod("n1-c"), pod("n1-b"), N1]
    tries = [
        Try(client=one, to=cluster_ip(), expect=_ONE, times=4, lane="in turn") for one in clients
    ]
    by = []
    for seen in scene.connect(tries):
        names = {answer.pod for one in seen if (answer := judge.answer_of(one))}
        by.append(names)
    return Finding(
        what="three clients, four connections each",
        held=all(len(names) == 1 for names in by) and len(set.union(*by)) == 2,
        expected="each by one endpoint, and not all by the same",
        seen="; ".join(", ".join(sorted(names)) or "nobody" for names in by),
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
        steps=(Apply(web("n1-a", "n2-a", **_STICKY)), Do(_clients)),
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
        id="services.affinity.switch",
        says=Text(
            "session affinity can be switched on and off",
            "会话亲和性可以打开和关闭",
        ),
        source="e2e Services: should be able to switch session affinity for service with type "
        "clusterIP [Conformance]",
        steps=(
            Apply(web("n1-a", "n2-a")),
            Try(client=CLIENT, to=cluster_ip(), expect=_BOTH, label="off"),
            Apply((service(**_STICKY),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_ONE, label="on"),
            Apply((service(sessionAffinity="None"),)),
            Try(client=CLIENT, to=cluster_ip(), expect=_BOTH, within=3.0, label="off again"),
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
            Try(client=OUTSIDE, to=node_port(), expect=_BOTH, within=3.0, label="off"),
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
        steps=(Apply(web("n1-a", "n2-a", **_timed())), Do(_expires)),
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
