"""The names of what kube-proxy's nftables table holds.

What belongs to one ServicePort is named after it, with a hash in front that tells apart what looks
alike: ``service-ULMVA6XW-ns1/web/tcp/http``.  The rules are kube-proxy's
(pkg/proxy/nftables/proxier.go of Kubernetes 1.36, servicePortChainNameBase and what follows it).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Literal

from hairpin.model.address import IP
from hairpin.model.service import ServicePortName

Family = Literal["ip", "ip6"]

TABLE = "kube-proxy"
FAMILIES: Mapping[int, Family] = {4: "ip", 6: "ip6"}
"""The table's family by IP version."""

HAIRPIN_CONNECTIONS = "hairpin-connections"
CLUSTER_IPS = "cluster-ips"
NODEPORT_IPS = "nodeport-ips"
NO_ENDPOINT_SERVICES = "no-endpoint-services"
NO_ENDPOINT_NODEPORTS = "no-endpoint-nodeports"
FIREWALL_IPS = "firewall-ips"
SERVICE_IPS = "service-ips"
SERVICE_NODEPORTS = "service-nodeports"

FILTER_PREROUTING = "filter-prerouting-pre-dnat"
FILTER_OUTPUT_PRE_DNAT = "filter-output-pre-dnat"
FILTER_INPUT = "filter-input"
FILTER_FORWARD = "filter-forward"
FILTER_OUTPUT = "filter-output"
NAT_PREROUTING = "nat-prerouting"
NAT_OUTPUT = "nat-output"
NAT_POSTROUTING = "nat-postrouting"

NODEPORT_ENDPOINTS_CHECK = "nodeport-endpoints-check"
SERVICE_ENDPOINTS_CHECK = "service-endpoints-check"
FIREWALL_CHECK = "firewall-check"
SERVICES = "services"
MASQUERADING = "masquerading"
CLUSTER_IPS_CHECK = "cluster-ips-check"
REJECT = "reject-chain"

_MOST = 256 - 16
"""Characters of a name without its prefix: NFT_NAME_MAXLEN (uapi/linux/netfilter/nf_tables.h)
less the longest prefix that kube-proxy allows for."""


MOST_COMMENT = 128
"""Characters of a comment: nft(8) takes no more (NFTNL_UDATA_COMMENT_MAXLEN in its parser)."""


def of_port(name: ServicePortName) -> str:
    """What follows ``service-``, ``local-``, ``external-`` and ``firewall-``."""
    return _hashed(_plain(name))


def of_endpoint(name: ServicePortName, ip: IP, port: int) -> str:
    """What follows ``endpoint-`` and ``affinity-``; a colon cannot be in a name."""
    return _hashed(f"{_plain(name)}__{str(ip).replace(':', '.')}/{port}")


def _plain(name: ServicePortName) -> str:
    return f"{name.namespace}/{name.name}/{name.protocol.lower()}/{name.port}"


def _hashed(name: str) -> str:
    head = base64.b32encode(hashlib.sha256(name.encode()).digest()[:5]).decode()
    found = f"{head}-{name}"
    return found if len(found) <= _MOST else f"{found[: _MOST - 3]}..."
