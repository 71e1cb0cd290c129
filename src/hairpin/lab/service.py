"""The requests that a lab answers: one method a verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.kernel.reactor import Reactor
from hairpin.lab import names, probe
from hairpin.lab.lab import Lab
from hairpin.lab.processes import Background, Foreground
from hairpin.lab.sandbox import HOME, NETNS_DIR, prepare_world
from hairpin.lab.session import STDOUT, LabError, Session
from hairpin.lab.show import show
from hairpin.lab.workloads import listening
from hairpin.model.address import from_builtin, to_builtin
from hairpin.model.decode import decode_objects
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Ref
from hairpin.present.shell import commands
from hairpin.state.change import Change

_START_LIMIT = 10.0  # seconds a started server may take to listen

Request = Mapping[str, Any]
Verb = Callable[[Session, Request], None]


class LabService:
    """Answers sessions for the lab of this World."""

    def __init__(self, reactor: Reactor, *, legacy_iptables: bool = False) -> None:
        self._reactor = reactor
        prepare_world()
        self._lab = Lab(reactor, Kernel(NETNS_DIR, legacy_iptables=legacy_iptables))
        self._verbs: dict[str, Verb] = {
            "apply": self._apply,
            "delete": self._delete,
            "get": self._get,
            "set": self._set,
            "exec": self._exec,
            "logs": self._logs,
            "bare": self._bare,
            "change": self._change,
            "run": self._run,
            "start": self._start,
            "started-log": self._started_log,
            "probe": self._probe,
            "flush-conntrack": self._flush_conntrack,
        }

    def open(self, session: Session, request: Request) -> None:
        """Begins to answer.  Raises LabError for what cannot be answered."""
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            remedy = "the lab may have been started by another version: hairpin down"
            raise LabError(f"the lab knows no request {request.get('verb')!r}", remedy)
        try:
            verb(session, request)
        except ManifestError as error:
            raise LabError(error.headline, error.remedy or None, exit_code=2) from None

    def _apply(self, session: Session, request: Request) -> None:
        objects = decode_objects(msgspec.json.encode(request["objects"]))
        before = self._lab.snapshot
        self._lab.apply(objects)
        outcome = [
            {"ref": str(one.ref), "outcome": _outcome(before.get(one.ref), one)}
            for one in objects
            if self._lab.snapshot.get(one.ref) is not None
        ]
        self._lab.when_settled(lambda late: session.reply({"objects": outcome, "warnings": late}))

    def _delete(self, session: Session, request: Request) -> None:
        refs = [Ref(one["kind"], one["namespace"], one["name"]) for one in request["refs"]]
        self._lab.delete(refs)
        session.reply({"deleted": [str(ref) for ref in refs]})

    def _get(self, session: Session, request: Request) -> None:
        session.reply(show(self._lab, str(request["kind"])))

    def _set(self, session: Session, request: Request) -> None:
        changes = self._lab.set(dict(request["ingredients"]))
        home = names.node_netns(_first_node(self._lab))
        lines = [line for change in changes for line in commands(change, home)]
        session.reply({"commands": lines})

    def _exec(self, session: Session, request: Request) -> None:
        sandbox = self._lab.sandbox(self._target(request))
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
        if key not in self._lab.runs:
            known = ", ".join(_short(each) for each in self._lab.runs)
            raise LabError(
                f"there is no Pod {_short(key)}",
                f"Pods of this lab: {known}" if known else "this lab has no Pods",
                exit_code=2,
            )
        return names.pod_netns(*key)

    def _logs(self, session: Session, request: Request) -> None:
        self._target(request)
        run = self._lab.runs[str(request["namespace"]), str(request["pod"])]
        wanted = request.get("container")
        for one in run.containers:
            if one.container.name == wanted or wanted is None:
                if one.process is None:
                    what = f"container {one.container.name} runs the built-in echo server"
                    raise LabError(f"{what}, which keeps no log")
                session.send(STDOUT, one.process.log())
                session.reply({"exit": 0})
                return
        known = ", ".join(one.container.name for one in run.containers)
        raise LabError(f"there is no container {wanted}", f"containers: {known}", exit_code=2)

    def _bare(self, session: Session, request: Request) -> None:
        self._lab.bare_nodes([str(one) for one in request["nodes"]])
        session.reply({})

    def _change(self, session: Session, request: Request) -> None:
        self._lab.change(msgspec.convert(request["changes"], list[Change], dec_hook=from_builtin))
        session.reply({})

    def _flush_conntrack(self, session: Session, request: Request) -> None:
        self._lab.kernel.flush_conntrack(names.node_netns(str(request["node"])))
        session.reply({})

    def _run(self, session: Session, request: Request) -> None:
        """Runs a command to its end; the reply is its output, a failure is an error."""
        argv = [str(word) for word in request["argv"]]
        sandbox = self._lab.sandbox(str(request["netns"]))
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
        sandbox = self._lab.sandbox(netns)
        process = Background(self._reactor, sandbox, argv, lambda _code: None, cwd=HOME)
        self._lab.started[name] = process
        deadline = self._reactor.now() + _START_LIMIT

        def look() -> None:
            if port in listening(self._lab.netns(netns)):
                session.reply({})
            elif process.exit_code is not None or self._reactor.now() > deadline:
                said = process.log().decode(errors="replace").strip()
                session.fail(f"{name} does not listen on port {port}: {said or 'it says nothing'}")
            else:
                self._reactor.after(0.02, look)

        look()

    def _started_log(self, session: Session, request: Request) -> None:
        process = self._lab.started[str(request["name"])]
        session.reply({"text": process.log().decode(errors="replace")})

    def _probe(self, session: Session, request: Request) -> None:
        """Makes the attempts side by side; each one's connections one after the other."""
        attempts = list(request["attempts"])
        answers: list[list[probe.Seen]] = [[] for _ in attempts]
        open_ = [len(attempts)]

        def next_of(index: int) -> None:
            attempt = attempts[index]
            if len(answers[index]) == int(attempt.get("times", 1)):
                open_[0] -= 1
                if not open_[0]:
                    session.reply(msgspec.to_builtins(answers, enc_hook=to_builtin))
                return

            def done(seen: probe.Seen) -> None:
                answers[index].append(seen)
                next_of(index)

            wanted = msgspec.convert(attempt["probe"], probe.Probe, dec_hook=from_builtin)
            probe.start(self._reactor, self._lab.netns(str(attempt["netns"])), wanted, done)

        for index in range(len(attempts)):
            next_of(index)


def _outcome(before: object, after: object) -> str:
    if before is None:
        return "created"
    return "configured"


def _first_node(lab: Lab) -> str:
    return next((key[1] for key in lab.snapshot.nodes), "node")


def _short(key: tuple[str, str]) -> str:
    return key[1] if key[0] == "default" else "/".join(key)
