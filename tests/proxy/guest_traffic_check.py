"""Connections through what a Proxy does: plain functions, each run in a guest as root."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from hairpin.kernel.apply import Kernel
from hairpin.kernel.modules import Modules
from hairpin.kernel.netns import Netns as Handle
from hairpin.model.snapshot import Snapshot
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Change
from hairpin.state.ipvs import RealServer
from hairpin.state.links import Netns
from hairpin.state.sysctl import Sysctl
from tests.kernel.guest_world import must, pods
from tests.proxy.cluster import endpoint_slice, service, snapshot
from tests.proxy.guest_node import furnish, proxy, same

MODULES: Modules | None = None

_LONG = bool(int(os.environ.get("HAIRPIN_LONG", "0")))
KILLS, SYNCS = (30, 120) if _LONG else (12, 60)

FOO, BAR = "10.244.0.2", "10.244.0.3"
VIP = "10.96.0.1"


def check_0_modules() -> None:
    furnish(MODULES)
    # A guest of 256 MiB tracks 2 048 connections, and what comes on top is dropped.
    with open("/proc/sys/net/netfilter/nf_conntrack_max", "w") as setting:
        setting.write("65536")


@contextmanager
def cluster() -> Iterator[Kernel]:
    """A node with the Pods foo, bar and client."""
    kernel = Kernel("/run/netns", legacy_iptables=True)
    names = ("node", "foo", "bar", "client")
    try:
        must(kernel, *(Change(verb="add", netns="", object=Netns(name=one)) for one in names))
        pods(kernel, *names[1:])
        yield kernel
    finally:
        kernel.close(destroy=True)


def served(*ips: str, udp: bool = False) -> Snapshot:
    """A Service with TCP and UDP and these endpoints."""
    ports = [("http", "TCP", 80, 0), ("dns", "UDP", 53, 0)]
    behind = [("http", "TCP", 8080), ("dns", "UDP", 5353)]
    return snapshot(
        service("web", [VIP], ports),  # type: ignore[arg-type]  # literals
        endpoint_slice("web", ips, behind),  # type: ignore[arg-type]
    )


class Echo:
    """TCP and UDP servers in foo and bar, in a process of their own, that say who they are."""

    def __init__(self, kernel: Kernel, stack: ExitStack) -> None:
        sockets = []
        for name in ("foo", "bar"):
            with kernel.namespaces[name].entered():
                tcp = stack.enter_context(socket.create_server(("", 8080)))
                udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                udp.bind(("", 5353))
            sockets += [(name, tcp), (name, udp)]
        self.pid = os.fork()
        if not self.pid:
            try:
                _serve(sockets)
            finally:
                os._exit(1)
        stack.callback(self.stop)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _serve(sockets: list[tuple[str, socket.socket]]) -> None:
    import select

    named = {one.fileno(): (name, one) for name, one in sockets}
    poll = select.poll()
    for number in named:
        poll.register(number, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            name, one = named[number]
            if one.type == socket.SOCK_DGRAM:
                _, client = one.recvfrom(100)
                one.sendto(name.encode(), client)
            elif one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                accepted, _ = one.accept()
                named[accepted.fileno()] = (name, accepted)
                poll.register(accepted.fileno(), select.POLLIN)
            elif not _answer(name, one):
                poll.unregister(number)
                named.pop(number)[1].close()


def _answer(name: str, one: socket.socket) -> bool:
    with suppress(OSError):
        if one.recv(100):
            one.sendall(name.encode())
            return True
    return False


def connect(kernel: Kernel, stack: ExitStack) -> socket.socket:
    with kernel.namespaces["client"].entered():
        opened = stack.enter_context(socket.socket())
    opened.settimeout(5)
    # Reset when closed: IPVS counts a connection for 10 seconds then, else for 120 (TIME_WAIT).
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    opened.connect((VIP, 80))
    return opened


def ask(one: socket.socket) -> str:
    one.sendall(b"who?")
    return one.recv(100).decode()


def weights(kernel: Kernel) -> dict[str, int]:
    return {
        str(one.ip): one.weight
        for one in kernel.observe_servers("node")
        if isinstance(one, RealServer) and one.protocol == "TCP"
    }


def until(true: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


def told(one: Proxy, now: Snapshot) -> None:
    one.adopt(now)
    done = one.sync()
    assert not done.failed, done


def check_a_removed_endpoint_keeps_its_connections_and_gets_no_new_ones() -> None:
    with cluster() as kernel, ExitStack() as stack:
        Echo(kernel, stack)
        now = [0.0]
        one = proxy(kernel, clock=lambda: now[0])
        told(one, served(FOO))
        held = connect(kernel, stack)
        assert ask(held) == "foo"
        told(one, served(BAR))
        assert weights(kernel) == {FOO: 0, BAR: 1}
        (waiting,) = one.status().terminating
        assert (waiting.real_server, waiting.connections) == (f"{FOO}:8080", 1), waiting
        assert ask(held) == "foo"
        assert {ask(connect(kernel, stack)) for _ in range(3)} == {"bar"}

        # A proxy that starts anew knows it from the kernel, and it is nobody's fault.
        one = proxy(kernel, clock=lambda: now[0])
        told(one, served(BAR))
        assert [each.real_server for each in one.status().terminating] == [f"{FOO}:8080"]
        assert one.status().leftovers == {}, one.status().leftovers
        one.sync(full=True)
        assert one.status().drift == {} and ask(held) == "foo"

        # Wanted again, and again not.
        told(one, served(FOO, BAR))
        assert weights(kernel) == {FOO: 1, BAR: 1} and not one.status().terminating
        told(one, served(BAR))
        assert weights(kernel) == {FOO: 0, BAR: 1} and ask(held) == "foo"

        held.close()

        def gone() -> bool:
            now[0] += 60
            one.sync()
            return not one.status().terminating

        until(gone)
        assert weights(kernel) == {BAR: 1}
        assert not (wrong := same(kernel, served(BAR))), wrong


def check_what_goes_with_its_virtual_server_is_not_waited_for() -> None:
    with cluster() as kernel, ExitStack() as stack:
        Echo(kernel, stack)
        one = proxy(kernel)
        told(one, served(FOO))
        held = connect(kernel, stack)
        assert ask(held) == "foo"
        told(one, served(BAR))
        assert one.status().terminating
        told(one, snapshot())
        assert not one.status().terminating and not kernel.observe_servers("node")


def check_without_connections_it_is_gone_at_once() -> None:
    with cluster() as kernel:
        one = proxy(kernel)
        told(one, served(FOO, BAR))
        told(one, served(BAR))
        assert weights(kernel) == {BAR: 1} and not one.status().terminating


def forget(value: str) -> Change:
    setting = Sysctl(name="net.ipv4.vs.expire_nodest_conn", value=value)
    return Change(verb="set", netns="node", object=setting)


def check_udp_follows_to_the_new_endpoint() -> None:
    with cluster() as kernel, ExitStack() as stack:
        Echo(kernel, stack)
        one = proxy(kernel)
        told(one, served(FOO))
        with kernel.namespaces["client"].entered():
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        # Long, so that one question is on its way at a time: the answer to an earlier one could
        # come when its server is gone, and then the kernel itself would forget the flow.
        client.settimeout(2)
        client.connect((VIP, 53))

        def answer() -> str:
            with suppress(OSError):
                client.send(b"who?")
                return client.recv(100).decode()
            return ""

        until(lambda: answer() == "foo")
        # Else a worker of the kernel ends connections of a real server that goes, and forgets
        # their flows (expire_nodest_conn_work, since Linux 5.9): sometimes before the Proxy looks.
        must(kernel, forget("0"))
        told(one, served(BAR))
        assert one.status().flows_deleted == 1, one.status()
        must(kernel, forget("1"))
        until(lambda: answer() == "bar", 10)
        told(one, served(BAR))
        assert one.status().flows_deleted == 1


def check_connections_live_through_kill_9_at_any_point() -> None:
    dice = random.Random(4)
    with cluster() as kernel, ExitStack() as stack:
        Echo(kernel, stack)
        one = proxy(kernel)
        told(one, served(FOO, BAR))
        held = [connect(kernel, stack) for _ in range(4)]
        names = [ask(each) for each in held]
        assert set(names) == {"foo", "bar"}
        last, survived = served(FOO, BAR), 0
        for number in range(KILLS):
            # One of them always stays, so that a new connection always finds somebody.
            last = served(*((FOO,), (FOO, BAR), (BAR,))[number % 3])
            if number % 4 == 0:
                last = last.merge([service(f"more{number}", [f"10.96.1.{number + 1}"])])
            child = os.fork()
            if not child:
                try:
                    own = Kernel(legacy_iptables=True)
                    own.adopt(Handle.open("/run/netns/node", "node"))
                    told(proxy(own), last)
                finally:
                    os._exit(0)
            time.sleep(dice.random() * 0.8)
            os.kill(child, signal.SIGKILL)
            survived += os.waitpid(child, 0)[1] == 0
            assert [ask(each) for each in held] == names, number
            connect(kernel, stack).close()
        anew = proxy(kernel)
        told(anew, last)
        assert [ask(each) for each in held] == names
        for each in held:
            each.close()
        until(lambda: anew.sync(full=True) is not None and not anew.status().terminating)
        assert not (wrong := same(kernel, last)), wrong
        assert survived < KILLS * 5 / 6, "hardly any was killed on its way"
        print(f"note {KILLS - survived} of {KILLS} were killed on their way", flush=True)


def check_no_moment_without_an_answer() -> None:
    """A client that connects all the time, while everything but one endpoint changes."""
    with cluster() as kernel, ExitStack() as stack:
        Echo(kernel, stack)
        one = proxy(kernel)
        told(one, served(FOO, BAR))
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            _knock(kernel, write_end)
        os.close(write_end)
        dice = random.Random(5)
        for number in range(SYNCS):
            now = served(*dice.choice(((FOO,), (BAR,), (FOO, BAR), (BAR, FOO))))
            if dice.random() < 0.5:
                now = now.merge([
                    service(
                        "web", [VIP], [("http", "TCP", 80, dice.choice((0, 30080)))],
                        external=dice.choice(([], ["198.51.100.1"])),
                        balancer=dice.choice(([], ["192.0.2.1"])),
                        external_local=dice.random() < 0.5,
                    )
                ])  # fmt: skip
            if number % 20 == 7:
                one = proxy(kernel)
            told(one, now)
        os.kill(child, signal.SIGTERM)
        said = os.read(read_end, 1000).decode()
        os.close(read_end)
        os.waitpid(child, 0)
        tried, _, failed = said.partition(" ")
        assert int(tried) > 100 and not failed, said
        print(f"note {tried} connections during {SYNCS} syncs, all answered", flush=True)


def _knock(kernel: Kernel, report: int) -> None:
    """Connects until SIGTERM, then says how often, and how often in vain."""
    tried = 0
    failed: list[str] = []
    going = True

    def end(*_: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, end)
    try:
        while going:
            tried += 1
            with ExitStack() as stack:
                began = time.monotonic()
                try:
                    ask(connect(kernel, stack))
                except OSError as error:
                    failed.append(f"{error} after {time.monotonic() - began:.3f} s (nr {tried})")
        os.write(report, f"{tried} {'; '.join(failed)}".encode()[:1000])
    finally:
        os._exit(0)
