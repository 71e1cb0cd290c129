"""The Pods that run: which have to start or to end by what the objects say, and how that is done.

How one of them runs is ``lab.workloads``, how it ends in its own time ``lab.life``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import msgspec

from hairpin.kernel.reactor import Reactor
from hairpin.lab import life, names, resolution
from hairpin.lab.dns_zone import facts
from hairpin.lab.echo import EchoServers
from hairpin.lab.impair import Impairments
from hairpin.lab.namespaces import Namespaces, kill_all_in
from hairpin.lab.ports import Selectors
from hairpin.lab.spent import Spent
from hairpin.lab.turns import Stage, kept, raise_first
from hairpin.lab.workloads import PodRun
from hairpin.model.address import IP
from hairpin.model.metadata import Key, Ref
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Snapshot
from hairpin.source.implied import DNS_SERVICE
from hairpin.source.rollout import leaving


class Pods:
    """All Pods of a lab that run."""

    def __init__(
        self,
        reactor: Reactor,
        namespaces: Namespaces,
        impairments: Impairments,
        spent: Spent,
        on_change: Callable[[], None],
        *,
        served: Callable[[], bool],
    ) -> None:
        """``on_change``: called when readiness may have changed, or a Pod on its way out has
        ended.  ``served``: whether this kernel can serve Services.
        """
        self.runs: dict[Key, PodRun] = {}
        self._reactor = reactor
        self._namespaces = namespaces
        self._impairments = impairments
        self._spent = spent
        self._on_change = on_change
        self._served = served
        self._echo: EchoServers | None = None
        self._endings = life.Endings(reactor, self._ended)
        self._over: dict[Key, PodRun] = {}  # on their way out, and nothing of them runs any more

    def gone(self, admitted: Snapshot) -> list[Key]:
        """Those that have to end at once: they are no more, or have to start anew."""
        return [key for key, run in self.runs.items() if _must_end(run, admitted)]

    def due(self, admitted: Snapshot) -> bool:
        """Whether Pods have to be ended or started for it."""
        if any(_must_end(run, admitted) or run.unserved for run in self.runs.values()):
            return True
        return any(
            not self.runs[key].terminating
            if leaving(pod) and key in self.runs
            else pod.status.pod_ip is not None and key not in self.runs
            for key, pod in admitted.pods.items()
        )

    def readiness(self) -> dict[Key, bool]:
        """Which Pods are ready; nobody hears that of those on a node that is lost."""
        lost = self._impairments.lost
        return {
            key: run.ready and run.pod.spec.node_name not in lost for key, run in self.runs.items()
        }

    def ended(self) -> list[Ref]:
        """The Pods on their way out that have ended, until they are gone from here too."""
        # A Pod of that name may have come in the meantime.
        self._over = {key: run for key, run in self._over.items() if self.runs.get(key) is run}
        return [run.pod.ref for run in self._over.values()]

    def end(self, keys: Collection[Key]) -> None:
        """Ends Pods at once.  Raises OSError, and can be called again then."""
        runs = [self.runs[key] for key in keys]
        for run in runs:
            self._endings.forget(run.pod.key)
            self._impairments.forget_pod(run.pod.key, run.pod.spec.node_name)
            run.end()
        kill_all_in(run.netns for run in runs if not run.pod.spec.host_network)
        for run in runs:
            if run.pod.spec.host_network:
                self._namespaces.clear_out(names.pod_netns(*run.pod.key))
        for key in keys:  # not before all is done: what failed in between is done over
            del self.runs[key]

    def begin_endings(self, admitted: Snapshot) -> None:
        """Begins to end the Pods that are marked to go, or ends them sooner than was said."""
        places = {
            node.metadata.name: self._namespaces.get(names.node_netns(node.metadata.name))
            for node in admitted.nodes.values()
        }
        self._endings.follow(admitted.pods.values(), self.runs, places)

    def start(self, admitted: Snapshot) -> Iterator[Stage]:
        """Starts the Pods that have an address and do not run; their namespaces are there.

        Raises OSError or LabError at the end, for the first that could not be.
        """
        new = [
            pod
            for key, pod in admitted.pods.items()
            if key not in self.runs and pod.status.pod_ip and not leaving(pod)
        ]
        dns = self._nameserver(admitted)
        errors: list[Exception] = []
        for number, pod in enumerate(new):
            with self._spent.on("starting Pods"), kept(errors):
                self._start(pod, dns)
            yield Stage("starting Pods", number, len(new))
        raise_first(errors)

    def serve(self, admitted: Snapshot) -> Iterator[Stage]:
        """Makes the built-in servers listen where the objects say now.

        Raises OSError at the end, for the first that could not be.
        """
        selectors = Selectors(admitted.services.values())
        errors: list[Exception] = []
        for number, run in enumerate(list(self.runs.values())):
            with self._spent.on("built-in servers"), kept(errors):
                run.pod = admitted.pods.get(run.pod.key, run.pod)  # it may have got an address more
                run.serve(selectors)
            yield Stage("starting servers", number, len(self.runs))
        raise_first(errors)

    def say_names(self, admitted: Snapshot) -> None:
        """Tells the cluster's DNS what names there are now, if any Pod could ask."""
        if self.runs:
            with self._spent.on("names"):
                self._servers().say_names(msgspec.json.encode(facts(admitted)))

    def _start(self, pod: Pod, dns: IP | None) -> None:
        name = names.pod_netns(*pod.key)
        node = self._namespaces.get(names.node_netns(pod.spec.node_name))
        netns = node if pod.spec.host_network else self._namespaces.get(name)
        hostname = resolution.hostname(pod)
        files = {"/etc/hostname": f"{hostname}\n", **resolution.files(pod, hostname, dns)}
        sandbox = self._namespaces.furnish(name, netns, hostname, files)
        echo = self._servers()
        run = PodRun(self._reactor, pod, netns, node, sandbox, echo, self._on_change)
        self.runs[pod.key] = run
        run.start()

    def _nameserver(self, admitted: Snapshot) -> IP | None:
        service = admitted.services.get(DNS_SERVICE)
        return resolution.nameserver(service, admitted.pods.values(), served=self._served())

    def _servers(self) -> EchoServers:
        if self._echo is None:
            self._echo = EchoServers(self._reactor, self._servers_gone)
        return self._echo

    def _servers_gone(self) -> None:
        """The process of the built-in servers has ended: somebody killed it."""
        for run in self.runs.values():
            run.forget_servers()
        self._on_change()

    def _ended(self, key: Key) -> None:
        """A Pod on its way out has ended."""
        if key in self.runs:
            self._over[key] = self.runs[key]
            self._on_change()


def _must_end(run: PodRun, admitted: Snapshot) -> bool:
    """A Pod that is gone, or whose containers or place have changed, starts anew.

    One on its way out whose Pod is not has a successor with the same name and address.
    """
    pod = admitted.pods.get(run.pod.key)
    if pod is None or run.ending or (run.terminating and not leaving(pod)):
        return True
    return pod.spec != run.pod.spec or pod.status.pod_ip != run.pod.status.pod_ip
