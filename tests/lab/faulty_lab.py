"""A lab in which one call of the system fails, somewhere on the way: run by ``test_recovery``.

It needs namespaces of its own (``unshare``), of processes too: nothing of it may be left.
Arguments: the first call that is to fail, and every how manieth after it.  Prints, as JSON, how
many calls there are, how many of them failed, and what was not as it should be afterwards.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hairpin.kernel import spawn, syscalls
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.reactor import Reactor
from hairpin.lab import lab as lab_module
from hairpin.lab import workloads
from hairpin.lab.sandbox import NETNS_DIR
from hairpin.lab.service import LabService
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.decode import decode_object, encode
from hairpin.world import choice
from hairpin.world.session import report
from tests.lab.heard import Heard

PATIENCE = 10.0  # seconds until a lab has to have recovered; it takes some hundredths
_COUNTED: list[tuple[Any, str]] = [
    *((os, name) for name in ("fork", "pipe", "open", "stat", "listdir", "kill", "killpg")),
    *((os, name) for name in ("pidfd_open", "memfd_create", "mkdir", "unlink")),
    *((socket, name) for name in ("socket", "send_fds")),
    *((syscalls, name) for name in ("setns", "unshare", "mount", "umount")),
    (NetlinkSocket, "_transmit"),
    (spawn, "run"),
]


class Faults:
    """Counts the calls that reach for the system, and lets one of them fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = 0  # its number; 0 for none
        self.where = ""
        self._pid = os.getpid()
        for module, name in _COUNTED:
            setattr(module, name, self._counted(getattr(module, name), name))

    def _counted(self, really: Any, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            if os.getpid() == self._pid:  # children have enough trouble
                self.calls += 1
                if self.calls == self.failing:
                    self.where = f"{name} from {_caller()}"
                    raise OSError(errno.ENOMEM, "this one is made to fail")
            return really(*given, **named)

        if isinstance(really, type):
            return type(name, (really,), {"__new__": lambda kind, *a, **b: call(*a, **b)})
        return call


def _caller() -> str:
    frame = sys._getframe(2)
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


class Walk:
    """One lab, and the change that it makes again and again."""

    def __init__(self) -> None:
        self.reactor = Reactor(lambda error: None if _made(error) else report(error))
        abilities = choice.choose("host", "nftables").abilities
        self.service = LabService(self.reactor, abilities)
        self.lab = self.service._lab
        self.ask("apply", objects=_objects(_node()), config=_config())
        self.made = _objects(
            _pod("web", ports=[{"containerPort": 8080}]),
            _pod("work", command=["sleep", "1000"]),
            _pod("on-node", spec={"hostNetwork": True}, ports=[{"containerPort": 8081}]),
            _service(),
        )
        self.refs = [
            {"kind": one["kind"], "namespace": "default", "name": one["metadata"]["name"]}
            for one in self.made
        ]

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The answer, or None if it failed; raises TimeoutError for none."""
        session = Heard()
        session.guarded(lambda: self.service.open(session, {"verb": verb, **arguments}))
        self.run_until(lambda: bool(session.end), f"an answer to {verb}")
        assert len(session.end) == 1, session.end
        how, said, *_ = session.end[0]
        return said if how == "reply" else None

    def run_until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE

        seen = False

        def look() -> None:
            nonlocal seen
            try:
                seen = true()
            except OSError:  # this was the call that failed
                seen = False
            if seen or time.monotonic() > deadline:
                self.reactor.stop()
            else:
                self.reactor.after(0.002, look)

        self.reactor.after(0, look)
        self.reactor.run()
        if not seen:
            raise TimeoutError(what)

    def there(self) -> bool:
        """All that was applied runs, and the node serves it."""
        lab = self.lab
        keys = {("default", one["metadata"]["name"]) for one in self.made}
        if not keys <= lab.pods.runs.keys() | lab.snapshot.services.keys() or lab.turns.busy:
            return False
        if any(run.lacks() or run.terminating for run in lab.pods.runs.values()):
            return False
        return bool(lab.wanted_by("service default/web")) and not self._astray()

    def gone(self) -> bool:
        """Nothing of it is left."""
        lab = self.lab
        keys = {("default", one["metadata"]["name"]) for one in self.made}
        if keys & (lab.pods.runs.keys() | lab.snapshot.pods.keys()) or lab.turns.busy:
            return False
        left = any(Path(NETNS_DIR, name).exists() for name in ("web", "work"))
        return not left and not _sleeping() and not self._astray()

    def _astray(self) -> bool:
        return any(proxy.astray() for _, proxy in self.lab.proxies.by_node())

    def cycle(self, faults: Faults | None = None, number: int = 0) -> None:
        """Applies and deletes; call ``number`` from its begin on fails."""
        if faults is not None:
            faults.calls, faults.failing, faults.where = 0, number, ""
        if self.ask("apply", objects=self.made, wait=0) is None:
            calm(faults)
            self.ask("apply", objects=self.made, wait=0)
        self.run_until(self.there, "all to run")
        if self.ask("delete", refs=self.refs, grace=1) is None:
            calm(faults)
            self.ask("delete", refs=self.refs, grace=1)
        self.run_until(self.gone, "all to be gone")


def calm(faults: Faults | None) -> None:
    """No more failures: what is asked again has to be done."""
    if faults is not None:
        faults.failing = 0


def _made(error: BaseException) -> bool:
    return "made to fail" in str(error)


def _descriptors() -> list[str]:
    """What is open, without its number."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.append(str(entry.readlink()).partition(":")[0])
    return found


def _sleeping() -> list[str]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            if line.read_text().startswith("sleep\0"):
                found.append(line.parent.name)
    return found


def _objects(*raw: dict[str, Any]) -> list[Any]:
    shapes: list[Any] = json.loads(encode([decode_object(one) for one in raw]))
    return shapes


def _config() -> dict[str, Any]:
    import msgspec

    config = KubeProxyConfiguration(mode="nftables")
    shape: dict[str, Any] = msgspec.to_builtins(config, enc_hook=float)
    return shape


def _node() -> dict[str, Any]:
    spec = {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": spec}


def _pod(name: str, spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", **container}], **(spec or {})},
    }


def _service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def main(first: int, step: int) -> None:
    syscalls.mount("tmpfs", "/run", "tmpfs")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    lab_module._AGAIN = (0.01,)
    workloads._RESTART_DELAYS = (0.01,)
    walk = Walk()
    for _ in range(2):  # what is read and opened once for all
        walk.cycle()
    before = Counter(_descriptors())
    faults = Faults()
    walk.cycle(faults)
    calls = faults.calls
    wrong: list[str] = []
    numbers = range(first, calls + 1, step)
    for number in numbers:
        try:
            walk.cycle(faults, number)
        except (TimeoutError, AssertionError) as error:
            wrong.append(f"call {number} ({faults.where}): waited for {error}")
            break  # what is left of it would be found again
        calm(faults)
        if more := Counter(_descriptors()) - before:
            wrong.append(f"call {number} ({faults.where}) left open: {dict(more)}")
            break
    print(json.dumps({"calls": calls, "failed": len(numbers), "wrong": wrong}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
