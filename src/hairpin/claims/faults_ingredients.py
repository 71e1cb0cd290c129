"""Faults of the ingredients: each missing, switched by hairpin and broken by hand, and in pairs."""

from __future__ import annotations

from itertools import combinations

from hairpin.claims.base import Text
from hairpin.claims.faults_base import Fault, Mode, Shell, Switch
from hairpin.claims.faults_cast import N1, VIP_BAR, ask

SELF = ask("foo", "svc/foo:http")
OTHER = ask("client", "svc/bar:http")
AWAY = ask("client", "svc/far:http")

CAUSES: dict[str, tuple[str, ...]] = {
    "forwarding": ("forwarding-off",),
    "forward-accept": ("forward-drop",),
    "gateway": ("gateway-missing",),
    "vip-local": ("vip-not-local",),
    "hairpin": ("hairpin-off",),
    "masquerade": ("masquerade-missing",),
    "ipvs-conntrack": ("ipvs-conntrack-off",),
    "br-netfilter": ("br-netfilter-off",),
}
"""What a trace names where that ingredient is off."""

ASKED = {
    "forwarding": AWAY, "forward-accept": AWAY, "gateway": OTHER, "vip-local": OTHER,
    "hairpin": SELF, "masquerade": SELF, "ipvs-conntrack": SELF, "br-netfilter": OTHER,
}  # fmt: skip

ALL_ON = Switch({**dict.fromkeys(CAUSES, "on"), "hairpin": "promisc"})


_IPVS_ONLY = ("vip-local", "ipvs-conntrack")
_IPVS: tuple[Mode, ...] = ("ipvs",)
_ALL: tuple[Mode, ...] = ("ipvs", "iptables", "nftables")


def _modes(*names: str) -> tuple[Mode, ...]:
    return _IPVS if any(name in _IPVS_ONLY for name in names) else _ALL


def _off(*names: str) -> Switch:
    return Switch(dict.fromkeys(names, "off"))


SINGLE = tuple(
    Fault(
        id=f"no-{name}",
        says=Text(f"ingredient {name} is off", f"缺少 {name}"),
        acts=(_off(name),),
        ask=ASKED[name],
        causes=causes,
        undo=(ALL_ON,),
        modes=_modes(name),
    )
    for name, causes in CAUSES.items()
)

PAIRS = tuple(
    Fault(
        id=f"no-{one}+{other}",
        says=Text(f"ingredients {one} and {other} are off", f"缺少 {one} 和 {other}"),
        acts=(_off(one, other),),
        # Without br_netfilter a Pod reaches itself with no hairpin: the other question then.
        ask=ASKED[other if other == "br-netfilter" else one],
        causes=(*CAUSES[one], *CAUSES[other]),
        undo=(ALL_ON,),
        modes=_modes(one, other),
    )
    for one, other in combinations(CAUSES, 2)
)
"""Each two at once: a trace names one of them, mends it, and then the other if it matters."""

_HAND: tuple[tuple[str, str, str, str], ...] = (
    ("forwarding", N1, "sysctl -qw net.ipv4.ip_forward=0", "切断转发"),
    (
        "forward-accept", N1,
        "iptables -P FORWARD DROP; while iptables -D FORWARD -i cni0 -j ACCEPT; do :; done "
        "2>/dev/null; iptables -D FORWARD -o cni0 -j ACCEPT; "
        "iptables -D FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD",
        "FORWARD 链默认丢弃",
    ),
    ("gateway", "client", "ip route del default", "删除 Pod 的默认路由"),
    ("vip-local", N1, f"ip address del {VIP_BAR}/32 dev kube-ipvs0", "从 kube-ipvs0 删除 VIP"),
    ("hairpin", N1, "ip link set cni0 promisc off; bridge link set dev veth_foo hairpin off",
     "关闭 cni0 的混杂模式"),
    (
        "masquerade", N1,
        "iptables -t nat -D POSTROUTING -m comment --comment 'kubernetes postrouting rules' "
        "-j KUBE-POSTROUTING",
        "删除去 KUBE-POSTROUTING 的跳转",
    ),
    ("ipvs-conntrack", N1, "sysctl -qw net.ipv4.vs.conntrack=0", "IPVS 不进 conntrack"),
    ("br-netfilter", N1, "sysctl -qw net.bridge.bridge-nf-call-iptables=0", "网桥不过 iptables"),
)  # fmt: skip

BY_HAND = tuple(
    Fault(
        id=f"{name}-by-hand",
        says=Text(f"{name} taken away by hand: {line.split(';')[0]}", zh),
        acts=(Shell(netns, line),),
        ask=ASKED[name],
        causes=CAUSES[name],
        undo=(ALL_ON,),
        # The lines name what IPVS mode has; what is no rule is the same in all.
        modes=_IPVS if "iptables " in line or name in _IPVS_ONLY else _ALL,
    )
    for name, netns, line, zh in _HAND
)

FAULTS = (*SINGLE, *BY_HAND)
