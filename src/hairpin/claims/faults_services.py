"""Faults in what Services say and in who stands behind them."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.faults_base import Fault, Objects, Shell
from hairpin.claims.faults_cast import N1, VIP_BAR, ask, pod, service

_VIP = "10.96.0.120"


def _server(name: str, address: str, command: str, **container: object) -> dict[str, object]:
    """A Pod on n1 that runs a command."""
    own = {"name": "server", "command": ["sh", "-c", command], **container}
    return pod(name, "n1", address, containers=[own], terminationGracePeriodSeconds=0)


def _gone(*names: str) -> Objects:
    """Takes the objects of a fault away."""
    return Objects(delete=names)


_LOCALHOST = "exec python3 -m http.server -b 127.0.0.1 8080"
_TCP_ONLY = "exec python3 -m http.server 8080"

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="no-endpoints",
        says=Text("a Service without a selector or EndpointSlices", "没有选择器, 也没有端点"),
        acts=(Objects((service("fault", _VIP, selector={}),)),),
        ask=ask("client", "svc/fault:http"),
        causes=("no-endpoints",),
        undo=(_gone("Service default/fault"),),
        mends=False,
        note="who should stand behind it is for a person to say",
    ),
    Fault(
        id="selector-matches-nothing",
        says=Text("the selector has a typing mistake", "选择器写错了"),
        acts=(Objects((service("fault", _VIP, selector={"app": "baar"}),)),),
        ask=ask("client", "svc/fault:http"),
        causes=("selector-matches-nothing",),
        undo=(_gone("Service default/fault"),),
    ),
    Fault(
        id="selector-wrong-key",
        says=Text("the selector asks for another label", "选择器的键不对"),
        acts=(Objects((service("fault", _VIP, selector={"name": "bar"}),)),),
        ask=ask("client", "svc/fault:http"),
        causes=("selector-matches-nothing",),
        undo=(_gone("Service default/fault"),),
    ),
    Fault(
        id="wrong-target-port",
        says=Text("targetPort is not where the server listens", "targetPort 不是服务监听的端口"),
        acts=(
            Objects(
                (
                    service(
                        "fault", _VIP, selector={"app": "bar"},
                        ports=[{"name": "http", "port": 80, "targetPort": 9090}],
                    ),
                    # Else the built-in server would listen wherever a Service wants it to.
                    _server("fault", "10.244.1.30", _TCP_ONLY, ports=[{"containerPort": 8080}]),
                )
            ),
            Objects(
                (
                    service(
                        "fault", _VIP,
                        ports=[{"name": "http", "port": 80, "targetPort": 9090}],
                    ),
                ),
                settle=3.0,
            ),
        ),
        ask=ask("client", "svc/fault:http"),
        causes=("wrong-target-port",),
        undo=(_gone("Service default/fault", "Pod default/fault"),),
    ),
    Fault(
        id="listens-on-localhost",
        says=Text("the server listens on 127.0.0.1 only", "服务只监听 127.0.0.1"),
        acts=(
            Objects(
                (
                    service("fault", _VIP),
                    _server("fault", "10.244.1.30", _LOCALHOST, ports=[{"containerPort": 8080}]),
                ),
                settle=3.0,
            ),
        ),
        ask=ask("client", "svc/fault:http"),
        causes=("listens-on-localhost",),
        undo=(_gone("Service default/fault", "Pod default/fault"),),
    ),
    Fault(
        id="udp-where-tcp-is-meant",
        says=Text("the Service's port is UDP, the server's TCP", "端口写成了 UDP"),
        acts=(
            Objects(
                (
                    service(
                        "fault", _VIP,
                        ports=[{"name": "http", "port": 80, "targetPort": 8080,
                                "protocol": "UDP"}],
                    ),
                    _server("fault", "10.244.1.30", _TCP_ONLY, ports=[{"containerPort": 8080}]),
                ),
                settle=3.0,
            ),
        ),
        ask=ask("client", "svc/fault", protocol="TCP", port="80"),
        causes=("wrong-protocol",),
        undo=(_gone("Service default/fault", "Pod default/fault"),),
    ),
    Fault(
        id="server-of-other-protocol",
        says=Text("the Service sends UDP to a server of TCP", "Service 把 UDP 送给 TCP 服务"),
        acts=(
            Objects(
                (
                    service(
                        "fault", _VIP,
                        ports=[{"name": "udp", "port": 80, "targetPort": 8080,
                                "protocol": "UDP"}],
                    ),
                    _server("fault", "10.244.1.30", _TCP_ONLY, ports=[{"containerPort": 8080}]),
                ),
                settle=3.0,
            ),
        ),
        ask=ask("client", "svc/fault:udp"),
        causes=("wrong-protocol",),
        undo=(_gone("Service default/fault", "Pod default/fault"),),
        mends=False,
        note="by UDP nobody will answer; the Service is to be of TCP, and asked so",
    ),
    Fault(
        id="no-such-port",
        says=Text("a port that the Service does not have", "Service 没有这个端口"),
        acts=(),
        ask=ask("client", "svc/bar", port="81"),
        causes=("no-such-port",),
        mends=False,
        note="nothing is broken: the question is",
    ),
    Fault(
        id="endpoint-not-ready",
        says=Text("the only Pod is not ready", "唯一的 Pod 没有就绪"),
        acts=(
            Objects(
                (
                    service("fault", _VIP),
                    _server(
                        "fault", "10.244.1.30", _TCP_ONLY,
                        ports=[{"containerPort": 8080}],
                        readinessProbe={
                            "exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1,
                        },
                    ),
                ),
                settle=1.0,
            ),
        ),
        ask=ask("client", "svc/fault:http"),
        causes=("endpoints-not-ready",),
        undo=(_gone("Service default/fault", "Pod default/fault"),),
    ),
    Fault(
        id="internal-local-policy",
        says=Text("internalTrafficPolicy Local, endpoints elsewhere", "策略 Local, 本地没有端点"),
        acts=(
            Objects(
                (service("fault", _VIP, selector={"app": "far"}, internalTrafficPolicy="Local"),)
            ),
        ),
        ask=ask("client", "svc/fault:http"),
        causes=("local-policy",),
        undo=(_gone("Service default/fault"),),
    ),
    Fault(
        id="source-ranges",
        says=Text("the client is not in loadBalancerSourceRanges", "客户端不在允许的网段内"),
        acts=(
            Objects(
                (
                    service(
                        "fault", _VIP, selector={"app": "bar"}, type="LoadBalancer",
                        externalIPs=[], loadBalancerIP="192.0.2.50",
                        loadBalancerSourceRanges=["203.0.113.0/24"],
                    ),
                )
            ),
        ),
        ask=ask("outside", "192.0.2.50:80"),
        causes=("source-ranges",),
        undo=(_gone("Service default/fault"),),
    ),
    Fault(
        id="nodeport-on-localhost",
        says=Text("a node port asked on localhost", "在 localhost 上访问 NodePort"),
        acts=(
            Objects(
                (
                    service(
                        "fault", _VIP, selector={"app": "bar"}, type="NodePort",
                        ports=[{"name": "http", "port": 80, "targetPort": 8080,
                                "nodePort": 30099}],
                    ),
                )
            ),
        ),
        ask=ask("node/n1", "127.0.0.1:30099"),
        causes=("nodeport-localhost",),
        undo=(_gone("Service default/fault"),),
        mends=False,
        note="nothing is broken: the question is",
        modes=("ipvs", "nftables"),
    ),
    Fault(
        id="weight-zero",
        says=Text("the real server's weight is 0", "后端权重为 0"),
        acts=(
            Shell(N1, f"ipvsadm -e -t {VIP_BAR}:80 -r 10.244.1.11:8080 -m -w 0"),
        ),
        ask=ask("client", "svc/bar:http"),
        causes=("weight-zero",),
        undo=(Shell(N1, f"ipvsadm -e -t {VIP_BAR}:80 -r 10.244.1.11:8080 -m -w 1"),),
        modes=("ipvs",),
    ),
    Fault(
        id="real-server-deleted",
        says=Text("the real server was deleted", "后端被删除"),
        acts=(Shell(N1, f"ipvsadm -d -t {VIP_BAR}:80 -r 10.244.1.11:8080"),),
        ask=ask("client", "svc/bar:http"),
        causes=("real-servers-missing",),
        undo=(
            Shell(
                N1, f"ipvsadm -a -t {VIP_BAR}:80 -r 10.244.1.11:8080 -m -w 1 2>/dev/null || true"
            ),
        ),
        modes=("ipvs",),
    ),
    Fault(
        id="ping-of-a-service",
        says=Text("a ping of a cluster IP", "ping ClusterIP"),
        acts=(),
        ask=ask("client", "svc/bar", protocol="ICMP"),
        causes=("icmp-to-service",),
        mends=False,
        note="nothing is broken: the question is",
    ),
)  # fmt: skip
