"""Services, EndpointSlices and the Node from a cluster's API server, read once."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hairpin.cli.planning import Basis
from hairpin.lab.session import LabError
from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan.node import node_facts


def from_cluster(
    kubeconfig: str, config: KubeProxyConfiguration, addresses: Iterable[IP] | None = None
) -> Basis:
    """What the API server says now.

    The node is ``hostname_override``, else this machine.  ``addresses`` are the node's; None: those
    that its Node object has.  Raises ManifestError for the kubeconfig, LabError.
    """
    from hairpin.source.api.client import ApiError, Client
    from hairpin.source.api.credentials import CredentialError
    from hairpin.source.api.follow import read_once, read_service_cidrs
    from hairpin.source.api.kubeconfig import access

    name = config.hostname_override or socket.gethostname().lower()
    where = kubeconfig
    try:
        found = access(kubeconfig)
        where = f"{kubeconfig}, {found.server}"
        client = Client(found)
        snapshot, problems = read_once(client, name)
        cidrs = read_service_cidrs(client) if config.mode == "nftables" else ()
    except (ApiError, CredentialError) as error:
        remedy = f"kubectl --kubeconfig {kubeconfig} get services -A says whether it can be reached"
        raise LabError(f"{where}: {error}", remedy, exit_code=2) from None
    node = snapshot.nodes.get(("", name))
    if node is None:
        raise LabError(
            f"the cluster has no Node {name}", "say --hostname-override NODE", exit_code=2
        )
    if addresses is None:
        addresses = node_facts(name, node, ()).node_ips
    return Basis(snapshot, config, node_facts(name, node, addresses, cidrs), tuple(problems))
