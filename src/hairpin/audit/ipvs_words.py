"""What an odd object of IPVS mode means for traffic: one sentence each."""

from __future__ import annotations

from hairpin.plan import ipvs_sets as sets
from hairpin.present.address import address_text
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address


def place(protocol: str, ip: object, port: int) -> str:
    """``10.96.0.1:80 (TCP)``."""
    text = str(ip)
    shown = f"[{text}]" if ":" in text else text
    return f"{shown}:{port} ({protocol})"


def at(server: VirtualServer) -> str:
    if server.fwmark:
        return f"packets with mark {server.fwmark}"
    return place(server.protocol, server.ip, server.port)


def behind(real: RealServer) -> str:
    return place(real.protocol, real.vip, real.vport)


def no_server(server: VirtualServer, bound: bool) -> str:
    where = at(server)
    why = "its address is the node's own" if bound else "the node itself gets them"
    return f"Connections to {where} are refused: {why}, and IPVS does not take them on."


def extra_server(server: VirtualServer, known: bool, reals: int) -> str:
    where = at(server)
    if known:
        what = "sent to real servers that no Service has there" if reals else "refused"
        return f"Connections to {where}, which no Service offers, are {what}."
    return (
        f"IPVS takes connections to {where}, which is no Service's; kube-proxy would delete it "
        "(ipvs.excludeCIDRs keeps what is another program's)."
    )


def wrong_server(server: VirtualServer, wanted: VirtualServer) -> str:
    where = at(wanted)
    if server.persistence != wanted.persistence:
        if wanted.persistence is None:
            return f"Clients of {where} stay with one endpoint, though no affinity is asked for."
        if server.persistence is None:
            return f"Clients of {where} do not stay with their endpoint, as sessionAffinity asks."
        return (
            f"Clients of {where} stay with their endpoint for {server.persistence.timeout} s "
            f"instead of {wanted.persistence.timeout} s, or with others as one client."
        )
    if server.scheduler != wanted.scheduler:
        return (
            f"Endpoints of {where} are chosen by {server.scheduler} instead of {wanted.scheduler}."
        )
    if server.one_packet != wanted.one_packet:
        return f"Each datagram to {where} may go to another endpoint."
    return f"Endpoints of {where} are chosen otherwise than the proxy asks."


def no_real(real: RealServer, others: int) -> str:
    end = place(real.protocol, real.ip, real.port)
    if others:
        rest = "the other one carries" if others == 1 else f"the other {others} carry"
        return f"{end} gets no connections from {behind(real)}; {rest} its share."
    return f"Connections to {behind(real)} are refused: nobody is left to take them."


def extra_real(real: RealServer, known: str) -> str:
    end = place(real.protocol, real.ip, real.port)
    who = f"an endpoint of {known} that is not to be used there" if known else "no endpoint"
    if real.weight == 0:
        return f"{end} is {who}; with weight 0 it gets no new connections from {behind(real)}."
    return f"Connections to {behind(real)} may go to {end}, which is {who}."


def wrong_real(real: RealServer, wanted: RealServer) -> str:
    end, where = place(real.protocol, real.ip, real.port), behind(real)
    if real.forwarding != wanted.forwarding:
        return (
            f"Packets from {where} reach {end} by {real.forwarding} without their destination "
            "rewritten, and the endpoint does not take them."
        )
    if real.weight != wanted.weight:
        if not real.weight:
            return f"{end} gets no new connections from {where}."
        return f"{end} gets another share of the connections to {where} with schedulers that weigh."
    if real.upper != wanted.upper or real.lower != wanted.lower:
        return f"{end} gets no more connections from {where} above {real.upper} of them."
    return f"Packets from {where} reach {end} wrapped otherwise than it expects."


def no_address(address: Address) -> str:
    return (
        f"Packets to {address_text(address.ip)} are not taken by this node: IPVS never sees them, "
        "and they leave by the node's routes."
    )


def extra_address(address: Address, owner: str) -> str:
    ip = address_text(address.ip)
    if owner:
        return f"The node takes packets to {ip} for its own on {address.link}."
    return f"The node takes packets to {ip} for its own, so that whoever has it is out of reach."


_LOST: dict[str, str] = {
    sets.LOOP_BACK: "A Pod at {ip} that reaches itself through its Service gets no answer: it is "
    "not masqueraded.",
    sets.CLUSTER_IP: "Packets to {at} from outside the cluster are not masqueraded, and the filter "
    "rejects them as a port that is not served.",
    sets.EXTERNAL_IP: "Packets to {at} are not masqueraded, and the filter rejects them as a port "
    "that is not served.",
    sets.EXTERNAL_IP_LOCAL: "Packets to {at} are rejected as a port that is not served.",
    sets.LOAD_BALANCER: "Packets to {at} are not masqueraded, and the filter rejects them as a "
    "port that is not served.",
    sets.LOAD_BALANCER_LOCAL: "Clients of {at} are masqueraded: the endpoint does not see their "
    "addresses, as externalTrafficPolicy Local promises.",
    sets.LOAD_BALANCER_FW: "Everybody may use {at}: loadBalancerSourceRanges is not kept.",
    sets.LOAD_BALANCER_SOURCE_CIDR: "Clients in {last} are dropped at {at}, though "
    "loadBalancerSourceRanges lets them in.",
    sets.LOAD_BALANCER_SOURCE_IP: "This node's own connections to {at} are dropped, though "
    "loadBalancerSourceRanges lets it in.",
    sets.HEALTH_CHECK: "Where the node's firewall drops by default, load balancers get no answer "
    "from the health check on port {port}.",
    sets.IPVS_IPS: "Other ports of {ip} reach servers of the node itself, and ICMP is answered.",
}
_GAINED: dict[str, str] = {
    sets.LOOP_BACK: "Packets of {ip} to itself are masqueraded, though it is no endpoint here.",
    sets.CLUSTER_IP: "Packets to {at}, which is no ClusterIP's port, are marked and let past the "
    "filter.",
    sets.EXTERNAL_IP: "Packets to {at}, which is no external IP's port, are masqueraded and let "
    "past the filter.",
    sets.EXTERNAL_IP_LOCAL: "Packets to {at} are let past the filter, though no Service has that "
    "external IP under policy Local.",
    sets.LOAD_BALANCER: "Packets to {at}, which is no load balancer's port, are masqueraded and "
    "let past the filter.",
    sets.LOAD_BALANCER_LOCAL: "Packets to {at} are not masqueraded, and answers of endpoints on "
    "other nodes get lost.",
    sets.LOAD_BALANCER_FW: "Clients of {at} are dropped unless another entry lets them in, though "
    "no source ranges are asked for.",
    sets.LOAD_BALANCER_SOURCE_CIDR: "Clients in {last} may use {at}, against "
    "loadBalancerSourceRanges.",
    sets.LOAD_BALANCER_SOURCE_IP: "This node may use {at}, against loadBalancerSourceRanges.",
    sets.HEALTH_CHECK: "Packets to port {port} are let in, where no health check is.",
    sets.IPVS_IPS: "New connections to {ip} are rejected, also those to whoever has that address.",
}
_LOST_PORT = (
    "Packets to node port {port} are not masqueraded: endpoints on other nodes answer past \
this one."
)
_GAINED_PORT = "Packets to port {port} of the node are masqueraded, though it is no node port."
_LOST_LOCAL = "Clients of node port {port} are masqueraded: the endpoint does not see their \
addresses, as externalTrafficPolicy Local promises."
_GAINED_LOCAL = (
    "Packets to node port {port} are not masqueraded, and answers of endpoints on other \
nodes get lost."
)
_BASES = {name: base for names in sets.NAMES.values() for base, name in names.items()}


def entry(one: SetEntry, *, missing: bool) -> str:
    """Of an entry that is not there, or that nobody wants."""
    base = _BASES.get(one.set, "")
    if base in sets.NODE_PORTS.values():
        text = _LOST_PORT if missing else _GAINED_PORT
    elif base in sets.NODE_PORTS_LOCAL.values():
        text = _LOST_LOCAL if missing else _GAINED_LOCAL
    else:
        text = (_LOST if missing else _GAINED)[base]
    last = one.net if one.net is not None else one.ip2
    where = place(str(one.protocol), one.ip, one.port) if one.ip is not None else ""
    ip = address_text(one.ip) if one.ip is not None else ""
    return text.format(at=where, ip=ip, port=one.port, last=last)


def no_set(one: IpSet, entries: int) -> str:
    base = _BASES.get(one.name, "")
    why = sets.SETS[base].why if base else "rules look it up"
    if entries:
        return f"None of its {entries} entries counts: {why}."
    return f"Rules that look it up cannot be made: {why}."


def wrong_set(one: IpSet, seen: IpSet) -> str:
    why = sets.SETS[_BASES[one.name]].why
    if seen.timeout and (seen.type, seen.family) == (one.type, one.family):
        return f"Entries that are added go by themselves after {seen.timeout} s: {why}."
    return f"Entries of the wanted type do not fit, or not all of them: {why}."
