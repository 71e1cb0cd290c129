"""From what was seen of a connection to its Trace."""

from __future__ import annotations

import msgspec

from hairpin.model.snapshot import Snapshot
from hairpin.state.conntrack import Tuple
from hairpin.trace import causes, places
from hairpin.trace.case import Case, arrives, drops, endpoints, stays
from hairpin.trace.follow import Flight, Followed, follow
from hairpin.trace.guide import Guide
from hairpin.trace.observation import Observation
from hairpin.trace.path import departed, hooked_only, hops
from hairpin.trace.values import (
    Asked,
    Cause,
    Disposition,
    Ended,
    Ends,
    Leg,
    LegName,
    Trace,
    Tracked,
    at,
)

_UNKNOWN = "unknown"


def reason(found: Observation, snapshot: Snapshot, source: str = "", target: str = "") -> Trace:
    """What became of the connection, and because of what.

    ``source`` and ``target`` are what a person called them.
    """
    followed = follow(found)
    guide = Guide(found, followed)
    case = Case(found, followed, guide, snapshot)
    tried = found.tried
    works = tried.outcome == "answered"
    because = None if works else causes.find(case)
    disposition, ended = _end(case, because)
    if not works and because is None:
        because = Cause(id=_UNKNOWN, because=f"unknown; {ended.says}")
    port = case.target.port if case.target else None
    return Trace(
        asked=Asked(
            source=source or tried.netns,
            target=target or at(tried.ip, tried.port),
            protocol=tried.protocol,
            ip=tried.ip,
            port=tried.port,
            source_ip=tried.source,
            source_port=tried.source_port,
            service=str(case.target.service.port_name(port)) if case.target and port else None,
        ),
        disposition=disposition,
        outcome=tried.outcome,
        ended=ended,
        legs=tuple(_let_in(leg, disposition, ended) for leg in _legs(case, followed)),
        tracked=tuple(_tracked(case)),
        cause=because,
        answer=tried.body.splitlines()[0] if tried.body else "",
        seconds=tried.seconds,
        packets=len(followed.flights),
        notes=tuple(_notes(found)),
    )


def _legs(case: Case, followed: Followed) -> list[Leg]:
    requests, replies, errors = (followed.of(one) for one in ("request", "reply", "error"))
    chosen: list[tuple[LegName, Flight]] = []
    if requests:
        first = case.flight if case.leg == "request" and case.flight else requests[0]
        chosen.append(("request", first))
    if replies:
        back = [one for one in replies if arrives(one, case.found)]
        chosen.append(("reply", (back or list(replies))[0]))
    if case.leg == "data" and case.flight is not None and case.tried.outcome != "answered":
        chosen.append(("data", case.flight))
    if errors and case.tried.outcome != "answered":
        chosen.append(("error", errors[0]))
    if not requests and (unseen := hooked_only(case.guide)):
        hop, packet = unseen
        return [Leg(name="request", packet=packet, arrived=False, hops=(hop,))]
    return [
        Leg(
            name=name,
            packet=flight.first.packet.says,
            arrived=arrives(flight, case.found)
            # Of a packet that left for another machine, the answer says whether it came there.
            or (bool(replies) and name == "request" and departed(flight, case.found))
            or (name == "error" and flight.last.seen.netns == case.client.netns),
            hops=hops(flight, case.guide),
        )
        for name, flight in chosen
    ]


def _let_in(leg: Leg, disposition: Disposition, ended: Ended) -> Leg:
    """As it is; but what was dropped in the namespace that it was for did not arrive."""
    if disposition != "dropped" or leg.name != ended.leg or not leg.hops:
        return leg
    *before, last = leg.hops
    steps = tuple(step for step in last.steps if step.kind != "deliver")
    hops = (*before, msgspec.structs.replace(last, steps=steps))
    return msgspec.structs.replace(leg, arrived=False, hops=hops)


def _end(case: Case, because: Cause | None) -> tuple[Disposition, Ended]:
    tried, last, where = case.tried, case.last, case.where
    title = places.title(where)
    if tried.outcome == "answered":
        return "delivered", Ended(
            leg="reply",
            netns=case.client.netns,
            says=f"answered after {tried.seconds * 1000:.0f} ms",
        )
    leg: LegName = case.leg
    said = _refusal(case)
    if last is None and said is not None:
        return "rejected", Ended(leg=leg, netns=said[0], link=None, by=said[1], says=said[2])
    if last is None:
        says = f"nothing of it was seen on any link of {title}"
        kind: Disposition = "no-route" if tried.outcome == "unreachable" else "lost"
        rules = drops(case, where)
        if rules:
            kind, says = "dropped", f"dropped on {title} by {rules[0].command}"
        return kind, Ended(leg=leg, netns=where.netns, says=says)
    link = last.seen.link
    way = "coming in" if last.seen.way == "in" else "going out"
    seen = f"the {leg} was last seen {way} on {link} of {title}"
    if said is not None:
        return "rejected", Ended(leg=leg, netns=said[0], link=None, by=said[1], says=said[2])
    rules = drops(case, where)
    if rules and because is not None and because.object == rules[0].command:
        by = rules[0].command
        return "dropped", Ended(leg=leg, netns=where.netns, link=link, by=by, says=seen)
    if because is not None and because.id in _DROPS:
        return "dropped", Ended(
            leg=leg, netns=where.netns, link=link, by=because.object or None, says=seen
        )
    if because is not None and because.id in _NO_ROUTES:
        return "no-route", Ended(leg=leg, netns=where.netns, link=link, says=seen)
    if case.flight is not None and stays(case.flight, case.found) and leg == "request":
        says = f"the request arrived in {title}, and no answer left it"
        return "timed-out", Ended(leg=leg, netns=where.netns, link=link, says=says)
    if case.flight is not None and departed(case.flight, case.found):
        says = f"the {leg} left {title} by {link} for {_to(case)}; {_beyond(leg)}"
        return "lost", Ended(leg=leg, netns=where.netns, link=link, says=says)
    if leg == "reply" and case.flight is not None and arrives(case.flight, case.found):
        says = f"all packets arrived, and the answer was not whole after {tried.seconds:.1f} s"
        return "timed-out", Ended(leg=leg, netns=where.netns, link=link, says=says)
    return "lost", Ended(leg=leg, netns=where.netns, link=link, says=seen)


def _to(case: Case) -> str:
    """Whom the packet that failed was for in the end: an address, and whose it is."""
    assert case.last is not None
    address = case.last.packet.ends.destination
    for one in endpoints(case):
        if address in one.addresses and one.target_ref is not None:
            on = f" on node {one.node_name}" if one.node_name else ""
            return f"{address} ({one.target_ref.kind} {one.target_ref.name}{on})"
    return str(address)


def _beyond(leg: LegName) -> str:
    return "no answer came back" if leg == "request" else "nobody said that it came"


_DROPS = (
    "conntrack-full", "forwarding-off", "hairpin-off", "ipvs-conntrack-off", "masquerade-missing",
    "rp-filter", "mtu-too-small", "source-ranges", "forward-drop", "input-rule", "forward-rule",
    "output-rule", "policy-drop", "filtered-by-proxy", "rule", "both-iptables", "bridge-rule",
    "port-blocked", "port-isolated", "not-on-bridge", "vlan-filtered", "fdb-wrong", "port-no-flood",
    "tc-drop", "backlog-full", "no-such-service", "ports-taken", "neighbour-rule",
)  # fmt: skip
_NO_ROUTES = (
    "gateway-missing", "no-route", "no-route-to-pods", "gateway-wrong", "blackhole-route",
    "policy-routing",
)  # fmt: skip


def _refusal(case: Case) -> tuple[str, str, str] | None:
    """Who said no, and how: an ICMP error or a RST that came to the client."""
    for flight in case.followed.of("error"):
        came = any(one.seen.netns == case.client.netns for one in flight.sights)
        if not came or flight.last.packet.mtu:
            continue
        place = case.guide.place(flight.first.seen.netns)
        if flight.first.seen.way == "in":  # it was made where nothing was captured of it
            source = places.holder(case.found.places, flight.first.packet.ends.source)
            place = source or place
        who = places.title(place)
        return place.netns, who, f"{who} said: {flight.first.packet.error}"
    if case.tried.outcome not in ("refused", "unreachable", "error"):
        return None
    for flight in case.followed.of("reply"):
        if flight.first.packet.says.startswith(("TCP RST", "TCP ACK+RST", "SCTP ABORT")):
            place = case.guide.place(flight.first.seen.netns)
            who = places.title(place)
            return place.netns, who, f"{who} reset it: {flight.first.packet.says}"
    if case.tried.outcome == "refused":
        who = places.title(case.client)
        return case.client.netns, who, f"{who} itself refused it"
    return None


def _tracked(case: Case) -> list[Tracked]:
    """What conntrack and IPVS remember of the connection, on every node that it passed."""
    found = []
    tried = case.tried
    for place in case.nodes():
        gone = case.found.gone.get(place.netns, ())
        for flow in dict.fromkeys((*place.after.flows, *gone)):
            one, back = (_ends(each) for each in (flow.original, flow.reply))
            if one in case.followed.forms:
                state = "" if flow in place.after.flows else "forgotten again"
                found.append(
                    Tracked(
                        netns=place.netns,
                        by="conntrack",
                        original=str(one),
                        reply=str(back),
                        state=state,
                    )
                )
        for entry in place.after.connections:
            if (entry.client_port, entry.vip, entry.vport) == (
                tried.source_port, tried.ip, tried.port,
            ) and tried.source_port:  # fmt: skip
                found.append(
                    Tracked(
                        netns=place.netns,
                        by="ipvs",
                        original=f"{at(entry.client, entry.client_port)} → "
                        f"{at(entry.vip, entry.vport)}",
                        reply=f"{at(entry.server, entry.server_port)}",
                        state=entry.state,
                    )
                )
    return found


def _ends(one: Tuple) -> Ends:
    return Ends(one.source, one.source_port, one.destination, one.destination_port)


def _notes(found: Observation) -> list[str]:
    notes = []
    if found.missed:
        notes.append(f"{found.missed} packets went by too fast to be looked at")
    if found.untold:
        notes.append("hooks told more than there was room for")
    nodes = [one for one in found.places if one.role == "node"]
    blind = [places.title(one) for one in nodes if one.netns not in found.hooked]
    if blind and (found.hooked or found.partial):
        notes.append(f"the hooks of {', '.join(blind)} could not be listened to")
    return notes
