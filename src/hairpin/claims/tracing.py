"""What ``hairpin trace`` asks of a lab: who, whom, and what was seen.

The fault catalogue, ``break`` and ``quiz`` use it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from hairpin.lab import names
from hairpin.lab.session import LabError
from hairpin.model.address import IP, from_builtin, ip
from hairpin.model.decode import decode_objects
from hairpin.model.service import Service, ServicePort
from hairpin.model.snapshot import Snapshot
from hairpin.trace.case import target_of
from hairpin.trace.observation import Observation, Tried
from hairpin.trace.reason import reason
from hairpin.trace.values import Trace

if TYPE_CHECKING:
    from hairpin.claims.runner import Caller

_KINDS = ("nodes", "pods", "services", "endpoints")
_SERVICES = ("svc", "service", "services")
_NODES = ("node", "nodes", "no")


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


def snapshot_of(client: Caller) -> Snapshot:
    """The lab's objects now."""
    shown = [one for kind in _KINDS for one in client.call("get", kind=kind)]
    return Snapshot(decode_objects(msgspec.json.encode(shown)))


def observe(client: Caller, snapshot: Snapshot, question: Question) -> Observation:
    """Makes the connection and gives what was seen.  Raises LabError."""
    netns = netns_of(snapshot, question.source, question.namespace)
    aim = aim_of(snapshot, question)
    probe = {
        "ip": str(aim.ip),
        "port": aim.port,
        "protocol": aim.protocol,
        "timeout": question.timeout,
        "source_port": question.source_port,
        "size": question.size,
    }
    if aim.ip.is_loopback:
        probe["source"] = str(aim.ip)
    concerned = _concerned(snapshot, aim)
    answer = client.call("trace", netns=netns, probe=probe, watch=question.watch, **concerned)
    return msgspec.convert(answer, Observation, dec_hook=from_builtin)


def traced(client: Caller, question: Question) -> Trace:
    """Makes the connection and says what became of it.  Raises LabError."""
    found = observe(client, snapshot_of(client), question)
    # Readiness may have changed meanwhile: what counts is how it is now.
    return reason(found, snapshot_of(client), question.source, question.to)


def netns_of(snapshot: Snapshot, word: str, namespace: str) -> str:
    """The network namespace of what a person named.  Raises LabError."""
    if word == "outside":
        return names.OUTSIDE
    kind, slash, name = word.partition("/")
    if slash and kind in _NODES:
        if ("", name) not in snapshot.nodes:
            known = ", ".join(one for _, one in snapshot.nodes)
            raise LabError(f"there is no node {name}", f"there are: {known}", exit_code=2)
        return names.node_netns(name)
    key = _split(word, namespace)
    pod = snapshot.pods.get(key)
    if pod is None:
        known = ", ".join(n if ns == "default" else f"{ns}/{n}" for ns, n in snapshot.pods)
        raise LabError(f"there is no Pod {word}", f"there are: {known}", exit_code=2)
    if pod.spec.host_network:
        return names.node_netns(pod.spec.node_name)
    return names.pod_netns(*key)


def aim_of(snapshot: Snapshot, question: Question) -> Aim:
    """The address, port and protocol that TO means.  Raises LabError."""
    word, port = question.to, question.port
    protocol = (question.protocol).upper()
    kind, slash, rest = word.partition("/")
    if slash and kind in _SERVICES:
        return _service(snapshot, rest, port, protocol, question)
    address, given = _address(word)
    port = port or given
    if address is None:
        name = rest if slash and kind in _NODES else word
        name, _, own = name.partition(":")
        port = port or own
        address = (
            _node(snapshot, name, question.ipv6)
            if slash and kind in _NODES
            else _pod(snapshot, name, question)
        )
    if protocol == "ICMP":
        return Aim(ip=address, port=0, protocol=protocol)
    number = _number(port) if port else _port_of(snapshot, address)
    if not number:
        raise LabError(f"{word}: to which port?", f"hairpin trace {question.source} {word} --port "
                       "8080", exit_code=2)  # fmt: skip
    return Aim(ip=address, port=number, protocol=protocol or "TCP")


def _split(word: str, namespace: str) -> tuple[str, str]:
    """A Pod's namespace and name from ``foo``, ``pod/foo`` or ``namespace/foo``."""
    first, slash, name = word.partition("/")
    if not slash:
        return namespace, word
    return (namespace, name) if first in ("pod", "pods", "po") else (first, name)


def _service(
    snapshot: Snapshot, word: str, port: str | None, protocol: str, question: Question
) -> Aim:
    name, _, own = word.partition(":")
    namespace, _, short = name.rpartition("/")
    key = (namespace or question.namespace, short)
    service = snapshot.services.get(key)
    if service is None:
        known = ", ".join(n if ns == "default" else f"{ns}/{n}" for ns, n in snapshot.services)
        raise LabError(f"there is no Service {name}", f"there are: {known}", exit_code=2)
    version = 6 if question.ipv6 else None
    address = next((one for one in service.virtual_ips if version in (None, one.version)), None)
    if address is None:
        family = " of IPv6" if version else ""
        raise LabError(
            f"Service {name} has no cluster IP{family}", "trace to one of its Pods", exit_code=2
        )
    wanted = port or own
    if protocol == "ICMP":
        return Aim(ip=address, port=0, protocol=protocol, service=service)
    found = _service_port(service, wanted, protocol)
    if found is None and not (wanted and wanted.isdigit()):
        has = ", ".join(f"{one.name or one.port}/{one.protocol}" for one in service.spec.ports)
        raise LabError(
            f"Service {name} has no port {wanted or protocol}", f"it has: {has}", exit_code=2
        )
    number = found.port if found else _number(wanted or "0")
    chosen = protocol or (found.protocol if found else "TCP")
    return Aim(ip=address, port=number, protocol=chosen, service=service)


def _service_port(service: Service, wanted: str, protocol: str) -> ServicePort | None:
    """By name or number; a port of another protocol is asked as the person says."""
    ports = [one for one in service.spec.ports if not wanted or wanted in (one.name, str(one.port))]
    return next((one for one in ports if one.protocol == protocol), ports[0] if ports else None)


def _address(word: str) -> tuple[IP | None, str]:
    """``10.0.0.1:80``, ``[fd00::1]:80``, or an address alone."""
    text, port = word, ""
    if word.startswith("["):
        text, _, port = word[1:].partition("]")
        port = port.removeprefix(":")
    elif word.count(":") == 1:
        text, _, port = word.partition(":")
    try:
        return ip(text), port
    except ValueError:
        return None, ""


def _node(snapshot: Snapshot, name: str, six: bool) -> IP:
    node = snapshot.nodes.get(("", name))
    if node is None:
        known = ", ".join(one for _, one in snapshot.nodes)
        raise LabError(f"there is no node {name}", f"there are: {known}", exit_code=2)
    for one in node.status.addresses:
        if one.type == "InternalIP" and (":" in one.address) == six:
            return ip(one.address)
    raise LabError(f"node {name} has no such address", exit_code=2)


def _pod(snapshot: Snapshot, word: str, question: Question) -> IP:
    key = _split(word, question.namespace)
    pod = snapshot.pods.get(key)
    if pod is None:
        raise LabError(
            f"there is no Pod {word}",
            f"a Service is svc/{word}, an address IP:PORT, a node node/{word}:PORT",
            exit_code=2,
        )
    for one in pod.status.pod_ips:
        if (one.ip.version == 6) == question.ipv6:
            return one.ip
    raise LabError(f"Pod {word} has no such address", exit_code=2)


def _port_of(snapshot: Snapshot, address: IP) -> int:
    """The first port that the Pod with that address says it has, or a Service's; 0 for none."""
    for pod in snapshot.pods.values():
        if any(one.ip == address for one in pod.status.pod_ips):
            for container in pod.spec.containers:
                for port in container.ports:
                    return port.container_port
    return 0


def _number(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise LabError(f'"{text}" is no port', "a number from 1 to 65535", exit_code=2)
    return int(text)


def _concerned(snapshot: Snapshot, aim: Aim) -> dict[str, Any]:
    """Which ports, Pods and Services may have a part in it."""
    tried = Tried(netns="", ip=aim.ip, port=aim.port, protocol=aim.protocol, outcome="")  # type: ignore[arg-type]
    target = target_of(tried, snapshot)
    ports = {aim.port}
    pods: set[str] = set()
    owners = ["proxy"]
    if target is not None:
        owners.append(f"service {'/'.join(target.service.key)}")
        for piece in snapshot.endpointslices.values():
            if piece.service_key == target.service.key:
                ports |= {one.port for one in piece.ports if one.port}
                for one in piece.endpoints:
                    if one.target_ref is not None and one.target_ref.kind == "Pod":
                        pods.add(names.pod_netns(piece.metadata.namespace, one.target_ref.name))
    for key, pod in snapshot.pods.items():
        if any(one.ip == aim.ip for one in pod.status.pod_ips):
            pods.add(names.pod_netns(*key))
    return {"ports": sorted(ports - {0}), "pods": sorted(pods), "owners": owners}
