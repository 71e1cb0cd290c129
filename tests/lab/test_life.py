"""Pods come, serve and go as in Kubernetes: endings, roll-outs, cordons, by real packets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hairpin.lab.session import LabError
from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client

pytestmark = pytest.mark.guest

Shape = dict[str, Any]
PORTS = [{"containerPort": 8080}]
STUBBORN = 'trap "" TERM; while :; do sleep 0.2; done'
_SHELL = 0.5  # seconds until it has set its trap
POLITE = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def pod(name: str, app: str = "", grace: int | None = None, **container: Any) -> Shape:
    spec: Shape = {"containers": [{"name": "c", **container}]}
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    labels = {"app": app or name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def service(name: str, ip: str, **spec: Any) -> Shape:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": ip, "selector": {"app": name}, "ports": ports, **spec},
    }


def deployment(name: str, replicas: int, **container: Any) -> Shape:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod("x", **container)["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with lifecycle.ephemeral("life", "guest") as running:
        apply(running, pod("client", command=["sleep", "infinity"]))
        yield running


def apply(client: Client, *objects: Shape) -> None:
    shapes = json.loads(encode([decode_object(one) for one in objects]))
    assert not client.call("apply", objects=shapes)["warnings"]


def delete(client: Client, *names: str, kind: str = "Pod", **more: Any) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    refs = [{"kind": kind, "namespace": "default", "name": name} for name in names]
    client.call("delete", refs=refs, **more)
    return time.monotonic() - begun


def pods(client: Client, app: str) -> dict[str, Shape]:
    return {
        one["metadata"]["name"]: one
        for one in client.call("get", kind="pods")
        if one["metadata"].get("labels", {}).get("app") == app
    }


def conditions(client: Client, name: str) -> list[Shape]:
    """Of the endpoints of a Service."""
    return [
        endpoint["conditions"]
        for piece in client.call("get", kind="endpoints")
        if piece["metadata"]["labels"]["kubernetes.io/service-name"] == name
        for endpoint in piece.get("endpoints") or []
    ]


def until(true: Callable[[], bool], limit: float = 10) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(client: Client, ip: str, times: int = 1, **more: Any) -> list[Shape]:
    probe = {"ip": ip, "port": 80, "timeout": 2.0, **more}
    attempt = {"netns": "client", "probe": probe, "times": times}
    seen: list[list[Shape]] = client.call("probe", attempts=[attempt])
    return seen[0]


def who(seen: list[Shape]) -> set[str]:
    """The Pods that answered, or what became of it else."""
    return {json.loads(s["body"])["pod"] if s["body"] else s["outcome"] for s in seen}


GOING = {"ready": False, "serving": True, "terminating": True}


def test_the_last_endpoint_serves_while_it_goes(client: Client) -> None:
    hook = {"preStop": {"sleep": {"seconds": 2}}}
    apply(client, pod("last", ports=PORTS, lifecycle=hook), service("last", "10.96.1.1"))
    delete(client, "last", wait=False)
    assert conditions(client, "last") == [GOING]
    assert who(ask(client, "10.96.1.1", 4)) == {"last"}
    assert "deletionTimestamp" in pods(client, "last")["last"]["metadata"]
    until(lambda: not pods(client, "last"))
    assert conditions(client, "last") == []
    assert who(ask(client, "10.96.1.1")) == {"refused"}


def test_new_connections_leave_it_where_another_is_ready(client: Client) -> None:
    hook = {"preStop": {"sleep": {"seconds": 2}}}
    apply(client, *(pod(one, "two", ports=PORTS, lifecycle=hook) for one in ("two-a", "two-b")))
    apply(client, service("two", "10.96.1.2"))
    assert who(ask(client, "10.96.1.2", 8)) == {"two-a", "two-b"}
    delete(client, "two-a", wait=False)
    assert who(ask(client, "10.96.1.2", 8)) == {"two-b"}
    delete(client, "two-a", "two-b", grace=0)


def test_publish_not_ready_addresses_keeps_it_listed(client: Client) -> None:
    hook = {"preStop": {"sleep": {"seconds": 2}}}
    apply(client, pod("open", ports=PORTS, lifecycle=hook))
    apply(client, service("open", "10.96.1.3", publishNotReadyAddresses=True))
    delete(client, "open", wait=False)
    assert conditions(client, "open") == [{**GOING, "ready": True}]
    delete(client, "open", grace=0)


def test_a_held_connection_is_answered_by_a_pod_on_its_way_out(client: Client) -> None:
    apply(client, pod("held", ports=PORTS), service("held", "10.96.1.4"))
    probe = {"ip": "10.96.1.4", "port": 80, "timeout": 2.0}
    number = client.call("hold", netns="client", probe=probe)["id"]
    delete(client, "held", wait=False)
    time.sleep(1.0)
    assert list(pods(client, "held")) == ["held"]
    assert json.loads(client.call("ask", id=number)["body"])["pod"] == "held"
    until(lambda: not pods(client, "held"), 2)


@pytest.mark.parametrize(
    ("script", "own", "given", "least"),
    [
        (POLITE, 60, None, 0.0),
        (STUBBORN, 2, None, 1.9),
        (STUBBORN, 60, 1, 0.9),
        (STUBBORN, 60, 0, 0.0),
    ],
)
def test_sigterm_and_after_the_grace_period_sigkill(
    client: Client, script: str, own: int, given: int | None, least: float
) -> None:
    """``own`` is the Pod's grace period.  30 s would be Kubernetes' own, and 60 somebody's that
    does not count here: even a busy machine is done before either."""
    apply(client, pod("stays", grace=own, command=["sh", "-c", script]))
    time.sleep(_SHELL)
    assert least <= delete(client, "stays", grace=given) < 25
    assert not pods(client, "stays")


def test_deleting_again_with_less_time_is_sooner(client: Client) -> None:
    apply(client, pod("long", grace=60, command=["sh", "-c", STUBBORN]))
    time.sleep(_SHELL)
    delete(client, "long", wait=False)
    assert 0.9 <= delete(client, "long", grace=1) < 25


def test_a_pre_stop_command_is_done_before_sigterm(client: Client) -> None:
    script = "trap 'echo told >> /tmp/said; cat /tmp/said; exit' TERM; while :; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "sleep 1; echo hook > /tmp/said"]}}}
    apply(client, pod("hooked", command=["sh", "-c", script], lifecycle=hook))
    said: list[str] = []

    def follow() -> None:
        with client.stream("logs", namespace="default", pod="hooked", follow=True) as stream:
            said.extend(payload.decode(errors="replace") for _, payload in stream.frames())

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.3)
    assert delete(client, "hooked") >= 1.0
    thread.join(5)
    assert "hook\ntold" in "".join(said)


def test_applying_a_pod_on_its_way_out_does_not_keep_it(client: Client) -> None:
    # Longer than a machine with much else to do takes for the requests until it is cut short.
    hook = {"preStop": {"sleep": {"seconds": 20}}}
    shape = pod("back", ports=PORTS, lifecycle=hook)
    apply(client, shape)
    delete(client, "back", wait=False)
    marked = pods(client, "back")["back"]["metadata"]["deletionTimestamp"]
    answer = client.call("apply", objects=json.loads(encode([decode_object(shape)])))
    assert answer["warnings"] == [
        "Pod default/back is being deleted, and what was applied goes with it"
    ]
    assert pods(client, "back")["back"]["metadata"]["deletionTimestamp"] == marked
    delete(client, "back", grace=0)
    assert not pods(client, "back")
    apply(client, shape)
    assert "deletionTimestamp" not in pods(client, "back")["back"]["metadata"]
    delete(client, "back", grace=0)


class Load:
    """Connections to a Service, one after the other in four lanes, while something happens."""

    def __init__(self, client: Client, ip: str) -> None:
        self.seen: list[Shape] = []
        self._going = True
        self._client, self._ip = client, ip
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        until(lambda: len(self.seen) > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()

    def _run(self) -> None:
        probe = {"ip": self._ip, "port": 80, "timeout": 3.0}
        attempt = {"netns": "client", "probe": probe, "times": 5}
        while self._going:
            for some in self._client.call("probe", attempts=[attempt] * 4):
                self.seen += some


def test_a_rolling_restart_fails_no_connection(client: Client) -> None:
    apply(client, deployment("web", 3, ports=PORTS), service("web", "10.96.1.5"))
    before = {one["metadata"]["name"] for one in pods(client, "web").values()}
    with Load(client, "10.96.1.5") as load:
        for _ in range(3):
            client.call("restart", namespace="default", names=["web"])
            client.call("rollout-status", namespace="default", names=["web"])
            until(lambda: len(pods(client, "web")) == 3)
    assert not before & set(pods(client, "web"))
    failed = [one for one in load.seen if one["outcome"] != "answered"]
    assert load.seen and not failed
    assert who(ask(client, "10.96.1.5", 6)) == set(pods(client, "web"))


def test_recreate_ends_all_pods_before_the_first_new_one(client: Client) -> None:
    """Which get the names and addresses of those just gone."""
    shape = deployment("anew", 2, ports=PORTS)
    shape["spec"]["strategy"] = {"type": "Recreate"}
    apply(client, shape, service("anew", "10.96.1.10"))
    before = {one["status"]["startTime"] for one in pods(client, "anew").values()}
    time.sleep(1)  # the times count seconds
    client.call("restart", namespace="default", names=["anew"])
    client.call("rollout-status", namespace="default", names=["anew"], limit=10)
    after = {one["status"]["startTime"] for one in pods(client, "anew").values()}
    assert not before & after
    assert who(ask(client, "10.96.1.10", 6)) == set(pods(client, "anew"))


def test_scaling_under_load_fails_no_connection(client: Client) -> None:
    apply(client, deployment("some", 1, ports=PORTS), service("some", "10.96.1.6"))
    with Load(client, "10.96.1.6") as load:
        for replicas in (4, 1, 3):
            client.call("scale", namespace="default", names=["some"], replicas=replicas)
            until(lambda replicas=replicas: len(pods(client, "some")) == replicas)  # type: ignore[misc]
    assert [one for one in load.seen if one["outcome"] != "answered"] == []
    assert len(who(ask(client, "10.96.1.6", 6))) == 3


def test_a_roll_out_waits_for_what_never_gets_ready(client: Client) -> None:
    never = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    apply(client, deployment("stuck", 2, ports=PORTS), service("stuck", "10.96.1.7"))
    shape = deployment("stuck", 2, ports=PORTS, readinessProbe=never)
    shapes = json.loads(encode([decode_object(shape)]))
    client.call("apply", objects=shapes, wait=0.5)
    told = client.call("rollout-status", namespace="default", names=["stuck"], watch=False)
    assert told["waits_for"] == "1 out of 2 new replicas have been updated"
    assert who(ask(client, "10.96.1.7", 4)) == {"stuck-0", "stuck-1"}
    apply(client, deployment("stuck", 2, ports=PORTS))
    until(lambda: set(pods(client, "stuck")) == {"stuck-0", "stuck-1"})


def test_an_exec_probe_decides_who_serves(client: Client) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1}
    ready: Shape = {"readinessProbe": {**probe, "failureThreshold": 1}}
    shapes = [pod("asked", ports=PORTS, **ready), service("asked", "10.96.1.8")]
    objects = json.loads(encode([decode_object(one) for one in shapes]))
    client.call("apply", objects=objects, wait=0)
    assert who(ask(client, "10.96.1.8")) == {"refused"}
    run(client, "asked", "touch", "/tmp/up")
    until(lambda: who(ask(client, "10.96.1.8")) == {"asked"})
    run(client, "asked", "rm", "/tmp/up")
    until(lambda: who(ask(client, "10.96.1.8")) == {"refused"})
    delete(client, "asked")


def run(client: Client, name: str, *argv: str) -> None:
    where = {"namespace": "default", "pod": name, "argv": list(argv)}
    with client.stream("exec", **where) as stream:
        for _ in stream.frames():
            pass
        assert stream.reply == {"exit": 0}


def test_deleting_a_deployment_waits_for_its_pods(client: Client) -> None:
    apply(client, deployment("short", 2, ports=PORTS))
    delete(client, "short", kind="Deployment")
    assert not pods(client, "short")


def test_what_happens_to_endpoints_is_told_as_it_happens(client: Client) -> None:
    apply(client, pod("seen", ports=PORTS), service("seen", "10.96.1.9"))
    states: list[list[Shape]] = []
    hook = {"preStop": {"sleep": {"seconds": 1}}}
    with client.stream("watch", kind="endpoints") as stream:
        apply(client, pod("seen", ports=PORTS, lifecycle=hook))
        delete(client, "seen")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and (not states or states[-1]):
            for _, payload in stream.wait(timeout=1)[0]:
                shape = json.loads(payload).get("object")
                if shape and shape["metadata"]["name"].startswith("seen-"):
                    states.append([one["conditions"] for one in shape.get("endpoints") or []])
    assert [GOING] in states and states[-1] == []


def test_scaling_what_is_not_there_says_what_is(client: Client) -> None:
    apply(client, deployment("known", 0))
    with pytest.raises(LabError, match="there is no deployment nobody in namespace default") as at:
        client.call("scale", namespace="default", names=["nobody"], replicas=1)
    assert at.value.exit_code == 2 and "known" in str(at.value.remedy)
