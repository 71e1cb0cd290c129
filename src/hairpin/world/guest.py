"""The guest from its first process to the lab process that answers.

The root is hostfs: the host's files, read-only, with the host's ownership.  An overlay with a
tmpfs on top takes its place, so that everything can be written and nothing reaches the host.
PID 1 reaps what others leave behind and ends the machine when the lab process ends; the lab
process is its only child.

Only what an answer needs comes before the first answer: imports, spawns and modules are paid in
milliseconds here.  The rest follows in ``_settle``.
"""

from __future__ import annotations

import _socket
import fcntl
import json
import os
import struct
import sys
from functools import partial

from hairpin.kernel import syscalls
from hairpin.world.link import ETHERTYPE
from hairpin.world.process import reap_until, serve
from hairpin.world.session import report

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from hairpin.kernel.reactor import Reactor
    from hairpin.lab.session import Handler
    from hairpin.world.process import LabProcess

DEVICE = "vec0"
HOST_NAME = "hairpin"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "linux",
}

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
_BUFFER = 4 << 20  # bytes; both windows of full frames with room to spare
_SCRATCH = "/tmp"  # exists everywhere, and is mounted on only while the root changes
_OLD = "/run/host"
_PARAMETERS = {"dummy.ko": "numdummies=0"}  # by default it makes a device that nobody asked for
_HIDDEN = ("/run/", "/tmp/")  # folders of the host that the guest replaces by its own


def main(directory: str, arguments: list[str]) -> NoReturn:
    """PID 1.  The end of it is the end of the machine.

    Raises RuntimeError, before anything is touched, on another kernel than the guest's own.
    """
    with open(f"{directory}/world.json", "rb") as file:
        facts = json.load(file)
    release = os.uname().release
    if os.getpid() != 1 or facts["modules"].rpartition("/")[2] != release:
        raise RuntimeError(f"this is Linux {release}, not the embedded kernel")
    try:
        _new_root([directory, *facts["needed"]], facts["boot_modules"])
        os.environ.clear()
        os.environ.update(ENVIRONMENT)
        child = os.fork()
        if child:
            reap_until(child)
        else:
            serve(_open_channel, facts["window"], _load_handler, partial(_settle, facts))
    except BaseException as error:
        report(error)
    finally:
        sys.stderr.flush()
        syscalls.reboot(syscalls.RB_POWER_OFF)
    raise AssertionError("the machine is off")


def _new_root(needed: list[str], modules: list[str]) -> None:
    """Makes / an overlay over the host's files, the kernel's own filesystems in their places.

    ``needed``: paths that hairpin runs from; they stay where they are even in a folder that the
    guest has its own of.
    """
    mount = syscalls.mount
    for path in modules:
        _load_module(path)
    mount("tmpfs", _SCRATCH, "tmpfs")
    new, upper, work = (f"{_SCRATCH}/{name}" for name in ("root", "upper", "work"))
    for path in (new, upper, work):
        os.mkdir(path)
    mount("overlay", new, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    mount("tmpfs", f"{new}/run", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    mount("tmpfs", f"{new}/tmp", "tmpfs", syscalls.MS_NOSUID, "mode=1777")
    os.mkdir(new + _OLD)
    syscalls.pivot_root(new, new + _OLD)
    os.chdir("/")
    syscalls.umount(_OLD + _SCRATCH, syscalls.MNT_DETACH)
    for path in needed:
        if path.startswith(_HIDDEN):
            os.makedirs(path, exist_ok=True)
            mount(_OLD + path, path, None, syscalls.MS_BIND)
    syscalls.umount(_OLD, syscalls.MNT_DETACH)
    os.rmdir(_OLD)
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    mount("devtmpfs", "/dev", "devtmpfs")
    os.makedirs("/dev/pts", exist_ok=True)
    mount("devpts", "/dev/pts", "devpts", 0, "mode=620,ptmxmode=666")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    os.makedirs("/dev/shm", exist_ok=True)
    mount("tmpfs", "/dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)
    os.mkdir("/run/netns")
    syscalls.sethostname(HOST_NAME)


def _load_handler(reactor: Reactor) -> Handler:
    from hairpin.lab.service import LabService
    from hairpin.state.abilities import GUEST

    return LabService(reactor, GUEST)


def _open_channel() -> int:
    """The packet socket on the vector device, which it brings up: its descriptor."""
    channel = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, _socket.htons(ETHERTYPE))
    for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
        channel.setsockopt(_socket.SOL_SOCKET, option, _BUFFER)
    # Bound first: frames that wait on the host's side are delivered as soon as it is up.
    channel.bind((DEVICE, ETHERTYPE))
    _bring_up(channel, DEVICE)
    channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)  # ENETDOWN, from before
    return channel.detach()


def _bring_up(any_socket: _socket.socket, device: str) -> None:
    request = struct.pack("16sH14x", device.encode(), 0)
    flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", device.encode(), flags | _IFF_UP))


def _load_module(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.finit_module(fd, _PARAMETERS.get(os.path.basename(path), ""))
    except FileExistsError:
        pass
    finally:
        os.close(fd)


def _settle(facts: dict[str, Any], process: LabProcess) -> None:
    """What a lab and its users need, but no answer does."""
    for path in facts["lab_modules"]:
        _load_module(path)
    # The channel is nobody's network: no router solicitation, no link-local address.
    _write("/proc/sys/net/ipv6/conf/vec0/disable_ipv6", "1")
    # One table of neighbours for all namespaces: room for some thousand Pods (arp(7)).
    for step, entries in enumerate((4096, 16384, 32768), start=1):
        _write(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{step}", str(entries))
    # A broadcast on a bridge is a packet for each of its ports, and all of them wait in one queue:
    # with the kernel's 1 000 a few ARP questions among 400 Pods lose most of their copies.
    _write("/proc/sys/net/core/netdev_max_backlog", "65536")
    # By its memory the kernel would track 4 096 connections and drop what comes on top; a node has
    # at least 131 072 (conntrack.min of kube-proxy).  It is one limit for all namespaces.
    _write("/proc/sys/net/netfilter/nf_conntrack_max", "131072")
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    _bring_up(any_socket, "lo")
    any_socket.close()
    modules = facts["modules"]
    seen_at = f"/lib/modules/{os.uname().release}"
    os.makedirs(seen_at, exist_ok=True)
    syscalls.mount(modules, seen_at, None, syscalls.MS_BIND)
    _prefer_legacy_iptables()
    # Often a link into /run, whose target is not here: a file of its own, without a name server.
    _replace("/etc/resolv.conf")
    _write("/etc/resolv.conf", "options timeout:1 attempts:1\n")
    process.prepare()


def _prefer_legacy_iptables() -> None:
    """Makes each iptables command the legacy variant: this kernel has no nf_tables for IP.

    Where Debian's alternatives choose, their links are changed; elsewhere the command itself.
    """
    for family in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            legacy = _find(f"{family}-legacy{suffix}")
            command = f"/etc/alternatives/{family}{suffix}"
            if not os.path.lexists(command):
                command = _find(family + suffix) or ""
            if legacy and command and os.path.realpath(command) != os.path.realpath(legacy):
                _replace(command)
                os.symlink(legacy, command)


def _find(command: str) -> str | None:
    for folder in ENVIRONMENT["PATH"].split(":"):
        if os.path.lexists(f"{folder}/{command}"):
            return f"{folder}/{command}"
    return None


def _replace(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
