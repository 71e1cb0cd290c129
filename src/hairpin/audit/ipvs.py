"""IPVS mode: virtual and real servers, sets, addresses of kube-ipvs0.

What a kube-proxy leaves there on purpose is no finding (docs/kube-proxy-differences.md): endpoints
that end (weight 0), endpoints of every Service at an address that several claim, virtual servers at
virtual addresses where nodePortAddresses names networks, entries of addresses that nobody can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from hairpin.audit import ipvs_words as words
from hairpin.audit.case import Case, add, differing, many, remove, set_to, split, told
from hairpin.audit.ipvs_mends import made_anew
from hairpin.audit.report import Differs, Finding
from hairpin.model.address import IP
from hairpin.plan.ipvs import LINK
from hairpin.plan.ipvs_sets import NAMES
from hairpin.plan.service_addresses import refused
from hairpin.state.change import Wanted
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link

_SERVER = (
    "scheduler", "persistence", "scheduler_flags", "one_packet", "persistence_engine",
)  # fmt: skip
_REAL = ("weight", "forwarding", "upper", "lower", "tunnel")
OUR_SETS = frozenset(name for names in NAMES.values() for name in names.values())


def judge(case: Case) -> Iterator[Finding]:
    """Everything of the mode but rules and settings."""
    held = case.held
    if held.knows("addresses"):
        yield from _link(case)
    if held.knows("ipset"):
        yield from _sets(case)
    if held.knows("ipvs"):
        yield from _servers(case)


def _link(case: Case) -> Iterator[Finding]:
    wants = case.wanted(Address)
    link = next((one for one in case.held.links if one.name == LINK), None)
    (want,) = case.wanted(Link).values()
    assert isinstance(want.object, Link)
    if link is None:
        yield Finding(
            what="missing",
            subject=told(want.object),
            object=want.object,
            owner=want.owner,
            consequence="The node does not take packets to Services for its own "
            f"({many(len(wants), 'address')}): they never reach IPVS.",
            mend=(*add(want), *(line for one in wants.values() for line in add(one))),
        )
        return
    # ``ip -j addr`` without -d does not say what kind a link is.
    if link.type not in ("other", want.object.type):
        yield Finding(
            what="wrong",
            subject=told(want.object),
            object=want.object,
            owner=want.owner,
            differs=(Differs("type", link.type, want.object.type),),
            consequence="Packets to Services' addresses may leave by it.",
            mend=(*remove(link), *add(want), *(x for one in wants.values() for x in add(one))),
        )
    if link.up:
        yield Finding(
            what="wrong",
            subject=told(want.object),
            object=want.object,
            owner=want.owner,
            differs=(Differs("up", "yes", "no"),),
            consequence="The kernel makes routes and IPv6 addresses of its own for it; addresses "
            "of Services are taken as before.",
            mend=set_to(want, link),
        )
    yield from _addresses(case, wants)


def _addresses(case: Case, wants: dict[tuple[object, ...], Wanted]) -> Iterator[Finding]:
    """Those of the link; link-local ones are the kernel's own."""
    seen = [
        one
        for one in case.held.addresses
        if one.link == LINK and not (one.ip.version == 6 and one.ip.is_link_local)
    ]
    missing, _, extra = split(wants, seen)
    for one in missing:
        assert isinstance(one.object, Address)
        users = case.owners.users(one.object.ip)
        yield Finding(
            what="missing",
            subject=told(one.object),
            object=one.object,
            owner=one.owner,
            shared=tuple(user for user in users if user != one.owner),
            consequence=words.no_address(one.object),
            mend=add(one),
        )
    for address in extra:
        owner = case.owners.of_ip(address.ip)
        yield Finding(
            what="extra",
            subject=told(address),
            object=address,
            owner=owner,
            consequence=words.extra_address(address, owner),
            mend=remove(address),
        )


def _sets(case: Case) -> Iterator[Finding]:
    wants, entries = case.wanted(IpSet), case.wanted(SetEntry)
    by_set: dict[str, list[Wanted]] = {}
    for one in entries.values():
        assert isinstance(one.object, SetEntry)
        by_set.setdefault(one.object.set, []).append(one)
    own = [one for one in case.held.sets if isinstance(one, IpSet) and one.name in OUR_SETS]
    missing, both, _ = split(wants, own)
    gone: set[str] = set()
    for one in missing:
        assert isinstance(one.object, IpSet)
        gone.add(one.object.name)
        inside = by_set.get(one.object.name, [])
        yield Finding(
            what="missing",
            subject=told(one.object),
            object=one.object,
            owner=one.owner,
            shared=tuple(dict.fromkeys(each.owner for each in inside)),
            consequence=words.no_set(one.object, len(inside)),
            mend=(*add(one), *(line for each in inside for line in add(each))),
        )
    for want, seen in both:
        assert isinstance(want.object, IpSet)
        odd = differing(seen, want.object, ("type", "family"))
        if seen.maxelem < want.object.maxelem:
            odd += differing(seen, want.object, ("maxelem",))
        odd += differing(seen, want.object, ("timeout",))
        if odd:
            gone.add(seen.name)
            inside = by_set.get(seen.name, [])
            yield Finding(
                what="wrong",
                subject=told(want.object),
                object=want.object,
                owner=want.owner,
                shared=tuple(dict.fromkeys(each.owner for each in inside)),
                differs=odd,
                consequence=words.wrong_set(want.object, seen),
                mend=made_anew(case, want, seen, inside),
            )
    yield from _entries(case, entries, gone)


def _entries(
    case: Case, entries: dict[tuple[object, ...], Wanted], gone: set[str]
) -> Iterator[Finding]:
    seen = [
        one
        for one in case.held.sets
        if isinstance(one, SetEntry) and one.set in OUR_SETS and one.set not in gone
    ]
    missing, both, extra = split(entries, seen)
    for want, have in both:
        one = want.object
        assert isinstance(one, SetEntry)
        if have.nomatch:
            yield Finding(
                what="wrong",
                subject=told(one),
                object=one,
                owner=want.owner,
                differs=differing(have, one, ("nomatch",)),
                consequence=words.entry(one, missing=True),
                mend=(*remove(have), *add(want)),
            )
    for want in missing:
        one = want.object
        assert isinstance(one, SetEntry)
        if one.set not in gone:
            yield Finding(
                what="missing",
                subject=told(one),
                object=one,
                owner=want.owner,
                shared=tuple(
                    user
                    for user in (case.owners.users(one.ip) if one.ip is not None else ())
                    if user.partition(":")[0] != want.owner.partition(":")[0]
                ),
                consequence=words.entry(one, missing=True),
                mend=add(want),
            )
    for entry in extra:
        if entry.ip is not None and refused(entry.ip):
            continue  # kube-proxy leaves these; no packet has such a destination
        yield Finding(
            what="extra",
            subject=told(entry),
            object=entry,
            owner=_entry_owner(case, entry),
            consequence=words.entry(entry, missing=False),
            mend=remove(entry),
        )


def _entry_owner(case: Case, entry: SetEntry) -> str:
    if entry.ip is None:
        protocol = next((name for name in ("TCP", "UDP") if name in entry.set), "")
        return case.owners.of_node_port(entry.port, protocol) or case.owners.of_health_port(
            entry.port
        )
    if entry.protocol is None:
        return case.owners.of_ip(entry.ip)
    return case.owners.at(entry.protocol, entry.ip, entry.port)


def _servers(case: Case) -> Iterator[Finding]:
    held = case.held.servers
    reals: dict[tuple[object, ...], list[RealServer]] = {}
    for one in held:
        if isinstance(one, RealServer):
            reals.setdefault(_server_key(one), []).append(one)
    wants = case.wanted(VirtualServer)
    seen = [one for one in held if isinstance(one, VirtualServer)]
    missing, both, extra = split(wants, seen)
    behind: dict[tuple[object, ...], list[Wanted]] = {}
    for want in case.wanted(RealServer).values():
        assert isinstance(want.object, RealServer)
        behind.setdefault(_server_key(want.object), []).append(want)
    bound = {
        one.object.ip for one in case.wanted(Address).values() if isinstance(one.object, Address)
    }
    for want in missing:
        assert isinstance(want.object, VirtualServer)
        yield Finding(
            what="missing",
            subject=told(want.object),
            object=want.object,
            owner=want.owner,
            consequence=words.no_server(want.object, want.object.ip in bound),
            mend=(
                *add(want),
                *(line for one in behind.get(want.object.key, ()) for line in add(one)),
            ),
        )
    for want, one in both:
        assert isinstance(want.object, VirtualServer)
        if odd := differing(one, want.object, _SERVER):
            yield Finding(
                what="wrong",
                subject=told(want.object),
                object=want.object,
                owner=want.owner,
                differs=odd,
                consequence=words.wrong_server(one, want.object),
                mend=set_to(want, one),
            )
        yield from _reals(case, want, behind.get(one.key, []), reals.get(one.key, []))
    yield from _extra_servers(case, extra, reals)


def _server_key(real: RealServer) -> tuple[object, ...]:
    server = VirtualServer(protocol=real.protocol, ip=real.vip, port=real.vport, fwmark=real.fwmark)
    return server.key


def _extra_servers(
    case: Case,
    extra: list[VirtualServer],
    reals: dict[tuple[object, ...], list[RealServer]],
) -> Iterator[Finding]:
    excluded = [ip_network(one, strict=False) for one in case.config.ipvs.exclude_cidrs]
    bound = {int(one.ip) for one in case.held.addresses if one.link == LINK}
    own = {int(ip) for ip in case.node.addresses}
    for server in extra:
        if server.fwmark or any(_within(server.ip, one) for one in excluded):
            continue  # others'
        owner = case.owners.at(server.protocol, server.ip, server.port)
        virtual = int(server.ip) in bound and int(server.ip) not in own
        if (
            virtual
            and case.config.node_port_addresses
            and case.owners.of_node_port(server.port, server.protocol)
        ):
            continue
        inside = reals.get(server.key, [])
        known = bool(owner) or virtual or int(server.ip) in own
        for real in inside:
            owner = owner or case.owners.of_ip(real.ip)
        yield Finding(
            what="extra",
            subject=told(server),
            object=server,
            owner=owner,
            consequence=words.extra_server(server, known, len(inside)),
            mend=remove(server),
        )


def _within(ip: IP, network: object) -> bool:
    return getattr(network, "version", 0) == ip.version and ip in network  # type: ignore[operator]


def _reals(
    case: Case, server: Wanted, wanted: list[Wanted], seen: list[RealServer]
) -> Iterator[Finding]:
    missing, both, extra = split({one.object.key: one for one in wanted}, seen)
    alive = [one for _, one in both if one.weight]
    for want in missing:
        one = want.object
        assert isinstance(one, RealServer)
        yield Finding(
            what="missing",
            subject=f"{told(one)}, behind {words.behind(one)}",
            object=one,
            owner=want.owner,
            consequence=words.no_real(one, len(alive)),
            mend=add(want),
        )
    for want, real in both:
        assert isinstance(want.object, RealServer)
        if odd := differing(real, want.object, _REAL):
            yield Finding(
                what="wrong",
                subject=f"{told(want.object)}, behind {words.behind(real)}",
                object=want.object,
                owner=want.owner,
                differs=odd,
                consequence=words.wrong_real(real, want.object),
                mend=set_to(want, real),
            )
    for real in extra:
        if real.protocol == "TCP" and real.weight == 0:
            continue  # it ends gracefully
        users = case.owners.users(real.ip)
        if _claimed(case, server, users):
            continue
        yield Finding(
            what="extra",
            subject=f"{told(real)}, behind {words.behind(real)}",
            object=real,
            owner=server.owner,
            consequence=words.extra_real(real, users[0] if users else ""),
            mend=remove(real),
        )


def _claimed(case: Case, server: Wanted, users: tuple[str, ...]) -> bool:
    """Whether it is an endpoint of another Service that wants the same virtual server: kube-proxy
    gives it the endpoints of all of them."""
    thing = server.object
    assert isinstance(thing, VirtualServer)
    rivals = [
        key for key, lines in case.plan.conflicts.items()
        if any(line.startswith(f"{thing.ip} {thing.protocol} {thing.port} ") for line in lines)
    ]  # fmt: skip
    texts = tuple(f"service {namespace}/{name}" for namespace, name in rivals)
    return any(user.partition(":")[0] in texts for user in users)
