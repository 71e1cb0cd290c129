"""readinessProbe drives EndpointSlices and real servers."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cli.command import Hairpin, lab

pytestmark = pytest.mark.guest

PROBES = {
    "command": "exec: {command: [test, -e, /tmp/ready]}",
    "http": "httpGet: {path: /ready, port: web}",
    "tcp": "tcpSocket: {port: 8081}",
}

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: web}}
spec:
  containers:
  - name: server
    command: [sh, -c, "cd /tmp && exec python3 -m http.server 8080"]
    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {periodSeconds: 1, failureThreshold: 1, %s}
---
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80, targetPort: web}]}
"""

MAKE_READY = {
    "command": "touch /tmp/ready",
    "http": "touch /tmp/ready",
    "tcp": "python3 -m http.server 8081 >/dev/null 2>&1 &",
}
UNDO = {"command": "rm /tmp/ready", "http": "rm /tmp/ready", "tcp": "pkill -f 'server 808[1]'"}


@pytest.fixture(scope="module")
def hairpin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    folder = tmp_path_factory.mktemp("run")
    text = "".join(POD % (name, probe) for name, probe in PROBES.items()) + SERVICE
    (folder / "pods.yaml").write_text(text)
    with lab(folder, str(folder / "pods.yaml")) as running:
        yield running


def _ready(hairpin: Hairpin) -> set[str]:
    pods = json.loads(hairpin.ok("get", "pods", "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]
        for pod in pods
        if all(one["ready"] for one in pod["status"]["containerStatuses"])
    }


def _real_servers(hairpin: Hairpin) -> set[str]:
    pods = json.loads(hairpin.ok("get", "pods", "-o", "json"))["items"]
    names = {pod["status"]["podIP"]: pod["metadata"]["name"] for pod in pods}
    server = json.loads(hairpin.ok("get", "vs", "10.96.0.10:80", "-o", "json"))
    return {names[one["server"]["ip"]] for one in server["real_servers"]}


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_nothing_is_ready_before_its_probe_says_so(hairpin: Hairpin) -> None:
    assert _ready(hairpin) == set()
    assert _real_servers(hairpin) == set()


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_makes_ready_and_unready(hairpin: Hairpin, kind: str) -> None:
    hairpin.ok("exec", kind, "--", "sh", "-c", MAKE_READY[kind])
    _until(lambda: kind in _ready(hairpin) and kind in _real_servers(hairpin))
    hairpin.ok("exec", kind, "--", "sh", "-c", UNDO[kind])
    _until(lambda: kind not in _ready(hairpin) and kind not in _real_servers(hairpin))


def test_a_container_that_ends_is_restarted_and_counted(hairpin: Hairpin) -> None:
    hairpin.ok("exec", "command", "--", "sh", "-c", "touch /tmp/ready")
    _until(lambda: "command" in _real_servers(hairpin))
    hairpin("exec", "command", "--", "pkill", "-f", "http.server 8080")
    _until(lambda: "command" not in _real_servers(hairpin))
    _until(lambda: "command" in _real_servers(hairpin))
    pod = json.loads(hairpin.ok("get", "pod", "command", "-o", "json"))
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1
