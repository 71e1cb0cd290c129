"""Ingredients that concern what a node's proxy wants: withheld, or set otherwise.  Pure.

The proxy plans as it does on any node.  What a person has switched off is taken out between its
plan and the kernel, so that it stays off whatever the proxy does next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from hairpin.lab import names
from hairpin.lab.ingredients import Ingredients
from hairpin.state.abilities import Abilities
from hairpin.state.change import Object
from hairpin.state.links import Address
from hairpin.state.netfilter import Chain, Jump
from hairpin.state.nftables import NftChain
from hairpin.state.sysctl import Sysctl

Adjust = Callable[[Object], Object | None]

FORWARDING = "net.ipv4.ip_forward"
FORWARDING_V6 = "net.ipv6.conf.all.forwarding"
IPVS_CONNTRACK = "net.ipv4.vs.conntrack"
_VALUE = {"on": "1", "off": "0"}


def adjusting(
    ingredients: Ingredients, abilities: Abilities, families: Collection[str] = ("ip",)
) -> Adjust | None:
    """What becomes of each object that a proxy wants; None where nothing is to be done.

    ``families`` are those of the node's Pods: rules of another one stay, so that what is off in a
    lab of IPv4 alone has one line to put it back by hand.
    """
    sysctls = {
        FORWARDING: _VALUE[ingredients.forwarding],
        IPVS_CONNTRACK: _VALUE[ingredients.ipvs_conntrack],
    }
    off = {
        ("POSTROUTING", "KUBE-POSTROUTING"): ingredients.masquerade == "off",
        ("FORWARD", "KUBE-FORWARD"): ingredients.forward_accept == "off",
    }
    bare = ingredients.masquerade == "off"
    without_vips = ingredients.vip_local == "off"
    switched = without_vips or any(off.values()) or set(sysctls.values()) != {"1"}
    if abilities.iptables and not switched:
        return None

    def adjust(thing: Object) -> Object | None:
        match thing:
            case Address(link=names.VIP_LINK):
                return None if without_vips else thing
            case Sysctl(name=name) if name in sysctls:
                return Sysctl(name=name, value=sysctls[name])
            case Jump(family=family) if family in families and off.get((thing.chain, thing.to)):
                return None
            case NftChain(name="nat-postrouting", family=family) if family in families and bare:
                return None  # in nftables mode a chain of its own is what leads to masquerading
            case Chain() | Jump():
                return thing if abilities.iptables else None
        return thing

    return adjust
