"""What a configuration of kube-proxy means in another mode: settings that end, and differences that
it makes none.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from hairpin.claims.base import Text
from hairpin.claims.topics import Mode
from hairpin.model.configuration import (
    Config,
    IPTablesConfiguration,
    IPVSConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
    field_name,
)

_ENDS = Text("means nothing any more", "不再有意义")

_OF_ALL = ("masquerade_bit", "masquerade_all", "sync_period", "min_sync_period")
"""Every mode's section has them, but IPVS mode takes the first two from iptables' (v1alpha1)."""
_OWN: Mapping[Mode, Config] = {
    "ipvs": IPVSConfiguration(),
    "iptables": IPTablesConfiguration(),
    "nftables": NFTablesConfiguration(),
}


class Setting(msgspec.Struct, frozen=True):
    """A value that the configuration has for the old mode, and what becomes of it."""

    name: str
    value: str
    says: Text


def _idle(config: KubeProxyConfiguration) -> bool:
    return config.ipvs.tcp_timeout >= config.conntrack.tcp_established_timeout > 0


MOOT: Mapping[str, Callable[[KubeProxyConfiguration], bool]] = {
    "node-port-addresses": lambda config: bool(config.node_port_addresses),
    "localhost-node-port": lambda config: not config.iptables.localhost_node_ports,
    "arp": lambda config: config.ipvs.strict_arp,
    "idle-connections": _idle,
    "invalid-packets": lambda config: config.conntrack.tcp_be_liberal,
}
"""Topics in which modes do not differ with such a configuration."""


def moot(config: KubeProxyConfiguration) -> frozenset[str]:
    """The topics that this configuration leaves nothing of."""
    return frozenset(name for name, so in MOOT.items() if so(config))


def settings(config: KubeProxyConfiguration, before: Mode, after: Mode) -> Iterator[Setting]:
    """What is set for the old mode, otherwise than by default, and is not for the new one."""
    for section, name, value in _set(config, before):
        own = _section(after, name)
        if own == section:
            continue
        said = f"{section}.{field_name(name)}"
        if not own or name not in _OF_ALL:
            yield Setting(said, _text(value), _ENDS)
        elif getattr(getattr(config, own), name) != value:
            there = f"{own}.{field_name(name)}"
            anew = Text(f"is to be said as {there}", f"需改写为 {there}")
            yield Setting(said, _text(value), anew)


def ending(before: Mode, after: Mode) -> tuple[list[str], list[str]]:
    """Names of settings: those that mean nothing in the new mode, those to be said in its section.

    Of any configuration, whether they are set or not.
    """
    found: tuple[list[str], list[str]] = ([], [])
    for section, name in _taken(before):
        if _section(after, name) != section:
            found[name in _OF_ALL].append(f"{section}.{field_name(name)}")
    return found


def _set(config: KubeProxyConfiguration, mode: Mode) -> Iterator[tuple[str, str, Any]]:
    for section, name in _taken(mode):
        value = getattr(getattr(config, section), name)
        if value != getattr(_OWN[section], name):
            yield section, name, value


def _taken(mode: Mode) -> Iterator[tuple[Mode, str]]:
    """The sections and names of what a mode takes from the configuration."""
    for section, default in _OWN.items():
        for name in default.__struct_fields__:
            if _section(mode, name) == section:
                yield section, name


def _section(mode: Mode, name: str) -> Mode:
    """Which section a mode takes a setting from, if it knows it at all."""
    return "iptables" if mode == "ipvs" and name.startswith("masquerade_") else mode


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}s"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
