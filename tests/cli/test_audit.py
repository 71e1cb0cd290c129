"""``hairpin audit``: the recorded nodes are clean, damage is told with whose it is and what mends
it, broken dumps say which file and line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hairpin.cli.main import main
from tests.api_server.server import Server
from tests.api_server.store import Store
from tests.cli.command import ROOT
from tests.cli.test_plan import OBJECTS, Ran, files

FACTS = ROOT / "tests" / "plan" / "kube-proxy-1.36"
MODES = ("ipvs", "nftables", "iptables")
EXAMPLES = 2000 if os.environ.get("HAIRPIN_LONG") else 60


def run(*words: object) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["audit", *map(str, words)])
    return Ran(code, out.getvalue(), err.getvalue())


def audit(folder: Path, mode: str, *words: object) -> Ran:
    config = FACTS / "input" / f"kube-proxy-config.{mode}.yaml"
    return run(*files(*OBJECTS), "--config", config, "--state", folder, *words)


@pytest.fixture(name="dump", params=MODES)
def _dump(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    mode: str = request.param
    return mode, Path(shutil.copytree(FACTS / mode, tmp_path / mode))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_kube_proxy_made_is_clean(dump: tuple[str, Path]) -> None:
    mode, folder = dump
    ran = audit(folder, mode)
    assert ran.code == 0, ran.out
    assert f"node1, {mode} mode, " in ran.out and ": nothing found" in ran.out
    shown = json.loads(audit(folder, mode, "-o", "json").out)
    assert (shown["kind"], shown["clean"], shown["findings"]) == ("Audit", True, [])
    assert all(one["consequence"] and one["mend"] for one in shown["notes"])


def test_the_mode_is_told_from_the_kernel(dump: tuple[str, Path]) -> None:
    mode, folder = dump
    words = (*files(*OBJECTS), "--hostname-override", "node1", "--cluster-cidr")
    ran = run(*words, "10.192.0.0/12,fd00:200::/56", "--state", folder, "--mode", "auto")
    assert ran.code == 0, ran.out
    assert f"node1, {mode} mode, " in ran.out


def test_a_missing_virtual_server_and_its_mend(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "ipvs", tmp_path / "d"))
    edit(folder / "ipvsadm-save.txt", "-A -t 10.96.1.1:80 -s rr\n", "")
    edit(folder / "ipvsadm-save.txt", "-a -t 10.96.1.1:80 -r 10.200.0.11:8080 -m -w 1\n", "")
    edit(folder / "ipvsadm-save.txt", "-a -t 10.96.1.1:80 -r 10.200.1.11:8080 -m -w 1\n", "")
    ran = audit(folder, "ipvs")
    assert ran.code == 1
    expected = """\
service default/g01-clusterip-tcp:p
  missing   virtual server TCP 10.96.1.1:80, rr
            Connections to 10.96.1.1:80 (TCP) are refused: its address is the node's own, and \
IPVS does not take them on.
            $ ipvsadm --add-service --tcp-service 10.96.1.1:80 --scheduler rr
            $ ipvsadm --add-server --tcp-service 10.96.1.1:80 --real-server 10.200.0.11:8080 \
--masquerading
            $ ipvsadm --add-server --tcp-service 10.96.1.1:80 --real-server 10.200.1.11:8080 \
--masquerading
"""
    assert ran.out.startswith(expected)
    assert ran.out.splitlines()[-1] == "node1, ipvs mode, 395 objects wanted: 1 finding, 1 note"
    (finding,) = json.loads(audit(folder, "ipvs", "-o", "json").out)["findings"]
    assert (finding["what"], finding["owner"]) == ("missing", "service default/g01-clusterip-tcp:p")
    assert finding["object"]["kind"] == "virtual-server" and len(finding["mend"]) == 3


def test_wrong_values_are_told_with_what_is_expected(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "ipvs", tmp_path / "d"))
    edit(folder / "ipvsadm-save.txt", "-r 10.200.0.13:8443 -m -w 1", "-r 10.200.0.13:8443 -m -w 0")
    edit(folder / "sysctl.txt", "vs.conntrack = 1", "vs.conntrack = 0")
    edit(folder / "iptables-save.txt", "-s 10.192.0.0/12 -m", "-s 10.0.0.0/8 -m")
    edit(
        folder / "ipset-save.txt",
        "add KUBE-CLUSTER-IP 10.96.1.4,tcp:80",
        "add KUBE-CLUSTER-IP 10.96.1.4,tcp:81",
    )
    shown = json.loads(audit(folder, "ipvs", "-o", "json").out)["findings"]
    told = {one["subject"]: (one["what"], one["owner"], one["differs"]) for one in shown}
    real = "real server 10.200.0.13:8443, masquerade, weight 1, behind 10.96.1.3:443 (TCP)"
    weight = {"field": "weight", "seen": "0", "expected": "1"}
    assert told.pop(real) == ("wrong", "service default/g03-multiport:https", [weight])
    value = {"field": "value", "seen": "0", "expected": "1"}
    assert told.pop("net.ipv4.vs.conntrack") == ("wrong", "proxy", [value])
    g04 = "service default/g04-nodeport"
    assert told.pop("entry 10.96.1.4,tcp:80 of KUBE-CLUSTER-IP")[:2] == ("missing", f"{g04}:p")
    assert told.pop("entry 10.96.1.4,tcp:81 of KUBE-CLUSTER-IP")[:2] == ("extra", g04)
    ((subject, (what, owner, ((differs),))),) = told.items()
    assert subject.startswith("rule of nat KUBE-SERVICES: ! -s 10.192.0.0/12 ")
    assert (what, owner) == ("wrong", "proxy") and "10.0.0.0/8" in differs["seen"]


def test_what_ends_gracefully_and_others_things_are_no_findings(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "ipvs", tmp_path / "d"))
    edit(
        folder / "ipvsadm-save.txt",
        "-A -t 10.96.1.1:80 -s rr\n",
        "-A -f 7 -s wlc\n-A -t 10.96.1.1:80 -s rr\n"
        "-a -t 10.96.1.1:80 -r 10.200.0.99:8080 -m -w 0\n",
    )
    edit(
        folder / "ipset-save.txt",
        "create KUBE",
        "create cali40 hash:net family inet\nadd cali40 10.0.0.0/8\ncreate KUBE",
    )
    table = folder / "iptables-save.txt"
    edit(
        table,
        ":KUBE-FORWARD - [0:0]\n",
        ":KUBE-FORWARD - [0:0]\n:KUBE-ROUTER-INPUT - [0:0]\n"
        ":KUBE-KUBELET-CANARY - [0:0]\n:cali-INPUT - [0:0]\n",
    )
    edit(table, "-A INPUT -m", "-A INPUT -j cali-INPUT\n-A INPUT -m")
    assert audit(folder, "ipvs").code == 0


@pytest.mark.parametrize(("mode", "other"), [(a, b) for a in MODES for b in MODES if a != b])
def test_what_another_mode_left(mode: str, other: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / mode, tmp_path / "d"))
    for name in ("ipvsadm-save.txt", "ipset-save.txt", "ruleset.json", "iptables-save.txt"):
        if (FACTS / other / name).exists() and not (folder / name).exists():
            shutil.copy(FACTS / other / name, folder / name)
    shown = json.loads(audit(folder, mode, "-o", "json").out)["findings"]
    left = [one for one in shown if one["what"] == "leftover"]
    if (mode, other) == ("ipvs", "iptables"):  # the same file; its own chains are there
        assert shown == []
        return
    if (mode, other) != ("iptables", "ipvs"):
        assert {one["what"] for one in shown} == {"leftover"}, shown
    assert {one["owner"] for one in left} == {other}
    assert all(one["mend"] and one["count"] for one in left)


@pytest.mark.parametrize(
    ("mode", "name", "old", "new", "said"),
    [
        ("ipvs", "ipvsadm-save.txt", "-A -t 10.96.1.1:80 -s", "-A -t 10.96.1.1:80 -z",
         "ipvsadm-save.txt: line {}: what is -z?"),
        ("ipvs", "ipset-save.txt", "CLUSTER-IP 10.96.1.4,tcp:80", "CLUSTER-IP 10.96.1",
         "ipset-save.txt: line {}: '10.96.1' does not appear to be an IPv4 or IPv6 address"),
        ("ipvs", "iptables-save.txt", "COMMIT\n", "",
         "iptables-save.txt: line 34: the end of table filter (COMMIT) is missing"),
        ("ipvs", "ip-addr.json", '"ifname"', '"ifname', "ip-addr.json: line {}: is not JSON"),
        ("iptables", "ip6tables-save.txt", "*nat", "*nut",
         "ip6tables-save.txt: line {}: 'nut' is no table"),
        ("nftables", "ruleset.json", '"family"', '"family', "ruleset.json: line {}: is not JSON"),
        ("nftables", "ruleset.json", '"type":["ipv4_addr"', '"typo":["ipv4_addr"',
         "ruleset.json: nftables[2]: there is no 'type': "),
    ],
)  # fmt: skip
def test_a_broken_dump_says_which_file_and_line(
    mode: str, name: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(FACTS / mode, tmp_path / "d"))
    before = (folder / name).read_text().partition(old)[0]
    edit(folder / name, old, new)
    ran = audit(folder, mode)
    said = said.format(before.count("\n") + 1)
    assert ran.code == 2 and said in ran.out + ran.err, ran
    assert name == "ip-addr.json" or "1 part could not be judged" in ran.out


def test_the_rest_is_judged_all_the_same(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "ipvs", tmp_path / "d"))
    (folder / "ipset-save.txt").unlink()
    edit(folder / "ipvsadm-save.txt", "-s rr", "-s lc")
    ran = audit(folder, "ipvs")
    assert ran.code == 1 and "scheduler: lc, expected rr" in ran.out
    assert "not judged: ipset: ipset-save.txt: there is none (it is made by: ipset save)" in ran.out


def test_what_cannot_be_judged_at_all(tmp_path: Path) -> None:
    for words, said in (
        ((), "which Services?"),
        (("-f", OBJECTS[0], "--kubeconfig", "x"), "both -f and --kubeconfig"),
        ((*files(*OBJECTS), "--state", tmp_path / "no"), "is no folder"),
        ((*files(*OBJECTS), "--state", tmp_path), "holds no dump"),
        (("--collect", tmp_path, "--state", tmp_path), "--collect reads this kernel"),
    ):
        ran = run(*words)
        assert ran.code == 2 and said in ran.err and len(ran.err.splitlines()) <= 2, ran
    (tmp_path / "ip-addr.json").write_text("[]\n")
    ran = run(*files(*OBJECTS), "--hostname-override", "node1", "--state", tmp_path)
    assert ran.code == 2 and f"no proxy's objects are in {tmp_path}," in ran.err
    ran = run(
        *files(*OBJECTS), "--hostname-override", "node1", "--state", tmp_path, "--mode", "ipvs"
    )
    assert ran.code == 1 and "missing   dummy kube-ipvs0, down" in ran.out


def test_damaged_dumps_never_give_a_traceback(dump: tuple[str, Path]) -> None:
    """Cut off anywhere, or with bytes changed: it is told, or it is a finding, or it is clean."""
    mode, folder = dump
    chance = random.Random(mode)
    texts = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(EXAMPLES):
        name = chance.choice(sorted(texts))
        data = bytearray(texts[name])
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        else:
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.choice(b'\0\xff \n"{}[],:-x0/')
        (folder / name).write_bytes(data)
        ran = audit(folder, mode)
        assert ran.code in (0, 1, 2), ran
        assert "Traceback" not in ran.out + ran.err
        (folder / name).write_bytes(texts[name])


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """The kubeconfig of a cluster that holds the recorded objects."""
    store = Store()
    for name in OBJECTS:
        given = yaml.safe_load(Path(name).read_text())
        for thing in given.get("items", [given]):
            store.put(thing)
    server = Server(store).start()
    file = folder / "kubeconfig"
    config = {
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    file.write_text(json.dumps(config))
    try:
        yield file
    finally:
        server.stop()


@pytest.fixture(name="kubeconfig")
def _kubeconfig(tmp_path: Path) -> Iterator[Path]:
    with cluster(tmp_path) as file:
        yield file


def test_services_come_from_a_cluster_too(kubeconfig: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "nftables", tmp_path / "d"))
    config = FACTS / "input" / "kube-proxy-config.nftables.yaml"
    words = ("--kubeconfig", kubeconfig, "--config", config, "--state", folder)
    ran = run(*words)
    assert ran.code == 0, ran
    assert "node1, nftables mode, " in ran.out
    ran = run(*words, "--hostname-override", "nobody")
    assert (ran.code, ran.out) == (2, "") and "the cluster has no Node nobody" in ran.err
    kubeconfig.write_text(kubeconfig.read_text().replace("127.0.0.1", "127.0.0.2"))
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "") and len(ran.err.splitlines()) == 2, ran


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["node"], "no Service is among"),
        (["node", "services"], "neither an EndpointSlice"),
    ],
)
def test_manifests_that_lack_what_is_needed_are_not_judged_by(names: list[str], said: str) -> None:
    given = [word for name in names for word in ("-f", FACTS / "input" / f"{name}.yaml")]
    config = FACTS / "input" / "kube-proxy-config.ipvs.yaml"
    ran = run(*given, "--config", config, "--state", FACTS / "ipvs")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and "kubectl get" in ran.err


def test_without_its_node_it_is_said_what_may_be_wrong() -> None:
    names = ("services", "endpointslices")
    given = [word for name in names for word in ("-f", FACTS / "input" / f"{name}.yaml")]
    config = FACTS / "input" / "kube-proxy-config.ipvs.yaml"
    ran = run(*given, "--config", config, "--state", FACTS / "ipvs")
    assert "there is no Node node1 among the manifests" in ran.err


@pytest.mark.parametrize("mode", MODES)
def test_another_configuration_than_the_proxys_is_told_as_such(mode: str, tmp_path: Path) -> None:
    words = (*files(*OBJECTS), "--state", FACTS / mode, "--mode", mode)
    shown = json.loads(run(*words, "-o", "json").out)
    assert len(shown["findings"]) > 1
    (local,) = shown["problems"]
    assert "10.192.0.0/12" in local and "--cluster-cidr" in local
    text = (FACTS / "input" / f"kube-proxy-config.{mode}.yaml").read_text()
    own = "nftables" if mode == "nftables" else "iptables"
    config = yaml.safe_load(text)
    config.setdefault(own, {})["masqueradeBit"] = 15
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shown = json.loads(run(*words, "--config", tmp_path / "config.yaml", "-o", "json").out)
    (mark,) = shown["problems"]
    assert "0x4000 in the kernel, 0x8000 here" in mark
    assert json.loads(audit(FACTS / mode, mode, "-o", "json").out)["problems"] == []


def test_outside_ipvs_mode_the_nodes_own_addresses_are_enough(tmp_path: Path) -> None:
    for mode in ("nftables", "iptables"):
        folder = Path(shutil.copytree(FACTS / mode, tmp_path / mode))
        (folder / "ip-addr.json").unlink()
        assert audit(folder, mode).code == 0
        config = tmp_path / "config.yaml"
        text = (FACTS / "input" / f"kube-proxy-config.{mode}.yaml").read_text()
        config.write_text(text + "nodePortAddresses: [172.31.0.0/16]\n")
        ran = run(*files(*OBJECTS), "--config", config, "--state", folder)
        assert ran.code == 2 and "nodePortAddresses cannot be judged" in ran.err


def test_a_mark_of_windows_at_the_start_of_a_file_is_none_of_its_text(dump: Any) -> None:
    mode, folder = dump
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert audit(folder, mode).code == 0


def test_of_an_older_nftables_mode_only_chains_are_not_judged(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "nftables", tmp_path / "d"))
    path = folder / "ruleset.json"
    tables = json.loads(path.read_text())
    chain = {"family": "ip", "table": "kube-proxy", "name": "mark-for-masquerade", "handle": 7}
    rows = [one for one in tables["nftables"] if "rule" not in one]  # of all, other rules
    rows = [one for one in rows if one.get("set", {}).get("name") != "hairpin-connections"]
    path.write_text(json.dumps({"nftables": [*rows, {"chain": chain}]}))
    shown = json.loads(audit(folder, "nftables", "-o", "json").out)
    assert shown["findings"] == []
    (left,) = [one for one in shown["not_judged"] if one["needed"]]
    assert left["part"] == "chains of nftables mode" and "older" in left["why"]
    assert audit(folder, "nftables").code == 2
    edit(path, '{"concat": ["10.96.1.1", "tcp", 80]}', '{"concat": ["10.96.1.1", "tcp", 81]}')
    found = json.loads(audit(folder, "nftables", "-o", "json").out)["findings"]
    assert [one["what"] for one in found] == ["missing", "extra"]
