"""The API server and the controllers together: what people wrote, made complete.

Pure and deterministic.  The lab and the planner work with admitted Snapshots only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key, Ref
from hairpin.model.snapshot import Object, Snapshot
from hairpin.source.admission import admitted_services
from hairpin.source.controllers import deployment_pods, endpoint_slices
from hairpin.source.implied import DNS_SERVICE, dns_pod, dns_service, without_implied
from hairpin.source.load_balancers import with_load_balancers
from hairpin.source.placement import placed_nodes, placed_pods
from hairpin.source.ranges import (
    fitted,
    load_balancer_cidrs,
    says_service_cidr,
    service_cidrs,
)
from hairpin.source.settings import Settings

_DEFAULT = Settings()


def admit(
    objects: Iterable[Object],
    previous: Snapshot | None = None,
    settings: Settings = _DEFAULT,
    *,
    ready: Mapping[Key, bool] | None = None,
    now: str | None = None,
    where: Mapping[str, str] | None = None,
) -> Snapshot:
    """Everything that there is to be, complete: defaults, Nodes, addresses, Pods, EndpointSlices.

    ``objects`` is all there is, admitted before or not; what is admitted is not changed by
    admitting it again.  ``previous`` is the admitted Snapshot before: who has an address there
    keeps it.  ``ready`` is the Pods' readiness and ``now`` the time at which Pods begin to go
    (see ``controllers``); without ``now`` they are gone at once.  ``where`` leads
    from a Ref's text to the file, for errors.  Raises ManifestError.
    """
    before = Snapshot() if previous is None else previous
    try:
        given = objects if isinstance(objects, Snapshot) else Snapshot(_distinct(objects))
        return with_readiness(_admitted(given, before, settings, ready, now), ready, settings)
    except ManifestError as error:
        raise error.at((where or {}).get(error.object, "")) from None


def apply(
    previous: Snapshot,
    objects: Iterable[Object],
    settings: Settings = _DEFAULT,
    *,
    ready: Mapping[Key, bool] | None = None,
    where: Mapping[str, str] | None = None,
) -> Snapshot:
    """``previous`` with ``objects`` added or replaced.  Raises ManifestError."""
    try:
        merged = previous.merge(_distinct(objects))
    except ManifestError as error:
        raise error.at((where or {}).get(error.object, "")) from None
    return admit(merged, previous, settings, ready=ready, where=where)


def delete(
    previous: Snapshot,
    refs: Iterable[Ref],
    settings: Settings = _DEFAULT,
    *,
    ready: Mapping[Key, bool] | None = None,
) -> Snapshot:
    """``previous`` without these objects and what was made for them.

    Raises ManifestError for what is not there.
    """
    gone = tuple(refs)
    for ref in gone:
        if previous.get(ref) is None:
            raise ManifestError("there is none", object=str(ref))
    return admit(previous.without(gone), previous, settings, ready=ready)


def with_readiness(
    snapshot: Snapshot, ready: Mapping[Key, bool] | None, settings: Settings = _DEFAULT
) -> Snapshot:
    """The admitted Snapshot with the EndpointSlices that follow from the Pods' readiness."""
    slices = endpoint_slices(snapshot, ready, foreign=settings.foreign)
    others = (thing for thing in snapshot if not isinstance(thing, EndpointSlice))
    return Snapshot((*others, *slices.values()))


def _admitted(
    given: Snapshot,
    previous: Snapshot,
    settings: Settings,
    ready: Mapping[Key, bool] | None,
    now: str | None,
) -> Snapshot:
    own = given if settings.foreign else without_implied(given)
    settings = fitted(settings, given, previous)
    nodes = placed_nodes(given, previous, settings)
    pods = placed_pods(
        deployment_pods(own, ready, now), nodes, own, previous, foreign=settings.foreign
    )
    cidrs = service_cidrs(nodes.values(), settings)
    implied = dns_service(given, previous, cidrs[0]) if settings.dns else None
    closed = not settings.foreign or says_service_cidr(nodes.values())
    services = admitted_services(own, previous, cidrs, settings, implied, closed=closed)
    taken = (*cidrs, *(cidr for node in nodes.values() for cidr in node.spec.pod_cidrs))
    balancers = load_balancer_cidrs(nodes.values(), settings, taken)
    services = with_load_balancers(services, previous, balancers, settings)
    if settings.dns and (dns := services.get(DNS_SERVICE)) is not None:
        pod = dns_pod(dns, pods, nodes, given, previous)
        if pod is not None:
            pods[pod.key] = pod
    objects: tuple[Object, ...] = (*nodes.values(), *pods.values(), *services.values())
    return Snapshot((*given.deployments.values(), *given.endpointslices.values(), *objects))


def _distinct(objects: Iterable[Object]) -> tuple[Object, ...]:
    seen: set[Ref] = set()
    kept = tuple(objects)
    for thing in kept:
        if thing.ref in seen:
            raise ManifestError("is there twice", object=str(thing.ref), remedy="rename one")
        seen.add(thing.ref)
    return kept
