"""Making links worse than they are: delay and loss (netem), another MTU, down."""

from __future__ import annotations

import errno

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.netlink import link as wire_link
from hairpin.netlink import qdisc
from hairpin.netlink.link import IFF_UP, LinkMessage
from hairpin.netlink.qdisc import Netem

_NO_QUEUE = (errno.ENOENT, errno.EINVAL)  # what taking away says where there is nothing of ours


def set_queue(socket: NetlinkSocket, link: str, netem: Netem) -> KernelError | None:
    """The link's netem, or its usual queue where ``netem`` says nothing.

    Raises KernelError: ENODEV where there is no such link.
    """
    index = socket.link_index(link)
    if netem == Netem():
        (error,) = socket.batch([qdisc.remove_netem(index)])
        return None if error is not None and error.errno in _NO_QUEUE else error
    return socket.batch([qdisc.put_netem(index, netem)])[0]


def set_link(socket: NetlinkSocket, link: str, mtu: int | None, up: bool) -> KernelError | None:
    """The link's MTU, None to leave it, and whether it is up."""
    flags = IFF_UP if up else 0
    wanted = LinkMessage(name=link, mtu=mtu, flags=flags, change=IFF_UP)
    return socket.batch([wire_link.set_link(wanted)])[0]
