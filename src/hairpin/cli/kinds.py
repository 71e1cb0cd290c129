"""The names that people give to kinds, as kubectl takes them."""

from __future__ import annotations

from hairpin.lab.session import LabError

TYPE_CHECKING = False  # typing is not imported for it: completion asks here with every key
if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Mapping[str, tuple[str, ...]] = {
    "nodes": ("nodes", "node", "no"),
    "namespaces": ("namespaces", "namespace", "ns"),
    "deployments": ("deployments", "deployment", "deploy"),
    "pods": ("pods", "pod", "po"),
    "services": ("services", "service", "svc"),
    "endpoints": ("endpoints", "endpoint", "ep", "endpointslices", "endpointslice", "eps"),
    "virtualservers": ("virtualservers", "virtualserver", "vs"),
    "connections": ("connections", "connection", "conn"),
    "ingredients": ("ingredients", "ingredient", "ing"),
    "proxies": ("proxies", "proxy"),
}
"""What ``hairpin get`` shows, and the words for each."""

ALL = ("pods", "services", "deployments")
"""What ``all`` means: kubectl's, of what labs have."""

NAMESPACED = ("deployments", "pods", "services", "endpoints")
UNLABELLED = ("virtualservers", "connections", "ingredients", "proxies")
"""What the kernel has: no namespace, no labels, and nothing to delete."""

DESCRIBED = ("nodes", "deployments", "pods", "services")
"""What ``hairpin describe`` knows."""

_API = {
    "nodes": "Node",
    "deployments": "Deployment",
    "pods": "Pod",
    "services": "Service",
    "endpoints": "EndpointSlice",
}

_SINGULAR = {
    "deployments": "deployment.apps",
    "endpoints": "endpointslice.discovery.k8s.io",
    "proxies": "proxy",
}


def shown_kind(word: str) -> str:
    """The kind that ``hairpin get`` means by a word.  Raises LabError."""
    plain = word.lower().removesuffix(".apps").removesuffix(".discovery.k8s.io")
    for kind, known in KINDS.items():
        if plain in known:
            return kind
    raise LabError(
        f"there is no kind {word} to show", f"there are: {', '.join(KINDS)}", exit_code=2
    )


def api_kind(kind: str) -> str:
    """The API's name of a kind that objects are of: ``Service``.  Raises LabError."""
    if kind not in _API:
        raise LabError(f"{kind} follow from other objects; they are not objects", exit_code=2)
    return _API[kind]


def singular(kind: str) -> str:
    """How ``-o name`` writes a kind: ``service``, ``deployment.apps``."""
    return _SINGULAR.get(kind, kind.removesuffix("s"))
