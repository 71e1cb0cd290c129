"""A random walk over clusters, faults and crashes, in the guest: where does it end?

Run by ``guest_init`` as one check.  HAIRPIN_WALK is the number of steps, HAIRPIN_SEED where to
begin.  After every step the kernel must hold what a fresh plan of the same objects says, and
everything of others as it was.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.modules import Modules
from hairpin.kernel.netns import Netns as Handle
from hairpin.model.address import ip
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Protocol
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Change, Object
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address
from hairpin.state.netfilter import Chain, Jump, Rule
from tests.kernel.guest_world import add, must, put, remove
from tests.proxy.cluster import (
    ENDING,
    NOT_READY,
    READY,
    PortSpec,
    endpoint_slice,
    service,
)
from tests.proxy.guest_node import (
    FaultyKernel,
    Keyed,
    address,
    furnish,
    held,
    node,
    proxy,
    same,
    witnessed,
)

MODULES: Modules | None = None

_NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")
_PORTS: tuple[tuple[str, Protocol, int], ...] = (
    ("http", "TCP", 80), ("https", "TCP", 443), ("dns", "UDP", 53), ("sigtran", "SCTP", 36412),
)  # fmt: skip
_SPARE = ("192.168.7.3", "192.168.7.77", "fd07::3")  # of the node, sometimes
_EXTERNAL = ("198.51.100.1", "198.51.100.2", "192.168.7.77")
_BALANCERS = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
_CONDITIONS = (READY, READY, READY, READY, NOT_READY, ENDING)
_SEEN_ALL = 25  # steps between looks at iptables and with other tools


class Killed(BaseException):
    """In place of SIGKILL."""


class Walk:
    """One walk; ``step`` does something at random and sees what came of it."""

    def __init__(self, kernel: FaultyKernel, seed: int) -> None:
        self.kernel = kernel
        self.dice = random.Random(seed)
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.spare: set[str] = set()
        self.now = 0.0
        self.counts: dict[str, int] = {}
        self.proxy = self._anew()
        self.foreign: Keyed = {}
        self.edited = True  # by others since the last comparison, or never compared

    def settle_foreign(self) -> None:
        """Things of others, which must be there unchanged to the end."""
        mine = VirtualServer(protocol="TCP", ip=ip("203.0.113.1"), port=80)
        near = VirtualServer(protocol="TCP", ip=ip("203.0.113.2"), port=30000)
        marked = VirtualServer(protocol="TCP", ip=ip("0.0.0.0"), port=0, fwmark=9)
        things: list[Object] = [
            mine, near, marked,
            *(
                RealServer(protocol="TCP", vip=one.ip, vport=one.port, ip=ip("203.0.113.9"), port=1)
                for one in (mine, near)
            ),
            IpSet(name="others", type="hash:ip", family="inet"),
            SetEntry(set="others", ip=ip("10.96.0.1")),
        ]  # fmt: skip
        rules = [
            Rule(table="filter", chain="FORWARD", spec=("-s", "203.0.113.0/24", "-j", "ACCEPT")),
            Rule(table="nat", chain="KUBE-OTHER", spec=("-j", "RETURN")),
        ]
        must(self.kernel, *(add(one) for one in (*things, *rules)))
        self.foreign = held(self.kernel)
        assert {one.key for one in things} < self.foreign.keys()
        self.rules = rules

    def step(self, number: int) -> None:
        kind, do = self.dice.choices(
            (
                ("service", self._service),
                ("no service", self._no_service),
                ("endpoints", self._endpoints),
                ("no endpoints", self._no_endpoints),
                ("several at once", self._several),
                ("node address", self._node_address),
                ("edit by others", self._edit),
                ("fault", self._fault),
                ("kill", self._kill),
                ("kill -9", self._kill_process),
                ("restart", self._restart),
            ),
            (12, 6, 30, 6, 8, 4, 12, 10, 5, 2, 2),
        )[0]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.now += 2.0
        do()
        self._converge()
        self._check(number, kind, everything=number % _SEEN_ALL == 0)

    # -- what happens --------------------------------------------------------------------------

    def _service(self) -> None:
        self._tell_service(self.dice.choice(_NAMES))

    def _no_service(self) -> None:
        if self.services:
            name = self.dice.choice(sorted(self.services))
            del self.services[name]
            self.proxy.on_service(("default", name), None)

    def _endpoints(self) -> None:
        self._tell_slice(self.dice.choice(_NAMES), self.dice.randrange(3))

    def _no_endpoints(self) -> None:
        if self.slices:
            name = self.dice.choice(sorted(self.slices))
            del self.slices[name]
            self.proxy.on_slice(("default", name), None)

    def _several(self) -> None:
        for _ in range(self.dice.randint(2, 8)):
            self.dice.choice(
                (self._service, self._no_service, self._endpoints, self._no_endpoints)
            )()

    def _node_address(self) -> None:
        text = self.dice.choice(_SPARE)
        if text in self.spare:
            must(self.kernel, remove(address(text)))
        else:
            must(self.kernel, add(address(text)))
        self.spare ^= {text}
        if self.dice.random() < 0.5:
            seen = self.kernel.observe_addresses("node")
            self.proxy.on_addresses([one.ip for one in seen if one.link != "kube-ipvs0"])
        else:
            self.edited = True

    def _edit(self) -> None:
        """Somebody meddles with what is ours."""
        mine = [one for key, one in held(self.kernel).items() if key not in self.foreign]
        if not mine:
            return
        for _ in range(self.dice.randint(1, 4)):
            self.kernel.apply(self._meddling(self.dice.choice(mine)))
        self.edited = True

    def _meddling(self, victim: object) -> list[Change]:
        dice = self.dice
        match victim:
            case VirtualServer() if dice.random() < 0.5:
                more = RealServer(
                    protocol=victim.protocol, vip=victim.ip, vport=victim.port,
                    ip=ip("10.244.9.9") if victim.ip.version == 4 else ip("fd00:244::99"),
                    port=1, weight=dice.randrange(3),
                )  # fmt: skip
                return [add(more)]
            case VirtualServer() if dice.random() < 0.3:
                return [put(VirtualServer(
                    protocol=victim.protocol, ip=victim.ip, port=victim.port, scheduler="lc"
                ))]  # fmt: skip
            case RealServer() if dice.random() < 0.5:
                return [put(RealServer(
                    protocol=victim.protocol, vip=victim.vip, vport=victim.vport, ip=victim.ip,
                    port=victim.port, weight=dice.choice((0, 5)),
                ))]  # fmt: skip
            case Address():
                other = Address(link="kube-ipvs0", ip=ip("10.96.77.77"), prefix=32)
                return [dice.choice((remove(victim), add(other)))]
            case Chain():
                broken = Chain(
                    table=victim.table, name=victim.name, family=victim.family,
                    rules=victim.rules[1:],
                )  # fmt: skip
                return [put(broken, victim)]
            case IpSet(type="hash:ip,port"):
                stray = SetEntry(
                    set=victim.name, protocol="TCP", port=7,
                    ip=ip("10.96.88.88") if victim.family == "inet" else ip("fd00:96::88"),
                )  # fmt: skip
                return [add(stray)]
            case VirtualServer() | RealServer() | SetEntry() | Jump():
                return [remove(victim)]
        return []

    def _fault(self) -> None:
        """The next sync will meet a kernel that refuses something."""
        self.dice.choice((self._service, self._endpoints, self._several, self._no_service))()
        at = self.kernel.calls + self.dice.randint(1, 12)
        kind = self.dice.choice(("raise", "refuse", "half"))

        def fault(call: int, what: str) -> BaseException | str | None:
            if call != at:
                return None
            return kind if what == "apply" and kind != "raise" else KernelError(5, "injected")

        full = self.dice.random() < 0.5
        self.kernel.fault = fault
        self.proxy.sync(full=full)
        self.kernel.fault = _none

    def _kill(self) -> None:
        self.dice.choice((self._service, self._endpoints, self._several, self._no_service))()
        at = self.kernel.calls + self.dice.randint(1, 12)
        self.kernel.fault = lambda call, what: Killed() if call == at else None
        with suppress(Killed):
            self.proxy.sync(full=self.dice.random() < 0.5)
        self.kernel.fault = _none
        self._restart()

    def _kill_process(self) -> None:
        """A real process with a Proxy of its own, killed anywhere."""
        self._several()
        wait = self.dice.random() * 0.25
        child = os.fork()
        if not child:
            try:
                own = Kernel(legacy_iptables=True)
                own.adopt(Handle.open("/run/netns/node", "node"))
                other = proxy(own)
                other.adopt(self.snapshot())
                other.sync()
            finally:
                os._exit(0)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):  # an iptables of the child's may still be at work
            while True:
                os.waitpid(-1, 0)
        self._restart()

    def _restart(self) -> None:
        self.proxy = self._anew()
        self.proxy.adopt(self.snapshot())
        self.edited = True

    # -- what must come of it ------------------------------------------------------------------

    def _converge(self) -> None:
        self.proxy.sync(full=self.edited)
        self.edited = False
        for _ in range(30):
            if self.proxy.status().synced:
                return
            due = self.proxy.due()
            assert due is not None
            self.now = max(self.now + 0.01, due)
            self.proxy.sync()
        raise AssertionError(f"does not converge: {self.proxy.status()}")

    def _check(self, number: int, kind: str, *, everything: bool) -> None:
        parts = ("iptables" in self.kernel.spent) or everything
        self.kernel.spent.pop("iptables", None)
        wrong = same(self.kernel, self.snapshot(), foreign=self.foreign, chains=parts)
        assert not wrong, f"step {number}, {kind}:\n{wrong}"
        if everything:
            seen = self.kernel.observe_rules("node")
            assert all(rule in seen for rule in self.rules), "a rule of others has gone"
            wrong = witnessed(self.kernel)
            assert not wrong, f"step {number}, {kind}, by other tools:\n{wrong}"

    # -- the cluster ---------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return Snapshot([*self.services.values(), *self.slices.values()])

    def _tell_service(self, name: str) -> None:
        dice, number = self.dice, _NAMES.index(name)
        some = dice.sample(_PORTS, dice.randint(1, len(_PORTS)))
        ports: list[PortSpec] = [
            (label, protocol, port, self._node_port(number, label) if dice.random() < 0.4 else 0)
            for label, protocol, port in some
        ]
        ips = [f"10.96.0.{number + 1}", f"fd00:96::{number + 1}"]
        one = service(
            name,
            dice.choice((ips, ips[:1], ips[1:])),
            ports,
            external=dice.sample(_EXTERNAL, dice.choice((0, 0, 1, 2))),
            balancer=dice.sample(_BALANCERS, dice.choice((0, 0, 1, 2))),
            ranges=dice.choice(([], [], ["10.0.0.0/8"], ["192.168.0.0/16", "fd00::/8"])),
            external_local=dice.random() < 0.3,
            internal_local=dice.random() < 0.2,
            affinity=dice.random() < 0.2,
            health=dice.choice((None, 31000 + number)),
        )
        self.services[name] = one
        self.proxy.on_service(("default", name), one)

    @staticmethod
    def _node_port(number: int, label: str) -> int:
        return 30000 + number * 10 + [one[0] for one in _PORTS].index(label)

    def _tell_slice(self, of: str, number: int) -> None:
        dice = self.dice
        form = "fd00:244::{}" if number == 2 else "10.244.0.{}"
        name = f"{of}-{number}"
        one = endpoint_slice(
            of,
            [form.format(each) for each in dice.sample(range(5, 15), dice.randint(0, 5))]
            or [form.format(5)],
            [(label, protocol, 8000 + port % 1000) for label, protocol, port in _PORTS],
            name=name,
            node=dice.choice(("node1", "node2")),
            conditions=dice.choice(_CONDITIONS),
        )
        self.slices[name] = one
        self.proxy.on_slice(("default", name), one)

    def _anew(self) -> Proxy:
        return proxy(self.kernel, clock=lambda: self.now, dice=self.dice.random)


def _none(call: int, what: str) -> None:
    return None


def check_walk() -> None:
    furnish(MODULES)
    steps = int(os.environ.get("HAIRPIN_WALK", "200"))
    seed = int(os.environ.get("HAIRPIN_SEED", "1"))
    kernel = FaultyKernel(_none, netns_dir="/run/netns")
    began = time.monotonic()
    with node(kernel):
        walk = Walk(kernel, seed)
        walk.settle_foreign()
        for number in range(1, steps + 1):
            walk.step(number)
            if number % 500 == 0:
                _tell(f"note {number} steps, {time.monotonic() - began:.0f} s")
    took = time.monotonic() - began
    _tell(f"note walked {steps} steps from seed {seed} in {took:.0f} s: {walk.counts}")


def _tell(text: str) -> None:
    print(text, flush=True)
