"""Hold a node's kernel against what its Services ask: what is missing, extra, wrong or left over.

The kernel is this one, in the network namespace that hairpin is started in (as root), whoever
programmed it: hairpin or kube-proxy, in any mode; or with --state what was collected of one before.
Each finding says whose it is, what it means for traffic and what mends it.  Nothing in the kernel
is changed.  Exit code 0 for a clean node, 1 for findings, 2 where it could not be judged.

examples:
  hairpin audit --kubeconfig /etc/kubernetes/kubelet.conf --config kube-proxy.yaml
  hairpin audit -f cluster.yaml --hostname-override node1
  hairpin audit --collect dump/
  hairpin audit -f cluster.yaml --config kube-proxy.yaml --state dump/ -o json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hairpin.audit.report import NOT_JUDGED
from hairpin.cli import collect, planning
from hairpin.lab.session import LabError
from hairpin.model.errors import ManifestError
from hairpin.plan.ipvs import LINK

if TYPE_CHECKING:
    from hairpin.audit.case import Case
    from hairpin.audit.held import Held
    from hairpin.audit.report import Report
    from hairpin.model.address import IP
    from hairpin.model.configuration import KubeProxyConfiguration, Mode
    from hairpin.model.snapshot import Snapshot

_NO_ADDRESSES = "without the node's addresses {} cannot be judged: "
_WHOLE = "all are needed: kubectl get nodes,services,endpointslices -A -o yaml"
_MODES = ("auto", "ipvs", "nftables", "iptables")


def arguments(parser: argparse.ArgumentParser) -> None:
    planning.arguments(
        parser,
        required=False,
        modes=_MODES,
        mode_help="the proxy's (auto: what --config says, else what is in the kernel)",
        state_help="judge what was collected in DIR (--collect), instead of this kernel",
    )
    parser.add_argument(
        "--collect", metavar="DIR", help="write what this kernel holds into DIR, for --state"
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="for people, or for programs",
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        return _run(arguments)
    except LabError as error:
        raise LabError(error.message, error.remedy, exit_code=NOT_JUDGED) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise LabError(f"{where}{error.strerror or error}", exit_code=NOT_JUDGED) from None


def _run(arguments: argparse.Namespace) -> int:
    if arguments.collect:
        return _collect(arguments)
    if arguments.files and arguments.flag_kubeconfig:
        raise LabError("both -f and --kubeconfig are given", "say one of them")
    found = _report(arguments)
    if arguments.output == "json":
        from hairpin.audit.text import as_json

        print(json.dumps(as_json(found), indent=2, ensure_ascii=False))
    else:
        from hairpin.audit.text import lines
        from hairpin.cli.terminal import colours

        for line in lines(found, colour=colours()):
            print(line)
    return found.exit_code


def _collect(arguments: argparse.Namespace) -> int:
    """What could not be read is named; it is no failure while something could."""
    if arguments.state:
        raise LabError("--collect reads this kernel, --state a folder", "say one of them")
    texts, _ = collect.this_kernel(files=True)
    written = collect.write(texts, Path(arguments.collect))
    for name in written:
        print(Path(arguments.collect) / name)
    for part, text in texts.items():
        if isinstance(text, OSError):
            print(f"warning: {part}: {text.strerror or text}", file=sys.stderr)
    return 0


def _report(arguments: argparse.Namespace) -> Report:
    from hairpin.audit.judge import report

    case, _, problems = case_for(arguments)
    return report(case, problems)


def case_for(arguments: argparse.Namespace) -> tuple[Case, Snapshot, Sequence[str]]:
    """What is to be judged, what it is judged by, and the problems of objects passed over.

    Raises ManifestError, LabError, OSError.
    """
    from hairpin.audit.dump import held
    from hairpin.audit.judge import case_of

    kubeconfig = arguments.flag_kubeconfig
    arguments.flag_kubeconfig = None  # to kube-proxy it counts for nothing beside --config
    config = planning.configured(arguments)
    kubeconfig = kubeconfig or config.client_connection.kubeconfig
    if not arguments.files and not kubeconfig:
        raise LabError("which Services?", "say --kubeconfig FILE, or -f FILE with manifests")
    for name in arguments.files or ():
        if name != "-":
            Path(name).stat()  # a slip of the pen is told before anything of the kernel
    files = bool(arguments.state)
    if files:
        seen = held(collect.folder(Path(arguments.state)))
    else:
        texts, nftables = collect.this_kernel(files=False)
        seen = held(texts, files=False, nftables=nftables)
    config = msgspec.structs.replace(config, mode=_mode(arguments, config, seen))
    addresses = _addresses(seen, config)
    if not arguments.files:
        from hairpin.cli.cluster import from_cluster

        given = from_cluster(kubeconfig, config, addresses)
    else:
        given = _without_guess(planning.basis(arguments, config=config, addresses=addresses or ()))
        _complete(given)
    if addresses is None:
        given = _with_said_addresses(given, seen)
    case = case_of(given.snapshot, given.config, given.node, seen)
    return case, given.snapshot, given.problems


def _complete(given: planning.Basis) -> None:
    """Raises LabError for manifests in which a cluster's Services or endpoints are missing: nearly
    all that is in the kernel would be a finding."""
    snapshot = given.snapshot
    if not snapshot.services:
        raise LabError("no Service is among the manifests", _WHOLE, exit_code=NOT_JUDGED)
    slices = snapshot.endpointslices.values()
    if not snapshot.pods and not any(one.endpoints or one.metadata.stored for one in slices):
        raise LabError(
            "neither an EndpointSlice with endpoints nor a Pod is among the manifests",
            _WHOLE,
            exit_code=NOT_JUDGED,
        )
    node = snapshot.nodes.get(("", given.node.name))
    if node is None or not (node.metadata.stored or node.status.addresses):
        print(
            f"warning: there is no Node {given.node.name} among the manifests: what depends on its "
            "zone, Pod CIDRs and addresses may be told wrongly",
            file=sys.stderr,
        )


def _with_said_addresses(given: planning.Basis, seen: Held) -> planning.Basis:
    """The node has those that its Node object says.  Raises ManifestError where it says none."""
    said = given.node.node_ips
    if not said:
        why = _NO_ADDRESSES.format("a Node that says none") + seen.unread["addresses"]
        raise ManifestError(why)
    node = msgspec.structs.replace(given.node, addresses=said)
    return msgspec.structs.replace(given, node=node)


def _without_guess(given: planning.Basis) -> planning.Basis:
    """Networks of ClusterIPs that manifests of no cluster get are none of a cluster's."""
    from hairpin.source.settings import PLAN

    if given.node.service_cidrs != PLAN.service_cidrs:
        return given
    node = msgspec.structs.replace(given.node, service_cidrs=())
    return msgspec.structs.replace(given, node=node)


def _mode(arguments: argparse.Namespace, config: KubeProxyConfiguration, seen: Held) -> Mode:
    """What is said, else what the configuration says, else what the kernel shows."""
    from hairpin.audit.mode_seen import modes_seen

    if arguments.mode in _MODES[1:]:
        said: Mode = arguments.mode
        return said
    if config.mode:
        return config.mode
    there = modes_seen(seen)
    if there:
        return there[0]
    if arguments.config:
        return "iptables"  # kube-proxy's own default
    where = arguments.state or "this kernel"
    other = "" if arguments.state else "; or is this the node's network namespace?"
    raise LabError(
        f"no proxy's objects are in {where}, of any mode",
        f"say --mode for what should be there{other}",
        exit_code=NOT_JUDGED,
    )


def _addresses(seen: Held, config: KubeProxyConfiguration) -> list[IP] | None:
    """The node's.  None where nobody knows and those of its Node object are enough.

    Raises ManifestError where they are not.
    """
    if seen.knows("addresses"):
        return [one.ip for one in seen.addresses if one.link != LINK]
    if config.mode == "ipvs":
        asks = "IPVS mode"
    elif any(one != "primary" for one in config.node_port_addresses):
        asks = "nodePortAddresses"
    else:
        return None
    raise ManifestError(_NO_ADDRESSES.format(asks) + seen.unread["addresses"])
