"""Faults in servers, and in what EndpointSlices and Services say of them."""

from __future__ import annotations

from hairpin.claims.faults_base import Fault, Manifest, Objects
from hairpin.claims.faults_cast import FAR, N1, ask, pod, service
from hairpin.claims.faults_made import (
    GONE,
    NODE_PORT,
    TO_FAULT,
    TO_NODE_PORT,
    VIP,
    by_hand,
    node_port,
)
from hairpin.claims.tracing import Question

_ADDRESS = "10.244.1.30"
_BOTH = Objects(delete=("Service default/fault", "Pod default/fault"))
_SLICED = Objects(delete=("Service default/fault", "EndpointSlice default/fault-x"))
_STOP = (
    "sleep 1; for p in /proc/[0-9]*; do "
    "[ $(readlink $p/ns/net) = $(readlink /proc/self/ns/net) ] && "
    "tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '[h]ttp.server' && kill -STOP ${p#/proc/}; "
    "done; true"
)


def _server(
    id_: str,
    says: tuple[str, str],
    program: str,
    *causes: str,
    question: Question = TO_FAULT,
    then: tuple[tuple[str, str], ...] = (),
    note: str = "the server is to be another",
    **spec: object,
) -> Fault:
    """Pod ``fault`` runs a program of Python (or ``sh``), and Service ``fault`` sends to it."""
    command = program if program.startswith("exec ") else f"exec python3 -c '{program}'"
    container = {
        "name": "server", "command": ["sh", "-c", command], "ports": [{"containerPort": 8080}],
    }  # fmt: skip
    made = pod("fault", "n1", _ADDRESS, containers=[container], terminationGracePeriodSeconds=0)
    objects = Objects((service("fault", VIP, **spec), made), settle=4.0)
    return by_hand(
        id_, says, [objects, *then], question, *causes, undo=[_BOTH], mends=False, note=note
    )


_BIND = 'import socket,time\ns=socket.socket(); s.bind(("{}",8080)); '
_FOREVER = "time.sleep(9999)"

SERVERS: tuple[Fault, ...] = (
    _server(
        "server-stopped", ("the server is stopped (SIGSTOP)", "服务进程被暂停"),
        "exec python3 -m http.server 8080", "server-slow", then=(("fault", _STOP),),
    ),
    _server(
        "backlog-full", ("the server accepts nobody, and its queue is full", "accept 队列已满"),
        'import socket,time\ns=socket.socket(); s.setsockopt(1,2,1); s.bind(("",8080)); '
        "s.listen(0)\nc=[]\nfor i in range(3):\n x=socket.socket(); x.setblocking(False); "
        'x.connect_ex(("127.0.0.1",8080)); c.append(x)\ntime.sleep(9999)',
        "backlog-full", then=(("fault", "sleep 1"),),
    ),
    _server(
        "answer-from-elsewhere", ("the server answers from another port", "从别的端口应答"),
        'import socket\ns=socket.socket(2,2); s.bind(("",8080))\nwhile 1:\n '
        'd,a=s.recvfrom(999); r=socket.socket(2,2); r.sendto(b"x",a)',
        "answer-from-elsewhere", question=ask("client", "svc/fault:udp"),
    ),
    _server(
        "listens-on-ipv6-alone", ("the server takes IPv6 alone", "服务只监听 IPv6"),
        "import socket,time\ns=socket.socket(10); s.setsockopt(41,26,1); "
        's.bind(("::",8080)); s.listen(9); ' + _FOREVER,
        "listens-elsewhere",
    ),
    _server(
        "listens-on-ipv4-alone", ("the server takes IPv4 alone", "服务只监听 IPv4"),
        _BIND.format("") + "s.listen(9); " + _FOREVER, "listens-elsewhere",
        question=ask("client", "svc/fault:http", ipv6=True), ipFamilyPolicy="RequireDualStack",
    ),
    _server(
        "listens-on-another-loopback", ("the server listens on 127.0.0.2", "服务监听 127.0.0.2"),
        _BIND.format("127.0.0.2") + "s.listen(9); " + _FOREVER, "listens-on-localhost",
    ),
    _server(
        "udp-server-silent", ("the UDP server never answers", "UDP 服务不回应"),
        'import socket,time\ns=socket.socket(2,2); s.bind(("",8080)); ' + _FOREVER,
        "server-silent", question=ask("client", "svc/fault:udp"),
    ),
    _server(
        "server-closes", ("the server closes every connection", "服务立即关闭连接"),
        _BIND.format("") + "s.listen(9)\nwhile True: s.accept()[0].close()", "server-closes",
    ),
    _server(
        "server-resets", ("the server resets every connection", "服务立即重置连接"),
        'import socket,struct\ns=socket.socket(); s.bind(("",8080)); s.listen(9)\nwhile True:\n '
        'c=s.accept()[0]; c.setsockopt(1,13,struct.pack("ii",1,0)); c.close()', "server-closes",
    ),
    _server(
        "server-never-listened", ("the server runs and listens nowhere", "服务进程没有监听"),
        "exec sleep 9999", "nobody-listens",
    ),
)  # fmt: skip


def _slice(
    address: str, port: int = 8080, *, ready: bool = True, name: str = "http", protocol: str = "TCP"
) -> Manifest:
    """An EndpointSlice written by hand."""
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "fault-x", "labels": {"kubernetes.io/service-name": "fault"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": conditions}],
        "ports": [{"name": name, "port": port, "protocol": protocol}],
    }


def _sliced(
    id_: str, says: tuple[str, str], written: Manifest, cause: str, *, mends: bool = False
) -> Fault:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    own = service("fault", VIP, selector=None, ports=ports)
    return by_hand(
        id_, says, [Objects((own, written))], TO_FAULT, cause, undo=[_SLICED], mends=mends,
        note="" if mends else "who is meant, a person has to say",
    )  # fmt: skip


SLICES: tuple[Fault, ...] = (
    _sliced("slice-of-nobody", ("an EndpointSlice names an address of nobody", "端点地址不存在"),
            _slice("10.244.1.99"), "endpoint-gone"),
    _sliced("slice-of-nobody-afar", ("and one of another node's Pods", "另一节点上的端点不存在"),
            _slice("10.244.2.99"), "endpoint-gone"),
    _sliced("slice-off-cluster", ("an EndpointSlice names an address elsewhere", "端点在集群之外"),
            _slice("203.0.113.77"), "endpoint-gone"),
    _sliced("slice-of-other-port", ("an EndpointSlice names a wrong port", "端点端口写错"),
            _slice(FAR, 9999), "wrong-target-port"),
    _sliced("slice-not-ready", ("an EndpointSlice says not ready", "端点未就绪"),
            _slice(FAR, ready=False), "endpoints-not-ready"),
    _sliced("slice-of-other-name", ("the EndpointSlice calls the port otherwise", "端口名不一致"),
            _slice(FAR, name="web"), "port-name-mismatch", mends=True),
    _sliced("slice-of-other-protocol", ("the EndpointSlice says UDP", "端点写成 UDP"),
            _slice(FAR, protocol="UDP"), "port-name-mismatch", mends=True),
)  # fmt: skip

_BY_NAME = [{"name": "http", "port": 80, "targetPort": "nope"}]
_TCP = [{"name": "http", "port": 80, "targetPort": 8080}]
_UDP = [{"name": "u", "port": 80, "targetPort": 8080, "protocol": "UDP", "nodePort": NODE_PORT}]
_FAR_ONLY = {"selector": {"app": "far"}}

SERVICES: tuple[Fault, ...] = (
    by_hand(
        "named-port-missing", ("targetPort is a name that no container has", "命名端口不存在"),
        [Objects((service("fault", VIP, ports=_BY_NAME, **_FAR_ONLY),))], TO_FAULT,
        "named-port-missing", undo=[GONE],
    ),
    by_hand(
        "external-local", ("a node port of policy Local, asked where no endpoint is", "Local 策略"),
        [Objects((node_port(externalTrafficPolicy="Local"),))], TO_NODE_PORT, "local-policy",
        undo=[GONE],
    ),
    by_hand(
        "external-local-other-node", ("the same, asked at the other node", "Local 策略, 另一节点"),
        [Objects((node_port(selector={"app": "bar"}, externalTrafficPolicy="Local"),))],
        ask("outside", f"192.168.100.3:{NODE_PORT}"), "local-policy", undo=[GONE],
    ),
    by_hand(
        "internal-local-udp", ("internalTrafficPolicy Local, and UDP", "内部 Local 策略, UDP"),
        [Objects((service("fault", VIP, internalTrafficPolicy="Local", **_FAR_ONLY),))],
        ask("client", "svc/fault:udp"), "local-policy", undo=[GONE],
    ),
    by_hand(
        "source-ranges-of-others", ("the balancer is for others alone", "来源网段不含客户端"),
        [Objects((service("fault", VIP, type="LoadBalancer", loadBalancerIP="192.0.2.60",
                          loadBalancerSourceRanges=["10.0.0.0/8"], **_FAR_ONLY),))],
        ask("outside", "192.0.2.60:80"), "source-ranges", undo=[GONE],
    ),
    by_hand(
        "no-such-service", ("an address of Services that no Service has", "没有这个 Service"), [],
        ask("client", "10.96.0.199:80"), "no-such-service", "nobody-has-address",
        mends=False, note="nothing is broken: the question is",
    ),
    by_hand(
        "no-such-node-port", ("a node port that no Service has", "没有这个 NodePort"), [],
        ask("outside", "192.168.100.2:30999"), "nobody-listens",
        mends=False, note="nothing is broken: the question is",
    ),
    by_hand(
        "udp-of-a-tcp-service", ("a Service of TCP, asked by UDP", "用 UDP 访问 TCP Service"),
        [Objects((service("fault", VIP, ports=_TCP, **_FAR_ONLY),))],
        ask("client", "svc/fault", protocol="UDP", port="80"), "wrong-protocol", undo=[GONE],
        mends=False, note="nothing is broken: the question is",
    ),
    by_hand(
        "node-port-of-udp", ("a node port of UDP, asked by TCP", "用 TCP 访问 UDP NodePort"),
        [Objects((node_port(ports=_UDP),))], TO_NODE_PORT, "wrong-protocol", undo=[GONE],
        mends=False, note="nothing is broken: the question is",
    ),
    by_hand(
        "node-port-at-other-address",
        ("a node port at an address that the node serves none on", "NodePort 不在该地址上"),
        [Objects((node_port(),)), (N1, "ip address add 192.168.100.50/24 dev eth0")],
        ask("outside", f"192.168.100.50:{NODE_PORT}"), "nodeport-address",
        undo=[(N1, "ip address del 192.168.100.50/24 dev eth0"), GONE], modes=("nftables",),
        mends=False, note="where node ports are served, the proxy's configuration says",
    ),
    by_hand(
        "no-pods-yet", ("the selector's Pods do not exist yet", "还没有 Pod"),
        [Objects((service("fault", VIP, selector={"app": "nobody-yet"}),))], TO_FAULT,
        "selector-matches-nothing", undo=[GONE], mends=False, note="the Pods are to be made",
    ),
)  # fmt: skip

FAULTS = (*SERVERS, *SLICES, *SERVICES)
