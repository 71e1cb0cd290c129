"""Differences made true in an order in which nothing that is ready is ever unreachable.

First all that is added, then what goes.  Within each, so that whoever comes after a crash can
tell what is ours (``ownership``): the entries of sets come before the virtual servers that they
tell of, and go after them.  A virtual address becomes reachable last, when all behind it stands.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.errors import KernelError
from hairpin.mode.ownership import Mark, mark, marks_of, tells_of_bound
from hairpin.mode.wants import Differences, put_change
from hairpin.model.address import IP
from hairpin.state.change import Change, Object
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, Timeouts, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import Chain, Jump
from hairpin.state.sysctl import Sysctl

_T = TypeVar("_T")

# Lower comes first.  Rules match sets, so they come after these; before the servers, so that the
# first packet that a server takes is masqueraded as it should be.
_PUT: dict[type, int] = {
    Link: 0, Sysctl: 1, Timeouts: 2, IpSet: 3, SetEntry: 4, Chain: 5, Jump: 5,
    VirtualServer: 6, RealServer: 7, Address: 8,
}  # fmt: skip
_BOUND = 9  # KUBE-IPVS-IPS: refuses what is not in the other sets
_FILTER = 5
_LAST = 10
_SERVERS = 6
_GONE: dict[type, int] = {
    RealServer: 0, VirtualServer: 1, Address: 3, SetEntry: 4, Jump: 5, Chain: 6, IpSet: 7, Link: 8,
}  # fmt: skip
_UNBOUND = 2

_PIECE = 1024  # of what is missing, at a time: two batches of netlink messages

_BEHIND_ENTRY = "waits for the set entry that marks it as ours"
_BEHIND_SERVER = "waits for the virtual server that it marks as ours to go"


def apply(kernel: Kernel, differences: Differences, *, chains_last: bool = False) -> list[Failed]:
    """Applies all that can be; gives what is not so.  Does not raise for the kernel.

    ``chains_last`` is for chains that another mode's rules are in, which serve until they go.
    """
    failed: list[Failed] = []
    puts = _by_rank(differences.puts, lambda one: _put_rank(one.object))
    gone = _by_rank(differences.removals, lambda one: _gone_rank(one.object))
    # One program per family for all of iptables.
    filters = [change for rank in (5, 6) for change in gone.pop(rank, [])]
    if filters:
        puts.setdefault(_FILTER, []).extend(filters)
    if chains_last and _FILTER in puts:
        puts[_LAST] = puts.pop(_FILTER)
    servers = puts.pop(_SERVERS + 1, [])
    if servers:
        puts.setdefault(_SERVERS, []).extend(servers)
    missing = _by_rank(differences.missing, lambda one: _put_rank(one.object))
    if chains_last and _FILTER in missing:
        missing[_LAST] = missing.pop(_FILTER)
    if behind := missing.pop(_SERVERS + 1, []):
        missing.setdefault(_SERVERS, []).extend(behind)
    unmarked: set[Mark] = set()
    for rank in sorted({*puts, *missing}):
        changes, absent = puts.get(rank, []), missing.get(rank, [])
        if rank == _SERVERS and unmarked:
            changes = [*changes, *map(put_change, absent)]
            changes, absent = _held_back(changes, unmarked, failed), []
        refused = send(kernel, changes)
        for start in range(0, len(absent), _PIECE):
            refused += send(kernel, [put_change(one) for one in absent[start : start + _PIECE]])
        failed += refused
        if rank == _PUT[SetEntry]:
            unmarked = {found for one in refused if (found := _mark(one.change.object)) is not None}
    _remove(kernel, gone, failed)
    return failed


def send(kernel: Kernel, changes: Sequence[Change]) -> list[Failed]:
    """``Kernel.apply`` for which a way in that is blocked altogether is a failure of each."""
    if not changes:
        return []
    try:
        return kernel.apply(changes)
    except OSError as error:
        why = KernelError.of(error)
        return [Failed(change, why) for change in changes]


def _remove(kernel: Kernel, gone: dict[int, list[Change]], failed: list[Failed]) -> None:
    servers = gone.pop(0, []) + gone.pop(1, [])
    refused = send(kernel, servers)
    failed += refused
    staying: set[Mark] = set()
    bound: set[IP] = set()
    for one in refused:
        if isinstance(one.change.object, VirtualServer):
            staying.update(marks_of(one.change.object))
            bound.add(one.change.object.ip)
    for rank in sorted(gone):
        changes = gone[rank]
        if staying:
            kept = []
            for change in changes:
                if _marks_any(change.object, staying, bound):
                    failed.append(Failed(change, KernelError(errno.EAGAIN, _BEHIND_SERVER)))
                else:
                    kept.append(change)
            changes = kept
        failed += send(kernel, changes)


def _held_back(
    changes: Iterable[Change], unmarked: set[Mark], failed: list[Failed]
) -> list[Change]:
    """Without new virtual servers that nothing would tell of, and what is behind them."""
    kept: list[Change] = []
    withheld = set()
    for change in changes:
        one = change.object
        if isinstance(one, VirtualServer) and change.verb == "add":
            if unmarked.isdisjoint(marks_of(one)):
                kept.append(change)
                continue
            withheld.add((one.protocol, one.ip, one.port))
        elif isinstance(one, RealServer) and (one.protocol, one.vip, one.vport) in withheld:
            pass
        else:
            kept.append(change)
            continue
        failed.append(Failed(change, KernelError(errno.EAGAIN, _BEHIND_ENTRY)))
    return kept


def _marks_any(one: Object, staying: set[Mark], bound: set[IP]) -> bool:
    if isinstance(one, Address):
        return one.ip in bound
    return _mark(one) in staying


def _mark(one: Object) -> Mark | None:
    return mark(one) if isinstance(one, SetEntry) else None


def _put_rank(one: Object) -> int:
    if isinstance(one, SetEntry) and tells_of_bound(one):
        return _BOUND
    return _PUT[type(one)]


def _gone_rank(one: Object) -> int:
    if isinstance(one, SetEntry) and tells_of_bound(one):
        return _UNBOUND
    return _GONE[type(one)]


def _by_rank(changes: Iterable[_T], rank: Callable[[_T], int]) -> dict[int, list[_T]]:
    found: dict[int, list[_T]] = {}
    for change in changes:
        number = rank(change)
        if number in found:
            found[number].append(change)
        else:
            found[number] = [change]
    return found
