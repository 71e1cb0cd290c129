"""Proxy modes of a running lab: each serves, and one takes over from another without a gap."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import SEED, Hairpin

_VIP = "172.23.0.1"
_ASK = (
    "import socket,sys,time\n"
    "end=time.monotonic()+float(sys.argv[1]); good=bad=0\n"
    "while time.monotonic()<end:\n"
    "    s=socket.socket(); s.settimeout(2)\n"
    "    try:\n"
    f"        s.connect(('{_VIP}',8080)); good+=1\n"
    "    except OSError as error:\n"
    "        bad+=1; print(error)\n"
    "    s.close(); time.sleep(0.002)\n"
    "print(good, bad)\n"
)


@contextmanager
def up(folder: Path, *options: str) -> Iterator[Hairpin]:
    hairpin = Hairpin(folder)
    hairpin.ok("up", "-f", SEED, *options)
    try:
        yield hairpin
    finally:
        hairpin("down")


def mode(hairpin: Hairpin) -> str:
    (one,) = json.loads(hairpin.ok("get", "proxy", "-o", "json"))["items"]
    assert one["synced"], one
    return str(one["mode"])


def switched(hairpin: Hairpin, to: str, seconds: float) -> None:
    """Changes the mode while a client connects all the time: no connection may fail."""
    said: list[str] = []
    words = ("exec", "foo", "--", "python3", "-c", _ASK, str(seconds))
    client = threading.Thread(target=lambda: said.append(hairpin.ok(*words)))
    client.start()
    hairpin.ok("set", f"mode={to}")
    client.join()
    good, bad = said[0].split()[-2:]
    assert int(good) > 10
    assert bad == "0", said[0]
    assert mode(hairpin) == to


def tables(hairpin: Hairpin) -> str:
    """All that is left of IPVS and of iptables mode in the node."""
    words = "ipvsadm -Sn; ipset save; ip -br link; iptables-save; ip6tables-save"
    return hairpin.ok("exec", "node/node", "--", "sh", "-c", words)


@pytest.mark.guest
def test_iptables_and_ipvs_take_turns_in_the_guest(tmp_path: Path) -> None:
    with up(tmp_path, "--kernel", "guest", "--mode", "iptables") as hairpin:
        assert mode(hairpin) == "iptables"
        assert "KUBE-SEP-" in tables(hairpin)
        switched(hairpin, "ipvs", 5)
        left = tables(hairpin)
        assert f"-A -t {_VIP}:8080" in left
        for name in ("KUBE-SEP-", "KUBE-SVC-", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"):
            assert name not in left
        switched(hairpin, "iptables", 5)
        left = tables(hairpin)
        for name in ("kube-ipvs0", "-A -t", "KUBE-LOOP-BACK", "KUBE-IPVS", "KUBE-NODE-PORT "):
            assert name not in left
        refused = hairpin("set", "mode=nftables")
        assert refused.code == 2
        assert "no nf_tables" in refused.err
        assert mode(hairpin) == "iptables"


@pytest.mark.host
def test_iptables_and_nftables_take_turns_on_the_host(tmp_path: Path) -> None:
    with up(tmp_path, "--kernel", "host", "--mode", "nftables") as hairpin:
        listed = ("exec", "node/node", "--", "nft", "list", "tables")
        assert "table ip kube-proxy" in hairpin.ok(*listed)
        switched(hairpin, "iptables", 2)
        assert "kube-proxy" not in hairpin.ok(*listed)
        ingredients = json.loads(hairpin.ok("get", "ingredients", "-o", "json"))["items"]
        values = {one["name"]: one["value"] for one in ingredients}
        assert (values["vip-local"], values["masquerade"]) == ("absent", "on")
        switched(hairpin, "nftables", 2)
        saved = hairpin.ok("exec", "node/node", "--", "sh", "-c", "iptables-save; ip6tables-save")
        assert "KUBE" not in saved
        assert hairpin.ok("diff", "--node", "node") == ""
        rules = hairpin.ok("get", "rules", "svc/web")
        assert f"service-ips: {_VIP} . tcp . 8080" in rules
        assert "not in the kernel" not in rules
        other = hairpin.ok("get", "rules", "svc/web", "--mode", "iptables")
        assert "not running" in other
        assert "# the endpoint: the packet's new destination" in other
        told = json.loads(hairpin.ok("get", "rules", "svc/web", "--mode", "ipvs", "-o", "json"))
        assert (told["mode"], told["running"]) == ("ipvs", "nftables")
        lines = [one["line"] for one in told["nodes"][0]["lines"]]
        assert f"-A -t {_VIP}:8080 -s rr" in lines


@pytest.mark.host
def test_the_legacy_variant_on_the_host(tmp_path: Path) -> None:
    with up(tmp_path, "--kernel", "host", "--mode", "iptables", "--iptables", "legacy") as hairpin:
        words = ("exec", "node/node", "--", "iptables-legacy-save")
        assert "KUBE-SEP-" in hairpin.ok(*words)
        assert hairpin.ok("exec", "foo", "--", "curl", "-s", "-m", "3", f"{_VIP}:8080")
