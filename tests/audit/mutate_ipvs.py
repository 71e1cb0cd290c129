"""Changes to virtual and real servers, sets and addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import Persistence, RealServer, VirtualServer
from hairpin.state.links import Address, Link
from tests.audit.play import ANY, Mutant, Play, swap


def server(play: Play) -> Mutant | None:
    servers = play.case.held.servers
    at = play.pick(servers, VirtualServer)
    assert at is not None
    one = servers[at]
    assert isinstance(one, VirtualServer)
    owner = play.owner(one)
    verb = play.random.choice(("remove", "add", "alter"))
    if verb == "remove":
        kept = tuple(
            each
            for each in servers
            if each is not one
            and not (
                isinstance(each, RealServer)
                and (each.protocol, each.vip, each.vport) == (one.protocol, one.ip, one.port)
            )
        )
        return play.made("virtual-server", verb, one, owner, servers=kept)
    if verb == "add":
        new = msgspec.structs.replace(one, port=play.random.randint(10000, 29999))
        own = [ANY] if one.ip in play.case.node.addresses else [*play.case.owners.users(one.ip)]
        return play.made("virtual-server", verb, new, own, servers=(*servers, new))
    altered = play.random.choice(
        (
            {"scheduler": "lc"},
            {"persistence": None if one.persistence else Persistence(timeout=77)},
            {"persistence": Persistence(timeout=play.random.randint(1, 60))},
            {"one_packet": True},
            {"scheduler_flags": frozenset((1,))},
        )
    )
    new = msgspec.structs.replace(one, **altered)
    return play.made("virtual-server", verb, new, owner, servers=swap(servers, at, new))


def real(play: Play) -> Mutant | None:
    servers = play.case.held.servers
    at = play.pick(servers, RealServer)
    assert at is not None
    one = servers[at]
    assert isinstance(one, RealServer)
    owner = play.owner(one)
    verb = play.random.choice(("remove", "add", "alter"))
    if verb == "remove":
        return play.made("real-server", verb, one, owner, servers=swap(servers, at))
    if verb == "add":
        ip = ip_address(int(one.ip) + play.random.randint(50, 90))
        new = msgspec.structs.replace(one, ip=ip)
        return play.made("real-server", verb, new, owner, servers=swap(servers, at, one, new))
    altered = play.random.choice(
        ({"weight": 0}, {"weight": 7}, {"forwarding": "route"}, {"upper": 5})
    )
    new = msgspec.structs.replace(one, **altered)
    return play.made("real-server", verb, new, owner, servers=swap(servers, at, new))


def entry(play: Play) -> Mutant | None:
    sets = play.case.held.sets
    at = play.pick(sets, SetEntry)
    assert at is not None
    one = sets[at]
    assert isinstance(one, SetEntry)
    owner = play.owner(one)
    verb = play.random.choice(("remove", "add", "alter"))
    if verb == "remove":
        return play.made("set-entry", verb, one, owner, sets=swap(sets, at))
    if one.net is not None:
        new = msgspec.structs.replace(
            one, net=ip_network("198.18.0.0/15" if one.net.version == 4 else "2001:db8:9::/48")
        )
    elif one.protocol is None and one.ip is not None:
        new = msgspec.structs.replace(one, ip=ip_address(int(one.ip) + 100))
        owner = [*owner, ANY]
    else:
        new = msgspec.structs.replace(one, port=play.random.randint(10000, 29999))
        if one.ip is None:
            owner = [*owner, ANY]
    if verb == "add":
        return play.made("set-entry", verb, new, owner, sets=swap(sets, at, one, new))
    return play.made("set-entry", verb, new, owner, sets=swap(sets, at, new))


def ipset(play: Play) -> Mutant | None:
    sets = play.case.held.sets
    at = play.pick(sets, IpSet)
    assert at is not None
    one = sets[at]
    assert isinstance(one, IpSet)
    if play.random.random() < 0.5:
        kept = tuple(
            each
            for each in sets
            if each is not one and not (isinstance(each, SetEntry) and each.set == one.name)
        )
        return play.made("ipset", "remove", one, ["proxy"], sets=kept)
    other: Any = "hash:ip" if one.type != "hash:ip" else "hash:ip,port"
    new = IpSet(name=one.name, type=other, family="inet")
    kept = tuple(
        new if each is one else each
        for each in sets
        if not (isinstance(each, SetEntry) and each.set == one.name)
    )
    return play.made("ipset", "alter", new, ["proxy"], sets=kept)


def address(play: Play) -> Mutant | None:
    addresses = play.case.held.addresses
    bound = [at for at, one in enumerate(addresses) if one.link == "kube-ipvs0"]
    at = play.random.choice(bound)
    one = addresses[at]
    if play.random.random() < 0.6:
        return play.made("address", "remove", one, play.owner(one), addresses=swap(addresses, at))
    ip = ip_address(int(one.ip) + play.random.randint(5000, 6000))
    new = Address(link=one.link, ip=ip, prefix=one.prefix)
    return play.made("address", "add", new, [ANY], addresses=(*addresses, new))


def link(play: Play) -> Mutant | None:
    links = play.case.held.links
    at = next(at for at, one in enumerate(links) if one.name == "kube-ipvs0")
    if play.random.random() < 0.5:
        bound = tuple(one for one in play.case.held.addresses if one.link != "kube-ipvs0")
        return play.made(
            "link", "remove", links[at], ["proxy"], links=swap(links, at), addresses=bound
        )
    new = Link(name="kube-ipvs0", type="other", up=True)
    return play.made("link", "alter", new, ["proxy"], links=swap(links, at, new))
