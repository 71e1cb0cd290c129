"""The ingredients: conditions that Service traffic needs and that a person can switch.

An ingredient's objects are part of what ``topology.desired`` and the node's proxy (``adjust``) want
for each setting; switching one is the difference between two such states, so no ingredient has
code of its own for it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.state.abilities import Abilities

Switch = Literal["on", "off"]
Hairpin = Literal["off", "promisc", "port"]


class Ingredients(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A setting of every ingredient; the defaults are a node on which Services work.

    forwarding       net.ipv4.ip_forward
    forward-accept   the FORWARD chain lets cni0's traffic through, and the Services'
    gateway          each Pod has a default route by cni0
    vip-local        the Services' addresses are those of a local link, so that IPVS sees their
                     packets
    hairpin          a frame may leave by the port it came in on: cni0 promiscuous, or the
                     port's own hairpin mode
    masquerade       POSTROUTING leads to kube-proxy's rules: who reaches itself through a
                     Service, and who comes from outside, gets the node's address
    ipvs-conntrack   net.ipv4.vs.conntrack: IPVS connections are seen by conntrack and NAT
    br-netfilter     net.bridge.bridge-nf-call-iptables: bridged packets pass iptables
    """

    forwarding: Switch = "on"
    forward_accept: Switch = "on"
    gateway: Switch = "on"
    vip_local: Switch = "on"
    hairpin: Hairpin = "port"
    masquerade: Switch = "on"
    ipvs_conntrack: Switch = "on"
    br_netfilter: Switch = "on"

    def with_(self, name: str, value: str) -> Ingredients:
        """The same with one changed, by its dashed name.  Raises ValueError."""
        field = name.replace("-", "_")
        if field not in self.__struct_fields__ or "_" in name:
            raise ValueError(f"{name} is not an ingredient; there are: {', '.join(NAMES)}")
        if name == "hairpin" and value == "on":
            value = "port"
        if value not in values(name):
            raise ValueError(f"{name}={value}: {name} takes {', '.join(values(name))}")
        return msgspec.structs.replace(self, **{field: value})


NAMES = tuple(field.replace("_", "-") for field in Ingredients.__struct_fields__)

MEANINGS = {
    "forwarding": "the node routes packets of others (net.ipv4.ip_forward)",
    "forward-accept": "the FORWARD chain lets Pod traffic through",
    "gateway": "Pods have a default route by cni0",
    "vip-local": "Services' addresses are local (kube-ipvs0)",
    "hairpin": "a frame may leave cni0 by the port it came in on",
    "masquerade": "who reaches itself gets the node's address (KUBE-POSTROUTING)",
    "ipvs-conntrack": "conntrack and NAT see IPVS connections (net.ipv4.vs.conntrack)",
    "br-netfilter": "bridged packets pass iptables (bridge-nf-call-iptables)",
}


_NEEDS = {
    "forward-accept": ("iptables",),
    "vip-local": ("dummy", "ipvs"),
    "masquerade": ("iptables", "dummy", "ipvs"),
    "ipvs-conntrack": ("ipvs_conntrack",),
    "br-netfilter": ("br_netfilter",),
}
"""What the kernel must be able to do, by its name in Abilities."""


_OF_IPVS = ("vip-local", "ipvs-conntrack")


def absent(name: str, abilities: Abilities, mode: str = "ipvs") -> str | None:
    """Why there is no such ingredient in this kernel, or in that mode; None where there is."""
    if mode != "ipvs":
        if name in _OF_IPVS:
            return f"{mode} mode does without"
        if name == "masquerade":
            return abilities.unserved_in(mode)
    for need in _NEEDS.get(name, ()):
        if not getattr(abilities, need):
            return abilities.lacking.get(need, f"it has no {need}")
    return None


def values(name: str) -> tuple[str, ...]:
    """What an ingredient can be set to."""
    return ("off", "promisc", "port") if name == "hairpin" else ("on", "off")
