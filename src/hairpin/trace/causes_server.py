"""Causes at the far end: nobody listens, nobody answers, or the answer finds no way back."""

from __future__ import annotations

import json

from hairpin.model.address import IP
from hairpin.trace import places
from hairpin.trace.case import (
    Case,
    Target,
    arrives,
    by_hand,
    cause,
    edited,
    endpoints,
    pod_at,
)
from hairpin.trace.causes_client import no_route
from hairpin.trace.observation import Place
from hairpin.trace.packet import NUMBERS, Packet, read
from hairpin.trace.sockets import SCTP_TABLE, Listener, listeners
from hairpin.trace.values import Cause, Ends, Mend, at


def _reached(case: Case) -> Place | None:
    """The namespace that the request arrived in; None if it did not."""
    for flight in case.followed.of("request"):
        last = flight.last
        place = case.guide.place(last.seen.netns)
        local = places.is_local(place, last.packet.ends.destination)
        if last.seen.way == "in" and local and place.role in ("pod", "other", "outside"):
            return place
        if last.seen.way != "in" or not local:
            continue
        if case.target is None or _is_endpoint(case, last.packet.ends.destination):
            return place  # the node itself was asked, or a Pod in its network
    return None


def _is_endpoint(case: Case, address: IP) -> bool:
    """Whether it came there as an endpoint of the Service, and not as its own address."""
    return address != case.tried.ip and any(address in one.addresses for one in endpoints(case))


def nobody_listens(case: Case) -> Cause | None:
    """The server's kernel says that nothing listens there."""
    place = _reached(case)
    told = ("TCP", "UDP", *(("SCTP",) if place and SCTP_TABLE in place.texts else ()))
    if place is None or case.tried.protocol not in told or case.leg == "data":
        return None
    if case.tried.outcome == "answered":
        return None
    asked = [
        one.last.packet.ends
        for one in case.followed.of("request")
        if one.last.seen.netns == place.netns
    ]
    address, port = asked[0].destination, asked[0].destination_port
    every = listeners(place)
    if any(
        one.protocol == case.tried.protocol and one.port == port and one.takes(address)
        for one in every
    ):
        return _other_family(case, place, address, port, every)
    found = _elsewhere(case, place, address, port, every)
    if found is not None:
        return found
    if case.target is not None and place is case.client and address == case.tried.ip:
        return _own_address(case, place, address)
    ports = sorted({one.port for one in every if one.protocol == case.tried.protocol})
    who, proto = places.title(place), case.tried.protocol
    has = f"it listens on {', '.join(map(str, ports[:8]))}" if ports else "it listens on no port"
    mend = Mend()
    target = case.target
    # A node's other ports are other servers': none of them is what the Service means.
    if target is not None and target.port is not None and ports and place.role != "node":
        mend = _target_port(target, ports)
        return cause(
            "wrong-target-port",
            f"Service {target.name} sends to port {port} of {who}, where nothing listens for "
            f"{proto}; {has}",
            mend,
            f"no {proto} socket on port {port} in {place.netns}",
            of=f"Service {target.name}",
        )
    return cause(
        "nobody-listens",
        f"nothing listens on {proto} port {port} in {who}; {has}",
        mend,
        f"no {proto} socket on port {port} in {place.netns}",
        of=who,
    )


def _own_address(case: Case, place: Place, address: IP) -> Cause:
    """The client has the Service's address itself, so that nothing leaves it."""
    assert case.target is not None
    own = next(one for one in place.addresses if one.ip == address)
    who = places.title(place)
    return cause(
        "address-taken",
        f"{address} is an address of Service {case.target.name}, and {who} has it itself, on "
        f"{own.link}: what it sends there does not leave it",
        by_hand(place, f"ip address del {address}/{own.prefix} dev {own.link}"),
        f"{place.netns}: {address}/{own.prefix} dev {own.link}",
        of=str(address),
    )


def _other_family(
    case: Case, place: Place, address: IP, port: int, every: list[Listener]
) -> Cause | None:
    """The server listens on [::] for IPv6 alone (IPV6_V6ONLY), and IPv4 was refused."""
    own = [
        one for one in every if one.port == port and one.protocol == case.tried.protocol == "TCP"
    ]
    refused = any(
        one.first.seen.netns == place.netns and one.first.packet.says.startswith("TCP ACK+RST")
        for one in case.followed.of("reply")
    )
    if address.version != 4 or not refused or any(one.ip.version == 4 for one in own):
        return None
    who = places.title(place)
    return cause(
        "listens-elsewhere",
        f"the server in {who} listens on [::]:{port} for IPv6 alone (IPV6_V6ONLY): its kernel "
        f"refused what came for {address}",
        Mend(),
        f"TCP socket [::]:{port} in {place.netns}, and a RST from there",
        of=who,
    )


def _elsewhere(
    case: Case, place: Place, address: IP, port: int, every: list[Listener]
) -> Cause | None:
    """Somebody listens on that port, but not for this."""
    proto, who = case.tried.protocol, places.title(place)
    other = next((one for one in every if one.port == port and one.protocol == proto), None)
    pod = pod_at(case, address)
    if other is not None:
        mend = Mend()
        words = " ".join(w for c in pod.spec.containers for w in c.command) if pod else ""
        if pod is not None and other.ip.is_loopback and str(other.ip) in words:
            sed = rf"s/{str(other.ip).replace('.', chr(92) + '.')}/0.0.0.0/"
            mend = edited("pod", pod.metadata.name, pod.metadata.namespace, sed)
        return cause(
            "listens-on-localhost" if other.ip.is_loopback else "listens-elsewhere",
            f"the server in {who} listens on {at(other.ip, port)} only, which nobody outside of it "
            f"reaches; it should listen on 0.0.0.0"
            if other.ip.is_loopback
            else f"the server in {who} listens on {at(other.ip, port)}, not on {address}",
            mend,
            f"{proto} socket {at(other.ip, port)} in {place.netns}",
            of=who,
        )
    across = next((one for one in every if one.port == port and one.takes(address)), None)
    if across is None:
        return None
    mend = Mend()
    if case.target is not None and case.target.port is not None:
        metadata = case.target.service.metadata
        sed = f"s/protocol: {proto}/protocol: {across.protocol}/"
        mend = edited("svc", metadata.name, metadata.namespace, sed)
    return cause(
        "wrong-protocol",
        f"{who} has a server on port {port} for {across.protocol}, and it was asked by {proto}",
        mend,
        f"{across.protocol} socket on port {port} in {place.netns}, none of {proto}",
        of=who,
    )


def _target_port(target: Target, ports: list[int]) -> Mend:
    own = [one for one in ports if one not in (53,)] or ports
    if not own or target.port is None:
        return Mend()
    metadata, port = target.service.metadata, target.port
    old = port.target_port if port.target_port is not None else port.port
    sed = f"s/targetPort: {old}$/targetPort: {own[0]}/"
    changed = {"port": port.port, "protocol": port.protocol, "targetPort": own[0]}
    patch = json.dumps({"spec": {"ports": [changed]}})
    return edited("svc", metadata.name, metadata.namespace, sed, patch)


def server_no_way_back(case: Case) -> Cause | None:
    """The request arrived, and the server's namespace has no route to whom it came from."""
    place = _reached(case)
    if place is None or case.leg != "request" or case.last is None:
        return None
    source = case.last.packet.ends.source
    return no_route(case, place, source, f"its answer to {source}")


def backlog_full(case: Case) -> Cause | None:
    """Connections wait to be accepted, and the kernel takes no more of them."""
    place = _reached(case)
    if place is None or case.leg != "request" or case.tried.protocol != "TCP":
        return None
    if case.followed.of("reply") or case.last is None:
        return None
    ends = case.last.packet.ends
    for one in listeners(place):
        if one.protocol == "TCP" and one.port == ends.destination_port and one.waiting:
            if not one.takes(ends.destination):
                continue
            return cause(
                "backlog-full",
                f"the server in {places.title(place)} accepts no connections: {one.waiting} wait "
                f"on port {one.port}, and its kernel takes no more",
                Mend(),
                f"{at(one.ip, one.port)}: {one.waiting} not accepted",
                of=places.title(place),
            )
    return None


def ping_ignored(case: Case) -> Cause | None:
    """A namespace is told not to answer pings."""
    place = _icmp_reached(case)
    if place is None or place.around is None:
        return None
    six = case.tried.ip.version == 6
    name = "net.ipv6.icmp.echo_ignore_all" if six else "net.ipv4.icmp_echo_ignore_all"
    if place.around.settings.get(name) != "1":
        return None
    return cause(
        "ping-ignored",
        f"{places.title(place)} does not answer pings: {name} is 1",
        by_hand(place, f"sysctl -w {name}=0"),
        f"{name} = 1",
        of=name,
    )


def _icmp_reached(case: Case) -> Place | None:
    if case.tried.protocol != "ICMP" or case.leg != "request" or case.flight is None:
        return None
    return case.where if arrives(case.flight, case.found) else None


def server_closes(case: Case) -> Cause | None:
    """The server took the connection and ended it without a word."""
    if case.tried.protocol != "TCP" or case.tried.outcome not in ("error", "refused"):
        return None
    replies = case.followed.of("reply")
    opened = [one for one in replies if "SYN" in one.first.packet.says]
    ended = [one for one in replies if _ends(one.first.packet.says)]
    said = [one for one in replies if one.first.packet.payload]
    if not opened or not ended or said or not arrives(ended[0], case.found):
        return None
    if any("RST" in one.first.packet.says for one in case.followed.of("request")):
        return None
    place = case.guide.place(ended[0].first.seen.netns)
    if place.role not in ("pod", "other"):
        return None
    how = "resets" if "RST" in ended[0].first.packet.says else "closes"
    return cause(
        "server-closes",
        f"the server in {places.title(place)} takes the connection and {how} it without an answer",
        Mend(),
        f"{ended[0].first.packet.says} from {place.netns}, and no byte before it",
        of=places.title(place),
    )


def _ends(says: str) -> bool:
    return "FIN" in says or "RST" in says


def server_silent(case: Case) -> Cause | None:
    """The request arrived, somebody listens, and no answer was sent."""
    place = _reached(case)
    if place is None or case.leg != "request" or case.followed.of("reply"):
        return None
    listening = listeners(place)
    asked = case.last.packet.ends if case.last else None
    if asked is None or case.tried.protocol not in ("TCP", "UDP"):
        return None
    if not any(
        one.protocol == case.tried.protocol and one.port == asked.destination_port
        for one in listening
    ):
        return None
    if case.tried.protocol == "TCP":
        return None
    other = _answered_elsewhere(case, place, asked)
    if other is not None:
        return other
    return cause(
        "server-silent",
        f"the datagram arrived in {places.title(place)}, where a server listens on port "
        f"{asked.destination_port}, and it sent no answer",
        Mend(),
        f"UDP socket on port {asked.destination_port} in {place.netns}; nothing was sent from it",
        of=places.title(place),
    )


def _answered_elsewhere(case: Case, place: Place, asked: Ends) -> Cause | None:
    """The server answered from an address or a port that the client did not ask."""
    for seen in case.found.sightings:
        if seen.netns != place.netns or seen.way != "out":
            continue
        packet = read(seen.data)
        if not isinstance(packet, Packet) or packet.protocol != NUMBERS["UDP"]:
            continue
        ends = packet.ends
        if (ends.destination, ends.destination_port) != (asked.source, asked.source_port):
            continue
        was, is_ = at(asked.destination, asked.destination_port), at(ends.source, ends.source_port)
        if was == is_:
            continue
        return cause(
            "answer-from-elsewhere",
            f"the server in {places.title(place)} was asked at {was} and answers from {is_}: that "
            "is no answer to this client, and no node puts the Service's address on it",
            Mend(),
            f"UDP {ends} out of {place.netns}",
            of=places.title(place),
        )
    return None


def server_slow(case: Case) -> Cause | None:
    """All that was sent arrived, both ways, and it was not over in time."""
    if case.leg != "reply" or case.flight is None or case.tried.outcome != "timeout":
        return None
    if not arrives(case.flight, case.found) or case.flight.first.packet.ends.source_port == 0:
        return None
    place = case.guide.place(case.flight.first.seen.netns)
    if case.tried.protocol == "TCP" and not _taken_up(case, place):
        return None
    return cause(
        "server-slow",
        f"every packet arrived, both ways; {places.title(place)} had not answered in full after "
        f"{case.tried.seconds:.1f} s",
        Mend(),
        "no packet was lost",
        of=places.title(place),
    )


def _taken_up(case: Case, place: Place) -> bool:
    """Whether what the client said after the handshake came to the server."""
    return any(
        one.first.packet.payload and any(at.seen.netns == place.netns for at in one.sights)
        for one in case.followed.of("request")
    )
