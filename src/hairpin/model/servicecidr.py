"""ServiceCIDRs: the networks that ClusterIPs come from (networking.k8s.io/v1, since 1.33).

Only a cluster has any; in manifests a Node's annotation says them.
"""

from __future__ import annotations

from hairpin.model.address import Network
from hairpin.model.metadata import Api, KubeObject


class ServiceCIDRSpec(Api, frozen=True, kw_only=True):
    cidrs: tuple[Network, ...] = ()


class ServiceCIDR(KubeObject, frozen=True, kw_only=True, tag="ServiceCIDR"):
    """One or two networks, one a family."""

    spec: ServiceCIDRSpec = ServiceCIDRSpec()
