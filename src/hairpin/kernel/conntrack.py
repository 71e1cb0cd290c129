"""Connection tracking: forgetting the connections of a namespace."""

from __future__ import annotations

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.netlink import conntrack as wire


def flush(socket: NetlinkSocket) -> None:
    """Empties the table of the socket's namespace (a netfilter socket).  Raises KernelError."""
    error = socket.batch([wire.flush()])[0]
    if error is not None:
        text = "flushing connection tracking (is nf_conntrack_netlink loaded?)"
        raise KernelError(error.errno or 0, error.text or text)
