"""Virtual and real servers as ``ipvsadm-save -n`` writes them and ``ipvsadm-restore`` reads them.

The words of ipvsadm 1.31 (ipvsadm(8)).  What its -S leaves out and its -R takes is written only
when asked for: the thresholds.  Where its -S writes what its -R refuses (marks of 2^31 and more
as negative numbers, a flag that the scheduler has no name for as nothing), the form that -R takes
is written.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from functools import cmp_to_key
from typing import Any

from hairpin.model.address import IP, ip
from hairpin.present.address import address_text
from hairpin.state.ipvs import (
    FLAG_NAMES,
    Checksum,
    Forwarding,
    Persistence,
    Protocol,
    RealServer,
    SchedulerFlag,
    Tunnel,
    VirtualServer,
    by_mark,
    prefix_length,
    prefix_mask,
)

Server = VirtualServer | RealServer

SERVICES: dict[Protocol, tuple[str, str]] = {
    "TCP": ("-t", "--tcp-service"),
    "UDP": ("-u", "--udp-service"),
    "SCTP": ("--sctp-service", "--sctp-service"),
}
"""The option, in short and in full, that names a virtual server of each protocol."""

METHODS: dict[Forwarding, tuple[str, str]] = {
    "masquerade": ("-m", "--masquerading"),
    "tunnel": ("-i", "--ipip"),
    "route": ("-g", "--gatewaying"),
    # Nothing says "local": IPVS delivers to an address of the node without being told.
    "local": ("-g", "--gatewaying"),
}
CHECKSUMS: dict[Checksum, str] = {
    "none": "--tun-nocsum",
    "full": "--tun-csum",
    "remote": "--tun-remcsum",
}

_DEFAULT_PERSISTENCE = 300  # seconds, of -p without a number (IP_VS_TEMPLATE_TIMEOUT)
_DEFAULT_SCHEDULER = "wlc"
_SHORT = {
    "--add-service": "-A", "--add-server": "-a", "--tcp-service": "-t", "--udp-service": "-u",
    "--fwmark-service": "-f", "--ipv6": "-6", "--scheduler": "-s", "--persistent": "-p",
    "--netmask": "-M", "--ops": "-o", "--sched-flags": "-b", "--real-server": "-r",
    "--gatewaying": "-g", "--ipip": "-i", "--masquerading": "-m", "--weight": "-w",
    "--u-threshold": "-x", "--l-threshold": "-y",
}  # fmt: skip
_NUMBERED = ("-w", "-x", "-y", "--tun-port")
_TAKES = frozenset(
    ("-t", "-u", "--sctp-service", "-f", "-s", "-M", "--pe", "-b", "-r", "--tun-type", *_NUMBERED)
)
_ALONE = frozenset(("-A", "-a", "-6", "-o", "-g", "-i", "-m", *CHECKSUMS.values()))


class IpvsadmError(ValueError):
    """A line that ipvsadm-restore would not take, and which one it is."""


def save(servers: Iterable[Server], *, thresholds: bool = False) -> str:
    """Lines for virtual servers, each with its real servers, in ipvsadm's order.

    Real servers whose virtual server is not among them come last.  Raises ValueError for
    forwarding "bypass", for which ipvsadm has no word.
    """
    heads: list[VirtualServer] = []
    reals: dict[tuple[object, ...], list[RealServer]] = {}
    for one in servers:
        if isinstance(one, VirtualServer):
            heads.append(one)
        else:
            reals.setdefault((one.protocol, one.vip, one.vport, one.fwmark), []).append(one)
    lines: list[str] = []
    for head in sorted(sorted(heads, key=_plain), key=cmp_to_key(_compare_virtual)):
        own = reals.pop((head.protocol, head.ip, head.port, head.fwmark), [])
        lines += _block(head, own, thresholds)
    for rest in reals.values():
        lines += _block(None, rest, thresholds)
    return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> list[Server]:
    """The servers of such lines, in their order; empty lines and comments are passed over.

    Options by their long names are understood too.  Raises IpvsadmError with the line's number.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(_parse_line(line))
        except ValueError as error:
            raise IpvsadmError(f"line {number}: {error}") from None
    return found


def endpoint(address: IP, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    shown = address_text(address)
    return f"{shown}:{port}" if address.version == 4 else f"[{shown}]:{port}"


def netmask(mask: IP) -> str:
    """An IPv4 mask as an address, an IPv6 mask as a number of bits."""
    return str(mask) if mask.version == 4 else str(prefix_length(mask))


def flag_names(server: VirtualServer) -> str:
    """The scheduler flags by ipvsadm's names, with commas."""
    names = FLAG_NAMES.get(server.scheduler, {})
    return ",".join(names.get(flag, f"flag-{flag}") for flag in sorted(server.scheduler_flags))


def _block(head: VirtualServer | None, reals: list[RealServer], thresholds: bool) -> Iterator[str]:
    if head is not None:
        yield _virtual_line(head)
    reals.sort(key=lambda real: (real.ip.version, int(real.ip), real.port))
    for real in sorted(reals, key=cmp_to_key(_compare_real)):
        yield _real_line(real, thresholds)


def _virtual_line(server: VirtualServer) -> str:
    words = ["-A", _name(server.protocol, server.ip, server.port, server.fwmark)]
    words += ["-s", server.scheduler]
    if server.persistence:
        words += ["-p", str(server.persistence.timeout)]
        if server.persistence.mask is not None:
            words += ["-M", netmask(server.persistence.mask)]
    if server.persistence_engine:
        words += ["--pe", server.persistence_engine]
    if server.one_packet:
        words.append("-o")
    if server.scheduler_flags:
        words += ["-b", flag_names(server)]
    return " ".join(words)


def _real_line(server: RealServer, thresholds: bool) -> str:
    if server.forwarding not in METHODS:
        raise ValueError(f"ipvsadm has no word for forwarding {server.forwarding}")
    words = ["-a", _name(server.protocol, server.vip, server.vport, server.fwmark)]
    words += ["-r", endpoint(server.ip, server.port), METHODS[server.forwarding][0]]
    words += ["-w", str(server.weight)]
    if thresholds and server.upper:
        words += ["-x", str(server.upper)]
        if server.lower:
            words += ["-y", str(server.lower)]
    if server.forwarding == "tunnel":
        tunnel = server.tunnel
        words += ["--tun-type", tunnel.type if tunnel else "ipip"]
        if tunnel and tunnel.type == "gue":
            words += ["--tun-port", str(tunnel.port)]
        if tunnel:
            words.append(CHECKSUMS[tunnel.checksum])
    return " ".join(words)


def _name(protocol: Protocol, address: IP, port: int, fwmark: int) -> str:
    if fwmark:
        return f"-f {fwmark}" + (" -6" if address.version == 6 else "")
    return f"{SERVICES[protocol][0]} {endpoint(address, port)}"


def _plain(server: VirtualServer) -> tuple[int, ...]:
    return (server.fwmark, server.ip.version, int(server.ip), server.port)


_PROTOCOL_ORDER = {"TCP": 6, "UDP": 17, "SCTP": 132}


def _compare_virtual(left: VirtualServer, right: VirtualServer) -> int:
    return (
        _wrapped(left.fwmark - right.fwmark)
        or left.ip.version - right.ip.version
        or _PROTOCOL_ORDER[left.protocol] - _PROTOCOL_ORDER[right.protocol]
        or _compare_address(left.ip, right.ip)
        or left.port - right.port
    )


def _compare_real(left: RealServer, right: RealServer) -> int:
    return _compare_address(left.ip, right.ip) or left.port - right.port


def _compare_address(left: IP, right: IP) -> int:
    """By 32 bits at a time; an IPv4 address has its own where an IPv6 address has its first."""
    for one, other in zip(_words(left), _words(right), strict=True):
        difference = _wrapped(one - other)
        if difference or left.version == 4:
            return difference
    return 0


def _words(address: IP) -> tuple[int, ...]:
    if address.version == 4:
        return (int(address), 0, 0, 0)
    return tuple(int(address) >> shift & _U32 for shift in (96, 64, 32, 0))


_U32 = 2**32 - 1


def _wrapped(difference: int) -> int:
    """As in C, where ipvsadm subtracts in 32 bits: 172.31.0.1 comes before 10.96.0.1."""
    return ((difference + 2**31) & _U32) - 2**31


def _parse_line(line: str) -> Server:
    given = _options(shlex.split(line))
    name = _parse_name(given)
    if "-A" in given:
        return _parse_virtual(given, *name)
    if "-a" in given:
        return _parse_real(given, *name)
    raise ValueError("neither -A nor -a")


def _options(words: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    position = 0
    while position < len(words):
        option, equals, value = words[position].partition("=")
        option = _SHORT.get(option, option)
        position += 1
        if option == "-p" and not equals:  # its number may be missing
            if position < len(words) and words[position].isdecimal():
                value = words[position]
                position += 1
        elif option in _TAKES and not equals:
            if position == len(words):
                raise ValueError(f"{option} without a value")
            value = words[position]
            position += 1
        elif option not in _ALONE and option not in _TAKES and option != "-p":
            raise ValueError(f"what is {option}?")
        if option in given:
            raise ValueError(f"{option} twice")
        given[option] = value
    return given


def _parse_name(given: dict[str, str]) -> tuple[Protocol, IP, int, int]:
    for protocol, (option, _) in SERVICES.items():
        if option in given:
            return protocol, *_parse_endpoint(given[option]), 0
    if "-f" not in given:
        raise ValueError("no virtual server is named (-t, -u, --sctp-service or -f)")
    mark = _number(given["-f"], "-f", -(2**31), _U32) & _U32  # ipvsadm -S writes it signed
    server = by_mark(mark, 6 if "-6" in given else 4)
    return server.protocol, server.ip, server.port, mark


def _parse_virtual(
    given: dict[str, str], protocol: Protocol, address: IP, port: int, fwmark: int
) -> VirtualServer:
    scheduler = given.get("-s", _DEFAULT_SCHEDULER)
    persistence = None
    if "-p" in given:
        seconds = given["-p"] or str(_DEFAULT_PERSISTENCE)
        mask: IP | None = None
        if "-M" in given and address.version == 6:
            mask = prefix_mask(_number(given["-M"], "-M", 1, 128))
        elif "-M" in given:
            mask = ip(given["-M"])
        persistence = Persistence(timeout=_number(seconds, "-p", 0, _U32), mask=mask)
    return VirtualServer(
        protocol=protocol,
        ip=address,
        port=port,
        fwmark=fwmark,
        scheduler=scheduler,
        persistence=persistence,
        scheduler_flags=frozenset(_parse_flags(given.get("-b", ""), scheduler)),
        one_packet="-o" in given,
        persistence_engine=given.get("--pe", ""),
    )


def _parse_flags(text: str, scheduler: str) -> Iterator[SchedulerFlag]:
    flags: tuple[SchedulerFlag, ...] = (1, 2, 3)
    names = {f"flag-{flag}": flag for flag in flags}
    names |= {name: flag for flag, name in FLAG_NAMES.get(scheduler, {}).items()}
    for name in text.split(",") if text else ():
        if name not in names:
            raise ValueError(f"scheduler {scheduler} has no flag {name}")
        yield names[name]


def _parse_real(
    given: dict[str, str], protocol: Protocol, vip: IP, vport: int, fwmark: int
) -> RealServer:
    if "-r" not in given:
        raise ValueError("no real server is named (-r)")
    address, port = _parse_endpoint(given["-r"], vport)
    forwarding: Forwarding = (
        "masquerade" if "-m" in given else "tunnel" if "-i" in given else "route"
    )
    return RealServer(
        protocol=protocol,
        vip=vip,
        vport=vport,
        fwmark=fwmark,
        ip=address,
        port=port,
        weight=_number(given.get("-w", "1"), "-w", 0, 2**31 - 1),
        forwarding=forwarding,
        upper=_number(given.get("-x", "0"), "-x", 0, _U32),
        lower=_number(given.get("-y", "0"), "-y", 0, _U32),
        tunnel=_parse_tunnel(given),
    )


def _parse_tunnel(given: dict[str, str]) -> Tunnel | None:
    kind: Any = given.get("--tun-type", "ipip")
    if kind == "ipip":
        return None
    if kind not in ("gue", "gre"):
        raise ValueError(f"no tunnel type {kind}")
    said: list[Checksum] = [name for name, option in CHECKSUMS.items() if option in given]
    port = _number(given.get("--tun-port", "0"), "--tun-port", 0, 65535)
    return Tunnel(type=kind, port=port, checksum=said[0] if said else "none")


def _parse_endpoint(text: str, port: int = 0) -> tuple[IP, int]:
    """An address and its port; ``port`` where it has none."""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        number = rest.removeprefix(":")
    elif text.count(":") > 1:
        address, number = text, ""
    else:
        address, _, number = text.partition(":")
    return ip(address), _number(number, "a port", 0, 65535) if number else port


def _number(text: str, what: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{what}: {text!r} is no number") from None
    if not least <= number <= most:
        raise ValueError(f"{what}: {number} is not between {least} and {most}")
    return number
