"""One traced connection as the table of causes sees it: its packets, and where they ended."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.model.address import IP
from hairpin.model.endpointslice import SliceEndpoint
from hairpin.model.pod import Pod
from hairpin.model.service import Service, ServicePort
from hairpin.model.snapshot import Snapshot
from hairpin.state.ipvs import VirtualServerSeen
from hairpin.trace import places
from hairpin.trace.follow import Flight, Followed, Sight
from hairpin.trace.guide import Guide
from hairpin.trace.hooked import dropped, redirected
from hairpin.trace.observation import Observation, Place, Tried
from hairpin.trace.path import departed
from hairpin.trace.rules import SavedRule
from hairpin.trace.values import Cause, Ends, LegName, Mend


class Target(msgspec.Struct, frozen=True):
    """The Service's port that was asked for, and by which kind of address.

    ``port`` None: the address is the Service's, the port is not.
    """

    service: Service
    port: ServicePort | None
    kind: str  # ClusterIP, NodePort, ExternalIP, LoadBalancer

    @property
    def name(self) -> str:
        """``web``, or ``other/web``."""
        metadata = self.service.metadata
        short = metadata.namespace == "default"
        return metadata.name if short else f"{metadata.namespace}/{metadata.name}"


class Case:
    """All that causes are judged by; nothing of it changes."""

    def __init__(
        self, found: Observation, followed: Followed, guide: Guide, snapshot: Snapshot
    ) -> None:
        self.found = found
        self.followed = followed
        self.guide = guide
        self.snapshot = snapshot
        self.client = found.place(found.tried.netns) or guide.place(found.tried.netns)
        self.target = target_of(found.tried, snapshot)
        self.leg, self.flight = failing(found, followed)

    @property
    def tried(self) -> Tried:
        """The connection that was made."""
        return self.found.tried

    @property
    def last(self) -> Sight | None:
        """Where the packet that failed was last seen; None: nowhere."""
        return self.flight.last if self.flight else None

    @property
    def where(self) -> Place:
        """The namespace where it ended: the client's if it was never seen."""
        return self.guide.place(self.last.seen.netns) if self.last else self.client

    @property
    def mode(self) -> str:
        """What carries Services on the nodes, as far as it is seen."""
        if any(one.servers for one in self.nodes()):
            return "ipvs"
        texts = [one.after.texts for one in self.nodes()]
        if any(" kube-proxy {" in some.get("nft", "") for some in texts):
            return "nftables"
        programs = ("iptables", "ip6tables")  # of the connection's family there is one
        ours = any("KUBE-SERVICES" in some.get(one, "") for some in texts for one in programs)
        return "iptables" if ours else "none"

    def nodes(self) -> Iterator[Place]:
        """The nodes."""
        return (one for one in self.found.places if one.role == "node")

    def node_of(self, place: Place) -> Place | None:
        """The node that a Pod is on; a node itself."""
        return place if place.role == "node" else self.found.place(place.node)


def server(case: Case) -> VirtualServerSeen | None:
    """The virtual server for what was asked, on the node where the request came to."""
    tried = case.tried
    node = entry(case)
    if node is None:
        return None
    return places.server_of(node, tried.protocol, tried.ip, tried.port)


def entry(case: Case) -> Place | None:
    """The node that has to serve the request: the first that it came to, or the client's own."""
    for flight in case.followed.of("request"):
        for one in flight.sights:
            place = case.guide.place(one.seen.netns)
            if place.role == "node" and (
                one.packet.ends.destination == case.tried.ip or place.netns == case.client.netns
            ):
                return place
    return case.node_of(case.client) or _owner(case)


def _owner(case: Case) -> Place | None:
    return next((one for one in case.nodes() if places.is_local(one, case.tried.ip)), None)


def drops(case: Case, place: Place) -> list[SavedRule]:
    """Rules that ended the connection's packets there.

    Where hooks told of them these are exactly those; else the rules that counted packets
    meanwhile, and may have counted the connection's.
    """
    hooked = case.guide.hooked
    told = [one.rules[-1] for one in hooked.ended(place.netns) if one.rules]
    if told:
        return list(dict.fromkeys(told))
    if case.flight is not None and hooked.cleared(place.netns, case.flight):
        return []
    return [one for one in case.guide.rules(place) if one.target in ("DROP", "REJECT")]


def failing(found: Observation, followed: Followed) -> tuple[LegName, Flight | None]:
    """The leg on which it failed, and the packet that did not arrive.

    The first leg whose packet is missing: the request's, the reply's, then what came after.
    """
    requests, replies = followed.of("request"), followed.of("reply")
    if not requests:
        return "request", None
    arrived = [one for one in requests if arrives(one, found)]
    if not replies:
        return "request", (arrived or requests)[0]
    back = [one for one in replies if arrives(one, found)]
    if not back:
        return "reply", replies[0]
    # Of what was said later, the largest packet that did not arrive: the first to be too large.
    late = [one for one in (*requests, *replies) if not arrives(one, found)]
    late = [one for one in late if not departed(one, found)] or _repeated(late)
    late = [one for one in late if one.first.packet.payload] or late
    if late:
        return "data", max(late, key=lambda one: one.first.packet.payload)
    return "reply", back[0]


def arrives(flight: Flight, found: Observation) -> bool:
    """Whether it came into a namespace that has its destination, and no rule ended it there."""
    last = flight.last
    if last.seen.way != "in" or dropped(found, flight, last.seen.netns):
        return False
    place = found.place(last.seen.netns)
    if place is None:
        return False
    if flight.direction == "reply" and place.netns != found.tried.netns:
        return False
    local = places.is_local(place, last.packet.ends.destination)
    if flight.direction == "request" and place.role == "node":
        # A virtual IP is local there too, and nobody's yet.
        return (
            local
            and not any(one.server.ip == last.packet.ends.destination for one in place.servers)
            and last.packet.ends.destination not in vips(place)
        )
    return local


def stays(flight: Flight, found: Observation) -> bool:
    """Whether it arrived where it was last seen, and no rule gave it another destination there."""
    return arrives(flight, found) and not redirected(found, flight, flight.last.seen.netns)


def _repeated(flights: list[Flight]) -> list[Flight]:
    """Those that were sent more than once: who did it was not told that they came."""
    keys = [one.first.packet.key for one in flights]
    return [one for one, key in zip(flights, keys, strict=True) if keys.count(key) > 1]


def vips(place: Place) -> set[IP]:
    """The addresses of kube-ipvs0: local so that IPVS gets their packets."""
    return {one.ip for one in place.addresses if one.link.startswith(("kube-ipvs", "ipvs"))}


def target_of(tried: Tried, snapshot: Snapshot) -> Target | None:
    """The Service that the connection was for; None where the address is no Service's."""
    found: Target | None = None
    for service in snapshot.services.values():
        for kind, addresses in _addresses(service):
            if tried.ip in addresses:
                for port in service.spec.ports:
                    if port.port == tried.port and port.protocol == tried.protocol:
                        return Target(service, port, kind)
                found = found or Target(service, None, kind)
    if found is not None:
        return found
    for service in snapshot.services.values():
        for port in service.spec.ports:
            if port.node_port == tried.port and port.protocol == tried.protocol:
                return Target(service, port, "NodePort")
    told = {one.address for node in snapshot.nodes.values() for one in node.status.addresses}
    for service in snapshot.services.values() if str(tried.ip) in told else ():
        for port in service.spec.ports:
            if port.node_port and port.node_port == tried.port:
                return Target(service, None, "NodePort")
    return None


def _addresses(service: Service) -> Iterator[tuple[str, tuple[IP, ...]]]:
    yield "ClusterIP", service.virtual_ips
    yield "ExternalIP", service.spec.external_ips
    ingress = service.status.load_balancer.ingress
    yield "LoadBalancer", tuple(one.ip for one in ingress if one.ip is not None)


def endpoints(case: Case) -> list[SliceEndpoint]:
    """All endpoints of the Service, ready or not."""
    if case.target is None:
        return []
    key = case.target.service.key
    return [
        one
        for piece in case.snapshot.endpointslices.values()
        if piece.service_key == key
        for one in piece.endpoints
    ]


def pod_at(case: Case, address: IP) -> Pod | None:
    """The Pod with that address."""
    return next(
        (
            pod
            for pod in case.snapshot.pods.values()
            if any(one.ip == address for one in pod.status.pod_ips)
        ),
        None,
    )


def forms(case: Case) -> frozenset[Ends]:
    """The ends that requests had."""
    return case.followed.forms


def by_hand(place: Place, shell: str) -> Mend:
    """A mend that is a shell command, in the namespace of that place's node."""
    if place.role == "node":
        where = f"node/{place.name}"
    elif place.role == "pod":
        where = place.name.removeprefix("default/")
    else:
        where = "outside"
    quoted = f"sh -c {_quoted(shell)}" if any(c in shell for c in "|&;<>$*") else shell
    return Mend(hairpin=f"hairpin exec {where} -- {quoted}", shell=shell, on=place.netns)


def edited(kind: str, name: str, namespace: str, sed: str, patch: str = "") -> Mend:
    """A mend that changes a Kubernetes object: with hairpin by its YAML, else with kubectl."""
    where = "" if namespace in ("", "default") else f" -n {namespace}"
    hairpin = f"hairpin get {kind}/{name}{where} -o yaml | sed {_quoted(sed)} | hairpin apply -f -"
    shell = f"kubectl patch {kind} {name}{where} -p {_quoted(patch)}" if patch else ""
    return Mend(hairpin=hairpin, shell=shell)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_NO_MEND = Mend()


def cause(id_: str, because: str, mend: Mend = _NO_MEND, *evidence: str, of: str = "") -> Cause:
    """A Cause that a row of the table found; there is none without evidence."""
    assert evidence, f"{id_} without evidence"
    return Cause(id=id_, because=because, mend=mend, evidence=tuple(evidence), object=of)
