"""Metrics under kube-proxy's names and labels, so that dashboards and alerts go on working.

Names, labels and buckets are those of pkg/proxy/metrics/metrics.go in Kubernetes 1.36.  A sync of
hairpin's is of both IP families at once: it counts for each of them.  docs/metrics.md has the list,
with what is different.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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

from hairpin.proxy.status import Synced

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SYNC = tuple(0.001 * 2**n for n in range(15))
_PROGRAMMING = (
    *(0.25, 0.5),
    *(float(n) for n in range(1, 60)),
    *(60.0 + 5 * n for n in range(12)),
    *(120.0 + 30 * n for n in range(7)),
)


class Metrics:
    """``families`` are IPv4 and IPv6, or one of them; ``mode`` is kube-proxy's word for it."""

    def __init__(self, mode: str, families: Sequence[str], version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # kube-proxy has none
        self.registry = CollectorRegistry()
        self._families = tuple(families)
        ProcessCollector(registry=self.registry)
        info = self._gauge("kubernetes_build_info", "what runs here", "git_version", "platform")
        info.labels(f"hairpin-{version}", "linux").set(1)
        self._syncs(mode)
        self._changes()
        self.healthz = self._counter("proxy_healthz", "answers of /healthz", "code")
        self.livez = self._counter("proxy_livez", "answers of /livez", "code")
        self.requests = Counter(
            "rest_client_requests",
            "requests to the API server, by code",
            ("code", "method", "host"),
            registry=self.registry,
        )
        for counter in (self.healthz, self.livez):
            counter.labels("200")

    def _syncs(self, mode: str) -> None:
        family = "ip_family"
        self._all = self._histogram("sync_proxy_rules_duration_seconds", "of each sync", family)
        self._full = self._histogram(
            "sync_full_proxy_rules_duration_seconds", "of syncs that compared all", family
        )
        self._partial = self._histogram(
            "sync_partial_proxy_rules_duration_seconds", "of syncs of what changed", family
        )
        self._last = self._gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "of the last good sync", family
        )
        self._queued = self._gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "when a sync was last asked for",
            family,
        )
        self._programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "from a Pod's or Service's change to its rules in the kernel",
            (family,),
            buckets=_PROGRAMMING,
            registry=self.registry,
        )
        self._no_local = self._gauge(
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
            self._counter(f"sync_proxy_rules_{one}", "syncs that the kernel refused", family)
            for one in failures
        ]
        for name in self._families:
            for failed in self._failures:
                failed.labels(name)

    def _changes(self) -> None:
        self._pending = {
            kind: self._gauge(
                f"kubeproxy_sync_proxy_rules_{kind}_changes_pending", f"{kind} changes not synced"
            )
            for kind in ("endpoint", "service")
        }
        self._total = {
            kind: self._counter(f"sync_proxy_rules_{kind}_changes", f"{kind} changes seen")
            for kind in ("endpoint", "service")
        }
        self._flows = self._counter(
            "conntrack_reconciler_deleted_entries", "stale UDP flows removed", "ip_family"
        )
        self._flows_deleted = 0

    # -- what happens --------------------------------------------------------------------------

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

    def flows_deleted(self, total: int) -> None:
        """So many since the start.  Their family is not counted apart."""
        if total > self._flows_deleted:
            self._flows.labels(self._families[0]).inc(total - self._flows_deleted)
            self._flows_deleted = total

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        return generate_latest(self.registry)

    # -- making them ---------------------------------------------------------------------------

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"kubeproxy_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            f"kubeproxy_{name}",
            f"seconds {text}",
            labels,
            buckets=_SYNC,
            registry=self.registry,
        )
