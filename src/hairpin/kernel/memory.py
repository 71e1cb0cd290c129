"""Memory at hand before it is needed, where the first touch of a page is dear.

In user-mode Linux that touch is a trap that goes through the host and back: 46 us (Linux 6.1), and
planning 10 000 Services touches 6 000 pages.  Had all at once with MADV_POPULATE_WRITE (Linux
5.14), a page costs 2 us.  That alone fills nothing but the guest's page table; the host hears of
new pages when all of the table is flushed (fix_range_common in arch/um/kernel/tlb.c), and what
asks for a flush and does nothing else is to clear the soft-dirty bits, which user-mode Linux does
not have (clear_refs_write in fs/proc/task_mmu.c).

Nobody can ask Python where its next objects will be, so its allocator is made to get the memory:
blocks of the largest size that pymalloc serves are made until there are enough, and where one lies
in a place that is new, the pages from there on are had at once.  Then all are given back but one
of each place, so that pymalloc does not give these back in its turn.  Lists and dicts of some size
come from libc, whose heap is made to grow in one step.  Neither has to be right about the
allocators: pages that are there already stay as they are, others cost what they would have cost.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from hairpin.kernel.syscalls import MADV_POPULATE_WRITE, madvise

_PAGE = 4096
_MIB = 1 << 20
# Of Objects/obmalloc.c in CPython 3.11.
_BLOCK = 512  # SMALL_REQUEST_THRESHOLD
_POOL = 16 * 1024  # POOL_SIZE: a place for blocks of one size
_ARENA = _MIB - _POOL  # ARENA_SIZE, what it gets at a time, without what may be cut off
_SURE = 4 * _POOL  # bytes after a block, where those of a whole arena are not all there
_ROUND = 16  # blocks between two looks at where they are: two pages
_LEAST = _MIB // 2  # bytes; less is not worth the trouble

# malloc.h of glibc.  Its own limits move when a large block is freed: these are where they end.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_FROM_HEAP = 32 * _MIB
_KEPT_IN_HEAP = 2 * _MOST_FROM_HEAP


@contextmanager
def at_hand(objects: int, tables: int) -> Iterator[None]:
    """Inside, so many bytes of small objects, and of tables (lists, dicts), cost no page fault.

    Does nothing where page faults are cheap.  Never fails.
    """
    if objects < _LEAST or not _is_worth_it():
        yield
        return
    _grow_heap(tables)
    pins = _grow_arenas(objects)
    try:
        yield
    finally:
        pins.clear()
        _libc().malloc_trim(0)


def _grow_arenas(size: int) -> list[bytes]:
    """Lets pymalloc hold that much; gives objects of every arena, which hold it there."""
    pins: list[bytes] = []
    made: list[bytes] = []
    known: list[range] = []
    current = range(0)
    content = _BLOCK - b"".__sizeof__()
    for _ in range(size // (_BLOCK * _ROUND)):
        made += [bytes(content) for _ in range(_ROUND)]
        at = id(made[-1])
        if at not in current:
            current = next((one for one in known if at in one), range(0))
            if not current:
                start = at - at % _PAGE
                # Behind a free place in an old arena there may be nothing, and a new one later.
                whole = _populate(start, _ARENA)
                current = range(start, start + (_ARENA if whole else _SURE))
                known.append(current)
                pins.append(made[-1])
    return pins


def _grow_heap(size: int) -> None:
    """Lets libc hold one free block of that size."""
    libc = _libc()
    libc.mallopt(_M_MMAP_THRESHOLD, _MOST_FROM_HEAP)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_HEAP)
    size = min(size, _MOST_FROM_HEAP - _PAGE)
    block = libc.malloc(size)
    if block:
        _populate(block - block % _PAGE, size)
        libc.free(block)


def _populate(start: int, size: int) -> bool:
    """Has these pages, or those before the first hole: whether there was none."""
    whole = True
    try:
        madvise(start, size, MADV_POPULATE_WRITE)
    except OSError:
        whole = False
    with suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as flush:
        flush.write(b"4")
    return whole


@cache
def _is_worth_it() -> bool:
    if not hasattr(_libc(), "malloc_trim"):  # not glibc
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as said:
            return "User Mode Linux" in said.read()
    except OSError:
        return False


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    return libc
