"""Kernel settings of a network namespace.

/proc/sys/net shows the settings of the namespace that the reading task is in, whoever mounted
/proc (net_ctl_header_lookup in net/sysctl_net.c).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.state.change import Change
from hairpin.state.sysctl import Sysctl

# A dot in a link's name is written as a slash, as sysctl(8) does: net.ipv4.conf.eth0/1.forwarding
_TO_PATH = str.maketrans("./", "/.")


def read(netns: Netns, name: str) -> Sysctl:
    """A setting by its dotted name.  Raises KernelError (ENOENT: the kernel has none such)."""
    with netns.entered():
        return Sysctl(name=name, value=_read(name))


def apply(netns: Netns, changes: Sequence[Change]) -> list[KernelError | None]:
    """Applies consecutive Changes of one namespace; gives the verdict on each."""
    verdicts: list[KernelError | None] = []
    with netns.entered():
        for change in changes:
            try:
                if not isinstance(change.object, Sysctl) or change.verb == "remove":
                    raise KernelError(errno.EINVAL, f"{change.verb} {change.object}")
                _write(change.object)
                verdicts.append(None)
            except KernelError as error:
                verdicts.append(error)
    return verdicts


def _read(name: str) -> str:
    try:
        with open(_path(name), encoding="utf-8") as setting:
            return setting.read().strip()
    except OSError as error:
        raise _explained(error, name) from None


def _write(setting: Sysctl) -> None:
    try:
        with open(_path(setting.name), "w", encoding="utf-8") as opened:
            opened.write(setting.value)
    except OSError as error:
        raise _explained(error, f"{setting.name} = {setting.value}") from None


def _path(name: str) -> str:
    parts = name.translate(_TO_PATH).split("/")
    if parts[0] != "net" or "" in parts or "." in parts or ".." in parts:
        raise KernelError(errno.EINVAL, f"{name} is no setting of a network namespace")
    return "/proc/sys/" + "/".join(parts)


def _explained(error: OSError, tried: str) -> KernelError:
    if isinstance(error, KernelError):
        return error
    code = error.errno or errno.EIO
    if code == errno.ENOENT:
        tried += ": no such setting (is its module loaded?)"
    return KernelError(code, tried)
