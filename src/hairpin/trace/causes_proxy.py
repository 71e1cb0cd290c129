"""Causes in the proxy's own objects: what Services ask for, and the kernel does not have.

A node's proxy compares the kernel with what it wants; what it would change is the evidence.
"""

from __future__ import annotations

from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import DispatchRule, Jump
from hairpin.state.nftables import NftElement, NftTable
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, entry, forms, server
from hairpin.trace.causes_memory import sendable
from hairpin.trace.observation import Astray, Place
from hairpin.trace.values import Cause, Mend, at

_SHOWN = 3  # objects that are named
_SAID = 18  # lines of a printed mend
_DISPATCH = ("service-ips", "service-nodeports", "services", "KUBE-SERVICES", "KUBE-NODEPORTS")
_MASKING = ("MASQ", "POSTROUTING", "masquerading", "postrouting", "LOOP-BACK", "hairpin-conn",
            "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-EXTERNAL-IP")  # fmt: skip
"""Parts of names: what decides whether a packet gets the node's address."""
_ENTERING = ("PREROUTING", "OUTPUT", "prerouting", "nat-output", "services", "KUBE-SERVICES")


def astray(case: Case) -> Cause | None:
    """The kernel of the node that serves the Service is not as the Service wants it."""
    target, node = case.target, entry(case)
    if target is None or target.port is None or node is None:
        return None
    here = [one for one in case.found.astray if one.change.netns == node.netns]
    owner = f"service {target.service.port_name(target.port)}"
    own = [
        one
        for one in here
        if one.owner == owner and not _other_family(case, one) and not _of_another(case, one)
    ]
    shared = [one for one in here if not one.owner.startswith("service ")]
    if own:
        # What leads to the Service's own is asked first: both are needed.
        leading = [one for one in shared if one.change.verb == "add" and _leads(one)]
        return _told(case, node, _id(own[0]), own, leading)
    rewritten = any(form.destination != case.tried.ip for form in forms(case))
    names = _MASKING if rewritten else _ENTERING
    some = [one for one in shared if any(part in _name(one) for part in names)]
    if some and (not rewritten or not _masqueraded(case)):
        return _told(case, node, "masquerade-missing" if rewritten else "not-programmed", some)
    return None


def _leads(one: Astray) -> bool:
    """Whether it is a jump of nat's that packets to Services take."""
    thing = one.change.object
    return isinstance(thing, Jump | DispatchRule) and any(part in _name(one) for part in _ENTERING)


def _masqueraded(case: Case) -> bool:
    return len({form.source for form in forms(case)}) > 1


def _other_family(case: Case, one: Astray) -> bool:
    """Whether it is about the Service's address of the other family."""
    family = getattr(one.change.object, "family", "")
    return family in ("ip", "ip6") and (family == "ip6") != (case.tried.ip.version == 6)


def _of_another(case: Case, one: Astray) -> bool:
    """Whether it is for an endpoint that asks itself, and the client is not that one."""
    match one.change.object:
        case SetEntry(set=name, ip=ip) if "LOOP-BACK" in name:
            endpoint = ip
        case NftElement(set="hairpin-connections", of=(endpoint, *_)):
            pass
        case _:
            return False
    return not any(own.ip == endpoint for own in case.client.addresses)


def _id(one: Astray) -> str:
    thing = one.change.object
    if isinstance(thing, Address | Link):
        return "vip-not-local"
    if isinstance(thing, SetEntry) and any(part in thing.set for part in _MASKING):
        return "masquerade-missing"
    if one.change.verb == "add" and isinstance(
        thing, VirtualServer | DispatchRule | NftElement | NftTable | SetEntry
    ):
        return "not-programmed"
    if one.change.verb == "add" and isinstance(thing, RealServer):
        return "real-servers-missing"
    if one.change.verb == "add" or getattr(one.change.before, "rules", None) == ():
        return "not-programmed"
    return "programmed-wrong"


def _name(one: Astray) -> str:
    """What the object is called; of a jump the chain that it stands in too."""
    thing = one.change.object
    if isinstance(thing, Jump) and thing.table != "nat":
        return ""
    words = (getattr(thing, name, "") for name in ("chain", "set", "name", "to", "target"))
    return " ".join(one for one in words if isinstance(one, str))


_SAYS = {
    "not-programmed": "nothing there leads to it",
    "real-servers-missing": "who should get its connections is not there",
    "programmed-wrong": "its packets are led otherwise than it asks for",
    "masquerade-missing": "packets that should leave with the node's address keep their own",
    "vip-not-local": "its address is not on kube-ipvs0",
}
_VERBS = {
    "add": "{who} lacks {what}, which {whose} needs: {so}",
    "set": "{what} on {who} is otherwise than {whose} needs it: {so}",
    "late": "{what} on {who} does not stand first, as {whose} needs it, and another rule is met "
    "before: {so}",
    "empty": "{what} on {who} has lost its rules, which {whose} needs: {so}",
    "remove": "{who} has {what}, which {whose} does not ask for: {so}",
}


def _told(
    case: Case, node: Place, id_: str, some: list[Astray], besides: list[Astray] | None = None
) -> Cause:
    assert case.target is not None
    where = at(case.tried.ip, case.tried.port)
    lines = [line for one in (*some, *(besides or ())) for line in one.shell]
    mend = by_hand(node, "; ".join(lines)) if lines else Mend()
    whole = any(
        isinstance(one.change.object, NftTable | Link)
        for one in case.found.astray
        if one.change.netns == node.netns
    )
    if whole or len(lines) > _SAID:  # all is gone: the proxy makes it again when it compares
        mend = Mend(hairpin="hairpin set forward-accept=on")
    more = f", and {len(some) - 1} more" if len(some) > 1 else ""
    return cause(
        id_,
        _verb(some[0]).format(
            who=places.title(node),
            what=_what(some[0]) + more,
            whose=f"Service {case.target.name} ({where})",
            so=_SAYS[id_],
        ),
        mend,
        *(f"the proxy would {one.change.verb} {_what(one)}" for one in some[:_SHOWN]),
        of=where,
    )


def _verb(one: Astray) -> str:
    """How it is not as it should be."""
    if one.change.verb == "set" and isinstance(one.change.object, Jump):
        return _VERBS["late"]
    if getattr(one.change.before, "rules", None) == ():
        return _VERBS["empty"]
    return _VERBS[one.change.verb]


def _what(one: Astray) -> str:
    """The object in a few words."""
    thing = one.change.object
    match thing:
        case VirtualServer(ip=ip, port=port):
            return f"the virtual server {at(ip, port)}"
        case RealServer(ip=ip, port=port):
            return f"the real server {at(ip, port)}"
        case SetEntry(set=name) | NftElement(set=name):
            return f"an entry of {name}"
        case Jump(chain=chain, to=to):
            return f"the jump from {chain} to {to}"
        case DispatchRule(chain=chain):
            return f"a rule in chain {chain}"
        case Address(ip=ip, link=link):
            return f"{ip} on {link}"
        case Link(name=name):
            return f"link {name}"
        case NftTable():
            return "the table kube-proxy"
    name = getattr(thing, "name", "")
    return f"chain {name}" if name else type(thing).__name__


def sent_directly(case: Case) -> Cause | None:
    """IPVS sends packets on with the Service's address on them: not by masquerading."""
    seen, node = server(case), entry(case)
    if seen is None or node is None or case.tried.outcome == "answered":
        return None
    for real in seen.real_servers:
        one = real.server
        if one.forwarding in ("masquerade", "local") or not one.weight:
            continue
        kind = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[case.tried.protocol]
        where, to = at(case.tried.ip, case.tried.port), at(one.ip, one.port)
        return cause(
            "ipvs-forwarding-method",
            f"IPVS on {places.title(node)} sends what is for {where} on to {to} as it is "
            f"({one.forwarding}), and {to} does not take packets for {case.tried.ip}",
            by_hand(
                node,
                f"ipvsadm -e {kind} {where} -r {to} -m -w {one.weight}"
                if (one.ip, one.port) in sendable(case)
                else f"ipvsadm -d {kind} {where} -r {to}",  # that port is not even the endpoint's
            ),
            f"{where} -> {to}: {one.forwarding}",
            of=to,
        )
    return None


def foreign_server(case: Case) -> Cause | None:
    """IPVS chose a real server that somebody else put there."""
    seen, node, real = server(case), entry(case), sendable(case)
    if seen is None or node is None or not real or case.leg == "data":
        return None
    chosen = {(form.destination, form.destination_port) for form in forms(case)}
    for one in (known.server for known in seen.real_servers):
        if (one.ip, one.port) in real or (one.ip, one.port) not in chosen:
            continue
        assert case.target is not None
        kind = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[case.tried.protocol]
        where, to = at(case.tried.ip, case.tried.port), at(one.ip, one.port)
        return cause(
            "real-server-foreign",
            f"IPVS on {places.title(node)} sends what is for {where} to {to}, which is no endpoint "
            f"of Service {case.target.name}: somebody put it there",
            by_hand(node, f"ipvsadm -d {kind} {where} -r {to}"),
            f"real server {to} behind {where}; no EndpointSlice names it",
            of=to,
        )
    return None


def overloaded(case: Case) -> Cause | None:
    """Every real server has as many connections as it may have."""
    seen, node = server(case), entry(case)
    if seen is None or node is None or case.leg != "request" or not seen.real_servers:
        return None
    open_ = [(one.server, one.active + one.inactive) for one in seen.real_servers]
    if not all(one.upper and count >= one.upper for one, count in open_):
        return None
    kind = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[case.tried.protocol]
    where = at(case.tried.ip, case.tried.port)
    lines = [
        f"ipvsadm -e {kind} {where} -r {at(one.ip, one.port)} -m -w {one.weight} -x 0 -y 0"
        for one, _ in open_
    ]
    one, count = open_[0]
    return cause(
        "ipvs-overloaded",
        f"{at(one.ip, one.port)} may have {one.upper} connections by {where} of "
        f"{places.title(node)} (upper threshold), and has {count}: IPVS gives it none more",
        by_hand(node, "; ".join(lines)),
        f"{at(one.ip, one.port)}: {count} connections, threshold {one.upper}",
        of=where,
    )
