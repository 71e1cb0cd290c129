"""Causes in addresses that are not where they should be: in no Pod, or on none of its links."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.source.ranges import said_cidrs
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, forms, pod_at
from hairpin.trace.heading import headings
from hairpin.trace.observation import Place
from hairpin.trace.values import Cause, Mend


def address_missing(case: Case) -> Cause | None:
    """The Pod that has the address by its status does not have it on a link."""
    if case.leg == "data" or case.found.partial:
        return None
    for address in sorted(_wanted(case), key=str):
        pod = pod_at(case, address)
        if pod is None or places.holder(case.found.places, address) is not None:
            continue
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        place = next((one for one in case.found.places if one.name == name), None)
        if place is None or place.role != "pod":
            continue
        off = _without_ipv6(place, address)
        if off is not None:
            return off
        node = case.node_of(place) or place
        link = next((one.name for one in place.links if one.type == "veth"), "eth0")
        return cause(
            "address-missing",
            f"{address} is the address of {places.title(place)}, and none of its links has it",
            by_hand(node, f"ip -n {place.netns} address add {address}/{_bits(case, address)} "
                    f"dev {link}"),
            f"{place.netns}: " + ", ".join(str(one.ip) for one in place.addresses),
            of=str(address),
        )  # fmt: skip
    return None


def endpoint_gone(case: Case) -> Cause | None:
    """An EndpointSlice names an address that nobody has."""
    if case.leg != "request" or case.found.partial or case.target is None:
        return None
    sent = {form.destination for form in forms(case)} - {case.tried.ip}
    if case.last is not None and case.where.role == "node":
        sent |= {one for heading in headings(case) for one in heading.destinations}
    for piece in case.snapshot.endpointslices.values():
        if piece.service_key != case.target.service.key:
            continue
        for address in (one.addresses[0] for one in piece.endpoints if one.addresses):
            if address not in sent or pod_at(case, address) is not None:
                continue
            if places.holder(case.found.places, address) is not None:
                continue
            return cause(
                "endpoint-gone",
                f"EndpointSlice {piece.metadata.name} of Service {case.target.name} names "
                f"{address}, and nobody has that address: no Pod, no node",
                Mend(),
                f"{address} is on no link",
                of=f"EndpointSlice {piece.metadata.name}",
            )
    return None


def _wanted(case: Case) -> set[IP]:
    found = {one for heading in headings(case) for one in heading.destinations}
    return found | {form.destination for form in forms(case)}


def _bits(case: Case, address: IP) -> int:
    for node in case.snapshot.nodes.values():
        for cidr in said_cidrs(node):
            if address in cidr:
                return cidr.prefixlen
    return address.max_prefixlen


def _without_ipv6(place: Place, address: IP) -> Cause | None:
    if address.version == 4 or place.around is None:
        return None
    for link in place.links:
        name = f"net.ipv6.conf.{link.name}.disable_ipv6"
        if link.name != "lo" and place.around.settings.get(name) == "1":
            return cause(
                "ipv6-off",
                f"{places.title(place)} has no IPv6 on {link.name}: {name} is 1",
                by_hand(place, f"sysctl -w {name}=0"),
                f"{name} = 1",
                of=name,
            )
    return None
