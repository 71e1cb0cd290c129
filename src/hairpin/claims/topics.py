"""What proxy modes differ in, and which Services that is about.  Pure.

Claims name a topic in each of their Differences, and ``hairpin migrate`` tells the topics that
concern somebody's Services; so what it tells has been seen by packets.  The topics themselves are
in ``topics_table`` and the modules that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from hairpin.claims.base import Text
from hairpin.model.service import Service

Mode = Literal["ipvs", "iptables", "nftables"]
MODES: tuple[Mode, ...] = ("ipvs", "iptables", "nftables")

Concern = Literal[
    "node", "cluster-ip", "node-port", "external", "external-ips", "external-local",
    "internal-local", "internal-local-exposed", "affinity", "affinity-exposed", "tcp",
    "masqueraded", "health-check",
]  # fmt: skip
"""Which Services a topic is about; ``node``: none of them, but the node itself."""
EVERY: Concern = "cluster-ip"
"""What every Service has that a proxy serves."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """``does``: what comes of it in each mode; equal words are the same behaviour.

    ``todo``: what to do before a move to a mode from one that does otherwise.
    """

    name: str
    about: Text
    concerns: Concern
    does: Mapping[Mode, Text]
    todo: Mapping[Mode, Text]

    def asks(self, after: Mode) -> bool:
        """Whether something is to be done before a move to that mode."""
        return self.todo[after] not in (MORE_WORKS, SOONER)

    def changes(self, before: Mode, after: Mode) -> bool:
        """Whether a move from one mode to another is felt."""
        return self.does[before] != self.does[after]


def by_mode(ipvs: Text, iptables: Text, nftables: Text) -> Mapping[Mode, Text]:
    return {"ipvs": ipvs, "iptables": iptables, "nftables": nftables}


ANSWERED = Text("answered", "有回答")
REFUSED = Text("refused", "被拒绝")
MORE_WORKS = Text("nothing: more works than before", "无需处理: 可用的比以前更多")
SOONER = Text("nothing: clients hear of it at once", "无需处理: 客户端立即得知")
PATIENCE = Text("give clients a connect timeout of their own", "给客户端设置连接超时")
"""What several topics say."""


def _exposed(service: Service) -> bool:
    """Whether anything but its ClusterIP leads to it."""
    return _has_node_port(service) or _has_external(service)


def _has_node_port(service: Service) -> bool:
    return any(port.node_port for port in service.spec.ports)


def _has_external(service: Service) -> bool:
    return bool(service.spec.external_ips) or service.spec.type == "LoadBalancer"


def _external_local(service: Service) -> bool:
    return service.spec.external_traffic_policy == "Local" and _exposed(service)


def _internal_local(service: Service) -> bool:
    return service.spec.internal_traffic_policy == "Local"


def _affinity(service: Service) -> bool:
    return service.spec.session_affinity == "ClientIP"


def _tcp(service: Service) -> bool:
    return any(port.protocol == "TCP" for port in service.spec.ports)


CONCERNED: Mapping[Concern, Callable[[Service], bool]] = {
    "node": lambda service: False,
    EVERY: lambda service: True,
    "node-port": _has_node_port,
    "external": _has_external,
    "external-ips": lambda service: bool(service.spec.external_ips),
    "external-local": _external_local,
    "internal-local": lambda service: _internal_local(service) and not _exposed(service),
    "internal-local-exposed": lambda service: _internal_local(service) and _exposed(service),
    "affinity": _affinity,
    "affinity-exposed": lambda service: _affinity(service) and _exposed(service),
    "tcp": _tcp,
    "masqueraded": lambda service: _exposed(service) and not _external_local(service),
    "health-check": lambda service: bool(service.spec.health_check_node_port),
}
"""Whether a Service that has a ClusterIP is one of them."""


def concerned(topic: Topic, service: Service) -> bool:
    """Whether a topic is about a Service.  Headless ones and other names are served by no proxy."""
    return bool(service.virtual_ips) and CONCERNED[topic.concerns](service)
