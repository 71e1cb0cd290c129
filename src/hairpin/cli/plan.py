"""Print what a node's kernel should hold for Services, and why, touching no kernel.

Reads any cluster's objects (kubectl get nodes,svc,endpointslices -A -o yaml) or what a person
wrote, kube-proxy's configuration file and its flags.  -o json is described in docs/json.md; -o
restore is what the tools that save the kernel's tables print where kube-proxy runs: ipvsadm -Sn,
ipset save, iptables-save and ip6tables-save in IPVS mode, the latter two in iptables mode, nft list
ruleset in nftables mode.

examples:
  hairpin plan -f web.yaml
  hairpin plan -f cluster.yaml --config kube-proxy.yaml --hostname-override node1
  kubectl get nodes,svc,endpointslices -A -o yaml | hairpin plan -f - --hostname-override node1
  hairpin plan -f manifests/ --state dump/ -o restore
  hairpin plan -f web.yaml -o json
  hairpin plan -f web.yaml --mode nftables -o restore
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hairpin.cli import planning

if TYPE_CHECKING:
    from hairpin.cli.planning import Basis
    from hairpin.plan.whole import WholePlan


def arguments(parser: argparse.ArgumentParser) -> None:
    planning.arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "restore"),
        default="text",
        help="for people, for programs, or as the tools that save the kernel's tables print it",
    )


def run(arguments: argparse.Namespace) -> int:
    given = planning.basis(arguments)
    found, problems = planning.planned(given)
    match arguments.output:
        case "json":
            from hairpin.present.plan_json import plan_json

            shown = plan_json(found, given.node, given.config.mode, problems)
            print(json.dumps(shown, indent=2, ensure_ascii=False))
        case "restore":
            from hairpin.present.restore import restore

            objects = [one.object for one in found]
            if given.config.mode == "nftables":
                from hairpin.present import nft

                print(f"### nft list ruleset\n{nft.listing(objects)}", end="", flush=True)
            else:
                print(restore(objects, given.config.mode), end="", flush=True)
            for problem in problems:
                print(f"problem: {problem}", file=sys.stderr)
        case _:
            _print_text(given, found, problems)
    return 0


def _print_text(given: Basis, found: WholePlan, problems: list[str]) -> None:
    from hairpin.cli.terminal import paint
    from hairpin.plan.service_plan import EMPTY
    from hairpin.plan.whole import slices_by_service
    from hairpin.present.plan_text import plan_text
    from hairpin.present.story import tell

    slices = slices_by_service(given.snapshot)
    told = [
        tell(
            service,
            slices.get(key, ()),
            found.plans.get(key, EMPTY),
            given.node,
            planning.fronts(given, service, slices.get(key, ())),
        )
        for key, service in given.snapshot.services.items()
    ]
    mode = given.config.mode
    for number, block in enumerate(plan_text(told, found, given.node, problems, paint(), mode)):
        print(f"\n{block}" if number else block)
