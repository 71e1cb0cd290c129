"""Sets and their entries as ``ipset save`` prints them and ``ipset restore`` reads them.

The words of ipset 7.17 (ipset(8)).  ``initval``, the seed of a set's hash, is the kernel's own and
random, so it is not written; hashsize and bucketsize are what a set has that has not grown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from hairpin.model.address import IP, Network, ip, network
from hairpin.present.address import address_text, network_text
from hairpin.state.ipset import IpSet, SetEntry, SetFamily, SetType
from hairpin.state.ipvs import Protocol

_HASHSIZE, _BUCKETSIZE = 1024, 12  # the kernel's defaults (ip_set_hash_gen.h), and kube-proxy's
_ENTRY = re.compile(r"(?P<ip>[^,]+)(,(?P<protocol>[a-z]+):(?P<port>\d+)(,(?P<last>[^,]+))?)?")
_ENTRY_NUMBERS = ("timeout", "packets", "bytes", "skbmark", "skbprio", "skbqueue")
_PROTOCOLS: dict[str, Protocol] = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}


class IpsetError(ValueError):
    """A line that is not of our five types, and which one it is."""


def save(objects: Iterable[IpSet | SetEntry]) -> str:
    """Each set followed by its entries; sets by name, entries by address.

    Entries of a set that is not among them come last.
    """
    sets: list[IpSet] = []
    entries: dict[str, list[SetEntry]] = {}
    for one in objects:
        if isinstance(one, IpSet):
            sets.append(one)
        else:
            entries.setdefault(one.set, []).append(one)
    lines: list[str] = []
    for each in sorted(sets, key=lambda one: one.name):
        lines.append(create_line(each))
        lines += _add_lines(entries.pop(each.name, []))
    for _, rest in sorted(entries.items()):
        lines += _add_lines(rest)
    return "".join(f"{line}\n" for line in lines)


def create_line(thing: IpSet) -> str:
    """``create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 …``."""
    end = f" timeout {thing.timeout}" if thing.timeout else ""
    if thing.type == "bitmap:port":
        return f"create {thing.name} bitmap:port range 0-65535{end}"
    sizes = f"hashsize {_HASHSIZE} maxelem {thing.maxelem} bucketsize {_BUCKETSIZE}"
    return f"create {thing.name} {thing.type} family {thing.family or 'inet'} {sizes}{end}"


def entry_text(entry: SetEntry) -> str:
    """``10.96.1.1,tcp:80``: what follows the set's name."""
    if entry.ip is None:
        return str(entry.port)
    words = [address_text(entry.ip)]
    if entry.protocol is not None:
        words.append(f"{entry.protocol.lower()}:{entry.port}")
    if entry.ip2 is not None:
        words.append(address_text(entry.ip2))
    elif entry.net is not None:
        words.append(network_text(entry.net))
    return ",".join(words)


def parse(text: str) -> list[IpSet | SetEntry]:
    """The sets and entries of such lines, in their order.  Raises IpsetError with the number."""
    types: dict[str, SetType] = {}
    found: list[IpSet | SetEntry] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            match words[0], words[1:]:
                case "create", [name, kind, *options]:
                    made = _created(name, kind, options)
                    types[name] = made.type
                    found.append(made)
                case "add", [name, entry, *options]:
                    added = _added(name, types.get(name), entry)
                    found.append(_with(added, options))
                case _:
                    raise ValueError("neither create nor add")
        except ValueError as error:
            raise IpsetError(f"line {number}: {error}") from None
    return found


def _add_lines(entries: list[SetEntry]) -> Iterator[str]:
    for entry in sorted(entries, key=_order):
        end = " nomatch" if entry.nomatch else ""
        yield f"add {entry.set} {entry_text(entry)}{end}"


def _order(entry: SetEntry) -> tuple[int, int, int, str, str]:
    address = entry.ip
    version, number = (address.version, int(address)) if address is not None else (0, 0)
    last = entry.ip2 if entry.ip2 is not None else entry.net
    return version, number, entry.port, entry.protocol or "", str(last)


def _created(name: str, kind: str, options: list[str]) -> IpSet:
    if kind not in get_args(SetType):
        raise ValueError(f"no set of hairpin's is {kind}")
    known: Any = kind
    given = dict(zip(options[::2], options[1::2], strict=False))
    timeout = int(given.get("timeout", "0"))
    if known == "bitmap:port":
        return IpSet(name=name, type=known, maxelem=0, timeout=timeout)
    family: SetFamily = "inet6" if given.get("family") == "inet6" else "inet"
    most = int(given.get("maxelem", "65536"))
    return IpSet(name=name, type=known, family=family, maxelem=most, timeout=timeout)


def _with(entry: SetEntry, options: list[str]) -> SetEntry:
    """What ipset prints behind an entry: counters, a comment, what is left of its time.

    Raises ValueError for any other word.
    """
    if not options:
        return entry
    words = iter(options)
    nomatch = False
    for word in words:
        if word == "nomatch":
            nomatch = True
        elif word == "comment":
            break  # up to the end of the line, of any words
        elif word not in _ENTRY_NUMBERS or not re.fullmatch(r"[\w/:]+", next(words, "")):
            raise ValueError(f"{word!r} says nothing of an entry")
    return msgspec.structs.replace(entry, nomatch=nomatch) if nomatch else entry


def _added(name: str, kind: SetType | None, text: str) -> SetEntry:
    if kind is None:
        raise ValueError(f"no set {name} was created before")
    if kind == "bitmap:port":
        return SetEntry(set=name, port=int(text))
    found = _ENTRY.fullmatch(text)
    if found is None or (found["protocol"] or "tcp") not in _PROTOCOLS:
        raise ValueError(f"{text!r} is no entry")
    last = found["last"]
    ip2: IP | None = ip(last) if last and kind.endswith(",ip") else None
    net: Network | None = network(last) if last and kind.endswith(",net") else None
    return SetEntry(
        set=name,
        ip=ip(found["ip"]),
        protocol=_PROTOCOLS[found["protocol"]] if found["protocol"] else None,
        port=int(found["port"] or 0),
        ip2=ip2,
        net=net,
    )
