"""Network namespaces as handles.

A namespace lives while something holds it: a descriptor, a process, a mount.  The handle holds a
descriptor; a bind mount under /run/netns also shows it to ``ip netns``.  Entering one moves the
calling thread only (setns(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hairpin.kernel.errors import KernelError
from hairpin.kernel.syscalls import CLONE_NEWNET, MNT_DETACH, MS_BIND, mount, setns, umount, unshare

_HERE = "/proc/thread-self/ns/net"
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP = 0x1


class Netns:
    """A network namespace, held open by ``fd`` until ``close``."""

    def __init__(self, name: str, fd: int, path: str | None = None) -> None:
        self.name = name
        self.fd = fd
        self.path = path  # where it is mounted, None for nowhere

    @classmethod
    def create(cls, name: str, mount_at: str | None = None, *, lo_up: bool = True) -> Netns:
        """Makes a namespace and comes back.

        ``mount_at`` is a file to be made for it (``/run/netns/NAME``).  Raises OSError:
        FileExistsError when that file is there, EPERM without the right to make namespaces.
        Without ``lo_up`` the kernel refuses real servers and nothing answers on 127.0.0.1.
        """
        home = os.open(_HERE, os.O_RDONLY)
        try:
            unshare(CLONE_NEWNET)
            try:
                fd = os.open(_HERE, os.O_RDONLY)
                try:
                    if lo_up:
                        raise_lo()
                    if mount_at is not None:
                        _mount(mount_at)
                except BaseException:
                    os.close(fd)
                    raise
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
        return cls(name, fd, mount_at)

    @classmethod
    def made(cls, name: str, path: str | None = None) -> Netns:
        """Makes a namespace, or takes the one that an earlier process left at ``path``.

        Raises OSError.
        """
        if path is None:
            return cls.create(name)
        with suppress(FileExistsError):
            os.mkdir(path.rpartition("/")[0], 0o755)
        try:
            return cls.create(name, path)
        except FileExistsError:
            pass
        try:
            return cls.open(path, name)
        except KernelError:  # a file that nothing is mounted on
            forget_mount(path)
            return cls.create(name, path)

    @classmethod
    def current(cls, name: str = "") -> Netns:
        """The namespace that the calling thread is in."""
        return cls(name, os.open(_HERE, os.O_RDONLY))

    @classmethod
    def open(cls, path: str, name: str | None = None) -> Netns:
        """The namespace mounted at ``path``, or of a process (``/proc/PID/ns/net``).

        Raises OSError; EINVAL when the file is no network namespace.
        """
        fd = os.open(path, os.O_RDONLY)
        try:
            kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
        except OSError:
            kind = 0
        if kind != CLONE_NEWNET:
            os.close(fd)
            raise KernelError(errno.EINVAL, f"{path} is not a network namespace")
        return cls(name or path.rpartition("/")[2], fd, path)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace inside of ``with``, and back afterwards."""
        home = os.open(_HERE, os.O_RDONLY)
        try:
            setns(self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def close(self) -> None:
        """Lets go of it; it lives on where it is mounted.  May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def destroy(self) -> None:
        """Takes its mount and file away and lets go; absent ones are fine.

        The kernel frees the namespace and its links a moment later, when nothing holds it.
        """
        try:
            if self.path is not None:
                forget_mount(self.path)
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"Netns({self.name!r}, fd={self.fd})"


class Home(Netns):
    """The namespace that the whole process is in and stays in.

    Entering it costs nothing and needs no right, where setns(2) wants CAP_SYS_ADMIN even for the
    namespace that one is in: a node agent has given that away.
    """

    @contextmanager
    def entered(self) -> Iterator[None]:
        yield


def forget_mount(path: str) -> None:
    """Unmounts ``path`` and removes the file; what is absent is fine."""
    try:
        umount(path, MNT_DETACH)
    except OSError as error:
        # EINVAL: a file, but nothing is mounted on it
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
    _remove(path)


def _mount(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    try:
        mount(_HERE, path, None, MS_BIND)
    except BaseException:
        _remove(path)
        raise


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def raise_lo() -> None:
    """Brings lo of the calling thread's namespace up.  Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("=16sH22x", b"lo", _IFF_UP)  # struct ifreq, linux/if.h
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
