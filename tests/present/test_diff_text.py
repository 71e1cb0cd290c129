"""A difference, as ``hairpin diff`` prints it."""

import pytest

from hairpin.model.address import ip
from hairpin.present.diff_text import diff_lines
from hairpin.state.base import KernelObject
from hairpin.state.change import Change
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import Persistence, RealServer, VirtualServer
from hairpin.state.netfilter import Chain
from hairpin.state.nftables import NftElement, Verdict

VIP = ip("10.96.0.1")
SERVER = VirtualServer(protocol="TCP", ip=VIP, port=80)
STICKY = VirtualServer(protocol="TCP", ip=VIP, port=80, persistence=Persistence(timeout=90))
REAL = RealServer(protocol="TCP", vip=VIP, vport=80, ip=ip("10.0.0.2"), port=8080)
GOING = RealServer(protocol="TCP", vip=VIP, vport=80, ip=ip("10.0.0.2"), port=8080, weight=0)
CHAIN = Chain(table="nat", name="KUBE-X", rules=(("-j", "RETURN"), ("-m", "comment")))
SHORT = Chain(table="nat", name="KUBE-X", rules=(("-j", "RETURN"), ("-j", "DROP")))


@pytest.mark.parametrize(
    ("verb", "after", "before", "lines"),
    [
        ("add", SERVER, None, ["+ virtual server TCP 10.96.0.1:80, rr  (proxy: because)"]),
        (
            "remove",
            SetEntry(set="KUBE-LOOP-BACK", ip=VIP, protocol="TCP", port=80, ip2=VIP),
            None,
            ["- entry 10.96.0.1,tcp:80,10.96.0.1 of KUBE-LOOP-BACK  (proxy: because)"],
        ),
        (
            "set",
            REAL,
            GOING,
            ["~ real server 10.0.0.2:8080, masquerade, weight 1, was weight 0  (proxy: because)"],
        ),
        (
            "set",
            SERVER,
            STICKY,
            ["~ virtual server TCP 10.96.0.1:80, rr, was persistence timeout 90  (proxy: because)"],
        ),
        (
            "set",
            STICKY,
            SERVER,
            ["~ virtual server TCP 10.96.0.1:80, rr, persistent 90 s, was persistence none"
             "  (proxy: because)"],
        ),
        (
            "set",
            CHAIN,
            SHORT,
            [
                "~ chain nat KUBE-X, 2 rules  (proxy: because)",
                "    - -A KUBE-X -j DROP",
                "    + -A KUBE-X -m comment",
            ],
        ),
        (
            "remove",
            SHORT,
            None,
            [
                "- chain nat KUBE-X, 2 rules  (proxy: because)",
                "    - -A KUBE-X -j RETURN",
                "    - -A KUBE-X -j DROP",
            ],
        ),
    ],
)  # fmt: skip
def test_lines(
    verb: str, after: KernelObject, before: KernelObject | None, lines: list[str]
) -> None:
    change = Change(verb=verb, netns="", object=after, before=before, reason="because")  # type: ignore[arg-type]  # a test's shorthand
    assert list(diff_lines([(change, "proxy")])) == lines
    assert next(iter(diff_lines([(change, "")]))) == lines[0].replace("proxy: ", "")
    coloured = list(diff_lines([(change, "proxy")], colour=True))
    assert [line[5:-4] for line in coloured] == lines and coloured[0].startswith("\033[")


def test_where_an_element_led_before() -> None:
    def leads(chain: str) -> NftElement:
        key = (ip("10.96.0.2"), "TCP", 80)
        verdict = Verdict(kind="goto", chain=chain)
        return NftElement(family="ip", table="x", set="service-ips", of=key, verdict=verdict)

    change = Change(verb="set", netns="", object=leads("service-b"), before=leads("service-a"))
    (line,) = diff_lines([(change, "")])
    assert line.endswith(" of service-ips, goto service-b, was goto service-a")
