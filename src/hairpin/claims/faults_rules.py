"""Faults in rules of firewalls, in every table and by every program, on nodes and in Pods."""

from __future__ import annotations

from hairpin.claims.faults_base import Fault, Objects
from hairpin.claims.faults_cast import BAR, CLIENT, FAR, FAR6, N1, N2, VIP6_FAR, VIP_FAR, ask
from hairpin.claims.faults_made import (
    GONE,
    HOST,
    IPTABLES,
    IPVS,
    NODE_PORT,
    POD_BAR,
    POD_FAR,
    TO_BAR,
    TO_FAR,
    TO_FAR6,
    TO_NODE_PORT,
    by_hand,
    inserted,
    node_port,
)

_TCP = "-p tcp --dport 8080"

ON_NODES: tuple[Fault, ...] = (
    inserted(
        "raw-drop", ("a rule of raw drops it at the other node", "raw 表丢弃了包"),
        N2, f"raw PREROUTING -d {FAR} {_TCP} -j DROP", TO_FAR, "rule",
    ),
    inserted(
        "mangle-forward-drop", ("a rule of mangle drops it in FORWARD", "mangle 表丢弃了包"),
        N1, f"mangle FORWARD -d {FAR} -j DROP", POD_FAR, "forward-rule",
    ),
    inserted(
        "mangle-postrouting-drop", ("a rule drops it on leaving", "POSTROUTING 丢弃了包"),
        N1, f"mangle POSTROUTING -o eth0 {_TCP} -j DROP", TO_FAR, "rule",
    ),
    inserted(
        "security-drop", ("a rule of security drops it", "security 表丢弃了包"),
        N2, f"security FORWARD -d {FAR} -j DROP", TO_FAR, "forward-rule",
    ),
    by_hand(
        "user-chain-drop", ("a chain of one's own drops it", "自建链丢弃了包"),
        [(N2, "iptables -N CORP; iptables -A CORP -s 10.244.1.0/24 -j DROP; "
              "iptables -I FORWARD -j CORP")],
        POD_FAR, "forward-rule",
        undo=[(N2, "iptables -D FORWARD -j CORP; iptables -F CORP; iptables -X CORP")],
    ),
    inserted(
        "answer-dropped", ("the answer is dropped", "应答被丢弃"),
        N2, "filter FORWARD -p tcp --sport 8080 --tcp-flags SYN,ACK SYN,ACK -j DROP", TO_FAR,
        "forward-rule",
    ),
    inserted(
        "reject-with-reset", ("a rule answers with a reset", "规则以 RST 拒绝"),
        N2, f"filter FORWARD {_TCP} -j REJECT --reject-with tcp-reset", TO_FAR, "forward-rule",
    ),
    inserted(
        "connlimit", ("no connection more is allowed", "连接数限制为零"),
        N2, "filter FORWARD -p tcp --syn --dport 8080 -m connlimit --connlimit-above 0 -j REJECT",
        TO_FAR, "forward-rule",
    ),
    inserted(
        "statistic-drop", ("a rule of chance that always drops", "总是丢弃的随机规则"),
        N2, f"filter FORWARD -d {FAR} -m statistic --mode random --probability 1.0 -j DROP",
        TO_FAR, "forward-rule",
    ),
    inserted(
        "udp-forward-drop", ("UDP is dropped on the way", "UDP 被丢弃"),
        N2, "filter FORWARD -p udp --dport 8080 -j DROP", ask("client", "svc/far:udp"),
        "forward-rule",
    ),
    inserted(
        "forward-rule-6", ("an IPv6 rule drops it", "IPv6 规则丢弃了包"),
        N2, f"filter FORWARD -d {FAR6} -p tcp -j DROP", TO_FAR6, "forward-rule",
        program="ip6tables",
    ),
    inserted(
        "raw-drop-6", ("an IPv6 rule of raw drops what is for the Service", "IPv6 raw 表丢弃"),
        N1, f"raw PREROUTING -d {VIP6_FAR} -p tcp -j DROP", TO_FAR6, "rule", program="ip6tables",
    ),
    by_hand(
        "forward-policy-6", ("FORWARD of IPv6 drops what is not asked for", "IPv6 默认丢弃"),
        [(N2, "ip6tables -P FORWARD DROP; ip6tables -F FORWARD")], TO_FAR6, "forward-drop",
        undo=[(N2, "ip6tables -P FORWARD ACCEPT")],
    ),
    by_hand(
        "node-port-dropped", ("a rule drops the node port on arrival", "NodePort 被规则丢弃"),
        [Objects((node_port(),)),
         (N1, f"iptables -t mangle -I PREROUTING -i eth0 -p tcp --dport {NODE_PORT} -j DROP")],
        TO_NODE_PORT, "rule",
        undo=[(N1, f"iptables -t mangle -D PREROUTING -i eth0 -p tcp --dport {NODE_PORT} -j DROP"),
              GONE],
    ),
    inserted(
        "ttl-one", ("a rule shortens the packet's life to one router", "规则把 TTL 设为 1"),
        N2, f"mangle PREROUTING -d {FAR} -j TTL --ttl-set 1", TO_FAR, "ttl-exceeded",
    ),
    inserted(
        "snat-to-nobody", ("a rule gives the client an address of nobody", "SNAT 到无人地址"),
        N1, f"nat POSTROUTING -s {CLIENT} -d {FAR} -p tcp -j SNAT --to-source 203.0.113.9",
        POD_FAR, "rewritten-by-rule",
    ),
    by_hand(
        "node-port-stolen", ("a host port left behind takes the node port", "残留的 hostPort"),
        [Objects((node_port(),)),
         (N1, f"iptables -t nat -I PREROUTING -p tcp --dport {NODE_PORT} -j DNAT "
              "--to-destination 10.244.1.250:80")],
        TO_NODE_PORT, "rewritten-by-rule",
        undo=[(N1, f"iptables -t nat -D PREROUTING -p tcp --dport {NODE_PORT} -j DNAT "
                   "--to-destination 10.244.1.250:80"), GONE],
        modes=IPTABLES,
    ),
    by_hand(
        "snat-ports-taken", ("a rule has one port to give, and it is taken", "SNAT 端口用尽"),
        [(N1, f"iptables -t nat -I POSTROUTING -d {FAR} -p tcp -j SNAT "
              "--to-source 192.168.100.2:40000-40000"),
         ("client", f"timeout 60 python3 -c 'import socket,time; "
                    f"s=socket.create_connection((\"{FAR}\",8080)); time.sleep(60)' "
                    ">/dev/null 2>&1 & sleep 1")],
        POD_FAR, "ports-taken",
        undo=[(N1, f"iptables -t nat -D POSTROUTING -d {FAR} -p tcp -j SNAT "
                   "--to-source 192.168.100.2:40000-40000")],
        modes=HOST,
    ),
    inserted(
        "dnat-to-nobody", ("a rule sends the Service's packets to nobody", "DNAT 到无人地址"),
        N1, f"nat PREROUTING -d {VIP_FAR} -p tcp --dport 80 -j DNAT --to-destination 10.244.2.99:1",
        TO_FAR, "rewritten-by-rule", modes=IPTABLES,
    ),
    inserted(
        "notrack", ("a rule hides the client from conntrack", "NOTRACK 规则"),
        N1, f"raw PREROUTING -s {CLIENT} -j NOTRACK", TO_FAR, "not-tracked", modes=HOST,
    ),
    inserted(
        "conntrack-zone", ("a rule puts Pods into a conntrack zone", "conntrack zone 规则"),
        N1, "raw PREROUTING -i cni0 -j CT --zone 7", TO_FAR, "not-tracked", modes=HOST,
    ),
    inserted(
        "accepted-before-services", ("a rule accepts before Services are asked", "提前 ACCEPT"),
        N1, f"nat PREROUTING -s {CLIENT} -j ACCEPT", TO_FAR, "rule", modes=IPTABLES,
    ),
)  # fmt: skip

IN_PODS: tuple[Fault, ...] = (
    inserted(
        "pod-output-drop", ("the client's own rule drops it", "客户端 Pod 自己丢弃"),
        "client", "filter OUTPUT -p tcp --dport 80 -j DROP", TO_BAR, "output-rule",
    ),
    inserted(
        "pod-output-reject", ("the client's own rule rejects it", "客户端 Pod 自己拒绝"),
        "client", "filter OUTPUT -p tcp --dport 80 -j REJECT", TO_BAR, "output-rule",
    ),
    inserted(
        "pod-input-drop", ("the server's own rule drops it", "服务端 Pod 自己丢弃"),
        "far", f"filter INPUT {_TCP} -j DROP", TO_FAR, "input-rule",
    ),
    inserted(
        "pod-input-reject", ("the server's own rule rejects it", "服务端 Pod 自己拒绝"),
        "far", f"filter INPUT {_TCP} -j REJECT", TO_FAR, "input-rule",
    ),
    inserted(
        "pod-drops-answer", ("the client's own rule drops the answer", "客户端丢弃应答"),
        "client", "raw PREROUTING -p tcp --sport 80 -j DROP", TO_BAR, "rule",
    ),
    inserted(
        "pod-drops-own-answer", ("the server's own rule drops its answer", "服务端丢弃自己的应答"),
        "far", "mangle OUTPUT -p tcp --sport 8080 -j DROP", TO_FAR, "output-rule",
    ),
    inserted(
        "sidecar-redirect", ("a sidecar's redirect, and no sidecar", "重定向到不存在的 sidecar"),
        "client", "nat OUTPUT -p tcp -j REDIRECT --to-ports 15001", TO_BAR, "rewritten-by-rule",
    ),
    inserted(
        "sidecar-redirect-inward", ("a server's redirect, and no sidecar", "入站重定向无 sidecar"),
        "far", "nat PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006", TO_FAR,
        "rewritten-by-rule",
    ),
    by_hand(
        "neighbour-discovery-dropped", ("the server drops who asks for it", "丢弃邻居请求"),
        [("bar", "ip6tables -I INPUT -p icmpv6 --icmpv6-type neighbour-solicitation -j DROP"),
         (N1, "ip -6 neigh flush dev cni0"), ("client", "ip -6 neigh flush dev eth0")],
        ask("client", "svc/bar:http", ipv6=True), "neighbour-rule",
        undo=[("bar", "ip6tables -D INPUT -p icmpv6 --icmpv6-type neighbour-solicitation -j DROP")],
        modes=HOST,
    ),
)  # fmt: skip


def _table(id_: str, says: tuple[str, str], netns: str, chain: str, *rules: str) -> list[str]:
    """What makes a table of nf_tables: ``chain`` is the family, and what the chain is."""
    family, kind = chain.split(" ", 1)
    made = f"nft add table {family} corp; nft add chain {family} corp own '{{ {kind} }}'"
    return [made, *(f"nft add rule {family} corp own {rule}" for rule in rules)]


def _nft(
    id_: str, says: tuple[str, str], netns: str, chain: str, rule: str, *causes: str, **more: object
) -> Fault:
    lines = _table(id_, says, netns, chain, *([rule] if rule else []))
    family = chain.split(maxsplit=1)[0]
    question = more.get("question", TO_FAR)
    return by_hand(
        id_, says, [(netns, "; ".join(lines))], question, *causes,  # type: ignore[arg-type]
        undo=[(netns, f"nft delete table {family} corp")], modes=HOST,
    )  # fmt: skip


BY_NFT: tuple[Fault, ...] = (
    _nft(
        "nft-inet-drop", ("a table of family inet drops it", "nft inet 表丢弃"), N2,
        "inet type filter hook forward priority 0;", f"ip daddr {FAR} tcp dport 8080 drop",
        "forward-rule",
    ),
    _nft(
        "nft-answer-reject", ("a table by hand rejects the answer", "nft 表拒绝应答"), N1,
        "ip type filter hook forward priority 10;", "tcp sport 8080 counter reject",
        "forward-rule",
    ),
    _nft(
        "nft-policy-drop", ("a chain by hand drops all", "nft 链默认丢弃"), N2,
        "inet type filter hook forward priority 5; policy drop;", "", "policy-drop",
    ),
    _nft(
        "nft-prerouting-drop", ("a table by hand drops what is for Services", "nft 丢弃"),
        N1, "inet type filter hook prerouting priority -300;",
        "iifname cni0 ip daddr 10.96.0.0/16 drop", "rule",
    ),
    _nft(
        "nft-ingress-drop", ("a chain at the link's ingress drops it", "网卡入口链丢弃"), N2,
        "netdev type filter hook ingress device eth0 priority 0;", f"ip daddr {FAR} drop", "rule",
    ),
    _nft(
        "nft-bridge-drop", ("a table of the bridge drops it", "nft bridge 表丢弃"), N1,
        "bridge type filter hook forward priority 0;", f"ip daddr {BAR} drop", "bridge-rule",
        question=POD_BAR,
    ),
    _nft(
        "nft-redirect-to-nobody", ("a mesh's redirect, and no mesh", "网格残留的重定向"), N1,
        "ip type nat hook prerouting priority -150;", "tcp dport 80 redirect to :15001",
        "rewritten-by-rule",
    ),
    _nft(
        "nft-conntrack-zone", ("a table by hand gives requests a zone", "nft 的 conntrack zone"),
        N1, "ip type filter hook prerouting priority -300;", f"ip saddr {CLIENT} ct zone set 5",
        "not-tracked",
    ),
    by_hand(
        "nft-arp-drop", ("the server drops all ARP", "服务端丢弃 ARP"),
        [("bar", "nft add table arp corp; nft add chain arp corp own "
                 "'{ type filter hook input priority 0; }'; nft add rule arp corp own drop"),
         (N1, "ip neigh flush dev cni0")],
        TO_BAR, "neighbour-rule", undo=[("bar", "nft delete table arp corp")], modes=HOST,
    ),
    by_hand(
        "nft-bridge-output-drop", ("the bridge drops what the node sends", "网桥丢弃节点发出的包"),
        [(N1, "nft add table bridge corp; nft add chain bridge corp own "
              "'{ type filter hook output priority 0; }'; "
              f"nft add rule bridge corp own ip daddr {BAR} drop")],
        TO_BAR, "bridge-rule", undo=[(N1, "nft delete table bridge corp")], modes=IPVS,
    ),
    by_hand(
        "ebtables-forward", ("ebtables drops what the client sends to Pods", "ebtables 丢弃"),
        [(N1, "ebtables -A FORWARD -i veth_client -j DROP")], POD_BAR, "bridge-rule",
        undo=[(N1, "ebtables -F FORWARD")],
    ),
    by_hand(
        "ebtables-input", ("ebtables drops what the client sends to its node", "ebtables 丢弃"),
        [(N1, "ebtables -A INPUT -i veth_client -p IPv4 -j DROP")], TO_FAR, "bridge-rule",
        undo=[(N1, "ebtables -F INPUT")],
    ),
)  # fmt: skip

FAULTS = (*ON_NODES, *IN_PODS, *BY_NFT)
