"""A Proxy in nftables mode on the host's kernel: what packets meet, and what the tables hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hairpin.model.address import ip
from hairpin.model.metadata import ObjectMeta
from hairpin.model.node import Node, NodeAddress, NodeStatus
from hairpin.model.snapshot import Snapshot
from hairpin.source.manifests import load
from hairpin.state.change import Change
from hairpin.state.nftables import NftChain, NftElement, NftTable
from tests.proxy.cluster import ENDING, endpoint_slice, service
from tests.proxy.nft_node import (
    OUTSIDE,
    PODS,
    CountingKernel,
    answering,
    ask,
    bare_node,
    fresh,
    held,
    must,
    nft,
    proxy,
    routing_node,
    same,
    witnessed,
)
from tests.proxy.nft_walk import walk

pytestmark = pytest.mark.host

PA, PB, PC = ("10.244.1.2", "10.244.2.2", "10.244.3.2")
RECORDED = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36"


def many() -> Snapshot:
    """A bit of everything."""
    return Snapshot((
        Node(
            metadata=ObjectMeta(name="node1"),
            status=NodeStatus(
                addresses=(
                    NodeAddress(type="InternalIP", address="192.0.2.1"),
                    NodeAddress(type="InternalIP", address="2001:db8::1"),
                )
            ),
        ),
        service("web", ["10.96.0.1"], [("http", "TCP", 80, 30080), ("dns", "UDP", 53, 30053)]),
        endpoint_slice("web", [PA, PB], [("http", "TCP", 8080), ("dns", "UDP", 8080)]),
        service("both", ["10.96.0.2", "fd00:96::2"], affinity=True, external=["198.51.100.7"]),
        endpoint_slice("both", [PA, PB]),
        endpoint_slice("both", ["fd00:244:0:1::2", "fd00:244:0:2::2"], name="both-6"),
        service(
            "lb", ["10.96.0.3"], [("http", "TCP", 80, 30081)], balancer=["198.51.100.9"],
            ranges=["192.0.2.0/30", "10.244.2.0/24"], external_local=True, health=30900,
        ),
        endpoint_slice("lb", [PA]),
        endpoint_slice("lb", [PC], name="lb-elsewhere", node="node2"),
        service("far", ["10.96.0.4"], [("http", "TCP", 80, 30082)], external_local=True),
        endpoint_slice("far", [PC], node="node2"),
        service("empty", ["10.96.0.5"], [("http", "TCP", 80, 30083)], external=["198.51.100.5"]),
        service("closed", ["10.96.0.6"], balancer=["198.51.100.6"], ranges=["203.0.113.0/24"]),
        endpoint_slice("closed", [PB]),
        service("itself", ["10.96.0.7", "fd00:96::7"], internal_local=True),
        endpoint_slice("itself", [PA]),
        endpoint_slice("itself", ["fd00:244:0:1::2"], name="itself-6"),
    ))  # fmt: skip


def test_what_packets_meet() -> None:
    with routing_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        done = one.sync()
        assert not done.failed, done
        assert not (wrong := same(kernel, many())), wrong

        # A ClusterIP: all endpoints answer; Pods are seen as they are, strangers as the node.
        assert answering(kernel, "pc", "10.96.0.1") == {f"pa {PC}", f"pb {PC}"}
        assert answering(kernel, "outside", "10.96.0.1") == {"pa 10.244.1.1", "pb 10.244.2.1"}
        assert answering(kernel, "node", "10.96.0.1") <= {
            f"pa {own}" if pod == 1 else f"pb {own}"
            for pod in (1, 2)
            for own in (f"10.244.{pod}.1", "192.0.2.1")
        }
        # Its other ports are refused, addresses of nobody dropped, no endpoints refused.
        assert ask(kernel, "pc", "10.96.0.1", 81) == "refused"
        assert ask(kernel, "pc", "10.96.0.99") == "dropped"
        for to in ("10.96.0.5", "198.51.100.5"):
            assert ask(kernel, "pc", to) == ask(kernel, "outside", to) == "refused"
        assert ask(kernel, "outside", "192.0.2.1", 30083) == "refused"

        # A Pod that reaches itself, in both families, is masqueraded.
        assert ask(kernel, "pa", "10.96.0.7") == "pa 10.244.1.1"
        assert ask(kernel, "pa", "fd00:96::7") == "pa fd00:244:0:1::1"
        assert ask(kernel, "pc", "fd00:96::7") == "pa fd00:244:0:3::2"

        # Node ports answer at the node's own address, and only there.
        assert answering(kernel, "outside", "192.0.2.1", 30080) == {
            "pa 10.244.1.1",
            "pb 10.244.2.1",
        }
        assert ask(kernel, "outside", "10.244.1.1", 30080) == "refused"

        # Policy Local: the client's address stays, no other node's endpoint answers; Pods and the
        # node itself are let through to all.
        assert answering(kernel, "outside", "192.0.2.1", 30081) == {f"pa {OUTSIDE}"}
        assert answering(kernel, "outside", "198.51.100.9") == {f"pa {OUTSIDE}"}
        assert answering(kernel, "pb", "198.51.100.9") == {f"pa {PB}", f"pc {PB}"}
        assert ask(kernel, "outside", "192.0.2.1", 30082) == "dropped"
        assert ask(kernel, "pb", "192.0.2.1", 30082) == f"pc {PB}"
        assert ask(kernel, "node", "192.0.2.1", 30082) == "pc 10.244.3.1"

        # Source ranges keep others off the load balancer's IP, and off nothing else.
        assert ask(kernel, "pa", "198.51.100.9") == "dropped"
        assert ask(kernel, "outside", "198.51.100.6") == "dropped"
        assert ask(kernel, "outside", "10.96.0.6") == "pb 10.244.2.1"

        # Affinity: a client keeps its endpoint, whichever address it uses, until that goes.
        for client, first in (("pc", "10.96.0.2"), ("outside", "198.51.100.7")):
            (kept,) = {each.split()[0] for each in answering(kernel, client, first)}
            other = "198.51.100.7" if first == "10.96.0.2" else "10.96.0.2"
            assert {each.split()[0] for each in answering(kernel, client, other)} == {kept}
        left = PB if kept == "pa" else PA
        one.on_slice(("default", "both-1"), endpoint_slice("both", [left]))
        assert not one.sync().failed
        assert {each.split()[0] for each in answering(kernel, "outside", "198.51.100.7")} == {
            next(name for name, at in PODS.items() if left == f"10.244.{at}.2")
        }


def test_a_udp_client_moves_on_when_its_endpoint_goes() -> None:
    with routing_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        first = ask(kernel, "pc", "10.96.0.1", 53, udp=True, source=4000)
        left = (PB, "pb") if first.startswith("pa") else (PA, "pa")
        assert ask(kernel, "pc", "10.96.0.1", 53, udp=True, source=4000) == first
        ports = [("http", "TCP", 8080), ("dns", "UDP", 8080)]
        gone = endpoint_slice("web", [left[0]], ports)  # type: ignore[arg-type]
        one.on_slice(("default", "web-1"), gone)
        one.sync()
        assert ask(kernel, "pc", "10.96.0.1", 53, udp=True, source=4000) == f"{left[1]} {PC}"
        assert one.status().flows_deleted == 1


def test_a_first_sync_is_the_plan_and_a_second_does_nothing() -> None:
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        done = one.sync()
        assert done.full and not done.failed, done
        assert not (wrong := same(kernel, many())), wrong
        assert not (wrong := witnessed(kernel)), wrong
        status = one.status()
        assert (status.leftovers, status.mode, status.synced) == ({}, "nftables", True)
        assert one.sync(full=True).changes == 0
        assert one.status().drift == {}
        anew = proxy(kernel)
        anew.adopt(many())
        assert anew.sync().changes == 0


def test_an_endpoint_costs_its_own_service_and_nothing_else() -> None:
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        ports = [("http", "TCP", 8080), ("dns", "UDP", 8080)]
        more = endpoint_slice("web", [PA, PB, PC], ports)  # type: ignore[arg-type]
        one.on_slice(("default", "web-1"), more)
        done = one.sync()
        # A chain and an element of hairpin-connections for each of its two ports.
        assert (done.changes, done.failed, done.full) == (4, 0, False)
        assert not (wrong := same(kernel, many().merge([more]))), wrong


def test_changes_one_after_the_other_end_where_a_fresh_start_ends() -> None:
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        base = many()
        for now in (
            base.merge([endpoint_slice("empty", [PA])]),  # served from now on
            base,
            base.merge([endpoint_slice("lb", [PA], conditions=ENDING)]),
            base.merge([service("both", ["10.96.0.2"], affinity=True)]),
            base.merge([service("both", ["10.96.0.2", "fd00:96::2"])]),  # no affinity any more
            base.merge([service("lb", ["10.96.0.8"])]),
            Snapshot(),
            base,
        ):
            one.adopt(now)
            done = one.sync()
            assert not done.failed, done
            assert not done.full
            assert not (wrong := same(kernel, now)), wrong
        assert not (wrong := witnessed(kernel)), wrong


def test_what_others_did_to_the_table_is_put_right_and_counted() -> None:
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        nft(kernel, "add", "table", "ip", "others")
        nft(kernel, "add", "chain", "ip", "others", "kept")
        nft(
            kernel,
            "-f",
            "-",
            stdin="""
            flush chain ip kube-proxy services
            add rule ip kube-proxy masquerading counter drop
            delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 }
            add element ip kube-proxy service-ips { 10.96.0.77 . tcp . 80 : drop }
            add chain ip kube-proxy stray
            add rule ip kube-proxy stray jump services
            add chain ip6 kube-proxy wild { type filter hook input priority 5; }
            add set ip kube-proxy odd { type ipv4_addr; }
            """,
        )
        done = one.sync(full=True)
        assert not done.failed, done
        assert not (wrong := same(kernel, many())), wrong
        assert one.status().drift == {"nft-chain": 4, "nft-element": 2, "nft-set": 1}
        assert "chain kept" in nft(kernel, "list", "table", "ip", "others")
        must(kernel, _remove(NftTable(family="ip", name="kube-proxy")))
        assert not one.sync(full=True).failed
        assert not (wrong := same(kernel, many())), wrong


def test_a_full_sync_reads_the_tables_only_when_somebody_wrote() -> None:
    with bare_node(kernel := CountingKernel()):
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        one.sync(full=True)
        read = kernel.read
        one.sync(full=True)
        one.on_slice(("default", "empty-1"), endpoint_slice("empty", [PA]))
        assert one.sync().changes
        one.sync(full=True)
        assert kernel.read == read
        nft(kernel, "add", "table", "ip", "others")  # whatever it is
        one.sync(full=True)
        assert kernel.read == read + 2
        nft(kernel, "flush", "chain", "ip", "kube-proxy", "services")
        one.on_slice(("default", "empty-1"), None)
        one.sync()
        one.sync(full=True)
        assert not (wrong := same(kernel, many())), wrong
        assert one.status().drift == {"nft-chain": 1}
        one.adjust = lambda thing: None if isinstance(thing, NftElement) else thing
        one.sync()
        assert not any(isinstance(each, NftElement) for each in held(kernel).values())


def test_a_base_chain_at_another_place_is_made_anew() -> None:
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        nft(
            kernel,
            "-f",
            "-",
            stdin="""
            delete chain ip kube-proxy nat-postrouting
            add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 5; }
            """,
        )
        assert not one.sync(full=True).failed
        assert not (wrong := same(kernel, many())), wrong


def test_kube_proxys_tables_are_taken_over_and_all_is_cleaned_up() -> None:
    """The recorded Services' own tables need no change; those of others lose what is theirs."""
    recorded = (RECORDED / "nftables" / "ruleset.nft").read_text()
    with bare_node() as kernel:
        nft(kernel, "-f", "-", stdin=recorded)
        assert len(held(kernel)) == 219
        one = proxy(kernel)
        one.adopt(many())
        assert not one.sync().failed
        assert not (wrong := same(kernel, many())), wrong
        assert set(one.status().leftovers) == {"nft-chain", "nft-element", "nft-set"}
        nft(kernel, "add", "table", "ip", "others")
        assert one.clean_up() == []
        assert nft(kernel, "list", "ruleset") == "table ip others {\n}\n"
        assert one.clean_up() == []


def test_recorded_services_are_programmed_as_kube_proxy_did() -> None:
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    objects = load([str(RECORDED / "input" / name) for name in names], whole=True).objects
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(Snapshot(objects))
        assert not one.sync().failed
        assert not (wrong := same(kernel, Snapshot(objects))), wrong
        assert not (wrong := witnessed(kernel)), wrong


def test_one_refused_object_costs_itself() -> None:
    with bare_node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        # A set of the name that an affinity set wants, of another type and in use.
        wanted = fresh(many().merge([service("web", ["10.96.0.1"], affinity=True)]), kernel)
        name = next(str(key[3]) for key in wanted if "affinity" in str(key) and "/web/" in str(key))
        nft(
            kernel,
            "-f",
            "-",
            stdin=f"""
            add table ip others
            add set ip kube-proxy {name} {{ type inet_service; }}
            add rule ip kube-proxy reject-chain tcp dport @{name} drop
            """,
        )
        one.on_service(("default", "web"), service("web", ["10.96.0.1"], affinity=True))
        one.on_slice(("default", "empty-1"), endpoint_slice("empty", [PA]))
        one.sync()
        assert held(kernel)[
            NftElement(
                family="ip", table="kube-proxy", set="cluster-ips", of=(ip("10.96.0.5"),)
            ).key
        ]
        one.sync(full=True)
        for _ in range(8):
            if one.status().synced:
                break
            one.sync(full=True)
        now = many().merge(
            [service("web", ["10.96.0.1"], affinity=True), endpoint_slice("empty", [PA])]
        )
        assert not (wrong := same(kernel, now)), wrong


def test_a_random_walk_ends_where_a_fresh_start_ends() -> None:
    steps = 400 if os.environ.get("HAIRPIN_LONG") else 60
    walk(steps, seed=int(os.environ.get("HAIRPIN_SEED", "1")))


def _remove(one: NftTable | NftChain) -> Change:
    return Change(verb="remove", netns="node", object=one)
