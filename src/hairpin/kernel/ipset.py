"""ipset: applying sets and their entries, reading them back."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.netlink import ipset as wire
from hairpin.netlink import ipset_format as form
from hairpin.netlink import ipset_seen
from hairpin.netlink.message import Request
from hairpin.state.change import Change, Object
from hairpin.state.ipset import IpSet, SetEntry, SetFamily, SetType

_MISSING = "this kernel has no ipset (ip_set is not loaded)"
# What nfnetlink says of a subsystem that is not there (nfnetlink_rcv_msg).
_NO_SUBSYSTEM = errno.EINVAL

_TRIES = 8  # dumps, while things change

MOST = wire.MOST_PACKED
"""How many Changes ``apply`` takes at most."""


class SetError(KernelError):
    """What ipset refused.  Its numbers are above every errno, and say other things by set type."""

    def __init__(self, code: int, text: str = "", symbol: str = "", words: str = "") -> None:
        super().__init__(code, text)
        self._symbol = symbol
        self.strerror = words or self.strerror

    @property
    def name(self) -> str:
        return self._symbol or super().name


def apply(socket: NetlinkSocket, changes: Sequence[Change]) -> tuple[dict[int, KernelError], int]:
    """Applies the first Changes: as many entries as follow each other, or sets, in the namespace
    of the first one.

    Gives the errors by position, and how many Changes it took, at most 512.  What is so already
    counts as done: an equal set made, an entry added that is there, an absent one removed.
    """
    some = changes[: socket.room(min(len(changes), MOST))]
    if isinstance(some[0].object, SetEntry):
        packed, count = wire.pack(some, some[0].netns)
        errors = socket.packed(packed, count)
        if not errors:
            return errors, count
        return {
            at: _explained_entry(error, some[at])
            for at, error in errors.items()
            if some[at].verb != "remove" or error.errno not in (errno.ENOENT, _NO_SUBSYSTEM)
        }, count
    count = 0
    while count < len(some) and _is_set(some[count], some[0].netns):
        count += 1
    return _apply_sets(socket, some[:count]), count


def observe(socket: NetlinkSocket, prefix: str = "") -> list[IpSet | SetEntry]:
    """The sets of the socket's namespace whose name begins so, each followed by its entries.

    Entries are in no order.  Without ipset in the kernel there are none.  Raises KernelError.
    """
    for _ in range(_TRIES):
        listing = ipset_seen.Listing(prefix)
        found: list[IpSet | SetEntry] = []
        try:
            for frame in socket.stream(wire.dump()):
                listing.take(frame.body, found)
            return found
        except KernelError as error:
            if error.errno == _NO_SUBSYSTEM:
                return []
            if error.errno != errno.EAGAIN:
                raise
    raise KernelError(errno.EAGAIN, f"changed during each of {_TRIES} dumps")


def _is_set(change: Change, netns: str) -> bool:
    return isinstance(change.object, IpSet) and change.netns == netns


def _apply_sets(socket: NetlinkSocket, changes: Sequence[Change]) -> dict[int, KernelError]:
    errors: dict[int, KernelError] = {}
    sent: list[tuple[int, Request]] = []
    for at, change in enumerate(changes):
        try:
            sent.append((at, _request(socket, change)))
        except KernelError as error:
            errors[at] = error
    refusals = socket.batch([one for _, one in sent])
    there: dict[str, IpSet] | None = None
    for (at, _), refused in zip(sent, refusals, strict=True):
        change = changes[at]
        why = refused
        if change.verb == "remove" and why and why.errno in (errno.ENOENT, _NO_SUBSYSTEM):
            why = None
        elif why and why.errno == errno.EEXIST:
            there = _there(socket) if there is None else there
            why = _comparison(change.object, there)
        if why is not None:
            errors[at] = _named(why, f"set {change.object.key[1]}", "")
    return errors


def _request(socket: NetlinkSocket, change: Change) -> Request:
    wanted = change.object
    assert isinstance(wanted, IpSet)
    if change.verb == "remove":
        return wire.destroy(wanted.name)
    return wire.create(wanted, _revision(socket, wanted.type, wanted.family))


def _revision(socket: NetlinkSocket, type: SetType, family: SetFamily | None) -> int:
    """The latest revision that both the kernel and the program ``ipset`` know.

    Remembered with the socket.  Raises KernelError.
    """
    name = f"ipset {type} {family}"
    known = socket.families.get(name)
    if known is None:
        answer = socket.ask([wire.ask_type(type, family)])[0]
        if isinstance(answer, KernelError):
            if answer.errno == _NO_SUBSYSTEM:
                raise KernelError(errno.EOPNOTSUPP, _MISSING)
            raise _named(answer, f"set type {type}", type)
        first, last = ipset_seen.parse_type(answer.body)
        known = socket.families[name] = max(first, min(last, form.REVISIONS[type]))
    return known


def _there(socket: NetlinkSocket) -> dict[str, IpSet]:
    """The sets of the socket's namespace by name, but those that state has no word for."""
    listing = ipset_seen.Listing()
    found: list[IpSet | SetEntry] = []
    for frame in socket.dump(wire.dump(entries=False)):
        listing.take(frame.body, found)
    return {thing.name: thing for thing in found if isinstance(thing, IpSet)}


def _comparison(wanted: Object, there: Mapping[str, IpSet]) -> KernelError | None:
    """Nothing where the set that is there is as wanted."""
    assert isinstance(wanted, IpSet)
    seen = there.get(wanted.name)
    if seen is None:
        how = "of another type"
    elif (seen.type, seen.family) != (wanted.type, wanted.family):
        how = f"of type {seen.type}" + (f" and family {seen.family}" if seen.family else "")
    elif seen.maxelem != wanted.maxelem:
        how = f"with maxelem {seen.maxelem}"
    elif seen.timeout:
        how = f"whose entries go after {seen.timeout} s"
    else:
        return None
    return KernelError(errno.EEXIST, f"set {wanted.name} is there, {how}, and cannot be changed")


def _explained_entry(error: KernelError, change: Change) -> KernelError:
    entry = change.object
    assert isinstance(entry, SetEntry)
    if error.errno == errno.ENOENT:
        return KernelError(errno.ENOENT, f"no set {entry.set}")
    if error.errno == _NO_SUBSYSTEM:
        return KernelError(errno.EOPNOTSUPP, _MISSING)
    return _named(error, f"{entry} in set {entry.set}", "bitmap" if entry.ip is None else "hash")


def _named(error: KernelError, tried: str, type: str) -> KernelError:
    """An error of ipset's own with its symbol and words; the kernel gives a number only."""
    code = error.errno or errno.EIO
    if code < form.FIRST_ERROR:
        return error if error.text else KernelError(code, tried)
    own = form.BITMAP_ERRORS if type.startswith("bitmap") else form.HASH_ERRORS
    symbol, words = form.ERRORS.get(code) or own.get(code) or ("", "")
    return SetError(code, error.text or tried, symbol, words)
