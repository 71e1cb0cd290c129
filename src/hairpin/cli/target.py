"""What ``exec``, ``shell`` and ``logs`` are pointed at."""

from __future__ import annotations

from typing import Any

from hairpin.lab import names

OUTSIDE = "outside"
"""The client outside of the cluster; a Pod of that name is ``pod/outside``."""


def target(word: str, namespace: str) -> dict[str, Any]:
    """``foo``, ``pod/foo``, ``other/foo``, ``node/NAME`` or ``outside`` as a request's fields."""
    if word == OUTSIDE:
        return {"netns": names.OUTSIDE}
    kind, slash, name = word.partition("/")
    if slash and kind in ("node", "nodes", "no"):
        return {"node": name}
    namespace, pod = split_pod(word, namespace)
    return {"namespace": namespace, "pod": pod}


def split_pod(word: str, namespace: str) -> tuple[str, str]:
    """A Pod's namespace and name from ``foo``, ``pod/foo`` or ``namespace/foo``."""
    first, slash, name = word.partition("/")
    if not slash:
        return namespace, word
    return (namespace, name) if first in ("pod", "pods", "po") else (first, name)
