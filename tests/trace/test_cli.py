"""``hairpin trace`` as a person runs it."""

from __future__ import annotations

import importlib
import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Hairpin

pytestmark = pytest.mark.guest


def test_a_connection_that_works(cast: Hairpin) -> None:
    out = cast.ok("trace", "client", "svc/far:http")
    assert "IPVS sends it to 10.244.2.10:8080, the only real server" in out
    assert "asked for by service default/far:http" in out
    assert out.splitlines()[-1].startswith("delivered: answered after ")


@pytest.fixture
def installed() -> Iterator[str]:
    """hairpin and what it imports, where the guest sees it: not all of this machine's /tmp and
    /root, where the tests may run, is there."""
    with tempfile.TemporaryDirectory(prefix="hairpin-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        for name in ("hairpin", "msgspec", "yaml", "rich", "urllib3"):
            (place,) = importlib.import_module(name).__path__
            unneeded = shutil.ignore_patterns("__pycache__")
            shutil.copytree(place, Path(folder, name), ignore=unneeded)
        yield folder


def test_a_node_that_ipvs_serves_traced_from_inside(cast: Hairpin, installed: str) -> None:
    objects = cast.ok("get", "svc,endpoints,nodes", "-o", "json")
    here = ["-m", "hairpin", "trace", "here", "svc/far:http", "-f", "-", "-o", "json"]
    words = ["env", f"PYTHONPATH={installed}", "python3", *here, "--hostname-override", "n1"]
    found = json.loads(cast.ok("exec", "node/n1", "--", *words, stdin=objects))
    assert len(found["legs"]) == 2, found
    request = found["legs"][0]
    steps = [step for hop in request["hops"] for step in hop["steps"]]
    (chosen,) = [one for one in steps if one["kind"] == "ipvs"]
    assert chosen["owner"] == "service default/far:http"
    assert (steps[-1]["kind"], steps[-1]["link"]) == ("left", "eth0")
    assert {one["by"] for one in found["tracked"]} == {"ipvs", "conntrack"}


def test_json_has_disposition_cause_and_hops(cast: Hairpin) -> None:
    cast.ok("set", "hairpin=off")
    try:
        ran = cast("trace", "foo", "svc/foo:http", "-o", "json")
    finally:
        cast.ok("set", "hairpin=promisc")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert found["disposition"] == "dropped"
    assert found["cause"]["id"] == "hairpin-off"
    assert found["cause"]["mend"] == {
        "hairpin": "hairpin set hairpin=promisc",
        "shell": "ip link set cni0 promisc on",
        "on": "node_n1",
    }
    assert [hop["name"] for hop in found["legs"][0]["hops"]][:2] == ["default/foo", "n1"]


def test_what_its_own_pod_drops_did_not_arrive(cast: Hairpin) -> None:
    """It came in at the link of the Pod that it was for, and no further."""
    cast.ok("set", "masquerade=off")
    try:
        ran = cast("trace", "foo", "svc/foo:http", "-o", "json")
    finally:
        cast.ok("set", "masquerade=on")
    found = json.loads(ran.out)
    assert (found["disposition"], found["cause"]["id"]) == ("dropped", "masquerade-missing")
    (request,) = found["legs"]
    assert not request["arrived"]
    assert [step["kind"] for step in request["hops"][-1]["steps"]] == ["received"]


def test_what_is_for_oneself_goes_by_no_route_of_others(cast: Hairpin) -> None:
    """The table "local" sends it to lo; the default route has no part in it."""
    ran = cast("trace", "client", "localhost:9")
    assert "sent on lo\n" in ran.out
    assert "default via" not in ran.out


def test_the_packets_are_in_a_file(cast: Hairpin, tmp_path: Path) -> None:
    file = tmp_path / "it.pcapng"
    cast.ok("trace", "client", "svc/bar:http", "--pcap", str(file))
    data = file.read_bytes()
    assert struct.unpack_from("<I", data)[0] == 0x0A0D0D0A
    assert b"IPVS sends it to 10.244.1.11:8080" in data
    if shutil.which("tcpdump"):
        read = ["tcpdump", "-nr", str(file), "tcp[tcpflags] == tcp-syn"]
        done = subprocess.run(read, capture_output=True, text=True, check=True)
        assert len(done.stdout.splitlines()) == 6  # one SYN, on each link it passed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody", "svc/bar"), "there is no Pod nobody"),
        (("client", "svc/nobody"), "there is no Service nobody"),
        (("client", "node/n9:80"), 'there is no node "n9"'),
        (("client", "svc/bar:99999"), '"99999" is no port'),
        (("client", "10.1.2.3"), "to which port?"),
        (("client", "x/y"), "there is no Pod x/y"),
        (("client", "bar", "--source-port", "99999"), "it takes 0 to 65535"),
        (("client", "bar", "--size", "9999999999"), "it takes 0 to 1000000"),
        (("client", "bar", "--timeout", "0"), "it takes 10ms to 1m"),
        (("client", "bar", "--pcap", "/nowhere/x"), "there is no folder /nowhere"),
        (("client", "bar", "--html", "/"), "/ is a folder"),
        (("client", "bar", "-f", "x.yaml"), "-f is for FROM here"),
        (("here", "bar"), "which Services?"),
    ],
)
def test_what_is_nobody_is_said(cast: Hairpin, words: tuple[str, ...], said: str) -> None:
    ran = cast("trace", *words)
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("trace", ""), ["bar", "client", "far", "foo", "node/n1", "node/n2", "outside", "here"]),
        (("trace", "n"), ["node/n1", "node/n2"]),
        (("trace", "foo", "svc/f"), ["svc/far", "svc/foo"]),
        (("trace", "foo", "svc/foo:"), ["svc/foo:http", "svc/foo:udp"]),
        (("trace", "foo", "f"), ["far", "foo"]),
        (("trace", "-n", "other", "foo", "svc/default/b"), ["svc/default/bar"]),
        (("trace", "foo", "no"), [":nospace", "node/n1:", "node/n2:"]),
        (("trace", "foo", "node/n2"), [":nospace", "node/n2:"]),
        (("trace", "foo", "bar", ""), []),
        (("trace", "foo", "bar", "--proto", "s"), ["sctp"]),
        (("trace", "foo", "bar", "--pcap", ""), [":file"]),
        (("trace", "here", "svc/x", "--kubeconfig", ""), [":file"]),
        (("break", "nodeport-on"), ["nodeport-on-localhost"]),
    ],
)
def test_what_may_follow(cast: Hairpin, words: tuple[str, ...], offered: list[str]) -> None:
    lines = cast.ok("__complete", *words).splitlines()
    own = [one.partition("\t")[0] for one in lines]
    assert [one for one in own if not one.startswith(("kube-system/", "svc/kube"))] == offered


def test_break_and_put_back(cast: Hairpin) -> None:
    assert "hairpin trace client svc/bar:http" in cast.ok("break", "weight-zero")
    assert "[weight-zero]" in cast("trace", "client", "svc/bar:http").out
    cast.ok("break", "weight-zero", "--undo")
    cast.ok("trace", "client", "svc/bar:http")
    assert cast("break", "nothing").code == 2
