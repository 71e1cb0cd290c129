"""A Proxy against a real kernel: plain functions, each run in a guest as root by guest_init."""

from __future__ import annotations

import errno
import os
import time
from functools import partial

from hairpin.kernel.errors import KernelError
from hairpin.kernel.modules import Modules
from hairpin.model.address import ip
from hairpin.model.snapshot import Snapshot
from hairpin.state.change import Object
from hairpin.state.ipset import IpSet
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address
from tests.kernel.guest_world import add, must, remove
from tests.proxy.cluster import configured, endpoint_slice, service, snapshot
from tests.proxy.guest_node import FaultyKernel, furnish, held, node, proxy, same

# What is refused, and what waits for it: of a virtual server, a set, kube-ipvs0.
_NAMES = {"EIO", "ENOBUFS", "EAGAIN", "ESRCH", "EINVAL", "ENODEV", "ENOENT"}

MODULES: Modules | None = None

STRIDE = 1 if int(os.environ.get("HAIRPIN_LONG", "0")) else 4
"""Faults and kills are at every call to the kernel, or at each of so many."""


class Killed(BaseException):
    """In place of SIGKILL."""


def many() -> Snapshot:
    """A bit of everything."""
    return snapshot(
        service("web", ["10.96.0.1"], [("http", "TCP", 80, 30080), ("dns", "UDP", 53, 30053)]),
        endpoint_slice(
            "web", ["10.244.0.5", "10.244.0.6"], [("http", "TCP", 8080), ("dns", "UDP", 5353)]
        ),
        service("both", ["10.96.0.2", "fd00:96::2"], affinity=True, external=["198.51.100.7"]),
        endpoint_slice("both", ["10.244.0.7"]),
        endpoint_slice("both", ["fd00:244::7"], name="both-6"),
        service(
            "lb", ["10.96.0.3"], [("http", "TCP", 80, 30081)], balancer=["192.0.2.9"],
            ranges=["10.0.0.0/8"], external_local=True, health=30900,
        ),
        endpoint_slice("lb", ["10.244.0.5"]),
        service("empty", ["10.96.0.4"]),
    )  # fmt: skip


def check_0_modules() -> None:
    furnish(MODULES)


def check_first_sync_is_the_plan_and_a_second_does_nothing() -> None:
    with node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        done = one.sync()
        assert done.full and not done.failed, done
        assert not (wrong := same(kernel, many())), wrong
        assert one.status().leftovers == {}, one.status().leftovers
        again = one.sync(full=True)
        assert again.changes == 0, again
        assert one.status().drift == {}, one.status().drift
        anew = proxy(kernel)
        anew.adopt(many())
        assert anew.sync().changes == 0
        assert anew.status().synced


def check_changes_one_after_the_other_end_where_a_fresh_start_ends() -> None:
    with node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        base = many()
        for now in (
            base.merge([endpoint_slice("web", ["10.244.0.6"])]),
            base.merge([service("web", ["10.96.0.1"])]),
            base.merge([service("lb", ["10.96.0.3"])]),
            snapshot(),
            base,
        ):
            one.adopt(now)
            done = one.sync()
            assert not done.full and not done.failed, done
            assert not (wrong := same(kernel, now)), wrong
        # Once more, to see whether a comparison agrees.
        assert one.sync(full=True).changes == 0


def check_one_endpoint_spawns_nothing_and_is_quick() -> None:
    with node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        kernel.spent.clear()
        one.on_slice(("default", "web-1"), endpoint_slice("web", ["10.244.0.5", "10.244.0.9"]))
        done = one.sync()
        assert done.changes and "iptables" not in kernel.spent, kernel.spent
        assert done.duration < 0.05, done


def check_drift_is_put_right_and_counted_and_others_are_left_alone() -> None:
    foreign = VirtualServer(protocol="TCP", ip=ip("203.0.113.1"), port=80)
    behind = RealServer(protocol="TCP", vip=foreign.ip, vport=80, ip=ip("203.0.113.9"), port=80)
    marked = VirtualServer(protocol="TCP", ip=ip("0.0.0.0"), port=0, fwmark=7)
    with node() as kernel:
        must(kernel, add(foreign), add(behind), add(marked))
        before = held(kernel)
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        assert {key: held(kernel)[key] for key in before} == before
        state = held(kernel)
        web = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80)
        guest = RealServer(
            protocol="TCP", vip=web.ip, vport=80, ip=ip("10.244.0.99"), port=80, weight=3
        )
        edits = [remove(VirtualServer(protocol="TCP", ip=ip("10.96.0.4"), port=80)), add(guest)]
        for kind in ("address", "set-entry", "jump", "chain"):
            victim = next(value for key, value in state.items() if key[0] == kind)
            if kind != "chain":
                edits.append(remove(victim))  # type: ignore[arg-type]
        kernel.apply(edits)
        one.sync(full=True)
        drift = one.status().drift
        assert drift == {
            "virtual-server": 1, "real-server": 1, "address": 1, "set-entry": 1, "jump": 1,
        }, drift  # fmt: skip
        now = held(kernel)
        assert now == state, same(kernel, many())


def check_clean_up_removes_what_is_ours_and_nothing_else() -> None:
    foreign = VirtualServer(protocol="TCP", ip=ip("203.0.113.1"), port=80)
    with node() as kernel:
        must(kernel, add(foreign))
        before = held(kernel)
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        assert one.clean_up() == []
        assert held(kernel) == before, held(kernel)
        assert kernel.observe_link("node", "kube-ipvs0") is None
        assert proxy(kernel).clean_up() == []


def check_every_call_may_fail_and_it_converges() -> None:
    """For each call to the kernel in turn, and each way to fail."""
    calls: list[str] = []
    calm = FaultyKernel(lambda call, what: calls.append(what))
    with node(calm):
        calls.clear()
        one = proxy(calm)
        one.adopt(many())
        one.sync()
        calm.fault = lambda call, what: None
        goal = held(calm)
    for number, what in enumerate(calls, 1):
        if number % STRIDE and what != "apply":
            continue
        for kind in ("raise", "refuse", "half") if what == "apply" else ("raise",):
            _with_fault(number, kind, goal)
    print(f"note {len(calls)} calls, {calls.count('apply')} of them apply", flush=True)


def _with_fault(number: int, kind: str, goal: object) -> None:

    def fault(call: int, what: str) -> BaseException | str | None:
        if call != number:
            return None
        if kind == "raise" or what != "apply":
            return KernelError(errno.ENOBUFS, "injected")
        return kind

    now = [100.0]
    faulty = FaultyKernel(lambda call, what: None)
    with node(faulty):
        faulty.calls, faulty.fault = 0, fault
        one = proxy(faulty, clock=lambda: now[0])
        one.adopt(many())
        done = one.sync()
        faulty.fault = lambda call, what: None
        if done.failed:
            status = one.status()
            assert status.pending and not status.synced, status
            assert {each.errno for each in status.pending} <= _NAMES, status.pending
        for _ in range(20):
            due = one.due()
            assert due is not None
            if one.status().synced:
                break
            now[0] = due
            one.sync()
        assert one.status().synced, (number, kind, one.status())
        have = held(faulty)
        assert have == goal, (number, kind, set(have) ^ set(goal))  # type: ignore[call-overload]


def _at(number: int, what: BaseException, call: int, kind: str) -> BaseException | None:
    return what if call == number else None


def check_a_kill_at_any_call_leaves_what_a_new_proxy_can_put_right() -> None:
    def changed() -> Snapshot:
        return (
            many()
            .without([many().services["default", "lb"].ref])
            .merge([service("web", ["10.96.0.9"], [("http", "TCP", 80, 30082)])])
        )

    number = 0
    while True:
        number += STRIDE
        faulty = FaultyKernel(lambda call, what: None)
        with node(faulty):
            one = proxy(faulty)
            one.adopt(many())
            faulty.calls = 0
            faulty.fault = partial(_at, number, Killed())
            survived = True
            try:
                one.sync()
                one.adopt(changed())
                one.sync()
            except Killed:
                survived = False
            faulty.fault = lambda call, what: None
            anew = proxy(faulty)
            anew.adopt(changed())
            done = anew.sync()
            assert not done.failed, done
            assert not (wrong := same(faulty, changed())), (number, wrong)
        if survived:
            break
    print(f"note killed at {number // STRIDE - 1} calls", flush=True)


def check_what_is_withheld_goes_and_comes_back_and_is_no_drift() -> None:
    def withheld(one: Object) -> Object | None:
        return None if isinstance(one, Address) else one

    with node() as kernel:
        one = proxy(kernel)
        one.adopt(many())
        one.sync()
        one.adjust = withheld
        assert one.due() <= time.monotonic()
        one.sync()
        assert not [each for each in held(kernel).values() if isinstance(each, Address)]
        one.adjust = None
        one.sync()
        assert not (wrong := same(kernel, many())), wrong
        assert one.status().drift == {}, one.status().drift


def check_virtual_servers_in_exclude_cidrs_stay() -> None:
    foreign = VirtualServer(protocol="TCP", ip=ip("198.51.100.9"), port=80)
    config = configured(exclude_cidrs=("198.51.100.0/24",))
    with node() as kernel:
        one = proxy(kernel, config)
        one.adopt(many())
        one.sync()
        must(kernel, add(foreign), add(Address(link="kube-ipvs0", ip=foreign.ip, prefix=32)))
        one.adopt(snapshot())
        one.sync(full=True)
        left = {each for each in kernel.observe_servers("node") if isinstance(each, VirtualServer)}
        assert {str(each.ip) for each in left} == {"198.51.100.9", "198.51.100.7"}, left


def check_what_cannot_be_served_costs_itself_alone_and_is_told_once() -> None:
    """A set of somebody else's that has our name, and a Service that makes no sense."""
    taken = IpSet(name="KUBE-6-CLUSTER-IP", type="hash:ip", family="inet6")
    wrong = service("wrong", ["224.0.0.1"], [("http", "TCP", 80, 0)])
    said: list[str] = []
    now = [0.0]
    with node() as kernel:
        must(kernel, add(taken))
        one = proxy(kernel, report=said.append, clock=lambda: now[0])
        one.adopt(many().merge([wrong]))
        done = one.sync()
        assert done.failed
        status = one.status()
        refused = {type(each.object).__name__ for each in status.pending}
        assert refused <= {"IpSet", "SetEntry", "VirtualServer", "RealServer", "Chain"}, refused
        assert "KUBE-6-CLUSTER-IP" in "".join(said)
        served = kernel.observe_servers("node")
        assert VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80) in served
        before = len(said)
        for _ in range(8):
            now[0] = one.due()
            one.sync()
        assert len(said) == before, said[before:]
        assert max(each.attempts for each in one.status().pending) > 2
        # Rules hold the set, so that all must go for it to go.
        assert one.clean_up() == []
        one.sync(full=True)
        assert one.status().synced, one.status().pending[:3]
        again = proxy(kernel)
        again.adopt(many().merge([wrong]))
        assert again.sync().changes == 0


def check_clean_up_of_what_a_kill_left() -> None:
    foreign = VirtualServer(protocol="TCP", ip=ip("203.0.113.1"), port=80)
    number, survived = 1, False
    while not survived:
        number += 2
        faulty = FaultyKernel(lambda call, what: None)
        with node(faulty):
            must(faulty, add(foreign))
            before = held(faulty)
            faulty.calls = 0
            faulty.fault = partial(_at, number, Killed())
            one = proxy(faulty)
            one.adopt(many())
            try:
                one.sync()
                one.clean_up()
                survived = True
            except Killed:
                pass
            faulty.fault = lambda call, what: None
            assert proxy(faulty).clean_up() == []
            assert held(faulty) == before, number
            assert faulty.observe_link("node", "kube-ipvs0") is None
