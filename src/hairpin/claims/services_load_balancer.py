"""Load balancer IPs, with the lab as the cloud that brings their packets to a node."""

from __future__ import annotations

from typing import Any

from hairpin.claims.base import Text
from hairpin.claims.cast import PORT
from hairpin.claims.differences import NOT_ON_THE_WAY_OUT
from hairpin.claims.objects import (
    BOTH,
    CLIENT,
    N1,
    OUTSIDE,
    backends,
    cluster_ip,
    load_balancer_ip,
    node_port,
    pod,
    service,
    web,
)
from hairpin.claims.promises import (
    NOTHING,
    REFUSED,
    TIMEOUT,
    Answered,
    Apply,
    Difference,
    Do,
    Finding,
    Promise,
    To,
    Try,
)
from hairpin.claims.scene import Scene

_LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local"}
_OUTSIDE_ONLY = ["192.168.100.1/32"]
_PODS_ONLY = ["10.244.0.0/16"]
_NODES_TOO = ["192.168.100.0/24"]


def _no_node_port(scene: Scene) -> Finding:
    ports = scene.targets.service("web")["spec"]["ports"]
    return Finding(
        what="spec.ports[].nodePort",
        held=not any(port.get("nodePort") for port in ports),
        expected="none",
        seen=", ".join(str(port.get("nodePort", "none")) for port in ports),
    )


def _health(node: str, status: int, label: str, within: float = 0.0) -> Try:
    return Try(
        client=OUTSIDE,
        to=To(kind="health-check", node=node),
        expect=Answered(status=status),
        path="/healthz",
        label=label,
        within=within,
    )


CLAIMS = (
    Promise(
        id="services.load-balancer.basic",
        says=Text(
            "a load balancer IP answers outside, Pods and nodes, and has a node port beside it",
            "负载均衡 IP 回答集群外客户端, Pod 和节点, 同时还有节点端口",
        ),
        source="e2e LoadBalancers: should be able to change the type and ports of a TCP service; "
        "ESIPP: should work from pods",
        steps=(
            Apply(web("n1-a", "n2-a", type="LoadBalancer")),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=BOTH),
            Try(client=CLIENT, to=load_balancer_ip(), expect=BOTH),
            Try(client=N1, to=load_balancer_ip(), expect=BOTH),
            Try(client=OUTSIDE, to=node_port(), expect=BOTH),
        ),
    ),
    Promise(
        id="services.load-balancer.protocols",
        says=Text(
            "TCP and UDP share a port of a load balancer",
            "TCP 和 UDP 可共用负载均衡器的一个端口",
        ),
        source="e2e Services: should serve endpoints on same port and different protocol for "
        "internal traffic on Type LoadBalancer",
        steps=(
            Apply(
                web(
                    "n1-a",
                    ports=(("tcp", "TCP", 80, PORT), ("udp", "UDP", 80, PORT)),
                    type="LoadBalancer",
                )
            ),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
            Try(
                client=OUTSIDE,
                to=load_balancer_ip(port="udp"),
                protocol="UDP",
                expect=Answered(by=("n1-a",)),
            ),
            Try(client=CLIENT, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.load-balancer.source-kept",
        says=Text(
            "with externalTrafficPolicy Local only endpoints of the node that got the packet "
            "answer, and see the client",
            "externalTrafficPolicy Local 时只有收到数据包的节点上的端点回答, 且看到客户端地址",
        ),
        source="e2e LoadBalancers ESIPP: should work for type=LoadBalancer; should only target "
        "nodes with endpoints",
        steps=(
            Apply(web("n1-a", "n1-b", "n2-a", type="LoadBalancer", **_LOCAL)),
            Try(
                client=OUTSIDE,
                to=load_balancer_ip(),
                expect=Answered(by=("n1-a", "n1-b"), sees="kept"),
            ),
        ),
    ),
    Promise(
        id="services.load-balancer.no-endpoints",
        says=Text(
            "without endpoints a load balancer IP refuses at once",
            "没有端点时负载均衡 IP 立即拒绝",
        ),
        source="kube-proxy TestNoEndpointsReject; e2e LoadBalancers: should handle no endpoints",
        steps=(
            Apply(web(type="LoadBalancer")),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=REFUSED),
            Try(
                client=N1,
                to=load_balancer_ip(),
                expect=REFUSED,
                differs={"iptables": NOT_ON_THE_WAY_OUT},
            ),
        ),
    ),
    Promise(
        id="services.load-balancer.source-ranges",
        says=Text(
            "loadBalancerSourceRanges lets in those that it names and drops the others",
            "loadBalancerSourceRanges 只允许其中列出的来源, 其余丢弃",
        ),
        source="e2e LoadBalancers: should only allow access from service loadbalancer source "
        "ranges",
        steps=(
            Apply(web("n1-a", type="LoadBalancer", loadBalancerSourceRanges=_OUTSIDE_ONLY)),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
            Try(client=CLIENT, to=load_balancer_ip(), expect=TIMEOUT),
            Apply((service(type="LoadBalancer", loadBalancerSourceRanges=_PODS_ONLY),)),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=TIMEOUT),
            Try(client=CLIENT, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.load-balancer.source-ranges-not-elsewhere",
        says=Text(
            "source ranges are for load balancer IPs alone: node port and ClusterIP stay open",
            "来源范围只对负载均衡 IP 有效: 节点端口和 ClusterIP 仍然开放",
        ),
        source="kube-proxy TestLoadBalancer; k/k#119656",
        steps=(
            Apply(web("n1-a", type="LoadBalancer", loadBalancerSourceRanges=["198.18.0.0/15"])),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=TIMEOUT),
            Try(client=OUTSIDE, to=node_port(), expect=Answered(by=("n1-a",))),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.load-balancer.source-ranges-node",
        says=Text(
            "a node outside of the source ranges cannot use the load balancer IP, one inside can",
            "不在来源范围内的节点不能使用负载均衡 IP, 范围内的可以",
        ),
        source="k/k#119656, KUBE-IPVS-OUT-FILTER",
        steps=(
            Apply(
                (
                    *web("n1-a", type="LoadBalancer", loadBalancerSourceRanges=_OUTSIDE_ONLY),
                    service("open", type="LoadBalancer", loadBalancerSourceRanges=_NODES_TOO),
                    backends("n1-a", service="open"),
                )
            ),
            Try(client=N1, to=load_balancer_ip(), expect=TIMEOUT, label="node outside of them"),
            Try(
                client=N1,
                to=load_balancer_ip("open"),
                expect=Answered(by=("n1-a",)),
                label="node inside",
            ),
        ),
    ),
    Promise(
        id="services.load-balancer.everybody",
        says=Text(
            "a source range of all addresses is as none",
            "包含所有地址的来源范围等于没有限制",
        ),
        source="kube-proxy TestLoadBalancer; pkg/proxy/ipvs allowFromNode",
        steps=(
            Apply(
                web(
                    "n1-a",
                    type="LoadBalancer",
                    loadBalancerSourceRanges=["0.0.0.0/0", "198.18.0.0/15"],
                )
            ),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
            Try(client=N1, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.load-balancer.proxy-mode",
        says=Text(
            "an address with ipMode Proxy is left to the load balancer: no node serves it itself",
            "ipMode 为 Proxy 的地址交给负载均衡器: 节点自己不提供服务",
        ),
        source="KEP-1860; kube-proxy TestLoadBalancerIngressRouteTypeProxy",
        steps=(
            Apply(
                (
                    service(
                        type="LoadBalancer",
                        status={
                            "loadBalancer": {"ingress": [{"ip": "192.0.2.251", "ipMode": "Proxy"}]}
                        },
                    ),
                    backends("n1-a"),
                )
            ),
            Try(client=N1, to=load_balancer_ip(), expect=NOTHING),
            Try(client=CLIENT, to=load_balancer_ip(), expect=NOTHING),
            Try(client=CLIENT, to=cluster_ip(), expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.load-balancer.no-node-ports",
        says=Text(
            "allocateLoadBalancerNodePorts false: a load balancer IP without a node port",
            "allocateLoadBalancerNodePorts 为 false: 有负载均衡 IP 而没有节点端口",
        ),
        source="e2e LoadBalancers: should be able to create LoadBalancer Service without NodePort",
        steps=(
            Apply(web("n1-a", type="LoadBalancer", allocateLoadBalancerNodePorts=False)),
            Do(_no_node_port),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=Answered(by=("n1-a",))),
        ),
    ),
    Promise(
        id="services.load-balancer.policy-changes",
        says=Text(
            "externalTrafficPolicy can be changed both ways",
            "externalTrafficPolicy 可以来回修改",
        ),
        source="e2e LoadBalancers ESIPP: should handle updates to ExternalTrafficPolicy field",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", "n2-a", type="LoadBalancer", **_LOCAL)),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=Answered(by=("n1-a",), sees="kept")),
            Apply((service(type="LoadBalancer", externalTrafficPolicy="Cluster"),)),
            Try(
                client=OUTSIDE,
                to=load_balancer_ip(),
                expect=Answered(by=("n1-a", "n2-a"), sees="node"),
            ),
            Apply((service(type="LoadBalancer", **_LOCAL),)),
            Try(client=OUTSIDE, to=load_balancer_ip(), expect=Answered(by=("n1-a",), sees="kept")),
        ),
    ),
    Promise(
        id="services.load-balancer.from-endpoint",
        says=Text(
            "an endpoint reaches its own Service by the load balancer IP",
            "端点能经负载均衡 IP 访问自己的 Service",
        ),
        source='kube-proxy TestLoadBalancer ("pod accessing its own load balancer")',
        steps=(
            Apply(web("n1-a", type="LoadBalancer")),
            Try(
                client=pod("n1-a"),
                to=load_balancer_ip(),
                expect=Answered(by=("n1-a",), sees="node"),
            ),
        ),
    ),
    Promise(
        id="services.load-balancer.health-check",
        says=Text(
            "a node's health check port says 200 where there is a local endpoint, 503 elsewhere",
            "健康检查端口在有本地端点的节点上回答 200, 其他节点 503",
        ),
        source="e2e Services: should implement NodePort and HealthCheckNodePort correctly when "
        "ExternalTrafficPolicy changes; kube-proxy TestHealthCheckNodePort",
        needs=frozenset({"nodes", "health"}),
        steps=(
            Apply(web("n1-a", type="LoadBalancer", **_LOCAL)),
            _health("n1", 200, "a node with an endpoint"),
            _health("n2", 503, "a node without"),
        ),
    ),
    Promise(
        id="services.load-balancer.node-without-endpoints",
        says=Text(
            "with externalTrafficPolicy Local Pods reach the load balancer IP also from a node "
            "without endpoints",
            "externalTrafficPolicy Local 时没有端点的节点上的 Pod 也能访问负载均衡 IP",
        ),
        source="e2e LoadBalancers ESIPP: should work from pods",
        needs=frozenset({"nodes"}),
        steps=(
            Apply(web("n1-a", "n2-a", type="LoadBalancer", **_LOCAL)),
            Try(
                client=pod("n3-a"),
                to=load_balancer_ip(),
                expect=Answered(by=("n1-a", "n2-a")),
                label="from a node without endpoints",
            ),
            Try(
                client=CLIENT,
                to=load_balancer_ip(),
                expect=Answered(by=("n1-a", "n2-a")),
                differs={
                    "ipvs": Difference(
                        expect=Answered(by=("n1-a",), sees="kept"),
                        reason=Text(
                            "Pods' traffic is not short-circuited: where there are local endpoints "
                            "only they answer",
                            "Pod 的流量不会绕过策略: 有本地端点时只有它们回答",
                        ),
                        source="k/k#75262, k/k#71596",
                        topic="external-local-inside",
                    )
                },
                label="from a node with an endpoint",
            ),
        ),
    ),
)
