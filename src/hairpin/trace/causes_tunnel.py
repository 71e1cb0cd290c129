"""Causes between nodes whose Pods reach each other through a VXLAN."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause
from hairpin.trace.follow import Sight
from hairpin.trace.observation import Place
from hairpin.trace.routing import REFUSALS, decide
from hairpin.trace.rules import SavedRule, could_match, counted
from hairpin.trace.values import Cause, Ends, Mend

_PORTS = ("8472", "4789")  # Linux's own and IANA's, drivers/net/vxlan/vxlan_core.c and RFC 7348


def tunnel(case: Case) -> Cause | None:
    """It went into the tunnel and did not come out on the other node."""
    entered = _entered(case)
    if entered is None:
        return None
    node = case.guide.place(entered.seen.netns)
    holder = places.holder(case.found.places, entered.packet.ends.destination)
    other = case.node_of(holder) if holder is not None else None
    if other is None or other.netns == node.netns:
        return None
    return (
        _forwarding(case, node, other, entered.seen.link, entered.packet.mac_to)
        or _underlay(case, node, other)
        or _ruled(case, node, other)
        or _ruled(case, other, node)
    )


def _entered(case: Case) -> Sight | None:
    """Where the packet went into a tunnel that it was not seen to come out of."""
    if case.flight is None:
        return None
    found: Sight | None = None
    for sight in case.flight.sights:
        link = places.link_of(case.guide.place(sight.seen.netns), sight.seen.link)
        if link is not None and link.type == "vxlan":
            found = sight if sight.seen.way == "out" else None
    return found


def _node_ip(case: Case, node: Place, version: int) -> IP | None:
    """The address by which other nodes reach a node."""
    known = case.snapshot.nodes.get(("", node.name))
    texts = {one.address for one in known.status.addresses} if known is not None else set()
    return next(
        (one.ip for one in node.addresses if str(one.ip) in texts and one.ip.version == version),
        None,
    )


def _forwarding(case: Case, node: Place, other: Place, link: str, mac: str) -> Cause | None:
    """The tunnel's forwarding entry for the other node's hardware address."""
    if node.around is None:
        return None
    entries = [one for one in node.around.learned if one.link == link and one.mac == mac]
    known = next((one.to for one in entries if one.to is not None), None)
    there = {one.ip for one in other.addresses}
    if known in there:
        return None
    address = _node_ip(case, other, 4) or _node_ip(case, other, 6)
    who = places.title(node)
    says = f"sends it to {known}" if known is not None else "knows no node for it"
    return cause(
        "tunnel-entry",
        f"{link} of {who} has to send what is for {mac} to {places.title(other)} ({address}), and "
        f"{says}",
        by_hand(
            node,
            f"bridge fdb del {mac} dev {link} 2>/dev/null; "
            f"bridge fdb append {mac} dev {link} dst {address}",
        ),
        f"{node.netns}: {mac} dev {link} dst {known or 'nobody'}",
        of=link,
    )


def _underlay(case: Case, node: Place, other: Place) -> Cause | None:
    """The nodes' own addresses reach each other by no route."""
    for one, far in ((node, other), (other, node)):
        address = _node_ip(case, far, 4) or _node_ip(case, far, 6)
        decision = decide(one, None, address) if address is not None else None
        if decision is None or decision.verdict not in ("", *REFUSALS):
            continue
        return cause(
            "no-route",
            f"{places.title(one)} has no route to {address}, {places.title(far)}, to which the "
            "tunnel's packets go",
            Mend(),
            f"{one.netns}: {decision.verdict or 'no route'} for {address}",
            of=str(address),
        )
    return None


def _ruled(case: Case, node: Place, other: Place) -> Cause | None:
    """A rule counted what can have been the tunnel's packets, and drops them."""
    outer = _outer(case, node, other)
    for name, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        before, after = node.before.texts.get(name, ""), node.after.texts.get(name, "")
        for rule in counted(before, after, family):
            if rule.target not in ("DROP", "REJECT") or not _hits(rule, outer):
                continue
            does = "drops" if rule.target == "DROP" else "rejects"
            by = f"a rule in chain {rule.chain}" if rule.spec else f"the policy of {rule.chain}"
            return cause(
                "tunnel-rule",
                f"{by} of {places.title(node)} (table {rule.table}) {does} the UDP packets in "
                f"which the tunnel between it and {places.title(other)} carries it: "
                f"{rule.spec or rule.policy}",
                by_hand(node, rule.undo),
                f"{rule.command} counted {rule.packets}",
                of=rule.command,
            )
    return None


def _outer(case: Case, node: Place, other: Place) -> list[Ends]:
    """The tunnel's own packets between the two nodes; their source port can be any."""
    found = []
    for version in (4, 6):
        one, far = _node_ip(case, node, version), _node_ip(case, other, version)
        if one is None or far is None:
            continue
        found += [
            Ends(source, 0, destination, int(port))
            for source, destination in ((one, far), (far, one))
            for port in _PORTS
        ]
    return found


def _hits(rule: SavedRule, outer: list[Ends]) -> bool:
    """Whether it matches one of them, in that direction."""
    family = 4 if rule.family == "ip" else 6
    if rule.chain == "FORWARD":
        return False
    return any(
        could_match(rule, (one,), "UDP", both=False)
        for one in outer
        if one.source.version == family
    )
