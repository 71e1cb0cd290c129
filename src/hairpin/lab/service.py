"""The requests that a lab answers: one method a verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.kernel.reactor import Reactor
from hairpin.lab import capacity, logs, names
from hairpin.lab.applied import LastApplied
from hairpin.lab.births import Births
from hairpin.lab.lab import Lab
from hairpin.lab.life import going_with
from hairpin.lab.owned import owned
from hairpin.lab.probing import Probing
from hairpin.lab.processes import Background, Foreground
from hairpin.lab.rollouts import Rollouts
from hairpin.lab.sandbox import HOME, NETNS_DIR, prepare_world
from hairpin.lab.session import LabError, Session
from hairpin.lab.settling import SETTLE_LIMIT, when_gone, when_settled
from hairpin.lab.show import show
from hairpin.lab.turns import Stage, at_once
from hairpin.lab.watch import Watches
from hairpin.lab.workloads import listening
from hairpin.model.address import from_builtin
from hairpin.model.decode import decode_objects
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key, Ref
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object, Snapshot
from hairpin.present.shell import commands
from hairpin.source.rollout import leaving
from hairpin.source.scheduling import why_waiting
from hairpin.state.abilities import NEEDED, Abilities
from hairpin.state.change import Change

_START_LIMIT = 10.0  # seconds a started server may take to listen

_CHANGING = (
    "restart-proxy",
    "apply",
    "delete",
    "set",
    "bare",
    "change",
    "scale",
    "restart",
    "cordon",
    "link",
)
"""What waits while another change is under way."""

Request = Mapping[str, Any]
Verb = Callable[[Session, Request], None]


class LabService:
    """Answers sessions for the lab of this World."""

    def __init__(self, reactor: Reactor, abilities: Abilities) -> None:
        self._reactor = reactor
        prepare_world()
        kernel = Kernel(NETNS_DIR, legacy_iptables=abilities.legacy_iptables)
        self._lab = Lab(reactor, kernel, abilities)
        self._births = Births()
        self._last_applied = LastApplied()
        self._watches = Watches(reactor, self._show)
        # Before the watches, which tell it.
        self._lab.on_change.append(lambda: self._births.note(self._lab.snapshot))
        self._lab.on_change.append(self._watches.changed)
        roll = Rollouts(reactor, self._lab, self._work)
        probing = Probing(reactor, self._lab.namespaces.get)
        self._verbs: dict[str, Verb] = {
            "apply": self._apply,
            "delete": self._delete,
            "scale": roll.scale,
            "restart": roll.restart,
            "rollout-status": roll.status,
            "cordon": roll.cordon,
            "get": self._get,
            "names": self._names,
            "owned": self._owned,
            "rules": self._rules,
            "compare": self._compare,
            "proxy-config": lambda session, _: session.reply(self._lab.proxies.said),
            "watch": self._watch,
            "restart-proxy": self._restart_proxy,
            "set": self._set,
            "link": self._link,
            "exec": self._exec,
            "logs": self._logs,
            "bare": self._bare,
            "change": self._change,
            "run": self._run,
            "start": self._start,
            "started-log": self._started_log,
            "probe": probing.probe,
            "hold": probing.hold,
            "ask": probing.ask,
            "trace": self._trace,
            "conntrack-max": self._conntrack_max,
            "flush-conntrack": self._flush_conntrack,
        }

    def open(self, session: Session, request: Request) -> None:
        """Begins to answer.  Raises LabError for what cannot be answered."""
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            remedy = "the lab may have been started by another version: hairpin down"
            raise LabError(f"the lab knows no request {request.get('verb')!r}", remedy)
        if request["verb"] in _CHANGING and self._lab.turns.busy:
            self._lab.turns.when_free(lambda: self._later(session, request))
            return
        try:
            verb(session, request)
        except ManifestError as error:
            raise _explained(error) from None

    def _later(self, session: Session, request: Request) -> None:
        """What had to wait for another change."""
        try:
            self.open(session, request)
        except Exception as error:
            _fail(session, error)

    def _work(self, session: Session, steps: Iterator[Stage], done: Callable[[], None]) -> None:
        """Changes the lab in turns, and goes on with ``done`` or fails."""

        def ended(error: Exception | None) -> None:
            if error is None:
                session.guarded(done)  # whoever waits for the answer must get one
            else:
                _fail(session, error)

        self._lab.turns.work(steps, lambda stage: session.event(msgspec.to_builtins(stage)), ended)

    def _apply(self, session: Session, request: Request) -> None:
        objects = decode_objects(msgspec.json.encode(request["objects"]))
        before = self._lab.snapshot
        if request.get("config") is not None:
            from hairpin.lab.comparison import from_builtins

            self._lab.proxies.config = from_builtins(request["config"])

        def done() -> None:
            self._last_applied.note(objects)
            self._applied(session, request, objects, before)

        self._work(session, self._lab.apply(self._last_applied.merged(objects, before)), done)

    def _applied(
        self, session: Session, request: Request, objects: tuple[Object, ...], before: Snapshot
    ) -> None:
        outcome = [
            {"ref": str(one.ref), "outcome": _outcome(before.get(one.ref), after)}
            for one in objects
            if (after := self._lab.snapshot.get(one.ref)) is not None
        ]
        pods = [self._lab.snapshot.pods.get(one.key) for one in objects if isinstance(one, Pod)]
        going = [
            f"{pod.ref} is being deleted, and what was applied goes with it"
            for pod in pods
            if pod is not None and leaving(pod)
        ]
        session.event({"stage": "waiting for Pods", "done": 0, "total": 0})
        limit = float(request.get("wait", SETTLE_LIMIT))
        services = {one.key for one in objects if isinstance(one, Service)}
        unserved = self._unserved(services)
        problems = self._lab.proxies.problems("/".join(key) for key in services)
        when_settled(
            self._lab,
            session,
            lambda late: session.reply(
                {
                    "objects": outcome,
                    "warnings": [*going, *late],
                    "unserved": unserved,
                    "problems": problems,
                    "queue": capacity.queue_warning(len(self._lab.pods.runs)),
                    "spent": self._lab.seconds,
                }
            ),
            limit,
        )

    def _unserved(self, applied: set[Key]) -> str | None:
        services = self._lab.snapshot.services.values()
        return self._lab.unserved(one for one in services if one.key in applied)

    def _delete(self, session: Session, request: Request) -> None:
        refs = [Ref(one["kind"], one["namespace"], one["name"]) for one in request["refs"]]
        grace = request.get("grace")
        runs = self._lab.pods.runs
        going = [pod.key for pod in going_with(refs, self._lab.snapshot) if pod.key in runs]
        waited = [runs[key] for key in going if request.get("wait", True)]

        def done() -> None:
            answer = {"deleted": [str(ref) for ref in refs]}
            when_gone(self._lab, waited, lambda: session.reply(answer))

        self._work(session, self._lab.delete(refs, None if grace is None else int(grace)), done)

    def _get(self, session: Session, request: Request) -> None:
        session.reply(self._show(str(request["kind"])))

    def _show(self, kind: str) -> list[dict[str, Any]]:
        return [self._births.stamp(one) for one in show(self._lab, kind)]

    def _names(self, session: Session, request: Request) -> None:
        """The names of all objects, by kind and namespace: what completion offers."""
        found: dict[str, list[list[str]]] = {}
        for thing in self._lab.snapshot:
            found.setdefault(type(thing).__name__, []).append(list(thing.key))
        session.reply(found)

    def _owned(self, session: Session, request: Request) -> None:
        session.reply(owned(self._lab, str(request["owner"])))

    def _rules(self, session: Session, request: Request) -> None:
        from hairpin.lab.rules import rules

        key = (str(request["namespace"]), str(request["name"]))
        session.reply(rules(self._lab, key, request.get("mode")))

    def _compare(self, session: Session, request: Request) -> None:
        from hairpin.lab.comparison import compared

        objects, config = request.get("objects"), request.get("config")
        session.reply(compared(self._lab, str(request["node"]), objects, config))

    def _restart_proxy(self, session: Session, request: Request) -> None:
        """As if the process of a node's proxy had been killed and started anew."""
        name = str(request["node"])
        try:
            refused = self._lab.proxies.restart(name, self._lab.snapshot)
        except KeyError:
            raise LabError(f"there is no proxy on a node {name}", exit_code=2) from None
        session.reply({"refused": refused.said})

    def _watch(self, session: Session, request: Request) -> None:
        self._watches.open(session, str(request["kind"]))

    def _set(self, session: Session, request: Request) -> None:
        wanted = dict(request["ingredients"])
        mode = wanted.pop("mode", None)
        if mode is not None:
            if mode not in NEEDED:
                known = ", ".join(NEEDED)
                raise LabError(f"mode={mode}: mode takes {known}", exit_code=2)
            self._lab.switch(mode)
        changes = self._lab.set(wanted) if wanted else []
        home = names.node_netns(_first_node(self._lab))
        lines = [line for change in changes for line in commands(change, home)]
        session.reply({"commands": lines})

    def _link(self, session: Session, request: Request) -> None:
        lab = self._lab
        name, namespace = str(request["name"]), str(request["namespace"])
        state = lab.impairments.set(lab.snapshot, name, namespace, dict(request["settings"]))
        session.reply({"link": state.words})

    def _exec(self, session: Session, request: Request) -> None:
        sandbox = self._lab.namespaces.sandbox(self._target(request))
        if "container" in request:
            run = self._lab.pods.runs[str(request["namespace"]), str(request["pod"])]
            logs.container(run, str(request["container"]))
        request = {"cwd": HOME if "pod" not in request else "/", **request}
        Foreground(self._reactor, sandbox, session, request)

    def _target(self, request: Request) -> str:
        """The namespace that a request is about: a Pod's, a node's, or named outright."""
        if "netns" in request:
            return str(request["netns"])
        if "node" in request:
            name = str(request["node"])
            if ("", name) not in self._lab.snapshot.nodes:
                known = ", ".join(key[1] for key in self._lab.snapshot.nodes)
                raise LabError(
                    f"there is no node {name}",
                    f"nodes of this lab: {known}" if known else None,
                    exit_code=2,
                )
            return names.node_netns(name)
        key = (str(request["namespace"]), str(request["pod"]))
        waiting = self._lab.snapshot.pods.get(key)
        if waiting is not None and (why := why_waiting(waiting)):
            raise LabError(f"Pod {_short(key)} is Pending: {why}")
        if key not in self._lab.pods.runs:
            known = ", ".join(_short(each) for each in self._lab.pods.runs)
            raise LabError(
                f"there is no Pod {_short(key)}",
                f"Pods of this lab: {known}" if known else "this lab has no Pods",
                exit_code=2,
            )
        return names.pod_netns(*key)

    def _logs(self, session: Session, request: Request) -> None:
        self._target(request)
        run = self._lab.pods.runs[str(request["namespace"]), str(request["pod"])]
        logs.answer(session, run, request)

    def _bare(self, session: Session, request: Request) -> None:
        self._lab.building.bare_nodes([str(one) for one in request["nodes"]])
        session.reply({})

    def _change(self, session: Session, request: Request) -> None:
        """Makes Changes by hand; the lab's own objects do not follow."""
        changes = msgspec.convert(request["changes"], list[Change], dec_hook=from_builtin)
        at_once(self._lab.building.apply(changes))
        session.reply({})

    def _trace(self, session: Session, request: Request) -> None:
        from hairpin.lab.tracing import Tracing  # few labs are traced, and all start

        Tracing(self._reactor, self._lab).trace(session, request)

    def _conntrack_max(self, session: Session, request: Request) -> None:
        from hairpin.lab.tracing import limit_connections

        limit_connections(int(request["most"]))
        session.reply({})

    def _flush_conntrack(self, session: Session, request: Request) -> None:
        self._lab.kernel.flush_conntrack(names.node_netns(str(request["node"])))
        session.reply({})

    def _run(self, session: Session, request: Request) -> None:
        """Runs a command to its end; the reply is its output, a failure is an error."""
        argv = [str(word) for word in request["argv"]]
        sandbox = self._lab.namespaces.sandbox(str(request["netns"]))
        box: list[Background] = []

        def ended(code: int) -> None:
            output = box[0].log().decode(errors="replace")
            if code:
                session.fail(f"{' '.join(argv)}: exit code {code}: {output.strip()}")
            else:
                session.reply({"output": output})

        box.append(Background(self._reactor, sandbox, argv, ended, cwd=HOME))
        session.on_close = lambda: box[0].end(at_once=True)

    def _start(self, session: Session, request: Request) -> None:
        """Starts a server that goes on running, and replies when it listens."""
        name, port = str(request["name"]), int(request["port"])
        netns = str(request["netns"])
        argv = [str(word) for word in request["argv"]]
        sandbox = self._lab.namespaces.sandbox(netns)
        process = Background(self._reactor, sandbox, argv, lambda _code: None, cwd=HOME)
        self._lab.started[name] = process
        deadline = self._reactor.now() + _START_LIMIT

        def look() -> None:
            if port in listening(self._lab.namespaces.get(netns)):
                session.reply({})
            elif process.exit_code is not None or self._reactor.now() > deadline:
                said = process.log().decode(errors="replace").strip()
                session.fail(f"{name} does not listen on port {port}: {said or 'it says nothing'}")
            else:
                self._reactor.after(0.02, lambda: session.guarded(look))

        session.guarded(look)

    def _started_log(self, session: Session, request: Request) -> None:
        process = self._lab.started[str(request["name"])]
        session.reply({"text": process.log().decode(errors="replace")})


def _explained(error: Exception) -> Exception:
    """What a person is told of an exception; the log has one that nobody thought of."""
    if isinstance(error, LabError):
        return error
    if isinstance(error, ManifestError):
        return LabError(error.headline, error.remedy or None, exit_code=2)
    return error


def _fail(session: Session, error: Exception) -> None:
    def again() -> None:
        raise _explained(error)

    session.guarded(again)


def _outcome(before: object, after: object) -> str:
    if before is None:
        return "created"
    return "unchanged" if before == after else "configured"


def _first_node(lab: Lab) -> str:
    return next((key[1] for key in lab.snapshot.nodes), "node")


def _short(key: tuple[str, str]) -> str:
    return key[1] if key[0] == "default" else "/".join(key)
