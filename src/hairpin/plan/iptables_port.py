"""One ServicePort of one IP version on its way into iptables rules: its names, and who answers.

Chains are named by a hash of the ServicePort: KUBE-SVC- for all endpoints, KUBE-SVL- for those of
this node, KUBE-EXT- before either for what comes from outside, KUBE-FW- before that where source
ranges say who may come.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hairpin.model.address import IP
from hairpin.plan.frontends import PlannedPort
from hairpin.plan.iptables_names import hashed
from hairpin.plan.owner import of_port
from hairpin.state.change import Object, Wanted
from hairpin.state.netfilter import DispatchRule, Family, ServiceChain, Table


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all ServicePorts of one IP version.

    ``not_local`` and ``local`` match packets by whether they are from the node's Pods; empty where
    that is not known.  ``localhost`` counts NodePorts on localhost apart.  ``crowded`` leaves out
    the comments of rules about endpoints, as kube-proxy does above 1000 of them.
    """

    netns: str
    family: Family
    node_ip: IP
    masquerade_all: bool = False
    not_local: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    localhost: bool = False
    crowded: bool = False


class Port:
    """What is known of the ServicePort, and what it asked for so far (``found``).

    ``any``: some endpoint can be used, on whichever node.  ``inside``, ``outside``: the ClusterIP,
    and the other frontends, have endpoints under their policy.  ``guarded``: source ranges say who
    may use the load balancer IPs.
    """

    def __init__(self, context: Context, planned: PlannedPort) -> None:
        self.context = context
        self.planned = planned
        name = planned.name
        self.text = f"{name.namespace}/{name.name}:{name.port}" if name.port else str(name)
        self.protocol = name.protocol.lower()
        digest = hashed(self.text + self.protocol)
        self.svc, self.svl = f"KUBE-SVC-{digest}", f"KUBE-SVL-{digest}"
        self.ext, self.fw = f"KUBE-EXT-{digest}", f"KUBE-FW-{digest}"
        self.owner = of_port((name.namespace, name.name), name.port)
        self.found: list[Wanted] = []
        local = planned.usable.local
        self.any = planned.has_any
        self.inside = self.any and bool(local if planned.internal_local else True)
        self.outside = self.any and bool(local if planned.external_local else True)
        balanced = any(one.kind == "LoadBalancer" for one in planned.frontends)
        self.guarded = self.any and balanced and bool(planned.source_ranges)

    def chain(self, name: str, rules: Sequence[str], why: str) -> None:
        """A chain of its own, whole."""
        self._want(
            ServiceChain(table="nat", name=name, rules=tuple(rules), family=self.context.family),
            why,
        )

    def rule(self, table: Table, chain: str, rule: str, frontend: str, why: str) -> None:
        """A rule in a chain that all ServicePorts share; ``frontend`` is what only one may have."""
        family = self.context.family
        one = DispatchRule(table=table, chain=chain, rule=rule, frontend=frontend, family=family)
        self._want(one, why)

    def _want(self, thing: Object, why: str) -> None:
        self.found.append(Wanted(netns=self.context.netns, object=thing, owner=self.owner, why=why))
