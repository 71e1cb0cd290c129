"""What ``hairpin trace`` asks of a lab: who, whom, and what was seen.

The fault catalogue, ``break`` and ``quiz`` use it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from hairpin.claims.ends import Aim, Question, aim_of, netns_of
from hairpin.lab import names
from hairpin.model.address import from_builtin
from hairpin.model.decode import decode_objects
from hairpin.model.snapshot import Snapshot
from hairpin.trace.case import target_of
from hairpin.trace.observation import Astray, Observation, Tried
from hairpin.trace.reason import reason
from hairpin.trace.values import Trace

if TYPE_CHECKING:
    from hairpin.claims.runner import Caller

_DNS = 53
_KINDS = ("nodes", "pods", "services", "endpoints")

__all__ = [
    "Aim", "Question", "aim_of", "concerned", "observe", "probe_of", "snapshot_of", "traced",
]  # fmt: skip


def snapshot_of(client: Caller) -> Snapshot:
    """The lab's objects now."""
    shown = [one for kind in _KINDS for one in client.call("get", kind=kind)]
    return Snapshot(decode_objects(msgspec.json.encode(shown)))


def observe(client: Caller, snapshot: Snapshot, question: Question) -> Observation:
    """Makes the connection and gives what was seen.  Raises LabError."""
    netns = netns_of(snapshot, question.source, question.namespace)
    aim = aim_of(snapshot, question)
    probe, parts = probe_of(aim, question), concerned(snapshot, aim)
    answer = client.call("trace", netns=netns, probe=probe, watch=question.watch, **parts)
    found: Observation = msgspec.convert(answer, Observation, dec_hook=from_builtin)
    return msgspec.structs.replace(found, astray=tuple(map(_in_words, found.astray)))


def _in_words(one: Astray) -> Astray:
    """With the shell lines that would put it right."""
    from hairpin.present.shell import commands

    return msgspec.structs.replace(one, shell=tuple(commands(one.change, one.change.netns)))


def probe_of(aim: Aim, question: Question) -> dict[str, Any]:
    """The connection as a ``lab.probe.Probe``'s fields."""
    probe = {
        "ip": str(aim.ip),
        "port": aim.port,
        "protocol": aim.protocol,
        "timeout": question.timeout,
        "source_port": question.source_port,
        "size": question.size,
    }
    if aim.port == _DNS and aim.protocol == "UDP" and not question.size:
        probe["dns"] = True
    if aim.port == _DNS and aim.protocol == "TCP":
        probe["path"] = None  # a server of DNS takes HTTP for the beginning of a long query
    if aim.ip.is_loopback:
        probe["source"] = str(aim.ip)
    return probe


def traced(client: Caller, question: Question) -> Trace:
    """Makes the connection and says what became of it.  Raises LabError."""
    found = observe(client, snapshot_of(client), question)
    # Readiness may have changed meanwhile: what counts is how it is now.
    return reason(found, snapshot_of(client), question.source, question.to)


def concerned(snapshot: Snapshot, aim: Aim) -> dict[str, Any]:
    """Which ports, Pods and Services may have a part in it."""
    tried = Tried(netns="", ip=aim.ip, port=aim.port, protocol=aim.protocol, outcome="")  # type: ignore[arg-type]
    target = target_of(tried, snapshot)
    ports = {aim.port}
    pods: set[str] = set()
    owners = ["proxy"]
    if target is not None:
        owners.append(f"service {'/'.join(target.service.key)}")
        numbers = (one.target_port for one in target.service.spec.ports)
        ports |= {one for one in numbers if isinstance(one, int)}
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
