"""Makes a fault, traces, compares the cause, runs the printed mend, and tries again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from hairpin.claims.faults_base import Act, Connect, Fault, Fill, Mode, Objects, Shell, Switch
from hairpin.claims.faults_cast import FAR, OBJECTS
from hairpin.claims.runner import Caller
from hairpin.claims.tracing import Question, observe, snapshot_of, traced
from hairpin.lab.session import LabError
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.decode import decode_object, encode
from hairpin.trace.values import Mend, Trace

Run = Callable[[str], tuple[int, str]]
"""Runs a line that begins with ``hairpin`` as a person would type it: exit code and output."""

_ROUNDS = 3  # mends of one fault: two things may be broken
_SETTLE = 8.0  # seconds until a mended connection works, for what takes effect by itself
_AGAIN = 0.2


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault.

    ``named``: the causes in the order in which they were named.  ``right``: the first is one of
    the fault's.  ``mended``: it works after the printed mends; None where none is expected.
    """

    fault: str
    expected: tuple[str, ...]
    named: tuple[str, ...]
    right: bool
    mended: bool | None
    mends: tuple[str, ...] = ()
    disposition: str = ""
    because: str = ""
    seconds: float = 0.0
    error: str = ""


def build(lab: Caller, mode: Mode = "ipvs") -> None:
    """Makes the cast; its nodes' proxies run in that mode.  Raises LabError."""
    config = msgspec.to_builtins(KubeProxyConfiguration(mode=mode), enc_hook=float)
    apply(lab, OBJECTS, config=config)


def is_cast(lab: Caller) -> bool:
    """Whether the lab is one that ``build`` made."""
    wanted = {(one["kind"], one["metadata"]["name"]) for one in OBJECTS}
    there = {
        (one["kind"], one["metadata"]["name"])
        for kind in ("nodes", "pods", "services")
        for one in lab.call("get", kind=kind)
    }
    return wanted <= there


def apply(
    lab: Caller,
    manifests: Iterable[object],
    wait: float = 5.0,
    config: dict[str, Any] | None = None,
) -> None:
    """Applies manifests and waits until they have settled, or for ``wait`` seconds."""
    decoded = [decode_object(one) for one in manifests]
    lab.call("apply", objects=json.loads(encode(decoded)), wait=wait, config=config)


def do(lab: Caller, act: Act) -> None:
    """One act.  Raises LabError."""
    match act:
        case Shell(netns=netns, line=line):
            lab.call("run", netns=netns, argv=["sh", "-c", line])
        case Switch(ingredients=ingredients):
            has = {one["name"] for one in lab.call("get", kind="ingredients")
                   if one["value"] != "absent"}  # fmt: skip
            known = {name: value for name, value in ingredients.items() if name in has}
            if "vip-local" not in has and known.get("hairpin") == "promisc":
                known["hairpin"] = "port"  # what DNAT needs; a promiscuous bridge is not enough
            if known:
                lab.call("set", ingredients=known)
        case Objects():
            if act.delete:
                refs = [_ref(one) for one in act.delete]
                lab.call("delete", refs=refs, grace=act.grace)
            if act.manifests:
                apply(lab, act.manifests, act.settle or 5.0)
        case Fill(held=held):
            lab.call("conntrack-max", most=held)
            for number in range(held):
                probe = {"ip": FAR, "port": 8080, "timeout": 1.0, "source_port": 42000 + number}
                lab.call("hold", netns="foo", probe=probe)
        case Connect(question=question):
            observe(lab, snapshot_of(lab), msgspec.structs.replace(question, watch=False))


def try_fault(lab: Caller, fault: Fault, run: Run, *, shell: bool = False) -> Result:
    """Breaks, traces, mends and puts back.  ``shell``: the plain command instead of hairpin's."""
    began = time.monotonic()
    named: list[str] = []
    mends: list[str] = []
    mended: bool | None = None
    first: Trace | None = None
    error = ""
    try:
        trace = first = _broken(lab, fault)
        for _ in range(_ROUNDS):
            if trace.cause is None:
                break
            named.append(trace.cause.id)
            mend = trace.cause.mend
            line = mend.shell if shell else mend.hairpin
            if not line or not fault.mends:
                break
            mends.append(line)
            code, said = _in_lab(lab, mend) if shell else run(line)
            if code:
                trace = traced(lab, fault.ask)
                if trace.cause is not None:  # else the node's proxy put it right in between
                    error = f"{line}: exit code {code}: {said.strip()[-200:]}"
                break
            trace = _settled(lab, fault.ask, trace)
        mended = trace.cause is None if fault.mends else None
    except LabError as failed:
        error = str(failed)
    finally:
        error = _put_back(lab, fault, error)
    cause = first.cause if first else None
    return Result(
        fault=fault.id,
        expected=fault.causes,
        named=tuple(named),
        right=bool(named) and named[0] in fault.causes,
        mended=mended,
        mends=tuple(mends),
        disposition=first.disposition if first else "",
        because=cause.because if cause else "",
        seconds=round(time.monotonic() - began, 2),
        error=error,
    )


def _broken(lab: Caller, fault: Fault) -> Trace:
    """Breaks and traces; once more where the node's proxy put it right in between."""
    for _ in range(2):
        for act in fault.acts:
            do(lab, act)
        trace = traced(lab, fault.ask)
        if trace.cause is not None:
            break
    return trace


def _in_lab(lab: Caller, mend: Mend) -> tuple[int, str]:
    """A plain command belongs into the lab's namespace that it is for, and nowhere else."""
    if not mend.on:
        return 1, "it does not say where"
    try:
        return 0, str(lab.call("run", netns=mend.on, argv=["sh", "-c", mend.shell])["output"])
    except LabError as error:
        return 1, str(error)


def _settled(lab: Caller, ask: Question, before: Trace) -> Trace:
    """The next trace: until it works, or another cause is to be mended, it gets some time."""
    deadline = time.monotonic() + _SETTLE
    while True:
        trace = traced(lab, ask)
        if trace.cause is None or time.monotonic() > deadline:
            return trace
        if before.cause and trace.cause.id != before.cause.id and trace.cause.mend.hairpin:
            return trace
        time.sleep(_AGAIN)


def _put_back(lab: Caller, fault: Fault, error: str) -> str:
    for act in fault.undo:
        try:
            do(lab, act)
        except LabError as failed:
            error = error or f"putting back: {failed}"
    return error


def _ref(text: str) -> dict[str, str]:
    kind, _, name = text.partition(" ")
    namespace, _, short = name.rpartition("/")
    return {"kind": kind, "namespace": namespace or "default", "name": short}
