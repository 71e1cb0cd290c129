"""Connections that are under way when endpoints change: UDP must move on, TCP must live on.

A UDP client that goes on from the same port is one flow for conntrack; where its entry still leads
to an endpoint that is gone, its packets go nowhere for as long as it keeps sending.
"""

from __future__ import annotations

from collections.abc import Callable

from hairpin.claims import judge
from hairpin.claims.base import Text
from hairpin.claims.cast import OTHER_PORT, PORT
from hairpin.claims.objects import (
    CLIENT,
    N1,
    OUTSIDE,
    UDP,
    backends,
    cluster_ip,
    node_port,
    service,
    web,
)
from hairpin.claims.promises import (
    NOTHING,
    TIMEOUT,
    Answered,
    Apply,
    Backend,
    Difference,
    Do,
    Expect,
    Finding,
    From,
    Pause,
    Promise,
    Slice,
    To,
    Try,
)
from hairpin.claims.scene import Scene

_SOURCE_PORTS = 20000
"""Each claim has one of its own, below those that the kernel gives: from one port to the same Pod
through two Services would be one flow, as the Pod's answers could not be told apart."""
_A, _B = Answered(by=("n1-a",)), Answered(by=("n2-a",))


def _ends(*who: str | Backend, port: int = PORT) -> Slice:
    return backends(*who, ports=(("", "UDP", port),))


def _flow(number: int, client: From, to: To, expect: Expect, label: str) -> Try:
    """A datagram from the same port as those before."""
    return Try(
        client=client,
        to=to,
        protocol="UDP",
        expect=expect,
        source_port=_SOURCE_PORTS + number,
        times=2,
        within=2.0,
        label=label,
    )


def _cycles(
    number: int, name: str, says: Text, source: str, client: From, to: To, **spec: str
) -> Promise:
    """The server Pod is replaced by another while a client keeps sending."""
    return Promise(
        id=f"services.conntrack.{name}",
        says=says,
        source=source,
        steps=(
            Apply(web("n1-a", ports=(UDP,), **spec)),
            _flow(number, client, to, _A, "before"),
            Apply((_ends("n1-b"),)),
            _flow(number, client, to, Answered(by=("n1-b",)), "after its Pod was replaced"),
        ),
    )


_E2E = "e2e Conntrack: should be able to preserve UDP traffic when server pod cycles for a"


def _held(what: str, change: Callable[[Scene], None], after: Expect) -> Callable[[Scene], Finding]:
    """An open connection goes on over a change; a new one meets what is said."""

    def call(scene: Scene) -> Finding:
        number = scene.hold(CLIENT, cluster_ip())
        change(scene)
        new = scene.finding(Try(client=CLIENT, to=cluster_ip(), expect=after))
        seen = scene.ask(number)
        answer = judge.answer_of(seen)
        return Finding(
            what=what,
            held=answer is not None and answer.pod == "n1-a" and new.held,
            expected=f"the open connection answered by n1-a, new ones {new.expected}",
            seen=f"{judge.sight([seen])}; new ones {new.seen}",
        )

    return call


def _came_back(scene: Scene) -> Finding:
    """An endpoint that was on its way out is wanted again."""
    number = scene.hold(CLIENT, cluster_ip())
    scene.apply(backends("n2-a"))
    scene.apply(backends("n1-a", "n2-a"))
    both = Answered(by=("n1-a", "n2-a"))
    new = scene.finding(Try(client=CLIENT, to=cluster_ip(), expect=both))
    seen = scene.ask(number)
    return Finding(
        what="an endpoint that left and came back",
        held=judge.answer_of(seen) is not None and new.held,
        expected=f"the open connection answered, new ones {new.expected}",
        seen=f"{judge.sight([seen])}; new ones {new.seen}",
    )


def _reused(expect: Expect, label: str) -> Try:
    """A TCP connection from a port that was used a moment ago: it may take another to be free."""
    return Try(
        client=CLIENT,
        to=cluster_ip(),
        expect=expect,
        source_port=_SOURCE_PORTS + 8,
        times=1,
        within=2.0,
        label=label,
    )


_SERVICE_GONE = Difference(
    expect=TIMEOUT,
    reason=Text(
        "the virtual server goes at once, and the address leaves kube-ipvs0: packets of open "
        "connections go where the node's routes lead",
        "虚拟服务器立即删除, 地址离开 kube-ipvs0: 已打开连接的报文按节点路由发出",
    ),
    source="k/k#71894, k/k#80942; pkg/proxy/ipvs/proxier.go, cleanLegacyService",
    topic="service-deleted",
)


def _service_deleted(scene: Scene) -> Finding:
    """The Service of an open connection is deleted; its endpoint and the Pod are still there."""
    number = scene.hold(CLIENT, cluster_ip())
    scene.delete("Service web")
    ends = scene.differs
    seen = scene.ask(number, timeout=1.5 if ends else 4.0)
    answer = judge.answer_of(seen)
    return Finding(
        what="its Service is deleted",
        held=(seen.outcome == "timeout") if ends else answer is not None and answer.pod == "n1-a",
        expected="the open connection gets no answer" if ends else "it is answered by n1-a",
        seen=judge.sight([seen]),
    )


def _removed(scene: Scene) -> None:
    scene.apply(backends("n2-a"))


def _emptied(scene: Scene) -> None:
    scene.apply(backends())


def _terminating(scene: Scene) -> None:
    scene.apply(backends(Backend(pod="n1-a", ready=False, serving=True, terminating=True), "n2-a"))


UDP_FLOWS = (
    _cycles(
        1,
        "udp-clusterip",
        Text(
            "UDP through a ClusterIP follows when its Pod is replaced, from the same client port",
            "Pod 被替换后, 同一客户端端口经 ClusterIP 的 UDP 会跟随到新 Pod",
        ),
        f"{_E2E} ClusterIP service",
        CLIENT,
        cluster_ip(),
    ),
    _cycles(
        2,
        "udp-nodeport",
        Text(
            "so does UDP through a node port, from outside",
            "集群外经节点端口的 UDP 也是如此",
        ),
        f"{_E2E} NodePort service",
        OUTSIDE,
        node_port(),
        type="NodePort",
    ),
    _cycles(
        3,
        "udp-from-node",
        Text(
            "and UDP of a client in the node's network",
            "使用节点网络的客户端的 UDP 也是如此",
        ),
        f"{_E2E} ClusterIP service and client is hostNetwork",
        N1,
        cluster_ip(),
    ),
    _cycles(
        4,
        "udp-internal-local",
        Text(
            "and UDP under internalTrafficPolicy Local",
            "internalTrafficPolicy Local 下的 UDP 也是如此",
        ),
        f"{_E2E} ClusterIP service with InternalTrafficPolicy set to Local",
        CLIENT,
        cluster_ip(),
        internalTrafficPolicy="Local",
    ),
    Promise(
        id="services.conntrack.udp-unready-at-first",
        says=Text(
            "UDP that was sent while no endpoint was ready arrives once one is",
            "没有就绪端点时发送的 UDP, 在端点就绪后可以到达",
        ),
        source="e2e Conntrack: should be able to preserve UDP traffic when initial unready "
        "endpoints get ready",
        steps=(
            Apply(
                (
                    service(ports=(UDP,)),
                    _ends(Backend(pod="n1-a", ready=False, serving=False)),
                )
            ),
            _flow(5, CLIENT, cluster_ip(), NOTHING, "while none is ready"),
            Apply((_ends("n1-a"),)),
            _flow(5, CLIENT, cluster_ip(), _A, "once one is"),
        ),
    ),
    Promise(
        id="services.conntrack.udp-target-port",
        says=Text(
            "UDP through a node port follows a change of the target port",
            "目标端口改变后, 经节点端口的 UDP 会跟随",
        ),
        source="e2e Conntrack: should be able to cleanup conntrack entries when UDP service target "
        "port changes for a NodePort service",
        steps=(
            Apply(web("n1-a", ports=(UDP,), type="NodePort")),
            _flow(6, OUTSIDE, node_port(), Answered(by=(f"n1-a:{PORT}",)), "before"),
            Apply((_ends("n1-a", port=OTHER_PORT),)),
            _flow(6, OUTSIDE, node_port(), Answered(by=(f"n1-a:{OTHER_PORT}",)), "after"),
        ),
    ),
    Promise(
        id="services.conntrack.udp-other-node",
        says=Text(
            "UDP follows to a Pod on another node",
            "UDP 会跟随到另一节点上的 Pod",
        ),
        source="e2e LoadBalancers: should be able to preserve UDP traffic when server pod cycles "
        "for a LoadBalancer service on different nodes",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", ports=(UDP,))),
            _flow(7, CLIENT, cluster_ip(), _A, "before"),
            Apply((_ends("n2-a"),)),
            _flow(7, CLIENT, cluster_ip(), _B, "after"),
        ),
    ),
)

_OPEN = Try(client=CLIENT, to=cluster_ip(), expect=_A, times=8)
"""It is served, and what had its address before is not: somebody else's proxy may take a while."""

TCP_CONNECTIONS = (
    Promise(
        alone=True,  # an echo server waits 10 s for a request, and a lab at work may take as long
        id="services.graceful.removed",
        says=Text(
            "a removed endpoint keeps its open connections and gets no new ones",
            "被移除的端点保留已打开的连接, 不再获得新连接",
        ),
        source="k/k#57841, pkg/proxy/ipvs/graceful_termination.go",
        steps=(
            Apply(web("n1-a")),
            _OPEN,
            Do(_held("the endpoint is replaced", _removed, _B)),
        ),
    ),
    Promise(
        alone=True,
        id="services.graceful.last-one",
        says=Text(
            "so it is when it was the last one; new connections are refused",
            "它是最后一个端点时也是如此; 新连接被拒绝",
        ),
        source="k/k#57841",
        steps=(
            Apply(web("n1-a")),
            _OPEN,
            Do(_held("the last endpoint is removed", _emptied, NOTHING)),
        ),
    ),
    Promise(
        alone=True,
        id="services.graceful.terminating",
        says=Text(
            "a terminating endpoint keeps its open connections while others take the new ones",
            "正在终止的端点保留已打开的连接, 新连接由其他端点承担",
        ),
        source="KEP-1669; k/k#57841",
        steps=(
            Apply(web("n1-a")),
            _OPEN,
            Do(_held("the endpoint terminates, another is ready", _terminating, _B)),
        ),
    ),
    Promise(
        alone=True,
        id="services.graceful.back-again",
        says=Text(
            "an endpoint that comes back before its connections have ended serves again at once",
            "在连接结束前恢复的端点立即重新提供服务",
        ),
        source="k/k#92019, Test_GracefulDeleteRS",
        steps=(Apply(web("n1-a", "n2-a")), Do(_came_back)),
    ),
    Promise(
        id="services.graceful.port-reuse",
        says=Text(
            "a client that uses its port again gets an endpoint that is there, not the one it had",
            "客户端重用端口时得到现有的端点, 而不是之前的端点",
        ),
        source="k/k#81775, k/k#93297; net/ipv4/vs/conn_reuse_mode",
        steps=(
            Apply(web("n1-a")),
            _OPEN,  # from other ports: one that was tried too early is remembered as it was
            Pause(0.0),  # tries that follow each other are made together
            _reused(_A, "before"),
            Apply((backends("n2-a"),)),
            _reused(_B, "from the same port, after its endpoint was replaced"),
        ),
    ),
    Promise(
        alone=True,
        id="services.graceful.service-deleted",
        says=Text(
            "an open connection outlives its Service, as long as the Pod is there",
            "Service 被删除后, 只要 Pod 还在, 已打开的连接继续",
        ),
        source="k/k#71894; pkg/proxy/conntrack/cleanup.go: TCP is left alone",
        steps=(Apply(web("n1-a")), _OPEN, Do(_service_deleted, {"ipvs": _SERVICE_GONE})),
    ),
    Promise(
        alone=True,
        id="services.graceful.others",
        says=Text(
            "open connections of a Service outlive changes of its other endpoints",
            "其他端点变化时, Service 已打开的连接不受影响",
        ),
        source="e2e LoadBalancers: should not have connectivity disruption during rolling update",
        steps=(
            Apply(web("n1-a")),
            _OPEN,
            Do(
                _held(
                    "another endpoint comes",
                    lambda scene: scene.apply(backends("n1-a", "n2-a")),
                    Answered(by=("n1-a", "n2-a")),
                )
            ),
        ),
    ),
)

CLAIMS = (*UDP_FLOWS, *TCP_CONNECTIONS)
