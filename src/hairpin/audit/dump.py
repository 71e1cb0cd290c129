"""The texts that tools print of a kernel, to values.

Each text is a part by itself: one that is missing or broken costs that part alone, and says which
file and line it is.  What is not Kubernetes' is passed over where hairpin has no value for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hairpin.audit.held import COMMANDS, FILES, TABLES, Held, Part, Port
from hairpin.model.address import ip
from hairpin.plan.ipvs_sets import NAMES
from hairpin.present import conntrack, ipset, iptables_save, ipvsadm, nft_json
from hairpin.state.ipvs import Timeouts
from hairpin.state.links import Address, Link, LinkType
from hairpin.state.nftables import NftObject

_TIMEOUTS = re.compile(r"Timeout \(tcp tcpfin udp\): (\d+) (\d+) (\d+)")
_CREATE = re.compile(r"create \S")
_SETTING = re.compile(r"([\w./:@-]+) ?= ?(.*)")
_KINDS: Mapping[str, LinkType] = {
    "dummy": "dummy", "veth": "veth", "bridge": "bridge", "vxlan": "vxlan",
}  # fmt: skip
_OUR_SETS = frozenset(name for names in NAMES.values() for name in names.values())
_WHOLE_LINES: tuple[Part, ...] = ("ipvs", "ipset", "settings", "conntrack")

_BAD = (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)

Text = str | OSError | UnicodeError | None
"""What a file holds, None where there is none, or what reading it came to."""


def held(
    texts: Mapping[Part, Text],
    *,
    files: bool = True,
    nftables: Iterable[NftObject] | None = None,
) -> Held:
    """The values of all that can be read, and why the rest cannot.

    ``files``: the texts are files of a folder, which ``unread`` names; else what was asked of a
    kernel.  ``nftables`` are values that there is no text of.
    """
    unread: dict[Part, str] = {}
    found: dict[str, Any] = {} if nftables is None else {"nftables": tuple(nftables)}
    for part, read in _READERS.items():
        if part in found:
            continue
        text = texts.get(part)
        name = FILES[part] if files else COMMANDS[part]
        if not isinstance(text, str):
            unread[part] = _why(name, part, text, files)
            continue
        try:
            if part in _WHOLE_LINES and text and not text.endswith("\n"):
                last = text.count("\n") + 1
                raise ValueError(f"line {last}: has no end, so the text is cut off")
            found |= read(text)
        except _BAD as error:
            unread[part] = f"{name}: {_said(error)}"
    tables = {family: found.pop(part) for family, part in TABLES.items() if part in found}
    return Held(**found, tables=tables, unread=unread)


def _why(name: str, part: Part, text: Text, files: bool) -> str:
    if text is None:
        made = f" (it is made by: {COMMANDS[part]})" if files else ""
        return f"{name}: there is none{made}"
    if isinstance(text, UnicodeDecodeError):
        line = text.object[: text.start].count(b"\n") + 1
        return f"{name}: line {line}: is not UTF-8 text"
    if isinstance(text, OSError):
        return f"{name}: cannot be read: {(text.strerror or str(text)).lower()}"
    return f"{name}: {text}"


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}: is not JSON: {error.msg.lower()}"
    if isinstance(error, ValueError):
        return str(error)
    return f"is not what its tool prints ({type(error).__name__}: {error})"


def _ipvs(text: str) -> dict[str, Any]:
    return {"servers": tuple(ipvsadm.parse(text))}


def _timeouts(text: str) -> dict[str, Any]:
    found = _TIMEOUTS.search(text)
    if found is None:
        raise ValueError("line 1: no timeouts (Timeout (tcp tcpfin udp): …)")
    tcp, fin, udp = map(int, found.groups())
    return {"timeouts": Timeouts(tcp=tcp, tcp_fin=fin, udp=udp)}


def _ipset(text: str) -> dict[str, Any]:
    """Those of kube-proxy's names.  Others' sets may be of any type, and are left out, as entries
    are of sets that are not there."""
    made = {line.split(maxsplit=2)[1] for line in text.split("\n") if _CREATE.match(line)}
    kept = [
        "" if line.startswith(("create ", "add ")) and not _is_kube(line, made) else line
        for line in text.split("\n")
    ]
    return {"sets": tuple(ipset.parse("\n".join(kept)))}


def _is_kube(line: str, made: set[str]) -> bool:
    words = line.split(maxsplit=2)
    if len(words) < 2 or words[0] == "create":
        return len(words) < 2 or words[1] in _OUR_SETS
    return words[1] in _OUR_SETS and words[1] in made


def _nftables(text: str) -> dict[str, Any]:
    return {"nftables": tuple(nft_json.parse(text))}


def _addresses(text: str) -> dict[str, Any]:
    links: list[Link] = []
    addresses: list[Address] = []
    promiscuous: list[str] = []
    for link in _rows(text):
        name, flags = str(link["ifname"]), link.get("flags") or ()
        said = str((link.get("linkinfo") or {}).get("info_kind", ""))
        kind = _KINDS.get(said, "loopback" if "LOOPBACK" in flags else "other")
        links.append(Link(name=name, type=kind, up="UP" in flags, mtu=link.get("mtu")))
        if "PROMISC" in flags or link.get("promiscuity"):
            promiscuous.append(name)
        addresses += [
            Address(link=name, ip=ip(str(one["local"])), prefix=int(one["prefixlen"]))
            for one in link.get("addr_info") or ()
            if "local" in one
        ]
    return {
        "links": tuple(links),
        "addresses": tuple(addresses),
        "promiscuous": frozenset(promiscuous),
    }


def _rows(text: str) -> list[dict[str, Any]]:
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("line 1: is no list of links")
    return [row for row in rows if "ifname" in row]


def _settings(text: str) -> dict[str, Any]:
    """Lines that are no setting (``sysctl: permission denied …``) are passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _SETTING.fullmatch(line.strip())
        if match is not None:
            found[match[1]] = match[2].strip()
    if text.strip() and not found:
        raise ValueError("line 1: is no setting (name = value)")
    return {"settings": found}


def _bridge(text: str) -> dict[str, Any]:
    ports = [
        Port(str(row["ifname"]), str(row["master"]), bool(row.get("hairpin")))
        for row in _rows(text)
        if "master" in row
    ]
    return {"ports": tuple(ports)}


def _conntrack(text: str) -> dict[str, Any]:
    return {"flows": tuple(conntrack.parse(text))}


_READERS: Mapping[Part, Callable[[str], dict[str, Any]]] = {
    "ipvs": _ipvs,
    "timeouts": _timeouts,
    "ipset": _ipset,
    "iptables": lambda text: {"iptables": iptables_save.parse(text)},
    "ip6tables": lambda text: {"ip6tables": iptables_save.parse(text)},
    "nftables": _nftables,
    "addresses": _addresses,
    "settings": _settings,
    "bridge": _bridge,
    "conntrack": _conntrack,
}
