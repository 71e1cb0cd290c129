"""Faults in what the proxy made: rules, sets, chains and servers changed or taken away."""

from __future__ import annotations

from hairpin.claims.faults_base import Connect, Fault, Objects
from hairpin.claims.faults_cast import (
    BAR,
    BAR6,
    CLIENT,
    FAR,
    N1,
    VIP6_BAR,
    VIP6_FAR,
    VIP_BAR,
    VIP_FAR,
    ask,
)
from hairpin.claims.faults_made import (
    GONE,
    HOST,
    IPTABLES,
    IPVS,
    NFTABLES,
    SELF,
    TO_BAR,
    TO_FAR,
    TO_FAR6,
    TO_NODE_PORT,
    by_hand,
    node_port,
)

_MASQ = "iptables -t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"
_PORTALS = "PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"
_TO_BAR6 = ask("client", "svc/bar:http", ipv6=True)
_SERVER = f"ipvsadm -a -t {VIP_FAR}:80 -r {FAR}:8080 -m"
_CHAIN = (
    "c=$(nft list map ip kube-proxy service-ips | grep '{} . {} . 80' | "
    "sed 's/.*goto //;s/[ ,}}].*//')"
)
_SVC = (
    "c=$(iptables-save -t nat | "
    "awk '/default\\/far:http cluster IP/ && /-j KUBE-SVC/ {print $NF; exit}')"
)
_SEP = (
    "c=$(iptables-save -t nat | "
    "awk '/-A KUBE-SEP/ && /10.244.2.10:8080/ && /tcp/ {print $2; exit}')"
)

MASQUERADING: tuple[Fault, ...] = (
    by_hand(
        "mark-masq-emptied", ("KUBE-MARK-MASQ marks nothing", "KUBE-MARK-MASQ 被清空"),
        [Objects((node_port(),)), (N1, "iptables -t nat -F KUBE-MARK-MASQ")], TO_NODE_PORT,
        "masquerade-missing",
        undo=[(N1, f"iptables -t nat -F KUBE-MARK-MASQ; {_MASQ}"), GONE],
        modes=("ipvs", "iptables"),
    ),
    by_hand(
        "mark-masq-other-bit", ("KUBE-MARK-MASQ sets another bit", "KUBE-MARK-MASQ 标记错误"),
        [Objects((node_port(),)),
         (N1, "iptables -t nat -F KUBE-MARK-MASQ; "
              "iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x8000")],
        TO_NODE_PORT, "masquerade-missing",
        undo=[(N1, f"iptables -t nat -F KUBE-MARK-MASQ; {_MASQ}"), GONE],
        modes=("ipvs", "iptables"),
    ),
    by_hand(
        "postrouting-emptied", ("KUBE-POSTROUTING masks nobody", "KUBE-POSTROUTING 被清空"),
        [Objects((node_port(),)), (N1, "iptables -t nat -F KUBE-POSTROUTING")], TO_NODE_PORT,
        "masquerade-missing", undo=[GONE], modes=("ipvs", "iptables"),
    ),
    by_hand(
        "loop-back-emptied", ("KUBE-LOOP-BACK knows no Pod", "KUBE-LOOP-BACK 被清空"),
        [(N1, "ipset flush KUBE-LOOP-BACK")], SELF, "masquerade-missing", modes=IPVS,
    ),
    by_hand(
        "node-port-set-emptied", ("KUBE-NODE-PORT-TCP knows no port", "NodePort 集合被清空"),
        [Objects((node_port(),)), (N1, "ipset flush KUBE-NODE-PORT-TCP")], TO_NODE_PORT,
        "masquerade-missing", undo=[GONE], modes=IPVS,
    ),
    by_hand(
        "nft-postrouting-emptied", ("nat-postrouting masks nobody", "nat-postrouting 被清空"),
        [(N1, "nft flush chain ip kube-proxy nat-postrouting")], SELF, "masquerade-missing",
        modes=NFTABLES,
    ),
)  # fmt: skip

BY_IPTABLES: tuple[Fault, ...] = (
    by_hand(
        "services-jump-gone", ("nothing leads to KUBE-SERVICES", "去 KUBE-SERVICES 的跳转没了"),
        [(N1, f"iptables -t nat -D {_PORTALS}")], TO_FAR, "not-programmed", modes=IPTABLES,
    ),
    by_hand(
        "svc-chain-emptied", ("the Service's chain is empty", "Service 的链被清空"),
        [(N1, f'{_SVC}; test -n "$c" && iptables -t nat -F $c')], TO_FAR, "not-programmed",
        modes=IPTABLES,
    ),
    by_hand(
        "svc-rule-gone", ("nothing leads to the Service's chain", "去 Service 链的规则没了"),
        [(N1, "iptables-save -t nat | grep 'default/far:http cluster IP' | "
              "grep -- '-A KUBE-SERVICES' | sed 's/-A/-D/' | sed 's/^/iptables -t nat /' | sh")],
        TO_FAR, "not-programmed", modes=IPTABLES,
    ),
    by_hand(
        "sep-to-nobody", ("the endpoint's chain leads to nobody", "端点链指向无人"),
        [(N1, f'{_SEP}; test -n "$c" && iptables -t nat -F $c && '
              "iptables -t nat -A $c -p tcp -j DNAT --to-destination 10.244.2.99:8080")],
        TO_FAR, "programmed-wrong", modes=IPTABLES,
    ),
)  # fmt: skip

BY_NFTABLES: tuple[Fault, ...] = (
    by_hand(
        "nft-element-gone", ("service-ips does not know the Service", "service-ips 缺少元素"),
        [(N1, f"nft delete element ip kube-proxy service-ips '{{ {VIP_FAR} . tcp . 80 }}'")],
        TO_FAR, "not-programmed", modes=NFTABLES,
    ),
    by_hand(
        "nft-element-gone-6", ("service-ips of IPv6 does not know the Service", "IPv6 缺少元素"),
        [(N1, f"nft delete element ip6 kube-proxy service-ips '{{ {VIP6_FAR} . tcp . 80 }}'")],
        TO_FAR6, "not-programmed", modes=NFTABLES,
    ),
    by_hand(
        "nft-chain-emptied", ("the Service's chain is empty", "Service 的链被清空"),
        [(N1, f'{_CHAIN.format(VIP_FAR, "tcp")}; nft flush chain ip kube-proxy $c')], TO_FAR,
        "not-programmed", modes=NFTABLES,
    ),
    by_hand(
        "nft-endpoint-of-nobody", ("the Service's chain leads to nobody", "Service 的链指向无人"),
        [(N1, f'{_CHAIN.format(VIP_FAR, "tcp")}; nft flush chain ip kube-proxy $c; nft add rule '
              "ip kube-proxy $c meta l4proto tcp dnat to 10.244.2.99:8080")],
        TO_FAR, "programmed-wrong", modes=NFTABLES,
    ),
    by_hand(
        "nft-other-chain", ("service-ips leads to the chain of UDP", "service-ips 指向错误的链"),
        [(N1, f"{_CHAIN.format(VIP_FAR, 'udp')}; "
              f"nft delete element ip kube-proxy service-ips '{{ {VIP_FAR} . tcp . 80 }}'; nft add "
              f'element ip kube-proxy service-ips "{{ {VIP_FAR} . tcp . 80 : goto $c }}"')],
        TO_FAR, "programmed-wrong", modes=NFTABLES,
    ),
    by_hand(
        "nft-table-gone", ("the table kube-proxy is gone", "kube-proxy 表被删除"),
        [(N1, "nft delete table ip kube-proxy")], TO_FAR, "not-programmed", modes=NFTABLES,
    ),
    by_hand(
        "nft-prerouting-emptied", ("nat-prerouting leads to no Service", "nat-prerouting 被清空"),
        [(N1, "nft flush chain ip kube-proxy nat-prerouting")], TO_FAR, "not-programmed",
        modes=NFTABLES,
    ),
)  # fmt: skip

BY_IPVS: tuple[Fault, ...] = (
    by_hand(
        "virtual-server-gone", ("the virtual server was deleted", "虚拟服务器被删除"),
        [(N1, f"ipvsadm -D -t {VIP_BAR}:80")], TO_BAR, "not-programmed", modes=IPVS,
    ),
    by_hand(
        "direct-routing", ("IPVS sends packets on as they are", "IPVS 用了直接路由"),
        [(N1, f"ipvsadm -a -t {VIP_FAR}:80 -r {FAR} -g; "
              f"ipvsadm -d -t {VIP_FAR}:80 -r {FAR}:8080")],
        TO_FAR, "ipvs-forwarding-method",
        undo=[(N1, f"ipvsadm -d -t {VIP_FAR}:80 -r {FAR}:80"), (N1, _SERVER)], modes=IPVS,
    ),
    by_hand(
        "real-server-other-port", ("the real server has another port", "后端端口写错"),
        [(N1, f"ipvsadm -a -t {VIP_FAR}:80 -r {FAR}:9999 -m; "
              f"ipvsadm -d -t {VIP_FAR}:80 -r {FAR}:8080")],
        TO_FAR, "real-server-foreign",
        undo=[(N1, f"ipvsadm -d -t {VIP_FAR}:80 -r {FAR}:9999"), (N1, _SERVER)], modes=IPVS,
    ),
    by_hand(
        "real-server-of-nobody", ("the real server is nobody", "后端地址无人"),
        [(N1, f"ipvsadm -a -t {VIP_FAR}:80 -r 10.244.2.99:8080 -m; "
              f"ipvsadm -d -t {VIP_FAR}:80 -r {FAR}:8080")],
        TO_FAR, "real-server-foreign",
        undo=[(N1, f"ipvsadm -d -t {VIP_FAR}:80 -r 10.244.2.99:8080"), (N1, _SERVER)], modes=IPVS,
    ),
    by_hand(
        "weight-zero-6", ("the IPv6 real server has weight 0", "IPv6 后端权重为 0"),
        [(N1, f"ipvsadm -e -t [{VIP6_BAR}]:80 -r [{BAR6}]:8080 -m -w 0")], _TO_BAR6,
        "weight-zero",
        undo=[(N1, f"ipvsadm -e -t [{VIP6_BAR}]:80 -r [{BAR6}]:8080 -m -w 1")], modes=IPVS,
    ),
    by_hand(
        "threshold-reached", ("the real server has all connections it may have", "达到上限"),
        [(N1, f"ipvsadm -e -t {VIP_BAR}:80 -r {BAR}:8080 -m -x 1 -y 0"), Connect(TO_BAR)], TO_BAR,
        "ipvs-overloaded",
        undo=[(N1, f"ipvsadm -e -t {VIP_BAR}:80 -r {BAR}:8080 -m -x 0 -y 0")], modes=IPVS,
    ),
    by_hand(
        "kube-ipvs0-gone", ("kube-ipvs0 was deleted", "kube-ipvs0 被删除"),
        [(N1, "ip link del kube-ipvs0")], TO_BAR, "vip-not-local", modes=IPVS,
    ),
    by_hand(
        "vip-gone-6", ("the IPv6 address is not on kube-ipvs0", "kube-ipvs0 缺少 IPv6 地址"),
        [(N1, f"ip -6 addr del {VIP6_BAR}/128 dev kube-ipvs0")], _TO_BAR6, "vip-not-local",
        undo=[(N1, f"ip -6 addr add {VIP6_BAR}/128 dev kube-ipvs0")], modes=IPVS,
    ),
    by_hand(
        "cluster-ip-not-in-set", ("KUBE-CLUSTER-IP lacks the Service", "KUBE-CLUSTER-IP 缺少成员"),
        [(N1, f"ipset del KUBE-CLUSTER-IP {VIP_BAR},tcp:80")], TO_BAR, "not-programmed",
        undo=[(N1, f"ipset -exist add KUBE-CLUSTER-IP {VIP_BAR},tcp:80")], modes=IPVS,
    ),
)  # fmt: skip

_STALE = ask("client", "svc/far:udp", source_port=40007)

REMEMBERED: tuple[Fault, ...] = (
    by_hand(
        "udp-flow-of-the-past", ("conntrack leads a UDP flow to nobody", "UDP 流指向无人"),
        [(N1, f"conntrack -I -p udp -s {CLIENT} -d {VIP_FAR} --sport 40007 --dport 80 "
              f"-r 10.244.2.99 -q {CLIENT} --reply-port-src 8080 --reply-port-dst 40007 -t 100")],
        _STALE, "stale-connection",
        undo=[(N1, "conntrack -D -p udp --orig-port-src 40007")], modes=HOST,
    ),
)  # fmt: skip

FAULTS = (*MASQUERADING, *BY_IPTABLES, *BY_NFTABLES, *BY_IPVS, *REMEMBERED)
