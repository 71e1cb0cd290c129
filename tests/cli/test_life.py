"""Pods that come and go, as a person has it: delete, scale, rollout, cordon, and worse links."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from hairpin.cli.complete import candidates
from tests.cli.command import Hairpin, lab

pytestmark = pytest.mark.guest

OBJECTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: echo, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: slow, labels: {app: slow}}
spec:
  containers:
  - name: echo
    ports: [{containerPort: 8080}]
    lifecycle: {preStop: {sleep: {seconds: 2}}}
---
apiVersion: v1
kind: Service
metadata: {name: slow}
spec: {selector: {app: slow}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none}
spec: {podSelector: {}}
"""


@pytest.fixture(scope="module")
def hairpin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "life.yaml").write_text(OBJECTS)
    with lab(folder, str(folder / "life.yaml")) as running:
        yield running


@pytest.fixture(scope="module")
def manifest(hairpin: Hairpin, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Deployment's, without replicas."""
    (made,) = (one for one in OBJECTS.split("---") if "kind: Deployment" in one)
    path = tmp_path_factory.mktemp("again") / "web.yaml"
    path.write_text(made.replace("  replicas: 2\n", ""))
    return str(path)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def names(hairpin: Hairpin, label: str) -> list[str]:
    return hairpin.ok("get", "pods", "-l", label, "-o", "name").split()


def test_a_pod_that_goes_is_shown_as_going(hairpin: Hairpin) -> None:
    assert hairpin.ok("delete", "pod", "slow", "--wait=false") == "pod/slow deleted\n"
    row = hairpin.ok("get", "pod", "slow", "--no-headers").split()
    assert row[:3] == ["slow", "1/1", "Terminating"]
    wide = hairpin.ok("get", "endpoints", "-l", "kubernetes.io/service-name=slow", "-o", "wide")
    assert "(terminating)" in wide
    assert "Terminating" in hairpin.ok("describe", "pod", "slow")
    assert hairpin.ok("delete", "pod", "slow", "--force") == "pod/slow deleted\n"
    assert hairpin("get", "pod", "slow").code == 2


def test_scale_and_watch(hairpin: Hairpin) -> None:
    watching = hairpin.start("get", "endpoints", "-w", "-l", "kubernetes.io/service-name=web")
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[:2] == [b"NAME", b"ADDRESSTYPE"]
    assert watching.stdout.readline().split()[3].count(b",") == 1
    assert hairpin.ok("scale", "deployment/web", "--replicas=3") == ("deployment.apps/web scaled\n")
    assert names(hairpin, "app=web") == ["pod/web-0", "pod/web-1", "pod/web-2"]
    while watching.stdout.readline().split()[3].count(b",") != 2:
        pass
    watching.terminate()
    watching.wait()
    hairpin.ok("scale", "deploy", "web", "--replicas", "2")
    until(lambda: names(hairpin, "app=web") == ["pod/web-0", "pod/web-1"])


def test_applying_again_leaves_a_scale_and_a_restart(hairpin: Hairpin, manifest: str) -> None:
    """Once the manifest does not say replicas; that it says them no more is 1, as with kubectl."""
    assert hairpin.ok("apply", "-f", manifest) == "deployment/web configured\n"
    hairpin.ok("scale", "deployment/web", "--replicas=2")
    hairpin.ok("rollout", "restart", "deployment/web")
    hairpin.ok("rollout", "status", "deployment/web", "--timeout", "20")
    until(lambda: len(names(hairpin, "app=web")) == 2)
    before = names(hairpin, "app=web")
    assert hairpin.ok("apply", "-f", manifest) == "deployment/web unchanged\n"
    assert names(hairpin, "app=web") == before


def test_rollout(hairpin: Hairpin) -> None:
    before = set(names(hairpin, "app=web"))
    assert hairpin.ok("rollout", "restart", "deployment/web") == "deployment.apps/web restarted\n"
    said = hairpin.ok("rollout", "status", "deployment/web", "--timeout", "20")
    assert said.splitlines()[-1] == 'deployment "web" successfully rolled out'
    until(lambda: len(names(hairpin, "app=web")) == 2)
    assert not before & set(names(hairpin, "app=web"))


def test_cordon(hairpin: Hairpin) -> None:
    assert hairpin.ok("cordon", "node") == "node/node cordoned\n"
    assert hairpin.ok("cordon", "node/node") == "node/node already cordoned\n"
    assert hairpin.ok("get", "nodes", "--no-headers").split()[1] == "Ready,SchedulingDisabled"
    assert hairpin.ok("uncordon", "node") == "node/node uncordoned\n"
    assert hairpin.ok("get", "nodes", "--no-headers").split()[1] == "Ready"


def test_a_link_is_made_worse_and_good_again(hairpin: Hairpin) -> None:
    (pod, *_) = (name.removeprefix("pod/") for name in names(hairpin, "app=web"))
    said = hairpin.ok("set", f"link/{pod}", "delay=20ms", "loss=0.5%", "mtu=1400")
    assert said == f"link/{pod} is delay=20ms loss=0.5% mtu=1400\n"
    assert "delay=20ms loss=0.5% mtu=1400" in hairpin.ok("describe", "pod", pod)
    assert json.loads(hairpin.ok("get", "pod", pod, "-o", "json"))["status"]["link"]
    assert hairpin.ok("set", f"link/{pod}", "none") == f"link/{pod} is as it was made\n"
    assert "delay" not in hairpin.ok("describe", "pod", pod)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scale", "pod/web-0", "--replicas=1"], "only Deployments have replicas"),
        (["scale", "--replicas=1"], "which deployment?"),
        (["scale", "deployment/web", "--replicas=-1"], "not from 0 to 10000"),
        (["scale", "deployment/nobody", "--replicas=1"], "there is no deployment nobody"),
        (["rollout", "restart", "deployment/nobody"], "there is no deployment nobody"),
        (["cordon", "nowhere"], "there is no node nowhere"),
        (["set", "link/web-0"], "say what the link is to be"),
        (["set", "link/web-0", "slow"], "slow: no state of a link"),
        (["set", "link/web-0", "loss=200%"], "not from 0% to 100%"),
        (["set", "link/web-0", "delay=soon"], "delay=soon: no time"),
        (["set", "link/nobody", "down"], "there is no Pod or node nobody"),
        (["delete", "pod", "web-0", "--now", "--force"], "--now is a grace period of its own"),
    ],
)
def test_wrong_words_are_exit_code_2(hairpin: Hairpin, words: list[str], said: str) -> None:
    ran = hairpin(*words)
    assert (ran.code, ran.out) == (2, "") and said in ran.err


def test_completion(hairpin: Hairpin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", hairpin.env["XDG_RUNTIME_DIR"])

    def offered(*words: str) -> list[str]:
        return [one.partition("\t")[0] for one in candidates(list(words))]

    assert offered("scale", "dep") == ["deployment/web"]
    assert offered("rollout", "") == ["restart", "status"]
    assert offered("rollout", "status", "deployment", "") == ["web"]
    assert offered("cordon", "n") == ["node"]
    assert "link/node" in offered("set", "link/")
    assert "down" in offered("set", "link/node", "")
    assert offered("set", "link/node", "lo") == [":nospace", "loss="]
