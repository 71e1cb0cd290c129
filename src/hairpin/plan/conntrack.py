"""Which conntrack entries of UDP lead where nobody serves any more.

UDP has no end that conntrack could see: as long as a client sends, its entry lives on and its
datagrams follow it, to an endpoint that is gone, or to none at all where they came before the first
endpoint.  Such entries must be deleted for the client to be scheduled anew.  TCP ends by itself.

kube-proxy's rule (pkg/proxy/conntrack/cleanup.go): an entry to a frontend whose answers come from
none of the ServicePort's serving endpoints, by address and port.  Ready or not, here or elsewhere,
hints and policies make no difference: changes of a Service leave existing flows alone.  Without
serving endpoints nothing is deleted.

One difference: kube-proxy takes every entry to a node port's number, whatever the address; here
only those to the node's addresses, as others are no Service's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hairpin.plan.service_plan import UdpPort
from hairpin.state.conntrack import Flow

_UDP = 17  # IPPROTO_UDP


def stale_flows(ports: Iterable[UdpPort], flows: Iterable[Flow]) -> Iterator[Flow]:
    """Those of ``flows`` that must be deleted, as these ServicePorts are served now.

    A frontend that several Services claim is served by the endpoints of all of them.
    """
    serving: dict[tuple[int, int, int], frozenset[int]] = {}
    for port in ports:
        if port.serving:
            for ip, number in port.frontends:
                at = (port.version, ip, number)
                serving[at] = serving.get(at, frozenset()) | port.serving
    for flow in flows:
        if flow.protocol != _UDP:
            continue
        sent = flow.original
        to = sent.destination
        found = serving.get((to.version, int(to), sent.destination_port))
        reply = flow.reply
        if found is not None and int(reply.source) << 16 | reply.source_port not in found:
            yield flow
