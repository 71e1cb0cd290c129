"""A Change as the commands a person would type on the node.

hairpin itself speaks netlink; these lines are the same thing for a shell in the node
(``hairpin shell node/NAME``), and the tests run them there to prove it.
"""

from __future__ import annotations

import shlex
from functools import singledispatch

from hairpin.model.address import IP
from hairpin.present import ipvsadm, nft_shell
from hairpin.state.change import Change
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import Protocol, RealServer, Timeouts, VirtualServer
from hairpin.state.links import Address, Bridged, Link, Neighbour, Netns, Route
from hairpin.state.netfilter import (
    Chain,
    ChainPolicy,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    PacketCounter,
    Rule,
    ServiceChain,
    Table,
)
from hairpin.state.nftables import NftChain, NftElement, NftObject, NftSet, NftTable
from hairpin.state.sysctl import Sysctl

_IPTABLES: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}


def commands(change: Change, home: str) -> list[str]:
    """Shell lines for ``change``, as typed in the namespace ``home``."""
    return _commands(change.object, change, home)


@singledispatch
def _commands(thing: object, change: Change, home: str) -> list[str]:
    raise TypeError(f"no shell form for {type(thing).__name__}")


def _ip(change: Change, home: str, version: int = 4) -> str:
    family = " -6" if version == 6 else ""
    return f"ip{family}" if change.netns == home else f"ip -n {change.netns}{family}"


def _inside(change: Change, home: str) -> str:
    return "" if change.netns == home else f"ip netns exec {change.netns} "


@_commands.register
def _netns(thing: Netns, change: Change, home: str) -> list[str]:
    if change.verb == "remove":
        return [f"ip netns del {thing.name}"]
    return [f"ip netns add {thing.name}", f"ip -n {thing.name} link set lo up"]


@_commands.register
def _link(thing: Link, change: Change, home: str) -> list[str]:
    ip = _ip(change, home)
    if change.verb == "remove":
        return [f"{ip} link del {thing.name}"]
    if change.verb == "set":
        before = change.before
        return _link_settings(thing, before if isinstance(before, Link) else None, ip)
    bare = Link(name=thing.name, type=thing.type, up=False)
    return [_link_add(thing, change, home), *_link_settings(thing, bare, ip)]


def _link_add(thing: Link, change: Change, home: str) -> str:
    if thing.type == "veth" and thing.peer:
        # Said from home where one end is at home: that namespace may have no name there.
        if change.netns != home and thing.peer_netns == home:
            ends = (thing.peer, thing.name, change.netns)
            return "ip link add {} type veth peer name {} netns {}".format(*ends)
        there = f" netns {thing.peer_netns}" if thing.peer_netns != change.netns else ""
        return f"{_ip(change, home)} link add {thing.name} type veth peer name {thing.peer}{there}"
    if thing.vxlan:
        words = f"id {thing.vxlan.id} local {thing.vxlan.local} dstport {thing.vxlan.port}"
        mac = f" address {thing.mac}" if thing.mac else ""
        return f"{_ip(change, home)} link add {thing.name}{mac} type vxlan {words} nolearning"
    return f"{_ip(change, home)} link add {thing.name} type {thing.type}"


def _link_settings(after: Link, before: Link | None, ip: str) -> list[str]:
    """The settings in which ``after`` differs; all of them where ``before`` is not known."""
    words = []
    if before is None or after.master != before.master:
        words.append(f"master {after.master}" if after.master else "nomaster")
    if after.mtu is not None and (before is None or after.mtu != before.mtu):
        words.append(f"mtu {after.mtu}")
    if before is None or after.promisc != before.promisc:
        words.append(f"promisc {'on' if after.promisc else 'off'}")
    if before is None or after.up != before.up:
        words.append("up" if after.up else "down")
    lines = [f"{ip} link set {after.name} {' '.join(words)}"] if words else []
    if after.master and (after.hairpin != before.hairpin if before else True):
        state = "on" if after.hairpin else "off"
        lines.append(f"{ip} link set {after.name} type bridge_slave hairpin {state}")
    return lines


@_commands.register
def _address(thing: Address, change: Change, home: str) -> list[str]:
    verb = "del" if change.verb == "remove" else "add"
    return [f"{_ip(change, home)} addr {verb} {thing.ip}/{thing.prefix} dev {thing.link}"]


@_commands.register
def _route(thing: Route, change: Change, home: str) -> list[str]:
    verb = {"add": "add", "remove": "del", "set": "replace"}[change.verb]
    to = "default" if thing.to.prefixlen == 0 else str(thing.to)
    via = f" via {thing.via}" if thing.via else ""
    link = f" dev {thing.link}" if thing.link else ""
    there = " onlink" if thing.onlink else ""
    return [f"{_ip(change, home, thing.to.version)} route {verb} {to}{via}{link}{there}"]


@_commands.register
def _neighbour(thing: Neighbour, change: Change, home: str) -> list[str]:
    ip = _ip(change, home)
    if change.verb == "remove":
        return [f"{ip} neigh del {thing.ip} dev {thing.link}"]
    return [f"{ip} neigh replace {thing.ip} lladdr {thing.mac} dev {thing.link} nud permanent"]


@_commands.register
def _bridged(thing: Bridged, change: Change, home: str) -> list[str]:
    bridge = "bridge" if change.netns == home else f"bridge -n {change.netns}"
    verb = "del" if change.verb == "remove" else "replace"
    return [f"{bridge} fdb {verb} {thing.mac} dev {thing.link} dst {thing.to} self permanent"]


@_commands.register
def _sysctl(thing: Sysctl, change: Change, home: str) -> list[str]:
    return [f"{_inside(change, home)}sysctl -w {thing.name}={thing.value}"]


@_commands.register
def _rule(thing: Rule, change: Change, home: str) -> list[str]:
    verb = "-D" if change.verb == "remove" else "-A"
    program = _iptables(thing.family, thing.table)
    return [f"{_inside(change, home)}{program} {verb} {thing.chain} {shlex.join(thing.spec)}"]


@_commands.register
def _policy(thing: ChainPolicy, change: Change, home: str) -> list[str]:
    program = _iptables(thing.family, thing.table)
    return [f"{_inside(change, home)}{program} -P {thing.chain} {thing.target}"]


@_commands.register
def _chain(thing: Chain, change: Change, home: str) -> list[str]:
    inside, program = _inside(change, home), _iptables(thing.family, thing.table)
    if change.verb == "remove":
        return [f"{inside}{program} {verb} {thing.name}" for verb in ("-F", "-X")]
    first = "-F" if change.verb == "set" else "-N"
    rules = [f"{inside}{program} -A {thing.name} {shlex.join(rule)}" for rule in thing.rules]
    return [f"{inside}{program} {first} {thing.name}", *rules]


@_commands.register
def _service_chain(thing: ServiceChain, change: Change, home: str) -> list[str]:
    inside, program = _inside(change, home), _iptables(thing.family, thing.table)
    if change.verb == "remove":
        return [f"{inside}{program} -{flag} {thing.name}" for flag in "FX"]
    first = "-N" if change.verb == "add" else "-F"
    # A rule is as iptables-save quotes it: a shell reads that alike.
    rules = [f"{inside}{program} -A {thing.name} {rule}" for rule in thing.rules]
    return [f"{inside}{program} {first} {thing.name}", *rules]


@_commands.register
def _dispatch_chain(thing: DispatchChain, change: Change, home: str) -> list[str]:
    start = _inside(change, home) + _iptables(thing.family, thing.table)
    if change.verb == "remove":
        return [f"{start} -{flag} {thing.name}" for flag in "FX"]
    made = [f"{start} -N {thing.name}"] if change.verb == "add" else []
    return [*made, *(f"{start} -A {thing.name} {rule}" for rule in thing.last)]


@_commands.register
def _dispatch_rule(thing: DispatchRule, change: Change, home: str) -> list[str]:
    start = _inside(change, home) + _iptables(thing.family, thing.table)
    if change.verb == "remove":
        return [f"{start} -D {thing.chain} {thing.rule}"]
    before = change.before
    gone = [f"{start} -D {thing.chain} {before.rule}"] if isinstance(before, DispatchRule) else []
    return [f"{start} -I {thing.chain} {thing.rule}", *gone]


@_commands.register
def _packet_counter(thing: PacketCounter, change: Change, home: str) -> list[str]:
    verb = "delete" if change.verb == "remove" else "add"
    return [f"{_inside(change, home)}nfacct {verb} {thing.name}  # of Debian's package nfacct"]


@_commands.register
def _jump(thing: Jump, change: Change, home: str) -> list[str]:
    start = _inside(change, home) + _iptables(thing.family, thing.table)
    gone = change.before if isinstance(change.before, Jump) else None
    if change.verb == "remove":
        return [f"{start} -D {thing.chain} {shlex.join(thing.spec)}"]
    moved = [] if gone is None else [f"{start} -D {gone.chain} {shlex.join(gone.spec)}"]
    return [*moved, f"{start} -I {thing.chain} {shlex.join(thing.spec)}"]


@_commands.register
def _ipset(thing: IpSet, change: Change, home: str) -> list[str]:
    inside = _inside(change, home)
    if change.verb == "remove":
        return [f"{inside}ipset destroy {thing.name}"]
    if thing.type == "bitmap:port":
        return [f"{inside}ipset create {thing.name} bitmap:port range 0-65535"]
    options = f"family {thing.family} maxelem {thing.maxelem}"
    return [f"{inside}ipset create {thing.name} {thing.type} {options}"]


@_commands.register
def _set_entry(thing: SetEntry, change: Change, home: str) -> list[str]:
    verb = "del" if change.verb == "remove" else "add"
    return [f"{_inside(change, home)}ipset {verb} {thing.set} {thing}"]


def _iptables(family: Family, table: Table) -> str:
    """The program, and which table unless that is the usual one."""
    return _IPTABLES[family] + ("" if table == "filter" else f" -t {table}")


def _server_name(protocol: Protocol, ip: IP, port: int, fwmark: int) -> str:
    if fwmark:
        return f"--fwmark-service {fwmark}" + (" --ipv6" if ip.version == 6 else "")
    return f"{ipvsadm.SERVICES[protocol][1]} {ipvsadm.endpoint(ip, port)}"


@_commands.register
def _virtual_server(thing: VirtualServer, change: Change, home: str) -> list[str]:
    verb = {"add": "--add-service", "remove": "--delete-service", "set": "--edit-service"}
    words = [f"ipvsadm {verb[change.verb]}"]
    words.append(_server_name(thing.protocol, thing.ip, thing.port, thing.fwmark))
    if change.verb != "remove":
        words.append(f"--scheduler {thing.scheduler}")
        if thing.persistence:
            words.append(f"--persistent {thing.persistence.timeout}")
            if thing.persistence.mask is not None:
                words.append(f"--netmask {ipvsadm.netmask(thing.persistence.mask)}")
        if thing.persistence_engine:
            words.append(f"--pe {thing.persistence_engine}")
        if thing.one_packet:
            words.append("--ops")
        if thing.scheduler_flags:
            words.append(f"--sched-flags {ipvsadm.flag_names(thing)}")
    return [_inside(change, home) + " ".join(words)]


@_commands.register
def _real_server(thing: RealServer, change: Change, home: str) -> list[str]:
    if thing.forwarding not in ipvsadm.METHODS:
        return [f"# ipvsadm has no word for forwarding {thing.forwarding}"]
    verb = {"add": "--add-server", "remove": "--delete-server", "set": "--edit-server"}
    words = [f"ipvsadm {verb[change.verb]}"]
    words.append(_server_name(thing.protocol, thing.vip, thing.vport, thing.fwmark))
    words.append(f"--real-server {ipvsadm.endpoint(thing.ip, thing.port)}")
    if change.verb != "remove":
        words.append(ipvsadm.METHODS[thing.forwarding][1])
        if thing.weight != 1:
            words.append(f"--weight {thing.weight}")
        if thing.upper:
            words.append(f"--u-threshold {thing.upper}")
        if thing.lower:
            words.append(f"--l-threshold {thing.lower}")
        if thing.tunnel:
            words.append(f"--tun-type {thing.tunnel.type}")
            if thing.tunnel.port:
                words.append(f"--tun-port {thing.tunnel.port}")
            words.append(ipvsadm.CHECKSUMS[thing.tunnel.checksum])
    return [_inside(change, home) + " ".join(words)]


@_commands.register
def _timeouts(thing: Timeouts, change: Change, home: str) -> list[str]:
    line = f"ipvsadm --set {thing.tcp} {thing.tcp_fin} {thing.udp}"
    return [_inside(change, home) + line]


@_commands.register(NftTable)
@_commands.register(NftSet)
@_commands.register(NftChain)
@_commands.register(NftElement)
def _nft(thing: NftObject, change: Change, home: str) -> list[str]:
    return [f"{_inside(change, home)}nft {shlex.quote(nft_shell.script(thing, change))}"]
