"""System calls that Python 3.11 has no name for, through libc.

Each raises OSError with the errno and what was tried; none returns a failure.  Numbers are those
of Linux's uapi headers (linux/sched.h, linux/mount.h, linux/reboot.h, linux/prctl.h,
asm-generic/mman-common.h), the same on every architecture except where said.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_FORCE = 1
MNT_DETACH = 2

RB_AUTOBOOT = 0x01234567
RB_HALT_SYSTEM = 0xCDEF0123
RB_POWER_OFF = 0x4321FEDC

MADV_POPULATE_WRITE = 23

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# asm/unistd: 64-bit architectures have either the x86-64 numbers or the generic table's.
_IS_X86 = os.uname().machine == "x86_64"
_NR_PIVOT_ROOT = 155 if _IS_X86 else 41
_NR_FINIT_MODULE = 313 if _IS_X86 else 273

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_libc.sethostname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_libc.reboot.argtypes = (ctypes.c_int,)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


def unshare(flags: int) -> None:
    """Puts the calling thread into new namespaces: CLONE_NEW*."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int = 0) -> None:
    """Moves the calling thread into the namespace open as ``fd``.

    ``kind`` is the CLONE_NEW* that ``fd`` must be, 0 for any.
    """
    _check(_libc.setns(fd, kind), f"setns({fd}, {kind:#x})")


def mount(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """Mounts ``source`` on ``target``: MS_* flags, filesystem options in ``data``."""
    _check(
        _libc.mount(_path(source), _path(target), _path(fstype), flags, _path(data)),
        f"mount {fstype or ''} {source} on {target} (flags {flags:#x}, options {data or 'none'})",
    )


def umount(target: str, flags: int = 0) -> None:
    """Unmounts what is on ``target``: MNT_* flags."""
    _check(_libc.umount2(_path(target), flags), f"umount {target} (flags {flags:#x})")


def pivot_root(new: str, old: str) -> None:
    """Makes the mount ``new`` the root and puts the former one at ``old``, a folder in ``new``."""
    result = _libc.syscall(ctypes.c_long(_NR_PIVOT_ROOT), _path(new), _path(old))
    _check(result, f"pivot_root({new}, {old})")


def finit_module(fd: int, params: str = "") -> None:
    """Loads the kernel module open as ``fd``; EEXIST when it is loaded already."""
    result = _libc.syscall(
        ctypes.c_long(_NR_FINIT_MODULE), ctypes.c_int(fd), os.fsencode(params), ctypes.c_int(0)
    )
    _check(result, f"finit_module({fd}, {params!r})")


def reboot(command: int) -> None:
    """Ends or restarts the kernel at once, without syncing: RB_*."""
    # libc takes an int; RB_* above 2**31 are the same bits as a negative one.
    _check(_libc.reboot(ctypes.c_int(command).value), f"reboot({command:#x})")


def madvise(start: int, size: int, advice: int) -> None:
    """Says what becomes of ``size`` bytes from the address ``start``, a whole page: MADV_*."""
    _check(_libc.madvise(start, size, advice), f"madvise({start:#x}, {size}, {advice})")


def prctl(option: int, value: int) -> None:
    """Sets one attribute of the calling process or thread: PR_SET_*."""
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl({option}, {value})")


def sethostname(name: str) -> None:
    """Names this UTS namespace."""
    data = name.encode()
    _check(_libc.sethostname(data, len(data)), f"sethostname({name!r})")


def _path(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _check(result: int, tried: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: {tried}")
