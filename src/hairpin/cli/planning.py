"""What ``plan`` and ``diff`` share: manifests, kube-proxy's configuration and flags, the node, and
what follows from them.  No kernel is changed here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hairpin.cli import recorded
from hairpin.cli.recorded import STATE_FILE, VIP_LINK
from hairpin.cli.this_kernel import HERE
from hairpin.lab.session import LabError
from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration, Mode
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import ObjectMeta
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object, Snapshot
from hairpin.plan.node import NodeFacts, node_facts
from hairpin.plan.whole import WholePlan, plan
from hairpin.source import configuration

if TYPE_CHECKING:
    from hairpin.present.story import Reached
    from hairpin.source.manifests import Loaded

_MODES = ("ipvs", "nftables", "iptables")
_STATE_HELP = f"take the node's addresses from DIR/{STATE_FILE} (ip -j addr), not from this kernel"
_ANY_NODE = "node"  # as a lab has it where no manifest says one
_SHOWN = 8  # names of Nodes in an error; the rest are counted

_NO_CIDRS = (
    "no ServiceCIDR is among the manifests (kubectl get servicecidrs -o yaml): what drops traffic "
    "to ClusterIPs of nobody is left out"
)


class Basis(msgspec.Struct, frozen=True):
    """What is planned from."""

    snapshot: Snapshot
    config: KubeProxyConfiguration
    node: NodeFacts
    problems: tuple[str, ...]  # of objects that were passed over


def arguments(
    parser: argparse.ArgumentParser,
    *,
    required: bool = True,
    modes: Sequence[str] = _MODES,
    mode_help: str = "how Services are carried (what --config says, without a file ipvs)",
    state_help: str = _STATE_HELP,
) -> None:
    """``-f`` (``required`` or not), ``--strict``, ``--config``, ``--state``, kube-proxy's flags;
    ``modes`` are what ``--mode`` takes."""
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE|DIR|-",
        action="append",
        required=required,
        help="manifests: a file, a folder, or - for standard input; may be repeated",
    )
    parser.add_argument(
        "--strict", action="store_true", help="what would be passed over is an error"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="kube-proxy's configuration (KubeProxyConfiguration)"
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        help=state_help,
    )
    parser.add_argument(
        "--mode",
        "--proxy-mode",
        dest="mode",
        choices=modes,
        help=mode_help,
    )
    add_flags(parser, without=("proxy-mode",))


def add_flags(parser: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """kube-proxy's flags, which ``flags_of`` finds again."""
    group = parser.add_argument_group("kube-proxy's own flags, as it takes them")
    for name, flag in configuration.FLAGS.items():
        if name not in without:
            _add_flag(group, name, flag)


def _add_flag(group: argparse._ArgumentGroup, name: str, flag: configuration.Flag) -> None:
    given: dict[str, Any] = {"dest": f"flag_{name}", "help": flag.help.replace("%", "%%")}
    if flag.metavar is None:  # true or false, and true where nothing follows
        given |= {"nargs": "?", "const": "true", "metavar": "true|false"}
    else:
        given |= {"metavar": flag.metavar, "choices": flag.choices or None}
    group.add_argument(f"--{name}", **given)


def basis(
    arguments: argparse.Namespace,
    node: str = "",
    *,
    config: KubeProxyConfiguration | None = None,
    addresses: Iterable[IP] | None = None,
) -> Basis:
    """Reads everything and says what is passed over.

    ``node`` is planned for where nothing says another.  ``config`` and the node's ``addresses``
    are read unless they are given.  Raises ManifestError, LabError, OSError.
    """
    from hairpin.source.cluster import admit
    from hairpin.source.manifests import load
    from hairpin.source.settings import PLAN

    if config is None:
        config = _configuration(arguments)
    loaded = load(arguments.files, stdin=sys.stdin, strict=arguments.strict, whole=True)
    _warn(loaded.warnings)
    name = config.hostname_override or node or node_name(loaded.objects)
    objects, nodes = loaded.objects, Snapshot(loaded.objects).nodes
    if not nodes:  # else admission would imply one by another name, and put Pods there
        objects = (*objects, Node(metadata=ObjectMeta(name=name)))
    elif ("", name) not in nodes:
        known = _listed(key[1] for key in nodes)
        _warn([f"there is no Node {name} among the manifests ({known}): its zone is not known"])
    snapshot = admit(objects, settings=PLAN, where=loaded.where)
    known_as = snapshot.nodes.get(("", name))
    cidrs = loaded.service_cidrs
    if addresses is None and arguments.state:
        addresses = recorded.addresses(Path(arguments.state))
        if not cidrs and config.mode == "nftables":
            cidrs = recorded.service_cidrs(Path(arguments.state))
    elif addresses is None:
        addresses = _of_this_kernel()
    if not cidrs and not any(thing.metadata.stored for thing in loaded.objects):
        cidrs = PLAN.service_cidrs  # no cluster has had them: addresses come from there
    facts = node_facts(name, known_as, addresses, cidrs)
    if config.mode == "nftables" and not facts.service_cidrs:
        _warn([_NO_CIDRS])
    return Basis(snapshot, config, facts, _problems(loaded))


def basis_of_cluster(arguments: argparse.Namespace, kubeconfig: str) -> Basis:
    """As ``basis``, the objects being those of the API server now.

    Raises ManifestError, LabError, OSError.
    """
    from hairpin.cli.cluster import from_cluster

    arguments.flag_kubeconfig = None  # beside --config it is no flag of kube-proxy's here
    config = _configuration(arguments, "iptables")  # as kube-proxy and hairpin proxy on a node
    addresses = recorded.addresses(Path(arguments.state)) if arguments.state else _of_this_kernel()
    return from_cluster(kubeconfig, config, addresses)


def planned(given: Basis) -> tuple[WholePlan, list[str]]:
    """What follows, and everything that is not served.  Pure."""
    found = plan(given.snapshot, given.config, given.node, HERE)
    problems = [*given.problems, *found.problems]
    for (namespace, name), lines in found.conflicts.items():
        problems += [f"Service {namespace}/{name}: {line}" for line in lines]
    return found, problems


def fronts(
    given: Basis, service: Service, slices: Sequence[EndpointSlice]
) -> dict[tuple[str, str], list[Reached]] | None:
    """Where a Service is reached; None in IPVS mode, whose objects say so themselves."""
    if given.config.mode == "ipvs":
        return None
    from hairpin.plan.frontends import Place, resolve
    from hairpin.plan.local_traffic import node_port_addresses
    from hairpin.present.story import of_ports

    resolved = resolve(Place(given.node.name, given.node.zone), service, slices)
    return of_ports(resolved.ports, node_port_addresses(given.config, given.node))


def node_name(objects: Sequence[Object]) -> str:
    """The only node that the objects know.  Raises LabError where there are several."""
    known = {key[1] for key in Snapshot(objects).nodes} or set(_named_nodes(objects))
    if len(known) <= 1:
        return known.pop() if known else _ANY_NODE
    raise LabError(
        f"which node is to be planned for? there are {_listed(sorted(known))}",
        "say --hostname-override NODE",
        exit_code=2,
    )


def _named_nodes(objects: Iterable[Object]) -> Iterator[str]:
    """The nodes that Pods and endpoints say they are on."""
    for thing in objects:
        if isinstance(thing, Pod) and thing.spec.node_name:
            yield thing.spec.node_name
        elif isinstance(thing, EndpointSlice):
            yield from (end.node_name for end in thing.endpoints if end.node_name)


def flags_of(arguments: argparse.Namespace) -> dict[str, str]:
    """kube-proxy's flags that were given."""
    return {
        name: value
        for name in configuration.FLAGS
        if (value := getattr(arguments, f"flag_{name}", None)) is not None
    }


def configured(arguments: argparse.Namespace) -> KubeProxyConfiguration:
    """What the configuration file and the flags say, the mode as it is.  Raises ManifestError."""
    flags = flags_of(arguments)
    warnings: list[str] = []
    config = configuration.load(arguments.config, flags, warnings=warnings, strict=arguments.strict)
    _warn(warnings)
    return config


def _configuration(arguments: argparse.Namespace, default: Mode = "ipvs") -> KubeProxyConfiguration:
    """``default`` is the mode where neither a flag nor a file says one."""
    config = configured(arguments)
    return msgspec.structs.replace(config, mode=arguments.mode or config.mode or default)


def _problems(loaded: Loaded) -> tuple[str, ...]:
    return tuple(error.headline for error in loaded.problems)


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more


# The node's addresses


def _of_this_kernel() -> list[IP]:
    """Those of this network namespace, without kube-ipvs0's.  No right is needed.

    Raises OSError.
    """
    from hairpin.kernel import links_seen
    from hairpin.kernel.netlink_socket import NetlinkSocket
    from hairpin.netlink.link import NETLINK_ROUTE
    from hairpin.state.links import Address

    socket = NetlinkSocket(NETLINK_ROUTE)
    try:
        seen = links_seen.observe(socket, {}, derived=True)
    finally:
        socket.close()
    return [one.ip for one in seen if isinstance(one, Address) and one.link != VIP_LINK]
