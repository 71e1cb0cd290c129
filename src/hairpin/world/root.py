"""The root of a World on the host's kernel: all that the machine has can be read and run, what is
written stays in memory, and no mount is seen outside.

An overlay may not have mounts below its lower folder that the mount namespace inherited from a
more privileged one (has_locked_children in fs/namespace.c), which / always has.  So / is a tmpfs,
and each folder of it an overlay of its own; a folder with mounts below is made the same way, entry
by entry.  Where the kernel refuses an overlay, the folder is bound read-only.

In a user namespace with one user, files of all others belong to nobody: not even this root may
change them, and an overlay cannot take them over.  /etc is copied there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from hairpin.kernel import syscalls
from hairpin.kernel.syscalls import mount

_STAGE = "/tmp"  # exists everywhere; mounted on only in this mount namespace
_OLD = "/.host"
_OWN = ("/proc", "/sys", "/dev", "/run", "/tmp")
"""What a World has of its own: nothing of the host's is in the way."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")
_MOST_ENTRIES = 256  # of a folder with mounts below; more are bound, not laid over
_MOST_COPIED = 1 << 20  # bytes of a file of /etc; what is longer is configuration of nobody
_WITNESSES = "/run/.kernel"
_FLAGS = (
    (os.ST_NOSUID, syscalls.MS_NOSUID),
    (os.ST_NODEV, syscalls.MS_NODEV),
    (os.ST_NOEXEC, syscalls.MS_NOEXEC),
    (os.ST_NOATIME, syscalls.MS_NOATIME),
    (os.ST_NODIRATIME, 2048),  # MS_NODIRATIME and MS_RELATIME, linux/mount.h
    (os.ST_RELATIME, 1 << 21),
)
_GLOBAL_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger")


def enter(needed: list[str], *, alone: bool) -> None:
    """Makes the root of this mount namespace, which must be new.

    ``needed``: the host's paths that hairpin runs from; they stay where they are, read-only, even
    in a folder that the World has its own of.  ``alone``: in a user namespace with one user.
    The calling process must be in the PID and network namespaces that /proc and /sys show.
    Raises OSError.
    """
    mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    points = [point for point in _mount_points() if not _own(point)]
    # The stage hides the host's folder of that name, where some of these may be.
    kept = [(path, os.open(path, os.O_PATH)) for path in needed if _own(path)]
    mount("tmpfs", _STAGE, "tmpfs", 0, "mode=755")
    new, layers = f"{_STAGE}/root", f"{_STAGE}/layers"
    os.mkdir(new)
    os.mkdir(layers)
    mount("tmpfs", new, "tmpfs", 0, "mode=755")
    builder = _Builder(new, layers, points, alone)
    builder.folder("")
    _own_file_systems(new, alone)
    for path, fd in kept:
        os.makedirs(new + path, exist_ok=True)
        _bind_read_only(f"/proc/self/fd/{fd}", new + path)
        os.close(fd)
    os.mkdir(new + _OLD)
    syscalls.pivot_root(new, new + _OLD)
    os.chdir("/")
    syscalls.umount(_OLD, syscalls.MNT_DETACH)
    os.rmdir(_OLD)
    if not alone:
        _settings_read_only()
    mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)


class _Builder:
    """Lays the host's folders under ``new``."""

    def __init__(self, new: str, layers: str, points: list[str], alone: bool) -> None:
        self._new = new
        self._layers = layers
        self._points = points
        self._alone = alone
        self._count = 0
        # Marks of the overlay itself: trusted.* is not for user namespaces (since Linux 5.11).
        self._options = ",userxattr" if alone else ""

    def folder(self, path: str) -> None:
        """Takes over a folder whose place in the new root is there already."""
        if path == "/etc" and self._alone:
            _copy(path, self._new + path)
            return
        if path and not any(point.startswith(path + "/") for point in self._points):
            self._overlay(path)
            return
        names = os.listdir(path or "/")
        if path and len(names) > _MOST_ENTRIES:
            _bind_read_only(path, self._new + path)
            return
        for name in names:
            self._entry(f"{path}/{name}")

    def _entry(self, path: str) -> None:
        target = self._new + path
        try:
            seen = os.lstat(path)
            kind = seen.st_mode
            if stat.S_ISLNK(kind):
                os.symlink(os.readlink(path), target)
            elif stat.S_ISDIR(kind):
                os.mkdir(target)
                _make_alike(target, seen)
                if path not in _OWN:
                    self.folder(path)
            elif stat.S_ISREG(kind):
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
                _bind_read_only(path, target)
        except OSError:
            return  # it may not be read, or its server is gone: it stays empty

    def _overlay(self, path: str) -> None:
        self._count += 1
        upper, work = (f"{self._layers}/{self._count}-{kind}" for kind in ("upper", "work"))
        os.mkdir(upper)
        os.mkdir(work)
        _make_alike(upper, os.stat(path))  # the merged folder shows this one's
        escaped = path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
        layers = f"lowerdir={escaped},upperdir={upper},workdir={work}"
        try:
            mount("overlay", self._new + path, "overlay", 0, layers + self._options)
        except OSError:
            take = _copy if path == "/etc" else _bind_read_only  # Pods' files are laid over /etc's
            take(path, self._new + path)


def _own_file_systems(new: str, alone: bool) -> None:
    """Those of a World's own; new proc and sysfs may be made while the host's are still seen."""
    for path in _OWN:
        os.makedirs(new + path, exist_ok=True)
    mount("proc", new + "/proc", "proc")
    mount("sysfs", new + "/sys", "sysfs")
    mount("tmpfs", new + "/run", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    mount("tmpfs", new + "/tmp", "tmpfs", syscalls.MS_NOSUID, "mode=1777")
    os.mkdir(new + "/run/netns")
    if alone:
        # A user namespace may mount these only where others are seen in full (mount_too_revealing
        # in fs/namespace.c), and ``ip netns exec`` takes /sys away before it mounts a new one.
        os.mkdir(new + _WITNESSES, 0o700)
        for kind in ("proc", "sysfs"):
            os.mkdir(f"{new}{_WITNESSES}/{kind}")
            mount(kind, f"{new}{_WITNESSES}/{kind}", kind)
    dev = new + "/dev"
    mount("tmpfs", dev, "tmpfs", syscalls.MS_NOSUID, "mode=755")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.makedirs(os.path.dirname(f"{dev}/{name}"), exist_ok=True)
            os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            mount(f"/dev/{name}", f"{dev}/{name}", None, syscalls.MS_BIND)
    os.mkdir(dev + "/pts")
    mount("devpts", dev + "/pts", "devpts", 0, "newinstance,mode=620,ptmxmode=666")
    os.symlink("pts/ptmx", dev + "/ptmx")
    os.mkdir(dev + "/shm")
    mount("tmpfs", dev + "/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{dev}/{name}")


def _settings_read_only() -> None:
    """Root's /proc/sys has the whole machine's settings; only those of net are the World's own."""
    for path in _GLOBAL_SETTINGS:
        if os.path.exists(path):
            mount(path, path, None, syscalls.MS_BIND)
            _remount_read_only(path)
    mount("/proc/sys/net", "/proc/sys/net", None, syscalls.MS_BIND)
    flags = syscalls.MS_BIND | syscalls.MS_REMOUNT
    mount(None, "/proc/sys/net", None, flags)


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [line.split()[4] for line in table]
    return [
        point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        for point in points
    ]


def _own(path: str) -> bool:
    return any(path == own or path.startswith(own + "/") for own in _OWN)


def _make_alike(path: str, seen: os.stat_result) -> None:
    os.chmod(path, stat.S_IMODE(seen.st_mode))
    with contextlib.suppress(OSError):  # an owner that this user namespace does not know
        os.chown(path, seen.st_uid, seen.st_gid)


def _bind_read_only(source: str, target: str) -> None:
    """Raises OSError, and then nothing is bound: what can be written is the host's."""
    mount(source, target, None, syscalls.MS_BIND | syscalls.MS_REC)
    try:
        inside = [point for point in _mount_points() if point.startswith(target + "/")]
        for point in (target, *inside):
            _remount_read_only(point)
    except OSError:
        syscalls.umount(target, syscalls.MNT_DETACH)
        raise


def _remount_read_only(point: str) -> None:
    """Of one mount; flags that it has already may not be taken away in a user namespace."""
    now = os.statvfs(point).f_flag
    kept = sum(flag for seen, flag in _FLAGS if now & seen)
    flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | kept
    mount(None, point, None, flags)


def _copy(source: str, target: str) -> None:
    """What may be read of a folder of small files; links as links."""

    def passed_over(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if not _copied(f"{folder}/{name}")]

    shutil.copytree(source, target, symlinks=True, ignore=passed_over, dirs_exist_ok=True)


def _copied(path: str) -> bool:
    seen = os.lstat(path)
    if stat.S_ISLNK(seen.st_mode):
        return True
    if stat.S_ISDIR(seen.st_mode):
        return os.access(path, os.R_OK | os.X_OK)
    return stat.S_ISREG(seen.st_mode) and seen.st_size <= _MOST_COPIED and os.access(path, os.R_OK)
