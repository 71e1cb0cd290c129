"""Elements of the sets and maps of a proxy's nftables table."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.audit import nftables_words as words
from hairpin.audit.case import split
from hairpin.audit.nftables_seen import Table, command
from hairpin.audit.owners import named
from hairpin.audit.report import Differs, Finding
from hairpin.model.address import IP
from hairpin.plan import nft_names as names
from hairpin.plan.owner import PROXY
from hairpin.present.nft import element_text
from hairpin.state.nftables import (
    NftElement,
    NftSet,
)


def elements(table: Table) -> Iterator[Finding]:
    """Elements that are missing, extra, or lead elsewhere; those of dynamic sets are nobody's."""
    dynamic = {
        one.name for one in table.seen if isinstance(one, NftSet) and (one.dynamic or one.timeout)
    }
    seen = [
        one
        for one in table.seen
        if isinstance(one, NftElement) and one.set not in dynamic and one.set not in table.gone
    ]
    missing, both, extra = split(table.of(NftElement), seen)
    for want in missing:
        one = want.object
        assert isinstance(one, NftElement)
        if one.set in table.gone:
            continue
        yield Finding(
            what="missing",
            subject=_subject(table, one),
            object=one,
            owner=want.owner,
            shared=_shared(table, one, want.owner),
            consequence=words.element(
                one, missing=True, cluster_ip=one.of[0] in table.case.owners.cluster_ips
            ),
            mend=(_element(table, "add", one),),
        )
    for want, have in both:
        one = want.object
        assert isinstance(one, NftElement)
        if have.verdict != one.verdict:
            yield Finding(
                what="wrong",
                subject=_subject(table, one),
                object=one,
                owner=want.owner,
                differs=(Differs("verdict", _verdict(have), _verdict(one)),),
                consequence=words.wrong_element(have, one),
                mend=(
                    command(
                        "; ".join((_plainly(table, "delete", have), _plainly(table, "add", one)))
                    ),
                ),
            )
    for have in extra:
        yield Finding(
            what="extra",
            subject=_subject(table, have),
            object=have,
            owner=_whose(table, have),
            consequence=words.element(have, missing=False),
            mend=(_element(table, "delete", have),),
        )


def _subject(table: Table, one: NftElement) -> str:
    return f"element {element_text(one)} of {table.at} {one.set}"


def _plainly(table: Table, verb: str, one: NftElement) -> str:
    text = element_text(one)
    if verb == "delete":
        text = element_text(msgspec.structs.replace(one, verdict=None, comment=""))
    return f"{verb} element {table.at} {one.set} {{ {text} }}"


def _element(table: Table, verb: str, one: NftElement) -> str:
    return command(_plainly(table, verb, one))


def _shared(table: Table, one: NftElement, owner: str) -> tuple[str, ...]:
    """Others with that address: an element is there once for all of them."""
    if len(one.of) != 1 and one.set != names.HAIRPIN_CONNECTIONS:
        return ()
    ip = one.of[0]
    users = table.case.owners.users(ip) if isinstance(ip, IP) else ()
    own = owner.partition(":")[0]
    return tuple(user for user in users if user.partition(":")[0] != own)


def _whose(table: Table, one: NftElement) -> str:
    if one.verdict is not None and (owner := named(one.verdict.chain)):
        return owner
    owners = table.case.owners
    first, *rest = one.of
    if isinstance(first, IP):
        if len(rest) != 2:
            return owners.of_ip(first) or (PROXY if one.set == names.NODEPORT_IPS else "")
        return owners.at(str(rest[0]), first, int(str(rest[1]))) or named(one.comment)
    if len(rest) == 1 and isinstance(rest[0], int):
        return owners.of_node_port(rest[0], str(first)) or named(one.comment)
    return named(one.comment)


def _verdict(one: NftElement) -> str:
    return f"{one.verdict.kind} {one.verdict.chain}".strip() if one.verdict is not None else "none"
