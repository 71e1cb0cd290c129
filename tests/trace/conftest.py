"""The lab that faults are made in, one for all tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hairpin.claims.faults_cast import OBJECTS
from hairpin.world.client import Client
from tests.cli.command import Hairpin, lab


@pytest.fixture(scope="session")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    """Nodes n1 and n2, Pods foo, bar, far, client, a Service for each that serves."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "cast.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS})
    )
    with lab(folder, str(folder / "cast.json")) as hairpin:
        yield hairpin


@pytest.fixture
def client(cast: Hairpin) -> Client:
    """The same lab, without the command line."""
    return Client(Path(cast.env["XDG_RUNTIME_DIR"]) / "hairpin" / "default")
