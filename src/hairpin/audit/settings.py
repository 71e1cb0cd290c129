"""Settings that the proxy of a mode makes: sysctls, and IPVS's timeouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hairpin.audit.case import Case, set_to, told
from hairpin.audit.report import Differs, Finding
from hairpin.state.ipvs import Timeouts
from hairpin.state.sysctl import Sysctl

NODES = frozenset(("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"))
"""Those that are the node's matter as much as the proxy's: ``node`` has notes on them."""

_MEANS: Mapping[str, str] = {
    "net.ipv4.vs.conntrack": "What IPVS forwards is not masqueraded: answers to clients outside, "
    "and of a Pod to itself, get lost.",
    "net.ipv4.vs.expire_nodest_conn": "A connection to an endpoint that is gone hangs until its "
    "timeout instead of being ended.",
    "net.ipv4.vs.expire_quiescent_template": "Clients with session affinity keep being sent to an "
    "endpoint that takes no new connections.",
    "net.ipv4.conf.all.route_localnet": "Node ports do not answer at 127.0.0.1.",
    "net.ipv4.conf.all.arp_ignore": "The node answers ARP for addresses of other links, those of "
    "Services among them, against ipvs.strictARP.",
    "net.ipv4.conf.all.arp_announce": "The node asks by ARP with addresses of other links, those "
    "of Services among them, against ipvs.strictARP.",
    "net.netfilter.nf_conntrack_tcp_timeout_established": "Connections that are silent are "
    "forgotten, or remembered, after another time than the configuration says.",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "Half-closed connections are forgotten, "
    "or remembered, after another time than the configuration says.",
    "net.netfilter.nf_conntrack_tcp_be_liberal": "Packets outside the TCP window are INVALID, and "
    "are not rewritten as the rest of their connection.",
}
_OTHER = "It is otherwise than the proxy's configuration says."


def judge(case: Case) -> Iterator[Finding]:
    """The settings that could be read; one that this kernel does not have is passed over."""
    settings = case.held.settings
    for want in case.wanted(Sysctl).values():
        one = want.object
        assert isinstance(one, Sysctl)
        seen = settings.get(one.name)
        if seen is None or one.name in NODES or _same(seen, one.value):
            continue
        yield Finding(
            what="wrong",
            subject=one.name,
            object=one,
            owner=want.owner,
            differs=(Differs("value", seen, one.value),),
            consequence=_MEANS.get(one.name, _OTHER),
            mend=set_to(want, Sysctl(name=one.name, value=seen)),
        )
    timeouts = case.held.timeouts
    for want in case.wanted(Timeouts).values() if timeouts is not None else ():
        one = want.object
        assert isinstance(one, Timeouts) and timeouts is not None
        odd = tuple(
            Differs(name.replace("_", " "), str(have), str(wish))
            for name in ("tcp", "tcp_fin", "udp")
            if (wish := getattr(one, name)) and wish != (have := getattr(timeouts, name))
        )
        if odd:
            yield Finding(
                what="wrong",
                subject=told(one),
                object=one,
                owner=want.owner,
                differs=odd,
                consequence="IPVS forgets silent connections after another time than the "
                "configuration says.",
                mend=set_to(want, timeouts),
            )


def _same(seen: str, wanted: str) -> bool:
    return seen.split() == wanted.split()
