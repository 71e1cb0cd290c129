"""Which web proxy the environment names for a server.  Pure.

As Go's programs read HTTPS_PROXY, HTTP_PROXY and NO_PROXY (golang.org/x/net/http/httpproxy): the
server itself and whatever is on this machine need none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult

_PORTS = {"http": 80, "https": 443}


def proxy_for(server: SplitResult, environment: Mapping[str, str]) -> str:
    """The URL of the proxy to that server; "" for none."""

    def of(name: str) -> str:
        return environment.get(name.upper()) or environment.get(name.lower()) or ""

    host = (server.hostname or "").lower()
    proxy = of(f"{server.scheme}_proxy")
    if not proxy or _is_here(host):
        return ""
    port = server.port or _PORTS.get(server.scheme, 0)
    if any(_is_meant(rule.strip().lower(), host, port) for rule in of("no_proxy").split(",")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_meant(rule: str, host: str, port: int) -> bool:
    """Whether a word of NO_PROXY is about a host: an address, a network, a domain, all of them;
    with a port it is about that one alone."""
    rule, wanted = _split(rule)
    if not rule or wanted not in ("", str(port)):
        return False
    if rule in ("*", host):
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(rule, strict=False)
    domain = rule.lstrip("*")
    return host.endswith(domain if domain.startswith(".") else f".{domain}")


def _split(rule: str) -> tuple[str, str]:
    """Of ``host:8080`` or ``[::1]:8080`` the host and the port."""
    if rule.startswith("["):
        host, _, rest = rule[1:].partition("]")
        return host, rest.removeprefix(":")
    host, colon, port = rule.rpartition(":")
    return (host, port) if colon and ":" not in host and port.isdecimal() else (rule, "")
