"""What the tests of ``kernel`` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.host import DIRECTORY, Host


@pytest.fixture
def host() -> Iterator[Host]:
    """A Kernel whose namespaces are all gone afterwards."""
    made = Host()
    try:
        yield made
    finally:
        made.kernel.close(destroy=True)
        assert not list(Path(DIRECTORY).glob(made.name("*")))
