"""The story that hairpin began with: two Pods, a bridge, a virtual server, and the riddle.

Two namespaces, foo and bar, on the bridge cni0 of one node; an IPVS virtual server in front of
them; and the question why foo cannot reach itself through it.  The node had br_netfilter on: only
so could bar reach foo through the virtual server before any masquerading.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from hairpin.claims.base import (
    Answered,
    Attempt,
    Claim,
    Item,
    Start,
    Step,
    Text,
    Unanswered,
)
from hairpin.lab.names import node_netns
from hairpin.model.address import ip, network
from hairpin.state.change import Change, Object
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.netfilter import ChainPolicy, Rule
from hairpin.state.sysctl import Sysctl

NODE = node_netns("node")
PODS = network("172.22.0.0/24")
GATEWAY = ip("172.22.0.1")
FOO = ip("172.22.0.2")
BAR = ip("172.22.0.3")
VIP = ip("172.23.0.1")
PORT = 8080

_CNI0 = Link(name="cni0", type="bridge")
_FORWARD_IN = Rule(table="filter", chain="FORWARD", spec=("-i", "cni0", "-j", "ACCEPT"))
_FORWARD_OUT = Rule(table="filter", chain="FORWARD", spec=("-o", "cni0", "-j", "ACCEPT"))
_SERVER = VirtualServer(protocol="TCP", ip=VIP, port=PORT, scheduler="rr")


def _real(pod: str) -> RealServer:
    address = FOO if pod == "foo" else BAR
    return RealServer(protocol="TCP", vip=VIP, vport=PORT, ip=address, port=PORT)


def _add(thing: Object, netns: str = NODE) -> Change:
    return Change(verb="add", netns=netns, object=thing)


def _set(before: Object, after: Object, netns: str = NODE) -> Change:
    return Change(verb="set", netns=netns, object=after, before=before)


def _sysctl(name: str, before: str, after: str) -> Change:
    return _set(Sysctl(name=name, value=before), Sysctl(name=name, value=after))


def _server(pod: str) -> Start:
    return Start(
        name=pod,
        netns=pod,
        argv=("python3", "-m", "http.server", "-d", pod, str(PORT)),
        port=PORT,
        prepare=(("mkdir", "-p", pod), ("touch", f"{pod}/im-{pod}")),
    )


def _attempt(source: str, to: object = VIP, times: int = 1) -> Attempt:
    netns = NODE if source == "node" else source
    return Attempt(netns=netns, ip=ip(str(to)), port=PORT, times=times)


def _pod_link(pod: str) -> Iterator[Item]:
    """A Pod's veth, as the seed names it, with its address; the node's end on the bridge."""
    inner, outer = f"veth_{pod}_eth0", f"veth_{pod}"
    address = FOO if pod == "foo" else BAR
    bare = Link(name=outer, type="veth", up=False, peer=inner, peer_netns=pod)
    yield _add(Link(name=inner, type="veth", peer=outer, peer_netns=NODE), pod)
    onto = Link(name=outer, type="veth", master="cni0", peer=inner, peer_netns=pod)
    yield _set(bare, onto)
    yield _add(Address(link=inner, ip=address, prefix=24), pod)


def _default_route(pod: str) -> Change:
    return _add(Route(to=network("0.0.0.0/0"), via=GATEWAY), pod)


def _fails(name: str, source: str, says: Text, *outcomes: str, to: object = VIP) -> Claim:
    allowed = tuple(one for one in ("timeout", "unreachable", "refused") if one in outcomes)
    expect = Unanswered(outcomes=allowed or ("timeout",))
    return Claim(id=f"seed.{name}", says=says, attempt=_attempt(source, to), expect=expect)


def _works(
    name: str,
    source: str,
    says: Text,
    by: tuple[str, ...] = ("foo",),
    *,
    to: object = VIP,
    saw: object = None,
    rotation: bool = False,
) -> Claim:
    expect = Answered(by=by, rotation=rotation, server_saw=ip(str(saw)) if saw else None)
    return Claim(id=f"seed.{name}", says=says, attempt=_attempt(source, to, len(by)), expect=expect)


INGREDIENTS: dict[str, Change] = {
    "hairpin": _set(_CNI0, Link(name="cni0", type="bridge", promisc=True)),
    "masquerade": _add(
        Rule(table="nat", chain="POSTROUTING", spec=("-s", str(PODS), "-j", "MASQUERADE"))
    ),
    "ipvs-conntrack": _sysctl("net.ipv4.vs.conntrack", "0", "1"),
}
"""The three things that the seed adds so that foo reaches itself."""

_INGREDIENT_WORDS = {
    "hairpin": Text("promiscuous cni0", "cni0 混杂模式"),
    "masquerade": Text("masquerading", "SNAT"),
    "ipvs-conntrack": Text("IPVS conntrack", "IPVS conntrack"),
}


def _not_enough() -> Iterator[Item]:
    """Each ingredient alone and each pair: put in, tried, taken out again."""
    for size in (1, 2):
        for names in combinations(INGREDIENTS, size):
            yield from (INGREDIENTS[name] for name in names)
            en = " and ".join(_INGREDIENT_WORDS[name].en for name in names)
            zh = "加".join(_INGREDIENT_WORDS[name].zh for name in names)
            says = Text(f"{en}: foo still cannot reach itself", f"只有{zh}: foo 仍然访问不到自己")
            yield _fails(f"not-enough.{'+'.join(names)}", "foo", says)
            yield from (INGREDIENTS[name].undone() for name in reversed(names))


_FORWARDING = _sysctl("net.ipv4.ip_forward", "0", "1")
_BR_NETFILTER_OFF = _sysctl("net.bridge.bridge-nf-call-iptables", "1", "0")

STEPS: tuple[Step, ...] = (
    Step(
        id="namespaces",
        title=Text("Two network namespaces, alone", "两个独立的网络命名空间"),
        items=(
            _add(Netns(name="foo")),
            _add(Netns(name="bar")),
            _fails(
                "namespaces.foo-alone",
                "foo",
                Text("foo has no way to anywhere", "foo 到哪里都没有路"),
                "unreachable",
                to=BAR,
            ),
            _fails(
                "namespaces.bar-alone",
                "bar",
                Text("neither has bar", "bar 也一样"),
                "unreachable",
                to=FOO,
            ),
        ),
    ),
    Step(
        id="bridge",
        title=Text("A bridge and two veth pairs", "网桥和两对 veth"),
        items=(
            _add(_CNI0),
            _add(Address(link="cni0", ip=GATEWAY, prefix=24)),
            *_pod_link("foo"),
            *_pod_link("bar"),
            _server("foo"),
            _server("bar"),
            _works(
                "bridge.node-foo",
                "node",
                Text("the node reaches foo directly", "节点可以直接访问 foo"),
                to=FOO,
            ),
            _works(
                "bridge.node-bar",
                "node",
                Text("and bar", "也可以直接访问 bar"),
                ("bar",),
                to=BAR,
            ),
        ),
    ),
    Step(
        id="forward",
        title=Text("From bar to foo, through FORWARD", "从 bar 到 foo, 要过 FORWARD"),
        items=(
            _set(
                ChainPolicy(table="filter", chain="FORWARD", target="ACCEPT"),
                ChainPolicy(table="filter", chain="FORWARD", target="DROP"),
            ),
            _fails(
                "forward.dropped",
                "bar",
                Text(
                    "bar cannot reach foo: FORWARD drops even bridged packets",
                    "bar 访问不到 foo: 连网桥转发的包也被 FORWARD 丢弃",
                ),
                to=FOO,
            ),
            _add(_FORWARD_IN),
            _add(_FORWARD_OUT),
            _works(
                "forward.accepted",
                "bar",
                Text(
                    "with the two rules it can, although ip_forward is 0",
                    "加上这两条规则就可以了, 尽管 ip_forward 还是 0",
                ),
                to=FOO,
                saw=BAR,
            ),
            _FORWARDING,
            _works(
                "forward.forwarding",
                "bar",
                Text("ip_forward changes nothing here", "ip_forward 在这里不起作用"),
                to=FOO,
                saw=BAR,
            ),
            _FORWARDING.undone(),
        ),
    ),
    Step(
        id="virtual-server",
        title=Text("A virtual server in front of foo", "foo 前面的虚拟服务"),
        items=(
            _add(_SERVER),
            _add(_real("foo")),
            _fails(
                "virtual-server.no-gateway",
                "node",
                Text(
                    "the node's connection to the VIP goes unanswered: foo has no way back",
                    "节点访问 VIP 得不到回答: foo 没有回程路由",
                ),
            ),
            _default_route("foo"),
            _works(
                "virtual-server.gateway",
                "node",
                Text("with cni0 as its gateway, foo answers", "以 cni0 为网关, foo 就能回答"),
                saw="192.168.100.2",
            ),
        ),
    ),
    Step(
        id="round-robin",
        title=Text("Balanced: foo, bar, foo, bar", "负载均衡: foo, bar, foo, bar"),
        items=(
            _add(_real("bar")),
            _default_route("bar"),
            _works(
                "round-robin.alternates",
                "node",
                Text("rr alternates exactly", "rr 严格轮流"),
                ("foo", "bar") * 3,
                rotation=True,
            ),
        ),
    ),
    Step(
        id="removal",
        title=Text("A real server taken out", "移除一个后端"),
        items=(
            _add(_real("bar")).undone(),
            _works(
                "removal.only-foo",
                "node",
                Text("bar gets nothing more", "bar 不再收到任何连接"),
                ("foo",) * 4,
            ),
        ),
    ),
    Step(
        id="vip-local",
        title=Text("The VIP from a Pod: ipvs0", "从 Pod 访问 VIP: ipvs0"),
        items=(
            _fails(
                "vip-local.without",
                "bar",
                Text(
                    "bar's packets for the VIP pass IPVS by",
                    "bar 发往 VIP 的包绕过了 IPVS",
                ),
            ),
            _add(Link(name="ipvs0", type="dummy", up=False)),
            _add(Address(link="ipvs0", ip=VIP, prefix=32)),
            _works(
                "vip-local.with",
                "bar",
                Text(
                    "once the VIP is a local address, foo answers", "VIP 成为本地地址后, foo 回答了"
                ),
                saw=BAR,
            ),
            _works(
                "vip-local.node-source",
                "node",
                Text(
                    "and the node now calls from the VIP itself",
                    "而节点自己的源地址变成了 VIP",
                ),
                saw=VIP,
            ),
        ),
    ),
    Step(
        id="self",
        title=Text("The riddle: foo to itself", "谜题: foo 访问自己"),
        items=(
            _fails(
                "self.fails",
                "foo",
                Text("foo cannot reach itself through the VIP", "foo 通过 VIP 访问不到自己"),
            ),
        ),
    ),
    Step(
        id="not-enough",
        title=Text("One ingredient is not enough, nor are two", "一样不够, 两样也不够"),
        items=(_FORWARDING, *_not_enough()),
    ),
    Step(
        id="all-three",
        title=Text("All three, and one more", "三样齐全, 还差一样"),
        items=(
            *INGREDIENTS.values(),
            _works(
                "all-three.works",
                "foo",
                Text("with all three foo reaches itself", "三样齐全, foo 访问到了自己"),
                saw=GATEWAY,
            ),
            _works(
                "all-three.other",
                "bar",
                Text("and bar is masqueraded as well", "bar 的源地址也被替换了"),
                saw=GATEWAY,
            ),
            _FORWARDING.undone(),
            _fails(
                "all-three.forwarding",
                "foo",
                Text("without ip_forward all three are in vain", "没有 ip_forward, 三样也白费"),
            ),
            _FORWARDING,
        ),
    ),
    Step(
        id="no-br-netfilter",
        title=Text(
            "Unsaid: without br_netfilter no hairpin",
            "未说出的: 没有 br_netfilter 就不需要 hairpin",
        ),
        items=(
            INGREDIENTS["hairpin"].undone(),
            _fails(
                "no-br-netfilter.on",
                "foo",
                Text(
                    "br_netfilter on, hairpin off: foo fails",
                    "br_netfilter 开, hairpin 关: foo 失败",
                ),
            ),
            _BR_NETFILTER_OFF,
            _works(
                "no-br-netfilter.off",
                "foo",
                Text("both off: foo reaches itself", "两者都关: foo 访问到自己"),
                saw=GATEWAY,
            ),
        ),
    ),
    Step(
        id="bar-needs-masquerade",
        title=Text("Unsaid: now bar needs masquerading too", "未说出的: 现在 bar 也需要 SNAT"),
        items=(
            INGREDIENTS["masquerade"].undone(),
            _fails(
                "bar-needs-masquerade.without",
                "bar",
                Text("without masquerading bar fails", "没有 SNAT, bar 失败"),
            ),
            _works(
                "bar-needs-masquerade.node",
                "node",
                Text("the node does not need it", "节点不需要它"),
                saw=VIP,
            ),
            INGREDIENTS["masquerade"],
            _works(
                "bar-needs-masquerade.with",
                "bar",
                Text("with it bar is answered", "有了它, bar 得到回答"),
                saw=GATEWAY,
            ),
        ),
    ),
)
