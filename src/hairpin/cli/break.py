# ruff: noqa: N999  # the verb's name; it is only ever imported by that
"""Break one thing in a lab that is made for it, and say what does not work any more.

Nothing is said of where it is broken; hairpin trace finds out.  The lab has two nodes (n1, n2), the
Pods foo, bar and client on n1 and far on n2, and the Services foo, bar and far.

examples:
  hairpin break --list
  hairpin break weight-zero
  hairpin break --mode nftables no-route-to-node
  hairpin break weight-zero --undo
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.claims.faults_base import Fault, Mode
    from hairpin.world.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fault", nargs="?", metavar="FAULT", help="see --list")
    parser.add_argument("--list", action="store_true", help="name the faults and make none")
    parser.add_argument("--undo", action="store_true", help="put back what the fault broke")
    parser.add_argument(
        "--mode",
        choices=("ipvs", "iptables", "nftables"),
        help="the proxy mode of a new lab (ipvs); with --list: of the faults that are named",
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.claims import faults
    from hairpin.present.table import table

    if arguments.list:
        able = [one for one in faults.FAULTS if arguments.mode in (None, *one.modes)]
        rows = [[one.id, ",".join(one.modes), one.says.en] for one in able]
        print(table(["FAULT", "MODES", "WHAT"], rows))
        return 0
    fault = faults.named(arguments.fault or "")
    if fault is None:
        what = f"there is no fault {arguments.fault}" if arguments.fault else "break what?"
        raise LabError(what, "hairpin break --list names them", exit_code=2)
    _change(_lab(arguments, fault), fault, undo=arguments.undo)
    if arguments.undo:
        print(f"{fault.id} is put back")
        return 0
    lab = "" if arguments.lab == "default" else f"--lab {arguments.lab} "
    print("something is broken now; this does not work any more:")
    print(f"  hairpin {lab}trace {said(fault)}")
    print(
        f"to put it back: hairpin {lab}break {fault.id} --undo; to end the lab: hairpin {lab}down"
    )
    return 0


def said(fault: Fault) -> str:
    """The connection as ``hairpin trace`` takes it."""
    ask = fault.ask
    words = [ask.source, ask.to]
    if ask.protocol:
        words += ["--proto", ask.protocol.lower()]
    if ask.port:
        words += ["--port", ask.port]
    if ask.source_port:
        words += ["--source-port", str(ask.source_port)]
    if ask.size:
        words += ["--size", str(ask.size)]
    return " ".join(words)


def _change(client: Client, fault: Fault, *, undo: bool) -> None:
    from hairpin.claims.faults_runner import do

    for act in fault.undo if undo else fault.acts:
        do(client, act)


def _of_mode(fault: Fault, mode: str, remedy: str) -> None:
    """Raises LabError for a fault that this proxy mode cannot have."""
    if mode not in fault.modes:
        what = f"{fault.id} is a fault of {', '.join(fault.modes)} mode, not of {mode}"
        raise LabError(what, remedy, exit_code=2)


def _lab(arguments: argparse.Namespace, fault: Fault) -> Client:
    """The running lab if it is one for faults, else a new one.  Raises LabError."""
    from hairpin.claims import faults_runner
    from hairpin.cli.progress import Progress
    from hairpin.world import directory, lifecycle
    from hairpin.world.client import connect

    path = directory.path_of(arguments.lab)
    if path.exists() and directory.alive(path):
        client = connect(arguments.lab)
        if not faults_runner.is_cast(client):
            raise LabError(
                f"lab {arguments.lab} is not one for faults",
                f"hairpin break {arguments.fault} --lab broken",
                exit_code=2,
            )
        runs = str(client.call("get", kind="proxies")[0]["mode"])
        if arguments.mode not in (None, runs):
            what = f"lab {arguments.lab} runs in {runs} mode"
            raise LabError(what, f"hairpin set mode={arguments.mode}, or --lab NAME", exit_code=2)
        _of_mode(fault, runs, f"hairpin break --list --mode {runs} names those of {runs}")
        return client
    if arguments.undo:
        what = f"no lab named {arguments.lab} is running: there is nothing to put back"
        raise LabError(what, "hairpin ls names those that run; --lab NAME", exit_code=2)
    mode: Mode = arguments.mode or "ipvs"
    _of_mode(fault, mode, f"hairpin break --mode {fault.modes[0]} {fault.id}")
    with Progress() as line:
        line.say("starting a kernel")
        client, owner = lifecycle.start(arguments.lab, "auto", line.say, mode=mode)
        try:
            line.say("building Pods and Services")
            faults_runner.build(client, mode)
            owner.keep()
        finally:
            owner.close()
    return client
