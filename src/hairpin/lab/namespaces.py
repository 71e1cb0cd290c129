"""The network namespaces of a lab, and the sandboxes that processes run in there.

Those of nodes and of the outside are made and dropped here; those of Pods are made by Changes, as
the links in them are, and only found here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from hairpin.kernel.apply import Kernel
from hairpin.kernel.netns import Netns
from hairpin.lab import names
from hairpin.lab.sandbox import NETNS_DIR, Sandbox, kill_in
from hairpin.lab.session import LabError
from hairpin.state.change import Change
from hairpin.state.links import Netns as NetnsObject


class Namespaces:
    """All of a lab's."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sandboxes: dict[str, Sandbox] = {}
        self._hosted: dict[str, Netns] = {}  # the node's, by the name of a Pod on its network
        self._found: set[str] = set()  # not made here

    def get(self, name: str) -> Netns:
        """A namespace of the lab, or one that somebody made with ``ip netns add`` on a node.

        The name that a Pod on its node's network would have for its own is the node's namespace.
        Raises LabError.
        """
        path = f"{NETNS_DIR}/{name}"
        known = self._kernel.namespaces.get(name) or self._hosted.get(name)
        if known is not None and name in self._found and not _is_at(known, path):
            self._close(name)  # somebody took it away, and maybe made another one
            self._kernel.let_go(name)
            known = None
        if known is None:
            try:
                known = Netns.open(path, name)
            except OSError:
                message = f"there is no network namespace {name}"
                raise LabError(message, exit_code=2) from None
            self._kernel.adopt(known)
            self._found.add(name)
        return known

    def sandbox(self, netns: str) -> Sandbox:
        """Where processes of that namespace run: a Pod's, a node's, or one made by hand.

        Raises LabError.
        """
        handle = self.get(netns)
        known = self._sandboxes.get(netns)
        if known is None:
            node = netns.removeprefix("node_")
            hostname = node if netns.startswith("node_") else netns.replace("_", "-").strip("-")
            known = Sandbox(handle, hostname, {}, isolated=False)
            self._sandboxes[netns] = known
        return known

    def furnish(self, pod: str, netns: Netns, hostname: str, files: Mapping[str, str]) -> Sandbox:
        """The sandbox of a Pod, by the name of its namespace; ``netns`` may be its node's."""
        if netns.name != pod:
            self._hosted[pod] = netns
        self._close(pod)
        sandbox = self._sandboxes[pod] = Sandbox(netns, hostname, files, isolated=True)
        return sandbox

    def clear_out(self, pod: str) -> None:
        """The end of a Pod on its node's network, whose other processes are not the Pod's."""
        sandbox = self._sandboxes.get(pod)
        if sandbox is not None:
            sandbox.end()
        self._close(pod)
        self._hosted.pop(pod, None)

    def make_nodes(self, nodes: Iterable[str]) -> None:
        """Nodes and the outside have namespaces that ``ip netns`` on a node does not list."""
        for name in (names.OUTSIDE, *map(names.node_netns, nodes)):
            if name not in self._kernel.namespaces:
                self._kernel.adopt(Netns.create(name))

    def drop_nodes(self, kept: Iterable[str]) -> None:
        """Nodes that are not among ``kept`` go with all that is left in them."""
        keep = {names.node_netns(node) for node in kept}
        for name in [name for name in self._kernel.namespaces if name.startswith("node_")]:
            if name not in keep:
                kill_all_in([self._kernel.namespaces[name]])
                self._close(name)
                gone = Change(verb="remove", netns=name, object=NetnsObject(name=name))
                self._kernel.apply([gone])

    def forget(self, changes: Sequence[Change]) -> None:
        """Lets go of what was in the namespaces that these Changes removed."""
        for change in changes:
            if change.verb == "remove" and isinstance(change.object, NetnsObject):
                self._close(change.object.name)

    def _close(self, name: str) -> None:
        self._found.discard(name)
        sandbox = self._sandboxes.pop(name, None)
        if sandbox:
            sandbox.close()


def _is_at(netns: Netns, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(netns.fd), os.stat(path))
    except OSError:
        return False


def kill_all_in(namespaces: Iterable[Netns]) -> None:
    """SIGKILL for every process in those network namespaces, whatever started it."""
    wanted = {os.fstat(netns.fd).st_ino for netns in namespaces}
    if wanted:
        kill_in("net", wanted)
