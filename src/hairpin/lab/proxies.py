"""The proxy of each node of the lab: the one that runs on a real node.

Each change of objects or readiness is told to it and followed at once; between changes it comes
by when it says that it is due, to look whether all is still so, and whether connections that it
waits for have ended.

A node that nothing reaches hears of no change: its proxy goes on with what it knew, as one that has
lost the API server does, and is told everything when the node is back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.lab import names
from hairpin.lab.adjust import Adjust, adjusting
from hairpin.lab.ingredients import Ingredients
from hairpin.lab.turns import kept, raise_first
from hairpin.model.annotations import PROXY
from hairpin.model.node import Node
from hairpin.model.snapshot import Snapshot
from hairpin.state.abilities import Abilities
from hairpin.state.change import Change, Object, Wanted
from hairpin.state.sysctl import Sysctl

if TYPE_CHECKING:  # else imported when there is something to serve: the tour does without
    from hairpin.lab.health import NodeHealth
    from hairpin.model.configuration import KubeProxyConfiguration
    from hairpin.proxy.proxy import Proxy
    from hairpin.proxy.status import ProxyStatus

_SOONEST = 0.01  # seconds between two visits, whatever is due


class Refused(msgspec.Struct, frozen=True):
    """What the kernel would not do in one go: the first in words, and how many there were."""

    said: tuple[str, ...] = ()
    count: int = 0


class Proxies:
    """All proxies of a lab; none where the kernel cannot serve Services."""

    def __init__(self, reactor: Reactor, kernel: Kernel, abilities: Abilities) -> None:
        self._reactor = reactor
        self._kernel = kernel
        self._abilities = abilities
        self._ingredients = Ingredients()
        self._by_node: dict[str, Proxy] = {}
        self._health: dict[str, NodeHealth] = {}  # of nodes that have any health check node port
        self.config: KubeProxyConfiguration | None = None
        """What proxies made from now on run with, but for what is their node's."""
        self._families: dict[str, tuple[str, ...]] = {}  # of each node's Pods
        self._timer: Timer | None = None
        self.when_free: Callable[[Callable[[], None]], None] = lambda call: call()
        """Calls back when nothing else is under way."""
        self.cut_off: Callable[[str], bool] = lambda _node: False
        """Whether a node is out of reach."""
        self._unheard: set[str] = set()  # started out of reach: they know of nothing yet

    @property
    def mode(self) -> str:
        """That of all proxies: hairpin's own default is IPVS."""
        return (self.config.mode if self.config is not None else "") or "ipvs"

    @property
    def said(self) -> dict[str, Any]:
        """What they run with, in the protocol's shape: ``config``, null where nobody has said
        any."""
        config = self.config
        return {"config": config and msgspec.to_builtins(config, enc_hook=float)}  # Seconds

    @property
    def unserved(self) -> str | None:
        """Why Services cannot be served in this mode by this kernel, None where they can."""
        return self._abilities.unserved_in(self.mode)

    def switch(self, mode: str, snapshot: Snapshot) -> Refused:
        """Another mode for all proxies: on each node the new one serves all before what the old
        one made is taken away.
        """
        from hairpin.mode.base import places
        from hairpin.model.configuration import KubeProxyConfiguration

        if mode == self.mode:
            return Refused()
        self.config = msgspec.structs.replace(self.config or KubeProxyConfiguration(), mode=mode)
        said: list[str] = []
        count = 0
        try:
            for name, old in list(self._by_node.items()):
                new = self._by_node[name] = self._make(name, takes_over=True)
                new.adopt(snapshot)
                synced = new.sync()
                left = _cleaned(name, old, places(one.object for one in new.wanted()))
                said += [*synced.refused, *left]
                count += synced.failed + len(left)
        finally:
            self._arm()
        return Refused(tuple(said), count)

    def follow(self, snapshot: Snapshot, *, new: bool = True) -> Refused:
        """Makes the nodes serve what the admitted Snapshot says.

        ``new`` False is for nodes that have a proxy already, and passes the others by.
        """
        if self.unserved is not None:
            return Refused()
        families = self._families
        self._families = {
            name: families[name] if name in families and self.cut_off(name) else _families(node)
            for (_, name), node in snapshot.nodes.items()
        }
        nodes = [
            node.metadata.name
            for node in snapshot.nodes.values()
            if node.metadata.annotations.get(PROXY) != "none"
        ]
        said: list[str] = []
        for name in [name for name in self._by_node if name not in nodes]:
            said += _cleaned(name, self._by_node.pop(name))
            if name in self._health:
                self._health.pop(name).close()
        was_there = set(self._by_node)
        if new:
            for name in nodes:
                if name not in self._by_node:
                    self._by_node[name] = self._make(name)
        reached = {name: one for name, one in self._by_node.items() if not self.cut_off(name)}
        for name, proxy in reached.items():
            proxy.adopt(snapshot)
            if self._families[name] != families.get(name, self._families[name]):
                proxy.adjust = self._adjusting(name)
        new_ones = self._by_node.keys() - was_there
        self._unheard = (self._unheard | new_ones) & (self._by_node.keys() - reached.keys())
        return self._sync(reached.values(), said=said)

    def restart(self, name: str, snapshot: Snapshot) -> Refused:
        """Ends the proxy of a node without a word, and starts another one.

        Where nothing reaches the node it does nothing until it has heard what there is to serve.
        Raises KeyError where the node has none.
        """
        if name not in self._by_node:
            raise KeyError(name)
        self._by_node[name] = proxy = self._make(name)
        if self.cut_off(name):
            self._unheard.add(name)
            return Refused()
        proxy.adopt(snapshot)
        return self._sync([proxy])

    def adjust(self, ingredients: Ingredients) -> Refused:
        """Withholds what the ingredients say, and puts everything else right."""
        self._ingredients = ingredients
        for name, proxy in self._by_node.items():
            proxy.adjust = self._adjusting(name)
        return self._sync(self._by_node.values(), full=True)

    def changes(self, after: Ingredients, before: Ingredients) -> Iterator[Change]:
        """What the nodes hold with some ingredients and not with others; nothing is done."""
        for name, proxy in self._by_node.items():
            gives, gave = (self._adjusting(name, one) for one in (after, before))
            for want in proxy.planned():
                now = want.object if gives is None else gives(want.object)
                then = want.object if gave is None else gave(want.object)
                if now != then and (now or then) is not None:
                    yield _change(want, now, then)

    def wanted(self, netns: str, key: tuple[object, ...]) -> Wanted | None:
        """What is wanted of a kernel object, and for whom."""
        proxy = self._by_node.get(netns.removeprefix("node_"))
        return None if proxy is None else proxy.want(key)

    def by_node(self) -> Iterable[tuple[str, Proxy]]:
        """Each node's proxy."""
        return self._by_node.items()

    def __iter__(self) -> Iterator[Wanted]:
        """All that the proxies want, but what is withheld."""
        for proxy in self._by_node.values():
            yield from proxy.wanted()

    def problems(self, services: Iterable[str]) -> list[str]:
        """What of these Services (``default/web``) is not served, and why."""
        asked = set(services)
        lines: dict[str, None] = {}  # each once, however many nodes say it
        for one in self.status():
            for name in asked & one.problems.keys():
                lines.update(dict.fromkeys(one.problems[name]))
            for name in asked & one.conflicts.keys():
                said = (f"Service {name}: {line}" for line in one.conflicts[name])
                lines.update(dict.fromkeys(said))
        return sorted(lines)

    def status(self) -> list[ProxyStatus]:
        """What each proxy says of itself."""
        return [proxy.status() for proxy in self._by_node.values()]

    def _make(self, name: str, *, takes_over: bool = False) -> Proxy:
        from hairpin.proxy.proxy import Proxy
        from hairpin.source.settings import LAB

        config = configuration(name, self.config)
        adjust = self._adjusting(name)
        netns = names.node_netns(name)
        return Proxy(
            self._kernel,
            netns,
            config,
            name,
            adjust=adjust,
            clock=self._reactor.now,
            takes_over=takes_over,
            service_cidrs=LAB.service_cidrs,
        )

    def _adjusting(self, name: str, ingredients: Ingredients | None = None) -> Adjust | None:
        chosen = self._ingredients if ingredients is None else ingredients
        return adjusting(chosen, self._abilities, self._families.get(name, ("ip",)))

    def _sync(
        self, proxies: Iterable[Proxy], *, full: bool = False, said: Iterable[str] = ()
    ) -> Refused:
        """``said``: what was refused before.  One that fails keeps no other from its work."""
        refused = list(said)
        count = len(refused)
        errors: list[Exception] = []
        unheard = [self._by_node[name] for name in self._unheard if name in self._by_node]
        for proxy in (one for one in proxies if one not in unheard):
            with kept(errors):
                synced = proxy.sync(full=full)
                refused += synced.refused
                count += synced.failed
        with kept(errors):
            self._answer_health()
        self._arm()
        raise_first(errors)
        return Refused(tuple(refused), count)

    def _answer_health(self) -> None:
        """Opens and closes health check node ports as the proxies have them by now."""
        for name, proxy in self._by_node.items():
            known = proxy.known()
            if name not in self._health:
                if not known.health:
                    continue
                from hairpin.lab.health import NodeHealth

                netns = self._kernel.namespaces[names.node_netns(name)]
                self._health[name] = NodeHealth(self._reactor, netns)
            from hairpin.plan.local_traffic import health_check_addresses

            config = configuration(name, self.config)
            self._health[name].follow(known.health, health_check_addresses(config, known.facts))

    def _arm(self) -> None:
        """Comes by again when the first proxy is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [one.due() for name, one in self._by_node.items() if name not in self._unheard]
        if due:
            wait = max(min(due) - self._reactor.now(), _SOONEST)
            self._timer = self._reactor.after(wait, lambda: self.when_free(self._visit))

    def _visit(self) -> None:
        proxies = [one for name, one in self._by_node.items() if name not in self._unheard]
        # The clock is read after due(), which for "at once" gives the time of its call.
        due = [(one, one.due()) for one in proxies]
        now = self._reactor.now()
        self._sync([one for one, at in due if at <= now])


def _cleaned(name: str, proxy: Proxy, spared: Collection[str] = ()) -> list[str]:
    """Takes away what a proxy made, and gives what would not go; all is tried once."""
    try:
        return [str(one) for one in proxy.clean_up(spared)]
    except OSError as error:
        return [f"the proxy's objects on {name} cannot be read to be taken away: {error}"]


def _families(node: Node) -> tuple[str, ...]:
    return tuple("ip" if cidr.version == 4 else "ip6" for cidr in node.spec.pod_cidrs)


def _change(want: Wanted, now: Object | None, then: Object | None) -> Change:
    if now is None:
        assert then is not None
        return Change(verb="remove", netns=want.netns, object=then, reason=want.why)
    if then is None:
        return Change(verb="add", netns=want.netns, object=now, reason=want.why)
    before = None if isinstance(then, Sysctl) else then
    return Change(verb="set", netns=want.netns, object=now, before=before, reason=want.why)


def configuration(node: str, base: KubeProxyConfiguration | None = None) -> KubeProxyConfiguration:
    """What the proxy of a lab's node runs with; ``base`` is what a person gave for all."""
    from hairpin.model.configuration import KubeProxyConfiguration

    base = base or KubeProxyConfiguration()
    own = msgspec.structs.replace(base, mode=base.mode or "ipvs", hostname_override=node)
    if own.cluster_cidr or base.detect_local_mode not in ("", "ClusterCIDR"):
        return own
    # The Pods' networks of a lab need have no common one.
    return msgspec.structs.replace(own, detect_local_mode="NodeCIDR")
