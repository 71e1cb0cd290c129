"""``hairpin get rules``: what serves a Service, what leads to it, and what is missing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.command import WEB, Hairpin

pytestmark = pytest.mark.host

ABSENT = "    # not in the kernel now"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    """Two Pods behind a Service, in nftables mode on the host's kernel."""
    hairpin = Hairpin(tmp_path_factory.mktemp("run"))
    hairpin.ok("up", "-f", WEB, "--mode", "nftables")
    try:
        yield hairpin
    finally:
        hairpin("down")


def test_wide_leads_from_the_hooks_to_the_service_and_on(web: Hairpin) -> None:
    own, wide = (web.ok("get", "rules", "svc/web", *more) for more in ((), ("-o", "wide")))
    assert set(own.splitlines()) <= set(wide.splitlines())
    way = [
        "type nat hook prerouting ", "jump services", "vmap @service-ips",
        "service-ips: 10.96.0.2 . tcp . 80 : goto service-", " dnat ip to numgen random mod 2 map ",
        "type nat hook postrouting ", "@hairpin-connections masquerade", "hairpin-connections: ",
    ]  # fmt: skip
    places = [wide.index(words) for words in way]
    assert places == sorted(places)
    assert "hook" not in own
    assert "firewall" not in wide  # the Service has no source ranges
    assert ABSENT not in wide


def test_each_mode_in_turn(web: Hairpin) -> None:
    said = web.ok("get", "rules", "svc/web", "--mode", "all")
    heads = [line for line in said.splitlines() if line.startswith("Service default/web on node, ")]
    assert [head.split()[4] for head in heads] == ["ipvs", "iptables", "nftables"]
    assert [head.endswith("mode") for head in heads] == [False, False, True]
    found = json.loads(web.ok("get", "rules", "svc/web", "--mode", "all", "-o", "json"))
    assert [one["mode"] for one in found["items"]] == ["ipvs", "iptables", "nftables"]


def test_what_somebody_took_away_is_marked_line_by_line(web: Hairpin) -> None:
    """The rule of a chain that is still there, and a rule of the frame."""
    chain = next(
        line.split()[1]
        for line in web.ok("get", "rules", "svc/web").splitlines()
        if line.startswith("chain service-") and "/udp/" in line
    )
    own = f"'add rule ip kube-proxy {chain} drop; flush chain ip kube-proxy {chain}'"
    shared = "flush chain ip kube-proxy masquerading"
    for _ in range(3):  # the proxy puts it right when its time has come, which may be now
        web.ok("exec", "node/node", "--", "sh", "-c", f"nft {own} && nft {shared}")
        said = web.ok("get", "rules", "svc/web", "-o", "wide")
        absent = [line for line in said.splitlines() if line.endswith(ABSENT)]
        if len(absent) == 3:
            break
    assert len(absent) == 3, said
    assert absent[0].startswith("  meta l4proto udp dnat ip to numgen ")
    assert "masquerade fully-random" in absent[1]
    assert "@hairpin-connections" in absent[2]


@pytest.mark.parametrize("words", [("-w",), ("-A",), ("-l", "a=b"), ("--show-labels",)])
def test_what_rules_have_no_use_for_is_said(web: Hairpin, words: tuple[str, ...]) -> None:
    ran = web("get", "rules", "svc/web", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        f"hairpin: {words[0]}: rules are of one Service, as they are now",
        "  hairpin get rules svc/NAME [-n NAMESPACE] [--mode M]",
    ]
