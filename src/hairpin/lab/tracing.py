"""The request ``trace``: one real connection, with every link of the lab listened at meanwhile.

What was seen goes back as it is (``trace.observation``); what it means is found on the other side,
where thinking is cheaper than in the embedded kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from hairpin.kernel.reactor import Reactor
from hairpin.lab import names
from hairpin.lab.lab import Lab
from hairpin.lab.probe import Probe
from hairpin.lab.session import LabError, Session
from hairpin.lab.turns import raise_first
from hairpin.lab.watching import View, Watching, with_wanted
from hairpin.model.address import from_builtin, to_builtin
from hairpin.state.change import Wanted
from hairpin.trace.observation import Astray, Observation, Role

_MOST_ASTRAY = 200  # objects of one proxy; where more are gone, the first of them say enough
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
        netns = self._lab.namespaces.get(str(request["netns"])).name
        view = View(
            netns=netns,
            who=dict(self._places(netns, {str(one) for one in request.get("pods", ())})),
            legacy=self._lab.abilities.legacy_iptables,
        )
        watch = bool(request.get("watch", True))
        ports = {int(one) for one in request.get("ports", ())}
        watching = Watching(self._reactor, self._lab.kernel, view, probe, ports, watch=watch)
        session.on_close = watching.close

        def failed(error: Exception) -> None:
            watching.close()
            if isinstance(error, OSError | KeyError):  # a namespace
                said = f"what the connection passed has changed meanwhile: {error}"
                session.fail(said, "try again")
            else:
                session.guarded(lambda: raise_first([error]))

        def reply(found: Observation) -> None:
            if watch:
                found = with_wanted(found, self._wanted(request.get("owners", ())))
                if found.tried.outcome != "answered":
                    found = msgspec.structs.replace(found, astray=tuple(self._astray()))
            session.reply(msgspec.to_builtins(found, enc_hook=to_builtin))

        try:
            watching.start(reply, failed)
        except OSError:
            watching.close()
            raise

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

    def _astray(self) -> Iterator[Astray]:
        """What of the proxies' objects is not in the kernel as it should be."""
        for _, proxy in self._lab.proxies.by_node():
            for change in proxy.astray()[:_MOST_ASTRAY]:
                want = proxy.want(change.object.key)
                yield Astray(change=change, owner=want.owner if want is not None else "")

    def _wanted(self, owners: Any) -> Iterator[Wanted]:
        for owner in owners:
            yield from self._lab.wanted_by(str(owner))


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
