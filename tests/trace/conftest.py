"""The lab that faults are made in, one for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def typed(line: str, **env: str) -> tuple[int, str]:
    """Runs a printed line as a person would type it: exit code and output."""
    assert line.startswith("hairpin ")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        env={**os.environ, **env, "PATH": path},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
