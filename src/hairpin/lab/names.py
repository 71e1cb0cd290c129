"""The names of a lab's namespaces and links.

A Pod's namespace has the Pod's name, as in the seed, and shows in ``ip netns``.  Kubernetes
names have no underscore, so a name with one can never be a Pod's.
"""

from __future__ import annotations

import zlib

BRIDGE = "cni0"
UPLINK = "eth0"
VIP_LINK = "kube-ipvs0"
POD_LINK = "eth0"
VXLAN = "vxlan0"

OUTSIDE = "outside_"
"""The namespace beyond the nodes' uplinks."""
OUTSIDE_BRIDGE = "lan0"

_IFNAMSIZ = 15  # bytes a link's name may have, include/uapi/linux/if.h less the final NUL


def pod_netns(namespace: str, name: str) -> str:
    """``foo``, or ``other_foo`` outside of the namespace default.

    ``node_foo`` is a node's: Pods of a Kubernetes namespace ``node`` have ``pod_node_foo``, which
    no other can have, since there is no ``_`` in Kubernetes' names.
    """
    if namespace == "default":
        return name
    return f"pod_{namespace}_{name}" if namespace == "node" else f"{namespace}_{name}"


def node_netns(name: str) -> str:
    """The namespace that a node of the lab is."""
    return f"node_{name}"


def pod_veth(namespace: str, name: str) -> str:
    """The node's end of a Pod's veth: ``veth_foo``, or a hash where that is too long."""
    full = f"veth_{pod_netns(namespace, name)}"
    return full if len(full) <= _IFNAMSIZ else f"veth{_digest(full)}"


def uplink_peer(node: str) -> str:
    """The outside end of a node's uplink."""
    full = f"up_{node}"
    return full if len(full) <= _IFNAMSIZ else f"up_{_digest(full)}"


def _digest(text: str) -> str:
    """44 bits in hex.  Not hashlib: importing that takes 45 ms in the embedded kernel."""
    data = text.encode()
    return f"{zlib.crc32(data):08x}{zlib.crc32(data[::-1]):08x}"[:11]
