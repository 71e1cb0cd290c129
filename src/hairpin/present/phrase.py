"""A kernel object in a few words, from the JSON shape of its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Shape = dict[str, Any]


def phrase(thing: Shape) -> str:
    """``virtual server TCP 10.96.0.1:80, rr``."""
    made = _PHRASES.get(thing["kind"])
    return made(thing) if made else str(thing["kind"])


def place(ip: str, port: int) -> str:
    """``10.96.0.1:80``, ``[fd00::1]:80``."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def entry(thing: Shape) -> str:
    """A member of a set, as ipset prints it."""
    if not thing.get("ip"):
        return str(thing.get("port", 0))
    words = [str(thing["ip"])]
    if thing.get("protocol"):
        words.append(f"{thing['protocol'].lower()}:{thing['port']}")
    last = thing.get("ip2") or thing.get("net")
    return ",".join([*words, str(last)] if last else words)


def _link(thing: Shape) -> str:
    words = [f"{thing['type']} {thing['name']}"]
    words += [f"port of {thing['master']}"] if thing.get("master") else []
    words += ["hairpin mode"] if thing.get("hairpin") else []
    words += ["promiscuous"] if thing.get("promisc") else []
    words += ["down"] if thing.get("up") is False else []
    return ", ".join(words)


def _route(thing: Shape) -> str:
    via = f" via {thing['via']}" if thing.get("via") else ""
    return f"route to {thing['to']}{via}"


def _virtual_server(thing: Shape) -> str:
    where = f"{thing.get('protocol', '')} {_address(thing)}".strip()
    sticky = thing.get("persistence")
    words = [f"virtual server {where}", thing.get("scheduler", "rr")]
    words += [f"persistent {sticky['timeout']} s"] if sticky else []
    return ", ".join(words)


def _real_server(thing: Shape) -> str:
    weight = thing.get("weight", 1)
    method = thing.get("forwarding", "masquerade")
    return f"real server {_address(thing)}, {method}, weight {weight}"


def _address(thing: Shape) -> str:
    if thing.get("fwmark"):
        return f"fwmark {thing['fwmark']}"
    return place(str(thing["ip"]), thing["port"])


def _chain(thing: Shape) -> str:
    count = len(thing.get("rules") or ())
    return f"chain {_family(thing)}{thing['table']} {thing['name']}, {count} rule{_s(count)}"


def _nft_chain(thing: Shape) -> str:
    count = len(thing.get("rules") or ())
    return f"chain {thing['family']} {thing['name']}, {count} rule{_s(count)}"


def _nft_element(thing: Shape) -> str:
    key = " . ".join(str(each).lower() for each in thing["of"])
    verdict = thing.get("verdict")
    to = f", {verdict['kind']} {verdict.get('chain', '')}".rstrip() if verdict else ""
    return f"element {key} of {thing['set']}{to}"


def _family(thing: Shape) -> str:
    return "IPv6 " if thing.get("family") == "ip6" else ""


def _s(count: int) -> str:
    return "" if count == 1 else "s"


_PHRASES: dict[str, Callable[[Shape], str]] = {
    "netns": lambda one: f"network namespace {one['name']}",
    "link": _link,
    "address": lambda one: f"address {one['ip']}/{one['prefix']} on {one['link']}",
    "route": _route,
    "sysctl": lambda one: f"{one['name']} = {one['value']}",
    "rule": lambda one: f"rule {_family(one)}{one['table']} {one['chain']} {' '.join(one['spec'])}",
    "policy": lambda one: f"policy {_family(one)}{one['table']} {one['chain']} {one['target']}",
    "chain": _chain,
    "service-chain": _chain,
    "dispatch-chain": lambda one: f"chain {_family(one)}{one['table']} {one['name']}",
    "dispatch-rule": lambda one: f"rule {_family(one)}{one['table']} {one['chain']} {one['rule']}",
    "packet-counter": lambda one: f"packet counter {one['name']}",
    "nft-table": lambda one: f"table {one['family']} {one['name']}",
    "nft-chain": _nft_chain,
    "nft-set": lambda one: (
        f"{'map' if one.get('verdicts') else 'set'} {one['family']} {one['name']}"
    ),
    "nft-element": _nft_element,
    "jump": lambda one: f"jump {_family(one)}{one['table']} {one['chain']} to {one['to']}",
    "ipset": lambda one: ", ".join(
        [f"set {one['name']}", one["type"], *([one["family"]] if one.get("family") else [])]
    ),
    "set-entry": lambda one: f"entry {entry(one)} of {one['set']}",
    "virtual-server": _virtual_server,
    "real-server": _real_server,
    "ipvs-timeouts": lambda one: (
        f"IPVS timeouts TCP {one['tcp']} s, FIN {one['tcp_fin']} s, UDP {one['udp']} s"
    ),
}
