"""Metrics under kube-proxy's names and labels, so that dashboards and alerts go on working.

Names, labels and buckets are those of pkg/proxy/metrics/metrics.go in Kubernetes 1.36, and of
component-base (metrics/prometheus/restclient) for requests to the API server.  A sync of
hairpin's is of both IP families at once: it counts for each of them.  docs/metrics.md has the list,
with what is different.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from hairpin.plan.iptables_names import INVALID_DROPPED, LOCALHOST_ACCEPTED
from hairpin.proxy.status import Synced

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SYNC = tuple(0.001 * 2**n for n in range(15))
_REQUEST = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_PROGRAMMING = (
    *(0.25, 0.5),
    *(float(n) for n in range(1, 60)),
    *(60.0 + 5 * n for n in range(12)),
    *(120.0 + 30 * n for n in range(7)),
)


class _Made:
    """Makes metrics, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # kube-proxy has none
        self.registry = CollectorRegistry()

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"kubeproxy_{name}", text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = _SYNC
    ) -> Histogram:
        name, text = f"kubeproxy_{name}", f"seconds {text}"
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)


class Metrics:
    """``families`` are IPv4 and IPv6, or one of them; ``mode`` is kube-proxy's word for it."""

    def __init__(self, mode: str, families: Sequence[str], version: str) -> None:
        self._made = _Made()
        self.registry = self._made.registry
        self._families = tuple(families)
        ProcessCollector(registry=self.registry)
        info = self._made.gauge(
            "kubernetes_build_info", "what runs here", "git_version", "platform"
        )
        info.labels(f"hairpin-{version}", "linux").set(1)
        self._syncs(mode)
        self._changes()
        self._sli = _Made()
        self._checks = self._sli.gauge("kubernetes_healthcheck", "1 for well", "name", "type")
        self._checked = Counter(
            "kubernetes_healthchecks",
            "how often a health check was asked for",
            ("name", "type", "status"),
            registry=self._sli.registry,
        )
        if mode == "iptables":
            self._of_iptables()
        self.healthz = self._made.counter("proxy_healthz", "answers of /healthz", "code")
        self.livez = self._made.counter("proxy_livez", "answers of /livez", "code")
        self._requests = Counter(
            "rest_client_requests",
            "requests to the API server, by code",
            ("code", "method", "host"),
            registry=self.registry,
        )
        self._request_time = Histogram(
            "rest_client_request_duration_seconds",
            "seconds until the API server's answers began",
            ("verb", "host"),
            buckets=_REQUEST,
            registry=self.registry,
        )
        for counter in (self.healthz, self.livez):
            counter.labels("200")

    def _syncs(self, mode: str) -> None:
        family = "ip_family"
        self._all = self._made.histogram(
            "sync_proxy_rules_duration_seconds", "of each sync", family
        )
        self._full = self._made.histogram(
            "sync_full_proxy_rules_duration_seconds", "of syncs that compared all", family
        )
        self._partial = self._made.histogram(
            "sync_partial_proxy_rules_duration_seconds", "of syncs of what changed", family
        )
        self._last = self._made.gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "of the last good sync", family
        )
        self._queued = self._made.gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "when a sync was last asked for",
            family,
        )
        self._programming = self._made.histogram(
            "network_programming_duration_seconds",
            "from a Pod's or Service's change to its rules in the kernel",
            family,
            buckets=_PROGRAMMING,
        )
        self._no_local = self._made.gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Services with a policy Local and no endpoint here",
            family,
            "traffic_policy",
        )
        failures = {
            "nftables": ("nftables_sync_failures", "nftables_cleanup_failures"),
            "iptables": ("iptables_restore_failures", "iptables_partial_restore_failures"),
            "ipvs": ("iptables_restore_failures",),
        }[mode]
        self._failures = [
            self._made.counter(f"sync_proxy_rules_{one}", "syncs that the kernel refused", family)
            for one in failures
        ]
        for name in self._families:
            for failed in self._failures:
                failed.labels(name)

    def _changes(self) -> None:
        self._pending = {
            kind: self._made.gauge(
                f"kubeproxy_sync_proxy_rules_{kind}_changes_pending", f"{kind} changes not synced"
            )
            for kind in ("endpoint", "service")
        }
        self._total = {
            kind: self._made.counter(f"sync_proxy_rules_{kind}_changes", f"{kind} changes seen")
            for kind in ("endpoint", "service")
        }
        self._flows = self._made.counter(
            "conntrack_reconciler_deleted_entries", "stale UDP flows removed", "ip_family"
        )
        self._looking = self._made.histogram(
            "conntrack_reconciler_sync_duration_seconds", "of looking for stale flows", "ip_family"
        )
        self._flows_deleted = 0

    def _of_iptables(self) -> None:
        self._rules = self._made.gauge(
            "kubeproxy_sync_proxy_rules_iptables_total", "rules of ours", "table", "ip_family"
        )
        self._packets = {
            INVALID_DROPPED: self._made.counter(
                "iptables_ct_state_invalid_dropped_packets", "packets that conntrack calls INVALID"
            ),
            LOCALHOST_ACCEPTED: self._made.counter(
                "iptables_localhost_nodeports_accepted_packets", "packets to NodePorts on loopback"
            ),
        }
        self._counted: dict[str, int] = {}

    # -- what happens --------------------------------------------------------------------------

    def requested(self, method: str, code: str, host: str, seconds: float) -> None:
        """A request to the API server was answered, or failed."""
        self._requests.labels(code, method, host).inc()
        self._request_time.labels(method, host).observe(seconds)

    def changed(self, kind: str, count: int, now: float) -> None:
        """``count`` objects of kind "service" or "endpoint" are others now."""
        self._total[kind].inc(count)
        self._pending[kind].inc(count)
        for family in self._families:
            self._queued.labels(family).set(now)

    def synced(self, done: Synced, now: float, *, good: bool) -> None:
        """A sync has ended at ``now``, in seconds of the epoch."""
        for family in self._families:
            self._all.labels(family).observe(done.duration)
            (self._full if done.full else self._partial).labels(family).observe(done.duration)
            if good:
                self._last.labels(family).set(now)
            if done.failed:
                self._failures[0].labels(family).inc()
        for pending in self._pending.values():
            pending.set(0)

    def programmed(self, family: str, seconds: Iterable[float]) -> None:
        """So long did it take from the changes of endpoints until the kernel knew them."""
        for one in seconds:
            self._programming.labels(family).observe(one)

    def no_local_endpoints(self, family: str, internal: int, external: int) -> None:
        self._no_local.labels(family, "internal").set(internal)
        self._no_local.labels(family, "external").set(external)

    def rules(self, found: Mapping[tuple[str, str], int]) -> None:
        """How many rules of iptables are wanted, by table and family."""
        for (table, family), count in found.items():
            self._rules.labels(table, family).set(count)

    def packets(self, found: Mapping[str, int]) -> None:
        """What the kernel's packet counters say now, by their names (iptables mode)."""
        for name, counter in self._packets.items():
            if name in found:
                # A counter that another proxy has made anew begins at 0.
                counter.inc(max(0, found[name] - self._counted.get(name, 0)))
                self._counted[name] = found[name]

    def flows(self, total: int, seconds: float | None) -> None:
        """So many stale flows were removed since the start; the last look took ``seconds``, None
        for no look.  Their family is not counted apart."""
        if seconds is not None:
            for family in self._families:
                self._looking.labels(family).observe(seconds)
        if total > self._flows_deleted:
            self._flows.labels(self._families[0]).inc(total - self._flows_deleted)
            self._flows_deleted = total

    def pinged(self) -> None:
        """The check "ping" was asked for, and held: whoever answers is alive."""
        self._checks.labels("ping", "healthz").set(1)
        self._checked.labels("ping", "healthz", "success").inc()

    def slis(self) -> bytes:
        """How the health checks went, as Prometheus reads it."""
        return generate_latest(self._sli.registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        return generate_latest(self.registry)
