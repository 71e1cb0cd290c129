"""What another mode left: kube-proxy cleans up after others only when it starts, and not all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hairpin.audit.case import Case, many, remove
from hairpin.audit.ipvs import OUR_SETS
from hairpin.audit.names import mode_of
from hairpin.audit.report import Finding
from hairpin.plan.ipvs import LINK
from hairpin.present import iptables
from hairpin.present.nft_json import TABLE
from hairpin.state.ipset import IpSet
from hairpin.state.ipvs import VirtualServer
from hairpin.state.netfilter import Chain, Family
from hairpin.state.nftables import NftChain, NftTable

_PROGRAMS: Mapping[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}


def judge(case: Case) -> Iterator[Finding]:
    mode = case.config.mode
    if mode != "ipvs":
        yield from _ipvs(case)
    yield from _tables(case, mode)
    if mode != "nftables":
        yield from _nftables(case)


def _ipvs(case: Case) -> Iterator[Finding]:
    link = next((one for one in case.held.links if one.name == LINK), None)
    bound = [one for one in case.held.addresses if one.link == LINK]
    sets = [one for one in case.held.sets if isinstance(one, IpSet) and one.name in OUR_SETS]
    addresses = {int(one.ip) for one in bound}
    servers = [
        one
        for one in case.held.servers
        if isinstance(one, VirtualServer)
        and not one.fwmark
        and (
            int(one.ip) in addresses
            or case.owners.at(one.protocol, one.ip, one.port)
            or (sets and one.ip in case.node.addresses)
        )
    ]
    if servers:
        yield _left(
            "ipvs",
            f"{many(len(servers), 'virtual server')} of IPVS mode",
            servers,
            "Packets that come to them go by IPVS, whose endpoints nobody keeps up any more.",
        )
    if link is not None:
        yield Finding(
            what="leftover",
            subject=f"{LINK} with {many(len(bound), 'address')}",
            object=link,
            owner="ipvs",
            consequence="The node takes packets to these addresses for its own, also those of "
            "Services that are no more.",
            mend=remove(link),
            count=1 + len(bound),
        )
    if sets:
        yield _left(
            "ipvs",
            f"{many(len(sets), 'set')} of IPVS mode",
            sets,
            "They do nothing but take memory once no rule looks them up.",
        )


def _left(mode: str, subject: str, objects: Sequence[VirtualServer | IpSet], why: str) -> Finding:
    return Finding(
        what="leftover",
        subject=subject,
        object=objects[0],
        owner=mode,
        consequence=why,
        mend=tuple(line for one in objects for line in remove(one)),
        count=len(objects),
    )


def _tables(case: Case, mode: str) -> Iterator[Finding]:
    """Chains that only another mode makes, and in nftables mode all of them."""
    for family, printed in case.held.tables.items():
        left = [
            place
            for place in printed.chains
            if (made := mode_of(place)) and (mode == "nftables" or made not in ("both", mode))
        ]
        if not left:
            continue
        by = {mode_of(place) for place in left} - {"both"}
        owner = by.pop() if len(by) == 1 else "ipvs or iptables"
        names = {name for _, name in left}
        jumps = [
            (place, spec)
            for place, specs in printed.chains.items()
            if place not in left
            for spec in specs
            if spec[-2:-1] == ("-j",) and (place[0], spec[-1]) in left
        ]
        program = printed.program or _PROGRAMS[family]
        table, name = left[0]
        shown = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
        yield Finding(
            what="leftover",
            subject=f"{many(len(left), 'chain')} of {owner} mode in {program} ({shown})",
            object=Chain(
                table=table,  # type: ignore[arg-type]  # of a name that we know
                name=name,
                rules=tuple(printed.chains[left[0]]),
                family=family,
            ),
            owner=owner,
            consequence="Packets meet them first and go to endpoints of the time when they were "
            "written."
            if jumps
            else "No packet comes there: no rule leads to them.",
            mend=(
                *(
                    f"{program} -t {place[0]} "
                    + iptables.line(place[1], spec).replace("-A ", "-D ", 1)
                    for place, spec in jumps
                ),
                *(f"{program} -t {where} -F {chain}" for where, chain in left),
                *(f"{program} -t {where} -X {chain}" for where, chain in left),
            ),
            count=len(left),
        )


def _nftables(case: Case) -> Iterator[Finding]:
    tables = [one for one in case.held.nftables if isinstance(one, NftTable)]
    for table in tables:
        inside = sum(
            getattr(one, "table", None) == TABLE and one.family == table.family
            for one in case.held.nftables
        )
        hooked = not table.dormant and any(
            isinstance(one, NftChain) and one.hook is not None and one.family == table.family
            for one in case.held.nftables
        )
        yield Finding(
            what="leftover",
            subject=f"nftables table {table.family} {table.name}, {many(inside, 'object')} in it",
            object=table,
            owner="nftables",
            consequence="Packets to Services meet its rules as well, and go to endpoints of the "
            "time when they were written."
            if hooked
            else "No packet comes there: none of its chains hangs on a hook.",
            mend=(f"nft delete table {table.family} {table.name}",),
            count=1 + inside,
        )
