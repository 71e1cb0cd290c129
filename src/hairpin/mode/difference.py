"""What the kernel holds of ours against what it should hold.

Kind by kind, as there may be a hundred thousand objects: those that are as wanted cost one look
into a table and are forgotten.  Objects that are not ours are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hairpin.mode import ownership
from hairpin.mode.ownership import DUMMY, Marks
from hairpin.mode.wants import Differences, Wants, put_change
from hairpin.netlink.ipvs_table import Group, ObjectKey
from hairpin.state.change import Change, Object, Wanted
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, Timeouts, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import Chain, Jump
from hairpin.state.sysctl import Sysctl

_NONE: Sequence[RealServer] = ()
_STRAY = "not wanted by any Service"


class Wishes:
    """What is wanted, by kind."""

    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self._by_kind: dict[type, list[Wanted]] = {}
        self._behind: dict[ObjectKey, list[RealServer]] | None = None
        by_kind = self._by_kind
        for one in wants:
            kind = type(one.object)
            if kind in by_kind:
                by_kind[kind].append(one)
            else:
                by_kind[kind] = [one]

    def real_servers(self, key: ObjectKey) -> Sequence[RealServer]:
        """Those behind the virtual server with that key; the same sequence whenever asked."""
        if self._behind is None:
            self._behind = self._grouped()
        return self._behind.get(key, _NONE)

    def _grouped(self) -> dict[ObjectKey, list[RealServer]]:
        found: dict[ObjectKey, list[RealServer]] = {}
        own: list[RealServer] = []
        vip = port = protocol = None
        for want in self.of(RealServer):
            one = want.object
            assert isinstance(one, RealServer)
            if one.vip is not vip or one.vport != port or one.protocol != protocol:
                vip, port, protocol = one.vip, one.vport, one.protocol
                own = found.setdefault(one.server_key, [])
            own.append(one)
        return found

    def of(self, kind: type) -> list[Wanted]:
        return self._by_kind.get(kind, [])

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind_of(wanted[0].object): len(wanted) for wanted in self._by_kind.values()}


def kind_of(one: Object) -> str:
    """As in JSON: ``virtual-server``."""
    return str(one.__struct_config__.tag)


def link(wishes: Wishes, seen: Link | None, found: Differences) -> None:
    """Of kube-ipvs0, whose kind and being down are ours and nothing else of it."""
    for want in wishes.of(Link):
        one = want.object
        assert isinstance(one, Link)
        if seen is None:
            found.puts.append(put_change(want))
        elif (seen.type, seen.up) != (one.type, one.up):
            found.puts.append(put_change(want, seen))


def settings(wishes: Wishes, seen: Iterable[Sysctl | Timeouts], found: Differences) -> None:
    """Of sysctls and timeouts; those that could not be read are set."""
    values = {one.key: one for one in seen}
    for want in (*wishes.of(Sysctl), *wishes.of(Timeouts)):
        before = values.get(want.object.key)
        if before is None or not _set_as(want.object, before):
            found.puts.append(put_change(want, before))


def addresses(wishes: Wishes, seen: Iterable[Address], found: Differences) -> None:
    """Of kube-ipvs0.  Link-local ones are the kernel's own."""
    there = [
        one
        for one in seen
        if one.link == DUMMY and not (one.ip.version == 6 and one.ip.is_link_local)
    ]
    _plain(wishes, Address, there, found)


def sets(wishes: Wishes, seen: Sequence[IpSet | SetEntry], found: Differences) -> None:
    """Of the sets that bear our names, and of what is in them."""
    made = wishes.of(IpSet)
    names = {want.object.key: want for want in made}
    own = [one for one in seen if isinstance(one, IpSet) and one.key in names]
    have = {one.key: one for one in own}
    for want in made:
        one = have.get(want.object.key)
        if one is None:
            found.puts.append(put_change(want))
        elif not _same_set(one, want.object):
            found.puts.append(put_change(want, one))
    called = {one.name for one in own}
    entries = [one for one in seen if isinstance(one, SetEntry) and one.set in called]
    _plain(wishes, SetEntry, entries, found)


def chains(
    wishes: Wishes, seen: Iterable[Chain | Jump], known: Collection[Object], found: Differences
) -> None:
    """Of the chains and jumps among ``known``, all those that we ever make."""
    keys = {one.key for one in known}
    have = {one.key: one for one in seen}
    for want in (*wishes.of(Chain), *wishes.of(Jump)):
        one = have.get(want.object.key)
        if one != want.object:
            found.puts.append(put_change(want, one))
    wanted = {want.object.key for kind in (Chain, Jump) for want in wishes.of(kind)}
    for key, one in have.items():
        if key in keys and key not in wanted:
            found.removals.append(_removal(wishes, one))


def servers(
    wishes: Wishes,
    seen: Mapping[ObjectKey, Group],
    marks: Callable[[], Marks],
    found: Differences,
) -> list[RealServer]:
    """Of virtual servers and what is behind them; ``marks`` tells those of ours from others'.

    Gives the real servers of wanted virtual servers that nobody wants: what becomes of these is
    a matter of their connections.
    """
    get = wishes.wants.finder
    strangers: list[VirtualServer] = []
    strays: list[RealServer] = []
    matched = behind_matched = 0
    for key, (server, behind) in seen.items():
        want = get(key)
        if want is None:
            strangers.append(server)
            continue
        matched += 1
        if not _same_server(server, want.object):
            found.puts.append(put_change(want, server))
        if behind is wishes.real_servers(key):
            behind_matched += len(behind)
        else:
            behind_matched += _behind(wishes, behind, strays, found)
    if matched < len(wishes.of(VirtualServer)):
        _missing(wishes, VirtualServer, [server for server, _ in seen.values()], found)
    if behind_matched < len(wishes.of(RealServer)):
        every = [one for _, behind in seen.values() for one in behind]
        _missing(wishes, RealServer, every, found)
    if strangers:
        mine = ownership.ours(marks(), flat(seen), strangers)
        found.removals += [_removal(wishes, server) for server in mine]
    return strays


def flat(seen: Mapping[ObjectKey, Group]) -> list[VirtualServer | RealServer]:
    """Each virtual server, followed by its real servers."""
    found: list[VirtualServer | RealServer] = []
    for server, behind in seen.values():
        found.append(server)
        found += behind
    return found


def _behind(
    wishes: Wishes, seen: Sequence[RealServer], strays: list[RealServer], found: Differences
) -> int:
    """The real servers of one wanted virtual server; gives how many of them are wanted."""
    matched = 0
    for one in seen:
        want = wishes.wants.get(one.key)
        if want is None:
            strays.append(one)
            continue
        matched += 1
        if not _same_server(one, want.object):
            found.puts.append(put_change(want, one))
    return matched


def _plain(wishes: Wishes, kind: type, seen: Sequence[Object], found: Differences) -> None:
    """Objects that are all key: each is there or is not."""
    get = wishes.wants.finder
    matched = 0
    for one in seen:
        if get(one.key) is not None:
            matched += 1
        else:
            found.removals.append(_removal(wishes, one))
    if matched < len(wishes.of(kind)):
        _missing(wishes, kind, seen, found)


def _missing(wishes: Wishes, kind: type, seen: Sequence[Object], found: Differences) -> None:
    have = {one.key for one in seen}
    wanted = wishes.of(kind)
    found.missing += [one for one in wanted if one.object.key not in have] if have else wanted


def _removal(wishes: Wishes, one: Object) -> Change:
    return Change(verb="remove", netns=wishes.wants.netns, object=one, reason=_STRAY)


def _same_server(one: Object, wanted: Object) -> bool:
    # Addresses, ports and protocol are the same by their key, and dear to compare.
    if isinstance(one, RealServer) and isinstance(wanted, RealServer):
        return (
            one.weight == wanted.weight
            and one.forwarding == wanted.forwarding
            and one.upper == wanted.upper
            and one.lower == wanted.lower
            and one.tunnel == wanted.tunnel
        )
    if isinstance(one, VirtualServer) and isinstance(wanted, VirtualServer):
        return (
            one.scheduler == wanted.scheduler
            and one.persistence == wanted.persistence
            and one.scheduler_flags == wanted.scheduler_flags
            and one.one_packet == wanted.one_packet
            and one.persistence_engine == wanted.persistence_engine
        )
    return False


def _same_set(one: IpSet, wanted: Object) -> bool:
    return isinstance(wanted, IpSet) and (one.type, one.family) == (wanted.type, wanted.family)


def _set_as(wanted: Object, seen: Object) -> bool:
    if isinstance(wanted, Timeouts) and isinstance(seen, Timeouts):
        pairs = (
            (wanted.tcp, seen.tcp), (wanted.tcp_fin, seen.tcp_fin), (wanted.udp, seen.udp),
        )  # fmt: skip
        return all(want in (0, have) for want, have in pairs)
    return wanted == seen
