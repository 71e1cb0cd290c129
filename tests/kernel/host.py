"""A Kernel of the host with namespaces that ``ip -n`` sees."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from hairpin.kernel.apply import Kernel
from hairpin.state.change import Change, Object
from hairpin.state.links import Netns

DIRECTORY = "/run/netns"


class Host:
    """The kernel under test, and ``ip`` as the witness of what it did.

    Namespaces have a prefix of their own, so that tests may run side by side.
    """

    def __init__(self) -> None:
        self.kernel = Kernel(DIRECTORY)
        self._prefix = f"hairpin-test-{os.getpid()}-"

    def name(self, name: str) -> str:
        return self._prefix + name

    def make(self, *names: str) -> list[str]:
        full = [self.name(name) for name in names]
        self.must(*(self.add(Netns(name=name), "") for name in full))
        return full

    def add(self, thing: Object, netns: str) -> Change:
        return Change(verb="add", netns=netns, object=thing)

    def remove(self, thing: Object, netns: str) -> Change:
        return Change(verb="remove", netns=netns, object=thing)

    def put(self, thing: Object, netns: str, before: Object | None = None) -> Change:
        return Change(verb="set", netns=netns, object=thing, before=before)

    def must(self, *changes: Change) -> None:
        failed = self.kernel.apply(changes)
        assert not failed, "\n".join(map(str, failed))

    def ip(self, netns: str, *arguments: str) -> Any:
        """What ``ip -j`` says in a namespace."""
        argv = ["ip", "-n", netns, "-d", "-j", *arguments]
        out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return json.loads(out or "[]")

    def run(self, netns: str, *argv: str) -> str:
        """What a program prints in a namespace."""
        return subprocess.run(
            ["ip", "netns", "exec", netns, *argv], check=True, capture_output=True, text=True
        ).stdout
