"""Causes in what a node remembers: connections and clients that belong to somebody gone."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.trace import places
from hairpin.trace.case import (
    Case,
    by_hand,
    cause,
    server,
)
from hairpin.trace.observation import Place
from hairpin.trace.values import Cause, at


def stale(case: Case) -> Cause | None:
    """The connection was sent to somebody who is no real server any more."""
    seen = server(case)
    tried = case.tried
    if case.leg != "request":
        return None
    if seen is None:
        return _by_conntrack(case, sendable(case)) if case.mode != "ipvs" else None
    real = {(one.server.ip, one.server.port) for one in seen.real_servers}
    for node in case.nodes():
        for entry in node.after.connections:
            mine = (
                entry.vip == tried.ip and entry.vport == tried.port and entry.client == tried.source
            )
            if not mine:
                continue
            if entry.client_port == 0 and _dead(case, entry.server):
                return _pinned(case, node, entry.server, entry.server_port)
            if (
                entry.client_port == tried.source_port
                and (entry.server, entry.server_port) not in real
            ):
                return _remembered(case, node, entry.server, entry.server_port)
    return _by_conntrack(case, real)


def sendable(case: Case) -> set[tuple[IP, int]]:
    """The endpoints that a proxy may send to; empty where the Service's port is not known."""
    target = case.target
    if target is None or target.port is None:
        return set()
    return {
        (address, port.port)
        for piece in case.snapshot.endpointslices.values()
        if piece.service_key == target.service.key
        for port in piece.ports
        if port.port and port.protocol == target.port.protocol
        for one in piece.endpoints
        for address in one.addresses
    }


def _dead(case: Case, address: IP) -> bool:
    return places.holder(case.found.places, address) is None


def _pinned(case: Case, node: Place, address: IP, port: int) -> Cause:
    who = case.target.name if case.target else str(case.tried.ip)
    tried = case.tried
    kind = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[tried.protocol]
    where = at(tried.ip, tried.port)
    return cause(
        "affinity-dead",
        f"Service {who} has session affinity, and {tried.source} is pinned to "
        f"{at(address, port)}, which is gone",
        by_hand(node, f"ipvsadm -d {kind} {where} -r {at(address, port)}"),
        f"persistence template {tried.source} → {at(address, port)}",
        of=f"Service {who}",
    )


def _remembered(case: Case, node: Place, address: IP, port: int) -> Cause:
    tried = case.tried
    shell = f"conntrack -D -p {tried.protocol.lower()} --orig-dst {tried.ip}"
    if node.servers:
        # IPVS has a memory of its own, and forgets whom it does not have when it is told to.
        shell = f"sysctl -w net.ipv4.vs.expire_nodest_conn=1; {shell} || true"
    return cause(
        "stale-connection",
        f"{places.title(node)} remembers this connection (from port {tried.source_port} to "
        f"{at(tried.ip, tried.port)}) as {at(address, port)}'s, which is no endpoint any more",
        by_hand(node, shell),
        f"remembered: {at(address, port)}",
        of=at(address, port),
    )


def _by_conntrack(case: Case, real: set[tuple[IP, int]]) -> Cause | None:
    tried = case.tried
    if not real:
        return None
    for node in case.nodes():
        for flow in node.before.flows:
            one, back = flow.original, flow.reply
            if (one.destination, one.destination_port, one.source_port, one.source) != (
                tried.ip, tried.port, tried.source_port, tried.source,
            ):  # fmt: skip
                continue
            if (back.source, back.source_port) not in real and back.source != tried.ip:
                return _remembered(case, node, back.source, back.source_port)
    return None
