"""The names of kube-proxy's chains in iptables mode, and the few words that its rules share.

A chain of a ServicePort is named by a hash, as names may have 28 characters only
(pkg/proxy/iptables/proxier.go: portProtoHash, servicePortEndpointChainName).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
LOCALNET_FIREWALL = "KUBE-FIREWALL"
"""The kubelet has that one too, with the same rule."""

SERVICE_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
"""Endpoints under policy Cluster, under policy Local, external traffic, source ranges, endpoint."""

INVALID_DROPPED = "ct_state_invalid_dropped_pkts"
LOCALHOST_ACCEPTED = "localhost_nps_accepted_pkts"
COUNTERS = (INVALID_DROPPED, LOCALHOST_ACCEPTED)
"""kube-proxy's packet counters (nfacct), which its metrics show."""

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
_SHIFTS = range(70, -1, -10)
_SCALE = 0x80000000  # the statistic match keeps a probability in 31 bits (libxt_statistic.c)


def hashed(text: str) -> str:
    """The 16 characters of base32 that begin a text's SHA-256."""
    number = int.from_bytes(sha256(text.encode()).digest()[:10], "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


@lru_cache(maxsize=4096)
def probability(left: int) -> str:
    """One of ``left``, as iptables-save prints what kube-proxy writes with ten digits."""
    written = float(f"{1 / left:.10f}")
    return f"{round(_SCALE * written) / _SCALE:.11f}"
