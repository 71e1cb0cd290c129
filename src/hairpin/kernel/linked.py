"""The network namespaces that are linked to one by a veth: on a node, those of its Pods.

Found where runtimes and people leave them: mounted (containerd, CRI-O and ``ip netns`` under
/run/netns, Docker under /run/docker/netns), else as the namespace of a process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.state.links import Link

MOUNTED = "/run/netns"
_FOLDERS = (MOUNTED, "/run/docker/netns")
_MOST = 4096  # namespaces that are opened; a node has some hundred Pods at most


def adopt_linked(kernel: Kernel, here: str) -> list[str]:
    """Makes ``kernel`` know them, and gives their names in the order of the links.

    A name is that of the file under /run/netns, else the whole path of another file.  ``here`` is
    known to the kernel.  Namespaces that may not be entered are left out.  Raises KernelError.
    """
    fresh: list[str] = []
    for path in _candidates(kernel.namespaces[here]):
        folder, _, file = path.rpartition("/")
        name = file if folder == MOUNTED and file not in kernel.namespaces else path
        with suppress(OSError, KernelError):
            kernel.adopt(Netns.open(path, name))
            fresh.append(name)
    found = [
        one.peer_netns
        for one in kernel.observe(here, derived=True)
        if isinstance(one, Link) and one.peer_netns not in (None, here)
    ]
    for name in set(fresh).difference(found):
        kernel.namespaces.pop(name).close()
    return [one for one in dict.fromkeys(found) if one is not None]


def _candidates(here: Netns) -> Iterator[str]:
    """Files of namespaces, each namespace once, that of ``here`` left out."""
    known = {_identity(os.fstat(here.fd))}
    for path in _paths():
        if len(known) > _MOST:
            return
        with suppress(OSError):
            one = _identity(os.stat(path))
            if one not in known:
                known.add(one)
                yield path


def _identity(seen: os.stat_result) -> tuple[int, int]:
    """What tells a namespace from others (namespaces(7))."""
    return seen.st_dev, seen.st_ino


def _paths() -> Iterator[str]:
    for folder in _FOLDERS:
        with suppress(OSError):
            yield from (f"{folder}/{name}" for name in sorted(os.listdir(folder)))
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield f"/proc/{name}/ns/net"
