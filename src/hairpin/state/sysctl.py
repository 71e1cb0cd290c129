"""Kernel settings of a network namespace."""

from __future__ import annotations

from hairpin.state.base import KernelObject


class Sysctl(KernelObject, frozen=True, tag="sysctl", kw_only=True):
    """A setting under /proc/sys/net, by its dotted name: ``net.ipv4.ip_forward``."""

    name: str
    value: str

    @property
    def key(self) -> tuple[object, ...]:
        return ("sysctl", self.name)
