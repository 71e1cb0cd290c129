"""The only door to Linux.

Netlink sockets, network namespaces, links, IPVS, iptables, sysctls, modules, and the event loop
that waits for them.  Applies Changes in batches and gives every error to the Change that caused
it; reads the kernel back as ``state`` values.  I/O everywhere; may import ``netlink``, ``state``.
"""
