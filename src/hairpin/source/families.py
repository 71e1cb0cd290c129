"""The IP families of a Service: which it gets, and when it is refused.

Source: k8s.io/kubernetes pkg/registry/core/service/storage/alloc.go.
"""

from __future__ import annotations

import msgspec

from hairpin.model.address import IP, Network
from hairpin.model.annotations import SERVICE_CIDR
from hairpin.model.errors import ManifestError
from hairpin.model.service import IPFamily, IPFamilyPolicy, Service, ServiceSpec

_OTHER: dict[IPFamily, IPFamily] = {"IPv4": "IPv6", "IPv6": "IPv4"}


def family(of: IP | Network) -> IPFamily:
    """The family of an address or network."""
    return "IPv4" if of.version == 4 else "IPv6"


def with_families(
    service: Service, before: Service | None, cidrs: tuple[Network, ...], *, foreign: bool = False
) -> Service:
    """The Service with its policy and families, in a cluster with these service CIDRs.

    Without a policy, an existing Service keeps its own.  ``foreign`` takes a family that the
    cluster lacks where the Service has an address of it.  Raises ManifestError.
    """
    spec = service.spec
    had = None if before is None or before.spec.type == "ExternalName" else before.spec
    bare = service.headless and not spec.selector
    policy = spec.ip_family_policy or (had.ip_family_policy if had else None)
    policy = policy or ("RequireDualStack" if bare else "SingleStack")
    known = tuple(family(cidr) for cidr in cidrs)
    families = list(spec.ip_families)
    for ip in spec.cluster_ips[len(families) :]:
        if ip != "None":
            families.append(family(ip))
    if bare:
        families = families or [known[0]]
        if len(families) < 2 and policy != "SingleStack":
            families.append(_OTHER[families[0]])
        return _replaced(service, policy, families)
    _check(service, policy, families, cidrs, foreign)
    if not families:
        families = [had.ip_families[0] if had and had.ip_families else known[0]]
    if policy != "SingleStack" and len(families) == 1 and _OTHER[families[0]] in known:
        families.append(_OTHER[families[0]])
    if policy == "SingleStack":
        families = families[:1]
    return _replaced(service, policy, families)


def _check(
    service: Service,
    policy: IPFamilyPolicy,
    families: list[IPFamily],
    cidrs: tuple[Network, ...],
    foreign: bool,
) -> None:
    """Refuses what this cluster has no addresses for.  Raises ManifestError."""
    known = [family(cidr) for cidr in cidrs]
    if foreign and len(service.virtual_ips) >= len(families):
        return
    missing = next((one for one in families if one not in known), None)
    if missing is not None:
        message, field = f"there is no service CIDR for {missing}", _said_in(service.spec, missing)
    elif policy == "RequireDualStack" and len(known) < 2:
        message, field = f"there is one service CIDR, {cidrs[0]}", "spec.ipFamilyPolicy"
    else:
        return
    raise ManifestError(
        message,
        object=str(service.ref),
        field=field,
        remedy=f"the Node's annotation {SERVICE_CIDR} can name two: 10.96.0.0/16,fd00:96::/112",
    )


def _said_in(spec: ServiceSpec, missing: IPFamily) -> str:
    if missing in spec.ip_families:
        return f"spec.ipFamilies[{spec.ip_families.index(missing)}]"
    return "spec.clusterIP"


def _replaced(service: Service, policy: IPFamilyPolicy, families: list[IPFamily]) -> Service:
    spec = msgspec.structs.replace(
        service.spec, ip_family_policy=policy, ip_families=tuple(families)
    )
    return msgspec.structs.replace(service, spec=spec)
