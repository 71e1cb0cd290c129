"""The request ``trace``: one real connection, with every link of the lab listened at meanwhile.

What was seen goes back as it is (``trace.observation``); what it means is found on the other side,
where thinking is cheaper than in the embedded kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from hairpin.kernel import observer
from hairpin.kernel.capture import Capture
from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.lab import names
from hairpin.lab.lab import Lab
from hairpin.lab.probe import Attempt, Probe, Seen
from hairpin.lab.session import LabError, Session
from hairpin.model.address import from_builtin, ip, to_builtin
from hairpin.state.change import Wanted
from hairpin.trace.observation import Observation, Place, Rewriting, Role, Tried
from hairpin.trace.packet import ICMP, NUMBERS

_AFTER = 0.03  # seconds that late packets get: the client's last ACK, an ICMP error
_MOST_PODS = 64
"""Pods that are all listened at; in a larger lab only those that the connection may concern."""


class Tracing:
    """Makes connections and watches them."""

    def __init__(self, reactor: Reactor, lab: Lab) -> None:
        self._reactor = reactor
        self._lab = lab

    def trace(self, session: Session, request: Mapping[str, Any]) -> None:
        """Makes the connection ``probe`` from ``netns`` and replies with an Observation.

        ``ports``: those that either end may have, after rewriting too.  ``pods``: the namespaces
        of Pods that may answer.  ``owners``: whose objects are told of.  ``watch`` False makes
        the connection and looks at nothing: what it costs to look is found by comparing.
        """
        probe = msgspec.convert(request["probe"], Probe, dec_hook=from_builtin)
        netns = str(request["netns"])
        handle = self._lab.namespaces.get(netns)
        watch = bool(request.get("watch", True))
        who = dict(self._places(netns, {str(one) for one in request.get("pods", ())}))
        ports = {int(one) for one in request.get("ports", ())}
        if probe.protocol != "ICMP":
            probe = _with_port(handle, probe)
            ports |= {probe.port, probe.source_port} - {0}
        nodes = [place for place, (role, _, _) in who.items() if role == "node"]
        before = {one: self._rewriting(one, probe, ports) for one in nodes} if watch else {}
        capture = Capture(self._reactor, NUMBERS.get(probe.protocol, ICMP), sorted(ports))
        if watch:
            capture.start({name: self._lab.namespaces.get(name) for name in who})

        def away() -> None:
            capture.stop()

        session.on_close = away
        local: list[tuple[str, int]] = []

        def done(seen: Seen) -> None:
            self._reactor.after(_AFTER if watch else 0, lambda: reply(seen))

        def reply(seen: Seen) -> None:
            tried = _tried(netns, probe, seen, local)
            sightings = tuple(capture.stop())
            around = {*ports, *(port for _, port in local)}
            found = Observation(
                tried=tried,
                places=tuple(self._look(who, before, probe, around)) if watch else (),
                sightings=sightings,
                wanted=tuple(self._wanted(request.get("owners", ()))) if watch else (),
                missed=capture.missed,
            )
            session.reply(msgspec.to_builtins(found, enc_hook=to_builtin))

        self._start(handle, probe, done, local)

    def _start(
        self,
        handle: Netns,
        probe: Probe,
        done: Callable[[Seen], None],
        local: list[tuple[str, int]],
    ) -> None:
        """A socket that cannot be made is an outcome too: this kernel has no such protocol."""
        try:
            attempt = Attempt(self._reactor, handle, probe, done)
            attempt.start()
        except OSError as error:
            done(Seen(outcome="error", error=str(error.strerror)))
            return
        if attempt.local is not None:
            local.append(attempt.local)

    def _places(self, netns: str, pods: set[str]) -> Iterator[tuple[str, tuple[Role, str, str]]]:
        """The namespaces that are looked at: role, name, and the node of a Pod."""
        for _, node in self._lab.snapshot.nodes:
            yield names.node_netns(node), ("node", node, "")
        yield names.OUTSIDE, ("outside", "outside", "")
        runs = self._lab.pods.runs
        known = {names.node_netns(node) for _, node in self._lab.snapshot.nodes} | {names.OUTSIDE}
        for key, run in runs.items():
            own = names.pod_netns(*key)
            if run.pod.spec.host_network or own in known:
                continue
            known.add(own)
            if len(runs) <= _MOST_PODS or own in pods or own == netns:
                node = names.node_netns(run.pod.spec.node_name)
                yield own, ("pod", "/".join(key), node)
        if netns not in known:  # somebody made it with ``ip netns add`` on a node
            yield netns, ("other", netns, "")

    def _rewriting(self, netns: str, probe: Probe, ports: set[int]) -> Rewriting:
        return observer.rewriting(
            self._lab.kernel, netns, probe.protocol, ports, probe.ip.version,
            self._lab.abilities.legacy_iptables,
        )  # fmt: skip

    def _look(
        self,
        who: dict[str, tuple[Role, str, str]],
        before: dict[str, Rewriting],
        probe: Probe,
        ports: set[int],
    ) -> Iterator[Place]:
        for netns, (role, name, node) in who.items():
            place = observer.place(self._lab.kernel, netns, role, name, node)
            if netns in before:
                after = self._rewriting(netns, probe, ports)
                place = msgspec.structs.replace(place, before=before[netns], after=after)
            yield place

    def _wanted(self, owners: Any) -> Iterator[Wanted]:
        for owner in owners:
            yield from self._lab.wanted_by(str(owner))


def _with_port(netns: Netns, probe: Probe) -> Probe:
    """With a port of the kernel's choice where none is said.

    Known beforehand, it tells the connection's packets from all others that go by.
    """
    if probe.source_port:
        return probe
    family = socket.AF_INET if probe.ip.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if probe.protocol == "UDP" else socket.SOCK_STREAM
    with netns.entered(), socket.socket(family, kind) as chooser:
        chooser.bind(("", 0))
        port = int(chooser.getsockname()[1])
    return msgspec.structs.replace(probe, source_port=port)


def _tried(netns: str, probe: Probe, seen: Seen, local: list[tuple[str, int]]) -> Tried:
    source, port = local[0] if local else (seen.source or "", probe.source_port)
    address = ip(source) if source not in ("", "0.0.0.0", "::") else None
    return Tried(
        netns=netns,
        ip=probe.ip,
        port=probe.port,
        protocol=probe.protocol,
        outcome=seen.outcome,
        source=address,
        source_port=port if probe.protocol != "ICMP" else 0,
        error=seen.error,
        status=seen.status,
        body=seen.body[:400],
        seconds=seen.seconds,
    )


_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"
_usual: list[str] = []


def limit_connections(most: int) -> None:
    """How many connections each namespace may track; 0 is as it was.  Raises LabError.

    A setting of the whole kernel, which only its first network namespace can change.
    """
    try:
        with open(_MAX, "r+", encoding="ascii") as setting:
            if not _usual:
                _usual.append(setting.read().strip())
            setting.seek(0)
            setting.write(str(most) if most else _usual[0])
    except OSError as error:
        raise LabError(f"this lab cannot set {_MAX}: {error.strerror}") from None
