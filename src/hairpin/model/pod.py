"""Pods: what runs, where, and when it counts as ready."""

from __future__ import annotations

from typing import Literal

from hairpin.model.address import IP
from hairpin.model.metadata import Api, Count, KubeObject, Port, Protocol

RestartPolicy = Literal["Always", "OnFailure", "Never"]


class EnvVar(Api, frozen=True, kw_only=True):
    name: str
    value: str = ""


class ContainerPort(Api, frozen=True, kw_only=True):
    """A port that a container says it listens on; the name is what targetPort may say."""

    container_port: Port
    name: str = ""
    protocol: Protocol = "TCP"


class ExecAction(Api, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class HTTPHeader(Api, frozen=True, kw_only=True):
    name: str
    value: str


class HTTPGetAction(Api, frozen=True, kw_only=True):
    """``port`` may be the name of a container's port; ``host`` "" is the Pod's address."""

    port: Port | str
    path: str = "/"
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(Api, frozen=True, kw_only=True):
    port: Port | str
    host: str = ""


class Probe(Api, frozen=True, kw_only=True):
    """A question asked again and again; the numbers are seconds and counts of answers."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    initial_delay_seconds: Count = 0
    timeout_seconds: Count = 1
    period_seconds: Count = 10
    success_threshold: Count = 1
    failure_threshold: Count = 3


class SleepAction(Api, frozen=True, kw_only=True):
    seconds: Count


class LifecycleHandler(Api, frozen=True, kw_only=True):
    """What is done at a moment of a container's life."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Api, frozen=True, kw_only=True):
    """``pre_stop`` is done before the container is told to end."""

    pre_stop: LifecycleHandler | None = None


class Container(Api, frozen=True, kw_only=True):
    """A process of a Pod; without ``command`` the image would say what runs."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None


class PodSpec(Api, frozen=True, kw_only=True):
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    restart_policy: RestartPolicy = "Always"
    termination_grace_period_seconds: Count = 30


class PodIP(Api, frozen=True, kw_only=True):
    ip: IP


class PodCondition(Api, frozen=True, kw_only=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class PodStatus(Api, frozen=True, kw_only=True):
    """``pod_ips`` begins with ``pod_ip``: one address a family."""

    phase: str = ""
    pod_ip: IP | None = None
    pod_ips: tuple[PodIP, ...] = ()
    conditions: tuple[PodCondition, ...] = ()


class Pod(KubeObject, frozen=True, kw_only=True, tag="Pod"):
    """Containers that share one network namespace and its address."""

    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def finished(self) -> bool:
        """All containers have ended for good: no Service counts on this Pod."""
        return self.status.phase in ("Succeeded", "Failed")

    def condition(self, kind: str) -> str | None:
        """The status of that condition, "True", "False" or "Unknown"; None: nothing is said."""
        return next((c.status for c in self.status.conditions if c.type == kind), None)
