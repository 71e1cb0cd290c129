"""What the kernel refused, and why."""

from __future__ import annotations

import errno
import os


class KernelError(OSError):
    """The kernel, or a program that speaks to it, said no.

    ``errno`` is the number, ``name`` its symbol (``EEXIST``); ``text`` what was tried or what the
    kernel said in its own words, often empty.
    """

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, os.strerror(code))
        self.text = text

    @classmethod
    def of(cls, error: OSError, text: str = "") -> KernelError:
        """``error`` as a KernelError; a KernelError stays what it is."""
        if isinstance(error, KernelError):
            return error
        return cls(error.errno or errno.EIO, text or error.strerror or str(error))

    @property
    def name(self) -> str:
        if self.errno == errno.EOPNOTSUPP:  # Python prefers ENOTSUP, which no kernel text says
            return "EOPNOTSUPP"
        return errno.errorcode.get(self.errno or 0, str(self.errno))

    def __str__(self) -> str:
        return f"{self.name} ({self.strerror})" + (f": {self.text}" if self.text else "")

    def __repr__(self) -> str:
        return f"KernelError({self})"
