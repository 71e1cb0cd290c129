"""Which kernel a World gets: the host's own, or the guest; found by trying, not by versions."""

from __future__ import annotations

import mmap
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec

from hairpin.lab.session import LabError
from hairpin.state.abilities import GUEST, NEEDED, Abilities
from hairpin.world.uml import MEMORY

INSTALL = "apt-get install user-mode-linux"

_PATH = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin"
_MODULES = Path("/usr/lib/uml/modules")
_TEMPORARY = ("/dev/shm", "/tmp", "/var/tmp")  # memory-backed ones first


_WORDS = {
    "ipvs": "IPVS",
    "dummy": "dummy links",
    "nftables": "nf_tables with NAT",
    "br_netfilter": "br_netfilter",
    "iptables": "iptables with MASQUERADE",
}
"""What Services with all ingredients may need, and what a person calls it."""
_ALWAYS = ("br_netfilter", "iptables")
_VARIANTS = {"legacy": True, "nft": False}


class Guest(NamedTuple):
    """What is needed to boot a guest here."""

    linux: str
    modules: Path
    python: str
    tmpdir: str


class Choice(NamedTuple):
    """The kernel of a World, and why it is that one."""

    guest: Guest | None
    """None: namespaces of the host's own kernel."""
    python: str
    abilities: Abilities
    reason: str


def choose(wanted: str, mode: str = "ipvs", iptables: str | None = None) -> Choice:
    """The kernel for "auto", "host" or "guest".  Raises LabError when it cannot be had.

    "auto" takes the host where its kernel can serve Services for this user in that mode, else the
    guest.  ``iptables`` insists on a variant, "legacy" or "nft".
    """
    picked = _choose(wanted, mode)
    if iptables is None:
        return picked
    if picked.guest is not None and iptables == "nft":
        raise LabError(
            "the embedded kernel has no nf_tables for IP: its iptables is the legacy one",
            "use --kernel host",
            exit_code=2,
        )
    able = msgspec.structs.replace(picked.abilities, legacy_iptables=_VARIANTS[iptables])
    return picked._replace(abilities=able)


def _choose(wanted: str, mode: str) -> Choice:
    if mode == "nftables" and wanted == "guest":
        raise LabError(
            f"no {mode} mode there: {GUEST.lacking[mode]}", "use --kernel host", exit_code=2
        )
    if wanted == "guest":
        try:
            guest = find_guest()
        except LabError as error:
            message = f"no kernel to build a lab on: {error.message}"
            raise LabError(message, error.remedy, exit_code=2) from None
        return Choice(guest, guest.python, GUEST, "embedded kernel (as asked for)")
    found = host_abilities()
    lacking = host_lacks(found, mode)
    if wanted == "host":
        if isinstance(found, LabError):
            raise found
        return Choice(None, _python(), found, "this machine's kernel (as asked for)")
    if lacking is None and not isinstance(found, LabError):
        reason = "this machine's kernel (it has all that Services need)"
        return Choice(None, _python(), found, reason)
    if mode == "nftables":
        raise LabError(
            f"no kernel for {mode} mode: {lacking}; and {GUEST.lacking[mode]}",
            "hairpin kernel shows what is missing; hairpin up --mode ipvs does with less",
            exit_code=2,
        )
    try:
        guest = find_guest()
    except LabError as error:
        raise LabError(
            f"no kernel to build a lab on: {error.message}; and on the host's own, {lacking}",
            f"{error.remedy}; for Pods alone: --kernel host",
            exit_code=2,
        ) from None
    return Choice(guest, guest.python, GUEST, f"embedded kernel ({lacking})")


def host_abilities() -> Abilities | LabError:
    """What the host's kernel can do for this user's labs; the error if it can build none."""
    from hairpin.kernel import probe

    try:
        results = probe.attempt(probe.FOR_LABS)
    except OSError as error:
        said = f"the kernel refuses namespaces: {error}"
        return LabError(
            f"labs cannot be built on the host's kernel: {said}",
            "use --kernel guest; hairpin kernel shows what is missing",
            exit_code=2,
        )
    for one in results:
        if one.name in probe.BUILDING and not one.able:
            return LabError(
                f"labs cannot be built on the host's kernel: it has no {one.name} ({one.why})",
                "use --kernel guest",
                exit_code=2,
            )
    return probe.abilities(results)


def host_lacks(found: Abilities | LabError, mode: str = "ipvs") -> str | None:
    """What keeps the host's kernel from serving Services to this user, in a few words."""
    if isinstance(found, LabError):
        return found.message
    needed = {*NEEDED[mode], *_ALWAYS}
    lacking = [name for name in _WORDS if name in needed and not getattr(found, name)]
    if not lacking:
        return None
    words = f"this machine's has no {', '.join(_WORDS[name] for name in lacking)}"
    if os.getuid() != 0 and "ipvs" in lacking:
        words += " for an ordinary user"
    return words


def find_guest() -> Guest:
    """Raises LabError with what is missing."""
    linux = next((p for p in _candidates("linux.uml") if os.access(p, os.X_OK)), None)
    if not linux:
        raise LabError("the embedded kernel, linux.uml, is not installed", INSTALL)
    return Guest(linux, _modules(linux), _python(), _temporary(MEMORY))


def _candidates(command: str) -> list[str]:
    folders = os.environ.get("PATH", "").split(":") + _PATH.split(":")
    return [f"{folder}/{command}" for folder in folders if folder.startswith("/")]


def _modules(linux: str) -> Path:
    found = [path.parent for path in _MODULES.glob("*/modules.dep")]
    if len(found) > 1:
        release = os.popen(f"'{linux}' --version").read().strip()
        found = [path for path in found if path.name == release]
    if not found:
        raise LabError(f"the embedded kernel's modules are not in {_MODULES}", INSTALL)
    return found[0]


def _python() -> str:
    """The interpreter below any virtual environment: its own folder has what it needs."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if re.search(r"\s", python):
        raise LabError(f"the interpreter's path has white space: {python}", "use another Python")
    if not os.access(python, os.R_OK | os.X_OK):
        raise LabError(f"the interpreter {python} cannot be read", "use another Python")
    return python


def _temporary(size: int) -> str:
    """A folder for the guest's memory, which the kernel maps executable."""
    refused = []
    for folder in (*_TEMPORARY, tempfile.gettempdir()):
        try:
            free = os.statvfs(folder)
            if free.f_bavail * free.f_frsize < size:
                refused.append(f"{folder} is too small")
                continue
            with tempfile.TemporaryFile(dir=folder) as file:
                file.truncate(mmap.PAGESIZE)
                mmap.mmap(
                    file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC
                ).close()
            return folder
        except OSError as error:
            refused.append(f"{folder}: {error.strerror}")
    raise LabError(
        f"no folder for the guest's memory ({size >> 20} MB, executable): {', '.join(refused)}",
        "set TMPDIR to a folder that allows it",
    )
