"""Print hairpin's version, and what else a report of a bug needs.

hairpin version
hairpin version -o json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
from typing import Any

from hairpin import __version__
from hairpin.lab.session import LabError

_TOOLS = (
    ("ip", "-V"),
    ("iptables", "-V"),
    ("ipset", "-v"),
    ("nft", "-v"),
    ("ipvsadm", "--version"),
    ("conntrack", "-V"),
)
"""Programs that labs use or people look with, and how each says its version."""
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_LIMIT = 5.0  # seconds for one of them


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("json",), default="", help="another form")
    parser.add_argument("--short", action="store_true", help="hairpin's own version alone")


def run(arguments: argparse.Namespace) -> int:
    if arguments.short:
        print(f"hairpin {__version__}")
        return 0
    found = facts()
    if arguments.output == "json":
        print(json.dumps(found, indent=2))
        return 0
    print(f"hairpin {found['hairpin']}")
    tools = ", ".join(f"{name} {version or 'absent'}" for name, version in found["tools"].items())
    labs = ", ".join(f"{lab['name']} ({lab['kernel']})" for lab in found["labs"])
    for name, value in (
        ("python", f"{found['python']} ({found['machine']})"),
        ("system", found["distribution"]),
        ("kernel", found["kernel"]),
        ("guest", found["guest"] or "absent: apt-get install user-mode-linux"),
        ("user", "root" if found["root"] else "ordinary"),
        ("userns", "yes" if found["userNamespaces"] else "no"),
        ("tools", tools),
        ("labs", labs or "none"),
    ):
        print(f"{name:<8}{value}")
    return 0


def facts() -> dict[str, Any]:
    """What ``-o json`` prints."""
    return {
        "hairpin": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "distribution": _distribution(),
        "kernel": platform.release(),
        "guest": _guest(),
        "root": os.getuid() == 0,
        "userNamespaces": _user_namespaces(),
        "tools": {name: _version(name, option) for name, option in _TOOLS},
        "labs": _labs(),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _guest() -> str | None:
    """The release of the embedded kernel, None where it is not installed."""
    from hairpin.world.choice import find_guest

    try:
        return _first_number(_said([find_guest().linux, "--version"]))
    except LabError:
        return None


def _version(name: str, option: str) -> str | None:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    if path is None:
        return None
    said = _said([path, option])
    variant = re.search(r"\((nf_tables|legacy)\)", said)
    number = _first_number(said) or "installed"  # ipvsadm says nothing where there is no IPVS
    return f"{number} ({variant[1]})" if variant else number


def _said(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout


def _first_number(text: str) -> str | None:
    found = re.search(r"\d+(?:\.\d+)+", text)
    return found[0] if found else None


def _user_namespaces() -> bool:
    from hairpin.kernel import probe

    try:
        return probe.attempt(["user-namespaces"])[0].able
    except OSError:
        return False


def _labs() -> list[dict[str, str]]:
    from hairpin.world import lifecycle

    found = []
    for name in lifecycle.running():
        try:
            found.append({"name": name, "kernel": str(lifecycle.facts(name)["kernel"])})
        except LabError:
            continue  # it ended just now
    return found
