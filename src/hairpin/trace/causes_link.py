"""Causes on the links: bridges' ports, hardware addresses, queues."""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.model.address import IP
from hairpin.state.circumstances import Acquainted, Circumstances, Port
from hairpin.state.links import Link
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, forms
from hairpin.trace.heading import headings
from hairpin.trace.observation import Place
from hairpin.trace.routing import decide
from hairpin.trace.values import Cause

_FORWARDING = 3  # BR_STATE_FORWARDING, include/uapi/linux/if_bridge.h
_STATES = {0: "disabled", 1: "listening", 2: "learning", 4: "blocking"}
_USUAL_QUEUES = ("noqueue", "pfifo_fast", "fq_codel", "fq", "mq", "pfifo")
_CARRIERS = ("veth", "bridge")


def at_bridge(case: Case) -> Cause | None:
    """A bridge's port, or what the bridge remembers, keeps the frame from getting across."""
    for node, port_in, pod in _crossings(case):
        around = node.around
        if around is None:
            continue
        if port_in:
            found = _port(case, node, around, port_in, None)
            if found is not None:
                return found
        for link in node.links:
            if pod is not None and link.peer_netns == pod.netns:
                found = _port(case, node, around, link.name, port_in) or _forwarding(
                    node, around, link, pod
                )
                if found is not None:
                    return found
    return None


def _crossings(case: Case) -> Iterator[tuple[Place, str, Place | None]]:
    """A node, the port that the packet came in by there (or empty), the Pod that it was for."""
    client = case.node_of(case.client)
    if case.last is None:  # not even the question for the gateway came through
        if client is not None and case.client.role == "pod":
            for link in client.links:
                if link.peer_netns == case.client.netns:
                    other = places.holder(case.found.places, case.tried.ip)
                    beside = other is not None and other.node == client.netns
                    yield client, link.name, other if beside else None
        return
    assert case.flight is not None
    here = case.where
    ends = {one for heading in headings(case) for one in heading.destinations}
    ends.add(case.last.packet.ends.destination)
    if case.leg == "request":
        ends |= {form.destination for form in forms(case)}
    holders = [places.holder(case.found.places, end) for end in sorted(ends, key=str)]
    for pod in (one for one in holders if one is not None and one.role == "pod"):
        if any(one.seen.netns == pod.netns for one in case.flight.sights):
            continue
        node = case.node_of(pod)
        if node is None or node.netns != here.netns:
            continue
        first = next(one for one in case.flight.sights if one.seen.netns == node.netns)
        port = places.link_of(node, first.seen.link)
        across = first.seen.way == "in" and port is not None and port.master is not None
        yield node, first.seen.link if across else "", pod


def _port(
    case: Case, node: Place, around: Circumstances, name: str, other: str | None
) -> Cause | None:
    link = places.link_of(node, name)
    if link is None or link.type != "veth":
        return None
    who = places.title(node)
    if link.master is None:
        return _off_bridge(case, node, link)
    port = next((one for one in around.ports if one.link == name), None)
    if port is None:
        return None
    if port.state != _FORWARDING and link.up:
        state = _STATES.get(port.state, str(port.state))
        return cause(
            "port-blocked",
            f"{name}, a port of {link.master} on {who}, is {state}: it lets no frames through",
            by_hand(node, f"bridge link set dev {name} state {_FORWARDING}"),
            f"{name}: state {state}",
            of=name,
        )
    across = next((one for one in around.ports if one.link == other), None)
    if across is not None and port.isolated and across.isolated:
        return cause(
            "port-isolated",
            f"{other} and {name}, ports of {link.master} on {who}, are both isolated: the bridge "
            "carries nothing from one such port to another",
            by_hand(node, f"bridge link set dev {name} isolated off"),
            f"{other}: isolated on; {name}: isolated on",
            of=name,
        )
    return _filtered(node, around, link, port, across)


def _off_bridge(case: Case, node: Place, link: Link) -> Cause | None:
    masters = {one.master for one in node.links if one.master is not None and one.type == "veth"}
    bridges = sorted(masters) or [one.name for one in node.links if one.type == "bridge"]
    pod = case.found.place(link.peer_netns or "")
    if not bridges or pod is None or pod.role != "pod":
        return None
    # Where each Pod's link has routes of its own, no bridge is missed.
    if any(one.link == link.name and one.to.prefixlen == one.to.max_prefixlen
           for one in node.routes):  # fmt: skip
        return None
    return cause(
        "not-on-bridge",
        f"{link.name}, the link of {places.title(pod)}, is no port of a bridge on "
        f"{places.title(node)}: {bridges[0]} has the other Pods",
        by_hand(node, f"ip link set {link.name} master {bridges[0]}"),
        f"{link.name}: no master",
        of=link.name,
    )


def _filtered(
    node: Place, around: Circumstances, link: Link, port: Port, across: Port | None
) -> Cause | None:
    if link.master not in around.filtering:
        return None
    theirs = set(across.vlans) if across is not None else {1}
    if theirs & set(port.vlans):
        return None
    has = ", ".join(map(str, port.vlans)) or "none"
    wanted = min(theirs, default=1)
    return cause(
        "vlan-filtered",
        f"{link.master} of {places.title(node)} looks at VLANs, and its port {link.name} is not in "
        f"VLAN {wanted} (it is in {has})",
        by_hand(node, f"bridge vlan add dev {link.name} vid {wanted} pvid untagged"),
        f"{link.master}: vlan_filtering 1; {link.name}: {has}",
        of=link.name,
    )


def _forwarding(node: Place, around: Circumstances, link: Link, pod: Place) -> Cause | None:
    """What the bridge remembers of the Pod's hardware address."""
    mac = next((one.mac for one in pod.links if one.name == link.peer), None)
    ports = {one.link: one for one in around.ports}
    known = [one for one in around.learned if one.mac == mac and one.link in ports]
    wrong = next((one for one in known if one.static and one.link != link.name), None)
    who = places.title(node)
    if wrong is not None:
        return cause(
            "fdb-wrong",
            f"{link.master} of {who} was told that {mac} is behind {wrong.link}, and it is "
            f"{places.title(pod)}'s, behind {link.name}",
            by_hand(node, f"bridge fdb del {mac} dev {wrong.link} master"),
            f"{mac} dev {wrong.link} master {link.master} static",
            of=wrong.link,
        )
    port = ports.get(link.name)
    if port is not None and mac is not None and not port.flood and not known:
        return cause(
            "port-no-flood",
            f"{link.name}, a port of {link.master} on {who}, gets no frames for addresses that the "
            f"bridge does not know (flood off), and it does not know {mac}"
            + ("" if port.learning else ": the port learns none (learning off)"),
            by_hand(node, f"bridge link set dev {link.name} flood on learning on"),
            f"{link.name}: flood off, learning {'on' if port.learning else 'off'}; no entry {mac}",
            of=link.name,
        )
    return None


def wrong_neighbour(case: Case) -> Cause | None:
    """A namespace sent the frame to a hardware address that is not the next hop's."""
    if case.leg == "data" and case.flight is not None and not case.flight.first.packet.payload:
        return None  # a last word, as a reset to somebody who was not asked: nothing hangs on it
    for place, address in _senders(case):
        decision = decide(place, None, address)
        if place.around is None or decision is None or decision.path is None:
            continue
        link, hop = decision.path.link, decision.path.via or address
        device = places.link_of(place, link)
        if link in place.around.no_arp and device is not None and device.type in _CARRIERS:
            return cause(
                "arp-off",
                f"{link} of {places.title(place)} asks nobody for hardware addresses (arp off), so "
                f"that what it sends reaches nobody",
                by_hand(place, f"ip link set {link} arp on"),
                f"{link}: NOARP",
                of=link or "",
            )
        real = _mac_of(case, hop)
        tunnel = device is not None and device.type == "vxlan"
        knows = [one for one in place.around.neighbours if (one.link, one.ip) == (link, hop)]
        for known in knows:
            if real and known.mac is not None and known.mac not in real:
                return _mistaken(place, known, real[0], tunnel)
        if tunnel and real and all(one.mac is None for one in knows):
            return _untold(place, hop, real[0], link or "")
    return None


def _mistaken(place: Place, known: Acquainted, real: str, tunnel: bool) -> Cause:
    option = "-6 " if known.ip.version == 6 else ""
    written = " (an entry that somebody wrote: permanent)" if known.permanent else ""
    mend = f"ip {option}neigh del {known.ip} dev {known.link}"
    if tunnel:  # over it nobody is asked: whoever made it writes these entries
        mend = f"ip {option}neigh replace {known.ip} lladdr {real} dev {known.link} nud permanent"
    return cause(
        "wrong-neighbour",
        f"{places.title(place)} takes {known.mac} for the hardware address of {known.ip}{written}, "
        f"and it is {real}: its frames reach nobody, or somebody else",
        by_hand(place, mend),
        f"{place.netns}: {known.ip} dev {known.link} lladdr {known.mac}",
        of=str(known.ip),
    )


def _untold(place: Place, hop: IP, real: str, link: str) -> Cause:
    """Over a VXLAN nobody is asked: who made it tells each node of the others."""
    option = "-6 " if hop.version == 6 else ""
    return cause(
        "tunnel-entry",
        f"{link} of {places.title(place)} has no hardware address for {hop}, the other end of the "
        "tunnel, and nobody can be asked for one over it",
        by_hand(place, f"ip {option}neigh replace {hop} lladdr {real} dev {link} nud permanent"),
        f"{place.netns}: no neighbour {hop} dev {link}",
        of=link,
    )


def _mac_of(case: Case, address: IP) -> list[str]:
    """The hardware addresses that the address truly has; of two holders both."""
    found = []
    for place in case.found.places:
        for one in place.addresses:
            link = places.link_of(place, one.link)
            if one.ip == address and link is not None and link.mac and link.type != "dummy":
                found.append(link.mac)
    return found


def _senders(case: Case) -> Iterator[tuple[Place, IP]]:
    """Who sent the packet on, the last first, and who had to answer it."""
    if case.last is None:
        yield case.client, case.tried.ip
        return
    assert case.flight is not None
    for heading in headings(case):
        for address in heading.destinations:
            yield heading.place, address
    for sight in reversed(case.flight.sights):
        if sight.seen.way == "out":
            yield case.guide.place(sight.seen.netns), sight.packet.ends.destination


def dropped_by_queue(case: Case) -> Cause | None:
    """The link that it had to leave by, or came in on, has a queue of a kind that drops."""
    for place, links in _queued(case):
        for queue in place.around.queues if place.around is not None else ():
            if queue.link not in links or queue.kind in _USUAL_QUEUES or not queue.dropped:
                continue
            if queue.kind == "netem" and queue.loss < 1:
                continue  # random: whether it was this packet, nobody knows
            inward = queue.kind in ("ingress", "clsact")
            return cause(
                "tc-drop",
                f"the qdisc {queue.kind} of {queue.link} on {places.title(place)} drops packets: "
                f"{queue.dropped} until now",
                by_hand(place, f"tc qdisc del dev {queue.link} {queue.kind if inward else 'root'}"),
                f"{queue.kind} on {queue.link}: dropped {queue.dropped}",
                of=queue.link,
            )
    return None


def _queued(case: Case) -> Iterator[tuple[Place, set[str]]]:
    """Where the packet would have gone through a queue next, and on which links."""
    for heading in headings(case):
        place = heading.place
        if not heading.destinations:
            continue
        decision = decide(place, heading.source, heading.destinations[0], heading.routed_in)
        leaves = decision.path.link if decision is not None and decision.path else None
        ports = {one.name for one in place.links if leaves and one.master == leaves}
        yield place, {leaves or "", heading.link_in, *ports}
        for address in heading.destinations:  # whose answer to the question for it was lost
            holder = places.holder(case.found.places, address)
            if holder is not None and holder.role == "pod":
                yield holder, {one.name for one in holder.links}
    if case.last is not None and case.last.seen.way == "out":
        place, link = case.where, case.last.seen.link
        yield place, {link, *(one.name for one in place.links if one.master == link)}
