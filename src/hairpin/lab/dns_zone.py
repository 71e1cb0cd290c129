"""The names of a cluster: Snapshot to facts, facts to answers.  Pure.

Kubernetes DNS-Based Service Discovery 1.1.0 (github.com/kubernetes/dns, docs/specification.md).
The facts cross from the lab process to the one that answers, so they are small and plain; the
table of names is built there, when the first question comes.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

import msgspec

from hairpin.lab import dns_wire as wire
from hairpin.lab.dns_wire import Edns, Host, Message, Name, Pointer, Record, Soa, Srv
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot

DOMAIN = "cluster.local"
TTL = 5
"""Seconds an answer may be kept: what CoreDNS's kubernetes plugin says by default."""

_ROOT = wire.name(DOMAIN)
_SVC, _POD = (b"svc", *_ROOT), (b"pod", *_ROOT)
_SERVER = (b"ns", b"dns", *_ROOT)
_MAILBOX = (b"hostmaster", *_ROOT)
_TIMES = (7200, 1800, 86400, TTL)  # refresh, retry, expire, minimum: nobody copies this zone
_CHASE_LIMIT = 8  # CNAMEs that are followed
_UDP_SIZE = 1232  # bytes that pass every link unfragmented (dnsflagday.net/2020)
_OUTSIDE = "a lab has no way to other name servers"
_EDE, _NOT_AUTHORITATIVE = 15, 20  # RFC 8914

Port = tuple[str, str, int]
"""A port's name, protocol and number."""


class Target(msgspec.Struct, frozen=True, array_like=True):
    """An endpoint of a headless Service."""

    label: str  # its hostname, or its address with dashes
    ip: str
    ports: tuple[Port, ...]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What names say of one Service."""

    namespace: str
    name: str
    ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    targets: tuple[Target, ...] = ()
    external: str = ""


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """All that the zone follows from."""

    namespaces: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()


def facts(snapshot: Snapshot) -> Facts:
    """What an admitted Snapshot says about names."""
    slices: dict[Key, list[EndpointSlice]] = {}
    for piece in snapshot.endpointslices.values():
        if piece.service_key:
            slices.setdefault(piece.service_key, []).append(piece)
    spaces = {key[0] for kind in (snapshot.pods, snapshot.services) for key in kind}
    return Facts(
        tuple(sorted(spaces | {"default"})),
        tuple(_entry(one, slices.get(one.key, [])) for one in snapshot.services.values()),
    )


def _entry(service: Service, slices: list[EndpointSlice]) -> Entry:
    namespace, name = service.key
    if service.spec.type == "ExternalName":
        return Entry(namespace, name, external=service.spec.external_name)
    if service.headless:
        return Entry(namespace, name, targets=_targets(slices))
    ports = tuple((port.name, port.protocol, port.port) for port in service.spec.ports)
    return Entry(namespace, name, tuple(str(ip) for ip in service.virtual_ips), ports)


def _targets(slices: list[EndpointSlice]) -> tuple[Target, ...]:
    found: dict[tuple[str, str], list[Port]] = {}
    for piece in slices:
        ports = [(port.name, port.protocol, port.port) for port in piece.ports if port.port]
        for endpoint in piece.endpoints:
            if endpoint.conditions.ready is not False and endpoint.addresses:
                ip = str(endpoint.addresses[0])
                label = endpoint.hostname or ip.replace(".", "-").replace(":", "-")
                known = found.setdefault((label, ip), [])
                known += [port for port in ports if port not in known]
    return tuple(Target(label, ip, tuple(ports)) for (label, ip), ports in sorted(found.items()))


class Zone:
    """Answers questions about the cluster's names."""

    def __init__(self, said: Facts) -> None:
        self._namespaces = frozenset(one.encode() for one in said.namespaces)
        self._data: dict[Name, dict[wire.Data, None]] = {}
        self._inner: set[Name] = set()  # names that others are below
        self._turn = 0
        self._put((b"dns-version", *_ROOT), wire.text(b"1.1.0"))
        self._inner |= {_ROOT, _SVC, _POD}
        for space in self._namespaces:
            self._inner |= {(space, *_SVC), (space, *_POD)}
        for entry in said.entries:
            self._add(entry)

    def answer(self, asked: Message) -> Message:
        """The response to a message; its size is the sender's to mind (``size_limit``)."""
        edns = Edns(_UDP_SIZE) if asked.edns else None
        question = asked.question
        if asked.opcode:
            return _response(asked, wire.NOTIMP, edns)
        if question is None:
            return _response(asked, wire.FORMERR, edns)
        if asked.edns and asked.edns.version:
            return _response(asked, wire.BADVERS, edns)
        if question.klass not in (wire.IN, wire.ANY):
            return _response(asked, wire.REFUSED, edns)
        found, missing = self._resolve(question.name, question.kind)
        response = _response(asked, wire.NXDOMAIN if missing else wire.NOERROR, edns)
        if not found:
            return _without_answer(response, question.name)
        data = [one.data for one in found if isinstance(one.data, Srv)]
        extra = [Record(one.target, TTL, host) for one in data for host in self._hosts(one.target)]
        return msgspec.structs.replace(
            response,
            answers=tuple(found),
            additional=tuple(dict.fromkeys(extra)),
        )

    def _resolve(self, asked: Name, kind: int) -> tuple[list[Record], bool]:
        """The records, following aliases, and whether there is no such name."""
        found: list[Record] = []
        owner = asked
        for _ in range(_CHASE_LIMIT):
            data = self._lookup(wire.lower(owner))
            if data is None:
                # What an alias leads to outside is not said here to be or not to be.
                return found, not found or wire.lower(owner)[-2:] == _ROOT
            alias = next((d for d in data if d.kind == wire.CNAME), None)
            if not isinstance(alias, Pointer) or kind in (wire.CNAME, wire.ANY):
                chosen = [d for d in data if kind in (d.kind, wire.ANY)]
                found += [Record(owner, TTL, d) for d in self._in_turn(chosen)]
                break
            found.append(Record(owner, TTL, alias))
            owner = alias.name
        return found, False

    def _in_turn(self, data: list[wire.Data]) -> list[wire.Data]:
        """Each time another first, as CoreDNS's loadbalance does."""
        if len(data) < 2:
            return data
        self._turn += 1
        at = self._turn % len(data)
        return data[at:] + data[:at]

    def _lookup(self, owner: Name) -> list[wire.Data] | None:
        """What is known of a name; [] where names are below it or of another type, None: none."""
        known = self._data.get(owner)
        if known is not None:
            return list(known)
        if owner[1:2] and owner[1] in self._namespaces and owner[2:] == _POD:
            host = _dashed(owner[0])
            return [host] if host else None
        return [] if not owner or owner in self._inner else None

    def _hosts(self, owner: Name) -> list[Host]:
        return [d for d in self._data.get(wire.lower(owner), ()) if isinstance(d, Host)]

    def _add(self, entry: Entry) -> None:
        own: Name = (entry.name.encode(), entry.namespace.encode(), *_SVC)
        self._inner.add(own)
        if entry.external:
            self._put(own, Pointer(wire.CNAME, wire.name(entry.external)))
        for ip in entry.ips:
            self._put(own, Host(ip_address(ip)))
            self._put(_reverse(ip), Pointer(wire.PTR, own))
        for port in entry.ports:
            self._port(own, port, own)
        for target in entry.targets:
            host: Name = (target.label.encode(), *own)
            self._put(own, Host(ip_address(target.ip)))
            self._put(host, Host(ip_address(target.ip)))
            self._put(_reverse(target.ip), Pointer(wire.PTR, host))
            for port in target.ports:
                self._port(own, port, host)

    def _port(self, service: Name, port: Port, target: Name) -> None:
        """Only ports with a name have SRV records."""
        name, protocol, number = port
        if name:
            owner = (b"_" + name.encode(), b"_" + protocol.lower().encode(), *service)
            self._put(owner, Srv(0, 100, number, target))

    def _put(self, owner: Name, data: wire.Data) -> None:
        key = wire.lower(owner)
        self._data.setdefault(key, {})[data] = None
        for start in range(1, len(key)):
            if key[start:] in self._inner:
                break
            self._inner.add(key[start:])


def size_limit(asked: Message) -> int:
    """Bytes that a datagram in answer to this may have."""
    if asked.edns is None:
        return wire.PLAIN_SIZE
    return max(wire.PLAIN_SIZE, min(asked.edns.size, _UDP_SIZE))


def refusal(data: bytes) -> bytes | None:
    """The answer to bytes that are no message: FORMERR, or None where nobody can be meant."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    number = int.from_bytes(data[:2], "big")
    return wire.render(Message(id=number, question=None, response=True, code=wire.FORMERR))


def _response(asked: Message, code: int, edns: Edns | None) -> Message:
    return Message(
        id=asked.id,
        question=asked.question,
        response=True,
        opcode=asked.opcode,
        authoritative=code in (wire.NOERROR, wire.NXDOMAIN),
        recursion_desired=asked.recursion_desired,
        recursion_available=True,  # else resolvers look for another server
        code=code,
        edns=edns,
    )


def _without_answer(response: Message, asked: Name) -> Message:
    """A name or type that is not: the zone's SOA says how long that may be kept."""
    inside = wire.lower(asked)[-2:] == _ROOT
    soa = Record(_ROOT if inside else (), TTL, Soa(_SERVER, _MAILBOX, (1, *_TIMES)))
    edns = response.edns
    if edns and response.code == wire.NXDOMAIN and not inside:
        said = _NOT_AUTHORITATIVE.to_bytes(2, "big") + _OUTSIDE.encode()
        edns = msgspec.structs.replace(edns, options=((_EDE, said),))
    return msgspec.structs.replace(response, authority=(soa,), edns=edns)


def _dashed(label: bytes) -> Host | None:
    """``10-0-0-7`` or ``fd00--7`` as its address."""
    try:
        text = label.decode("ascii")
        if text.count("-") == 3 and "--" not in text:
            return Host(IPv4Address(text.replace("-", ".")))
        return Host(IPv6Address(text.replace("-", ":")))
    except (AddressValueError, UnicodeDecodeError):
        return None


def _reverse(ip: str) -> Name:
    return wire.name(ip_address(ip).reverse_pointer)
