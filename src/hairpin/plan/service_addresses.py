"""Which of a Service's addresses can be served."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.model.service import Service


def cluster_ips(service: Service, problems: list[str]) -> dict[int, IP]:
    """The ClusterIP of each IP version, in the order of ipFamilies."""
    spec = service.spec
    families = [6 if one == "IPv6" else 4 for one in spec.ip_families]
    given = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip is not None else ())
    found: dict[int, IP] = {}
    for index, ip in enumerate(given):
        if isinstance(ip, str):
            continue
        wrong = refused(ip)
        if not wrong and families and index >= len(families):
            break  # kube-proxy looks no further either
        if not wrong and families and families[index] != ip.version:
            wrong = f"not {spec.ip_families[index]}, as spec.ipFamilies[{index}] says"
        if wrong:
            problems.append(f"{service.ref}: spec.clusterIPs[{index}]: {ip} is {wrong}")
        else:
            found.setdefault(ip.version, ip)
    return found


def refused(ip: IP) -> str:
    """Why no server can have that address, or ""."""
    number = int(ip)
    if ip.version == 4:
        if 0 < number < 0xE0000000 or 0xF0000000 <= number < 0xFFFFFFFF:
            return ""  # 240.0.0.0/4 is reserved, and clusters use it
    elif number and number >> 120 != 0xFF and number >> 32 != 0xFFFF:
        return ""
    if not number:
        return "the unspecified address"
    if ip.is_multicast:
        return "a multicast address"
    return "an IPv4 address" if ip.version == 6 else "the broadcast address"
