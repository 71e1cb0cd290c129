"""What Services promise, as values: what is set, what is tried, what must come of it.

A claim is a list of steps on a cluster that is there already (``cast``).  It has a namespace of
its own, named after it, and fixes no address or port that another claim could want: targets are
named by Service, and found when the lab has admitted it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from hairpin.claims.base import Text
from hairpin.claims.topics import Mode
from hairpin.lab.probe import Outcome, Protocol

if TYPE_CHECKING:
    from hairpin.claims.scene import Scene
else:
    Scene = Any

Need = Literal["nodes", "ipv6", "sctp", "hostnetwork", "health", "restart", "prompt"]
"""What not every lab has: several nodes, a second IP family, SCTP, Pods in the node's network,
health check node ports that answer, proxies that can be ended and started, proxies that follow a
change before the next one is made."""


class From(msgspec.Struct, frozen=True):
    """Who connects: a Pod of the cast, a node, a node from 127.0.0.1, or a client outside."""

    kind: Literal["pod", "node", "localhost", "outside"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


BY_FIRST_NODE = From("outside", "by n1")
"""The client outside, whose packets all go to the first node, whoever would serve them better."""


class To(msgspec.Struct, frozen=True, kw_only=True):
    """Where to: a Service's address of some kind, or a plain address.

    ``port`` is the name or number of the Service's port, 0 for its first.  ``node`` is whose node
    port it is.
    """

    kind: Literal[
        "cluster-ip", "node-port", "external-ip", "load-balancer-ip", "health-check",
        "pod", "localhost", "address",
    ]  # fmt: skip
    service: str = "web"
    port: str | int = 0
    node: str = "n1"
    pod: str = ""
    address: str = ""
    family: Literal[4, 6] = 4

    def __str__(self) -> str:
        where = {
            "cluster-ip": "ClusterIP",
            "node-port": f"NodePort of {self.node}",
            "external-ip": "external IP",
            "load-balancer-ip": "load balancer IP",
            "health-check": f"health check port of {self.node}",
            "pod": f"Pod {self.pod}",
            "localhost": "NodePort of 127.0.0.1",
            "address": f"{self.address} {self.port}",
        }
        return where[self.kind] + (", IPv6" if self.family == 6 else "")


Sees = Literal["kept", "node"]
"""The client's address as the server saw it: the client's own, or one of a node's."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """Every connection is answered, by these Pods and no others, each of them at least once.

    ``pod:8081`` names the port too.  ``same``: all by one of them, whichever.  Without ``by``
    anybody may answer.
    """

    by: tuple[str, ...] = ()
    same: bool = False
    sees: Sees | None = None
    status: int | None = None  # of the HTTP answer


class Unanswered(msgspec.Struct, frozen=True, kw_only=True):
    """No connection is answered, and each ends in one of these ways."""

    how: tuple[Outcome, ...] = ("timeout",)


Expect = Answered | Unanswered

REFUSED = Unanswered(how=("refused",))
TIMEOUT = Unanswered(how=("timeout",))
NOTHING = Unanswered(how=("refused", "timeout", "unreachable"))
ERROR = Unanswered(how=("error",))
"""The kernel takes no such packet from this client."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What a mode does instead of what is documented, why, and who says so.

    ``topic`` names what it is about, see ``topics``.
    """

    expect: Expect
    reason: Text
    source: str
    topic: str


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """Connections in a row, and what must come of them.

    ``within``: seconds that it may take to become so; 0 is at once.  ``times`` None is what it
    takes to see every Pod that may answer.
    """

    client: From
    to: To
    expect: Expect
    differs: Mapping[Mode, Difference] = {}
    protocol: Protocol = "TCP"
    times: int | None = None
    within: float = 0.0
    source_port: int = 0
    size: int = 0
    path: str = "/"
    label: str = ""  # what tells this one from the others of its claim
    lane: str = ""  # tries of one claim with the same lane wait for each other

    def wanted(self, mode: Mode) -> Expect:
        difference = self.differs.get(mode)
        return self.expect if difference is None else difference.expect


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A Pod of the cast as an endpoint, with whatever conditions; None of them is unsaid."""

    pod: str
    ready: bool | None = True
    serving: bool | None = None
    terminating: bool | None = None
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """An EndpointSlice; addresses and nodes come from the cast.

    ``ports``: name, protocol, number.
    """

    name: str
    service: str
    backends: tuple[Backend, ...]
    ports: tuple[tuple[str, str, int], ...]
    family: Literal[4, 6] = 4
    labels: Mapping[str, str] = {}


Manifest = dict[str, Any] | Slice
"""An object in the API's shape, or a slice that waits for its addresses."""

EXTERNAL_IP = "EXTERNAL-IP"
"""Stands in manifests for an external address that is this Service's alone."""
EXTERNAL_IP6 = "EXTERNAL-IP6"


class Apply(msgspec.Struct, frozen=True):
    """Creates or changes objects."""

    objects: tuple[Manifest, ...]


class Delete(msgspec.Struct, frozen=True):
    """Deletes objects of the claim's namespace, ``Service web``."""

    refs: tuple[str, ...]


class Pause(msgspec.Struct, frozen=True):
    seconds: float


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one part of a claim came to."""

    what: str
    held: bool
    differs: Difference | None = None  # held, and this is how the mode differs
    expected: str = ""
    seen: str = ""


class Do(msgspec.Struct, frozen=True):
    """What no value says: acts and looks by itself.

    In a mode of ``differs`` (``Scene.differs``) it holds when it sees that the mode does so.
    """

    call: Callable[[Scene], Finding]
    differs: Mapping[Mode, Difference] = {}


Step = Apply | Delete | Pause | Try | Do


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """One claim about Services.

    ``source`` is Kubernetes' e2e test, KEP or issue.  ``alone``: it disturbs others.  ``slow``: it
    mostly waits, and others may run meanwhile.
    """

    id: str
    says: Text
    source: str
    steps: tuple[Step, ...]
    needs: frozenset[Need] = frozenset()
    alone: bool = False
    slow: bool = False

    @property
    def subject(self) -> str:
        """``nodeport`` of ``services.nodeport.basic``."""
        return self.id.split(".")[1]

    @property
    def namespace(self) -> str:
        return self.id.removeprefix("services.").replace(".", "-")


Result = Literal["held", "differs", "failed", "skipped", "error"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that has run in one mode."""

    claim: Promise
    mode: Mode
    result: Result
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    why: str = ""  # it was skipped, or could not be run

    @property
    def good(self) -> bool:
        return self.result in ("held", "differs", "skipped")
