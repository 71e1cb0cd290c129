"""What is in deploy/ fits the program: rights, flags, ports, configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hairpin.cli.parser import parser_of
from hairpin.source.api.kubeconfig import access
from hairpin.source.api.objects import resources
from hairpin.source.configuration import load

DEPLOY = Path(__file__).parents[1] / "deploy"


def objects(name: str) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / name).read_text())}


def test_the_role_is_what_is_asked_for_and_no_more() -> None:
    allowed = {
        (group, resource, verb)
        for rule in objects("rbac.yaml")["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = set()
    for one in resources("node", cidrs=True):
        group = one.api_version.rpartition("/")[0]
        asked |= {(group, one.path.rpartition("/")[2], verb) for verb in ("list", "watch")}
    assert allowed == asked


def test_the_configuration_is_read(tmp_path: Path) -> None:
    data = objects("config.yaml")["ConfigMap"]["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    warnings: list[str] = []
    config = load(str(tmp_path / "config.yaml"), warnings=warnings, strict=True)
    assert config.mode == "nftables" and not warnings
    given = access(str(tmp_path / "kubeconfig"))
    assert given.token_file.startswith("/var/run/secrets/kubernetes.io/serviceaccount/")
    assert Path(config.client_connection.kubeconfig).name == "kubeconfig"


def test_the_pod_has_the_rights_that_it_needs() -> None:
    pod = objects("daemonset.yaml")["DaemonSet"]["spec"]["template"]["spec"]
    (proxy,) = pod["containers"]
    security = proxy["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert pod["hostNetwork"] and proxy["ports"][0]["containerPort"] == 10256
    mounted = {
        one["name"] for each in (proxy, *pod["initContainers"]) for one in each["volumeMounts"]
    }
    assert mounted == {one["name"] for one in pod["volumes"]}


@pytest.mark.parametrize("name", ["daemonset.yaml", "hairpin-proxy.service", "Containerfile"])
def test_every_option_is_one(name: str) -> None:
    known = {word for one in parser_of("proxy")[0]._actions for word in one.option_strings}
    text = (DEPLOY / name).read_text()
    given = re.findall(r"(?<=[\s\"\[])(--[a-z-]+)(?==/etc|=\$| /etc|[,\]\n])", text)
    assert given and set(given) <= known
