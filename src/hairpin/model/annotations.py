"""What Kubernetes cannot say, said in annotations.  ``docs/annotations.md`` explains each."""

from __future__ import annotations

from hairpin.model.address import Network, from_builtin

PREFIX = "hairpin.dev/"

POD_IP = "hairpin.dev/ip"
SERVICE_CIDR = "hairpin.dev/service-cidr"
LOAD_BALANCER_CIDR = "hairpin.dev/load-balancer-cidr"
OVERLAY = "hairpin.dev/overlay"
PROXY = "hairpin.dev/proxy"
IMPLIED = "hairpin.dev/implied"

KINDS = {
    POD_IP: ("Pod",),
    SERVICE_CIDR: ("Node",),
    LOAD_BALANCER_CIDR: ("Node",),
    OVERLAY: ("Node",),
    PROXY: ("Node",),
    IMPLIED: ("Node", "Pod", "Service"),
}
"""The kinds of object that each annotation is for; no other ``hairpin.dev/`` name is accepted."""

VALUES = {OVERLAY: ("host-gw", "vxlan"), PROXY: ("ipvs", "none")}
"""What those that choose one of a few can be."""


def networks(value: str) -> tuple[Network, ...]:
    """The networks of an annotation, one a family: ``10.96.0.0/16,fd00:96::/112``.

    Raises ValueError for what is none, and for a family that is there twice.
    """
    found: list[Network] = [from_builtin(Network, text.strip()) for text in value.split(",")]
    if len({one.version for one in found}) < len(found):
        raise ValueError("more than one network of a family")
    return tuple(found)
