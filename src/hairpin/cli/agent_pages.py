"""What a node agent answers on its two ports: health, metrics, and how it was started.

Paths and answers are kube-proxy 1.36's (serveHealthz and serveMetrics in cmd/kube-proxy/app).
Not a verb.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from hairpin.cli.agent_log import AgentLog
from hairpin.lab.session import LabError
from hairpin.model.configuration import API_VERSION, KIND, KubeProxyConfiguration, Seconds
from hairpin.proxy.health import Health
from hairpin.proxy.metrics import CONTENT_TYPE, Metrics
from hairpin.proxy.server import NOT_FOUND, Answer, Handler, Request, Servers

_AGAIN = 5.0  # seconds until an address that is taken is tried again, as kube-proxy
_GROUP = "kubeproxy.config.k8s.io"  # as /configz has it
_JSON = "application/json"
_PATHS = ("/configz", "/flagz", "/healthz", "/metrics", "/proxyMode", "/statusz")
_EMULATED = "1.36"  # the Kubernetes whose kube-proxy this behaves as
_NAME = "hairpin"
_STRUCTURED = "config.k8s.io/v1beta1"


class Pages:
    """The answers.  Used by the servers' thread."""

    def __init__(
        self,
        config: KubeProxyConfiguration,
        health: Health,
        metrics: Metrics,
        *,
        flags: Mapping[str, str],
        version: str,
    ) -> None:
        self._config = config
        self._health = health
        self._metrics = metrics
        self._flags = dict(sorted(flags.items()))
        self._version = version
        self._began = time.monotonic()
        self._started = datetime.now(UTC).replace(microsecond=0)

    def healthz(self, request: Request) -> Answer:
        """Of the port for probes and load balancers."""
        match request.path:
            case "/healthz":
                code, body = self._health.healthz()
                self._metrics.healthz.labels(str(code)).inc()
            case "/livez":
                code, body = self._health.livez()
                self._metrics.livez.labels(str(code)).inc()
            case _:
                return NOT_FOUND
        return Answer(body, code, _JSON)

    def metrics(self, request: Request) -> Answer:
        """Of the port for monitoring and for who looks into what runs here."""
        match request.path:
            case "/metrics":
                return Answer(self._metrics.text(), kind=CONTENT_TYPE)
            case "/metrics/slis":
                return Answer(self._metrics.slis(), kind=CONTENT_TYPE)
            case "/healthz":
                self._metrics.pinged()
                return Answer(b"ok")
            case "/proxyMode":
                return Answer(self._config.mode.encode())
            case "/configz":
                return Answer(configz(self._config), kind=_JSON)
            case "/statusz":
                return self._statusz(request)
            case "/flagz":
                return self._flagz(request)
            case _:
                return NOT_FOUND

    def _statusz(self, request: Request) -> Answer:
        up = int(time.monotonic() - self._began)
        known: dict[str, Any] = {
            "startTime": self._started.isoformat().replace("+00:00", "Z"),
            "uptimeSeconds": up,
            "binaryVersion": self._version,
            "emulationVersion": _EMULATED,
            "paths": list(_PATHS),
        }
        if _wants(request, "Statusz"):
            return _structured("Statusz", known)
        lines = {
            "Started": self._started.strftime("%a %b %e %H:%M:%S UTC %Y"),
            "Up": f"{up // 3600} hr {up // 60 % 60:02} min {up % 60:02} sec",
            "Python version": platform.python_version(),
            "Binary version": self._version,
            "Emulation version": _EMULATED,
            "Paths": " ".join(_PATHS),
        }
        return _page("statusz", (f"{name}: {value}" for name, value in lines.items()))

    def _flagz(self, request: Request) -> Answer:
        if _wants(request, "Flagz"):
            return _structured("Flagz", {"flags": self._flags})
        return _page("flagz", (f"{name}={value}" for name, value in self._flags.items()))


def _wants(request: Request, kind: str) -> bool:
    """Whether a client asks for values and not for words: these pages' form for programs."""
    asked = request.accept.replace(" ", "").lower()
    return _JSON in asked and f"as={kind.lower()}" in asked and "v=v1beta1" in asked


def _structured(kind: str, known: Mapping[str, Any]) -> Answer:
    head = {"kind": kind, "apiVersion": _STRUCTURED, "metadata": {"name": _NAME}}
    return Answer(msgspec.json.encode({**head, **known}), kind=_JSON)


def _page(name: str, lines: Any) -> Answer:
    text = "\n".join([f"{_NAME} {name}", "For people; the form may change.", "", *lines, ""])
    return Answer(text.encode())


def serve(servers: Servers, config: KubeProxyConfiguration, pages: Pages, log: AgentLog) -> None:
    """Opens both ports.

    Raises LabError where an address is taken and the configuration calls that fatal.
    """
    asked: list[tuple[str, str, Handler]] = [
        ("healthz", config.healthz_bind_address, pages.healthz),
        ("metrics", config.metrics_bind_address, pages.metrics),
    ]
    for what, place, handler in asked:
        host, port = _place(place)
        try:
            servers.listen(host, port, handler, every=True)
        except OSError as error:
            if config.bind_address_hard_fail:
                raise LabError(
                    f"{what} at {place}: {error.strerror}",
                    "another program has it, or bindAddressHardFail should be false",
                ) from None
            log.warning("an address cannot be had yet", what=what, at=place, error=error.strerror)
            _try_again(servers, host, port, handler)


def _place(text: str) -> tuple[str, int]:
    """Of ``127.0.0.1:10249`` or ``[::1]:10249``, which the configuration has been checked for."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _try_again(servers: Servers, host: str, port: int, handler: Handler) -> None:
    def again() -> None:
        try:
            servers.listen(host, port, handler, every=True)
        except OSError:
            _try_again(servers, host, port, handler)
        except RuntimeError:
            return  # all is over

    timer = threading.Timer(_AGAIN, again)
    timer.daemon = True
    timer.start()


def configz(config: KubeProxyConfiguration) -> bytes:
    """The configuration that is in force, as kube-proxy's /configz has it."""
    every = list(config.node_port_addresses)
    if config.mode == "nftables" and not every:
        every = ["primary"]
    local = config.detect_local_mode or "ClusterCIDR"
    plain: Any = msgspec.to_builtins(config, enc_hook=_as_go)
    plain |= {"nodePortAddresses": every, "detectLocalMode": local}
    head = {"apiVersion": API_VERSION, "kind": KIND}
    return msgspec.json.encode({_GROUP: {**head, **plain}})


def _as_go(value: object) -> str:
    """A duration as Go prints it: 30s, 1m30s, 1h0m0s."""
    if not isinstance(value, Seconds):
        raise NotImplementedError(type(value).__name__)
    whole, rest = divmod(float(value), 60)
    hours, minutes = divmod(int(whole), 60)
    seconds = f"{rest:.9f}".rstrip("0").rstrip(".")
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    if minutes:
        return f"{minutes}m{seconds}s"
    if 0 < rest < 1:
        return f"{rest * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds}s"
