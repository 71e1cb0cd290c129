"""Connection tracking: listing the connections of a namespace, and forgetting them."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import closing

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import conntrack as wire
from hairpin.netlink.ipvs_format import PROTOCOLS
from hairpin.state.conntrack import Flow
from hairpin.state.ipvs import Protocol

_MISSING = "this kernel does not list connections (nf_conntrack_netlink is not loaded)"


def flush(socket: NetlinkSocket) -> None:
    """Empties the table of the socket's namespace (a netfilter socket).  Raises KernelError."""
    error = socket.batch([wire.flush()])[0]
    if error is not None:
        text = "flushing connection tracking (is nf_conntrack_netlink loaded?)"
        raise KernelError(error.errno or 0, error.text or text)


def flows(netns: Netns, protocol: Protocol | None = None) -> Iterator[Flow]:
    """The tracked connections of IPv4, then of IPv6, of one protocol or all.

    Over a socket of its own, and of a hundred thousand no more than some hundred are in memory.
    What comes and goes meanwhile may be missed, and may come twice.  Raises KernelError.
    """
    number = None if protocol is None else PROTOCOLS[protocol]
    with closing(NetlinkSocket(wire.NETLINK_NETFILTER, netns)) as socket:
        for version in (4, 6):
            try:
                for frame in socket.stream(wire.dump(version, number)):
                    flow = wire.parse_flow(frame.body)
                    if number is None or flow.protocol == number:
                        yield flow
            except KernelError as error:
                if error.errno == errno.EINVAL:  # nfnetlink has no such subsystem
                    raise KernelError(errno.EOPNOTSUPP, _MISSING) from None
                if error.errno != errno.EAGAIN:
                    raise


def delete(socket: NetlinkSocket, flows: Sequence[Flow]) -> list[KernelError | None]:
    """Forgets flows; the verdict on each.  One that is not there counts as done, also where
    another connection has its place meanwhile.
    """
    return [
        None if error is None or error.errno == errno.ENOENT else error
        for error in socket.batch([wire.delete(flow) for flow in flows])
    ]
