"""What bounds the size of a lab, looked at before anything is built."""

from __future__ import annotations

import resource
from collections.abc import Mapping

from hairpin.lab.session import LabError
from hairpin.model.metadata import Key
from hairpin.model.pod import Pod

BRIDGE_PORTS = 1023
"""Ports of one bridge: BR_MAX_PORTS is 1024, and number 0 is none (net/bridge/br_private.h)."""

_DEFAULT_QUEUE = 1000  # packets, net/core/dev.c
_FILES = 1 << 18  # descriptors that a lab process asks for
_FILES_PER_POD = 4  # its namespaces (net, mnt, uts) and a process's output
_FILES_BESIDE = 256  # nodes, sessions, netlink sockets


def raise_file_limit() -> None:
    """As many open files for this process and its children as the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (max(hard, _FILES), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
        except (PermissionError, ValueError):  # the hard limit is the administrator's
            continue


def queue_warning(pods: int, length: int | None = None) -> str | None:
    """What to say of a packet queue that is short for so many Pods; None if it is not.

    A broadcast on a bridge is a packet for each port, and all wait in one queue.  ``length`` is
    that queue's; without it the kernel is asked, which shows it in its first network namespace
    only: elsewhere the default counts.  With 1 000, 200 Pods lost nothing, 1 000 did (measured).
    """
    if length is None:
        try:
            with open("/proc/sys/net/core/netdev_max_backlog") as setting:
                length = int(setting.read())
        except FileNotFoundError:
            length = _DEFAULT_QUEUE
    if pods * 2 <= length:
        return None
    return (
        f"{pods} Pods on a bridge: when many connections begin at once, some wait for seconds, "
        f"since this kernel's packet queue is short (net.core.netdev_max_backlog, {length}); "
        "the guest's is not: --kernel guest"
    )


def check(pods: Mapping[Key, Pod]) -> None:
    """Raises LabError for more Pods than a bridge has ports, or than there may be open files."""
    count: dict[str, int] = {}
    for pod in (one for one in pods.values() if one.spec.node_name):
        count[pod.spec.node_name] = count.get(pod.spec.node_name, 0) + 1
    for node, number in count.items():
        if number > BRIDGE_PORTS:
            raise LabError(
                f"Node {node} would have {number} Pods, the cluster's DNS among them, "
                f"and a Linux bridge has {BRIDGE_PORTS} ports",
                "take fewer Pods",
                exit_code=2,
            )
    ports = [len(one.ports) for pod in pods.values() for one in pod.spec.containers]
    needed = _FILES_BESIDE + max(len(pods) * _FILES_PER_POD, sum(ports))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise LabError(
            f"{len(pods)} Pods may need {needed} open files, and a process here may have {limit}",
            "raise the limit first: ulimit -n, or nofile in limits.conf(5)",
            exit_code=2,
        )
