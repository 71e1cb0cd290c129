"""Whatever is done to a good manifest, a running lab takes it or refuses it in words.

No traceback, no hang, and when the objects are gone nothing is left of them.
"""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hairpin.lab.session import LabError
from hairpin.model.decode import encode
from hairpin.model.errors import ManifestError
from hairpin.source.documents import documents
from hairpin.source.manifests import load
from hairpin.world import lifecycle
from hairpin.world.client import Client
from tests.cli.command import WEB

LONG = bool(os.environ.get("HAIRPIN_LONG"))
EXAMPLES = 1_000 if LONG else 25
LIMIT = 60.0  # seconds for one request
pytestmark = [pytest.mark.guest, pytest.mark.timeout(7200 if LONG else 120)]

with open(WEB, "rb") as _file:
    OBJECTS = [document.value for document in documents(_file.read(), "f")]
OBJECTS += [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "peers", "namespace": "other"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "late", "namespace": "other", "labels": {"app": "web"}},
        "spec": {
            "hostname": "first",
            "subdomain": "peers",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "c",
                    "command": ["sleep", "1000"],
                    "workingDir": "/",
                    "env": [{"name": "A", "value": "b"}],
                    "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
                }
            ],
        },
    },
]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, 0, 1, -1, 80, 65535, 65536, 2**40, 0.5, "", "None", "a", "web", "x" * 63,
         "x" * 200 + ".y", "10.96.0.10", "10.244.0.254", "10.244.0.1", "10.96.0.1", "fd00::1",
         "UDP", "/nowhere", "kube-system", "node", [], {}, ["true"], ["/no/such/program"]]
    ),
    st.text(max_size=8),
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in ``value`` with each of its keys or positions."""
    keys: Any = ()
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
    return [(value, key) for key in keys] + [deep for key in keys for deep in places(value[key])]


@pytest.fixture(scope="module")
def world(runtime_folder: str) -> Iterator[Client]:
    with lifecycle.ephemeral("fuzz", "guest") as client:
        yield client


@given(st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_running_lab_takes_it_or_refuses_it(world: Client, data: st.DataObject) -> None:
    objects = copy.deepcopy(OBJECTS)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(objects)))
        if data.draw(st.booleans()):
            container[key] = data.draw(VALUES)
        elif data.draw(st.booleans()):
            del container[key]
    try:
        loaded = load(["-"], stdin=io.StringIO(yaml.safe_dump_all(objects)))
    except ManifestError:
        return  # tests/source looks at those
    _call(world, "apply", objects=json.loads(encode(loaded.objects)), wait=0)
    held = [(kind, one["metadata"]) for kind in ("Pod", "Service") for one in _all(world, kind)]
    refs = [
        {"kind": kind, "namespace": meta["namespace"], "name": meta["name"]}
        for kind, meta in held
        if "hairpin.dev/implied" not in meta.get("annotations", {})
    ]
    if refs:
        world.call("delete", refs=refs, limit=LIMIT)
    assert [one["metadata"]["name"] for one in _all(world, "Pod")] in ([], ["coredns"])
    namespaces = world.call("run", argv=["ls", "/run/netns"], netns="outside_", limit=LIMIT)
    assert set(namespaces["output"].split()) <= {"kube-system_coredns"}


def _all(world: Client, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.call("get", kind=f"{kind.lower()}s", limit=LIMIT)
    return found


def _call(world: Client, verb: str, **arguments: Any) -> None:
    try:
        world.call(verb, limit=LIMIT, **arguments)
    except LabError as error:
        assert error.exit_code == 2, error  # the input was wrong, and nothing else
        assert 1 <= len(str(error).splitlines()) <= 2
        assert "Error:" not in error.message, error
