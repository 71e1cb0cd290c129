"""Runs claims about Services on a lab, many at a time, and says what became of each.

What the claims begin with is given to the lab at once; then each goes on by itself in one of a
few threads, those that disturb others one by one at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

import msgspec

from hairpin.claims import cast as casting
from hairpin.claims.cast import Cast, Size
from hairpin.claims.changes import Changes
from hairpin.claims.promises import (
    Apply,
    Delete,
    Do,
    Finding,
    Need,
    Pause,
    Promise,
    Step,
    Try,
    Verdict,
)
from hairpin.claims.runner import Caller
from hairpin.claims.scene import Scene
from hairpin.claims.shapes import Addresses
from hairpin.claims.topics import Mode
from hairpin.lab.names import OUTSIDE, OUTSIDE_BRIDGE, node_netns
from hairpin.lab.probe import Seen
from hairpin.lab.session import LabError
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.decode import decode_object, encode, learn
from hairpin.model.errors import ManifestError

_THREADS = 10  # claims at a time: the guest has one CPU, but most claims wait for something
_ANSWER_ALL = (
    "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit"
)
"""Else a node refuses the same client once a second (icmp(7)), and many claims share a client."""
_TABLE = 77  # a routing table that nobody else has
_MISSING: dict[Need, str] = {
    "nodes": "this lab has one node",
    "ipv6": "this lab has IPv4 only",
    "sctp": "this lab's kernel has no SCTP",
    "hostnetwork": "this lab has no Pods in their node's network",
    "health": "this lab's nodes answer no health checks",
    "restart": "this lab's proxies cannot be restarted by themselves",
    "prompt": "this lab's proxies hear of a Pod's end when it may have ended",
}


learn(list[list[Seen]])  # here, before there are threads


def chosen(claims: Iterable[Promise], words: Sequence[str]) -> list[Promise]:
    """Those that a word names: an id or its end, a glob, or a subject.  All without words.

    Raises LabError for a word that names none.
    """
    claims = list(claims)
    if not words:
        return claims
    found: dict[str, Promise] = {}
    for word in words:
        some = [claim for claim in claims if _named(claim, word)]
        if not some:
            raise LabError(
                f"there is no claim {word}", "hairpin check --list names them", exit_code=2
            )
        found.update((claim.id, claim) for claim in some)
    return [claim for claim in claims if claim.id in found]


def _named(claim: Promise, word: str) -> bool:
    short = claim.id.removeprefix("services.")
    return (
        word in (claim.id, short, claim.subject, "services")
        or claim.id.startswith(f"{word}.")
        or short.startswith(f"{word}.")
        or fnmatchcase(claim.id, word)
        or fnmatchcase(short, word)
    )


def build(lab: Caller, mode: Mode = "ipvs", config: KubeProxyConfiguration | None = None) -> Cast:
    """Makes the largest cast that this lab takes, its proxies in that mode, with kube-proxy's
    defaults or that configuration.  Raises LabError."""
    config = config or KubeProxyConfiguration(mode=mode)
    told = msgspec.to_builtins(config, enc_hook=float)  # Seconds
    for size in casting.SIZES:
        shapes = [decode_object(one) for one in casting.manifests(size)]
        try:
            lab.call("apply", objects=_json(encode(shapes)), wait=20.0, config=told)
        except LabError:
            if size == casting.SIZES[-1]:
                raise
        else:
            return _look(lab, size)
    raise AssertionError


def build_on(lab: Caller) -> Cast:
    """Makes the cast on the nodes of a lab that somebody else has begun.  Raises LabError."""
    size, manifests = casting.manifests_on(lab.call("get", kind="nodes"))
    shapes = [decode_object(one) for one in manifests]
    lab.call("apply", objects=_json(encode(shapes)), wait=20.0)
    return _look(lab, size)


def _ways(cast: Cast) -> Iterator[str]:
    """Commands that let the client outside reach ClusterIPs, and the first node by ``Cast.via``.

    A lab leads a load balancer's IP to a node that has endpoints, as load balancers do; what a node
    without any does is to be seen too.
    """
    first = next(iter(cast.nodes.values()))
    for network in casting.SERVICE_CIDRS.split(","):
        via = first.get(6 if ":" in network else 4)
        if via is not None:
            yield f"ip route replace {network} via {via}"
    yield f"ip address replace {cast.via}/32 dev {OUTSIDE_BRIDGE}"
    yield f"ip rule del from {cast.via} 2>/dev/null || true"
    yield f"ip rule add from {cast.via} lookup {_TABLE}"
    yield f"ip route replace default via {first[4]} table {_TABLE}"


def kernel_of(lab: Caller) -> str:
    """``Linux 6.1.176``: the kernel that the lab's nodes run on."""
    name = lab.call("run", netns=OUTSIDE, argv=["uname", "-sr"])["output"]
    return str(name).strip()


def _look(lab: Caller, size: Size) -> Cast:
    has: set[Need] = set()
    if lab.call("get", kind="proxies"):
        has |= {"restart", "health", "prompt"}
    if size != "one":
        has |= {"nodes", "hostnetwork"}
    if size == "dual":
        has.add("ipv6")
    shown = {kind: lab.call("get", kind=kind) for kind in ("nodes", "pods")}
    cast = casting.found(shown, frozenset(has))
    if _answers(lab, cast, "SCTP"):
        has.add("sctp")
    for node in cast.nodes:
        lab.call("run", netns=node_netns(cast.name(node)), argv=["sh", "-c", _ANSWER_ALL])
    lab.call("run", netns=OUTSIDE, argv=["sh", "-ec", "\n".join(_ways(cast))])
    return casting.found(shown, frozenset(has))


def _answers(lab: Caller, cast: Cast, protocol: str) -> bool:
    """Whether Pods reach each other by that protocol, without any Service."""
    address = cast.members["n1-a"].ips[4]
    probe = {"ip": str(address), "port": casting.PORT, "protocol": protocol, "timeout": 1.0}
    netns = f"{casting.NAMESPACE}_n1-b"
    seen = lab.call("probe", attempts=[{"netns": netns, "probe": probe}])
    return bool(seen[0][0]["outcome"] == "answered")


class Check:
    """One run of claims on one lab, in one mode.

    ``patience``: seconds that every try gets to become what it should be.
    """

    def __init__(self, lab: Caller, cast: Cast, mode: Mode, patience: float = 0.0) -> None:
        self._lab = lab
        self._cast = cast
        self._mode = mode
        self._addresses = Addresses()
        self._changes = Changes(lab)
        self._patience = patience

    def run(
        self, claims: Sequence[Promise], on_verdict: Callable[[Verdict], None] | None = None
    ) -> list[Verdict]:
        """The verdicts in the claims' order; ``on_verdict`` gets each as it comes."""
        tell = on_verdict or (lambda verdict: None)
        done: dict[str, Verdict] = {}

        def note(verdict: Verdict) -> None:
            done[verdict.claim.id] = verdict
            tell(verdict)

        able = []
        for claim in claims:
            lacks = sorted(claim.needs - self._cast.has)
            if lacks:
                why = "; ".join(_MISSING[need] for need in lacks)
                note(Verdict(claim=claim, mode=self._mode, result="skipped", why=why))
            else:
                able.append(claim)
        slow = [claim for claim in able if claim.slow and not claim.alone]
        aside = ThreadPoolExecutor(1)
        try:
            waiting = aside.submit(self._together, slow, note)
            for group in _groups([claim for claim in able if not claim.slow]):
                self._together(group, note)
            waiting.result()
        finally:
            aside.shutdown(wait=False, cancel_futures=True)
        return [done[claim.id] for claim in claims]

    def _together(self, claims: Sequence[Promise], note: Callable[[Verdict], None]) -> None:
        """Runs claims side by side, and deletes what they made.

        When it is interrupted the lab ends, and with it whatever waits for an answer.
        """
        scenes = {claim.id: self._scene(claim) for claim in claims}
        begun = self._begin(claims, scenes)
        pool = ThreadPoolExecutor(_THREADS)
        try:
            # The longest first, so that the last thread does not have it all.
            order = sorted(claims, key=lambda claim: -len(claim.steps))
            for verdict in pool.map(
                lambda claim: self._play(claim, scenes[claim.id], claim.id in begun), order
            ):
                note(verdict)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self._clean(scenes.values())

    def _scene(self, claim: Promise) -> Scene:
        scene = Scene(self._lab, self._changes, self._cast, claim, self._mode, self._addresses)
        scene.patience = self._patience
        return scene

    def _begin(self, claims: Sequence[Promise], scenes: dict[str, Scene]) -> set[str]:
        """Gives the lab what all claims begin with, at once; the claims that this was done for.

        Where that fails each claim does it for itself, and the one that is wrong fails alone.
        """
        begun: set[str] = set()
        objects: list[Any] = []
        for claim in claims:
            if claim.steps and isinstance(claim.steps[0], Apply):
                try:
                    objects += scenes[claim.id].manifests(claim.steps[0].objects)
                except (LabError, ManifestError):
                    continue
                begun.add(claim.id)
        if not objects:
            return begun
        try:
            services = self._changes.apply(objects)
        except LabError:
            return set()
        for claim in claims:
            scenes[claim.id].targets.look(services)
        return begun

    def _play(self, claim: Promise, scene: Scene, begun: bool) -> Verdict:
        started = time.monotonic()
        findings: list[Finding] = []
        why = ""
        try:
            for finding in _acts(claim.steps[1:] if begun else claim.steps, scene):
                findings.append(finding)
        except (LabError, ManifestError, TimeoutError, KeyError, ValueError) as error:
            why = (
                f"{type(error).__name__}: {error}"
                if not isinstance(error, LabError)
                else str(error)
            )
        return Verdict(
            claim=claim,
            mode=self._mode,
            result=_result(findings, why),
            findings=tuple(findings),
            seconds=round(time.monotonic() - started, 2),
            why=why,
        )

    def _clean(self, scenes: Iterable[Scene]) -> None:
        """Deletes what the claims made, in one go; what is gone already does not matter."""
        refs = [ref for scene in scenes for ref in scene.left()]
        there = {
            (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
            for kind in ("services", "endpoints", "pods", "deployments")
            for one in self._lab.call("get", kind=kind)
        }
        refs = [ref for ref in refs if (ref["kind"], ref["namespace"], ref["name"]) in there]
        if refs:
            self._changes.delete(refs)


def _acts(steps: Sequence[Step], scene: Scene) -> Iterator[Finding]:
    """Does the steps; tries that follow each other are made together."""
    for tried, group in groupby(steps, key=lambda step: isinstance(step, Try)):
        if tried:
            yield from scene.findings([step for step in group if isinstance(step, Try)])
            continue
        for step in group:
            match step:
                case Apply(objects=objects):
                    scene.apply(*objects)
                case Delete(refs=refs):
                    scene.delete(*refs)
                case Pause(seconds=seconds):
                    time.sleep(seconds)
                case Do(call=call, differs=differs):
                    scene.differs = scene.mode in differs
                    found = call(scene)
                    difference = differs.get(scene.mode, found.differs)
                    yield msgspec.structs.replace(found, differs=difference)


def _result(findings: Sequence[Finding], why: str) -> Any:
    if why or not findings:
        return "error"
    if not all(one.held for one in findings):
        return "failed"
    return "differs" if any(one.differs for one in findings) else "held"


def _groups(claims: Sequence[Promise]) -> Iterator[Sequence[Promise]]:
    """Those that change things as they go, then those that only look, then each that disturbs.

    What looks can be much at once; what changes things does it faster where there is little.
    """
    changing = [claim for claim in claims if not claim.alone and _changes(claim)]
    yield changing
    yield [claim for claim in claims if not claim.alone and not _changes(claim)]
    for claim in claims:
        if claim.alone:
            yield [claim]


def _changes(claim: Promise) -> bool:
    return any(not isinstance(step, Try) for step in claim.steps[1:])


def _json(data: bytes) -> Any:
    import json

    return json.loads(data)
