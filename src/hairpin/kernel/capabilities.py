"""Rights that a process gives away for good: capabilities(7).

Programming the network needs CAP_NET_ADMIN; iptables' legacy variant opens a raw socket, which is
CAP_NET_RAW.  Everything else a node agent can do without once it runs.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from contextlib import suppress

from hairpin.kernel.syscalls import PR_SET_NO_NEW_PRIVS, prctl

NET_ADMIN, NET_RAW, SYS_ADMIN = 12, 13, 21  # linux/capability.h
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_CAPBSET_READ = 24, 23
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)


def keep_only(kept: Collection[int]) -> None:
    """This thread, and threads and programs that it starts, can have no others any more.

    Called before there are other threads, which would keep theirs.  Raises OSError.
    """
    for one in range(_MOST):
        if one not in kept:
            with suppress(OSError):  # one that this kernel does not have, or no right to drop it
                prctl(_PR_CAPBSET_DROP, one)
    with suppress(OSError):
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    permitted = held()
    wanted = sum(1 << one for one in kept if permitted >> one & 1)
    _set(wanted)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def held() -> int:
    """What this thread may use or take up, as a bit mask.  Raises OSError."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    words: tuple[int, ...] = struct.unpack("=6I", data.raw[:24])
    return words[1] | words[4] << 32


def _set(mask: int) -> None:
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0))
    _check(_libc.capset(header, data), f"capset({mask:#x})")


def _check(result: int, tried: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: {tried}")
