"""A Proxy in iptables mode on the host's kernel: what packets meet, and what the tables hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hairpin.kernel import spawn
from hairpin.kernel.apply import Kernel
from hairpin.kernel.iptables import Variant
from hairpin.kernel.netns import Netns as Handle
from hairpin.model.address import ip
from hairpin.model.snapshot import Snapshot
from hairpin.source.manifests import load
from hairpin.state.links import Address, Link, Netns
from hairpin.state.netfilter import Chain, Rule
from tests.proxy.cluster import endpoint_slice, service
from tests.proxy.iptables_node import CONFIG, held, iptables, proxy, same, walk
from tests.proxy.nft_node import (
    OUTSIDE,
    add,
    answering,
    ask,
    bare_node,
    must,
    put,
    routing_node,
)
from tests.proxy.test_nft import PA, PB, PC, many

pytestmark = pytest.mark.host

RECORDED = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36"
_OWN = (("172.31.0.2", 32), ("fd31::2", 128))


@pytest.fixture(params=["nft", "legacy"])
def variant(request: pytest.FixtureRequest) -> Variant:
    name: Variant = request.param
    return name


@pytest.fixture
def kernel(variant: Variant) -> Iterator[Kernel]:
    with bare_node(Kernel(iptables=variant)) as made:
        yield made


def test_the_recorded_services_are_as_kube_proxy_made_them(variant: Variant) -> None:
    """All of iptables-save and ip6tables-save but canaries and the order that is nobody's."""
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    snapshot = Snapshot(load([str(RECORDED / "input" / one) for one in names], whole=True).objects)
    config = msgspec.structs.replace(CONFIG, cluster_cidr="10.192.0.0/12,fd00:200::/56")
    kernel = Kernel(iptables=variant)
    try:
        must(
            kernel,
            add(Netns(name="node"), ""),
            put(Link(name="lo", type="loopback")),
            *(add(Address(link="lo", ip=ip(text), prefix=size)) for text, size in _OWN),
        )
        one = proxy(kernel, config)
        one.adopt(snapshot)
        done = one.sync()
        assert not done.failed, done
        for six in (False, True):
            saved = iptables(kernel, variant, "-save", six=six)
            dump = RECORDED / "iptables" / f"{'ip6tables' if six else 'iptables'}-save.txt"
            assert _rules(saved) == _rules(dump.read_text())
        assert kernel.read_sysctl("node", "net.ipv4.conf.all.route_localnet").value == "1"
        assert one.sync(full=True).changes == 0
    finally:
        kernel.close(destroy=True)


def _rules(saved: str) -> list[str]:
    """Chains and rules; of built-in chains and tables nothing is said."""
    kept = [line for line in saved.splitlines() if line.startswith(("-A ", ":KUBE-"))]
    return sorted(line for line in kept if "CANARY" not in line)


def test_what_packets_meet(variant: Variant) -> None:
    with routing_node(Kernel(iptables=variant)) as kernel:
        one = proxy(kernel)
        one.adopt(many())
        done = one.sync()
        assert not done.failed, done
        assert not (wrong := same(kernel, many())), wrong

        # A ClusterIP: all endpoints answer; Pods are seen as they are, strangers as the node.
        assert answering(kernel, "pc", "10.96.0.1") == {f"pa {PC}", f"pb {PC}"}
        assert answering(kernel, "outside", "10.96.0.1") == {"pa 10.244.1.1", "pb 10.244.2.1"}
        for to in ("10.96.0.5", "198.51.100.5"):
            assert ask(kernel, "pc", to) == ask(kernel, "outside", to) == "refused"
        assert ask(kernel, "outside", "192.0.2.1", 30083) == "refused"

        # A Pod that reaches itself, in both families, is masqueraded.
        assert ask(kernel, "pa", "10.96.0.7") == "pa 10.244.1.1"
        assert ask(kernel, "pa", "fd00:96::7") == "pa fd00:244:0:1::1"
        assert ask(kernel, "pc", "fd00:96::7") == "pa fd00:244:0:3::2"

        # Node ports answer at every address of the node, and on its localhost, which is counted.
        assert answering(kernel, "outside", "192.0.2.1", 30080) == {
            "pa 10.244.1.1",
            "pb 10.244.2.1",
        }
        assert ask(kernel, "pc", "10.244.3.1", 30080).split()[0] in ("pa", "pb")
        assert ask(kernel, "node", "127.0.0.1", 30080).split()[0] in ("pa", "pb")
        assert kernel.packet_counters("node")["localhost_nps_accepted_pkts"] == 1

        # Policy Local: the client's address stays, no other node's endpoint answers; Pods and the
        # node itself are let through to all.
        assert answering(kernel, "outside", "192.0.2.1", 30081) == {f"pa {OUTSIDE}"}
        assert answering(kernel, "outside", "198.51.100.9") == {f"pa {OUTSIDE}"}
        assert answering(kernel, "pb", "198.51.100.9") == {f"pa {PB}", f"pc {PB}"}
        assert ask(kernel, "outside", "192.0.2.1", 30082) == "dropped"
        assert ask(kernel, "pb", "192.0.2.1", 30082) == f"pc {PB}"

        # Source ranges keep others off the load balancer's IP, and off nothing else.
        assert ask(kernel, "pa", "198.51.100.9") == "dropped"
        assert ask(kernel, "outside", "198.51.100.6") == "dropped"
        assert ask(kernel, "outside", "10.96.0.6") == "pb 10.244.2.1"

        # Affinity: a client keeps its endpoint, whichever address it uses.
        (kept,) = {each.split()[0] for each in answering(kernel, "pc", "10.96.0.2")}
        assert {each.split()[0] for each in answering(kernel, "pc", "198.51.100.7")} == {kept}


def test_a_second_sync_and_a_restart_do_nothing(kernel: Kernel) -> None:
    one = proxy(kernel)
    one.adopt(many())
    assert not one.sync().failed
    status = one.status()
    assert (status.leftovers, status.mode, status.synced) == ({}, "iptables", True)
    assert one.sync(full=True).changes == 0
    assert one.status().drift == {}
    anew = proxy(kernel)
    anew.adopt(many())
    assert anew.sync().changes == 0


def test_an_endpoint_costs_its_own_chains_and_one_program(
    kernel: Kernel, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = proxy(kernel)
    one.adopt(many())
    one.sync()
    one.sync()  # two seconds pass in between: what was read is not used again
    kernel._iptables._last_saved.clear()
    texts: list[str] = []
    run = spawn.run

    def seen(netns: Handle, argv: list[str], stdin: str = "", limit: float = 30) -> spawn.Ended:
        texts.append(stdin)
        return run(netns, argv, stdin, limit)

    monkeypatch.setattr(spawn, "run", seen)
    ports = [("http", "TCP", 8080), ("dns", "UDP", 8080)]
    more = endpoint_slice("web", [PA, PB, PC], ports)  # type: ignore[arg-type]
    one.on_slice(("default", "web-1"), more)
    done = one.sync()
    # Of each of its two ports the chain of endpoints, and that of the new one.
    assert (done.changes, done.failed, done.full) == (4, 0, False)
    (text,) = texts
    assert text.count("\n:KUBE-S") == 4
    assert "KUBE-SERVICES" not in text
    assert not (wrong := same(kernel, many().merge([more]))), wrong


def test_what_others_did_is_put_right_and_theirs_stays(kernel: Kernel, variant: Variant) -> None:
    mine = Rule(table="filter", chain="FORWARD", spec=("-s", "203.0.113.0/24", "-j", "ACCEPT"))
    hint = Chain(table="mangle", name="KUBE-IPTABLES-HINT", rules=())
    must(kernel, add(mine), add(hint))
    one = proxy(kernel)
    one.adopt(many())
    one.sync()
    for words in (
        ("-t", "nat", "-F", "KUBE-SERVICES"),
        ("-t", "nat", "-I", "KUBE-SERVICES", "-j", "RETURN"),
        ("-t", "nat", "-D", "PREROUTING", "1"),
        ("-t", "nat", "-N", "KUBE-SVC-AAAAAAAAAAAAAAAA"),
        ("-t", "filter", "-A", "KUBE-FORWARD", "-j", "DROP"),
    ):
        iptables(kernel, variant, *words)
    # A change before that is noticed fails, and is made all the same.
    one.on_service(("default", "web"), None)
    assert not one.sync().failed
    one.sync(full=True)
    now = many().without([many().services["default", "web"].ref])
    assert not (wrong := same(kernel, now)), wrong
    drift = one.status().drift
    assert drift["chain"] == drift["jump"] == 1
    assert drift["service-chain"] >= 1
    assert not one.clean_up()
    # The kubelet is here, so its chains stay; and so does what nobody of ours made.
    left = iptables(kernel, variant, "-save")
    chains = {line.split()[0] for line in left.splitlines() if line.startswith(":KUBE")}
    assert chains == {":KUBE-FIREWALL", ":KUBE-IPTABLES-HINT"}
    assert "-s 203.0.113.0/24" in left


def test_clean_up_leaves_nothing(kernel: Kernel, variant: Variant) -> None:
    one = proxy(kernel)
    one.adopt(many())
    one.sync()
    assert held(kernel)
    assert not one.clean_up()
    assert not held(kernel)
    for six in (False, True):
        assert "KUBE" not in iptables(kernel, variant, "-save", six=six)
    assert kernel.packet_counters("node") == {}


def test_the_variant_that_holds_rules_already_is_taken(variant: Variant) -> None:
    with bare_node(Kernel(iptables=variant)) as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        other = Kernel()
        other.adopt(kernel.namespaces["node"])
        anew = proxy(other)
        anew.adopt(many())
        assert anew.sync().changes == 0


def test_changes_one_after_the_other_end_where_a_fresh_start_ends(kernel: Kernel) -> None:
    one = proxy(kernel)
    base = many()
    one.adopt(base)
    one.sync()
    for now in (
        base.merge([endpoint_slice("empty", [PA])]),  # served from now on
        base,
        base.merge([service("both", ["10.96.0.2"], affinity=True)]),
        base.merge([service("lb", ["10.96.0.8"])]),
        base.merge([service("thief", ["10.96.0.20"], external=["198.51.100.7"]),
                    endpoint_slice("thief", [PC])]),
        Snapshot(),
        base,
    ):  # fmt: skip
        one.adopt(now)
        assert not one.sync().failed
        assert not (wrong := same(kernel, now)), wrong


def test_a_thousand_endpoints_lose_their_comments(kernel: Kernel, variant: Variant) -> None:
    """As with kube-proxy; and more than a thousand chains are written."""
    slices = [endpoint_slice("web", [f"10.244.{part}.{end}" for end in range(1, 101)],
                             name=f"web-{part}") for part in range(11)]  # fmt: skip
    now = Snapshot([service("web", ["10.96.0.1"]), *slices])
    one = proxy(kernel)
    one.adopt(now)
    assert not one.sync().failed
    assert not (wrong := same(kernel, now)), wrong
    saved = iptables(kernel, variant, "-save")
    assert "default/web:http cluster IP" in saved
    assert " -> " not in saved
    one.on_slice(("default", "web-0"), None)
    assert not one.sync().failed
    assert " -> " in iptables(kernel, variant, "-save")
    assert not (wrong := same(kernel, now.without([slices[0].ref]))), wrong


def test_a_random_walk_ends_where_a_fresh_start_ends() -> None:
    steps = 400 if os.environ.get("HAIRPIN_LONG") else 60
    walk(steps, seed=int(os.environ.get("HAIRPIN_SEED", "1")), variant="legacy")
    if os.environ.get("HAIRPIN_LONG"):
        walk(steps, seed=2, variant="nft")
