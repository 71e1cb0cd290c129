"""``hairpin plan``: equal to what kube-proxy made, in three forms; bad input in few words."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hairpin.cli.main import main
from hairpin.present.restore import SECTIONS, sections
from tests.cli.command import ROOT, SEED, WEB

EXAMPLES = 1500 if os.environ.get("HAIRPIN_LONG") else 120

FACTS = ROOT / "tests" / "plan" / "kube-proxy-1.36"
INPUT = FACTS / "input"
CONFIG = INPUT / "kube-proxy-config.ipvs.yaml"
OBJECTS = [str(INPUT / f"{name}.yaml") for name in ("services", "endpointslices", "node")]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(*words: object, stdin: str = "") -> Ran:
    out, err = io.StringIO(), io.StringIO()
    given_in = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", given_in)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["plan", *map(str, words)])
    return Ran(code, out.getvalue(), err.getvalue())


def files(*names: object) -> list[str]:
    return [word for name in names for word in ("-f", str(name))]


def recorded(*words: object) -> Ran:
    """The plan of what the dumps were made of."""
    return run(*files(*OBJECTS), "--config", CONFIG, "--state", FACTS / "ipvs", *words)


@pytest.fixture(scope="module", name="addresses")
def _addresses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded node with one address, for plans that are not to depend on this machine."""
    folder = tmp_path_factory.mktemp("state")
    info = [
        {"family": "inet", "local": "192.0.2.10", "prefixlen": 24, "scope": "global"},
        {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
    ]
    vips = [{"family": "inet", "local": "10.96.0.1", "prefixlen": 32, "scope": "global"}]
    links = [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1"}]},
        {"ifname": "eth0", "addr_info": info},
        {"ifname": "kube-ipvs0", "addr_info": vips},
        {"ifname": "sit0"},
    ]
    (folder / "ip-addr.json").write_text(json.dumps(links))
    return folder


def _comparable(text: str) -> list[str]:
    """Without what kube-proxy does not choose: counters, dates, the seed of a set's hash."""
    text = re.sub(r"\[\d+:\d+\]", "[0:0]", re.sub(r" initval 0x[0-9a-f]+", "", text))
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_restore_is_what_the_tools_printed_where_kube_proxy_ran() -> None:
    ran = recorded("-o", "restore")
    assert ran.code == 0
    assert ran.err == ""
    got = sections(ran.out)
    assert tuple(got) == SECTIONS
    for name, text in got.items():
        dump = _comparable((FACTS / "ipvs" / f"{name}.txt").read_text())
        assert sorted(text.splitlines()) == sorted(dump), name
        if "tables" in name:  # where the order of rules has a meaning
            assert text.splitlines() == dump


def test_neither_files_nor_flags_have_an_order() -> None:
    usual = recorded("-o", "restore").out
    other = run(
        "-o", "restore", "--state", FACTS / "ipvs", "--config", CONFIG, *files(*OBJECTS[::-1])
    )
    assert other.out == usual
    items = [item for name in OBJECTS for item in [yaml.safe_load(Path(name).read_text())]]
    flat = [one for item in items for one in (item["items"] if item["kind"] == "List" else [item])]
    shuffled = json.dumps({"apiVersion": "v1", "kind": "List", "items": flat[::-1]})
    piped = run(
        "-f", "-", "--config", CONFIG, "--state", FACTS / "ipvs", "-o", "restore", stdin=shuffled
    )
    assert piped.out == usual


def test_no_kernel_is_asked_where_the_state_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", none)
    monkeypatch.setattr(os, "fork", none)
    assert recorded().code == 0


def test_json_says_who_asked_for_each_object_and_why() -> None:
    shown = json.loads(recorded("-o", "json").out)
    assert (shown["apiVersion"], shown["kind"], shown["mode"]) == ("hairpin.dev/v1", "Plan", "ipvs")
    assert shown["node"]["name"] == "node1"
    assert shown["node"]["addresses"] == ["172.31.0.2", "fd31::2"]
    assert shown["node"]["zone"] == "z1"
    kinds = {one["object"]["kind"] for one in shown["objects"]}
    assert kinds >= {"link", "address", "ipset", "set-entry", "chain", "jump", "sysctl"}
    assert kinds >= {"virtual-server", "real-server"}
    for one in shown["objects"]:
        assert re.fullmatch(r"proxy|service [a-z0-9-]+/[a-z0-9-]+(:[a-z]+)?", one["owner"]), one
        assert one["why"], one
    sticky = [
        one["owner"]
        for one in shown["objects"]
        if one["object"]["kind"] == "virtual-server" and one["object"]["persistence"]
    ]
    assert set(sticky) == {
        "service default/g07-affinity-clientip:p", "service default/g21-affinity-lb-etp-local:p"
    }  # fmt: skip
    assert {"service": "default/g08-etp-local", "port": 30888, "families": ["IPv4"],
            "local": [1]} in shown["health_checks"]  # fmt: skip
    assert shown["problems"] == []


def test_every_field_of_a_plan_is_documented() -> None:
    page = (ROOT / "docs" / "json.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|", page.split("### Plan\n")[1].split("\n#")[0], re.MULTILINE)
    documented = {name.strip() for row in rows for name in row.split(",")}
    shown = json.loads(recorded("-o", "json").out)
    paths = {path for path in _paths(shown) if not path.startswith("objects.object.")}
    assert paths - documented == {"apiVersion", "kind"}
    kinds = page.split("### Kernel objects\n")[1].split("\n## ")[0]
    fields: dict[str, set[str]] = {}
    for row in re.findall(r"^\| ([a-z-, ]+) \| (.*) \|$", kinds, re.MULTILINE):
        for kind in row[0].split(", "):
            fields[kind] = set(re.findall(r"`([a-z_0-9]+)`", row[1]))
    for one in (each["object"] for each in shown["objects"]):
        if "server" not in one["kind"]:  # they have a table of their own
            assert set(one) - {"kind"} == fields[one["kind"]] - {"kind"}, one


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from _paths(inner, path)
    else:
        yield path


def _block(text: str, name: str) -> str:
    return next(block for block in text.split("\n\n") if block.startswith(f"default/{name} "))


@pytest.mark.parametrize(
    ("service", "lines"),
    [
        (
            "g22-etp-local-terminating",
            [
                r"ClusterIP +10\.96\.1\.22:80 +1 of 2 +its ClusterIP",
                r"NodePort +172\.31\.0\.2:30102 +1 of 2 .*keeps the client's address",
                r"10\.200\.0\.32:8080 +node1 \(here\) +NodePort,LoadBalancer +terminating but serv",
                r"10\.200\.1\.32:8080 +node2 +ClusterIP +ready; on another node \(externalTraf",
                r"health check node port 30802: 0 ready endpoints on this node",
            ],
        ),
        ("g15-itp-local-no-local", [r"10\.96\.1\.15:80 +none: refused", r"node2 +no +on another"]),
        ("g16-etp-local-no-local", [r"NodePort .*none is on this node, so all are taken"]),
        ("g17-lb-ipmode-proxy", [r"LoadBalancer +192\.0\.2\.17:80 +- +not here: ipMode Proxy"]),
        ("g18-not-ready", [r"10\.200\.1\.28:8080 +node2 +no +not ready"]),
        ("g19-zone-hints", [r"10\.200\.1\.29:8080 +node2 +no +hinted for zone z2"]),
        ("g06-lb-sourceranges", [r"only from 10\.0\.0\.0/8, 203\.0\.113\.128/25"]),
        ("g10-no-endpoints", [r"ExternalIP .*none: refused", "no endpoints"]),
        ("g20-v6-single", [r"\[fd00:96::120\]:80 +2 of 2", r"\[fd00:200::30\]:8080 +node1 \(here"]),
    ],
)
def test_text_says_who_is_taken_and_why_not(service: str, lines: list[str]) -> None:
    ran = recorded()
    block = _block(ran.out, service)
    for line in lines:
        assert re.search(line, block), f"{line}\n{block}"
    assert ran.code == 0 and "\033" not in ran.out


def test_text_has_the_frame_and_names_what_needs_nothing() -> None:
    out = recorded().out
    assert out.startswith("Node node1 (172.31.0.2, fd31::2, zone z1), IPVS mode: 27 Services, 55 ")
    assert re.search(r"\n  default/g14-headless +it is headless", out)
    assert re.search(r"\n  dummy kube-ipvs0, down +\S", out)
    assert re.search(r"\n  net\.ipv4\.vs\.conntrack = 1 +\S", out)
    assert "    -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n" in out


def test_what_a_person_wrote_is_admitted_first(addresses: Path) -> None:
    shown = json.loads(run(*files(WEB), "--state", addresses, "-o", "json").out)
    servers = [one["object"] for one in shown["objects"] if "server" in one["object"]["kind"]]
    assert [one for one in servers if one["kind"] == "virtual-server"]
    assert [one for one in servers if one["kind"] == "real-server"]
    assert shown["node"]["addresses"] == ["192.0.2.10"]
    again = run(*files(WEB), "--state", addresses, "-o", "json")
    assert json.loads(again.out) == shown


TWO_NODES = """
{apiVersion: v1, kind: Node, metadata: {name: one}, spec: {podCIDR: 10.244.0.0/24}}
---
{apiVersion: v1, kind: Node, metadata: {name: two}, spec: {podCIDR: 10.244.1.0/24}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.7
  externalTrafficPolicy: Local
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- {addresses: [10.244.0.9], nodeName: one}
- {addresses: [10.244.1.9], nodeName: two}
"""


@pytest.mark.parametrize(("node", "local"), [("one", "10.244.0.9"), ("TWO", "10.244.1.9")])
def test_the_node_decides(addresses: Path, node: str, local: str) -> None:
    words = ("-f", "-", "--state", addresses, "-o", "restore", "--hostname-override", node)
    out = run(*words, stdin=TWO_NODES).out
    assert f"-a -t 192.0.2.10:30080 -r {local}:8080 -m -w 1\n" in out
    assert out.count("-a -t 192.0.2.10:30080") == 1 and out.count("-a -t 10.96.0.7:80") == 2


def test_which_node_must_be_clear(addresses: Path, tmp_path: Path) -> None:
    words = ("-f", "-", "--state", addresses)
    ran = run(*words, stdin=TWO_NODES)
    assert ran.code == 2 and ran.out == ""
    assert ran.err.splitlines() == [
        "hairpin: which node is to be planned for? there are one, two",
        "  say --hostname-override NODE",
    ]
    config = tmp_path / "config.yaml"
    config.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        "mode: ipvs\nhostnameOverride: two\n"
    )
    assert run(*words, "--config", config, stdin=TWO_NODES).out.startswith("Node two ")
    both = run(*words, "--config", config, "--hostname-override", "one", stdin=TWO_NODES)
    assert both.out.startswith("Node one ")
    config.write_text(config.read_text().replace("mode: ipvs\n", ""))  # kube-proxy's default
    assert "iptables mode" in run(*words, "--config", config, stdin=TWO_NODES).out.splitlines()[0]
    ran = run(*words, "--hostname-override", "three", stdin=TWO_NODES)
    assert ran.code == 0 and "no Node three among the manifests (one, two)" in ran.err


def test_one_node_need_not_be_named(addresses: Path) -> None:
    assert run(*files(SEED), "--state", addresses).out.startswith("Node node (192.0.2.10)")
    slices = TWO_NODES[TWO_NODES.index("apiVersion: v1\nkind: Service") :]
    ran = run("-f", "-", "--state", addresses, stdin=slices)
    assert ran.code == 2 and "there are one, two" in ran.err
    ran = run("-f", "-", "--state", addresses, stdin=slices.replace("nodeName: two", ""))
    assert ran.out.startswith("Node one ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("", "is not what ip -j addr prints"),
        ("{}}", "is not what ip -j addr prints"),
        ("[1]", "is not what ip -j addr prints"),
        ('[{"addr_info": [{"local": "1.2.3"}]}]', "'1.2.3' does not appear to be"),
        ("[" * 5000, "is not what ip -j addr prints"),
    ],
)
def test_a_wrong_state_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ip-addr.json").write_text(content)
    ran = run(*files(SEED), "--state", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith(f"hairpin: {tmp_path}/ip-addr.json: ") and said in first
    assert second == f"  it is made by: ip -j addr > {tmp_path}/ip-addr.json"


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_other_modes_are_as_kube_proxy_made_them_too(mode: str) -> None:
    """Rules and elements; those of chains that many Services have rules in have no order."""
    config = INPUT / f"kube-proxy-config.{mode}.yaml"
    words = (*files(*OBJECTS), "--config", config, "--state", FACTS / mode)
    ran = run(*words, "-o", "restore")
    assert ran.code == 0
    got = sections(ran.out)
    if mode == "nftables":
        assert list(got) == ["nft list ruleset"]
        assert "chain service-" in got["nft list ruleset"]
        return
    assert list(got) == ["iptables-save", "ip6tables-save"]
    for name, text in got.items():
        dump = (FACTS / mode / f"{name}.txt").read_text().splitlines()
        rules = [line for line in dump if line.startswith("-A ")]
        assert sorted(line for line in text.splitlines() if line[:3] == "-A ") == sorted(rules)
    shown = json.loads(run(*words, "-o", "json").out)
    assert shown["mode"] == mode
    text = run(*words).out
    assert f"{mode} mode: 27 Services" in text.splitlines()[0]
    assert "dropped: policy Local, and none is on this node" in text


def test_the_mode_of_the_command_line_counts_before_the_files(addresses: Path) -> None:
    words = [*files(SEED), "--state", addresses, "-o", "restore"]
    config = INPUT / "kube-proxy-config.iptables.yaml"
    assert "ipvsadm-save" not in run(*words, "--config", config).out
    for flag in ("--mode", "--proxy-mode"):
        assert "ipvsadm-save" in run(*words, "--config", config, flag, "ipvs").out


def test_a_problem_costs_its_object_alone(addresses: Path) -> None:
    items: list[Any] = yaml.safe_load(Path(OBJECTS[0]).read_text())["items"]
    items[0]["spec"]["ports"][0]["port"] = 0
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    words = ("-f", "-", "--state", addresses, "--hostname-override", "node1")
    ran = run(*words, stdin=text)
    assert ran.code == 0
    last = ran.out.split("\n\n")[-1]
    assert last.startswith("Problems:\n") and "default/g01-clusterip-tcp" in last
    assert "10.96.1.1:80" not in ran.out and "10.96.1.2:53" in ran.out
    ran = run(*words, "-o", "restore", stdin=text)
    assert "problem: " in ran.err and "default/g01-clusterip-tcp" in ran.err
    assert len(json.loads(run(*words, "-o", "json", stdin=text).out)["problems"]) == 1


def test_two_services_that_want_the_same_place(addresses: Path) -> None:
    one = next(part for part in TWO_NODES.split("---\n") if "kind: Service" in part)
    both = [
        one.replace("name: web", f"name: {name}")
        .replace("nodePort: 30080", f"nodePort: {node_port}")
        .replace("10.96.0.7", f"{ip}\n  externalIPs: [198.51.100.1]")
        for name, node_port, ip in (("web", 30080, "10.96.0.7"), ("zeb", 30081, "10.96.0.8"))
    ]
    for texts in (both, both[::-1]):
        ran = run("-f", "-", "--state", addresses, stdin="---\n".join(texts))
        assert ran.code == 0
        last = ran.out.split("\n\n")[-1]
        assert last.startswith("Problems:\n"), ran.out
        assert "198.51.100.1" in last and "zeb" in last and "web" in last


def test_a_folder(addresses: Path, tmp_path: Path) -> None:
    for name in OBJECTS:
        shutil.copy(name, tmp_path)
    words = ("--state", FACTS / "ipvs", "--config", CONFIG, "-o", "restore")
    assert run("-f", tmp_path, *words).out == recorded("-o", "restore").out


@pytest.fixture(autouse=True)
def nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield
    assert not any((tmp_path / "hairpin").glob("*"))


GOOD_CONFIG = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
hostnameOverride: node1
clusterCIDR: 10.192.0.0/12,fd00:200::/56
detectLocalMode: ClusterCIDR
nodePortAddresses: [172.31.0.0/24, "fd31::/64"]
iptables: {masqueradeAll: true, masqueradeBit: 14}
ipvs: {scheduler: mh, strictARP: true, tcpTimeout: 15m, excludeCIDRs: [10.9.0.0/16]}
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 1h0m0s}
"""


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_broken_configurations_and_manifests(
    tmp_path: Path, addresses: Path, data: st.DataObject
) -> None:
    texts = {"config": GOOD_CONFIG, "objects": data.draw(st.sampled_from(_manifests()))}
    broken = data.draw(st.sampled_from(["config", "objects"]))
    text = texts[broken]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        end = min(len(text), at + data.draw(st.integers(0, 20)))
        put = data.draw(st.sampled_from(["", "\n", ": ", "- ", "'", "80", "é", "{", "-1", "null"]))
        text = text[:at] + put + text[end:]
    texts[broken] = text
    for name, content in texts.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    words = ["-f", tmp_path / "objects.yaml", "--config", tmp_path / "config.yaml"]
    ran = run(*words, "--state", addresses, "-o", data.draw(st.sampled_from(["text", "restore"])))
    assert ran.code in (0, 2), text
    assert "Traceback" not in ran.err
    errors = [line for line in ran.err.splitlines() if not re.match("warning: |problem: ", line)]
    assert len(errors) <= 2 and bool(errors) == (ran.code == 2), (text, ran.err)
    assert ran.code == 0 or ran.out == ""


def _manifests() -> list[str]:
    return [
        Path(SEED).read_text(),
        Path(WEB).read_text(),
        TWO_NODES,
        Path(OBJECTS[0]).read_text()[:6000].rpartition("\n- ")[0],
        Path(OBJECTS[1]).read_text()[:6000].rpartition("\n- ")[0],
    ]
