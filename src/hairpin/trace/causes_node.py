"""Causes on a node: settings, rules and routes that kept a packet from getting through."""

from __future__ import annotations

from hairpin.model.address import IP, Network
from hairpin.source.ranges import said_cidrs
from hairpin.state.links import Route
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, drops, edited, forms
from hairpin.trace.causes_rules import by_proxy
from hairpin.trace.heading import headings
from hairpin.trace.observation import Place
from hairpin.trace.questions import unanswered
from hairpin.trace.rules import SavedRule, could_match, counted, parse
from hairpin.trace.values import Cause, Mend

_FULL = 0.98  # of nf_conntrack_max: entries go and come while they are counted
_REMEMBERING = {"connlimit", "hashlimit", "limit", "quota", "recent"}
_FILTERS = {
    "KUBE-PROXY-FIREWALL": "source-ranges",
    "KUBE-SOURCE-RANGES-FIREWALL": "source-ranges",
    "KUBE-IPVS-FILTER": "filtered-by-proxy",
    "KUBE-IPVS-OUT-FILTER": "filtered-by-proxy",
}


def _stopped_on_node(case: Case) -> Place | None:
    """The node that the packet went into and did not come out of; the client's own too."""
    if case.last is None:
        return case.client if case.client.role == "node" else None
    place = case.where
    return place if place.role in ("node", "outside") else None


def conntrack_full(case: Case) -> Cause | None:
    """The table is full: packets of new connections are dropped."""
    place = _stopped_on_node(case)
    if place is None or case.leg == "data":
        return None
    count = int(place.sysctls.get("net.netfilter.nf_conntrack_count", "0"))
    most = int(place.sysctls.get("net.netfilter.nf_conntrack_max", "0"))
    if not most or count < most * _FULL:
        return None
    return cause(
        "conntrack-full",
        f"the connection table of {places.title(place)} is full ({count} of {most}): packets of "
        "new connections are dropped",
        Mend(
            hairpin=f"hairpin exec node/{place.name} -- conntrack -F",
            shell=f"sysctl -w net.netfilter.nf_conntrack_max={most * 4}",
        ),
        f"nf_conntrack_count {count}, nf_conntrack_max {most}",
        of=places.title(place),
    )


def forwarding_off(case: Case) -> Cause | None:
    """The node does not route packets of others."""
    place = _stopped_on_node(case)
    last = case.last
    if place is None or last is None or place.role != "node" or last.seen.way != "in":
        return None
    six = last.packet.ends.destination.version == 6
    name = "net.ipv6.conf.all.forwarding" if six else "net.ipv4.ip_forward"
    mend = Mend(hairpin="hairpin set forwarding=on", shell=f"sysctl -w {name}=1")
    if place.sysctls.get(name) != "0":
        if six or place.around is None:  # IPv6 asks the setting for all, ip6_forward()
            return None
        name = f"net.ipv4.conf.{places.segment(place, last.seen.link)}.forwarding"
        if place.around.settings.get(name) != "0":
            return None
        mend = by_hand(place, f"sysctl -w {name}=1")
    return cause(
        "forwarding-off",
        f"{places.title(place)} does not forward: {name} is 0",
        mend,
        f"{name} = 0",
        of=name,
    )


def rule(case: Case) -> Cause | None:
    """A rule, or a chain's policy, ended the packet."""
    stopped = _stopped_on_node(case)
    hooked = case.guide.hooked
    some = [stopped] if stopped is not None else []
    # Where hooks told of it, it is certain: wherever it was, and before it was on any link.
    some += [one for one in case.found.places if one is not stopped and hooked.ended(one.netns)]
    for place in some:
        hooks = {one.decided: one.passage.hook for one in hooked.ended(place.netns)}
        for one in sorted(drops(case, place), key=lambda rule: not rule.spec):
            found = _told(case, place, one, hooks.get(one, ""))
            if found is not None:
                return found
    return None


def _told(case: Case, place: Place, one: SavedRule, hook: str) -> Cause | None:
    kind = _FILTERS.get(one.chain)
    evidence = f"{one.command} counted {one.packets}" if one.packets else f"met: {one.command}"
    who = places.title(place)
    if kind == "source-ranges":
        return _source_ranges(case, place, evidence)
    if not one.spec:
        if one.table == "filter" and one.chain == "FORWARD":
            return cause(
                "forward-drop",
                f"chain FORWARD of {who} drops what no rule accepts (policy {one.policy})",
                Mend(hairpin="hairpin set forward-accept=on", shell=one.undo),
                evidence,
                of=one.command,
            )
        return cause(
            "policy-drop",
            f"chain {one.chain} of {who} ({_table(one)}) drops what no rule accepts",
            by_hand(place, one.undo),
            evidence,
            of=one.command,
        )
    verb = "rejects" if one.target == "REJECT" else "drops"
    if one.family == "bridge":
        kind = "bridge-rule"
    if kind is None and by_proxy(one):
        kind = "filtered-by-proxy"
    if kind == "filtered-by-proxy" and case.target is None and case.tried.ip in _asked(case):
        return cause(
            "no-such-service",
            f"no Service has {case.tried.ip}: the proxy of {who} keeps what is for addresses of "
            f"Services that nobody has (chain {one.chain})",
            Mend(),
            evidence,
            of=str(case.tried.ip),
        )
    ids = {"INPUT": "input-rule", "FORWARD": "forward-rule", "OUTPUT": "output-rule"}
    return cause(
        kind or ids.get(one.chain) or ids.get(hook, "rule"),
        f"a rule in chain {one.chain} of {who} ({_table(one)}{_when(hook)}) {verb} it: {one.spec}",
        # What the proxy made it makes again: to take it away mends nothing.
        Mend() if kind == "filtered-by-proxy" else by_hand(place, _undo(place, one)),
        evidence,
        of=one.command,
    )


def _undo(place: Place, one: SavedRule) -> str:
    """By its number where iptables does not find the rule again by what it says of it.

    Such matches keep a memory of their own, which is part of what is compared.
    """
    if one.said or not _REMEMBERING & set(one.words):
        return one.undo
    texts = place.after.texts.get("iptables" if one.family == "ip" else "ip6tables", "")
    number = 0
    for other in parse(texts, one.family):
        if (other.table, other.chain) == (one.table, one.chain) and other.spec:
            number += 1
            if other.spec == one.spec:
                start = one.undo.partition(f" {one.spec}")[0]
                return f"{start} {number}"
    return one.undo


def _asked(case: Case) -> set[IP]:
    """The address that was asked, where no namespace has it."""
    address = case.tried.ip
    return set() if places.holder(case.found.places, address) is not None else {address}


def _table(one: SavedRule) -> str:
    """``table filter``; ``table bridge filter`` where the family is an unusual one."""
    return (
        f"table {one.table}" if one.family in ("ip", "ip6") else f"table {one.family} {one.table}"
    )


def _when(hook: str) -> str:
    return f", at {hook}" if hook else ""


def _source_ranges(case: Case, place: Place, evidence: str) -> Cause | None:
    target = case.target
    if target is None:
        return None
    service = target.service
    ranges = service.spec.load_balancer_source_ranges
    source = case.tried.source
    if source is None or any(source in one for one in ranges):
        return None
    said = ", ".join(str(one) for one in ranges)
    bits = source.max_prefixlen
    sed = rf"s|^  loadBalancerSourceRanges:|&\n  - {source}/{bits}|"
    return cause(
        "source-ranges",
        f"Service {target.name} lets only {said} use {case.tried.ip}, and {source} is not in it",
        edited("svc", service.metadata.name, service.metadata.namespace, sed),
        evidence,
        of=f"Service {target.name}",
    )


def outside_ranges(case: Case) -> Cause | None:
    """The Service does not let the client use its load balancer's address; rules may not count."""
    place, target, last = _stopped_on_node(case), case.target, case.last
    if place is None or target is None or last is None or target.kind != "LoadBalancer":
        return None
    if case.leg != "request" or last.packet.ends.destination != case.tried.ip:
        return None
    if place.role != "node" or not target.service.spec.load_balancer_source_ranges:
        return None
    return _source_ranges(case, place, f"{last.packet.ends} ended on {places.title(place)}")


def rp_filter(case: Case) -> Cause | None:
    """Strict reverse path filtering: the way back is not the way it came."""
    last = case.last
    if last is not None and last.seen.way == "in":
        found = _not_the_way_back(case.where, last.seen.link, last.packet.ends.source, "")
        if found is not None:
            return found
    # A question for a hardware address is judged as a packet is (net/ipv4/arp.c, arp_process).
    for one in unanswered(case):
        holder = places.holder(case.found.places, one.target)
        link = places.address_link(holder, one.target) if holder is not None else None
        if holder is None or link is None:
            continue
        what = f", the question who has {one.target} too"
        found = _not_the_way_back(holder, link, one.asking.arp.sender, what)
        if found is not None:
            return found
    return None


def _not_the_way_back(place: Place, name: str, source: IP, what: str) -> Cause | None:
    """``what`` is said of the packets that are dropped."""
    link = places.segment(place, name)
    settings = place.sysctls
    own = f"net.ipv4.conf.{link}.rp_filter"
    strict = max(int(settings.get("net.ipv4.conf.all.rp_filter", "0")), int(settings.get(own, "0")))
    if strict != 1 or source.version != 4:
        return None
    back = places.route_to(place, source)
    if back is not None and back.link == link:
        return None
    wrong = own if settings.get(own) == "1" else "net.ipv4.conf.all.rp_filter"
    way = f"it would answer by {back.link}" if back else "it has no way back to that"
    writes = f"sysctl -w {wrong}=2"
    if settings.get(own) == "1" == settings.get("net.ipv4.conf.all.rp_filter"):
        writes = f"sysctl -w net.ipv4.conf.all.rp_filter=2 {own}=2"
    return cause(
        "rp-filter",
        f"{places.title(place)} drops what comes in by {link} from {source}{what}, since {way} "
        f"(strict rp_filter)",
        by_hand(place, writes),
        f"{wrong} = 1; way back: {places.said_route(back) if back else 'none'}",
        of=wrong,
    )


def no_route_to_pods(case: Case) -> Cause | None:
    """The node has no route to the other node's Pods, or one that leads elsewhere."""
    for place, address in _to_route(case):
        own = _no_way_to_own(case, place, address)
        if own is not None:
            return own
        other = next(
            (
                (node, cidr)
                for node in case.snapshot.nodes.values()
                for cidr in said_cidrs(node)
                if address in cidr and node.metadata.name != place.name
            ),
            None,
        )
        if other is None or place.role not in ("node", "outside"):
            continue
        node, cidr = other
        internal = [
            one.address for one in node.status.addresses
            if one.type == "InternalIP" and (":" in one.address) == (address.version == 6)
        ]  # fmt: skip
        route = places.route_to(place, address)
        fits = route is not None and route.to.prefixlen > 0
        if fits and route is not None and _leads(place, route, internal):
            continue
        via = internal[0] if internal else "NODE-IP"
        return cause(
            "no-route-to-pods",
            f"{places.title(place)} has no route to {cidr}, the Pods of node {node.metadata.name}"
            if not fits
            else f"{places.title(place)} sends what is for {address}, a Pod of node "
            f"{node.metadata.name}, by {places.said_route(route) if route else ''}, which does not "
            f"lead to node {node.metadata.name}",
            by_hand(place, _rerouted(place, route, cidr, via)),
            f"{place.netns}: {places.said_route(route) if route else 'no route'} for {address}",
            of=str(cidr),
        )
    return None


def _no_way_to_own(case: Case, place: Place, address: IP) -> Cause | None:
    """A node lost the route to its own Pods: the address of their bridge is gone."""
    node = case.snapshot.nodes.get(("", place.name)) if place.role == "node" else None
    cidr = next((one for one in said_cidrs(node) if address in one), None) if node else None
    if cidr is None or places.is_local(place, address):
        return None
    route = places.route_to(place, address)
    bridge = next((one.master for one in place.links if one.master and one.type == "veth"), None)
    if bridge is None or (route is not None and route.to.prefixlen > 0):
        return None
    option = "-6 " if address.version == 6 else ""
    return cause(
        "no-route-to-pods",
        f"{places.title(place)} has no route to {cidr}, its own Pods: {bridge} has no address of "
        "that network",
        by_hand(place, f"ip {option}address add {cidr[1]}/{cidr.prefixlen} dev {bridge}"),
        f"{place.netns}: {places.said_route(route) if route else 'no route'} for {address}",
        of=str(cidr),
    )


def _leads(place: Place, route: Route, internal: list[str]) -> bool:
    """Whether it may lead to that node: by its address, a tunnel, or a link that is no bridge."""
    link = places.link_of(place, route.link)
    kind = link.type if link is not None else ""
    if kind in ("vxlan", "other"):
        return True
    return str(route.via) in internal if route.via is not None else kind != "bridge"


def _rerouted(place: Place, route: Route | None, cidr: Network, via: str) -> str:
    """The right route; a wrong one that is narrower goes, since it would win.

    Over a VXLAN the other end is called by its Pods' network address, as flannel does it.
    """
    option = "-6 " if cidr.version == 6 else ""
    tunnel = next((one.name for one in place.links if one.type == "vxlan"), None)
    to = f"{cidr.network_address} dev {tunnel} onlink" if tunnel is not None else via
    line = f"ip {option}route replace {cidr} via {to}"
    if route is not None and route.to.prefixlen > 0 and route.to != cidr:
        return f"ip {option}route del {places.said_route(route)}; {line}"
    return line


def _to_route(case: Case) -> list[tuple[Place, IP]]:
    """Where a way to an address of the connection's had to be found."""
    found: list[tuple[Place, IP]] = []
    flight = case.flight
    ends = {form.destination for form in forms(case)} | {form.source for form in forms(case)}
    ends |= {one for heading in headings(case) for one in heading.destinations}
    nodes = [case.where]
    if flight is not None:
        nodes += [case.guide.place(one.seen.netns) for one in flight.sights]
    if case.client.role == "node":
        nodes.append(case.client)
    for place in dict.fromkeys(one.netns for one in nodes):
        here = case.guide.place(place)
        found += [(here, address) for address in sorted(ends, key=str)]
    return found


def both_iptables(case: Case) -> Cause | None:
    """The other variant of iptables ended it: two sets of rules, which do not see each other."""
    for place in case.nodes():
        texts = place.after.texts
        variant = texts.get("other-variant", "")
        name = "iptables-other" if case.tried.ip.version == 4 else "ip6tables-other"
        family = "ip" if case.tried.ip.version == 4 else "ip6"
        for one in counted(place.before.texts.get(name, ""), texts.get(name, ""), family):
            if one.target not in ("DROP", "REJECT") or not could_match(
                one, forms(case), case.tried.protocol
            ):
                continue
            line = one.command.replace("tables ", f"tables-{variant} ", 1)
            undo = one.undo.replace("tables ", f"tables-{variant} ", 1)
            return cause(
                "both-iptables",
                f"{places.title(place)} has rules of both variants of iptables, which do not see "
                f"each other, and a packet must pass both: {line} ended it",
                by_hand(place, undo),
                f"{line} counted {one.packets}",
                of=one.command,
            )
    return None
