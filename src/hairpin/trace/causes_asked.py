"""Causes in the question: what a Service does not have, or its address is not for."""

from __future__ import annotations

from hairpin.model.service import ServicePort
from hairpin.trace import places
from hairpin.trace.case import Case, Target, cause, edited, endpoints, entry, forms
from hairpin.trace.observation import Place
from hairpin.trace.sockets import listeners
from hairpin.trace.values import Cause, Mend, at

_MODES = {"ipvs": "IPVS", "nftables": "nftables", "iptables": "iptables", "none": "a proxy"}


def node_port_on_localhost(case: Case) -> Cause | None:
    """IPVS serves node ports on the node's addresses, not on loopback."""
    target, tried = case.target, case.tried
    if not tried.ip.is_loopback or target is None or target.kind != "NodePort":
        return None
    node = case.node_of(case.client)
    inside = case.client.role == "pod"
    why = (
        f"{tried.ip} is {places.title(case.client)} itself, where no node's ports are"
        if inside
        else f"{_MODES[case.mode]} serves node ports on the node's own addresses, "
        f"{'not here' if case.mode == 'iptables' else 'never'} on {tried.ip}"
    )
    return cause(
        "nodeport-localhost",
        f"port {tried.port} is a node port of Service {target.name}, and {why}: ask "
        f"{_own(case, node)}",
        Mend(),
        f"nothing is made for {at(tried.ip, tried.port)}",
        of=f"Service {target.name}",
    )


def node_port_elsewhere(case: Case) -> Cause | None:
    """The node has the address, and does not serve node ports on it (nodePortAddresses)."""
    target, tried, node = case.target, case.tried, entry(case)
    if target is None or target.port is None or target.kind != "NodePort" or node is None:
        return None
    if tried.outcome != "refused" or case.found.astray or str(tried.ip) in _told(case, node):
        return None
    if not places.is_local(node, tried.ip) or any(
        form.destination != tried.ip for form in forms(case)
    ):
        return None
    who = places.title(node)
    return cause(
        "nodeport-address",
        f"port {tried.port} is a node port of Service {target.name}, and {who} does not serve node "
        f"ports on {tried.ip} (nodePortAddresses says where; in nftables mode it is the node's "
        f"primary address if nothing is said): ask {_own(case, node)}",
        Mend(),
        f"{who} refused {at(tried.ip, tried.port)} itself, and rewrote nothing",
        of=f"Service {target.name}",
    )


def _told(case: Case, node: Place) -> set[str]:
    """The addresses that the Node's status says."""
    known = case.snapshot.nodes.get(("", node.name))
    return {one.address for one in known.status.addresses} if known is not None else set()


def _own(case: Case, node: Place | None) -> str:
    """An address on which node ports are served."""
    if node is None:
        return "a node's address"
    version = case.tried.ip.version
    some = [one for one in node.addresses if one.ip.version == version]
    some = [one for one in some if one.link not in ("lo", "kube-ipvs0", "cni0")]
    told = [one for one in some if str(one.ip) in _told(case, node)] or some
    return at(told[0].ip, case.tried.port) if told else "a node's address"


def no_such_port(case: Case) -> Cause | None:
    """The Service's address was asked on a port, or by a protocol, that it does not have."""
    target, tried = case.target, case.tried
    if target is None or target.port is not None or tried.protocol == "ICMP":
        return None
    by_node = target.kind == "NodePort"
    ports = target.service.spec.ports
    who = f"Service {target.name}"
    same = next((one for one in ports if (one.node_port if by_node else one.port) == tried.port),
                None)  # fmt: skip
    if same is not None:
        what = "node port" if by_node else "port"
        mend = _other_protocol(case, target, same)
        ask = "" if mend.hairpin else f": ask it by {same.protocol}"
        return cause(
            "wrong-protocol",
            f"{who} has {what} {tried.port} for {same.protocol}, and it was asked by "
            f"{tried.protocol}{ask}",
            mend,
            f"{who}: {what} {tried.port}/{same.protocol}",
            of=who,
        )
    has = ", ".join(f"{one.port}/{one.protocol}" for one in ports)
    return cause(
        "no-such-port",
        f"{who} has no port {tried.port}/{tried.protocol}: it has {has}",
        Mend(),
        f"asked: {tried.port}/{tried.protocol}; ports: {has}",
        of=who,
    )


def _other_protocol(case: Case, target: Target, port: ServicePort) -> Mend:
    """The Service's only port becomes one of the protocol asked, if a server listens for that."""
    addresses = {address for one in endpoints(case) for address in one.addresses}
    numbers = {port.target_port, port.port} if port.target_port is not None else {port.port}
    listens = any(
        one.protocol == case.tried.protocol and one.port in numbers
        for place in case.found.places
        if any(own.ip in addresses for own in place.addresses)
        for one in listeners(place)
    )
    if not listens or len(target.service.spec.ports) != 1:
        return Mend()
    metadata = target.service.metadata
    sed = f"s/protocol: {port.protocol}/protocol: {case.tried.protocol}/"
    return edited("svc", metadata.name, metadata.namespace, sed)


def icmp_to_service(case: Case) -> Cause | None:
    """Cluster IPs do not answer pings by design."""
    if case.tried.protocol != "ICMP" or case.target is None:
        return None
    return cause(
        "icmp-to-service",
        f"{case.tried.ip} is an address of Service {case.target.name}: Services carry TCP, UDP and "
        "SCTP on their ports and need not answer pings",
        Mend(),
        f"asked: ICMP to {case.tried.ip}",
        of=f"Service {case.target.name}",
    )
