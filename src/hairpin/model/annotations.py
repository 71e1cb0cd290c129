"""What Kubernetes cannot say, said in annotations.  ``docs/annotations.md`` explains each."""

from __future__ import annotations

PREFIX = "hairpin.dev/"

POD_IP = "hairpin.dev/ip"
SERVICE_CIDR = "hairpin.dev/service-cidr"
IMPLIED = "hairpin.dev/implied"

KINDS = {
    POD_IP: ("Pod",),
    SERVICE_CIDR: ("Node",),
    IMPLIED: ("Node", "Pod", "Service"),
}
"""The kinds of object that each annotation is for; no other ``hairpin.dev/`` name is accepted."""
