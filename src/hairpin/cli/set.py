"""Switch ingredients of the running lab on or off, change its proxies' mode, or make a link worse
than it is.

An ingredient is one condition that Service traffic needs; hairpin get ingredients lists them, and
the commands that would do the same are shown.  A link is a Pod's or a node's; what is done to it
is no object's, and ends with the link.

examples:
  hairpin set masquerade=off
  hairpin set hairpin=promisc br-netfilter=on
  hairpin set mode=nftables            how Services are carried: ipvs, iptables or nftables; the
                                       new mode serves before the old one goes
  hairpin set link/foo delay=50ms loss=1%   a Pod's link, each way
  hairpin set link/foo mtu=1400
  hairpin set link/n2 down             a node's uplink: after 40 s (notice=1s: sooner) the node
                                       counts as lost, and its Pods as not ready
  hairpin set link/n2 none             as it was
"""

from __future__ import annotations

import argparse

from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="+", metavar="INGREDIENT=on|off | link/NAME ...")
    parser.add_argument("-n", "--namespace", default="default", help="of the Pod whose link it is")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    if arguments.settings[0].startswith("link/"):
        return _link(arguments)
    wanted = {}
    for word in arguments.settings:
        name, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"{word}: say what to set it to", f"hairpin set {word}=on", exit_code=2)
        wanted[name] = value
    client = connect(arguments.lab)
    answer = client.call("set", ingredients=wanted)
    for line in answer["commands"]:
        print(f"  {line}")
    print(", ".join(f"{name} is {value}" for name, value in wanted.items()))
    return 0


def _link(arguments: argparse.Namespace) -> int:
    from hairpin.cli.impairment import settings
    from hairpin.world.client import connect

    name = arguments.settings[0].removeprefix("link/")
    said = settings(arguments.settings[1:])
    client = connect(arguments.lab)
    answer = client.call("link", name=name, namespace=arguments.namespace, settings=said)
    state = answer["link"]
    print(f"link/{name} is {'as it was made' if state == 'none' else state}")
    return 0
