"""Which names in a kernel are a proxy's, and of which mode: kube-proxy's, and no others'."""

from __future__ import annotations

import re

from hairpin.plan.ipvs_rules import CHAINS
from hairpin.present.iptables_save import Place

_IPVS: frozenset[Place] = frozenset((table, name) for table, name, _ in CHAINS)
# pkg/proxy/iptables/proxier.go of Kubernetes 1.36.
_IPTABLES: frozenset[Place] = frozenset(
    (
        ("nat", "KUBE-SERVICES"),
        ("nat", "KUBE-NODEPORTS"),
        ("nat", "KUBE-POSTROUTING"),
        ("nat", "KUBE-MARK-MASQ"),
        ("filter", "KUBE-SERVICES"),
        ("filter", "KUBE-EXTERNAL-SERVICES"),
        ("filter", "KUBE-NODEPORTS"),
        ("filter", "KUBE-FORWARD"),
        ("filter", "KUBE-PROXY-FIREWALL"),
    )
)
_HASHED = re.compile(r"KUBE-(?:SVC|SVL|SEP|EXT|FW|XLB)-[A-Z2-7]{16}")


def is_ours(place: Place, mode: str, family: str = "ip") -> bool:
    """Whether a chain of that table and name is one that this mode makes."""
    if mode == "ipvs":
        return place in _IPVS
    return mode == "iptables" and (place in _IPTABLES or hashed(place))


def hashed(place: Place) -> bool:
    """Whether it bears the name of a ServicePort's or an endpoint's chain of iptables mode."""
    return place[0] == "nat" and _HASHED.fullmatch(place[1]) is not None


def mode_of(place: Place) -> str:
    """The mode that alone makes such a chain; "both" for one that two make, "" for none."""
    by_ipvs, by_iptables = is_ours(place, "ipvs"), is_ours(place, "iptables")
    if by_ipvs and by_iptables:
        return "both"
    return "ipvs" if by_ipvs else "iptables" if by_iptables else ""
