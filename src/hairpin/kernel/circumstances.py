"""What decides over packets in a namespace beside netfilter's rules; read only.

A connection that failed is looked at with it.  A part that this kernel does not have is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from hairpin.kernel import spawn
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import circumstances as wire
from hairpin.netlink.link import NETLINK_ROUTE, dump_links, parse_link
from hairpin.netlink.message import Frame, Request
from hairpin.netlink.route import dump_routes
from hairpin.state.circumstances import Acquainted, Circumstances, Learned, Path, Port

_SETTINGS = (
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv6.icmp.echo_ignore_all",
    "net.ipv4.ip_local_port_range",
)
_OF_LINKS = (
    "net.ipv4.conf.{}.forwarding",
    "net.ipv4.conf.{}.arp_ignore",
    "net.ipv4.conf.{}.route_localnet",
    "net.ipv6.conf.{}.disable_ipv6",
)
_LINKS = 64  # of a namespace whose own settings are read
_MOST = 20_000  # routes, neighbours or entries of one namespace

_T = TypeVar("_T")


def observe(netns: Netns, *, listed: tuple[str, ...] = ()) -> Circumstances:
    """What is there now; families of nf_tables that are ``listed`` cost a program.

    Raises KernelError where rtnetlink does not answer at all.
    """
    socket = NetlinkSocket(NETLINK_ROUTE, netns)
    try:
        names = {}
        for frame in socket.dump(dump_links()):
            link = parse_link(frame.body)
            names[link.index] = link.name or ""
        entries = list(_read(socket, wire.dump_neighbours(), wire.parse_entry))
        devices = list(
            _read(socket, wire.dump_devices(), lambda body: wire.parse_device(body, names))
        )
        return Circumstances(
            paths=tuple(_paths(socket, names)),
            policies=tuple(
                one for one in _read(socket, wire.dump_rules(), wire.parse_rule) if one is not None
            ),
            neighbours=tuple(
                Acquainted(
                    link=names.get(one.index, ""), ip=one.ip, mac=one.mac,
                    permanent=one.permanent, failed=one.failed,
                )
                for one in entries if one.ip is not None
            ),
            ports=tuple(_ports(socket, devices)),
            learned=tuple(
                Learned(
                    link=names.get(one.index, ""), mac=one.mac, static=one.permanent, to=one.ip
                )
                for one in _read(socket, wire.dump_neighbours(bridged=True), wire.parse_entry)
                if one.mac is not None
            ),
            queues=tuple(
                _read(socket, wire.dump_queues(), lambda body: wire.parse_queue(body, names))
            ),
            no_arp=tuple(names[one.index] for one in devices if one.no_arp),
            filtering=tuple(names[one.index] for one in devices if one.filtering),
            settings=_settings(netns, names.values()),
            listed_rules=_listed(netns, listed) if listed else "",
        )  # fmt: skip
    finally:
        socket.close()


def _listed(netns: Netns, families: tuple[str, ...]) -> str:
    with suppress(KernelError):
        asked = "; ".join(f"list ruleset {one}" for one in families)
        done = spawn.run(netns, [spawn.find(["nft"]), "-a", asked])
        if done.code == 0:
            return done.out
    return ""


def _read(socket: NetlinkSocket, request: Request, parse: Callable[[bytes], _T]) -> Iterator[_T]:
    frames: list[Frame] = []
    with suppress(KernelError):
        frames = socket.dump(request)
    for frame in frames[:_MOST]:
        yield parse(frame.body)


def _paths(socket: NetlinkSocket, names: dict[int, str]) -> Iterator[Path]:
    for path in _read(socket, dump_routes(), lambda body: wire.parse_path(body, names)):
        if path is not None and path.type != "other":
            yield path


def _ports(socket: NetlinkSocket, devices: list[wire.Device]) -> Iterator[Port]:
    from msgspec.structs import replace

    vlans = dict(_read(socket, wire.dump_vlans(), wire.parse_vlans))
    for one in devices:
        if one.port is not None:
            yield replace(one.port, vlans=vlans.get(one.index, ()))


def _settings(netns: Netns, links: Iterable[str]) -> dict[str, str]:
    asked = [(one, "") for one in _SETTINGS]
    asked += [(one, link) for link in ("all", *list(links)[:_LINKS]) for one in _OF_LINKS]
    found: dict[str, str] = {}
    with netns.entered():
        for name, link in asked:
            with suppress(OSError):
                # A link's name may have dots of its own.
                fd = os.open("/proc/sys/" + name.replace(".", "/").format(link), os.O_RDONLY)
                found[name.format(link)] = os.read(fd, 64).decode().strip()
                os.close(fd)
    return found
