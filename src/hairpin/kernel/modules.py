"""Loading kernel modules by path, their dependencies first.

modprobe would do, but costs a program per call and wants /lib/modules to fit the running kernel.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable

from hairpin.kernel.errors import KernelError
from hairpin.kernel.syscalls import finit_module


def load_order(modules_dep_text: str, names: Iterable[str]) -> list[str]:
    """The files to load for ``names``, in order, as modules.dep(5) names them.

    Names are as in modprobe(8): ``-`` and ``_`` are the same.  Raises KernelError (ENOENT)
    naming every module that is not there.  Searching for the few lines that matter is cheaper
    than reading all of them: 40 ms for 910 lines in the embedded kernel.
    """
    order: dict[str, None] = {}
    missing = []
    for name in names:
        line = _line(modules_dep_text, name)
        if line is None:
            missing.append(name)
            continue
        path, _, needs = line.partition(":")
        # modules.dep lists what is needed, near and far, with the farthest last.
        for needed in (*reversed(needs.split()), path):
            order[needed] = None
    if missing:
        raise KernelError(errno.ENOENT, f"no kernel module {', '.join(missing)}")
    return list(order)


class Modules:
    """The modules in a directory like /lib/modules/VERSION, and which of them are loaded."""

    def __init__(self, directory: str) -> None:
        self._directory = directory.rstrip("/")
        self._builtin: str | None = None
        self._inserted: set[str] = set()

    def load(self, *names: str) -> None:
        """Loads modules with what they need; those loaded or built in already are fine.

        Raises KernelError: ENOENT when there is no such module.
        """
        rest = [name for name in names if not self._is_builtin(name)]
        if rest:
            self.insert(load_order(self._read("modules.dep"), rest))

    def insert(self, paths: Iterable[str]) -> None:
        """Loads files in the order given, as ``load_order`` made it elsewhere."""
        for path in paths:
            if path not in self._inserted:
                self._insert(path)
                self._inserted.add(path)

    def _insert(self, path: str) -> None:
        try:
            fd = os.open(f"{self._directory}/{path}", os.O_RDONLY)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"module {path}") from None
        try:
            finit_module(fd)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise KernelError(error.errno or errno.EIO, f"loading {path}") from None
        finally:
            os.close(fd)

    def _is_builtin(self, name: str) -> bool:
        if self._builtin is None:
            self._builtin = self._read("modules.builtin")
        return re.search(rf"/{_pattern(name)}\n", self._builtin) is not None

    def _read(self, name: str) -> str:
        try:
            with open(f"{self._directory}/{name}", encoding="ascii") as opened:
                return opened.read()
        except FileNotFoundError:
            raise KernelError(errno.ENOENT, f"{self._directory} has no {name}") from None


def _line(text: str, name: str) -> str | None:
    """The line of modules.dep for a module; its file may be compressed."""
    found = re.search(rf"/{_pattern(name)}:", text)
    if found is None:
        return None
    start = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    return text[start : end if end >= 0 else len(text)]


def _pattern(name: str) -> str:
    return re.sub("[-_]", "[-_]", name) + r"\.ko(?:\.\w+)?"
