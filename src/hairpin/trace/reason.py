"""From what was seen of a connection to its Trace."""

from __future__ import annotations

from hairpin.model.snapshot import Snapshot
from hairpin.trace import causes, places
from hairpin.trace.case import Case, arrives, drops
from hairpin.trace.follow import Flight, Followed, follow
from hairpin.trace.observation import Observation
from hairpin.trace.path import Guide, hops
from hairpin.trace.values import (
    Asked,
    Cause,
    Disposition,
    Ended,
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
    begin = min((one.first.seen.at for one in followed.flights), default=0.0)
    guide = Guide(found, followed.forms, begin)
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
        legs=tuple(_legs(case, followed)),
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
    return [
        Leg(
            name=name,
            packet=flight.first.packet.says,
            arrived=arrives(flight, case.found)
            or (name == "error" and flight.last.seen.netns == case.client.netns),
            hops=hops(flight, case.guide),
        )
        for name, flight in chosen
    ]


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
    said = _refusal(case)
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
    if case.flight is not None and arrives(case.flight, case.found) and leg == "request":
        says = f"the request arrived in {title}, and no answer left it"
        return "timed-out", Ended(leg=leg, netns=where.netns, link=link, says=says)
    if leg == "reply" and case.flight is not None and arrives(case.flight, case.found):
        says = f"all packets arrived, and the answer was not whole after {tried.seconds:.1f} s"
        return "timed-out", Ended(leg=leg, netns=where.netns, link=link, says=says)
    return "lost", Ended(leg=leg, netns=where.netns, link=link, says=seen)


_DROPS = (
    "conntrack-full", "forwarding-off", "hairpin-off", "ipvs-conntrack-off", "masquerade-missing",
    "rp-filter", "mtu-too-small", "source-ranges", "forward-drop", "input-rule", "forward-rule",
    "output-rule", "policy-drop", "filtered-by-proxy", "rule", "both-iptables",
)  # fmt: skip
_NO_ROUTES = ("gateway-missing", "no-route", "no-route-to-pods", "gateway-wrong")


def _refusal(case: Case) -> tuple[str, str, str] | None:
    """Who said no, and how: an ICMP error or a RST that came to the client."""
    for flight in case.followed.of("error"):
        came = any(one.seen.netns == case.client.netns for one in flight.sights)
        if not came or flight.last.packet.mtu:
            continue
        place = case.guide.place(flight.first.seen.netns)
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
    """What conntrack and IPVS remember of the connection."""
    found = []
    tried = case.tried
    for place in case.nodes():
        for flow in place.after.flows:
            one, back = flow.original, flow.reply
            if (one.source_port, one.destination, one.destination_port) == (
                tried.source_port, tried.ip, tried.port,
            ) and tried.source_port:  # fmt: skip
                found.append(
                    Tracked(netns=place.netns, by="conntrack", original=str(one), reply=str(back))
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


def _notes(found: Observation) -> list[str]:
    if found.missed:
        return [f"{found.missed} packets went by too fast to be looked at"]
    return []
