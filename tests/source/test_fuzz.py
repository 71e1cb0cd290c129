"""Whatever is done to a good manifest, it is either read or refused in words."""

from __future__ import annotations

import copy
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hairpin.model.decode import decode_objects, encode, to_api
from hairpin.model.errors import ManifestError
from hairpin.source.cluster import admit
from hairpin.source.documents import documents
from hairpin.source.manifests import load
from hairpin.source.settings import LAB

EXAMPLES = [Path(name).read_text() for name in ("examples/seed.yaml", "examples/web.yaml")]
EXTRA = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, labels: {app: api}}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - name: api
        env: [{name: A, value: b}]
        ports: [{containerPort: 9090, name: api}]
        readinessProbe: {httpGet: {port: api, httpHeaders: [{name: a, value: b}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}, hints: {forZones: [{name: a}]}}]
ports: [{name: db, port: 5432, protocol: TCP}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  type: ExternalName
  externalName: example.com
  loadBalancerSourceRanges: [192.0.2.0/24]
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}
status: {loadBalancer: {ingress: [{ip: 192.0.2.7, ipMode: VIP}]}}
"""
CLUSTER = Path("tests/source/cluster.yaml").read_text()  # takes the way of an import
TEXTS = [*EXAMPLES, EXTRA, CLUSTER]
EXAMPLES_EACH = 10_000 if os.environ.get("HAIRPIN_LONG") else 300
pytestmark = pytest.mark.timeout(3600 if os.environ.get("HAIRPIN_LONG") else 120)
OBJECTS = [d.value for text in TEXTS for d in documents(text.encode(), "f")]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 80, 65535, 65536, -1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["None", "", "10.0.0.1", "10.0.0.0/8", "fd00::1", "a/b", "172.22.0.2", "TCP"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
PIECES = st.sampled_from(
    [
        *"{}[]:,-?&*!|>'\"%@`#~<= \n\t",
        "---\n",
        "- ",
        ": ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "\0",
        "08",
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in ``value`` with each of its keys or positions."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    found = [(value, key) for key in keys]
    return found + [deep for _, key in found for deep in places(value[key])]


def read(text: str) -> None:
    """Reads and admits; what comes through can be sent, shown, and read again."""
    try:
        loaded = load(["-"], stdin=io.StringIO(text))
        snapshot = admit(loaded.objects, settings=LAB, where=loaded.where)
    except ManifestError as error:
        assert 1 <= len(str(error).splitlines()) <= 2
        assert error.message
        return
    assert decode_objects(encode(snapshot)) == tuple(snapshot)
    shown = "\n".join(json.dumps(to_api(thing)) for thing in snapshot)
    assert admit(load(["-"], stdin=io.StringIO(shown)).objects, settings=LAB) == snapshot


@given(st.data())
@settings(max_examples=EXAMPLES_EACH, deadline=None)
def test_any_value_anywhere(data: st.DataObject) -> None:
    objects = copy.deepcopy(OBJECTS)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(objects)))
        action = data.draw(st.sampled_from(["replace", "remove", "double", "add"]))
        if action == "replace":
            container[key] = data.draw(VALUES)
        elif action == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[data.draw(st.text(max_size=5))] = data.draw(VALUES)
    read(yaml.safe_dump_all(objects, allow_unicode=True))


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=EXAMPLES_EACH, deadline=None)
def test_any_text_anywhere(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 0, 1, 1, 2, 10]))
        piece = data.draw(st.one_of(PIECES, st.text(max_size=3)))
        text = text[:start] + piece + text[start + length :]
    read(text)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        load(["-"], stdin=io.TextIOWrapper(io.BytesIO(data)))
    except ManifestError as error:
        assert str(error)
