"""The whole IPVS table at once, without counters: the fast way to read it.

Over netlink each virtual server's real servers are a dump of their own, with 260 bytes of counters
each: 1.1 s for 10 000 × 4 in the embedded kernel.  ``/proc/net/ip_vs`` tells them all in 0.17 s.
It does not tell everything of virtual servers, so that these come from one netlink dump
(0.06 s); of real servers it leaves out thresholds and the type of a tunnel, and of firewall marks
the family (ip_vs_info_seq_show in net/netfilter/ipvs/ip_vs_ctl.c).  It also passes over some
virtual servers when other namespaces have any, as it counts those on the way but not when it
starts anew for the next read (ip_vs_info_seq_next, ip_vs_info_array): what is missing is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from hairpin.model.address import from_packed
from hairpin.netlink import ipvs_format as form
from hairpin.netlink import ipvs_seen
from hairpin.netlink import message as wire
from hairpin.netlink.generic import GENERIC
from hairpin.state.ipvs import Forwarding, Protocol, RealServer, VirtualServer

ObjectKey = tuple[object, ...]
Group = tuple[VirtualServer, Sequence[RealServer]]
"""A virtual server and what is behind it."""
Expected = Callable[[ObjectKey], Sequence[RealServer]]
"""What is likely behind the virtual server with that key."""

_FORWARDING: dict[str, Forwarding] = {
    "Masq": "masquerade",
    "Local": "local",
    "Tunnel": "tunnel",
    "Route": "route",
    "Bypass": "bypass",
}
_PROTOCOLS: dict[str, Protocol] = {name: name for name in form.PROTOCOLS}


class Virtuals:
    """Reads the messages of one dump of virtual servers, in any order.

    Most of a message repeats from one to the next: what is between the port and the counters is
    looked up as it stands.  The first of each kind is read attribute by attribute.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, bytes], VirtualServer] = {}
        self._stats = 0  # how far from the end of a message its counters begin, below 0
        self._stats_head = b""

    def parse(self, body: bytes) -> VirtualServer:
        """A virtual server.  Raises WireError."""
        at = len(body) + self._stats
        if not self._stats or body[at : at + 4] != self._stats_head:
            return self._first(body)
        # All but address and port: what is before, between and after them.
        same = (body[:28], body[44:48], body[52:at])
        like = self._known.get(same)
        if like is None:
            return self._first(body)
        return VirtualServer(
            protocol=like.protocol,
            ip=from_packed(body[28:32] if len(like.ip.packed) == 4 else body[28:44]),
            port=body[48] << 8 | body[49],
            scheduler=like.scheduler,
            persistence=like.persistence,
            scheduler_flags=like.scheduler_flags,
            one_packet=like.one_packet,
            persistence_engine=like.persistence_engine,
        )

    def _first(self, body: bytes) -> VirtualServer:
        """Reads one by its attributes, and remembers how if it is laid out as is usual."""
        server = ipvs_seen.parse_virtual_server(body).server
        nest = body[GENERIC.size + 4 :]
        places = list(_attributes(nest))
        kinds = [kind for kind, _ in places]
        stats = next((at for kind, at in places if kind == form.SVC_ATTR_STATS), None)
        usual = [form.SVC_ATTR_AF, form.SVC_ATTR_PROTOCOL, form.SVC_ATTR_ADDR, form.SVC_ATTR_PORT]
        if kinds[:4] == usual and stats is not None and len(wire.attributes(body, 4)) == 1:
            at = GENERIC.size + 4 + stats
            self._stats, self._stats_head = at - len(body), body[at : at + 4]
            self._known[body[:28], body[44:48], body[52:at]] = server
        return server


def _attributes(data: bytes) -> Iterator[tuple[int, int]]:
    """Type and position of each attribute."""
    start = 0
    while len(data) - start >= 4:
        length, kind = wire.ATTRIBUTE.unpack_from(data, start)
        yield kind & ~wire.NLA_F_NESTED, start
        start += max((length + 3) & ~3, 4)


def real_servers(
    lines: Iterable[str],
    servers: Mapping[ObjectKey, VirtualServer],
    expected: Expected | None = None,
) -> dict[ObjectKey, Sequence[RealServer]]:
    """The real servers of ``servers``, from the lines of /proc/net/ip_vs; all by ``key``.

    A virtual server of which it does not tell all, or nothing, is not among the keys.  Where
    there are just those that are ``expected``, in any order, that very sequence is given: making
    values of 50 000 lines takes three times as long as comparing them as text.  Raises WireError.
    """
    found: dict[ObjectKey, Sequence[RealServer]] = {}
    own: list[str] = []
    key: ObjectKey = ()
    server: VirtualServer | None = None
    for line in lines:
        if line[:5] == "  -> ":
            own.append(line)
            continue
        if server is not None:
            _keep(found, key, server, own, expected)
        named = _key(line)
        # One may come twice when others go while the table is read.
        server = None if named is None or named in found else servers.get(named)
        if named is not None:
            key = named
        own = []
    if server is not None:
        _keep(found, key, server, own, expected)
    return found


def _keep(
    found: dict[ObjectKey, Sequence[RealServer]],
    key: ObjectKey,
    server: VirtualServer,
    lines: Sequence[str],
    expected: Expected | None,
) -> None:
    """Enters the real servers that lines tell of, if they tell all."""
    if expected is not None:
        known = expected(key)
        if len(known) == len(lines) and _are(lines, known):
            found[key] = known
            return
    made: list[RealServer] = []
    for line in lines:
        end = 13 if line[5] != "[" else 46
        like = _like(line[end : _end(line, end)])
        if like is None:
            return
        made.append(
            RealServer(
                protocol=server.protocol,
                vip=server.ip,
                vport=server.port,
                ip=from_packed(_packed(line[5:end])),
                port=like[0],
                weight=like[2],
                forwarding=like[1],
            )
        )
    found[key] = made


def _are(lines: Sequence[str], known: Sequence[RealServer]) -> bool:
    """Whether lines tell of just these; not found out where these differ in more than their
    addresses."""
    if not lines:
        return True
    first = lines[0]
    if first[5] != "[":
        end = 13
        told = {int(line[5:13], 16) for line in lines}
    else:
        end = 46
        told = {int(line[6:45].replace(":", ""), 16) for line in lines}
    stop = _end(first, end) + 1  # a longer weight that begins so is another
    rest = first[end:stop]
    like = _like(rest)
    if like is None or any(line[end:stop] != rest for line in lines):
        return False
    port, forwarding, weight = like
    for one in known:
        if (
            one.ip._ip not in told  # type: ignore[union-attr]  # int(ip) is a call more
            or one.port != port
            or one.weight != weight
            or one.forwarding != forwarding
            or one.upper
        ):
            return False
    return True


def _end(line: str, start: int) -> int:
    """Where a weight ends, that may have more than six digits; the port begins at ``start``."""
    return start + 25 if line[start + 25] == " " else line.index(" ", start + 25)


@lru_cache(maxsize=256)
def _like(text: str) -> tuple[int, Forwarding, int] | None:
    """Port, forwarding and weight; None for a tunnel, whose type is not told."""
    port, name, weight = text[1:].split()
    forwarding = _FORWARDING.get(name)
    return None if forwarding in (None, "tunnel") else (int(port, 16), forwarding, int(weight))


def _key(line: str) -> ObjectKey | None:
    """See ``VirtualServer.key``; None for a heading, and for a firewall mark."""
    words = line.split(None, 2)
    protocol = _PROTOCOLS.get(words[0]) if len(words) == 3 else None
    if protocol is None:
        return None
    address, _, port = words[1].rpartition(":")
    version = 4
    if address[:1] == "[":
        version, address = 6, address[1:-1].replace(":", "")
    return ("virtual-server", protocol, int(address, 16), version, int(port, 16), 0)


def _packed(text: str) -> bytes:
    """Eight hexadecimal digits, or IPv6 in full in brackets."""
    try:
        return bytes.fromhex(text if text[:1] != "[" else text[1:-1].replace(":", ""))
    except ValueError:
        raise wire.WireError(f"the address {text} in /proc/net/ip_vs") from None
