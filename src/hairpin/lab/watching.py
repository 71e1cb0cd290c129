"""One real connection, with every link of some namespaces listened at meanwhile.

What was seen is given as it is (``trace.observation``); what it means is found elsewhere.  It knows
of no lab: on a real node the same is done in the node's own namespaces.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import msgspec

from hairpin.kernel import circumstances, hooks, observer
from hairpin.kernel.apply import Kernel
from hairpin.kernel.capture import Capture
from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.kernel.watches import Watches
from hairpin.lab.probe import Attempt, Probe, Seen
from hairpin.model.address import IP, ip
from hairpin.state.change import Wanted
from hairpin.state.nftrace import Looked
from hairpin.trace.observation import Observation, Place, Rewriting, Role, Tried
from hairpin.trace.packet import ICMP, ICMP6, NUMBERS

_BEFORE = 0.05
"""Seconds between listening and connecting: workers of the kernel end what was begun for it, which
else takes as long as the connection."""
_AFTER = 0.03  # seconds that late packets get: the client's last ACK, an ICMP error


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Which namespaces are looked at, by the kernel's names of them.

    ``netns`` is the client's.  ``who``: role, name, and the node's namespace of a Pod.  ``legacy``:
    this kernel has the legacy variant of iptables only.  ``partial``: packets go to namespaces that
    cannot be looked at.
    """

    netns: str
    who: Mapping[str, tuple[Role, str, str]]
    legacy: bool = False
    partial: bool = False


def _raise(error: Exception) -> None:
    raise error


class Watching:
    """A connection under way.

    ``ports``: those that either end may have, after rewriting too.  ``watch`` False makes the
    connection and looks at nothing: what it costs to look is found by comparing.
    """

    def __init__(
        self,
        reactor: Reactor,
        kernel: Kernel,
        view: View,
        probe: Probe,
        ports: set[int],
        *,
        watch: bool = True,
    ) -> None:
        self._reactor = reactor
        self._kernel = kernel
        self._view = view
        self._watch = watch
        self._handle = kernel.namespaces[view.netns]
        self._servers = tuple(sorted(ports | {probe.port} - {0}))
        self._source: IP | None = None
        if probe.protocol != "ICMP":
            probe = _with_port(self._handle, probe)
            ports = ports | ({probe.port, probe.source_port} - {0})
        if watch:
            self._source = _source_of(self._handle, probe)
        self._probe = probe
        self._ports = ports
        self._local: list[tuple[str, int]] = []
        self._before: dict[str, Rewriting] = {}
        self._timer: Timer | None = None
        self._capture = Capture(reactor, NUMBERS.get(probe.protocol, ICMP), sorted(ports))
        self._hooks = Watches(reactor, self._looked(), legacy=view.legacy, shared=view.partial)

    def start(
        self, done: Callable[[Observation], None], failed: Callable[[Exception], None] = _raise
    ) -> None:
        """Begins, and calls ``done`` once, without what is ``wanted``; or ``failed``, when it
        could not be looked at any more.  Raises KernelError.
        """
        self._failed = failed
        if self._watch:
            # First of all: the kernel begins to tell packets' times a moment after it is asked
            # (net_enable_timestamp leaves it to a worker); until then they are those of reading.
            self._capture.start({name: self._kernel.namespaces[name] for name in self._view.who})
            nodes = [one for one, (role, _, _) in self._view.who.items() if role == "node"]
            self._before = {one: self._rewriting(one, self._ports, listing=False) for one in nodes}
            for name in self._view.who:
                texts = self._before[name].texts if name in self._before else None
                self._hooks.start(self._kernel.namespaces[name], texts)
            self._timer = self._reactor.after(
                _BEFORE, lambda: self._guarded(lambda: self._connect(done))
            )
        else:
            self._connect(done)

    def _connect(self, done: Callable[[Observation], None]) -> None:
        """Makes the connection."""
        self._capture.forget()

        def ended(seen: Seen) -> None:
            wait = _AFTER if self._watch else 0
            self._reactor.after(wait, lambda: self._guarded(lambda: done(self._observation(seen))))

        # A socket that cannot be made is an outcome too: this kernel has no such protocol.
        try:
            attempt = Attempt(self._reactor, self._handle, self._probe, ended)
            attempt.start()
        except OSError as error:
            ended(Seen(outcome="error", error=str(error.strerror)))
            return
        if attempt.local is not None:
            self._local.append(attempt.local)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._failed(error)

    def close(self) -> None:
        """Stops listening; may be called at any time."""
        if self._timer is not None:
            self._timer.cancel()
        self._capture.stop()
        self._hooks.close()

    def _observation(self, seen: Seen) -> Observation:
        tried = _tried(self._view.netns, self._probe, seen, self._local)
        sightings = tuple(self._capture.stop())
        self._hooks.stop()
        around = {*self._ports, *(port for _, port in self._local)}
        places = tuple(self._look(around, seen)) if self._watch else ()
        told = self._hooks.told({one.netns: one.after.texts for one in places})
        return Observation(
            tried=tried,
            places=places,
            sightings=sightings,
            passages=told.passages,
            rules=told.rules,
            hooked=told.hooked,
            gone=told.gone,
            missed=self._capture.missed,
            untold=told.untold,
            partial=self._view.partial,
        )

    def _looked(self) -> Looked:
        probe = self._probe
        icmp = ICMP if probe.ip.version == 4 else ICMP6
        return Looked(
            version=4 if probe.ip.version == 4 else 6,
            protocol=NUMBERS.get(probe.protocol, icmp),
            target=probe.ip,
            source=self._source,
            source_port=probe.source_port if probe.protocol != "ICMP" else 0,
            ports=self._servers if probe.protocol != "ICMP" else (),
        )

    def _rewriting(self, netns: str, ports: set[int], *, listing: bool = True) -> Rewriting:
        probe, legacy = self._probe, self._view.legacy
        version = probe.ip.version
        return observer.rewriting(
            self._kernel, netns, probe.protocol, ports, version, legacy, listing
        )

    def _look(self, ports: set[int], seen: Seen) -> Iterator[Place]:
        for netns, (role, name, node) in self._view.who.items():
            if netns not in self._kernel.namespaces:
                continue  # a Pod that has ended meanwhile
            place = observer.place(self._kernel, netns, role, name, node)
            if seen.outcome != "answered":
                handle = self._kernel.namespaces[netns]
                version = self._probe.ip.version
                # No hook tells of ARP, nor the embedded kernel of packets in a bridge's tables.
                listed: tuple[str, ...] = ("bridge",) if role == "node" else ()
                if not self._view.legacy and hooks.has_rules(handle, version, legacy=False):
                    listed = ("bridge", "arp", *(("ip6",) if role == "pod" else ()))
                around = circumstances.observe(handle, listed=listed)
                place = msgspec.structs.replace(place, around=around)
            if netns in self._before:
                after = self._rewriting(netns, ports)
                place = msgspec.structs.replace(place, before=self._before[netns], after=after)
            yield place


def with_wanted(found: Observation, wanted: Iterator[Wanted]) -> Observation:
    """With what is in the kernel for the Services concerned, and why."""
    return msgspec.structs.replace(found, wanted=tuple(wanted))


def _with_port(netns: Netns, probe: Probe) -> Probe:
    """With a port of the kernel's choice where none is said.

    Known beforehand, it tells the connection's packets from all others that go by.
    """
    if probe.source_port:
        return probe
    family = socket.AF_INET if probe.ip.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if probe.protocol == "UDP" else socket.SOCK_STREAM
    try:
        with netns.entered(), socket.socket(family, kind) as chooser:
            chooser.bind(("", 0))
            port = int(chooser.getsockname()[1])
    except OSError:  # there is none left: what comes of that the connection shows
        return probe
    return msgspec.structs.replace(probe, source_port=port)


def _source_of(netns: Netns, probe: Probe) -> IP | None:
    """The address that the client will have: what the route to the target says, unless it is told.

    Asked by connecting a socket of UDP, which sends nothing.
    """
    if probe.source:
        return probe.source
    family = socket.AF_INET if probe.ip.version == 4 else socket.AF_INET6
    with netns.entered(), socket.socket(family, socket.SOCK_DGRAM) as asker, suppress(OSError):
        asker.connect((str(probe.ip), probe.port or 9))
        return ip(str(asker.getsockname()[0]))
    return None


def _tried(netns: str, probe: Probe, seen: Seen, local: list[tuple[str, int]]) -> Tried:
    source, port = local[0] if local else (seen.source or "", probe.source_port)
    address = ip(source) if source not in ("", "0.0.0.0", "::") else None
    return Tried(
        netns=netns,
        ip=probe.ip,
        port=probe.port,
        protocol=probe.protocol,
        outcome=seen.outcome,
        source=address,
        source_port=port if probe.protocol != "ICMP" else 0,
        error=seen.error,
        status=seen.status,
        body=seen.body[:400],
        seconds=seen.seconds,
    )
