"""The table of causes: symptom, evidence that must be there, and where the rule is from.

The first row whose evidence is there names the cause; the order is that of what hides what.  What
no row explains stays unknown: no cause is ever guessed.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hairpin.trace import (
    causes_address,
    causes_asked,
    causes_bridge,
    causes_client,
    causes_filter,
    causes_hop,
    causes_link,
    causes_memory,
    causes_mtu,
    causes_names,
    causes_node,
    causes_proxy,
    causes_route,
    causes_rules,
    causes_server,
    causes_service,
    causes_tunnel,
)
from hairpin.trace.case import Case, entry
from hairpin.trace.values import Cause, Mend

Judge = Callable[[Case], Cause | None]


class Row(msgspec.Struct, frozen=True):
    """One kind of failure.  ``ids`` are those that it can name."""

    ids: tuple[str, ...]
    symptom: str
    evidence: str
    source: str
    judge: Judge


_SERVICES = "https://kubernetes.io/docs/concepts/services-networking/service/"
_DEBUG = "https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/"
_SLICES = "https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/"
_IP_SYSCTL = "Linux, Documentation/networking/ip-sysctl.rst"
_IPVS_SYSCTL = "Linux, Documentation/networking/ipvs-sysctl.rst"

TABLE: tuple[Row, ...] = (
    Row(
        ("icmp-to-service",), "a ping of a Service's address", "the address is a Service's",
        _SERVICES, causes_asked.icmp_to_service,
    ),
    Row(
        ("no-free-port",), "nothing was sent", "the client's kernel had no port left for it",
        "Linux, ip_local_port_range in ip-sysctl.rst", causes_client.no_free_port,
    ),
    Row(
        ("nodeport-localhost",), "a node port asked on loopback",
        "a Service has that node port; the address is loopback",
        "kube-proxy, pkg/proxy/ipvs: no virtual server on loopback",
        causes_asked.node_port_on_localhost,
    ),
    Row(
        ("link-down",), "the request did not leave", "the client's link, or its other end, is down",
        "ip-link(8)", causes_client.link_down,
    ),
    Row(
        ("blackhole-route", "policy-routing"), "it was to be sent on, and was refused or dropped",
        "a route is there to refuse it, or a policy rule leads to such a one", "ip-route(8)",
        causes_route.refused_by_route,
    ),
    Row(
        ("gateway-missing", "no-route"), "the request did not leave",
        "no route of the client's matches", "ip-route(8)", causes_client.client_no_route,
    ),
    Row(
        ("gateway-wrong",), "the request, or the answer, did not leave its Pod",
        "the Pod's route leads to an address that is not its node's", "ip-route(8)",
        causes_client.gateway_wrong,
    ),
    Row(
        ("duplicate-ip",), "the request, or the answer, went to the wrong place",
        "two namespaces have an address of the connection's", "RFC 5227",
        causes_client.duplicate_ip,
    ),
    Row(
        ("conntrack-full",), "it went into a node and did not come out",
        "nf_conntrack_count is at nf_conntrack_max",
        "Linux, Documentation/networking/nf_conntrack-sysctl.rst", causes_node.conntrack_full,
    ),
    Row(
        ("stale-connection", "affinity-dead"), "sent to an endpoint that is gone",
        "IPVS or conntrack has an entry of this client for somebody who is no real server",
        _IPVS_SYSCTL, causes_memory.stale,
    ),
    Row(
        ("address-missing", "ipv6-off"), "the request went to a Pod that does not take it",
        "the Pod's links do not have the address that its status says", "ip-address(8)",
        causes_address.address_missing,
    ),
    Row(
        ("wrong-protocol", "no-such-port"), "the Service does not have what was asked for",
        "its address, with another port or protocol", _DEBUG, causes_asked.no_such_port,
    ),
    Row(
        ("vip-not-local",), "the request passed IPVS by",
        "the Service's address is no local one of the node",
        "net/netfilter/ipvs/ip_vs_core.c: IPVS hooks LOCAL_IN", causes_service.vip_not_local,
    ),
    Row(
        ("port-name-mismatch", "named-port-missing"), "refused or unanswered at the node",
        "no EndpointSlice of the Service has a port of that name and protocol", _SLICES,
        causes_names.port_names,
    ),
    Row(
        ("no-endpoints", "selector-matches-nothing", "endpoints-not-ready", "local-policy"),
        "refused or unanswered at the node", "the virtual server has no real server", _DEBUG,
        causes_service.no_endpoints,
    ),
    Row(
        ("not-programmed", "real-servers-missing"), "refused or unanswered at the node",
        "the Service has endpoints that IPVS does not have", _DEBUG,
        causes_service.real_servers_missing,
    ),
    Row(
        ("weight-zero",), "refused or unanswered at the node", "all real servers have weight 0",
        "ipvsadm(8)", causes_service.weight_zero,
    ),
    Row(
        ("local-policy",), "a client outside was not answered, or by somebody it did not ask",
        "externalTrafficPolicy Local, and the node has no endpoint", _SERVICES,
        causes_service.local_policy,
    ),
    Row(
        ("not-tracked",), "nothing rewrote it, or the answer was not put back",
        "a rule that hides packets from conntrack was met", "iptables-extensions(8)",
        causes_rules.not_tracked,
    ),
    Row(
        ("rule",), "nothing rewrote it",
        "a rule of nat accepted it before the Service's were asked", "iptables(8)",
        causes_rules.accepted_too_early,
    ),
    Row(
        ("rewritten-by-rule",), "it was sent to where nobody is, or nobody listens",
        "a hook told that it met a rule of nobody's proxy that says so", "iptables-extensions(8)",
        causes_rules.sent_to_nobody,
    ),
    Row(
        ("ports-taken",), "it went into a node and did not come out",
        "it met a rule that gives few ports, and conntrack has connections with all of them",
        "iptables-extensions(8), net/netfilter/nf_conntrack_core.c", causes_rules.ports_taken,
    ),
    Row(
        ("ipvs-overloaded",), "refused at the node",
        "each real server has as many connections as its upper threshold", "ipvsadm(8)",
        causes_proxy.overloaded,
    ),
    Row(
        ("ipvs-forwarding-method",), "it came to the endpoint with the Service's address on it",
        "the real server is not one of masquerading", "ipvsadm(8)", causes_proxy.sent_directly,
    ),
    Row(
        ("real-server-foreign",), "IPVS sent it to somebody who is no endpoint",
        "a real server that no EndpointSlice of the Service names", "ipvsadm(8)",
        causes_proxy.foreign_server,
    ),
    Row(
        ("not-programmed", "real-servers-missing", "programmed-wrong", "masquerade-missing",
         "vip-not-local"),
        "refused, unanswered or sent elsewhere at the node",
        "the kernel lacks what the node's proxy wants for the Service, or has it otherwise", _DEBUG,
        causes_proxy.astray,
    ),
    Row(
        ("source-ranges",),
        "dropped or refused at the node",
        "the Service's source ranges leave the client out",
        _SERVICES,
        causes_node.outside_ranges,
    ),
    Row(
        ("both-iptables",), "dropped by rules that the usual iptables does not show",
        "a rule of the other variant counted it", "xtables-nft(8)", causes_node.both_iptables,
    ),
    Row(
        ("source-ranges", "forward-drop", "input-rule", "forward-rule", "output-rule",
         "policy-drop", "filtered-by-proxy", "bridge-rule",
         "no-such-service", "rule"),
        "it went into a node and did not come out",
        "a rule or policy that ends packets counted one that may be it", "iptables(8)",
        causes_node.rule,
    ),
    Row(
        ("nodeport-address",), "the node refused a node port of a Service itself",
        "it has the address, rewrote nothing, and lacks nothing of the Service",
        f"{_SERVICES}#nodeport-custom-listen-address",
        causes_asked.node_port_elsewhere,
    ),
    Row(
        ("ttl-exceeded",), "a router said that it went too far", "an ICMP error, time exceeded",
        "RFC 792", causes_rules.ttl_exceeded,
    ),
    Row(
        ("forwarding-off",), "it went into a node and did not come out",
        "the node's setting for forwarding is 0", _IP_SYSCTL, causes_node.forwarding_off,
    ),
    Row(
        ("not-on-bridge", "port-blocked", "port-isolated", "vlan-filtered", "fdb-wrong",
         "port-no-flood"),
        "it went into a bridge and did not come out", "what the bridge's ports are set to",
        "bridge(8)", causes_link.at_bridge,
    ),
    Row(
        ("bridge-rule",), "it went into a bridge and did not come out",
        "a rule of the bridge's tables that drops has counted one that may be it", "nft(8)",
        causes_filter.bridge_rule,
    ),
    Row(
        ("arp-off", "wrong-neighbour", "tunnel-entry"),
        "it was sent to nobody's hardware address, or to a wrong one",
        "the neighbour's entry is not what the next hop has", "ip-neighbour(8)",
        causes_link.wrong_neighbour,
    ),
    Row(
        ("hairpin-off",), "it went into a bridge and did not come out",
        "it has to go back where it came from; neither hairpin mode nor promiscuous",
        "bridge(8), should_deliver in net/bridge/br_forward.c", causes_bridge.hairpin_off,
    ),
    Row(
        ("ipvs-conntrack-off", "masquerade-missing"), "it arrived, from the Pod's own address",
        "source and destination are the same Pod's", _IPVS_SYSCTL, causes_bridge.to_itself,
    ),
    Row(
        ("tunnel-entry", "tunnel-rule", "no-route"), "it went into a tunnel and did not come out",
        "the forwarding entry, the route to the other node, or a rule that counted its packets",
        "bridge(8), Documentation/networking/vxlan.rst", causes_tunnel.tunnel,
    ),
    Row(
        ("rewritten-by-rule",), "it went to, or came from, an address that leads nowhere",
        "a rule of nobody's proxy gave it that address", "iptables-extensions(8)",
        causes_rules.rewritten_by_rule,
    ),
    Row(
        ("rp-filter",), "it came in and went no further",
        "rp_filter is strict, and the way back is by another link", _IP_SYSCTL,
        causes_node.rp_filter,
    ),
    Row(
        ("policy-routing",), "it was sent by an unusual way", "a policy rule asks another table",
        "ip-rule(8)", causes_route.led_away_by_policy,
    ),
    Row(
        ("no-route-to-pods",), "it did not get to the other node",
        "no route, or another one, to that node's Pods",
        "https://kubernetes.io/docs/concepts/services-networking/#the-kubernetes-network-model",
        causes_node.no_route_to_pods,
    ),
    Row(
        ("br-netfilter-off", "ipvs-conntrack-off", "masquerade-missing"),
        "the answer came from somebody not asked",
        "its source is the server's own address", "Linux, br_netfilter in ip-sysctl.rst",
        causes_bridge.answer_from_stranger,
    ),
    Row(
        ("wrong-target-port", "nobody-listens", "listens-on-localhost", "listens-elsewhere",
         "wrong-protocol", "address-taken"),
        "the server's kernel refused it", "no socket takes it in the server's namespace", _DEBUG,
        causes_server.nobody_listens,
    ),
    Row(
        ("gateway-missing", "no-route"), "it arrived, and the answer did not leave",
        "the server's namespace has no route to whom it came from", "ip-route(8)",
        causes_server.server_no_way_back,
    ),
    Row(
        ("ping-ignored",), "it arrived, and there was no answer", "the setting says so",
        _IP_SYSCTL, causes_server.ping_ignored,
    ),
    Row(
        ("mtu-too-small",), "the connection opens, and more does not get through",
        "a link on the way carries less than the packet has", "RFC 1191", causes_mtu.mtu,
    ),
    Row(
        ("tc-drop",), "it went into a link and did not come out",
        "a queue of that link has dropped packets", "tc(8)", causes_link.dropped_by_queue,
    ),
    Row(
        ("endpoint-gone",), "the request was sent to an address that nobody has",
        "an EndpointSlice names it", _SLICES, causes_address.endpoint_gone,
    ),
    Row(
        ("duplicate-mac",), "it went into a bridge, or a question for an address did",
        "two links behind the bridge have the same hardware address", "bridge(8), RFC 826",
        causes_hop.duplicate_mac,
    ),
    Row(
        ("bridge-rule", "neighbour-rule"), "nobody answered who has the next hop's address",
        "a rule drops such questions", "nft(8)", causes_filter.question_dropped,
    ),
    Row(
        ("next-hop-silent", "wrong-prefix", "arp-ignored", "arp-off"),
        "it did not leave a namespace", "nobody answered who has the next hop's address",
        "arp(7)", causes_hop.next_hop_silent,
    ),
    Row(
        ("nobody-has-address",), "it went to where there is no way on",
        "no namespace has the address", "ip-route(8)", causes_client.nowhere,
    ),
    Row(
        ("backlog-full",), "it arrived, and there was no answer",
        "connections wait to be accepted", "listen(2)", causes_server.backlog_full,
    ),
    Row(
        ("server-closes",), "the server ended it",
        "its first packet after the handshake ends the connection", _DEBUG,
        causes_server.server_closes,
    ),
    Row(
        ("server-slow",),
        "no answer in time, and nothing was lost",
        "the handshake was made, and every packet arrived",
        _DEBUG,
        causes_server.server_slow,
    ),
    Row(
        ("answer-from-elsewhere", "server-silent"), "it arrived, and there was no answer",
        "somebody listens there; a datagram to the client from another address", _DEBUG,
        causes_server.server_silent,
    ),
)  # fmt: skip


def find(case: Case) -> Cause | None:
    """The cause that the first fitting row names; None: nothing that is known of."""
    for row in TABLE:
        found = row.judge(case)
        if found is not None:
            assert found.id in row.ids, f"{found.id} is not in its row"
            return msgspec.structs.replace(found, source=row.source, mend=_placed(found.mend, case))
    return None


def _placed(mend: Mend, case: Case) -> Mend:
    """A shell command that does not say for whom is for the node where the packet ended."""
    if not mend.shell or mend.on or mend.shell.startswith("kubectl "):
        return mend
    node = case.node_of(case.where) or entry(case)
    return msgspec.structs.replace(mend, on=node.netns) if node else mend
