"""A namespace that plays a node of a cluster: a Pod that can be seen, another machine that cannot.

``hairpin trace here`` is run in it as a person would on the node.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from socket import AF_INET6, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket
from typing import Any

from hairpin.kernel.netns import Netns
from hairpin.model.snapshot import Snapshot
from hairpin.proxy.proxy import Proxy
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from tests.kernel.host import Host

POD, POD_6, FAR, NOBODY = "10.244.1.2", "fd00:1::2", "10.244.2.2", "10.244.2.9"
_NO_WAIT = "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"
_LINKS = """
ip link set lo up; sysctl -qw net.ipv4.ip_forward=1
ip link add eth0 type veth peer name up0 netns {outside}
ip addr add 172.31.0.2/24 dev eth0; ip addr add fd31::2/64 dev eth0 nodad; ip link set eth0 up
ip link add veth0 type veth peer name eth0 netns {pod}
ip addr add 10.244.1.1/24 dev veth0; ip addr add fd00:1::1/64 dev veth0 nodad; ip link set veth0 up
ip route add default via 172.31.0.3; ip -6 route add default via fd31::3
ip route add 10.244.2.0/24 via 172.31.0.3
ip -n {pod} addr add 10.244.1.2/24 dev eth0
ip -n {pod} addr add fd00:1::2/64 dev eth0 nodad; ip -n {pod} link set eth0 up
ip -n {pod} route add default via 10.244.1.1; ip -n {pod} -6 route add default via fd00:1::1
"""
_OUTSIDE = """
ip link set lo up; ip addr add 172.31.0.3/24 dev up0; ip link set up0 up
ip addr add 10.244.2.2/32 dev lo; ip route add 10.244.1.0/24 via 172.31.0.2
"""


class HereNode:
    """``sh`` and ``hairpin`` run on the node; what the cluster has is in ``files``."""

    def __init__(self, host: Host, folder: Path, mode: str) -> None:
        self._host = host
        self.mode = mode
        self.node, self.pod, outside = host.make(f"n-{mode}", f"web-0-{mode}", f"out-{mode}")
        self.files = [str(folder / f"{mode}.json")]
        Path(self.files[0]).write_text(json.dumps({"kind": "List", "items": objects()}))
        for one in (self.node, self.pod, outside):
            self.sh(_NO_WAIT, one)  # for duplicates of addresses that nobody can have
        self.sh(_LINKS.format(pod=self.pod, outside=outside))
        self.sh(_OUTSIDE, outside)
        handles = [host.kernel.namespaces[one] for one in (self.pod, outside)]
        self._servers = [_serve(one) for one in handles]
        # Now nothing shows it to others: as another machine is.
        subprocess.run(["umount", f"/run/netns/{outside}"], check=True)
        Path(f"/run/netns/{outside}").unlink()
        self._proxy = Proxy(
            host.kernel,
            self.node,
            load_configuration(None, {"proxy-mode": mode, "cluster-cidr": "10.244.0.0/16"}),
            "node1",
        )
        self._proxy.adopt(Snapshot(load(self.files, whole=True).objects))
        done = self._proxy.sync()
        assert not done.failed, done.failed

    def sh(self, script: str, netns: str = "") -> str:
        command = ["ip", "netns", "exec", netns or self.node, "sh", "-ec", script]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{script}: {ran.stderr}"
        return ran.stdout

    def trace(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``hairpin trace here WORDS``, with the cluster's objects from a file."""
        ran = subprocess.run(self._command(words), capture_output=True, text=True, check=False)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """The same, not waited for."""
        return subprocess.Popen(self._command(words), stdout=subprocess.DEVNULL)

    def _command(self, words: Sequence[str]) -> list[str]:
        given = [] if "--kubeconfig" in words else ["-f", *self.files]
        enter = ["ip", "netns", "exec", self.node, sys.executable, "-m", "hairpin", "trace"]
        return [*enter, "here", *words, *given, "--hostname-override", "node1"]

    def entered(self) -> AbstractContextManager[None]:
        """This process is on the node."""
        return self._host.kernel.namespaces[self.node].entered()

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.trace(*words, "-o", "json").stdout)
        return found

    def held(self) -> str:
        """All that could be changed of the node: tables, links, addresses, routes, settings."""
        return self.sh(
            "nft -s list ruleset; ip -o -4 addr; ip route; ip -6 route; ip rule; ip netconf;"
            "cat /proc/sys/net/ipv4/conf/*/* /proc/sys/net/netfilter/nf_log/*"
        )

    def close(self) -> None:
        for one in self._servers:
            with suppress(OSError):
                one.shutdown(2)
            one.close()


def objects() -> list[dict[str, Any]]:
    """A Node, and Services: of a Pod here, by either family, of one elsewhere, and of nobody."""
    found: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", **_STORED},
         "spec": {"podCIDR": "10.244.1.0/24"},
         "status": {"addresses": [{"type": "InternalIP", "address": "172.31.0.2"}]}},
    ]  # fmt: skip
    for name, at, address, node in (
        ("web", 1, POD, "node1"), ("far", 2, FAR, "node2"), ("lost", 3, NOBODY, "node2"),
        ("six", 6, POD_6, "node1"),
    ):  # fmt: skip
        vip = f"fd00:96::{at}" if ":" in address else f"10.96.0.{at}"
        found += _service(name, vip, 30000 + at, address, node)
    return found


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


_STORED = {"uid": "1", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}


def _service(name: str, vip: str, node_port: int, address: str, node: str) -> list[dict[str, Any]]:
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    metadata = {"name": name, "namespace": "default", **_STORED}
    spec = {"type": "NodePort", "clusterIP": vip, "clusterIPs": [vip], "selector": {"app": name},
            "ipFamilies": [_family(vip)], "ports": [{**port, "nodePort": node_port}]}  # fmt: skip
    labels = {"kubernetes.io/service-name": name}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "name": f"{name}-1", "labels": labels},
            "addressType": _family(vip),
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [address],
                    "nodeName": node,
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": f"{name}-0", "namespace": "default"},
                }
            ],
        },
    ]


def _serve(netns: Netns) -> socket:
    with netns.entered():
        listener = socket(AF_INET6, SOCK_STREAM)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind(("::", 8080))
    listener.listen(16)

    def accept() -> None:
        with suppress(OSError):
            while True:
                joined, peer = listener.accept()
                with joined:
                    joined.recv(4096)
                    joined.sendall(f"HTTP/1.0 200 OK\r\n\r\nyou are {peer[0]}\n".encode())

    threading.Thread(target=accept, daemon=True).start()
    return listener
