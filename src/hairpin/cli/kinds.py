"""The names that people give to kinds, as kubectl takes them."""

from __future__ import annotations

from hairpin.lab.session import LabError

KINDS: dict[str, tuple[str, ...]] = {
    "nodes": ("nodes", "node", "no"),
    "pods": ("pods", "pod", "po"),
    "services": ("services", "service", "svc"),
    "endpoints": ("endpoints", "endpoint", "ep", "endpointslices", "endpointslice", "eps"),
    "virtualservers": ("virtualservers", "virtualserver", "vs"),
    "ingredients": ("ingredients", "ingredient", "ing"),
}

_API = {
    "nodes": "Node",
    "pods": "Pod",
    "services": "Service",
    "endpoints": "EndpointSlice",
}


def shown_kind(word: str) -> str:
    """The kind that ``hairpin get`` means by a word.  Raises LabError."""
    for kind, known in KINDS.items():
        if word.lower() in known:
            return kind
    raise LabError(
        f"there is no kind {word} to show", f"there are: {', '.join(KINDS)}", exit_code=2
    )


def api_kind(word: str) -> str:
    """The API's name of a kind: ``svc`` is ``Service``.  Raises LabError."""
    if word.lower() in ("deployment", "deployments", "deploy"):
        return "Deployment"
    kind = shown_kind(word)
    if kind not in _API:
        raise LabError(f"{kind} follow from Services; they are not objects", exit_code=2)
    return _API[kind]
