"""One lab that the tests of kubectl's habits share: leave it as it was found."""

from collections.abc import Iterator

import pytest

from tests.cli.command import Hairpin, lab

SHARED = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: echo, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {clusterIP: 10.96.7.7, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {containers: [{name: shell, command: [sh, -c, "seq 1 5; exec sleep infinity"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: other, labels: {app: far}}
spec: {containers: [{name: shell, command: [sleep, infinity]}]}
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    """Deployment web, Service web, Pod client; and Pod far in the namespace other."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "shared.yaml").write_text(SHARED)
    with lab(folder, str(folder / "shared.yaml")) as hairpin:
        yield hairpin
