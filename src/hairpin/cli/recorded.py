"""What a folder that was collected from a node says of the node and its cluster."""

from __future__ import annotations

import json
from pathlib import Path

from hairpin.model.address import IP, Network, ip
from hairpin.model.errors import ManifestError
from hairpin.source import files

VIP_LINK = "kube-ipvs0"
STATE_FILE = "ip-addr.json"
RULESET_FILE = "ruleset.json"


def addresses(folder: Path) -> list[IP]:
    """The node's: what ``ip -j addr`` printed, without kube-ipvs0's.  Raises ManifestError."""
    file = folder / STATE_FILE
    remedy = f"it is made by: ip -j addr > {file}"
    data = files.read(file, remedy)
    try:
        links = json.loads(data)
        found = [
            ip(str(address["local"]))
            for link in links
            if link.get("ifname") != VIP_LINK
            for address in link.get("addr_info") or ()
            if "local" in address
        ]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise ManifestError(
            f"is not what ip -j addr prints: {said}", where=str(file), remedy=remedy
        ) from None
    return found


def service_cidrs(folder: Path) -> tuple[Network, ...]:
    """The cluster's, as its proxy knew them: the networks whose unallocated addresses it drops.

    Nothing without a ``nft -j list ruleset`` of a proxy in nftables mode.  Raises ManifestError.
    """
    from hairpin.plan.nft_names import CLUSTER_IPS_CHECK
    from hairpin.present import nft_json
    from hairpin.state.nftables import Match, NftChain, OneOf, Verdict

    file = folder / RULESET_FILE
    if not file.exists():
        return ()
    remedy = f"it is made by: nft -j list ruleset > {file}"
    try:
        objects = nft_json.parse(files.read(file, remedy).decode())
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"is not what nft -j prints: {error}", where=str(file), remedy=remedy
        ) from None
    found: dict[Network, None] = {}
    for one in objects:
        if not isinstance(one, NftChain) or one.name != CLUSTER_IPS_CHECK:
            continue
        for rule in one.rules:
            if rule.statements[-1:] != (Verdict("drop"),):
                continue
            for statement in rule.statements:
                values: tuple[object, ...] = ()
                if isinstance(statement, Match):
                    values = (statement.value,)
                elif isinstance(statement, OneOf):
                    values = statement.values
                found.update((value, None) for value in values if isinstance(value, Network))
    return tuple(found)
