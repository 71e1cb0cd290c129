"""Who asks whom: what a person writes for the two ends of a connection, as namespace and address.

Wrong words cost a LabError that says what there is instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import msgspec

from hairpin.lab import names
from hairpin.lab.session import LabError
from hairpin.model.address import IP, ip
from hairpin.model.metadata import Key
from hairpin.model.service import Service, ServicePort
from hairpin.model.snapshot import Snapshot

_SERVICES = ("svc", "service", "services")
_NODES = ("node", "nodes", "no")
_PODS = ("pod", "pods", "po")
_SHOWN = 8  # names in an error; the rest are counted
_FROM = "FROM is a Pod, node/NAME, outside or here"
_TO = "TO is svc/NAME[:PORT], a Pod, node/NAME:PORT or IP:PORT"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as a person says it.

    ``source``: ``foo``, ``ns/foo``, ``node/NAME``, ``outside``.  ``to``: ``svc/web``,
    ``svc/web:http``, a Pod, ``node/NAME``, ``IP:PORT``.  What is not said follows from the target.
    """

    source: str
    to: str
    protocol: str = ""  # TCP, UDP, SCTP, ICMP
    port: str = ""
    source_port: int = 0
    size: int = 0  # bytes that the request has at least
    ipv6: bool = False
    namespace: str = "default"
    timeout: float = 1.0  # seconds
    watch: bool = True  # False: only connect


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """What the connection is to."""

    ip: IP
    port: int
    protocol: str
    service: Service | None = None


def netns_of(snapshot: Snapshot, word: str, namespace: str) -> str:
    """The network namespace of what a person named as FROM.  Raises LabError."""
    if word == "outside":
        return names.OUTSIDE
    kind, rest = _kind(word)
    if kind in _SERVICES:
        raise _wrong(f"{word} sends nothing: a Service is only asked", _FROM)
    if kind in _NODES:
        _node(snapshot, rest)
        return names.node_netns(rest)
    key = _key(word, namespace)
    pod = snapshot.pods.get(key)
    if pod is None:
        known = _listed(_short(snapshot.pods, namespace))
        raise _wrong(f"there is no Pod {_said(key)}", f"there are: {known}" if known else _FROM)
    if pod.spec.host_network:
        return names.node_netns(pod.spec.node_name)
    return names.pod_netns(*key)


def aim_of(snapshot: Snapshot, question: Question) -> Aim:
    """The address, port and protocol that TO means.  Raises LabError."""
    word, protocol = question.to, question.protocol.upper()
    if protocol == "ICMP" and question.port:
        raise _wrong("a ping has no port", "leave --port out")
    kind, rest = _kind(word)
    if kind in _SERVICES:
        return _service(snapshot, rest, protocol, question)
    address, given = _address(word, question.ipv6)
    if address is None:
        name, _, given = (rest if kind in _NODES else word).partition(":")
        if kind in _NODES:
            address = _node_address(snapshot, name, question.ipv6)
        else:
            address = _pod_address(snapshot, name, question)
    port = question.port or given
    if protocol == "ICMP":
        return Aim(ip=address, port=0, protocol=protocol)
    number = _port(snapshot, address, port)
    if not number:
        word = word.removesuffix(":")
        again = f"hairpin trace {question.source} {word} --port 8080"
        raise _wrong(f"{word}: to which port?", again)
    return Aim(ip=address, port=number, protocol=protocol or "TCP")


def _wrong(what: str, remedy: str) -> LabError:
    return LabError(what, remedy, exit_code=2)


def _kind(word: str) -> tuple[str, str]:
    """A kind that stands before a slash, as kubectl takes it in any case, and the rest."""
    first, slash, rest = word.partition("/")
    return (first.lower(), rest) if slash else ("", word)


def _key(word: str, namespace: str) -> Key:
    """A namespace and name from ``foo``, ``pod/foo`` or ``namespace/foo``."""
    kind, rest = _kind(word)
    if not kind:
        return namespace, rest
    return (namespace, rest) if kind in _PODS else (word.partition("/")[0], rest)


def _said(key: Key) -> str:
    """As it is said again: with a namespace where it is not the usual one."""
    return (key[1] or '""') if key[0] == "default" else f"{key[0]}/{key[1]}"


def _short(keys: Iterable[Key], namespace: str) -> list[str]:
    """Those of the namespace first, by their short names."""
    ordered = sorted(keys, key=lambda key: (key[0] != namespace, key))
    return [name if space == namespace else f"{space}/{name}" for space, name in ordered]


def _listed(known: list[str]) -> str:
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more


def _service(snapshot: Snapshot, word: str, protocol: str, question: Question) -> Aim:
    name, _, own = word.partition(":")
    namespace, _, short = name.rpartition("/")
    key = (namespace or question.namespace, short)
    service = snapshot.services.get(key)
    if service is None:
        known = _listed(_short(snapshot.services, question.namespace))
        raise _wrong(f"there is no Service {_said(key)}", f"there are: {known}" if known else _TO)
    version = 6 if question.ipv6 else None
    address = next((one for one in service.virtual_ips if version in (None, one.version)), None)
    if address is None:
        one_more = bool(version and service.virtual_ips)
        remedy = "ipFamilyPolicy: PreferDualStack gives it one; or trace" if one_more else "trace"
        family = " of IPv6" if version else ""
        raise _wrong(f"Service {name} has no cluster IP{family}", f"{remedy} to one of its Pods")
    if protocol == "ICMP":
        return Aim(ip=address, port=0, protocol=protocol, service=service)
    wanted = question.port or own
    found = _service_port(service, wanted, protocol)
    if found is None and not wanted.isdigit():
        has = ", ".join(f"{one.name or one.port}/{one.protocol}" for one in service.spec.ports)
        raise _wrong(f"Service {name} has no port {wanted or protocol}", f"it has: {has}")
    number = found.port if found else _number(wanted)
    chosen = protocol or (found.protocol if found else "TCP")
    return Aim(ip=address, port=number, protocol=chosen, service=service)


def _service_port(service: Service, wanted: str, protocol: str) -> ServicePort | None:
    """By name or number; a port of another protocol is asked as the person says."""
    ports = [one for one in service.spec.ports if not wanted or wanted in (one.name, str(one.port))]
    return next((one for one in ports if one.protocol == protocol), ports[0] if ports else None)


def _address(word: str, six: bool) -> tuple[IP | None, str]:
    """``10.0.0.1:80``, ``[fd00::1]:80``, ``localhost:80``, or an address alone; else None.

    Raises LabError for what is meant as an address and is none, or nobody's.
    """
    text, port = word, ""
    if word.startswith("["):
        text, closed, port = word[1:].partition("]")
        if not closed or port[:1] not in ("", ":"):
            raise _wrong(f"{word} is no address", "like [fd00::1]:80")
        port = port.removeprefix(":")
    elif word.count(":") == 1:
        text, _, port = word.partition(":")
    if text == "localhost":
        return ip("::1" if six else "127.0.0.1"), port
    try:
        found = ip(text)
    except ValueError:
        if word.startswith("[") or (text and not text.strip("0123456789.")):
            raise _wrong(f"{text} is no IP address", _TO) from None
        return None, ""
    meant = ip_address(str(found))
    if meant.is_unspecified or meant.is_multicast or str(found) == "255.255.255.255":
        raise _wrong(f"{found} is nobody's own address", _TO)
    return found, port


def _node(snapshot: Snapshot, name: str) -> None:
    if ("", name) not in snapshot.nodes:
        known = _listed([one for _, one in snapshot.nodes])
        raise _wrong(f'there is no node "{name}"', f"there are: {known}")


def _node_address(snapshot: Snapshot, name: str, six: bool) -> IP:
    _node(snapshot, name)
    for one in snapshot.nodes["", name].status.addresses:
        if one.type == "InternalIP" and (":" in one.address) == six:
            return ip(one.address)
    raise _no_family(f"node {name}", six)


def _pod_address(snapshot: Snapshot, word: str, question: Question) -> IP:
    key = _key(word, question.namespace)
    pod = snapshot.pods.get(key)
    if pod is None:
        known = list(_in_slices(snapshot, key))
        if not known:
            raise _wrong(f"there is no Pod {_said(key)}", _hint(snapshot, word, key))
    else:
        known = [one.ip for one in pod.status.pod_ips]
    for address in known:
        if (address.version == 6) == question.ipv6:
            return address
    raise _no_family(f"Pod {_said(key)}", question.ipv6)


def _hint(snapshot: Snapshot, word: str, key: Key) -> str:
    """What was most likely meant by a name that is no Pod's."""
    if key in snapshot.services:
        return f"the Service is svc/{word}"
    if ("", word) in snapshot.nodes:
        return f"the node is node/{word}:PORT"
    return _TO


def _no_family(who: str, six: bool) -> LabError:
    version, other = ("6", "without -6 it is IPv4") if six else ("4", "-6 takes its IPv6 address")
    return _wrong(f"{who} has no address of IPv{version}", other)


def _in_slices(snapshot: Snapshot, key: Key) -> Iterator[IP]:
    """The addresses of a Pod that only EndpointSlices tell of, as on a real node."""
    for piece in snapshot.endpointslices.values():
        for one in piece.endpoints:
            ref = one.target_ref
            if ref is None or (ref.kind, ref.name) != ("Pod", key[1]):
                continue
            if key[0] in (ref.namespace, piece.metadata.namespace):
                yield from one.addresses


def _port(snapshot: Snapshot, address: IP, wanted: str) -> int:
    """A port by its number, or by the name that a Pod with that address has for it.

    Nothing said is its first one; 0 where it has none.
    """
    ports = [
        port
        for pod in snapshot.pods.values()
        if any(one.ip == address for one in pod.status.pod_ips)
        for container in pod.spec.containers
        for port in container.ports
    ]
    if not wanted:
        return ports[0].container_port if ports else 0
    named = next((one for one in ports if one.name == wanted), None)
    return named.container_port if named else _number(wanted)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) < 65536:
        raise _wrong(f'"{text}" is no port', "a number from 1 to 65535")
    return int(text)
