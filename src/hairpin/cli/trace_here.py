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
    from hairpin.state.change import Wanted
    from hairpin.trace.observation import Observation, Role, Tried
    from hairpin.trace.values import Mend, Trace

WORD = "here"
"""What the node is called as FROM, and its namespace in a Trace."""
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
        found = _observe(kernel, given, aim, question)
    trace = reason(found, given.snapshot, question.source, question.to)
    return found, _mended_here(trace)


def _basis(arguments: argparse.Namespace, kernel: Kernel) -> Basis:
    """The objects, the configuration and the node."""
    from hairpin.cli import planning
    from hairpin.plan.ipvs import LINK

    if bool(arguments.files) == bool(arguments.flag_kubeconfig):
        both = "both -f and --kubeconfig are given" if arguments.files else "which Services?"
        raise LabError(both, "say -f FILE, or --kubeconfig FILE", exit_code=2)
    arguments.strict, arguments.state = False, None
    kubeconfig, arguments.flag_kubeconfig = arguments.flag_kubeconfig, None
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

    ports = set(concerned(given.snapshot, aim)["ports"])
    view = View(netns=WORD, who=dict(_who(kernel, given, aim)), partial=True)
    probe = msgspec.convert(probe_of(aim, question), Probe, dec_hook=from_builtin)
    found = _watched(kernel, view, probe, ports)
    return msgspec.structs.replace(found, wanted=_wanted(given, found.tried))


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


def _wanted(given: Basis, tried: Tried) -> tuple[Wanted, ...]:
    """What a proxy makes here for the Service alone, and for all together."""
    from hairpin.model.snapshot import Snapshot
    from hairpin.plan.whole import plan
    from hairpin.trace.case import target_of

    every = given.snapshot
    target = target_of(tried, every)
    if target is None:
        return ()
    key = target.service.key
    slices = [one for one in every.endpointslices.values() if one.service_key == key]
    few = Snapshot((*every.nodes.values(), target.service, *slices))
    return tuple(plan(few, given.config, given.node, WORD))


def _mended_here(trace: Trace) -> Trace:
    """With mends for this machine: what is for a lab alone goes, and a shell line says where."""
    cause = trace.cause
    if cause is None:
        return trace
    mend = _shell_alone(cause.mend)
    return msgspec.structs.replace(trace, cause=msgspec.structs.replace(cause, mend=mend))


def _shell_alone(mend: Mend) -> Mend:
    shell, on = mend.shell, mend.on
    if on and on != WORD and shell:
        enter = f"nsenter --net={on}" if on.startswith("/") else f"ip netns exec {on}"
        several = any(letter in shell for letter in "|&;<>$*")
        shell = f"{enter} sh -c {shlex.quote(shell)}" if several else f"{enter} {shell}"
    return msgspec.structs.replace(mend, hairpin="", shell=shell, on="")
