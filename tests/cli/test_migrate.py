"""hairpin migrate: what it prints, and what it refuses."""

import json
import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import yaml

from hairpin.claims.topics import MODES, Mode
from hairpin.claims.topics_table import BY_NAME
from tests.cli.command import Hairpin

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop.yaml"


def _migrate(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hairpin", "migrate", *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )


def test_the_page_shows_what_is_printed() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text()
    (shown,) = re.findall(r"```\n(From .*?)```", page, re.DOTALL)
    assert _migrate("ipvs", "nftables", "-f", "examples/shop.yaml").stdout == shown


def test_json_has_each_topic_once_and_names_it_by_service() -> None:
    told = json.loads(_migrate("iptables", "nftables", "-f", str(SHOP), "-o", "json").stdout)
    assert (told["from"], told["to"]) == ("iptables", "nftables")
    assert set(told["topics"]) <= set(BY_NAME)
    assert set(told["services"]) == {"default/front", "default/cart", "default/metrics"}
    named = {*told["every"], *told["node"]["topics"]}
    for topics in told["services"].values():
        named |= set(topics)
    assert named == set(told["topics"])
    assert "localhost-node-port" in told["services"]["default/cart"]
    assert all(topic["seen"] for topic in told["topics"].values())


def test_a_configuration_with_node_port_addresses(tmp_path: Path) -> None:
    config = tmp_path / "kube-proxy.yaml"
    config.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        "nodePortAddresses: [0.0.0.0/0]\n"
    )
    plain = _migrate("ipvs", "nftables", "-f", str(SHOP)).stdout
    said = _migrate("ipvs", "nftables", "-f", str(SHOP), "--config", str(config)).stdout
    assert "  node-port-addresses: " in plain
    assert "  node-port-addresses: " not in said
    assert "  none, with this configuration: node-port-addresses\n" in said
    assert "of this configuration, all that is set means the same" in said
    assert "settings that mean nothing any more: ipvs.scheduler, " in plain


KUBE_PROXY = ROOT / "tests" / "plan" / "kube-proxy-1.36" / "input"
PAIRS = list(permutations(MODES, 2))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_the_services_that_kube_proxy_was_recorded_with(pair: tuple[Mode, Mode]) -> None:
    config = KUBE_PROXY / f"kube-proxy-config.{pair[0]}.yaml"
    files = ("-f", str(KUBE_PROXY / "services.yaml"), "-f", str(KUBE_PROXY / "endpointslices.yaml"))
    done = _migrate(*pair, *files, "--config", str(config), "-o", "yaml")
    assert done.returncode == 0
    told = yaml.safe_load(done.stdout)
    served = yaml.safe_load_all((KUBE_PROXY / "services.yaml").read_text())
    items = [item for one in served for item in one.get("items", [one])]
    assert len(told["services"]) + len(told["unserved"]) == len(items)
    named = {*told["every"], *told["node"]["topics"], *told["moot"]}
    for topics in told["services"].values():
        named |= set(topics)
    differ = {name for name, topic in BY_NAME.items() if topic.changes(*pair)}
    assert named <= differ
    # It has a Service of nearly each kind: what is missing is known, and is no oversight.
    assert differ - named <= {"internal-local-fallback"}


@pytest.mark.host
def test_of_a_lab_with_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "kube-proxy.yaml"
    config.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        "mode: nftables\nnodePortAddresses: [0.0.0.0/0]\nnftables: {masqueradeAll: true}\n"
    )
    files = ("-f", str(SHOP))
    hairpin = Hairpin(tmp_path)
    hairpin.ok("up", *files, "--kernel", "host", "--proxy-config", str(config))
    try:
        words = ("migrate", "nftables", "iptables", "-o", "json")
        told = json.loads(hairpin.ok(*words))
        of_files = json.loads(hairpin.ok(*words, *files, "--config", str(config)))
        assert told["services"].pop("kube-system/kube-dns", None) == ["invalid-packets"]
        assert told == of_files
        assert told["moot"] == ["node-port-addresses"]
        assert told["node"]["settings"]["set"] == [
            {
                "name": "nftables.masqueradeAll",
                "value": "true",
                "says": "is to be said as iptables.masqueradeAll",
            }
        ]
    finally:
        hairpin("down")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("pair", [("nftables", "ipvs"), ("iptables", "ipvs"), ("ipvs", "iptables")])
def test_every_pair_is_told_in_both_languages(pair: tuple[str, str], language: str) -> None:
    done = _migrate(*pair, "-f", "-", "--lang", language, stdin=SHOP.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"From {pair[0]} to {pair[1]}: 3 Services are served\n")
    assert ("有回答" in done.stdout or "被拒绝" in done.stdout) == (language == "zh")


def test_no_services_at_all() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a}]}}"
    done = _migrate("ipvs", "nftables", "-f", "-", stdin=pod)
    assert done.returncode == 0
    assert "No difference that was seen concerns these Services." in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ipvs", "ipvs", "-f", str(SHOP)), "is no move"),
        (("ipvs", "ebpf", "-f", str(SHOP)), "invalid choice"),
        (("ipvs", "nftables", "-f", "no-such.yaml"), "no-such.yaml"),
        (("ipvs", "nftables", "--lab", "no-such-lab"), "no-such-lab"),
        (("ipvs", "nftables", "-f", str(SHOP), "--config", "no-such"), "no-such"),
    ],
)
def test_what_it_refuses(words: tuple[str, ...], said: str) -> None:
    done = _migrate(*words)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
