"""What the checks in the guest share: namespaces that end, Changes that must succeed, Pods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from hairpin.kernel.apply import Kernel
from hairpin.model.address import ip, network
from hairpin.state.change import Change, Object
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.sysctl import Sysctl


@contextmanager
def world(*names: str) -> Iterator[Kernel]:
    kernel = Kernel(legacy_iptables=True)
    try:
        must(kernel, *(add(Netns(name=name), "") for name in names))
        yield kernel
    finally:
        kernel.close(destroy=True)


def add(thing: Object, netns: str = "node") -> Change:
    return Change(verb="add", netns=netns, object=thing)


def remove(thing: Object, netns: str = "node") -> Change:
    return Change(verb="remove", netns=netns, object=thing)


def put(thing: Object, before: Object | None = None, netns: str = "node") -> Change:
    return Change(verb="set", netns=netns, object=thing, before=before)


def must(kernel: Kernel, *changes: Change) -> None:
    failed = kernel.apply(changes)
    assert not failed, "\n".join(map(str, failed))


def pods(kernel: Kernel, *names: str) -> None:
    """A node with bridge and VIP, and Pods NAME with 10.244.0.2, .3 …"""
    must(
        kernel,
        add(Link(name="cni0", type="bridge")),
        add(Address(link="cni0", ip=ip("10.244.0.1"), prefix=24)),
        add(Link(name="kube-ipvs0", type="dummy", up=False)),
        add(Address(link="kube-ipvs0", ip=ip("10.96.0.1"), prefix=32)),
        put(Sysctl(name="net.ipv4.ip_forward", value="1")),
    )
    for number, name in enumerate(names, 2):
        veth = Link(name="eth0", type="veth", peer=f"veth-{name}", peer_netns="node")
        port = Link(name=f"veth-{name}", type="veth", peer="eth0", peer_netns=name, master="cni0")
        must(
            kernel,
            add(veth, name),
            add(Address(link="eth0", ip=IPv4Address(0x0AF40000 + number), prefix=24), name),
            add(Route(to=network("0.0.0.0/0"), via=ip("10.244.0.1")), name),
            add(port),
        )


def told(text: str) -> None:
    print(text, flush=True)
