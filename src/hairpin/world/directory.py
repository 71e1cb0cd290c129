"""A World's folder on the host: its socket, its logs, and the lock that says whether it lives.

The keeper holds the lock for as long as it runs, so a folder whose lock is free is only what a
killed World left behind.  Whoever meets one removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import stat
import time
from pathlib import Path

from hairpin.lab.session import LabError

SOCKET = "socket"
CONSOLE = "console.log"
KEEPER_LOG = "keeper.log"
FACTS = "world.json"
DEFAULT = "default"
"""The lab that a command line means when it names none."""
_LOCK = "lock"
_AGAIN = 0.02  # seconds
_ATTEMPTS = 50
"""Looks at a lock that is held though nobody answers: a killed keeper's, which the kernel lets go
a moment after the process is gone, or that of a World which is just starting."""
_NOISE = ("SELinux: ", "mmapper_init - ", "Failed to initialize ubd device 0 ", "umid_file_")
"""How lines begin that linux.uml prints at every boot."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")


def base(environment: os._Environ[str] | dict[str, str] = os.environ) -> Path:
    """The folder of all Worlds of this user, made if need be.

    Raises LabError when there is none that is this user's alone.
    """
    user = os.getuid()
    for candidate in (environment.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"):
        # The path becomes part of the kernel's command line, which is split at white space.
        if candidate and candidate.startswith("/") and not re.search(r"\s", candidate):
            path = Path(candidate)
            if path.is_dir() and path.stat().st_uid == user and os.access(path, os.W_OK):
                return _own(path / "hairpin")
    return _own(Path("/run/hairpin" if user == 0 else f"/tmp/hairpin-{user}"))


def path_of(name: str) -> Path:
    """The folder of the World ``name``, which may not exist.  Raises LabError for a bad name."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f'"{name}" is not a name for a lab',
            "use small letters, digits and dashes, 42 at most",
            exit_code=2,
        )
    return base() / name


def create(name: str) -> tuple[Path, int]:
    """A new folder and its lock, held by the descriptor.

    Raises LabError when that World is alive.
    """
    path = path_of(name)
    for attempt in range(_ATTEMPTS):  # somebody else may remove it between two steps
        path.mkdir(mode=0o700, exist_ok=True)
        lock = _take(path)
        if lock is None:
            time.sleep(_AGAIN)
            continue
        if lock < 0:
            if attempt < _ATTEMPTS - 1 and not _answers(path):
                time.sleep(_AGAIN)
                continue
            raise LabError(
                f'a lab named "{name}" is running already',
                f"end it with: hairpin down{option(name)}; hairpin ls shows all",
                exit_code=2,
            )
        _empty(path)
        return path, lock
    raise LabError(f"{path} is being removed over and over by somebody else")


def option(name: str) -> str:
    """How a command line says that lab: " --lab NAME", nothing for the default one."""
    return "" if name == DEFAULT else f" --lab {name}"


def none_such(name: str) -> LabError:
    """What to say when that lab is not running: with those that are."""
    others = ", ".join(all_alive())
    what = "no lab is running" if name == DEFAULT else f'no lab named "{name}" is running'
    remedy = f"start one with: hairpin up{option(name)} -f FILE"
    return LabError(
        what, f"{remedy}; running: {others} (--lab NAME)" if others else remedy, exit_code=2
    )


def connect(path: Path) -> socket.socket:
    """A connection to the keeper at ``path``.  Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A socket's name may have 107 bytes, its folder's path more.
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


def alive(path: Path) -> bool:
    """Whether a keeper holds that folder; one that nobody holds is removed."""
    lock = _take(path)
    if lock is None:
        return False
    if lock < 0:
        return True
    remove(path)
    os.close(lock)
    return False


def remove(path: Path) -> None:
    """Removes a folder whose lock the caller holds: at once, as others see it."""
    gone = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
    try:
        path.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def all_alive() -> list[str]:
    """The names of this user's Worlds; what dead ones left behind is removed."""
    found = [path for path in base().iterdir() if path.is_dir() and alive(path)]
    return sorted(path.name for path in found if _NAME.fullmatch(path.name))


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of the guest's console, or of what the keeper said when that is empty."""
    for name in (CONSOLE, KEEPER_LOG):
        try:
            text = (path / name).read_bytes()[-8192:].decode(errors="replace")
        except OSError:
            continue
        lines_of = [line.rstrip() for line in text.splitlines()]
        kept = [line for line in lines_of if line and not line.startswith(_NOISE)]
        if kept:
            return "\n".join(kept[-lines:])
    return ""


def _answers(path: Path) -> bool:
    try:
        connect(path).close()
    except OSError:
        return False
    return True


def _take(path: Path) -> int | None:
    """The lock's descriptor; -1 when somebody holds it; None when the folder is gone."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    try:
        if os.fstat(lock).st_ino == (path / _LOCK).stat().st_ino:
            return lock
    except FileNotFoundError:
        pass
    os.close(lock)
    return None


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name == _LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _own(path: Path) -> Path:
    """``path`` as a folder that is this user's and that others cannot write."""
    path.mkdir(mode=0o700, exist_ok=True)
    seen = path.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o022:
        raise LabError(
            f"{path} is not a folder of yours alone",
            "remove it, or set XDG_RUNTIME_DIR to a folder of yours",
        )
    return path
