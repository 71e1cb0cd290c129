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

from collections.abc import Iterable, Iterator, Mapping

from hairpin.model.address import from_packed
from hairpin.netlink import ipvs_format as form
from hairpin.netlink import ipvs_seen
from hairpin.netlink import message as wire
from hairpin.netlink.generic import GENERIC
from hairpin.state.ipvs import Forwarding, Protocol, RealServer, VirtualServer

Name = tuple[Protocol, bytes, int]
"""Protocol, address and port of a virtual server; hashing an ``ipaddress`` value is dear."""

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
    lines: Iterable[str], servers: Mapping[Name, VirtualServer]
) -> dict[Name, list[RealServer]]:
    """The real servers of ``servers``, from the lines of /proc/net/ip_vs.

    A virtual server of which it does not tell all, or nothing, is not among the keys.  Written
    out for speed: 10 000 virtual servers with four real ones each are 50 000 lines.  Raises
    WireError.
    """
    found: dict[Name, list[RealServer]] = {}
    own: list[RealServer] = []
    name: Name = ("TCP", b"", 0)
    server: VirtualServer | None = None
    methods: dict[str, tuple[Forwarding, int] | None] = {}
    for line in lines:
        if line[:5] == "  -> ":
            if server is None:
                continue
            end = 13 if line[5] != "[" else 46
            rest = line[end + 5 : end + 25]  # forwarding and weight, where that has six digits
            if line[end + 25] != " ":
                method = _method(line[end + 5 :])
            elif rest in methods:
                method = methods[rest]
            else:
                method = methods[rest] = _method(rest)
            if method is None:
                found.pop(name)
                server = None
                continue
            own.append(
                RealServer(
                    protocol=server.protocol,
                    vip=server.ip,
                    vport=server.port,
                    ip=from_packed(_packed(line[5:end])),
                    port=int(line[end + 1 : end + 5], 16),
                    weight=method[1],
                    forwarding=method[0],
                )
            )
        else:
            named = _name(line)
            # One may come twice when others go while the table is read.
            server = None if named is None or named in found else servers.get(named)
            if server is not None and named is not None:
                name, own = named, []
                found[name] = own
    return found


def name_of(server: VirtualServer) -> Name:
    """How ``real_servers`` calls a virtual server that has an address."""
    return server.protocol, server.ip.packed, server.port


def _name(line: str) -> Name | None:
    """None for a heading, and for a firewall mark."""
    words = line.split(None, 2)
    protocol = _PROTOCOLS.get(words[0]) if len(words) == 3 else None
    if protocol is None:
        return None
    address, _, port = words[1].rpartition(":")
    return protocol, _packed(address), int(port, 16)


def _packed(text: str) -> bytes:
    """Eight hexadecimal digits, or IPv6 in full in brackets."""
    try:
        return bytes.fromhex(text if text[:1] != "[" else text[1:-1].replace(":", ""))
    except ValueError:
        raise wire.WireError(f"the address {text} in /proc/net/ip_vs") from None


def _method(rest: str) -> tuple[Forwarding, int] | None:
    """Forwarding and weight; None for a tunnel, whose type is not told."""
    words = rest.split()
    forwarding = _FORWARDING.get(words[0])
    return None if forwarding in (None, "tunnel") else (forwarding, int(words[1]))
