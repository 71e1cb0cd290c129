"""Reading a whole file that somebody named, and saying in words why that cannot be."""

from __future__ import annotations

from pathlib import Path

from hairpin.model.errors import ManifestError

MAX_BYTES = 64 * 2**20
"""Ten thousand Services with forty thousand endpoints are about 20 MB of YAML."""


def read(path: str | Path, remedy: str = "") -> bytes:
    """What the file holds.

    Raises ManifestError, with that remedy, for what cannot be read, and for more than
    ``MAX_BYTES``.
    """
    where = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ManifestError(f"cannot be read: {reason}", where=where, remedy=remedy) from None
    except ValueError as error:  # a NUL character in the name
        raise ManifestError(f"cannot be read: {error}", where=where, remedy=remedy) from None
    check_size(data, where)
    return data


def check_size(data: bytes, name: str) -> None:
    """Raises ManifestError for more than ``MAX_BYTES``; ``name`` stands for the file."""
    if len(data) > MAX_BYTES:
        raise ManifestError(f"larger than {MAX_BYTES >> 20} MiB", where=name)
