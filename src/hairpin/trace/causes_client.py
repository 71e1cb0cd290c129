"""Causes on the client's side: what kept the packet from leaving, or from finding its next hop."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, vips
from hairpin.trace.follow import answered
from hairpin.trace.observation import Place
from hairpin.trace.places import segment
from hairpin.trace.questions import unanswered
from hairpin.trace.values import Cause, Mend


def gateway_of(case: Case, pod: Place, address: IP) -> IP | None:
    """The node's address on the Pod's network: what the Pod's default route should lead to."""
    node = case.node_of(pod)
    if node is None:
        return None
    own = [
        one
        for one in pod.addresses
        # A link-local address alone is no address of that family: every link has one.
        if one.ip.version == address.version and one.link != "lo" and not one.ip.is_link_local
    ]
    outer = [
        one.ip
        for one in node.addresses
        if one.ip.version == address.version and one.link not in ("lo", "kube-ipvs0")
    ]
    for mine in own:
        for one in outer:
            if _same_network(one, mine.ip, mine.prefix):
                return one
    return None


def _same_network(one: IP, other: IP, prefix: int) -> bool:
    shift = one.max_prefixlen - prefix
    return int(one) >> shift == int(other) >> shift


def no_route(case: Case, place: Place, address: IP, of: str) -> Cause | None:
    """A namespace has no route to an address: a Pod's lacks its gateway, or another."""
    if places.route_to(place, address) is not None or places.is_local(place, address):
        return None
    who = places.title(place)
    gateway = gateway_of(case, place, address) if place.role == "pod" else None
    if gateway is not None:
        option = "-6 " if address.version == 6 else ""
        shell = f"ip {option}-n {place.netns} route add default via {gateway}"
        mend = by_hand(case.node_of(place) or place, shell)
        if _has_all(case, place):
            mend = Mend(hairpin="hairpin set gateway=on", shell=shell)
        return cause(
            "gateway-missing",
            f"{who} has no default route, so {of} has nowhere to go; its gateway is {gateway}",
            mend,
            f"no route to {address} in {place.netns}",
            of=who,
        )
    because = f"{who} has no route to {address}"
    target = case.target
    if place.role == "outside" and target is not None and target.kind == "ClusterIP":
        because += (
            ", which is a ClusterIP: these are for the cluster's own Pods and nodes; from outside "
            "a Service has a node port, load balancer IP or external IP"
        )
    return cause("no-route", because, Mend(), f"no route to {address} in {place.netns}", of=who)


def _has_all(case: Case, pod: Place) -> bool:
    """Whether the Pod has an address of each family that it should: else no gateway can be set."""
    own = {one.ip for one in pod.addresses}
    known = next(
        (one for key, one in case.snapshot.pods.items() if "/".join(key) == pod.name), None
    )
    return known is None or all(one.ip in own for one in known.status.pod_ips)


def link_down(case: Case) -> Cause | None:
    """A link that the packet needs is down: the client's, the server's, or a node's end of one."""
    if case.leg == "data" or (case.last is not None and case.last.seen.way == "in"
                              and case.where.role == "pod"):  # fmt: skip
        return None
    ends = {end for form in case.followed.forms for end in (form.source, form.destination)}
    ends |= {one.target for one in unanswered(case)}  # it was to go there, and did not set out
    pods = [case.client, *(one for one in case.found.places if one.role == "pod"
            and any(own.ip in ends for own in one.addresses))]  # fmt: skip
    for pod in pods:
        node = case.node_of(pod) or pod
        for place in dict.fromkeys((pod.netns, node.netns)):
            found = _down(case, case.guide.place(place), pod, node)
            if found is not None:
                return found
    return None


def _down(case: Case, place: Place, pod: Place, node: Place) -> Cause | None:
    for link in place.links:
        concerns = place is pod or link.peer_netns == pod.netns or link.name in ("cni0", "eth0")
        concerns = concerns or link.type == "vxlan"
        carries = link.type in ("veth", "bridge", "vxlan") and not link.name.startswith("kube-")
        if not concerns or not carries or link.up:
            continue
        inside = place.role == "pod"
        shell = f"ip {f'-n {place.netns} ' if inside else ''}link set {link.name} up"
        gateway = gateway_of(case, place, case.tried.ip) if inside else None
        if gateway is not None and gateway.version == 4:  # routes of IPv4 go with the link
            shell += f"; ip -n {place.netns} route replace default via {gateway}"
        return cause(
            "link-down",
            f"{link.name} of {places.title(place)} is down"
            + (f": it is the link of {places.title(pod)}" if not inside else ""),
            by_hand(node, shell),
            f"{link.name} is not up",
            of=link.name,
        )
    return None


def no_free_port(case: Case) -> Cause | None:
    """All ports that the client's kernel may choose are taken (EADDRNOTAVAIL of connect)."""
    if case.tried.error not in ("EADDRNOTAVAIL", "EADDRINUSE") or case.flight is not None:
        return None
    name = "net.ipv4.ip_local_port_range"
    around = case.client.around
    said = around.settings.get(name, "").split() if around is not None else []
    if case.tried.source_port or len(said) != 2:
        return None
    who = places.title(case.client)
    count = int(said[1]) - int(said[0]) + 1
    return cause(
        "no-free-port",
        f"{who} has no port left to connect from: {name} is {said[0]} to {said[1]}, {count} in "
        "all, and those are taken",
        by_hand(case.client, f"sysctl -w {name}='32768 60999'"),
        f"connect: {case.tried.error}; {name} = {' '.join(said)}",
        of=name,
    )


def client_no_route(case: Case) -> Cause | None:
    """Nothing was sent, for want of a route."""
    by_node = case.client.role == "node" and case.tried.outcome != "unreachable"
    if case.flight is not None or by_node:
        return None
    if case.client.servers and case.target is not None:
        return None  # IPVS serves it where the address is local, and it is that which is missing
    who = places.title(case.client)
    return no_route(case, case.client, case.tried.ip, f"what {who} sends to {case.tried.ip}")


def nowhere(case: Case) -> Cause | None:
    """It came to where there is no route on, and nobody has the address."""
    last, place = case.last, case.where
    if last is None or last.seen.way != "in" or case.leg == "data":
        return None
    address = last.packet.ends.destination
    if places.holder(case.found.places, address) is not None or address in vips(place):
        return None
    route = places.route_to(place, address)
    if route is not None and route.link != segment(place, last.seen.link):
        return None
    return cause(
        "nobody-has-address",
        f"nobody that hairpin knows of has {address}: it came as far as {places.title(place)}, "
        "which has no way on",
        Mend(),
        f"{place.netns}: {places.said_route(route) if route else 'no route'} for {address}",
        of=str(address),
    )


def gateway_wrong(case: Case) -> Cause | None:
    """A Pod asks for its gateway's hardware address, and nobody has it."""
    for place, address in _asking(case):
        route = places.route_to(place, address)
        if route is None or route.via is None or place.role != "pod":
            continue
        gateway = gateway_of(case, place, address)
        if gateway is None or route.via == gateway:
            continue
        own = [one for one in case.followed.asked if one.arp.target == route.via]
        said = f"nobody answers for {route.via}" if not answered(own, route.via) else (
            f"{route.via} is another machine's")  # fmt: skip
        to = "default" if route.to.prefixlen == 0 else str(route.to)
        option = "-6 " if address.version == 6 else ""
        shell = f"ip {option}-n {place.netns} route replace {to} via {gateway}"
        node = case.node_of(place) or place
        return cause(
            "gateway-wrong",
            f"{places.title(place)} sends by {route.via}, which is not its node's address "
            f"{gateway}, and {said}",
            by_hand(node, shell),
            f"{place.netns}: {places.said_route(route)}",
            of=places.title(place),
        )
    return None


def _asking(case: Case) -> list[tuple[Place, IP]]:
    """Who has to find a next hop now, and for which address."""
    if case.flight is None:
        return [(case.client, case.tried.ip)]
    last = case.flight.last
    found = [(case.where, last.packet.ends.destination)]
    if case.leg == "request":  # it arrived, and the answer has to find its way
        found.append((case.where, last.packet.ends.source))
    else:  # the answer left, and may have gone to another than the gateway
        begin = case.flight.first
        found.append((case.guide.place(begin.seen.netns), begin.packet.ends.destination))
    return found


def duplicate_ip(case: Case) -> Cause | None:
    """Two namespaces have an address of the connection's."""
    concerned = {end for form in case.followed.forms for end in (form.source, form.destination)}
    concerned |= {case.tried.ip}
    if case.tried.source:
        concerned.add(case.tried.source)
    for address in sorted(concerned, key=str):
        holders = [
            place
            for place in case.found.places
            if any(
                one.ip == address and not one.link.startswith(("kube-", "ipvs", "lo"))
                for one in place.addresses
            )
        ]
        if len(holders) > 1:
            return _duplicate(case, address, holders)
    return None


def _duplicate(case: Case, address: IP, holders: list[Place]) -> Cause:
    owner = {pod.ip for one in case.snapshot.pods.values() for pod in one.status.pod_ips}
    names = {
        place.netns
        for place in holders
        if place.role == "pod"
        and any(
            "/".join(key) == place.name and any(one.ip == address for one in pod.status.pod_ips)
            for key, pod in case.snapshot.pods.items()
        )
    }
    wrong = next((one for one in holders if one.netns not in names), holders[-1])
    if address not in owner:
        wrong = holders[-1]
    link = places.address_link(wrong, address) or "eth0"
    prefix = next(one.prefix for one in wrong.addresses if one.ip == address)
    mend = _ended(case, wrong, f"ip address del {address}/{prefix} dev {link}", address)
    both = " and ".join(places.title(one) for one in holders)
    return cause(
        "duplicate-ip",
        f"{both} both have {address}: packets for it go to the one that they meet first, or that "
        "answered ARP last",
        mend,
        f"{address} on {link} of {places.title(wrong)} too",
        of=str(address),
    )


def _ended(case: Case, wrong: Place, shell: str, address: IP) -> Mend:
    """Takes the address away, and what others remember of who has it."""
    node = case.node_of(wrong)
    if node is None or wrong.role != "pod":
        return by_hand(wrong, shell)
    lines = [shell.replace("ip ", f"ip -n {wrong.netns} ", 1)]
    lines += [f"ip neigh flush to {address}"]
    if case.client.role == "pod":
        lines += [f"ip -n {case.client.netns} neigh flush to {address}"]
    return by_hand(node, "; ".join(lines))
