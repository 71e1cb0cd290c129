"""A World on the host's own kernel, from its first process to the lab process that answers.

PID 1 of a PID namespace of its own, like the guest's, with network, mount, UTS and IPC namespaces
of its own; for an ordinary user they belong to the keeper's user namespace.  PID 1 reaps what
others leave behind and ends when the lab process does, its only child; the kernel then takes all
the others.  The channel is a socket pair from the keeper.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from hairpin.kernel import syscalls
from hairpin.kernel.reactor import Reactor
from hairpin.lab.session import Handler
from hairpin.state.abilities import Abilities
from hairpin.world import directory, root
from hairpin.world.process import LabProcess, reap_until, serve
from hairpin.world.session import report

HOST_NAME = "hairpin"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "linux",
}

_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC
)
_OWNER = 3  # the keeper's, inherited


def start(path: Path, facts: dict[str, Any], channel: int) -> int:
    """From the keeper: starts PID 1 of a World and returns its process id out here.

    Later children of the caller would be in that PID namespace too.  Raises OSError.
    """
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child:
        return child
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.set_inheritable(channel, True)
        log = os.open(path / directory.CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        script = f"{path}/python/hairpin/world/bootstrap.py"
        arguments = [facts["python"], "-ISE", script, str(path), "hosted", str(channel)]
        os.execve(facts["python"], arguments, ENVIRONMENT)
    except BaseException as error:
        report(error)
    finally:
        os._exit(127)


def main(path: str, arguments: list[str]) -> NoReturn:
    """PID 1.  The end of it is the end of the World."""
    status = 1
    try:
        channel = int(arguments[0])
        os.close(_OWNER)
        facts = json.loads(Path(path, directory.FACTS).read_bytes())
        if os.getpid() != 1:
            raise RuntimeError("this is not PID 1 of a PID namespace")
        syscalls.unshare(_NAMESPACES)
        root.enter([path, *facts["needed"]], alone=not in_first_user_namespace())
        syscalls.sethostname(HOST_NAME)
        child = os.fork()
        if child:
            os.close(channel)
            status = int(reap_until(child) != 0)
        else:
            load = partial(_load_handler, facts)
            serve(lambda: channel, facts["window"], load, _settle)
    except BaseException as error:
        report(error)
    finally:
        sys.stderr.flush()
        os._exit(status)
    raise AssertionError("the process has ended")


def in_first_user_namespace() -> bool:
    """Whether user 0 here is the machine's: the first user namespace maps all ids to themselves."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]


def _load_handler(facts: dict[str, Any], reactor: Reactor) -> Handler:
    from hairpin.lab.service import LabService

    return LabService(reactor, msgspec.convert(facts["abilities"], Abilities))


def _settle(process: LabProcess) -> None:
    from hairpin.kernel.netns import raise_lo

    raise_lo()
    # Often a link into /run, whose target is not here: a file of its own, without a name server.
    resolver = Path("/etc/resolv.conf")
    try:
        resolver.unlink(missing_ok=True)
        resolver.write_text("options timeout:1 attempts:1\n")
    except OSError as error:  # where /etc could neither be laid over nor copied
        report(error)
    process.prepare()
