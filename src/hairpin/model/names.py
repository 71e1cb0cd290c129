"""Which names Kubernetes accepts (k8s.io/apimachinery/pkg/util/validation).

Each function says what is wrong with a text, or "" if nothing is.
"""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


def quoted(text: str, limit: int = 60) -> str:
    """The text in quotes, cut where it is too long to read."""
    return f'"{text}"' if len(text) <= limit else f'"{text[: limit - 1]}…"'


def dns_label(text: str) -> str:
    """RFC 1123 label: Services (which may begin with a digit since Kubernetes 1.36), namespaces,
    containers, Service ports, host names."""
    if len(text) <= 63 and re.fullmatch(_LABEL, text):
        return ""
    return f"{quoted(text)} is not a DNS label (1 to 63 of a-z, 0-9 and -, no - at either end)"


def dns_subdomain(text: str) -> str:
    """RFC 1123 subdomain, labels with dots between: most other objects."""
    if len(text) <= 253 and re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", text):
        return ""
    return (
        f"{quoted(text)} is not a DNS name "
        "(1 to 253 of a-z, 0-9, - and ., every part with a letter or digit at both ends)"
    )


def port_name(text: str) -> str:
    """RFC 6335 service name: container ports, and targetPort where it is text."""
    good = len(text) <= 15 and re.fullmatch(_LABEL, text) and "--" not in text
    if good and re.search(r"[a-z]", text):
        return ""
    return (
        f"{quoted(text)} is not a port's name "
        "(1 to 15 of a-z, 0-9 and -, at least one letter, no - at either end or twice in a row)"
    )


def label_key(text: str) -> str:
    """The name of a label or annotation, with or without a prefix: ``example.com/name``."""
    prefix, slash, name = text.rpartition("/")
    good_prefix = not slash or not dns_subdomain(prefix)
    if good_prefix and len(name) <= 63 and re.fullmatch(_QUALIFIED, name):
        return ""
    return f"{quoted(text)} is not the name of a label or annotation"


def label_value(text: str) -> str:
    """The value of a label, which may be empty."""
    if not text or (len(text) <= 63 and re.fullmatch(_QUALIFIED, text)):
        return ""
    return (
        f"{quoted(text)} is not the value of a label "
        "(up to 63 of A-Z, a-z, 0-9, -, _ and ., a letter or digit at both ends)"
    )
