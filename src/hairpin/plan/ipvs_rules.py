"""The iptables rules of IPVS mode, as iptables-save prints them.

IPVS rewrites the destination only.  These rules say whose source is rewritten as well (nat), and
what may pass (filter).  A packet that needs it gets a mark on the way in and is masqueraded on the
way out.  Few of them depend on Services: only on which sets hold anything at all, as kube-proxy
writes a rule for a set only then, and on the load balancer IPs that the node itself may not use.

Chains, order and comments are kube-proxy's (pkg/proxy/ipvs/proxier.go of Kubernetes 1.36).
"""

from __future__ import annotations

import msgspec

from hairpin.plan import ipvs_sets as sets
from hairpin.plan.ipvs_sets import NAMES, SETS
from hairpin.plan.service_plan import Blocked, Occupancy
from hairpin.state.netfilter import Chain, Family, Jump, Table

SERVICES = "KUBE-SERVICES"
POSTROUTING = "KUBE-POSTROUTING"
NODE_PORT = "KUBE-NODE-PORT"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
SOURCE_RANGES_FIREWALL = "KUBE-SOURCE-RANGES-FIREWALL"
IPVS_FILTER = "KUBE-IPVS-FILTER"
IPVS_OUT_FILTER = "KUBE-IPVS-OUT-FILTER"

CHAINS: tuple[tuple[Table, str, str], ...] = (
    ("nat", SERVICES, "which packets to Services are masqueraded"),
    ("nat", POSTROUTING, "masquerades what is marked, and who reaches itself"),
    ("nat", NODE_PORT, "which packets to node ports are masqueraded"),
    ("nat", LOAD_BALANCER, "which packets to load balancer IPs are masqueraded"),
    ("nat", MARK_MASQ, "marks what is to be masqueraded"),
    ("filter", FORWARD, "lets marked packets and their answers through the node"),
    ("filter", NODE_PORT, "lets health checks in"),
    ("filter", PROXY_FIREWALL, "packets to load balancer IPs that only some may use"),
    ("filter", SOURCE_RANGES_FIREWALL, "drops clients outside loadBalancerSourceRanges"),
    ("filter", IPVS_FILTER, "rejects other ports of Services' addresses, and ICMP"),
    ("filter", IPVS_OUT_FILTER, "keeps the node off load balancer IPs that it may not use"),
)
"""Table, chain, and what it is for."""

JUMPS: tuple[tuple[Table, str, str, str], ...] = (
    ("nat", "PREROUTING", SERVICES, "kubernetes service portals"),
    ("nat", "OUTPUT", SERVICES, "kubernetes service portals"),
    ("nat", "POSTROUTING", POSTROUTING, "kubernetes postrouting rules"),
    ("filter", "INPUT", IPVS_FILTER, "kubernetes ipvs access filter"),
    ("filter", "INPUT", PROXY_FIREWALL, "kube-proxy firewall rules"),
    ("filter", "INPUT", NODE_PORT, "kubernetes health check rules"),
    ("filter", "FORWARD", PROXY_FIREWALL, "kube-proxy firewall rules"),
    ("filter", "FORWARD", FORWARD, "kubernetes forwarding rules"),
    ("filter", "OUTPUT", IPVS_OUT_FILTER, "kubernetes ipvs access filter"),
)
"""Table, built-in chain, where to, comment; those of one chain from its head on."""

_COMMENT = ("-m", "comment", "--comment")
_NUMBERS = {"TCP": "6", "UDP": "17", "SCTP": "132"}  # as iptables-save prints --vproto

Words = tuple[str, ...]


class Masquerading(msgspec.Struct, frozen=True):
    """Who is masqueraded on the way to a ClusterIP.

    ``everyone``, or who does not match ``not_local`` (``! -s 10.244.0.0/16``); with neither only
    what a node sends to itself.  ``mark`` is one bit of a packet's mark.
    """

    mark: int
    everyone: bool = False
    not_local: Words = ()


def jumps(version: int) -> list[Jump]:
    family = _family(version)
    return [
        Jump(table=table, chain=chain, to=to, comment=comment, family=family)
        for table, chain, to, comment in JUMPS
    ]


def chains(version: int, masquerading: Masquerading, occupancy: Occupancy) -> list[Chain]:
    """All chains of one IP version with their rules."""
    write = _Writer(version, occupancy.used)
    bit = f"{masquerading.mark:#x}"
    rules: dict[tuple[Table, str], list[Words]] = {
        ("nat", SERVICES): _services(write, masquerading),
        ("nat", POSTROUTING): _postrouting(write, bit),
        ("nat", NODE_PORT): _node_port(write),
        ("nat", LOAD_BALANCER): [
            *write.if_used(sets.LOAD_BALANCER_LOCAL, "dst,dst", "RETURN"),
            ("-j", MARK_MASQ),
        ],
        ("nat", MARK_MASQ): [("-j", "MARK", "--set-xmark", f"{bit}/{bit}")],
        ("filter", FORWARD): _forward(bit),
        ("filter", NODE_PORT): [write.commented(sets.HEALTH_CHECK, "dst", "ACCEPT")],
        ("filter", PROXY_FIREWALL): write.if_used(
            sets.LOAD_BALANCER_FW, "dst,dst", SOURCE_RANGES_FIREWALL
        ),
        ("filter", SOURCE_RANGES_FIREWALL): [
            *write.if_used(sets.LOAD_BALANCER_SOURCE_CIDR, "dst,dst,src", "RETURN"),
            *write.if_used(sets.LOAD_BALANCER_SOURCE_IP, "dst,dst,src", "RETURN"),
            ("-j", "DROP"),
        ],
        ("filter", IPVS_FILTER): _ipvs_filter(write),
        ("filter", IPVS_OUT_FILTER): [
            _kept_off(one) for one in occupancy.blocked if one[0].version == version
        ],
    }
    family = _family(version)
    return [
        Chain(table=table, name=name, rules=tuple(rules[table, name]), family=family)
        for table, name, _ in CHAINS
    ]


def _family(version: int) -> Family:
    return "ip" if version == 4 else "ip6"


class _Writer:
    """Rules that match a set of one IP version."""

    def __init__(self, version: int, used: frozenset[str]) -> None:
        self.version = version
        self._names = NAMES[version]
        self._used = used

    def uses(self, base: str) -> bool:
        return self._names[base] in self._used

    def match(self, base: str, what: str) -> Words:
        return ("-m", "set", "--match-set", self._names[base], what)

    def commented(self, base: str, what: str, target: str, before: Words = ()) -> Words:
        return (*before, *_COMMENT, SETS[base].comment, *self.match(base, what), "-j", target)

    def if_used(self, base: str, what: str, target: str, before: Words = ()) -> list[Words]:
        return [self.commented(base, what, target, before)] if self.uses(base) else []


def _services(write: _Writer, masquerading: Masquerading) -> list[Words]:
    rules: list[Words] = [
        ("-s", "127.0.0.0/8" if write.version == 4 else "::1/128", "-j", "RETURN"),
        *write.if_used(sets.LOAD_BALANCER, "dst,dst", LOAD_BALANCER),
    ]
    # A node that reaches a ClusterIP without a detector of local traffic has the ClusterIP itself
    # for its source, as all of them are addresses of kube-ipvs0: that is masqueraded at least.
    found = masquerading.everyone or bool(masquerading.not_local)
    before = () if masquerading.everyone else masquerading.not_local
    which = "dst,dst" if found else "src,dst"
    rules += write.if_used(sets.CLUSTER_IP, which, MARK_MASQ, before)
    rules += write.if_used(sets.EXTERNAL_IP, "dst,dst", MARK_MASQ)
    for base in (sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL):
        if write.uses(base):
            rules += _external(write, base)
    rules.append(("-m", "addrtype", "--dst-type", "LOCAL", "-j", NODE_PORT))
    for base in (sets.CLUSTER_IP, sets.LOAD_BALANCER):
        if write.uses(base):
            rules.append((*write.match(base, "dst,dst"), "-j", "ACCEPT"))
    return rules


def _external(write: _Writer, base: str) -> list[Words]:
    """Off-machine traffic to an external IP, and what finds it to be local, needs no more rules."""
    rule = write.commented(base, "dst,dst", "ACCEPT")
    head = rule[:-2]
    off_machine = ("-m", "physdev", "!", "--physdev-is-in", "-m", "addrtype", "!", "--src-type")
    return [
        (*head, *off_machine, "LOCAL", "-j", "ACCEPT"),
        (*head, "-m", "addrtype", "--dst-type", "LOCAL", "-j", "ACCEPT"),
    ]


def _postrouting(write: _Writer, bit: str) -> list[Words]:
    masquerade = ("-j", "MASQUERADE", "--random-fully")
    return [
        *write.if_used(sets.LOOP_BACK, "dst,dst,src", "MASQUERADE"),
        ("-m", "mark", "!", "--mark", f"{bit}/{bit}", "-j", "RETURN"),
        ("-j", "MARK", "--set-xmark", f"{bit}/0x0"),  # taken off, should it come by again
        (*_COMMENT, "kubernetes service traffic requiring SNAT", *masquerade),
    ]


def _node_port(write: _Writer) -> list[Words]:
    rules: list[Words] = []
    for protocol, base in sets.NODE_PORTS.items():
        what = "dst,dst" if protocol == "SCTP" else "dst"
        before = ("-p", protocol.lower())
        rules += write.if_used(sets.NODE_PORTS_LOCAL[protocol], what, "RETURN", before)
        rules += write.if_used(base, what, MARK_MASQ, before)
    return rules


def _forward(bit: str) -> list[Words]:
    accept = ("-j", "ACCEPT")
    state = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    return [
        (*_COMMENT, "kubernetes forwarding rules", "-m", "mark", "--mark", f"{bit}/{bit}", *accept),
        (*_COMMENT, "kubernetes forwarding conntrack rule", *state, *accept),
    ]


def _ipvs_filter(write: _Writer) -> list[Words]:
    icmp = "icmp-port-unreachable" if write.version == 4 else "icmp6-port-unreachable"
    bases = (sets.LOAD_BALANCER, sets.CLUSTER_IP, sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL)
    new = ("-m", "conntrack", "--ctstate", "NEW")
    reject = ("-j", "REJECT", "--reject-with", icmp)
    return [
        *((*write.match(base, "dst,dst"), "-j", "RETURN") for base in bases),
        (*write.match(sets.HEALTH_CHECK, "dst"), "-j", "RETURN"),
        (*new, *write.match(sets.IPVS_IPS, "dst"), *reject),
    ]


def _kept_off(blocked: Blocked) -> Words:
    """From the node itself to that address the source is the address too."""
    ip, protocol, port = blocked
    ipvs = ("-m", "ipvs", "--vproto", _NUMBERS[protocol], "--vaddr", str(ip))
    return ("-s", f"{ip}/{ip.max_prefixlen}", *ipvs, "--vport", str(port), "-j", "DROP")
