"""All faults that hairpin can make and find."""

from __future__ import annotations

from hairpin.claims import (
    faults_ingredients,
    faults_links,
    faults_network,
    faults_proxy,
    faults_routes,
    faults_rules,
    faults_servers,
    faults_services,
)
from hairpin.claims.faults_base import Fault

FAULTS: tuple[Fault, ...] = (
    *faults_ingredients.FAULTS,
    *faults_services.FAULTS,
    *faults_network.FAULTS,
    *faults_rules.FAULTS,
    *faults_proxy.FAULTS,
    *faults_routes.FAULTS,
    *faults_links.FAULTS,
    *faults_servers.FAULTS,
)
PAIRS = faults_ingredients.PAIRS


def named(id_: str) -> Fault | None:
    """The fault of that id."""
    return next((one for one in (*FAULTS, *PAIRS) if one.id == id_), None)
