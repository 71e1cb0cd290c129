"""The story's claims for a real cluster: what a node must show if they are true there as well.

Each looks at what a node holds (``audit.case.Case``) and says what of it bears the claim out.  They
only read; who connects is in ``cli``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from hairpin.audit.case import Case, many
from hairpin.audit.report import Report
from hairpin.claims.base import Language, Text
from hairpin.model.address import IP
from hairpin.model.snapshot import Snapshot
from hairpin.plan.frontends import Place, resolve
from hairpin.plan.ipvs import LINK
from hairpin.plan.whole import slices_by_service

Result = Literal["held", "differs", "failed", "skipped"]
"""differs: it is otherwise in this mode, and known to be."""

_CALL = "net.bridge.bridge-nf-call-iptables"


class Seen(msgspec.Struct, frozen=True):
    """What a claim came to, and what was seen."""

    result: Result
    text: str


class ClusterClaim(msgspec.Struct, frozen=True):
    """``look`` judges a node and the audit of it."""

    id: str
    says: Text
    look: Callable[[Case, Report], Seen]


class ClusterVerdict(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    says: Text
    result: Result
    seen: str


def judged(case: Case, found: Report) -> list[ClusterVerdict]:
    """Every claim on one node."""
    return [
        ClusterVerdict(id=one.id, says=one.says, result=seen.result, seen=seen.text)
        for one in CLAIMS
        if (seen := one.look(case, found))
    ]


def structured(
    verdicts: Sequence[ClusterVerdict], found: Report, language: Language
) -> dict[str, object]:
    """What ``hairpin check --cluster -o json`` prints."""
    return {
        "node": found.node,
        "mode": found.mode,
        "claims": [
            {"id": one.id, "says": one.says.said(language), "result": one.result, "seen": one.seen}
            for one in verdicts
        ],
    }


def tries(snapshot: Snapshot, case: Case, most: int) -> list[tuple[str, IP, int]]:
    """TCP frontends of ClusterIPs that somebody serves: Service, address, port; at most so many."""
    found: list[tuple[str, IP, int]] = []
    place = Place(case.node.name, case.node.zone)
    slices = slices_by_service(snapshot)
    for key, service in snapshot.services.items():
        for port in resolve(place, service, slices.get(key, ())).ports:
            first = port.frontends[0]
            if port.protocol == "TCP" and port.chosen(first.policy) and len(found) < most:
                found.append((str(port.name), port.cluster_ip, first.port))
    return found


def _setting(name: str, why: str) -> Callable[[Case, Report], Seen]:
    def look(case: Case, found: Report) -> Seen:
        del found
        value = case.held.settings.get(name)
        if value is None:
            return Seen("skipped", f"{name} is not there{why}")
        return Seen("held" if value == "1" else "failed", f"{name} = {value}")

    return look


def _forward_accept(case: Case, found: Report) -> Seen:
    del found
    policies = {
        family: printed.policies.get(("filter", "FORWARD"), "ACCEPT")
        for family, printed in case.held.tables.items()
    }
    if not policies:
        return Seen("skipped", "iptables could not be read")
    if set(policies.values()) == {"ACCEPT"}:
        return Seen("held", "the policy of FORWARD is ACCEPT")
    rules = case.held.tables["ip"].chains.get(("filter", "FORWARD"), [])
    return Seen(
        "held" if len(rules) > 1 else "failed",
        f"the policy of FORWARD is DROP, and {len(rules)} rules let packets pass",
    )


def _vip_local(case: Case, found: Report) -> Seen:
    own = {one.ip for one in case.held.addresses}
    ips = case.owners.cluster_ips
    local = len(ips & own)
    if not case.held.knows("addresses"):
        return Seen("skipped", "links could not be read")
    if found.mode == "ipvs":
        text = f"{local} of {len(ips)} ClusterIPs are addresses of {LINK}"
        return Seen("held" if local == len(ips) else "failed", text)
    text = (
        f"{local} of {len(ips)} ClusterIPs are addresses of the node: {found.mode} rewrites packets"
    )
    return Seen("differs" if not local else "failed", f"{text} before they are routed")


def _served(case: Case, found: Report) -> Seen:
    wrong = [
        one for one in found.findings if one.what in ("missing", "wrong") and one.owner != "proxy"
    ]
    if any(one.needed for one in found.not_judged):
        return Seen("skipped", "; ".join(one.why for one in found.not_judged if one.needed))
    total = len(case.plan.plans)
    text = f"{many(total, 'Service')}; of theirs {many(len(wrong), 'object')} missing or wrong"
    return Seen("failed" if wrong else "held", text)


def _hairpin(case: Case, found: Report) -> Seen:
    del found
    ports = case.held.ports
    if not case.held.knows("bridge"):
        return Seen("skipped", "bridges could not be read")
    if not ports:
        return Seen("skipped", "Pods of this node share no bridge")
    bare = [one for one in ports if not one.hairpin and one.bridge not in case.held.promiscuous]
    able = f"{len(ports) - len(bare)} of {len(ports)} bridge ports"
    text = f"{able} send a frame back, or their bridge is promiscuous"
    if bare and case.held.settings.get(_CALL, "0") != "1":
        return Seen("differs", f"{text}; with br_netfilter off the bridge is not asked to")
    return Seen("failed" if bare else "held", text)


def _masquerade(case: Case, found: Report) -> Seen:
    del case
    names = ("KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-LOOP-BACK", "masquerading", "hairpin-conn")
    wrong = [
        one.subject
        for one in found.findings
        if one.what in ("missing", "wrong") and any(name in one.subject for name in names)
    ]
    if wrong:
        return Seen("failed", "; ".join(wrong[:3]))
    if any(one.needed for one in found.not_judged):
        return Seen("skipped", "; ".join(one.why for one in found.not_judged if one.needed))
    return Seen("held", "what masquerades who reaches himself is all there")


def _ipvs_conntrack(case: Case, found: Report) -> Seen:
    if found.mode != "ipvs":
        return Seen("skipped", f"{found.mode} mode rewrites by conntrack itself")
    return _setting("net.ipv4.vs.conntrack", ": no IPVS here")(case, found)


def _br_netfilter(case: Case, found: Report) -> Seen:
    if case.held.knows("bridge") and not case.held.ports:
        return Seen("skipped", "Pods of this node share no bridge")
    return _setting(_CALL, ": br_netfilter is not loaded")(case, found)


CLAIMS: tuple[ClusterClaim, ...] = (
    ClusterClaim(
        "seed.forwarding",
        Text("the node routes packets of others", "节点转发别人的包"),
        _setting("net.ipv4.ip_forward", ""),
    ),
    ClusterClaim(
        "seed.forward-accept",
        Text("FORWARD lets the Pods' packets through", "FORWARD 链放行 Pod 的包"),
        _forward_accept,
    ),
    ClusterClaim(
        "seed.vip-local",
        Text("a Service's address is an address of the node", "Service 的地址是节点本地的地址"),
        _vip_local,
    ),
    ClusterClaim(
        "seed.virtual-server",
        Text(
            "each Service's address and port leads to its endpoints",
            "每个 Service 的地址和端口都通向它的后端",
        ),
        _served,
    ),
    ClusterClaim(
        "seed.hairpin",
        Text(
            "the bridge sends a frame back by the port that it came in on",
            "网桥可以把帧从它进来的端口送回去",
        ),
        _hairpin,
    ),
    ClusterClaim(
        "seed.masquerade",
        Text(
            "who reaches himself through a Service is masqueraded",
            "经 Service 访问自己的流量会做 SNAT",
        ),
        _masquerade,
    ),
    ClusterClaim(
        "seed.ipvs-conntrack",
        Text("conntrack sees what IPVS forwards", "conntrack 能看到 IPVS 转发的连接"),
        _ipvs_conntrack,
    ),
    ClusterClaim(
        "seed.br-netfilter",
        Text("bridged packets pass iptables", "经过网桥的包会经过 iptables"),
        _br_netfilter,
    ),
)
"""The ingredients of the story, in its order (``claims.seed``)."""
