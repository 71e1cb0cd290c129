"""Causes in what the Service says, and who stands behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hairpin.model.pod import Pod, Probe
from hairpin.trace import places
from hairpin.trace.case import (
    Case,
    Target,
    by_hand,
    cause,
    edited,
    endpoints,
    entry,
    forms,
    server,
    vips,
)
from hairpin.trace.observation import Place
from hairpin.trace.values import Cause, Mend, at


def _failed_at_service(case: Case) -> bool:
    """Whether the request never got beyond the node that serves it."""
    if case.target is None or case.leg != "request":
        return False
    arrived = case.last is not None and case.where.role == "pod" and case.last.seen.way == "in"
    return not arrived


def no_endpoints(case: Case) -> Cause | None:
    """Nobody stands behind the Service: of the reasons, the one that holds."""
    target = case.target
    if target is None or target.port is None or not _failed_at_service(case):
        return None
    seen = server(case)
    if seen is not None and seen.real_servers:
        return None
    every = endpoints(case)
    ready = [one for one in every if one.conditions.ready is not False]
    if not every:
        return _nothing_selected(case, target)
    if not ready:
        return _not_ready(case, target)
    return _not_local(case, target)


def _nothing_selected(case: Case, target: Target) -> Cause:
    service = target.service
    selector = service.spec.selector
    who = f"Service {target.name}"
    if not selector:
        return cause(
            "no-endpoints",
            f"{who} has no selector and no EndpointSlice names an endpoint for it",
            Mend(),
            f"{who}: no selector, no endpoints",
            of=who,
        )
    words = ",".join(f"{key}={value}" for key, value in selector.items())
    namespace = service.metadata.namespace
    pods = [pod for pod in case.snapshot.pods.values() if pod.metadata.namespace == namespace]
    if case.found.partial and not pods:  # on a real node Pods are not asked for
        flag = "" if namespace == "default" else f" -n {namespace}"
        return cause(
            "no-endpoints",
            f"{who} selects Pods with {words}, and no EndpointSlice names an endpoint for it",
            Mend(shell=f"kubectl get pods{flag} -l {words}"),
            f"{who}: no endpoints",
            of=who,
        )
    closest = _closest(pods, selector)
    if closest is None:
        return cause(
            "selector-matches-nothing",
            f"{who} selects Pods with {words}, and there is none in namespace {namespace}",
            Mend(),
            f"no Pod in {namespace} has {words}",
            of=who,
        )
    mend = Mend()
    wrong = {key: value for key, value in selector.items()
             if closest.metadata.labels.get(key) != value}  # fmt: skip
    right = {key: closest.metadata.labels[key] for key in wrong if key in closest.metadata.labels}
    if len(right) == len(wrong):
        sed = "; ".join(f"/selector:/,/^  [a-z]/s/{k}: {wrong[k]}$/{k}: {right[k]}/" for k in right)
        patch = json.dumps({"spec": {"selector": right}})
        mend = edited("svc", service.metadata.name, namespace, sed, patch)
    else:
        mend = _renamed(service.metadata.name, namespace, wrong, closest)
    labels = ",".join(f"{key}={value}" for key, value in closest.metadata.labels.items())
    return cause(
        "selector-matches-nothing",
        f"{who} selects Pods with {words}, and no Pod has that: {closest.metadata.name} has "
        f"{labels}",
        mend,
        f"{who} has no endpoints",
        of=who,
    )


def _renamed(name: str, namespace: str, wrong: Mapping[str, str], closest: Pod) -> Mend:
    """The selector has a label that the Pod has by another key."""
    own = {value: key for key, value in closest.metadata.labels.items()}
    pairs = [(key, value) for key, value in wrong.items() if value in own]
    if not pairs:
        return Mend()
    sed = "; ".join(f"/selector:/,/^  [a-z]/s/{k}: {v}$/{own[v]}: {v}/" for k, v in pairs)
    return edited("svc", name, namespace, sed)


def _closest(pods: list[Pod], selector: Mapping[str, str]) -> Pod | None:
    """The Pod that was most likely meant: most labels equal, else most like the selector's text."""
    from difflib import SequenceMatcher

    def likeness(pod: Pod) -> float:
        labels = pod.metadata.labels
        equal = sum(labels.get(key) == value for key, value in selector.items())
        texts = [f"{key}={value}" for key, value in labels.items()] or [""]
        wanted = [f"{key}={value}" for key, value in selector.items()]
        close = max(SequenceMatcher(None, a, b).ratio() for a in texts for b in wanted)
        return equal + close

    best = max(pods, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.5 else None


def _not_ready(case: Case, target: Target) -> Cause:
    who = f"Service {target.name}"
    names = [one.target_ref.name for one in endpoints(case) if one.target_ref is not None]
    count = len(endpoints(case))
    some = f"Pod {names[0]} is" if len(names) == 1 else f"its {count} endpoints are"
    if count == 1 and not names:
        some = "its only endpoint is"
    namespace = target.service.metadata.namespace
    pod = case.snapshot.pods.get((namespace, names[0])) if names else None
    why, mend = "", Mend()
    for container in pod.spec.containers if pod else ():
        probe = container.readiness_probe
        if probe is None or pod is None:
            continue
        why = f": its readiness probe fails{_asked_by(probe)}"
        if probe.exec is not None:
            command = probe.exec.command
            why = f": its readiness probe fails ({' '.join(command)})"
            if len(command) in (2, 3) and command[0] in ("cat", "test", "ls"):
                shell = f"touch {command[-1]}"
                flag = "" if namespace == "default" else f"-n {namespace} "
                mend = Mend(
                    hairpin=f"hairpin exec {flag}{pod.metadata.name} -- {shell}",
                    shell=f"kubectl exec {flag}{pod.metadata.name} -- {shell}",
                )
    return cause(
        "endpoints-not-ready",
        f"{some} not ready{why}, so {who} has no endpoint that takes connections",
        mend,
        f"{who} has {count} endpoints, none ready",
        of=who,
    )


def _asked_by(probe: Probe) -> str:
    """What a readiness probe does, in brackets: ``(GET /ready on port 8080)``."""
    if probe.http_get is not None:
        return f" (GET {probe.http_get.path or '/'} on port {probe.http_get.port})"
    if probe.tcp_socket is not None:
        return f" (a TCP connection to port {probe.tcp_socket.port})"
    return ""


def _not_local(case: Case, target: Target) -> Cause | None:
    service = target.service
    internal = service.spec.internal_traffic_policy == "Local" and target.kind == "ClusterIP"
    node = entry(case)
    policy = "internalTrafficPolicy" if internal else "externalTrafficPolicy"
    external = service.spec.external_traffic_policy == "Local" and target.kind != "ClusterIP"
    if not (internal or external):
        return None
    elsewhere = sorted({one.node_name for one in endpoints(case) if one.node_name})
    if node is None or node.name in elsewhere:
        return None
    who = f"Service {target.name}"
    sed = f"s/{policy}: Local/{policy}: Cluster/"
    patch = json.dumps({"spec": {policy: "Cluster"}})
    return cause(
        "local-policy",
        f"{who} has {policy} Local, and node {node.name} has none of its endpoints: they are on "
        f"{', '.join(elsewhere)}",
        edited("svc", service.metadata.name, service.metadata.namespace, sed, patch),
        f"no endpoint behind {at(case.tried.ip, case.tried.port)} on {node.name}",
        of=who,
    )


def local_policy(case: Case) -> Cause | None:
    """Who asks from outside gets to a node without endpoints.

    IPVS then has the other nodes' behind it, which answer the client by themselves, unmasked
    (syncEndpoint in kube-proxy's pkg/proxy/ipvs/proxier.go).
    """
    target = case.target
    if target is None or target.port is None or target.kind == "ClusterIP":
        return None
    if target.service.spec.external_traffic_policy != "Local" or case.client.role != "outside":
        return None
    return _not_local(case, target) if endpoints(case) else None


def weight_zero(case: Case) -> Cause | None:
    """All real servers have weight 0: IPVS takes no new connection."""
    seen = server(case)
    node = entry(case)
    if seen is None or node is None or not seen.real_servers or not _failed_at_service(case):
        return None
    if any(one.server.weight for one in seen.real_servers):
        return None
    one = seen.server
    where = at(one.ip, one.port)
    kind = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[one.protocol]
    lines = [
        f"ipvsadm -e {kind} {where} -r {at(real.server.ip, real.server.port)} -m -w 1"
        for real in seen.real_servers
    ]
    count = len(lines)
    some = "the only real server has" if count == 1 else f"all {count} real servers have"
    return cause(
        "weight-zero",
        f"{some} weight 0 behind {where} on {places.title(node)}, so IPVS takes no new connection",
        by_hand(node, " && ".join(lines)),
        f"{where}: weight 0",
        of=where,
    )


def real_servers_missing(case: Case) -> Cause | None:
    """The Service has endpoints that can be used, and IPVS on that node knows none of them."""
    target, node = case.target, entry(case)
    if target is None or target.port is None or node is None or not _failed_at_service(case):
        return None
    seen = server(case)
    if seen is not None and seen.real_servers:
        return None
    where = at(case.tried.ip, case.tried.port)
    ready = [one for one in endpoints(case) if one.conditions.ready is not False]
    if not ready or any(form.destination != case.tried.ip for form in forms(case)):
        return None
    if case.mode == "none" and not case.found.astray:
        return cause(
            "not-programmed",
            f"{where} is Service {target.name}'s, and nobody serves Services on "
            f"{places.title(node)}: no virtual server and no rule of a proxy is there",
            Mend(),
            f"{node.netns}: no IPVS, no KUBE-SERVICES, no table kube-proxy",
            of=where,
        )
    if case.found.astray or (case.mode != "ipvs" and not case.found.partial):
        return None  # what the proxy itself finds says it better, see causes_proxy
    if case.mode != "ipvs":
        return _no_rules(case, target, node, where)
    lacks = "no real servers behind it" if seen is not None else "no virtual server for it"
    return cause(
        "not-programmed" if seen is None else "real-servers-missing",
        f"{where} is Service {target.name}'s and it has {len(ready)} endpoints, but IPVS on "
        f"{places.title(node)} has {lacks}",
        Mend(hairpin="hairpin set vip-local=on"),
        f"no {'real' if seen else 'virtual'} server {where}",
        of=where,
    )


def _no_rules(case: Case, target: Target, node: Place, where: str) -> Cause | None:
    """The other modes: no rule names the Service's address and port."""
    texts = node.after.texts
    program = "iptables" if case.tried.ip.version == 4 else "ip6tables"
    rules = texts.get("nft" if case.mode == "nftables" else program, "")
    named = str(case.tried.ip) in rules
    if target.kind == "NodePort":
        named = str(case.tried.port) in rules
    if case.mode != "none" and named:
        return None
    return cause(
        "not-programmed",
        f"{where} is Service {target.name}'s and it has endpoints, but no rule on "
        f"{places.title(node)} leads there",
        Mend(hairpin="hairpin set forward-accept=on"),
        f"{case.tried.ip} is in no rule",
        of=where,
    )


def vip_not_local(case: Case) -> Cause | None:
    """The VIP is no address of the node, so its packets pass IPVS by."""
    target, tried = case.target, case.tried
    if target is None or target.port is None or not _failed_at_service(case):
        return None
    node = entry(case)
    if node is None or target.kind == "NodePort" or not node.servers:
        return None
    if places.is_local(node, tried.ip) or (server(case) is None and tried.ip in vips(node)):
        return None
    prefix = tried.ip.max_prefixlen
    shell = f"ip address add {tried.ip}/{prefix} dev kube-ipvs0"
    return cause(
        "vip-not-local",
        f"{tried.ip} is no address of {places.title(node)}: IPVS only sees packets for the node "
        "itself, so the packet is routed on as any other",
        Mend(hairpin="hairpin set vip-local=on", shell=shell),
        f"kube-ipvs0 of {node.netns} lacks {tried.ip}",
        of=str(tried.ip),
    )
