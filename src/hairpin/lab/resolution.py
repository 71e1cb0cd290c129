"""How names are looked up in a Pod: the files that the kubelet would write.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.lab.dns_zone import DOMAIN
from hairpin.model.address import IP
from hairpin.model.pod import Pod
from hairpin.model.service import Service

_HOSTNAME_LIMIT = 63  # where the kubelet cuts, pkg/kubelet/util.GetNodenameForKernel
_WITHOUT_DNS = "options timeout:1 attempts:1\n"


def hostname(pod: Pod) -> str:
    """What ``hostname`` says in the Pod."""
    if pod.spec.host_network:
        return pod.spec.node_name
    name = pod.spec.hostname or pod.metadata.name
    return name[:_HOSTNAME_LIMIT].rstrip("-.")


def nameserver(dns: Service | None, pods: Iterable[Pod], *, served: bool) -> IP | None:
    """The cluster's DNS as Pods reach it: by its Service, or where this kernel serves none, the
    first Pod behind it.
    """
    if dns is None or not dns.virtual_ips:
        return None
    if served:
        return dns.virtual_ips[0]
    selector = dns.spec.selector.items()
    for pod in pods:
        here = pod.metadata.namespace == dns.metadata.namespace
        if here and pod.status.pod_ip and selector <= pod.metadata.labels.items():
            return pod.status.pod_ip
    return None


def files(pod: Pod, host: str, dns: IP | None) -> dict[str, str]:
    """/etc/hosts, resolv.conf and nsswitch.conf of a Pod that is called ``host``."""
    namespace = pod.metadata.namespace
    own = host
    if pod.spec.subdomain:
        own = f"{host}.{pod.spec.subdomain}.{namespace}.svc.{DOMAIN} {host}"
    if pod.spec.host_network:
        dns = None  # the node's own, as dnsPolicy ClusterFirst is then taken
    lines = [f"{one.ip} {own}\n" for one in pod.status.pod_ips]
    return {
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{''.join(lines)}",
        "/etc/resolv.conf": _resolv_conf(namespace, dns),
        # As in container images; the machine's own may ask daemons that do not run here.
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }


def _resolv_conf(namespace: str, dns: IP | None) -> str:
    """The kubelet's for dnsPolicy ClusterFirst; a lab's DNS is near, so its timeouts are short."""
    if dns is None:
        return _WITHOUT_DNS
    search = f"{namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}"
    return f"nameserver {dns}\nsearch {search}\noptions ndots:5 timeout:1 attempts:2\n"
