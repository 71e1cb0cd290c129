"""Compiled Python for the guest, which cannot write it and compiles ten times as slowly."""

from __future__ import annotations

import importlib.util
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_HEADER = struct.Struct("<4sIII")  # magic, flags, time and size of the source (PEP 552)


def refresh(packages: Iterable[Path]) -> None:
    """Compiles what is new or changed in those packages, where their folders may be written.

    A source that does not compile is left: importing it says why.
    """
    for package in packages:
        for folder, subfolders, names in os.walk(package):
            subfolders[:] = [name for name in subfolders if name != "__pycache__"]
            stale = [
                f"{folder}/{n}" for n in names if n.endswith(".py") and _stale(f"{folder}/{n}")
            ]
            if stale and os.access(folder, os.W_OK):
                _compile(stale)


def _stale(source: str) -> bool:
    seen = os.stat(source)
    try:
        with open(importlib.util.cache_from_source(source), "rb") as file:
            magic, flags, time, size = _HEADER.unpack(file.read(_HEADER.size))
    except (OSError, struct.error):
        return True
    if magic != importlib.util.MAGIC_NUMBER:
        return True
    # Flags 1 and 3 mean that the file knows its source by hash instead.
    return flags == 0 and (time, size) != (
        int(seen.st_mtime) & 0xFFFFFFFF,
        seen.st_size & 0xFFFFFFFF,
    )


def _compile(sources: list[str]) -> None:
    import py_compile

    for source in sources:
        try:
            py_compile.compile(source, doraise=True, quiet=2)
        except (OSError, py_compile.PyCompileError):
            continue
