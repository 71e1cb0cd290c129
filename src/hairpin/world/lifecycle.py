"""Starting, finding and ending Worlds, from the command line's side."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hairpin.lab.session import LabError
from hairpin.world import bytecode, directory
from hairpin.world.client import Client
from hairpin.world.client import connect as connect_to
from hairpin.world.protocol import KEEP
from hairpin.world.uml import MEMORY, window

TYPE_CHECKING = False  # most commands start no World: see _furnish
if TYPE_CHECKING:
    from hairpin.world.choice import Choice, Guest

PACKAGES = ("hairpin", "msgspec")
"""What the lab process imports from outside the standard library."""

_BOOT_MODULES = ("overlay",)
_LAB_MODULES = (
    "ipv6", "veth", "bridge", "br_netfilter", "dummy",
    "ip_vs", "ip_vs_rr", "nf_conntrack_netlink",
    "iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw", "bpfilter",
    "xt_MASQUERADE", "xt_conntrack", "xt_comment", "xt_mark", "xt_addrtype", "xt_tcpudp",
    # What a node's proxy always writes, see plan.ipvs_sets and plan.ipvs_rules.
    "ip6table_filter", "ip6table_nat", "ipt_REJECT", "ip6t_REJECT", "xt_set",
    "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet",
    "ip_set_bitmap_port",
)  # fmt: skip
"""What labs always need; modprobe brings the rest when the kernel asks for it."""

_START_WAIT = 60.0  # seconds; a guest takes 0.3 to 0.6, ten at once on two CPUs ten times that
_STOP_WAIT = 10.0
_KILL_WAIT = 10.0
_SLACK = 0.005


class Owner:
    """The right to end a World by going away: while held, the World dies with this process."""

    def __init__(self, link: socket.socket, keeper: int, path: Path) -> None:
        self._link = link
        self._keeper = keeper
        self._path = path

    def keep(self) -> None:
        """Lets the World live on after this process.  Raises LabError when it has ended."""
        try:
            self._link.sendall(KEEP)
            answer = _line(self._link, _STOP_WAIT)
        except OSError:
            answer = None
        if not answer or "kept" not in answer:
            raise LabError("the lab ended while it was being started", directory.tail(self._path))
        self._link.close()

    def close(self) -> None:
        """Ends the World unless it was kept, and waits until nothing of it is left."""
        if self._link.fileno() >= 0:
            self._link.close()
            _await_end(self._keeper, self._path)


def start(
    name: str,
    kernel: str = "auto",
    on_progress: Callable[[str], None] | None = None,
    *,
    isolation: str = "auto",
    mode: str = "ipvs",
    iptables: str | None = None,
) -> tuple[Client, Owner]:
    """Starts a World and waits until it answers.

    ``kernel``: "auto", "host", "guest".  ``on_progress`` gets one line at a time for people.
    ``mode`` is that of its proxies, ``iptables`` a variant to insist on (see ``choice.choose``).
    ``isolation`` is how the guest's processes are tied to the keeper, see ``spawn``.
    Raises LabError.  The World ends with the Owner until that is told to ``keep`` it.
    """
    tell = on_progress or (lambda line: None)
    from hairpin.world.choice import choose
    from hairpin.world.spawn import spawn

    choice = choose(kernel, mode, iptables)
    tell(choice.reason)
    path, lock = directory.create(name)
    try:
        _furnish(path, choice)
        if choice.guest is None:
            isolation = "root"
        link, keeper = spawn(path, choice.python, lock, isolation)
    except BaseException:
        directory.remove(path)
        raise
    finally:
        os.close(lock)
    owner = Owner(link, keeper, path)
    try:
        answer = _line(link, _START_WAIT)
        if not answer or "ready" not in answer:
            raise _failed(answer, path, choice)
    except BaseException:
        owner.close()
        raise
    tell(f"Linux {answer['ready']['kernel']} answered after {answer['seconds']:.2f} s")
    return Client(path), owner


def connect(name: str) -> Client:
    """As ``client.connect``, which is quicker to import where nothing else is wanted."""
    return connect_to(name)


def running() -> list[str]:
    """The names of this user's Worlds; what dead ones left behind is removed."""
    return directory.all_alive()


def facts(name: str) -> dict[str, Any]:
    """What a running World was made with: ``kernel`` ("host" or "guest"), ``started`` (seconds
    since 1970), ``abilities``.  Raises LabError when it is not running.
    """
    try:
        found: dict[str, Any] = json.loads((directory.path_of(name) / directory.FACTS).read_bytes())
    except (OSError, ValueError):  # not yet written, or gone
        raise directory.none_such(name) from None
    return found


def stop(name: str) -> None:
    """Ends a World and waits until nothing of it is left.  Raises LabError when there is none."""
    client = connect(name)
    try:
        link = directory.connect(client.path)
    except OSError:  # it ended just now
        _await_gone(client.path)
        return
    keeper = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    link.close()
    with contextlib.suppress(LabError), client.stream("down") as conversation:
        deadline = time.monotonic() + _STOP_WAIT
        while not conversation.over and time.monotonic() < deadline:
            conversation.wait(timeout=deadline - time.monotonic())
    _await_end(keeper, client.path)


@contextlib.contextmanager
def ephemeral(
    prefix: str,
    kernel: str = "auto",
    on_progress: Callable[[str], None] | None = None,
    *,
    mode: str = "ipvs",
) -> Iterator[Client]:
    """A World that lasts as long as the block, and never longer than the process.

    It can have proxies of that ``mode``; which one they have is said with the first objects.
    """
    name = f"{prefix}-{os.getpid()}-{os.urandom(2).hex()}"
    client, owner = start(name, kernel, on_progress, mode=mode)
    try:
        yield client
    finally:
        owner.close()


def _furnish(path: Path, choice: Choice) -> None:
    """Puts into a new folder what keeper and guest read from it."""
    from msgspec import to_builtins

    packages = [_package(name) for name in PACKAGES]
    bytecode.refresh(packages)
    (path / "python").mkdir()
    for package in packages:
        (path / "python" / package.name).symlink_to(package)
    facts = {
        "kernel": "guest" if choice.guest else "host",
        "python": choice.python,
        "window": window(),
        "needed": [str(package) for package in packages],
        "abilities": to_builtins(choice.abilities),
        "started": time.time(),
    }
    if choice.guest:
        (path / "uml").mkdir()
        facts |= _guest_facts(path, choice.guest)
    (path / directory.FACTS).write_text(json.dumps(facts))


def _guest_facts(path: Path, guest: Guest) -> dict[str, Any]:
    from hairpin.kernel.modules import load_order

    dependencies = (guest.modules / "modules.dep").read_text()

    def files(names: tuple[str, ...]) -> list[str]:
        return [str(guest.modules / file) for file in load_order(dependencies, names)]

    return {
        "linux": guest.linux,
        "tmpdir": guest.tmpdir,
        "cpu": _any_cpu(),
        "arguments": kernel_arguments(path),
        "modules": str(guest.modules),
        "boot_modules": files(_BOOT_MODULES),
        "lab_modules": files(_LAB_MODULES),
    }


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise LabError(f"the Python package {name} is not installed as files")
    return Path(found.origin).resolve().parent


def _any_cpu() -> int:
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[os.urandom(1)[0] % len(cpus)]


def kernel_arguments(path: Path) -> list[str]:
    """The kernel's command line.

    The two calls that are left out measure and seed what is not used here, for 0.9 s; 256 old
    pseudo terminals would be made for 0.2 s, and calibrating the delay loop takes 0.1 s.
    """
    return [
        f"mem={MEMORY >> 20}M",
        "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
        "con=null", "con0=null,fd:1",
        "initcall_blacklist=raid6_select_algo,ssl_init", "pty.legacy_count=0", "lpj=20000000",
        f"uml_dir={path}/uml", "umid=guest",
    ]  # fmt: skip


def _failed(answer: dict[str, Any] | None, path: Path, choice: Choice) -> LabError:
    said = answer.get("error") if answer else None
    last = directory.tail(path)
    what = "the embedded kernel" if choice.guest else "the lab on the host's kernel"
    return LabError(
        f"{what} did not start: {said or 'no answer from its keeper'}"
        + (f"\n{last}" if last else "")
    )


def _line(link: socket.socket, wait: float) -> dict[str, Any] | None:
    """The keeper's next line; None when it went away.  Raises LabError when it says nothing."""
    deadline = time.monotonic() + wait
    data = b""
    while not data.endswith(b"\n"):
        link.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            some = link.recv(65536)
        except TimeoutError:
            raise LabError(f"the lab did not answer for {wait:.0f} seconds") from None
        except ConnectionError:
            some = b""
        if not some:
            return None
        data += some
    answer: dict[str, Any] = json.loads(data.splitlines()[0])
    return answer


def _await_end(keeper: int, path: Path) -> None:
    """Waits for the keeper's end, helps it after a while, and removes what it left."""
    try:
        handle = os.pidfd_open(keeper)
    except ProcessLookupError:
        handle = -1
    if handle >= 0:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(_STOP_WAIT * 1000):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll.poll(_KILL_WAIT * 1000)
        os.close(handle)
    _await_gone(path)


def _await_gone(path: Path) -> None:
    """Waits until the last process of an ended World lets its folder go, which is removed then."""
    deadline = time.monotonic() + _KILL_WAIT
    while path.exists() and directory.alive(path) and time.monotonic() < deadline:
        time.sleep(_SLACK)
