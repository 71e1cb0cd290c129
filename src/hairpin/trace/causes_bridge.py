"""Causes at the bridge: what comes back to itself, or goes past the one who rewrote it."""

from __future__ import annotations

from hairpin.trace import places
from hairpin.trace.case import (
    Case,
    cause,
    endpoints,
    entry,
    forms,
)
from hairpin.trace.observation import Place
from hairpin.trace.values import Cause, Mend, at


def to_itself(case: Case) -> Cause | None:
    """A Pod gets a packet from its own address and drops it as impossible (martian source)."""
    last, place = case.last, case.where
    if last is None or case.leg != "request" or last.seen.way != "in":
        return None
    ends = last.packet.ends
    if not places.is_local(place, ends.source) or place.role == "node":
        return None
    node = case.node_of(place)
    who = places.title(place)
    if node is None:
        return None
    return _not_masqueraded(
        case,
        node,
        f"{who} gets a packet from its own address and drops it",
        f"{ends} in {place.netns}",
    )


def _not_masqueraded(case: Case, node: Place, what: str, seen: str) -> Cause:
    if node.servers and node.sysctls.get("net.ipv4.vs.conntrack") == "0":
        return cause(
            "ipvs-conntrack-off",
            f"{what}: it was not masqueraded, since NAT does not see what IPVS forwards while "
            f"net.ipv4.vs.conntrack of {places.title(node)} is 0",
            Mend(
                hairpin="hairpin set ipvs-conntrack=on", shell="sysctl -w net.ipv4.vs.conntrack=1"
            ),
            seen,
            "net.ipv4.vs.conntrack = 0",
            of="net.ipv4.vs.conntrack",
        )
    shell = (
        "iptables -t nat -I POSTROUTING -m comment "
        '--comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
    )
    if case.mode == "nftables":
        shell = "nft add rule ip kube-proxy nat-postrouting jump masquerading"
    return cause(
        "masquerade-missing",
        f"{what}: nothing in POSTROUTING of {places.title(node)} gave the request the node's "
        "address (MASQUERADE)",
        Mend(hairpin="hairpin set masquerade=on", shell=shell),
        seen,
        of="POSTROUTING",
    )


def hairpin_off(case: Case) -> Cause | None:
    """The bridge does not send a frame back out of the port that it came in on."""
    last, place = case.last, case.where
    if last is None or place.role != "node" or case.flight is None:
        return None
    inside = [one for one in case.flight.sights if one.seen.netns == place.netns]
    first = inside[0].seen.link
    port = places.link_of(place, first)
    bridge = places.link_of(place, port.master) if port is not None and port.master else None
    if port is None or bridge is None or port.hairpin or bridge.promisc:
        return None
    peer = case.guide.place(port.peer_netns or "")
    ends = {last.packet.ends.destination}
    if case.leg == "request":  # it may have been rewritten after it was last seen
        ends |= {form.destination for form in forms(case)} - {case.tried.ip}
        behind = {own for one in endpoints(case) for own in one.addresses[:1]}
        if all(places.is_local(peer, own) for own in behind):
            ends |= behind
    elif case.leg == "reply":
        ends |= {form.source for form in forms(case)}
    if not any(places.is_local(peer, one) for one in ends):
        return None
    if last.seen.way == "out" and last.seen.link == first:
        return None
    return cause(
        "hairpin-off",
        f"the packet has to leave {bridge.name} by {first}, where it came in, and a bridge does "
        "not do that unless its port is in hairpin mode, or it is promiscuous",
        _let_back(case, bridge.name, first),
        f"{first}: hairpin off; {bridge.name}: not promiscuous",
        of=first,
    )


def _let_back(case: Case, bridge: str, port: str) -> Mend:
    """Only IPVS sends the packet out anew, so that a promiscuous bridge will do."""
    if case.mode == "ipvs":
        return Mend(hairpin="hairpin set hairpin=promisc", shell=f"ip link set {bridge} promisc on")
    return Mend(
        hairpin="hairpin set hairpin=port",
        shell=f"ip link set {port} type bridge_slave hairpin on",
    )


def answer_from_stranger(case: Case) -> Cause | None:
    """The answer came to the client by itself, from the server's own address."""
    tried = case.tried
    if tried.outcome == "answered" or case.client.role == "node":
        return None
    for flight in case.followed.of("reply"):
        last = flight.last
        ends = last.packet.ends
        if last.seen.netns != case.client.netns or last.seen.way != "in":
            continue
        if ends.source != tried.ip and ends.destination == tried.source:
            node = case.node_of(case.client) or entry(case)
            who = places.title(case.client)
            same = node is not None and any(
                link.peer_netns == flight.first.seen.netns for link in node.links
            )
            what = (
                f"{who} asked {at(tried.ip, tried.port)} and was answered by "
                f"{at(ends.source, ends.source_port)}, whom it did not ask"
            )
            if node is not None and same and _unbridged(node, ends.source.version):
                return _past_the_node(case, node, ends.source.version, what)
            if node is not None:
                return _not_masqueraded(case, node, what, f"{ends} in {case.client.netns}")
    return None


_PASSED = {"ipvs": "IPVS", "iptables": "iptables", "nftables": "nftables"}


def _setting(version: int) -> str:
    return f"net.bridge.bridge-nf-call-ip{'6' if version == 6 else ''}tables"


def _unbridged(node: Place, version: int) -> bool:
    return node.sysctls.get(_setting(version), "1") == "0"


def _past_the_node(case: Case, node: Place, version: int, what: str) -> Cause:
    """Whoever rewrote the request did not see the answer, in whichever mode."""
    setting = _setting(version)
    by = _PASSED.get(case.mode, "netfilter")
    shell = f"sysctl -w {setting}=1"
    return cause(
        "br-netfilter-off",
        f"{what}: the bridge took the answer straight to it, and {by} of {places.title(node)} did "
        f"not put the Service's address back, since it sees bridged packets only while {setting} "
        "is 1",
        Mend(hairpin="hairpin set br-netfilter=on", shell=shell),
        f"{setting} = 0",
        of=setting,
    )
