"""A few open netlink sockets, so that a change costs no opening of one.

Opening takes ten system calls, two of them moves between namespaces; a thousand Pods may not
hold a thousand sockets either, so the least recently used goes.
"""

from __future__ import annotations

from collections import OrderedDict

from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns


class Sockets:
    """Netlink sockets by namespace and protocol, at most ``most`` of them open."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._open: OrderedDict[tuple[str, int], tuple[Netns, NetlinkSocket]] = OrderedDict()

    def get(self, netns: Netns, protocol: int) -> NetlinkSocket:
        """The socket, opened when there is none.  Raises OSError."""
        key = (netns.name, protocol)
        handle, known = self._open.get(key, (None, None))
        if known is not None and handle is netns:
            self._open.move_to_end(key)
            return known
        if known is not None:  # another namespace that had this name before
            self.forget(netns.name)
        opened = NetlinkSocket(protocol, netns)
        self._open[key] = (netns, opened)
        if len(self._open) > self._most:
            self._open.popitem(last=False)[1][1].close()
        return opened

    def forget(self, name: str) -> None:
        """Closes the sockets of a namespace: an open one keeps the namespace alive."""
        for key in [key for key in self._open if key[0] == name]:
            self._open.pop(key)[1].close()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1][1].close()
