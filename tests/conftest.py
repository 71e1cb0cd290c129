"""What tests of several folders share: a World in the guest."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from hairpin.lab.session import LabError
from hairpin.world import choice, lifecycle
from hairpin.world.client import Client

# Helpers are imported by their path from here (tests.world.watching), which is what mypy calls
# them; pytest by itself puts only the folders of the tests on the path.
sys.path.insert(0, str(Path(__file__).parents[1]))


# How long an example takes says more of the machine, on which other tests run, than of the code.
settings.register_profile("hairpin", deadline=None)
settings.load_profile("hairpin")


@cache
def _missing(marker: str) -> str | None:
    """Why tests with that marker cannot run on this machine."""
    if marker == "host":
        return None if os.getuid() == 0 else "needs root"
    try:
        choice.find_guest()
    except LabError as error:
        return f"no guest: {error.message}"
    return None


SLOW = (
    "tests/proxy/test_guest.py",
    "tests/claims/test_check.py",
    "tests/claims/test_seed.py",
    "tests/cli/test_diff.py",
)
"""Files that take longest: begun last, one of them would run when all else is done."""


def pytest_configure(config: pytest.Config) -> None:
    """Of several processes (pytest -n) each keeps to one CPU, and so do the guests it starts.

    A guest has one CPU, chosen at random; two tests' guests would share one half of the time.
    """
    # A shell without job control starts what it puts into the background with SIGINT ignored, and
    # all that the tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker:
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[int(worker) % len(cpus)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several processes: what takes longest comes first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {file: place for place, file in enumerate(SLOW)}
        items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(SLOW)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("host", "guest"):
        if item.get_closest_marker(marker) and (reason := _missing(marker)):
            pytest.skip(reason)


@pytest.fixture(scope="session")
def runtime_folder() -> Iterator[str]:
    """A folder for the Worlds of this test run, apart from those of the person who runs it."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="hairpin-test-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        yield folder
        for name in lifecycle.running():
            lifecycle.stop(name)
    if before is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = before


@pytest.fixture(scope="session")
def guest(runtime_folder: str) -> Iterator[Client]:
    """A World in the guest that all tests share: leave it as it was found."""
    with lifecycle.ephemeral("test", "guest") as client:
        yield client
