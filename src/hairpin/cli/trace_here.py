"""``hairpin trace here``: the same on a real node, for traffic of the node's own namespace.

Services are read from files or from the API server; what is looked at is this node's kernel and
the namespaces that its links lead to.  What goes on to other machines is said to have left.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from hairpin.cli.progress import Progress
from hairpin.kernel.linked import adopt_linked
from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.claims.tracing import Aim, Question
    from hairpin.cli.planning import Basis
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.reactor import Reactor
    from hairpin.lab.probe import Probe
    from hairpin.lab.watching import View
    from hairpin.model.address import IP
    from hairpin.model.configuration import Mode
    from hairpin.model.snapshot import Snapshot
    from hairpin.trace.observation import Astray, Observation, Role, Tried
    from hairpin.trace.values import Mend, Trace

DOING = "connecting, and reading what became of it"
WORD = "here"
"""What the node is called as FROM, and its namespace in a Trace."""
_PROXYS = ("not-programmed", "real-servers-missing", "vip-not-local")
_MANY = 4  # lines of shell
_MOST = 64  # linked namespaces that are all listened at; else only those that may be concerned


def arguments(parser: argparse.ArgumentParser) -> None:
    """What only ``here`` takes."""
    group = parser.add_argument_group("on a real node, FROM being here")
    group.add_argument("-f", "--filename", dest="files", metavar="FILE|DIR|-", action="append",
                       help="manifests with the Services; may be repeated")  # fmt: skip
    group.add_argument("--kubeconfig", dest="flag_kubeconfig", metavar="FILE",
                       help="or the API server that has them")  # fmt: skip
    group.add_argument("--hostname-override", dest="flag_hostname-override", metavar="NODE",
                       help="the Node's name, where it is not the machine's")  # fmt: skip
    group.add_argument("--config", metavar="FILE", help="kube-proxy's configuration")
    group.add_argument("--mode", choices=("ipvs", "nftables", "iptables"),
                       help="the proxy's, else what the kernel shows")  # fmt: skip


def traced(arguments: argparse.Namespace, question: Question) -> tuple[Observation, Trace]:
    """Makes the connection and says what became of it.

    Raises LabError, ManifestError, KernelError, OSError.
    """
    from hairpin.claims.tracing import aim_of
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netns import Netns
    from hairpin.trace.reason import reason

    if os.geteuid():
        raise LabError("trace here needs root", "run it with sudo", exit_code=2)
    kernel = Kernel()
    with ExitStack() as stack:
        stack.callback(kernel.close)
        kernel.adopt(Netns.current(WORD))
        given = _basis(arguments, kernel)
        aim = aim_of(given.snapshot, question)
        with Progress() as line:
            line.say(DOING)
            found = _observe(kernel, given, aim, question)
    trace = reason(found, given.snapshot, question.source, question.to)
    return found, _onward(_mended_here(trace, _audit(arguments)), given.snapshot)


def _basis(arguments: argparse.Namespace, kernel: Kernel) -> Basis:
    """The objects, the configuration and the node."""
    from hairpin.cli import planning
    from hairpin.plan.ipvs import LINK

    if bool(arguments.files) == bool(arguments.flag_kubeconfig):
        both = "both -f and --kubeconfig are given" if arguments.files else "which Services?"
        raise LabError(both, "say -f FILE, or --kubeconfig FILE", exit_code=2)
    arguments.strict, arguments.state = False, None
    kubeconfig, arguments.flag_kubeconfig = (
        arguments.flag_kubeconfig,
        None,
    )  # no flag of the proxy's
    arguments.cluster = kubeconfig
    config = planning.configured(arguments)
    mode = arguments.mode or config.mode or _mode(kernel)
    own = [one.ip for one in kernel.observe_addresses(WORD) if one.link != LINK]
    if kubeconfig:
        from hairpin.cli.cluster import from_cluster

        given = from_cluster(kubeconfig, config, own)
    else:
        # Without the mode, so that nothing is said of what only a plan in nftables mode lacks.
        unsaid = msgspec.structs.replace(config, mode="iptables")
        given = planning.basis(arguments, config=unsaid, addresses=own)
    return msgspec.structs.replace(given, config=msgspec.structs.replace(config, mode=mode))


def _mode(kernel: Kernel) -> Mode:
    """By what each mode cannot be without; iptables where nothing is there."""
    from hairpin.plan.ipvs import LINK
    from hairpin.plan.nft_names import TABLE as NFT_TABLE

    if kernel.observe_link(WORD, LINK) is not None:
        return "ipvs"
    if any(one.name == NFT_TABLE for one in kernel.nft_tables(WORD, "ip")):
        return "nftables"
    return "iptables"


def _observe(kernel: Kernel, given: Basis, aim: Aim, question: Question) -> Observation:
    """Makes the connection, listening here and in the namespaces that are linked."""
    from hairpin.claims.tracing import concerned, probe_of
    from hairpin.lab.probe import Probe
    from hairpin.lab.watching import View
    from hairpin.model.address import from_builtin
    from hairpin.plan.whole import plan

    ports = set(concerned(given.snapshot, aim)["ports"])
    view = View(netns=WORD, who=dict(_who(kernel, given, aim)), partial=True)
    probe = msgspec.convert(probe_of(aim, question), Probe, dec_hook=from_builtin)
    found = _watched(kernel, view, probe, ports)
    few = _of_target(given.snapshot, found.tried)
    if few is None:
        return found
    wanted = tuple(plan(few, given.config, given.node, WORD))
    failed = found.tried.outcome != "answered"
    lacking = tuple(_lacking(kernel, given, few)) if failed else ()
    return msgspec.structs.replace(found, wanted=wanted, astray=lacking)


def _watched(kernel: Kernel, view: View, probe: Probe, ports: set[int]) -> Observation:
    from hairpin.kernel.reactor import Reactor
    from hairpin.lab.watching import Watching

    seen: list[Observation] = []
    wrong: list[BaseException] = []

    def failed(error: BaseException) -> None:
        wrong.append(error)
        reactor.stop()

    def done(found: Observation) -> None:
        seen.append(found)
        reactor.stop()

    reactor: Reactor = Reactor(failed)
    watching = Watching(reactor, kernel, view, probe, ports)
    try:
        watching.start(done)
        reactor.run()
    finally:
        watching.close()
    if wrong:
        raise wrong[0]
    return seen[0]


def _who(kernel: Kernel, given: Basis, aim: Aim) -> Iterable[tuple[str, tuple[Role, str, str]]]:
    """The namespaces that are looked at: role, name, and the node of a Pod."""
    yield WORD, ("node", given.node.name, "")
    linked = adopt_linked(kernel, WORD)
    pods = _pods(given.snapshot)
    for name in linked:
        own = [one.ip for one in kernel.observe_addresses(name)]
        pod = next((pods[one] for one in own if one in pods), None)
        if len(linked) > _MOST and pod is None and aim.ip not in own:
            continue
        yield name, ("pod", pod, WORD) if pod else ("other", name, WORD)


def _pods(snapshot: Snapshot) -> dict[IP, str]:
    """Whose each address is: ``namespace/name``.  The API server is not asked for Pods."""
    found = {
        end: f"{one.target_ref.namespace or piece.metadata.namespace}/{one.target_ref.name}"
        for piece in snapshot.endpointslices.values()
        for one in piece.endpoints
        if one.target_ref is not None and one.target_ref.kind == "Pod"
        for end in one.addresses
    }
    for key, pod in snapshot.pods.items():
        found.update((one.ip, "/".join(key)) for one in pod.status.pod_ips)
    return found


def _of_target(every: Snapshot, tried: Tried) -> Snapshot | None:
    """The Service that was asked, its endpoints and the Nodes; None where it was none."""
    from hairpin.model.snapshot import Snapshot
    from hairpin.trace.case import target_of

    target = target_of(tried, every)
    if target is None:
        return None
    key = target.service.key
    slices = [one for one in every.endpointslices.values() if one.service_key == key]
    return Snapshot((*every.nodes.values(), target.service, *slices))


def _lacking(kernel: Kernel, given: Basis, few: Snapshot) -> Iterable[Astray]:
    """What the kernel does not have at all of what the Service asks for.

    What it has in another form may be so by a configuration that nobody has told us.
    """
    from hairpin.kernel.errors import KernelError
    from hairpin.mode.compare import compare
    from hairpin.present.shell import commands
    from hairpin.trace.observation import Astray

    node = given.node
    try:
        found = compare(
            kernel, WORD, given.config, node.name, few, node.addresses, node.service_cidrs
        )
    except (KernelError, OSError):  # this kernel has nothing of that mode
        return
    for change, owner in zip(found.changes, found.owners, strict=True):
        if change.verb == "add" and owner.startswith("service "):
            yield Astray(change=change, owner=owner, shell=tuple(commands(change, WORD)))


def _onward(trace: Trace, snapshot: Snapshot) -> Trace:
    """With a word on where to look further, where the packet was lost beyond this machine."""
    from hairpin.trace.values import at

    steps = [step for leg in trace.legs[:1] for hop in leg.hops for step in hop.steps]
    if trace.disposition != "lost" or not steps or steps[-1].kind != "left":
        return trace
    to = next((step.after for step in reversed(steps) if step.after is not None), None)
    for piece in snapshot.endpointslices.values():
        for one in piece.endpoints:
            if to is not None and to.destination in one.addresses and one.node_name:
                where = at(to.destination, to.destination_port)
                note = f"to look further, on node {one.node_name}: hairpin trace here {where}"
                return msgspec.structs.replace(trace, notes=(*trace.notes, note))
    return trace


def _audit(arguments: argparse.Namespace) -> str:
    """The command that judges all that a proxy made here, by the same Services."""
    words = ["--kubeconfig", arguments.cluster] if arguments.cluster else []
    for file in arguments.files or ():
        words += ["-f", file]
    node = getattr(arguments, "flag_hostname-override")
    for name, value in (("--config", arguments.config), ("--hostname-override", node),
                        ("--mode", arguments.mode)):  # fmt: skip
        words += [name, value] if value else []
    return f"hairpin audit {shlex.join(words)}"


def _mended_here(trace: Trace, audit: str) -> Trace:
    """With mends for this machine: what is for a lab alone goes, and a shell line says where.

    Where a proxy's objects are missing in numbers, it is the proxy that has to be looked after.
    """
    cause = trace.cause
    if cause is None:
        return trace
    mend = _shell_alone(cause.mend)
    if cause.id in _PROXYS and mend.shell.count("; ") >= _MANY:
        mend = msgspec.structs.replace(mend, hairpin=audit, shell="")
    return msgspec.structs.replace(trace, cause=msgspec.structs.replace(cause, mend=mend))


def _shell_alone(mend: Mend) -> Mend:
    shell, on = mend.shell, mend.on
    if on and on != WORD and shell:
        enter = f"nsenter --net={on}" if on.startswith("/") else f"ip netns exec {on}"
        several = any(letter in shell for letter in "|&;<>$*")
        shell = f"{enter} sh -c {shlex.quote(shell)}" if several else f"{enter} {shell}"
    return msgspec.structs.replace(mend, hairpin="", shell=shell, on="")
