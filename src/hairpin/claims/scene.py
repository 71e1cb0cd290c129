"""One claim's part of the lab: its namespace, the addresses of its Services, its connections."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hairpin.claims import judge
from hairpin.claims.cast import Cast
from hairpin.claims.changes import Changes
from hairpin.claims.promises import (
    BY_FIRST_NODE,
    Answered,
    Finding,
    From,
    Manifest,
    Promise,
    To,
    Try,
)
from hairpin.claims.runner import Caller
from hairpin.claims.shapes import Addresses, shape
from hairpin.claims.targets import Targets
from hairpin.claims.topics import Mode
from hairpin.lab.names import pod_netns
from hairpin.lab.probe import Seen
from hairpin.lab.session import LabError
from hairpin.model.address import IP, from_builtin
from hairpin.model.decode import CLUSTER_SCOPED, decode_object, encode

_AGAIN = 0.15  # seconds between looks at what takes a while
_MORE = 6  # further rounds for a Pod that was not seen yet: others may share the virtual server
_BATCH = 10  # connections of one request, between which those that go on can be ended
_BEGIN_LIMIT = 30.0  # seconds until the first of them are there, whatever came of them
_PODS_START = 20.0
"""Seconds that a claim's own Pods may take.  The lab is not asked to wait: it would wait for
those of other claims too, some of which are never ready."""


class Scene:
    """What a claim can do."""

    def __init__(
        self,
        lab: Caller,
        changes: Changes,
        cast: Cast,
        claim: Promise,
        mode: Mode,
        addresses: Addresses,
    ) -> None:
        self.lab = lab
        self._changes = changes
        self.cast = cast
        self.mode = mode
        self.differs = False
        """Whether the step that is done now is one that this mode is known to do otherwise."""
        self.namespace = claim.namespace
        self._addresses = addresses
        self.targets = Targets(claim.namespace, cast)
        self._made: dict[tuple[str, str], None] = {}
        self.patience = (
            0.0  # seconds that a try gets whatever it says itself, until one was too late
        )

    # -- objects -------------------------------------------------------------------------------

    def manifests(self, objects: Iterable[Manifest]) -> list[Any]:
        """The objects as the lab takes them.  Raises ManifestError."""
        shapes = [shape(one, self.namespace, self.cast, self._addresses) for one in objects]
        for one in shapes:
            self._made[one["kind"], one["metadata"]["name"]] = None
            if one["kind"] in ("Pod", "Deployment"):
                self.patience = max(self.patience, _PODS_START)
        return list(json.loads(encode([decode_object(one) for one in shapes])))

    def apply(self, *objects: Manifest) -> None:
        """Creates or changes objects."""
        self.targets.look(self._changes.apply(self.manifests(objects)))

    def delete(self, *refs: str) -> None:
        """``Service web``: deletes objects of the claim's namespace."""
        services = self._changes.delete([self._ref(*ref.split()) for ref in refs])
        for ref in refs:
            kind, name = ref.split()
            self._made.pop((kind, name), None)
        self.targets.look(services)

    def left(self) -> list[dict[str, str]]:
        """References to all objects that are still there."""
        return [self._ref(kind, name) for kind, name in self._made]

    # -- connections ---------------------------------------------------------------------------

    def findings(self, tries: Sequence[Try]) -> list[Finding]:
        """Makes all the connections, side by side, and says what came of each try."""
        seen = self.connect(tries)
        found = []
        for one, some in zip(tries, seen, strict=True):
            found.append(self._finding(one, self._again(one, some)))
        return found

    def finding(self, one: Try) -> Finding:
        """One try alone."""
        return self.findings([one])[0]

    def connect(self, tries: Sequence[Try], *, pause: float = 0.0) -> list[list[Seen]]:
        """Makes the connections of each try."""
        attempts = [self._attempt(one, pause) for one in tries]
        answers = self.lab.call("probe", attempts=attempts)
        return msgspec.convert(answers, list[list[Seen]], dec_hook=from_builtin)

    def constantly(self, one: Try, *, lanes: int = 1, pause: float = 0.02) -> Constantly:
        """Connects again and again, in a thread of its own, while the claim goes on.

        ``lanes``: connections at a time, from ports of the kernel's choice where several.
        """

        def attempts() -> list[dict[str, Any]]:
            some = [self._attempt(msgspec.structs.replace(one, times=_BATCH), pause)]
            if lanes > 1:
                some[0].pop("source_ports", None)
            return some * lanes

        return Constantly(self.lab, attempts)

    def hold(self, client: From, to: To) -> int:
        """Opens a TCP connection and keeps it; its number, for ``ask``.  Raises LabError."""
        address, port = self.targets.resolve(to, "TCP")
        probe = {"ip": str(address), "port": port, "timeout": 4.0}
        deadline = time.monotonic() + self.patience
        while True:
            held = self.lab.call("hold", netns=self.cast.netns(client), probe=probe)
            if held["seen"]["outcome"] == "answered" or time.monotonic() >= deadline:
                break
            time.sleep(_AGAIN)
        if held["seen"]["outcome"] != "answered":
            raise LabError(f"the connection that is to be held: {held['seen']['outcome']}")
        return int(held["id"])

    def ask(self, number: int, timeout: float = 4.0) -> Seen:
        """Sends a request over a connection that is held."""
        return msgspec.convert(
            self.lab.call("ask", id=number, timeout=timeout), Seen, dec_hook=from_builtin
        )

    def run(self, who: From, *argv: str) -> str:
        """Runs a command in a Pod of the cast, on a node or outside.  Raises LabError."""
        return self._run(self.cast.netns(who), argv)

    def run_in(self, own_pod: str, *argv: str) -> str:
        """Runs a command in one of the claim's own Pods.  Raises LabError."""
        return self._run(pod_netns(self.namespace, own_pod), argv)

    def _run(self, netns: str, argv: Sequence[str]) -> str:
        return str(self.lab.call("run", netns=netns, argv=list(argv))["output"])

    # -- inner parts ---------------------------------------------------------------------------

    def _attempt(self, one: Try, pause: float = 0.0) -> dict[str, Any]:
        expect = one.wanted(self.mode)
        address, port = self.targets.resolve(one.to, one.protocol)
        probe: dict[str, Any] = {
            "ip": str(address),
            "port": port,
            "protocol": one.protocol,
            "timeout": judge.timeout_for(expect, one.protocol),
            "path": one.path,
            "source_port": one.source_port,
            "size": one.size,
        }
        if one.client.kind == "localhost":
            probe["source"] = "127.0.0.1" if address.version == 4 else "::1"
        if one.client == BY_FIRST_NODE:
            probe["source"] = str(self.cast.via)
        attempt: dict[str, Any] = {
            "netns": self.cast.netns(one.client),
            "probe": probe,
            "times": one.times or judge.times_for(expect),
            "pause": pause,
        }
        if not one.source_port and one.protocol != "ICMP":
            attempt["source_ports"] = self._addresses.ports(attempt["times"])
        return {**attempt, "lane": one.lane} if one.lane else attempt

    def _again(self, one: Try, seen: list[Seen]) -> list[Seen]:
        """Tries on while there is time, or a Pod that has not answered yet."""
        expect = one.wanted(self.mode)
        patience = max(one.within, self.patience)
        deadline = time.monotonic() + patience
        while patience and not self._held(one, seen) and time.monotonic() < deadline:
            time.sleep(_AGAIN)
            seen = self.connect([one])[0]
        if patience > one.within and not self._held(one, seen):
            self.patience = 0.0  # the claim has failed: its other tries need not take as long
        rounds = _MORE if isinstance(expect, Answered) and len(expect.by) > 1 else 0
        while rounds and one.times is None and not self._held(one, seen):
            if any(each.outcome != "answered" for each in seen):
                break
            rounds -= 1
            seen = seen + self.connect([one])[0]
        return seen

    def _held(self, one: Try, seen: Sequence[Seen]) -> bool:
        addresses = [each for node in self.cast.nodes.values() for each in node.values()]
        return judge.held(one.wanted(self.mode), seen, [*addresses, *self._bridges()])

    def _bridges(self) -> Iterator[IP]:
        """The nodes' addresses among their Pods: the first of each Pod's network."""
        for member in self.cast.members.values():
            for family, address in member.ips.items():
                mask = 0xFF if family == 4 else (1 << 64) - 1
                yield type(address)((int(address) & ~mask) + 1)

    def _finding(self, one: Try, seen: Sequence[Seen]) -> Finding:
        expect = one.wanted(self.mode)
        ports = isinstance(expect, Answered) and any(":" in name for name in expect.by)
        what = one.label or f"{one.client} → {one.to}"
        return Finding(
            what=what if one.protocol == "TCP" else f"{what} ({one.protocol})",
            held=self._held(one, seen),
            differs=one.differs.get(self.mode),
            expected=judge.expectation(expect),
            seen=judge.sight(seen, ports=ports),
        )

    def _ref(self, kind: str, name: str) -> dict[str, str]:
        namespace = "" if kind in CLUSTER_SCOPED else self.namespace
        return {"kind": kind, "namespace": namespace, "name": name}


class Constantly:
    """Connections that go on while something else happens."""

    def __init__(self, lab: Caller, attempts: Callable[[], list[dict[str, Any]]]) -> None:
        self._lab = lab
        self._attempts = attempts
        self._seen: list[Seen] = []
        self._error: Exception | None = None
        self._going = True
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._connect, daemon=True)
        self._thread.start()
        self._begun.wait(_BEGIN_LIMIT)

    def result(self) -> list[Seen]:
        """Makes a last few, and ends.  Raises what went wrong."""
        self._going = False
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._seen

    def _connect(self) -> None:
        last = False
        try:
            while not last:
                last = not self._going  # begun after all that the claim did
                answers = self._lab.call("probe", attempts=self._attempts())
                for some in msgspec.convert(answers, list[list[Seen]], dec_hook=from_builtin):
                    self._seen += some
                self._begun.set()
        except Exception as error:  # told to who waits for them
            self._error = error
        finally:
            self._begun.set()
